"""What a conversation must be to be trained, whatever format it came from."""

from __future__ import annotations

import math
from collections.abc import Sequence

from weft.data.formats._core import RowError, blank
from weft.types import FIM_ROLES, ROLES, TEXT_ROLE, Conversation, Message, Tokens

MAX_TURNS = 10_000

_FOLLOWS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""Which roles may follow a role; '' is the start."""
_PLAINLY_FOLLOWS = {"": ("system", "user"), "system": ("user",), "user": ("assistant",), "assistant": ("user",)}
_MAX_ID = 2**31


def check(conversation: Conversation) -> Conversation:
    """A conversation that can be trained, unchanged; RowError if it can't.

    One of: a document of one text; a gap (what stands before it, what stands behind it, what fills it); tokens; or a
    system message first if at all, then user and assistant in turn, with tool messages between an assistant that calls
    tools and the next, and an assistant at the end. User messages and documents have content, the last answer has
    content or calls a tool; only answers have a weight above 0, and not all of them 0. The rejected messages of a
    pair are as sound as the preferred ones, and differ from them in the last answer alone.
    """
    messages = conversation.messages
    if conversation.tokens is None and not conversation.rejected and plainly_sound(messages):
        return conversation
    if conversation.tokens is not None:
        _check_tokens(conversation.tokens)
        if messages:
            raise RowError("bad_tokens", "a row has tokens or messages, not both")
        return conversation
    check_closely(messages)
    if conversation.rejected:
        check_closely(conversation.rejected)
        if [m[:2] for m in messages[:-1]] != [m[:2] for m in conversation.rejected[:-1]]:
            raise RowError("prompts_differ", "the chosen and the rejected answer belong to different prompts")
    return conversation


def plainly_sound(messages: Sequence[Message]) -> bool:
    """Whether turns of user and assistant have no fault: most rows, told quickly. False says nothing: then look closely."""
    before = ""
    for role, content, weight, _, calls, *_ in messages:
        if role not in _PLAINLY_FOLLOWS[before] or calls:
            return False
        if weight is not None and weight != (1 if role == "assistant" else 0):
            return False
        if role == "user" and (not content or content.isspace()):
            return False
        before = role
    return before == "assistant" and not blank(messages[-1].content) and len(messages) <= MAX_TURNS


def check_closely(messages: Sequence[Message]) -> None:
    """Raises RowError with the first fault of a conversation's messages."""
    if len(messages) > MAX_TURNS:
        raise RowError("too_many_turns", f"{len(messages)} messages; at most {MAX_TURNS} are read")
    for number, message in enumerate(messages, 1):
        _check_message(number, message)
    roles = [message.role for message in messages]
    if TEXT_ROLE in roles:
        if len(messages) > 1:
            raise RowError("bad_role_order", f"a document is one message of its own, not one of {len(messages)}")
        if blank(messages[0].content):
            raise RowError("empty_text", "the text is empty or white space")
        _check_trained(messages)
        return
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RowError("no_answer", f"no assistant message among {len(messages)}")
    if any(role in FIM_ROLES for role in roles):
        _check_gap(messages)
    else:
        _check_order(messages)
        if blank(answers[-1].content) and not answers[-1].tool_calls:
            raise RowError("empty_answer", "the last assistant message is empty or white space")
    _check_trained(answers)


def _check_gap(messages: Sequence[Message]) -> None:
    """What fills a gap may be white space: in code that is text like any other."""
    if tuple(message.role for message in messages) != (*FIM_ROLES, "assistant"):
        raise RowError("bad_role_order", f"a gap is {', '.join(FIM_ROLES)}, assistant; there is nothing beside them")
    if not messages[-1].content:
        raise RowError("empty_answer", "what fills the gap is empty")
    if all(blank(message.content) for message in messages[:-1]):
        raise RowError("empty_prompt", "nothing stands around the gap")


def _check_trained(targets: Sequence[Message]) -> None:
    if all(message.weight == 0 for message in targets):
        raise RowError("nothing_trained", f"the weight of every {targets[0].role} message is 0")


def _check_message(number: int, message: Message) -> None:
    role, content, weight = message[:3]
    if role not in ROLES:
        raise RowError("unknown_role", f"message {number}: {role[:40]!r}; known: {', '.join(ROLES)}")
    if role == "user" and blank(content):
        raise RowError("empty_prompt", f"message {number}: the user message is empty or white space")
    if message.tool_calls and role != "assistant":
        raise RowError("bad_tool_call", f"message {number}: {role} calls a tool; only an assistant does")
    if weight is None:
        return
    if not (weight == 0 or 1e-6 <= weight <= 1e6):
        raise RowError("bad_weight", f"message {number}: {weight} is neither 0 nor between 1e-6 and 1e6")
    if weight > 0 and role not in ("assistant", TEXT_ROLE):
        raise RowError("bad_weight", f"message {number}: weight {weight} on {role}; only answers are trained")


def _check_order(messages: Sequence[Message]) -> None:
    before, called = "", False
    for number, message in enumerate(messages, 1):
        role = message.role
        if role not in _FOLLOWS[before]:
            place = f"after {before}" if before else "at the start"
            raise RowError(
                "bad_role_order", f"message {number}: {role} {place}; expected {' or '.join(_FOLLOWS[before])}"
            )
        if role == "tool" and before == "assistant" and not called:
            raise RowError(
                "tool_without_call", f"message {number}: a tool answers, but the assistant before called none"
            )
        before, called = role, bool(message.tool_calls)
    if before != "assistant":
        raise RowError("no_final_answer", f"the last message is of {before}; there is nothing to learn after it")


def _check_tokens(tokens: Tokens) -> None:
    ids, weights = tokens
    if not ids:
        raise RowError("empty_text", "there are no token ids")
    if len(ids) != len(weights):
        raise RowError("bad_tokens", f"{len(ids)} ids, but {len(weights)} weights")
    if min(ids) < 0 or max(ids) >= _MAX_ID:
        raise RowError("bad_tokens", f"ids lie between {min(ids)} and {max(ids)}; expected 0 to {_MAX_ID - 1}")
    if not all(weight == 0 or (math.isfinite(weight) and 1e-6 <= weight <= 1e6) for weight in weights):
        raise RowError("bad_weight", "a token's weight is neither 0 nor between 1e-6 and 1e6")
    if not any(weights[1:]):
        raise RowError("nothing_trained", "no token after the first has a weight")
