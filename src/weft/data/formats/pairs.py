"""A prompt and an answer under one of nine pairs of keys, tried in MFTCoder's order; the ninth, prompt/completion, is
OpenAI's.

An optional `system` (or `system_prompt`) stands beside any of them. Where another column holds what the answer was made
from (`context`, `input`, `instruction`, `history`, `tools`, `documents`), the row is refused instead of training an answer
without its ground.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, exchange, fields, keys_of, system_text, text_of, to_imitate
from weft.data.formats._guard import all_used
from weft.types import Conversation, JsonObject, JsonValue

PAIRS = (
    ("prompt", "answer"),
    ("prompt", "response"),
    ("input", "output"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("question", "response"),
    ("question", "answer"),
    ("query", "answer"),
    ("prompt", "completion"),
)
_GROUNDS = ("instruction", "input", "context", "history", "tools", "functions", "documents")
_IS_GROUND = frozenset(_GROUNDS)


def _pair(row: JsonObject) -> tuple[str, str] | None:
    for pair in PAIRS:
        if pair[0] in row and pair[1] in row:
            return pair
    return None


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict):
        return False
    pair = _pair(row)
    return pair is not None and not (pair[0] == "input" and "instruction" in row)


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    return conversation_of(fields(row))


def conversation_of(row: JsonObject) -> Conversation:
    """The question and the answer, whoever likes it or not. Raises RowError."""
    pair = _pair(row)
    if pair is None:
        expected = ", ".join("/".join(pair) for pair in PAIRS)
        raise RowError("missing_key", f"none of the pairs {expected} among {keys_of(row)}")
    prompt, answer = text_of(row, pair[0]), text_of(row, pair[1])
    if not _IS_GROUND.isdisjoint(row):
        all_used(row, _GROUNDS, *pair)
    return exchange(prompt, answer, system_text(row))


FORMAT = Format(
    name="pairs",
    order=20,
    fits=fits,
    convert=convert,
    examples=(
        {"prompt": "1 + 1?", "answer": "2"},
        {"prompt": "1 + 1?", "response": "2", "system": "Answer in one word."},
        {"input": "1 + 1?", "output": "2"},
        {"instruction": "Add 1 and 1.", "response": "2"},
        {"question": "1 + 1?", "response": "2", "system_prompt": "Be brief."},
        {"question": "1 + 1?", "answer": "2"},
        {"query": "1 + 1?", "answer": "2"},
        {"prompt": "1 + 1?\n", "completion": " 2"},
    ),
)
