"""Alpaca: an instruction, an input that may be empty, an output; `history` and `system` as in LLaMA-Factory."""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, fields, optional_text, system_of, text_of
from weft.data.parse import kind_of
from weft.types import Conversation, JsonObject, JsonValue, Message


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict) or "instruction" not in row:
        return False
    return "output" in row or ("input" in row and "response" in row)


def convert(row: JsonValue) -> Conversation:
    row = fields(row)
    instruction, context = text_of(row, "instruction"), optional_text(row, "input")
    prompt = f"{instruction}\n{context}" if instruction and context else instruction or context
    answer = text_of(row, "response" if "output" not in row and "response" in row else "output")
    return check(
        Conversation((*system_of(row), *_history(row), Message("user", prompt), Message("assistant", answer))),
    )


def _history(row: JsonObject) -> tuple[Message, ...]:
    history = row.get("history")
    if history is None:
        return ()
    if not isinstance(history, list):
        raise RowError("wrong_type", f"'history' is {kind_of(history)}; expected a list of [user, assistant]")
    messages = []
    for number, turn in enumerate(history, 1):
        if not (isinstance(turn, list) and len(turn) == 2):
            raise RowError("wrong_type", f"history[{number}] is not a list of two strings")
        for role, content in zip(("user", "assistant"), turn, strict=True):
            if not isinstance(content, str):
                raise RowError("wrong_type", f"history[{number}]: {role} is {kind_of(content)}; expected a string")
            messages.append(Message(role, content))
    return tuple(messages)


FORMAT = Format(
    name="alpaca",
    order=10,
    fits=fits,
    convert=convert,
    examples=(
        {"instruction": "Add the numbers.", "input": "1 and 2", "output": "3"},
        {"instruction": "Say hello.", "input": "", "output": "Hello!"},
        {
            "instruction": "And now in French.",
            "output": "Bonjour!",
            "history": [["Say hello.", "Hello!"]],
            "system": "Be kind.",
        },
        {"instruction": "Add the numbers.", "input": "1 and 2", "response": "3"},
    ),
)
