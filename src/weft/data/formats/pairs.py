"""A prompt and an answer under one of nine pairs of keys, tried in MFTCoder's order; the ninth, prompt/completion, is
OpenAI's.

An optional `system` (or `system_prompt`) stands beside any of them. Where another column holds what the answer was made
from (`context`, `input`, `instruction`), the row is refused instead of training an answer without its ground.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, exchange, fields, keys_of, system_text, text_of
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
_GROUNDS = ("instruction", "input", "context")


def _pair(row: JsonObject) -> tuple[str, str] | None:
    for pair in PAIRS:
        if pair[0] in row and pair[1] in row:
            return pair
    return None


def _unused(row: JsonObject, prompt: str) -> str | None:
    """The first column that a pair would leave out although it has a part of the prompt."""
    for key in _GROUNDS:
        value = row.get(key)
        if value and key != prompt and not (isinstance(value, str) and not value.strip()):
            return key
    return None


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict):
        return False
    pair = _pair(row)
    return pair is not None and not (pair[0] == "input" and "instruction" in row)


def convert(row: JsonValue) -> Conversation:
    row = fields(row)
    pair = _pair(row)
    if pair is None:
        expected = ", ".join("/".join(pair) for pair in PAIRS)
        raise RowError("missing_key", f"none of the pairs {expected} among {keys_of(row)}")
    prompt, answer = text_of(row, pair[0]), text_of(row, pair[1])
    unused = _unused(row, pair[0])
    if unused is not None:
        raise RowError(
            "unused_text",
            f"{unused!r} is beside {'/'.join(pair)} and would be left out; say where it belongs by "
            f"tasks.NAME.user: '{{{unused}}}\\n{{{pair[0]}}}' and assistant: '{{{pair[1]}}}'",
        )
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
