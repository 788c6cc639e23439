"""Alpaca: an instruction, an input that may be empty, an output; `history` and `system` as in LLaMA-Factory.

The output may be called `response`; where both are there and differ, nobody knows which is meant. Stanford's seed
tasks have a list of `instances` with input and output: a row with one is read, a row with several is refused, since a
row makes one sample.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, exchange, fields, optional_text, system_text, text_of, to_imitate
from weft.data.formats._guard import all_used
from weft.data.parse import kind_of
from weft.types import Conversation, JsonObject, JsonValue, Message

_GROUNDS = ("context", "tools", "functions", "documents")
_IS_GROUND = frozenset(_GROUNDS)


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict) or "instruction" not in row:
        return False
    return "output" in row or ("input" in row and "response" in row) or "instances" in row


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    return conversation_of(fields(row))


def conversation_of(row: JsonObject) -> Conversation:
    """The instruction and the output, whoever likes it or not. Raises RowError."""
    if not _IS_GROUND.isdisjoint(row):
        all_used(row, _GROUNDS, "instruction", "output" if "output" in row else "response")
    if "instances" in row and "output" not in row:
        row = _instance(row)
    system, prompt, answer = system_text(row), prompt_of(row), _answer(row)
    if not row.get("history"):
        return exchange(prompt, answer, system)
    first = (Message("system", system),) if system else ()
    return check(Conversation((*first, *history_of(row), Message("user", prompt), Message("assistant", answer))))


def prompt_of(row: JsonObject) -> str:
    """The instruction with its input, if there is one. Raises RowError."""
    instruction, context = text_of(row, "instruction"), optional_text(row, "input")
    return f"{instruction}\n{context}" if instruction and context else instruction or context


def _answer(row: JsonObject) -> str:
    if "output" not in row and "response" in row:
        return text_of(row, "response")
    answer = text_of(row, "output")
    other = row.get("response")
    if other is not None and other != answer:
        raise RowError("two_answers", "'output' and 'response' differ; say which by tasks.NAME.assistant: '{output}'")
    return answer


def _instance(row: JsonObject) -> JsonObject:
    instances = row["instances"]
    if not isinstance(instances, list) or not instances or not isinstance(instances[0], dict):
        raise RowError("wrong_type", f"'instances' is {kind_of(instances)}; expected a list of objects")
    if len(instances) > 1:
        raise RowError("several_instances", f"{len(instances)} instances; write each as a row of its own")
    return {**row, **instances[0]}


def history_of(row: JsonObject) -> tuple[Message, ...]:
    """The turns before the instruction, pairs of user and assistant. Raises RowError."""
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
        {"id": "seed_0", "instruction": "Add the numbers.", "instances": [{"input": "1 and 2", "output": "3"}]},
    ),
)
