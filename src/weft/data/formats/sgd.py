"""Schema-Guided Dialogue: `turns` of speaker (USER or SYSTEM) and utterance. The annotations in `frames` are not read."""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, fields, text_of, to_imitate
from weft.data.formats._turns import turns
from weft.types import Conversation, JsonValue, Message

_ROLES = {"USER": "user", "SYSTEM": "assistant"}


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict):
        return False
    listed = row.get("turns")
    return isinstance(listed, list) and bool(listed) and isinstance(listed[0], dict) and "utterance" in listed[0]


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    messages = []
    for where, turn in turns(fields(row), "turns"):
        speaker = text_of(turn, "speaker", where)
        if speaker not in _ROLES:
            raise RowError("unknown_role", f"{where}speaker is {speaker[:40]!r}; known: {', '.join(_ROLES)}")
        messages.append(Message(_ROLES[speaker], text_of(turn, "utterance", where)))
    return check(Conversation(tuple(messages)))


FORMAT = Format(
    name="sgd",
    order=51,
    fits=fits,
    convert=convert,
    examples=(
        {
            "dialogue_id": "1_00000",
            "services": ["Sums_1"],
            "turns": [
                {"frames": [], "speaker": "USER", "utterance": "1 + 1?"},
                {"frames": [], "speaker": "SYSTEM", "utterance": "2"},
            ],
        },
    ),
)
