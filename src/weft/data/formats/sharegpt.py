"""ShareGPT: `conversations` of from and value; turns that are written as role and content are read too.

Rows that call tools are refused until templates can render them.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, system_of, text_of
from weft.data.formats._turns import turns
from weft.types import Conversation, JsonValue, Message

ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
}
_TOOL_ROLES = ("function_call", "observation", "tool", "tools", "function_response")


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "conversations" in row


def convert(row: JsonValue) -> Conversation:
    system: tuple[Message, ...] = system_of(row) if isinstance(row, dict) else ()
    messages = []
    for where, turn in turns(row, "conversations"):
        who, what = ("role", "content") if "from" not in turn and "role" in turn else ("from", "value")
        role = text_of(turn, who, where)
        if role in _TOOL_ROLES:
            raise RowError("tools_unsupported", f"{where}{who} is {role!r}, which can't be rendered yet")
        if role not in ROLES:
            raise RowError("unknown_role", f"{where}{who} is {role[:40]!r}; known: {', '.join(ROLES)}")
        messages.append(Message(ROLES[role], text_of(turn, what, where)))
    return check(Conversation((*system, *messages)))


FORMAT = Format(
    name="sharegpt",
    order=50,
    fits=fits,
    convert=convert,
    examples=(
        {"id": "a", "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]},
        {
            "conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}],
            "system": "Be brief.",
            "tools": "[]",
        },
    ),
)
