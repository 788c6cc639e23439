"""MFTCoder's chat_rounds: a system message first if at all, then human|user in turn with bot|assistant|gpt."""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, text_of
from weft.data.formats._turns import turns
from weft.types import Conversation, JsonValue, Message

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "bot": "assistant",
    "assistant": "assistant",
    "gpt": "assistant",
}


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "chat_rounds" in row


def convert(row: JsonValue) -> Conversation:
    messages = []
    for where, turn in turns(row, "chat_rounds"):
        role = text_of(turn, "role", where)
        if role not in ROLES:
            raise RowError("unknown_role", f"{where}role is {role[:40]!r}; known: {', '.join(ROLES)}")
        messages.append(Message(ROLES[role], text_of(turn, "content", where)))
    return check(Conversation(tuple(messages)))


FORMAT = Format(
    name="chat_rounds",
    order=30,
    fits=fits,
    convert=convert,
    examples=(
        {
            "id": 1,
            "data_name": "sums",
            "chat_rounds": [{"role": "human", "content": "1 + 1?"}, {"role": "bot", "content": "2"}],
        },
        {
            "chat_rounds": [
                {"role": "system", "content": "Be brief.", "chat_round_id": 0},
                {"role": "user", "content": "1 + 1?", "chat_round_id": 1},
                {"role": "gpt", "content": "2", "chat_round_id": 1},
                {"role": "user", "content": "And 2 + 2?", "chat_round_id": 2},
                {"role": "assistant", "content": "4", "chat_round_id": 2},
            ],
        },
    ),
)
