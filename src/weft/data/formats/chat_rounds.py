"""MFTCoder's chat_rounds: a system message first if at all, then human|user in turn with bot|assistant|gpt."""

from __future__ import annotations

from weft.data.formats import Format, check
from weft.data.formats._guard import to_imitate
from weft.data.formats._turns import conversation_of
from weft.types import Conversation, JsonValue


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "chat_rounds" in row


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    return check(conversation_of(row, "chat_rounds"))


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
