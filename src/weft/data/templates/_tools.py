"""How a family of templates offers tools, calls them and shows what they gave back: fixed text around JSON.

The JSON is data of the row, whoever wrote it: no piece of it is control text.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from weft.errors import TemplateError
from weft.types import JsonObject, JsonValue, Message, Piece, ToolCall

if TYPE_CHECKING:
    from weft.data.templates._markers import MarkerTemplate


@dataclass(frozen=True)
class ToolMarkers:
    """`offer` and `calls` are the text before, between and after the JSON of each tool or call."""

    place: Literal["first", "in_system", "after_system"]
    """Where tools are offered: at the very beginning, at the end of the system message, or in a turn of their own behind it."""
    offer: tuple[str, str, str]
    calls: tuple[str, str, str]
    arguments: str = "arguments"
    """The key of a call's arguments."""
    writes_ids: bool = False
    """Whether a call's id is written, where it has one."""
    beside: str | None = None
    """The text between an answer's words and its calls; None: an answer has either."""
    offers: Literal["tool", "function"] = "tool"
    """Whether a tool's whole description is shown, or only that of its function."""
    result_id: tuple[str, str] | None = None
    """The text around the id of the call that a result answers, behind the result."""
    needs: tuple[str, ...] = ()
    """Tokens that only conversations with tools need."""

    def offered(
        self, template: MarkerTemplate, messages: Sequence[Message], tools: Sequence[JsonObject]
    ) -> tuple[list[Piece], str, int]:
        """The conversation's beginning up to the offer, the role that it ends with, and how many messages are in it."""
        system = messages[0] if messages and messages[0].role == "system" else None
        pieces: list[Piece] = []
        if self.place == "first":
            pieces.append(Piece(template.first, 0.0, True))
        elif system is not None:
            pieces.append(Piece(template.first + template.opening["system"], 0.0, True))
            pieces.append(Piece(system.content.strip() if "system" in template.trimmed else system.content, 0.0, False))
            if self.place == "after_system":
                pieces.append(Piece(template.closing["system"], 0.0, True))
        elif self.place == "after_system":
            pieces.append(Piece(template.beginning(without_system=True), 0.0, True))
        else:
            pieces.append(
                Piece(template.first + template.opening["system"] + (template.default_system or ""), 0.0, True)
            )
        values: list[JsonValue] = [tool["function"] if self.offers == "function" else tool for tool in tools]
        pieces += _listed(self.offer, values, 0.0)
        taken = 0 if self.place == "first" or system is None else 1
        return pieces, "system" if self.place == "in_system" else "begun", taken

    def called(self, template: MarkerTemplate, message: Message, content: str, weight: float) -> list[Piece]:
        """An answer's calls, behind its words."""
        between = []
        if content:
            if self.beside is None:
                raise TemplateError(f"template {template.name} has no way to write words and tool calls in one answer")
            between = [Piece(self.beside, weight, True)]
        return between + _listed(self.calls, [self._call(call) for call in message.tool_calls], weight)

    def _call(self, call: ToolCall) -> JsonValue:
        written: JsonObject = {"name": call.name, self.arguments: call.arguments}
        return written | {"id": call.id} if self.writes_ids and call.id else written

    def result_of(self, message: Message) -> list[Piece]:
        """What tells which call a result answers."""
        if self.result_id is None:
            return []
        before, after = self.result_id
        return [Piece(before, 0.0, True), Piece(message.call_id, 0.0, False), Piece(after, 0.0, True)]


def _listed(markers: tuple[str, str, str], values: Sequence[JsonValue], weight: float) -> list[Piece]:
    before, between, after = markers
    pieces = []
    for number, value in enumerate(values):
        pieces.append(Piece(between if number else before, weight, True))
        pieces.append(Piece(json.dumps(value, ensure_ascii=False), weight, False))
    return [*pieces, Piece(after, weight, True)]
