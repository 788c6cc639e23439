"""ShareGPT: `conversations` of from and value; turns that are written as role and content are read too.

A turn of `function_call` holds the JSON of one call or of several, `observation` what came of it; `tools` is a list of
tools or the JSON of one.
"""

from __future__ import annotations

from weft.data.formats import Format, check
from weft.data.formats._guard import is_preference, to_imitate
from weft.data.formats._turns import conversation_of
from weft.types import Conversation, JsonValue


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "conversations" in row and not is_preference(row)


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    return check(conversation_of(row, "conversations"))


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
        {
            "conversations": [
                {"from": "human", "value": "Is it raining?"},
                {"from": "function_call", "value": '{"name": "look", "arguments": {"where": "out"}}'},
                {"from": "observation", "value": "rain"},
                {"from": "gpt", "value": "Yes."},
            ],
            "tools": '[{"name": "look", "description": "Looks.", "parameters": {"type": "object"}}]',
        },
    ),
)
