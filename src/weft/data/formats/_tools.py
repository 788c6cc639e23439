"""Tools in the one form that templates are given: OpenAI's, whatever a row calls them."""

from __future__ import annotations

from functools import lru_cache

from weft.data.formats._core import RowError, json_of, keys_of
from weft.data.parse import kind_of
from weft.types import JsonObject, JsonValue, ToolCall


def tools_of(row: JsonObject) -> tuple[JsonObject, ...]:
    """The tools that a row offers in `tools` (or `functions`), a list or the JSON of one. Raises RowError.

    A bare {name, description, parameters} is put into {"type": "function", "function": …}.
    """
    tools = row.get("tools")
    if tools is None:
        tools = row.get("functions")
    if not tools or tools == "[]":
        return ()
    if isinstance(tools, str):
        return _written(tools)
    return _listed(tools)


@lru_cache(maxsize=512)
def _written(text: str) -> tuple[JsonObject, ...]:
    if not text.strip() or text.strip() == "null":
        return ()
    return _listed(json_of(text, "tools", "bad_tools"))


def _listed(tools: JsonValue) -> tuple[JsonObject, ...]:
    if isinstance(tools, dict):
        tools = [tools] if tools else []
    if not isinstance(tools, list):
        raise RowError("bad_tools", f"tools is {kind_of(tools)}; expected a list of tools")
    return tuple(_tool(number, tool) for number, tool in enumerate(tools, 1))


def _tool(number: int, tool: JsonValue) -> JsonObject:
    where = f"tools[{number}]"
    if not isinstance(tool, dict):
        raise RowError("bad_tools", f"{where} is {kind_of(tool)}; expected an object")
    function = tool.get("function", tool)
    if not isinstance(function, dict):
        raise RowError("bad_tools", f"{where}.function is {kind_of(function)}; expected an object")
    name = function.get("name")
    if not isinstance(name, str) or not name.strip():
        raise RowError("bad_tools", f"{where} has no name among {keys_of(function)}")
    if function is tool:
        return {"type": "function", "function": tool}
    kind = tool.get("type")
    if kind is not None and not isinstance(kind, str):
        raise RowError("bad_tools", f"{where}.type is {kind_of(kind)}; expected a string")
    return tool if kind else {**tool, "type": "function"}


def calls_of(value: JsonValue, where: str) -> tuple[ToolCall, ...]:
    """The calls in a `tool_calls` list, in one call's object, or in the JSON of either. Raises RowError."""
    if isinstance(value, str):
        value = json_of(value, where, "bad_tool_call")
    if isinstance(value, dict):
        value = [value]
    if not isinstance(value, list) or not value:
        raise RowError("bad_tool_call", f"{where} is {kind_of(value)}; expected a call or a list of calls")
    return tuple(_call(call, f"{where}[{number}]") for number, call in enumerate(value, 1))


def _call(call: JsonValue, where: str) -> ToolCall:
    if isinstance(call, str):
        call = json_of(call, where, "bad_tool_call")
    if not isinstance(call, dict):
        raise RowError("bad_tool_call", f"{where} is {kind_of(call)}; expected an object")
    function = call.get("function")
    holder = function if isinstance(function, dict) else call
    name, arguments, call_id = holder.get("name"), holder.get("arguments", holder.get("parameters")), call.get("id")
    if not isinstance(name, str) or not name.strip():
        raise RowError("bad_tool_call", f"{where} names no function among {keys_of(holder)}")
    if isinstance(arguments, str):
        arguments = json_of(arguments, f"{where}.arguments", "bad_tool_call") if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise RowError("bad_tool_call", f"{where}.arguments is {kind_of(arguments)}; expected an object")
    return ToolCall(name, arguments, call_id if isinstance(call_id, str) else "")
