"""OpenAssistant as Guanaco writes it: one `text` with `### Human:` and `### Assistant:` before the turns.

Contents are stripped, and a last question without an answer is left out, as it is everywhere where this form is read.
"""

from __future__ import annotations

import re

from weft.data.formats import Format, RowError, check, fields, text_of
from weft.types import Conversation, JsonValue, Message

_MARK = re.compile(r"###\s*(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
_KEYS = frozenset({"text", "id", "source", "meta"})


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict) or not _KEYS.issuperset(row):
        return False
    text = row.get("text")
    return isinstance(text, str) and text.lstrip()[:3] == "###" and "Assistant:" in text and _starts(text)


def _starts(text: str) -> bool:
    found = _MARK.match(text.lstrip())
    return found is not None and found[1] == "Human"


def convert(row: JsonValue) -> Conversation:
    text = text_of(fields(row), "text").strip()
    found = _MARK.split(text)
    if found[0].strip() or len(found) == 1:
        raise RowError("wrong_type", "'text' doesn't begin with ### Human:")
    messages = [Message(_ROLES[role], content.strip()) for role, content in zip(found[1::2], found[2::2], strict=True)]
    if messages[-1].role == "user":
        del messages[-1]
    return check(Conversation(tuple(messages)))


FORMAT = Format(
    name="oasst1",
    order=58,
    fits=fits,
    convert=convert,
    examples=(
        {"text": "### Human: 1 + 1?### Assistant: 2"},
        {"text": "### Human: 1 + 1?\n### Assistant: 2\n### Human: Thanks."},
    ),
)
