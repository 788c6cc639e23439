"""A user's own format: a function at a dotted path that makes a conversation of a row.

It may give a Conversation, a list of messages, an object with `messages` (and `tools`, `system`, `documents`), or None to
leave the row out. Whatever goes wrong in it is a reject of that row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from weft.data.formats._check import check
from weft.data.formats._core import Converter, Format, RowError
from weft.data.formats._turns import conversation_of
from weft.types import Conversation, JsonValue, Message, Tokens, ToolCall


def from_function(name: str, function: Callable[[JsonValue], Any]) -> Format:
    """A format that reads every row by a function."""

    def convert(row: JsonValue) -> Conversation:
        return _understood(function(dict(row) if isinstance(row, dict) else row))

    return Format(name=name, order=0, fits=lambda row: True, convert=guarded(convert), examples=())


def guarded(convert: Converter) -> Converter:
    """The same conversion, with any exception made a RowError `format_error` that names it."""

    def careful(row: JsonValue) -> Conversation:
        try:
            return convert(row)
        except (RowError, MemoryError):
            raise
        except Exception as error:
            raise RowError("format_error", f"{type(error).__name__}: {str(error)[:300]}") from error

    return careful


def _understood(made: Any) -> Conversation:
    if made is None:
        raise RowError("left_out", "the format's function gave None for this row")
    if isinstance(made, Conversation):
        return check(_typed(made))
    if isinstance(made, list | tuple) and made and all(isinstance(message, Message) for message in made):
        return check(_typed(Conversation(tuple(made))))
    if isinstance(made, list | dict):
        return check(_typed(conversation_of(made, "messages")))
    raise RowError(
        "format_error",
        f"the function gave {type(made).__name__}; expected a Conversation, messages, an object with messages, or None",
    )


def _typed(made: Conversation) -> Conversation:
    """The same conversation, proven to hold what its types say. Raises RowError."""
    messages, rejected = _messages(made.messages), _messages(made.rejected)
    for name, value in (("tools", made.tools), ("documents", made.documents)):
        if not isinstance(value, list | tuple) or not all(isinstance(item, dict) for item in value):
            raise RowError("format_error", f"{name} holds what is no object")
        _encodable(json.dumps(list(value), ensure_ascii=False, allow_nan=False), name)
    if not (made.desirable is None or isinstance(made.desirable, bool)):
        raise RowError("format_error", f"desirable is {type(made.desirable).__name__}; expected true, false or None")
    tokens = made.tokens
    if tokens is not None:
        ids, weights = tokens
        if not all(type(i) is int for i in ids) or not all(type(w) in (int, float) for w in weights):
            raise RowError("format_error", "tokens are not integers with numbers as weights")
        tokens = Tokens(tuple(ids), tuple(float(w) for w in weights))
    return Conversation(messages, tuple(made.tools), tuple(made.documents), rejected, made.desirable, tokens)


def _messages(messages: Any) -> tuple[Message, ...]:
    for number, message in enumerate(messages, 1):
        if not isinstance(message, Message):
            raise RowError("format_error", f"message {number} is {type(message).__name__}; expected a Message")
        for field in ("role", "content", "reasoning", "name", "call_id"):
            value = getattr(message, field)
            if not isinstance(value, str):
                raise RowError(
                    "format_error", f"message {number}: {field} is {type(value).__name__}; expected a string"
                )
            _encodable(value, f"message {number}: {field}")
        if type(message.weight) not in (type(None), int, float):
            raise RowError("format_error", f"message {number}: weight is {type(message.weight).__name__}")
        for call in message.tool_calls:
            if not isinstance(call, ToolCall) or not isinstance(call.arguments, dict):
                raise RowError("format_error", f"message {number}: a tool call is no ToolCall with arguments")
            _encodable(json.dumps(list(call), ensure_ascii=False, allow_nan=False), f"message {number}: tool_calls")
    return tuple(message._replace(tool_calls=tuple(message.tool_calls)) for message in messages)


def _encodable(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise RowError("lone_surrogate", f"{where}: half of a surrogate pair is no character") from None
