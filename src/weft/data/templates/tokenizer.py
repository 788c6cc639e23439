"""A Jinja chat template (the tokenizer's own, or a file), with its mask derived and verified for every conversation.

The one idea: what the template itself writes is worked out with placeholders for all contents (`_skeleton`, cached). Then the real
conversation is rendered, and the template's own text with the real contents in it must be exactly that; and what stands before each
trained answer is exactly the prompt that generation will show. Whatever can't be proven so is refused, with the first place that differs.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from weft.config.settings import TemplateSettings
from weft.data.templates import (
    TrainOn,
    check_continued,
    message_weights,
    own_template,
    read_jinja,
    with_system,
    without_template,
)
from weft.data.templates._jinja_of import default_system
from weft.data.templates._kept import Kept
from weft.data.templates._neutral import check_tokens
from weft.data.templates._sandbox import Program
from weft.data.templates._skeleton import Frame, Segment, Skeleton, Slot, fill, frame_of, skeleton_of, turn_of
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import JsonObject, Message, Piece

_PLAIN = (Message("user", "q"), Message("assistant", "a"))


@dataclass(frozen=True)
class JinjaTemplate:
    """A sandboxed Jinja template with the globals that Transformers gives to chat templates."""

    name: str
    source: str
    tokenizer: Tokenizer
    system: str | None
    _program: Program = field(compare=False)
    _texts: Kept[str] = field(default_factory=Kept, compare=False)
    _skeletons: Kept[Skeleton] = field(default_factory=Kept, compare=False)

    @property
    def fingerprint(self) -> str:
        parts = ("jinja", self.source, str(self.system), self._program.dates)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def stop(self) -> str:
        """The control token that ends an answer."""
        return self._around_an_answer()[2]

    @property
    def answer_start(self) -> str:
        return self._around_an_answer()[0]

    @property
    def answer_end(self) -> str:
        """What the template writes between an answer and its stop token."""
        return self._around_an_answer()[1]

    def jinja(self) -> str:
        return "\n".join([*default_system(self.system), self.source])

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
        messages = with_system(messages, self.system)
        weights = message_weights(messages, train_on)
        skeleton, filled = self._verified(messages, tools, documents, generate=False)
        for number, detail in skeleton.faults.items():
            if weights[number] > 0:
                raise TemplateError(detail)
        return _pieces(skeleton.segments, filled, weights)

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
        messages = with_system(messages, self.system)
        weights = message_weights(messages, "all_answers")
        skeleton, filled = self._verified(messages, tools, documents, generate=not continue_final)
        segments = skeleton.segments
        if continue_final:
            last = len(messages) - 1
            if last in skeleton.faults:
                raise TemplateError(skeleton.faults[last])
            segments = segments[: 1 + next(i for i, s in enumerate(segments) if s.slot == Slot("", last))]
        return _pieces(segments, filled, weights)

    def _verified(
        self, messages: Sequence[Message], tools: Sequence[JsonObject], documents: Sequence[JsonObject], generate: bool
    ) -> tuple[Skeleton, dict[Slot, str]]:
        """The skeleton and what fills its slots as the template writes it, proven against the real text."""
        for given, variable in ((tools, "tools"), (documents, "documents")):
            if given and variable not in self._program.reads:
                raise TemplateError(f"template {self.name} has no way to show {variable}; use another template")
        frame, hidden = frame_of(messages, tools, documents, self.tokenizer.first_control)
        skeleton = self._skeleton(frame, generate)
        real = self._text(
            {
                "messages": [turn_of(message) for message in messages],
                "tools": list(tools) or None,
                "documents": list(documents) or None,
            },
            generate,
        )
        values = {Slot("", i): m.content for i, m in enumerate(messages)}
        values |= {Slot("r", i): m.reasoning for i, m in enumerate(messages) if m.reasoning}
        values |= {Slot("c", i): text for i, text in enumerate(hidden)}
        if fill(skeleton, values) == real:
            return skeleton, values
        written = _as_written(skeleton.segments, values, real)
        if fill(skeleton, written) == real:
            return skeleton, written
        expected = fill(skeleton, values)
        place = next(
            (i for i, (a, b) in enumerate(zip(expected, real, strict=False)) if a != b), min(len(expected), len(real))
        )
        raise TemplateError(
            f"template {self.name}: the text depends on the contents in a way that can't be verified; at character {place} "
            f"it writes {real[place : place + 40]!r} where {expected[place : place + 40]!r} was expected"
        )

    def _skeleton(self, frame: Frame, generate: bool) -> Skeleton:
        found = self._skeletons.get((frame, generate))
        if found is None:
            found = skeleton_of(
                self.name, frame, generate, self._frame_text, self.tokenizer.first_control, self._plain_stop(frame)
            )
            check_tokens(
                self.name, frame, generate, found, self._frame_text, self.tokenizer.first_control, self._program.named
            )
            self._skeletons.put((frame, generate), found, frame.num_chars + sum(len(s.text) for s in found.segments))
        return found

    def _frame_text(self, frame: Frame, generate: bool) -> str:
        """A frame's text; texts of frames without tools, which come again and again, are kept."""
        found = self._texts.get((frame, generate))
        if found is None:
            found = self._text(frame.variables(), generate, shows_generation=not generate)
            if not frame.offer:
                self._texts.put((frame, generate), found, frame.num_chars + len(found))
        return found

    def _plain_stop(self, frame: Frame) -> str | None:
        """The token that ends plain answers, which is asked for only where answers call tools."""
        if not any('"tool_calls"' in turn for turn in frame.turns):
            return None
        try:
            return self.stop
        except TemplateError:
            return None

    def _around_an_answer(self) -> tuple[str, str, str]:
        """What stands before an answer's text, between it and the stop token, and that token."""
        frame, _ = frame_of(_PLAIN, (), (), self.tokenizer.first_control)
        skeleton = self._skeleton(frame, generate=False)
        if 1 in skeleton.faults:
            raise TemplateError(skeleton.faults[1])
        answer = [segment for segment in skeleton.segments if segment.answer == 1]
        place = next(i for i, segment in enumerate(answer) if segment.slot is not None)
        before, ending = ("".join(s.text for s in part) for part in (answer[:place], answer[place + 1 :]))
        stop = self.tokenizer.first_control(ending) or ""
        return before, ending.removesuffix(stop), stop

    @cached_property
    def _tokens(self) -> dict[str, str]:
        return {name: self.tokenizer.token(name) or "" for name in ("bos_token", "eos_token", "pad_token", "unk_token")}

    def _text(self, given: dict[str, Any], generate: bool, shows_generation: bool = False) -> str:
        try:
            return self._program.render(
                shows_generation,
                add_generation_prompt=generate,
                **self._tokens,
                **given,
            )
        except Exception as error:
            roles = [str(turn["role"]) for turn in given["messages"]]
            shown = ", ".join(roles[:8]) + (", …" if len(roles) > 8 else "")
            raise TemplateError(f"template {self.name}: can't render a conversation of {shown}: {error}") from error


def _pieces(segments: Sequence[Segment], filled: dict[Slot, str], weights: Sequence[float]) -> list[Piece]:
    return [
        Piece(
            text if slot is None else filled[slot],
            weights[answer] if answer >= 0 else 0.0,
            control=slot is None,
            cut=cut,
        )
        for text, slot, answer, cut in segments
    ]


def _as_written(segments: Sequence[Segment], values: dict[Slot, str], real: str) -> dict[Slot, str]:
    """The contents as they stand in the real text: some templates trim some of them, or write a tool's result as JSON."""
    written, place = dict(values), 0
    for number, segment in enumerate(segments):
        if segment.slot is None:
            place += len(segment.text)
            continue
        after = segments[number + 1] if number + 1 < len(segments) else None
        follows = after.text if after is not None and after.slot is None else ""
        for form in _forms(values[segment.slot]):
            ends = after is None and place + len(form) == len(real)
            if real.startswith(form + follows, place) and (after is not None or ends):
                written[segment.slot] = form
                break
        place += len(written[segment.slot])
    return written


def _forms(content: str) -> Iterator[str]:
    yield from (content, content.strip(), content.lstrip(), content.rstrip(), content.strip("\n"))
    yield json.dumps(content, ensure_ascii=False)[1:-1]


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> JinjaTemplate:
    if settings.markers:
        raise TemplateError(
            "template.markers: a Jinja template has none; use template.name: mftcoder for other markers"
        )
    is_file = settings.name.endswith((".jinja", ".jinja2", ".j2"))
    source = read_jinja(settings.name) if is_file else own_template(tokenizer)
    if source is None:
        raise TemplateError(
            f"template.name: {settings.name}: the tokenizer in {tokenizer.folder} has no chat template; use mftcoder, chatml, or a "
            ".jinja file"
        )
    name = settings.name if is_file else "tokenizer"
    return JinjaTemplate(name, source, tokenizer, settings.system, Program(source, name))
