"""Preferences: a chosen and a rejected answer to one prompt, or one answer that is liked or not.

    {prompt | question | instruction | messages | conversations, chosen, rejected}   an answer is a text, a turn, or turns
    {chosen_messages, rejected_messages}                                             whole conversations
    {messages | conversations | a pair, rejected_response}                           the last answer is the chosen one
    {messages | … | a pair, label: true}, or LLaMA-Factory's kto_tag                  liked or not

`tasks.NAME.preference: chosen` makes ordinary conversations of them, to be imitated.
"""

from __future__ import annotations

from weft.data.formats import (
    Format,
    RowError,
    alpaca,
    check,
    fields,
    keys_of,
    pairs,
    prompt_messages,
    system_of,
    system_text,
    text_of,
)
from weft.data.formats._guard import all_used, liking, text_alone
from weft.data.formats._tools import tools_of
from weft.data.formats._turns import conversation_of, message_of, turns
from weft.data.parse import kind_of
from weft.types import Conversation, JsonObject, JsonValue, Message

_PROMPTS = ("prompt", "question", "input", "query")
_GROUNDS = ("context", "history", "documents")
_PAIRS = frozenset({"rejected", "rejected_messages", "rejected_response"})
_TURNS = ("messages", "conversations", "chat_rounds")


def fits(row: JsonValue) -> bool:
    if not isinstance(row, dict):
        return False
    if ("chosen" in row and "rejected" in row) or ("chosen_messages" in row and "rejected_messages" in row):
        return True
    if "rejected_response" not in row and liking(row) is None:
        return False
    return any(key in row for key in _TURNS) or pairs.fits(row) or alpaca.fits(row) or prompt_messages.fits(row)


def convert(row: JsonValue) -> Conversation:
    row = fields(row)
    text_alone(row)
    liked = liking(row)
    if liked is False and not _PAIRS.isdisjoint(row):
        raise RowError("bad_label", "a label says that the answer is not liked, but there is a rejected one beside it")
    if "chosen_messages" in row:
        all_used(row, _GROUNDS, "chosen_messages", "rejected_messages")
        return _pair(row, (), _turns(row, "chosen_messages"), _turns(row, "rejected_messages"))
    if "chosen" in row:
        prompt = _prompt(row)
        return _pair(row, prompt, _answer(row, "chosen", prompt), _answer(row, "rejected", prompt))
    if "rejected_response" in row:
        conversation = _conversation(row)
        rejected = Message("assistant", text_of(row, "rejected_response"))
        return check(conversation._replace(rejected=(*conversation.messages[:-1], rejected)))
    if liked is None:
        raise RowError("missing_key", f"neither chosen and rejected nor a true/false label among {keys_of(row)}")
    return check(_conversation(row)._replace(desirable=liked))


def _conversation(row: JsonObject) -> Conversation:
    for key in _TURNS:
        if key in row:
            return conversation_of(row, key)
    if alpaca.fits(row):
        return alpaca.conversation_of(row)
    return prompt_messages.conversation_of(row) if prompt_messages.fits(row) else pairs.conversation_of(row)


def _turns(row: JsonObject, key: str) -> tuple[Message, ...]:
    return tuple(message_of(where, turn) for where, turn in turns(row, key))


def _prompt(row: JsonObject) -> tuple[Message, ...]:
    """The messages before the answers; none where each answer is a conversation of its own."""
    for key in ("conversations", "messages", "chat_rounds", "prompt"):
        if isinstance(row.get(key), list):
            all_used(row, _GROUNDS, key, "chosen")
            prompt = _turns(row, key)
            return () if row[key] == row.get("chosen") else prompt
    if "instruction" in row:
        all_used(row, ("context", "documents"), "instruction", "chosen")
        return (*alpaca.history_of(row), Message("user", alpaca.prompt_of(row)))
    for key in _PROMPTS:
        if key in row:
            all_used(row, (*_GROUNDS, "input"), key, "chosen")
            return (Message("user", text_of(row, key)),)
    all_used(row, _GROUNDS, "chosen", "rejected")
    return ()


def _answer(row: JsonObject, key: str, prompt: tuple[Message, ...]) -> tuple[Message, ...]:
    """The turns of one answer, with the prompt where it holds the whole conversation."""
    if key not in row:
        raise RowError("missing_key", f"{key!r} is missing among {keys_of(row)}")
    value = row[key]
    if isinstance(value, str):
        if not prompt:
            raise RowError("missing_key", f"there is no prompt beside {key!r} among {keys_of(row)}")
        return (Message("assistant", value),)
    if isinstance(value, dict):
        return (message_of(f"{key}.", value),)
    if not isinstance(value, list):
        raise RowError("wrong_type", f"{key!r} is {kind_of(value)}; expected a text, a turn, or turns")
    return _turns(row, key)


def _pair(
    row: JsonObject, prompt: tuple[Message, ...], chosen: tuple[Message, ...], rejected: tuple[Message, ...]
) -> Conversation:
    system = system_of(row) if system_text(row) else ()
    good, bad = _whole(system, prompt, chosen, "chosen"), _whole(system, prompt, rejected, "rejected")
    conversation = check(Conversation(good, tools_of(row), rejected=bad))
    if good[-1][:2] == bad[-1][:2] and good[-1].tool_calls == bad[-1].tool_calls:
        raise RowError("no_preference", "the chosen and the rejected answer are the same")
    return conversation


def _whole(
    system: tuple[Message, ...], prompt: tuple[Message, ...], answer: tuple[Message, ...], key: str
) -> tuple[Message, ...]:
    if not answer:
        raise RowError("no_answer", f"{key} holds no turn")
    if answer[0].role == "assistant" and prompt:
        return (*system, *prompt, *answer)
    if prompt and not _is_within(prompt, answer):
        raise RowError("unused_text", f"{key} is a conversation of its own, without the prompt that stands beside it")
    return (*system, *answer)


def _is_within(prompt: tuple[Message, ...], answer: tuple[Message, ...]) -> bool:
    """Whether an answer's own turns repeat the prompt whole: all of it, one after another."""
    asked, said = [message[:2] for message in prompt], [message[:2] for message in answer[:-1]]
    return any(said[start : start + len(asked)] == asked for start in range(len(said) - len(asked) + 1))


_QUESTION: JsonValue = {"role": "user", "content": "1 + 1?"}

FORMAT = Format(
    name="preference",
    order=4,
    fits=fits,
    convert=convert,
    examples=(
        {
            "conversations": [{"from": "human", "value": "1 + 1?"}],
            "chosen": {"from": "gpt", "value": "2"},
            "rejected": {"from": "gpt", "value": "3"},
        },
        {
            "chosen_messages": [_QUESTION, {"role": "assistant", "content": "2", "loss_weight": 1.0}],
            "rejected_messages": [_QUESTION, {"role": "assistant", "content": "3", "loss_weight": 1.0}],
        },
        {"prompt": "1 + 1?", "chosen": "2", "rejected": "3"},
        {"instruction": "Add.", "input": "1 and 1", "chosen": "2", "rejected": "3"},
        {
            "prompt": "1 + 1?",
            "chosen": [_QUESTION, {"role": "assistant", "content": "2"}],
            "rejected": [_QUESTION, {"role": "assistant", "content": "3"}],
        },
        {"messages": [_QUESTION, {"role": "assistant", "content": "2"}], "rejected_response": "3"},
        {"messages": [_QUESTION, {"role": "assistant", "content": "3"}], "label": False},
        {"prompt": "1 + 1?", "completion": "2", "label": True},
    ),
)
