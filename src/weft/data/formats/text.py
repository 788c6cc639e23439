"""Plain documents: all of `text` is trained, without a template.

A row that has a label, an answer or the like beside its text is not told to be a document, for that would leave the
rest out without a word; say `format: text` to have it so.
"""

from __future__ import annotations

from weft.data.formats import Format, check, fields, text_of
from weft.data.formats._guard import PREFERENCE_KEYS, text_alone
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message

_TARGETS = frozenset(
    {"answer", "answers", "chat_rounds", "chosen", "code", "completion", "conversation", "conversations", "instruction"}
    | {"intent", "label", "labels", "messages", "output", "prompt", "question", "response", "summary", "target"}
    | {"canonical_solution", "kto_tag", "utterance"}
    | PREFERENCE_KEYS
)
"""Keys that say that there is more to a row than its text."""


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "text" in row and _TARGETS.isdisjoint(row)


def convert(row: JsonValue) -> Conversation:
    row = fields(row)
    text_alone(row)
    return check(Conversation((Message(TEXT_ROLE, text_of(row, "text")),)))


FORMAT = Format(
    name="text",
    order=60,
    fits=fits,
    convert=convert,
    examples=(
        {"text": "It rains."},
        {"text": "It rains.", "meta": {"source": "weather"}, "url": "https://example.org"},
    ),
)
