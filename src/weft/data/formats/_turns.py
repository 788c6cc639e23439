"""Turns: what the formats with a list of messages share. OpenAI's (role and content) and ShareGPT's (from and value)."""

from __future__ import annotations

from collections.abc import Iterator

from weft.data.formats._check import MAX_TURNS
from weft.data.formats._core import RowError, fields, keys_of, system_of, text_of
from weft.data.formats._guard import text_alone
from weft.data.formats._tools import calls_of, tools_of
from weft.data.parse import kind_of
from weft.types import TEXT_ROLE, Conversation, JsonObject, JsonValue, Message, ToolCall

_OPENAI_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
    "function": "tool",
    "pretrain": TEXT_ROLE,
}
_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "observation": "tool",
    "tool": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
_CALLING = ("function_call", "tool_call")
_REASONING = ("reasoning_content", "reasoning", "thinking")
_WEIGHTS = ("train", "weight", "loss_weight", "loss")


def conversation_of(row: JsonValue, key: str) -> Conversation:
    """The turns, the system column, the tools and the documents of a row, not yet checked. Raises RowError."""
    messages = tuple(
        [_plain(turn) or message_of(*_placed(key, number, turn)) for number, turn in enumerate(_listed(row, key), 1)]
    )
    if not isinstance(row, dict):
        return Conversation(messages)
    system = row.get("system") or row.get("system_prompt")
    if system:
        messages = (*system_of(row), *messages)
    tools, documents = tools_of(row), row.get("documents")
    if tools or documents:
        return Conversation(messages, tools, _documents(documents))
    return Conversation(messages)


def _documents(value: JsonValue) -> tuple[JsonObject, ...]:
    if not value:
        return ()
    if not isinstance(value, list):
        raise RowError("wrong_type", f"documents is {kind_of(value)}; expected a list of objects")
    documents: list[JsonObject] = []
    for number, document in enumerate(value, 1):
        if not isinstance(document, dict):
            raise RowError("wrong_type", f"documents[{number}] is {kind_of(document)}; expected an object")
        documents.append(document)
    return tuple(documents)


def turns(row: JsonValue, key: str) -> Iterator[tuple[str, JsonObject]]:
    """Each turn of a row with where it stands, in words; a bare list is the turns themselves. Raises RowError."""
    for number, turn in enumerate(_listed(row, key), 1):
        yield _placed(key, number, turn)


def _listed(row: JsonValue, key: str) -> list[JsonValue]:
    holder = "the row" if isinstance(row, list) else key
    listed = row if isinstance(row, list) else fields(row).get(key)
    if not isinstance(listed, list):
        if key not in fields(row):
            raise RowError("missing_key", f"{key!r} is missing among {keys_of(row)}")
        raise RowError("wrong_type", f"{key!r} is {kind_of(listed)}; expected a list")
    if len(listed) > MAX_TURNS:
        raise RowError("too_many_turns", f"{holder} has {len(listed)} turns; at most {MAX_TURNS} are read")
    return listed


def _placed(key: str, number: int, turn: JsonValue) -> tuple[str, JsonObject]:
    if not isinstance(turn, dict):
        raise RowError("wrong_type", f"{key}[{number}] is {kind_of(turn)}; expected an object")
    return f"{key}[{number}].", turn


def _plain(turn: JsonValue) -> Message | None:
    """A turn of a role and a text and nothing else, read quickly; None for any other."""
    if type(turn) is not dict or len(turn) != 2:
        return None
    role, text, roles = turn.get("role"), turn.get("content"), _OPENAI_ROLES
    if text is None:
        role, text, roles = turn.get("from"), turn.get("value"), _SHAREGPT_ROLES
    if type(role) is not str or type(text) is not str or role in _CALLING:
        return None
    kind = roles.get(role)
    return None if kind is None else Message(kind, text)


def message_of(where: str, turn: JsonObject) -> Message:
    """One turn, in OpenAI's words or in ShareGPT's. Raises RowError."""
    text_alone(turn, where)
    return _sharegpt(where, turn) if "from" in turn else _openai(where, turn)


def _sharegpt(where: str, turn: JsonObject) -> Message:
    role = text_of(turn, "from", where)
    if role not in _SHAREGPT_ROLES:
        raise RowError("unknown_role", f"{where}from is {role[:40]!r}; known: {', '.join(_SHAREGPT_ROLES)}")
    value = text_of(turn, "value", where)
    weight = _weight(where, turn)
    if role in _CALLING:
        return Message("assistant", "", weight, tool_calls=calls_of(value, f"{where}value"))
    return Message(_SHAREGPT_ROLES[role], value, weight)


def _openai(where: str, turn: JsonObject) -> Message:
    role = turn.get("role")
    if not isinstance(role, str):
        role = text_of(turn, "role", where)
    kind = _OPENAI_ROLES.get(role) or _SHAREGPT_ROLES.get(role)
    if kind is None or role in _CALLING:
        raise RowError("unknown_role", f"{where}role is {role[:40]!r}; known: {', '.join(_OPENAI_ROLES)}")
    content = turn.get("content")
    if isinstance(content, str) and len(turn) == 2:
        return Message(kind, content)
    text, reasoning, calls = _said(where, turn)
    if (reasoning or calls) and kind != "assistant":
        raise RowError("unsupported_part", f"{where[:-1]}: only an assistant reasons and calls tools, not {kind}")
    weight = _weight(where, turn)
    if kind != "tool":
        return Message(kind, text, weight, reasoning, calls)
    name, call_id = (_text_or_nothing(turn.get(key)) for key in ("name", "tool_call_id"))
    return Message(kind, text, weight, name=name, call_id=call_id)


def _said(where: str, turn: JsonObject) -> tuple[str, str, tuple[ToolCall, ...]]:
    """A turn's text, what was thought before it, and the tools that it calls. Raises RowError."""
    content, reasoning = turn.get("content"), ""
    calls: tuple[ToolCall, ...] = ()
    if isinstance(content, list):
        content, reasoning, calls = _parts(where, content)
    for key in _REASONING:
        if turn.get(key):
            if reasoning:
                raise RowError("unsupported_part", f"{where}{key} stands beside other reasoning")
            reasoning = text_of(turn, key, where)
    for key in ("tool_calls", "function_call"):
        if turn.get(key):
            calls = (*calls, *calls_of(turn[key], f"{where}{key}"))
    if not isinstance(content, str):
        content = "" if calls and content is None else text_of(turn, "content", where)
    return content, reasoning, calls


def _text_or_nothing(value: JsonValue) -> str:
    return value if isinstance(value, str) else ""


def _parts(where: str, parts: list[JsonValue]) -> tuple[str, str, tuple[ToolCall, ...]]:
    """Text, reasoning and tool calls of typed content. OpenAI calls a part's text `text`, LLaMA-Factory `value`."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for number, part in enumerate(parts, 1):
        place = f"{where}content[{number}]"
        if not isinstance(part, dict):
            raise RowError("wrong_type", f"{place} is {kind_of(part)}; expected an object")
        kind = part.get("type")
        key = "value" if "value" in part and "text" not in part else "text"
        if kind == "text":
            texts.append(text_of(part, key, f"{place}."))
        elif kind in ("reasoning", "thinking"):
            thoughts.append(text_of(part, "thinking" if "thinking" in part else key, f"{place}."))
        elif kind == "tool_call":
            calls += calls_of(part.get("value", part), place)
        else:
            shown = repr(kind[:40]) if isinstance(kind, str) else kind_of(kind)
            raise RowError("unsupported_part", f"{place}.type is {shown}; only text, reasoning and tool_call are read")
    return "".join(texts), "".join(thoughts), tuple(calls)


def _weight(where: str, turn: JsonObject) -> float | None:
    """A turn's own weight: `train` or XTuner's `loss` (true or false), `weight` or `loss_weight` (a number)."""
    if len(turn) == 2:
        return None
    found: dict[str, float] = {}
    for key in _WEIGHTS:
        value = turn.get(key)
        if value is None:
            continue
        if key == "loss" and isinstance(value, str) and value.lower() in ("true", "false"):
            value = value.lower() == "true"
        is_switch = key in ("train", "loss")
        if isinstance(value, bool) is not is_switch or not isinstance(value, bool | int | float):
            raise RowError(
                "wrong_type",
                f"{where}{key} is {kind_of(value)}; expected {'true or false' if is_switch else 'a number'}",
            )
        try:
            found[key] = float(value)
        except OverflowError:
            raise RowError("bad_weight", f"{where}{key} is too large a number") from None
    if len(set(found.values())) > 1:
        raise RowError("bad_weight", f"{where[:-1]} contradicts itself: {found}")
    return next(iter(found.values()), None)
