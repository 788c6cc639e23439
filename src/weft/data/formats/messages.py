"""OpenAI's messages: role and content, in `messages` or as a bare list, with tools, reasoning and documents.

A message's own `train` or `loss` (true or false), `weight` or `loss_weight` (a number) says how much its tokens are
trained. Content is a string, null beside tool calls, or a list of parts: text, reasoning, tool_call. XTuner's role
`pretrain` is a document.
"""

from __future__ import annotations

from weft.data.formats import Format, check
from weft.data.formats._guard import is_preference, to_imitate
from weft.data.formats._turns import conversation_of
from weft.types import Conversation, JsonValue


def fits(row: JsonValue) -> bool:
    if isinstance(row, list):
        return bool(row) and isinstance(row[0], dict) and "role" in row[0] and "content" in row[0]
    return isinstance(row, dict) and "messages" in row and not is_preference(row)


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    return check(conversation_of(row, "messages"))


FORMAT = Format(
    name="messages",
    order=40,
    fits=fits,
    convert=convert,
    examples=(
        {"messages": [{"role": "user", "content": "1 + 1?"}, {"role": "assistant", "content": "2"}]},
        [{"content": "1 + 1?\n", "role": "user"}, {"content": "2", "role": "assistant"}],
        {
            "messages": [
                {"role": "system", "content": "Be brief.", "loss_weight": 0.0},
                {"role": "user", "content": [{"type": "text", "text": "1 + "}, {"type": "text", "value": "1?"}]},
                {"role": "assistant", "content": "3", "train": False},
                {"role": "user", "content": "Are you sure?"},
                {"role": "assistant", "content": "No, 2.", "weight": 1},
            ],
        },
        {
            "messages": [
                {"role": "user", "content": "Is it raining?"},
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"where": "out"}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "rain"},
                {"role": "assistant", "content": "Yes.", "reasoning_content": "Rain it is."},
            ],
            "tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}],
        },
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "value": "Is it raining?"}]},
                {
                    "role": "assistant",
                    "content": [
                        {"type": "reasoning", "value": "I should look."},
                        {"type": "tool_call", "value": '{"name": "look", "arguments": {}}'},
                    ],
                },
                {"role": "tool", "content": [{"type": "text", "value": "rain"}]},
                {"role": "assistant", "content": "Yes."},
            ],
            "tools": '[{"name": "look", "description": "Looks outside.", "parameters": {}}]',
        },
        {"messages": [{"role": "pretrain", "content": "It rains."}]},
    ),
)
