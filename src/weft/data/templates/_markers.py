"""Templates that are nothing but text before and behind each message; rendered without Jinja.

    first  opening[user] question closing[user]  opening[assistant] [answer_start answer answer_end stop] after_answer  opening …

Brackets trained. What a family has of its own (a system message that goes into the first user turn, ChatGLM3's next role that ends an
answer) is a joint: other text between two roles than the closing of one and the opening of the next.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from weft.config.settings import TemplateSettings
from weft.data.templates import TrainOn, check_continued, with_system, without_template
from weft.data.templates._jinja_of import jinja_of
from weft.data.templates._tools import ToolMarkers
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import JsonObject, Message, Piece

_piece = tuple.__new__
"""Makes a piece in half the time that Piece takes: it is done several times for every message of a data set."""
_BEGUN = "begun"
"""Stands for the role before the first message where the conversation's own beginning has been written already."""


@dataclass(frozen=True)
class MarkerTemplate:
    """See the module's drawing. Everything is data; `_jinja_of` writes the same as Jinja."""

    name: str
    tokenizer: Tokenizer
    opening: Mapping[str, str]
    closing: Mapping[str, str]
    """What stands behind a message of each role but the assistant's."""
    stop: str
    answer_start: str = ""
    answer_end: str = ""
    after_answer: str = ""
    first: str = ""
    """What begins every conversation, such as BOS."""
    default_system: str | None = None
    """The family's own system message, for conversations that have none."""
    joints: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Text between two roles ('' is the beginning), instead of the closing of one and the opening of the next."""
    follows: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Which roles may follow a role, where not all may ('' is the beginning)."""
    trimmed: frozenset[str] = frozenset()
    """The roles whose contents are written without white space around them."""
    reasoning: tuple[str, str] | None = None
    """The text around what an assistant thought before its answer; None: the family has no way to write it."""
    tools: ToolMarkers | None = None
    """How tools are offered and called; None: the family has no way to."""
    system: str | None = None
    """The user's system message, for conversations that have none."""

    @cached_property
    def fingerprint(self) -> str:
        parts = [self.name, self.jinja(), self.answer_start, self.answer_end, self.stop]
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()

    def jinja(self) -> str:
        return jinja_of(self)

    def render(
        self,
        messages: Sequence[Message],
        train_on: TrainOn,
        tools: Sequence[JsonObject] = (),
        documents: Sequence[JsonObject] = (),
    ) -> list[Piece]:
        plain = without_template(messages, self.tokenizer)
        if plain is not None:
            return plain
        pieces, last = self._messages(messages, train_on, tools, documents)
        pieces.append(self._end[last])
        return pieces

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[JsonObject] = (),
        documents: Sequence[JsonObject] = (),
        continue_final: bool = False,
    ) -> list[Piece]:
        plain = without_template(messages, self.tokenizer, to_go_on=True)
        if plain is not None:
            return plain
        if continue_final:
            check_continued(messages)
        pieces, last = self._messages(messages, "all_answers", tools, documents)
        if continue_final:
            return pieces[:-1]  # without what ends the answer
        pieces.append(self._between(last, "assistant"))
        return pieces

    def _messages(
        self,
        messages: Sequence[Message],
        train_on: TrainOn,
        tools: Sequence[JsonObject],
        documents: Sequence[JsonObject],
    ) -> tuple[list[Piece], str]:
        """The pieces up to the last message's content (an answer's stop token with it), and that message's role."""
        if documents:
            raise TemplateError(f"template {self.name} has no way to show documents; use a template in Jinja that has")
        if self.system is not None:
            messages = with_system(messages, self.system)
        pieces: list[Piece] = []
        last = ""
        if tools:
            pieces, last, taken = self._tool_markers("offer tools").offered(self, messages, tools)
            messages = messages[taken:]
        betweens, ends, trimmed, starts = self._betweens, self._ends, self.trimmed, self.answer_start
        trained_from = 0 if train_on == "all_answers" else _last_answer(messages)
        for number, message in enumerate(messages):
            role, content, weight, reasoning, calls, _, call_id = message
            pieces.append(betweens.get((last, role)) or self._between(last, role))
            if role in trimmed:
                content = content.strip()
            if role == "assistant":
                if weight is None:
                    weight = 1.0 if number >= trained_from else 0.0
                if starts or reasoning or calls:
                    pieces += self._answer(message, content, weight)
                else:
                    pieces.append(_piece(Piece, (content, weight, False, True)))
                pieces.append(ends.get(weight) or self._end_of_answer(weight))
            else:
                pieces.append(_piece(Piece, (content, 0.0, False, False)))
                if call_id and role == "tool" and self.tools:
                    pieces += self.tools.result_of(message)
            last = role
        return pieces, last

    def _answer(self, message: Message, content: str, weight: float) -> list[Piece]:
        """An answer with all that belongs to it but its end; the first piece is a cut."""
        if self.answer_start and not message.reasoning and not message.tool_calls:
            return [
                _piece(Piece, (self.answer_start, weight, True, True)),
                _piece(Piece, (content, weight, False, False)),
            ]
        pieces = []
        if self.answer_start and (content or not message.tool_calls):
            pieces.append(Piece(self.answer_start, weight, True))
        if message.reasoning:
            if self.reasoning is None:
                raise TemplateError(
                    f"template {self.name} has no way to write reasoning; put it into the answer's text, or use qwen or a template in "
                    "Jinja that has"
                )
            pieces += [
                Piece(self.reasoning[0], weight, True),
                Piece(message.reasoning, weight, False),
                Piece(self.reasoning[1], weight, True),
            ]
        pieces.append(Piece(content, weight, False))
        if message.tool_calls:
            pieces += self._tool_markers("write tool calls").called(self, message, content, weight)
        pieces[0] = pieces[0]._replace(cut=True)
        return pieces

    def _tool_markers(self, what: str) -> ToolMarkers:
        if self.tools is None:
            raise TemplateError(f"template {self.name} has no way to {what}; use one that has, e.g. qwen or mistral_v3")
        missing = [token for token in self.tools.needs if self.tokenizer.id_of(token) is None]
        if missing:
            raise TemplateError(
                f"template {self.name} can't {what}: the tokenizer in {self.tokenizer.folder} has no token {' or '.join(missing)}"
            )
        return self.tools

    @cached_property
    def _betweens(self) -> dict[tuple[str, str], Piece]:
        return {}

    def _between(self, last: str, role: str) -> Piece:
        """What the template writes between messages of two roles; '' is the beginning."""
        if role not in self.opening:
            raise TemplateError(
                f"template {self.name} has no marker for the role {role!r}; it knows {', '.join(self.opening)}"
            )
        self._check_order(last, role)
        begins = last in ("", _BEGUN)
        text = self.joints.get(("" if begins else last, role))
        if text is None:
            text = ("" if begins else self._closing(last)) + self.opening[role]
        if not last:
            text = self.beginning(without_system=role != "system") + text
        return self._betweens.setdefault((last, role), Piece(text, 0.0, True, last == "assistant"))

    def _check_order(self, last: str, role: str) -> None:
        allowed = self.follows.get("" if last == _BEGUN else last)
        if allowed is not None and role not in allowed:
            where = f"after {last}" if last and last != _BEGUN else "at the beginning"
            raise TemplateError(f"template {self.name} can't write {role} {where}; there it takes {', '.join(allowed)}")

    def beginning(self, without_system: bool) -> str:
        """What a conversation begins with, the family's own system message with it where there is none."""
        if not without_system or self.default_system is None:
            return self.first
        return self.first + self.opening["system"] + self.default_system + self.closing["system"]

    def _closing(self, role: str) -> str:
        return self.after_answer if role == "assistant" else self.closing.get(role, "")

    @cached_property
    def _end(self) -> dict[str, Piece]:
        """What stands behind the last message, by its role."""
        return {
            role: Piece(self._closing(role), 0.0, True, role == "assistant") for role in ["", _BEGUN, *self.opening]
        }

    @cached_property
    def _ends(self) -> dict[float, Piece]:
        return {}

    def _end_of_answer(self, weight: float) -> Piece:
        piece = Piece(self.answer_end + self.stop, weight, True)
        if len(self._ends) < 1000:
            self._ends[weight] = piece
        return piece


def _last_answer(messages: Sequence[Message]) -> int:
    return max((number for number, message in enumerate(messages) if message.role == "assistant"), default=0)


def require(name: str, tokenizer: Tokenizer, *tokens: str) -> None:
    """Raises TemplateError naming the tokens of a template that the tokenizer doesn't have."""
    missing = [token for token in tokens if tokenizer.id_of(token) is None]
    if missing:
        raise TemplateError(
            f"template.name: {name}: the tokenizer in {tokenizer.folder} has no token {' or '.join(missing)}; use mftcoder, or a "
            "tokenizer with the template's tokens"
        )


def opened(settings: TemplateSettings, name: str, opening: Mapping[str, str]) -> dict[str, str]:
    """The openings with the user's own markers in their places. Raises TemplateError for a role that has none."""
    strange = [str(role) for role in settings.markers if role not in opening]
    if strange:
        raise TemplateError(f"template.markers.{strange[0]}: {name} writes no such role; it knows {', '.join(opening)}")
    return {role: settings.markers.get(role, text) for role, text in opening.items()}  # type: ignore[call-overload]


def fixed_markers(settings: TemplateSettings, name: str) -> None:
    """Raises TemplateError where a family whose markers are tokens of its own is given others."""
    if settings.markers:
        raise TemplateError(
            f"template.markers: {name} has none to choose; use template.name: mftcoder for other markers"
        )
