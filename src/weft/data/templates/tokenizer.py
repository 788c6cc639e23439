"""A Jinja chat template (the tokenizer's own, or a file), with its mask derived and verified for every conversation.

The one idea: render the conversation once with a unique placeholder for each content; what stands between the placeholders is
what the template writes (cached by the sequence of roles). Then render the real conversation and require that the template's own
text with the real contents in it is exactly that; and that what stands before each trained answer is exactly the prompt that
generation will show. Whatever can't be proven so is refused, with the first place that differs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from weft.config.settings import TemplateSettings
from weft.data.templates import (
    TrainOn,
    document,
    jinja_with_system,
    message_weights,
    own_template,
    read_jinja,
    with_system,
)
from weft.data.templates._sandbox import Program
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import Message, Piece

_MARK = "\u2997{}\u2998"  # tortoise-shell brackets around a number: no template writes them, none trims them


class _Shape(NamedTuple):
    """The literals around a sequence of roles; for an answer i: where in literals[i] the prompt ends (`starts`), and how much of
    literals[i + 1] belongs to the answer, its stop token the last of it (`ends`)."""

    literals: list[str]
    starts: list[int]
    ends: list[int]
    stop: str


@dataclass(frozen=True)
class JinjaTemplate:
    """A sandboxed Jinja template with the globals that Transformers gives to chat templates."""

    name: str
    source: str
    tokenizer: Tokenizer
    system: str | None
    _program: Program = field(compare=False)
    _skeletons: dict[tuple[tuple[str, ...], bool], list[str]] = field(default_factory=dict, compare=False)
    _shapes: dict[tuple[str, ...], _Shape] = field(default_factory=dict, compare=False)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"jinja\0{self.source}\0{self.system}".encode()).hexdigest()

    @property
    def stop(self) -> str:
        """The control token that ends an answer."""
        return self._shape(("user", "assistant")).stop

    @property
    def answer_end(self) -> str:
        """What the template writes between an answer and its stop token."""
        ending, stop = self._ending(self._skeleton(("user", "assistant"), generate=False)[2])
        return ending.removesuffix(stop)

    def jinja(self) -> str:
        return jinja_with_system(self.source, self.system)

    def render(self, messages: Sequence[Message], train_on: TrainOn) -> list[Piece]:
        plain = document(messages, self.tokenizer)
        if plain is not None:
            return plain
        messages = with_system(messages, self.system)
        weights = message_weights(messages, train_on)
        return self._pieces(messages, weights, self._shape(tuple(m.role for m in messages)))

    def prompt(self, messages: Sequence[Message]) -> list[Piece]:
        messages = with_system(messages, self.system)
        roles = tuple(m.role for m in messages)
        shape = self._shape(roles)
        shape = _Shape(self._skeleton(roles, generate=True), shape.starts, shape.ends, shape.stop)
        return self._pieces(messages, message_weights(messages, "all_answers"), shape, generate=True)

    def _pieces(
        self, messages: Sequence[Message], weights: Sequence[float], shape: _Shape, generate: bool = False
    ) -> list[Piece]:
        contents = self._verified_contents(messages, shape.literals, generate)
        pieces: list[Piece] = []
        weight_before, used = 0.0, 0  # of the literal before message i: what an answer before it has taken
        for i, (literal, content) in enumerate(zip(shape.literals, [*contents, None], strict=True)):
            start = shape.starts[i] if content is not None else len(literal)
            pieces.append(Piece(literal[:used], weight_before, True))
            pieces.append(Piece(literal[used:start], 0.0, True, cut=used > 0))
            if content is None:
                break
            answers = messages[i].role == "assistant"
            pieces.append(Piece(literal[start:], weights[i], True, cut=answers))
            pieces.append(Piece(content, weights[i], False, cut=answers and start == len(literal)))
            weight_before, used = (weights[i], shape.ends[i]) if answers else (0.0, 0)
        return [piece for piece in pieces if piece.text or piece.cut]

    def _verified_contents(self, messages: Sequence[Message], literals: Sequence[str], generate: bool) -> list[str]:
        """The contents as the template writes them (some templates trim them), proven against the real text."""
        real = self._text(messages, generate)
        contents = [m.content for m in messages]
        for written in (contents, [c.strip() for c in contents]):
            if _fill(literals, written) == real:
                return written
        expected = _fill(literals, contents)
        place = next(
            (i for i, (a, b) in enumerate(zip(expected, real, strict=False)) if a != b), min(len(expected), len(real))
        )
        raise TemplateError(
            f"template {self.name}: the text depends on the contents in a way that can't be verified; at character {place} "
            f"it writes {real[place : place + 40]!r} where {expected[place : place + 40]!r} was expected"
        )

    def _shape(self, roles: tuple[str, ...]) -> _Shape:
        """Where answers start and end in the template's own text for this sequence of roles; worked out and verified once."""
        if roles not in self._shapes:
            literals = self._skeleton(roles, generate=False)
            starts, ends, stop = [len(literal) for literal in literals[:-1]], [0] * len(roles), self.tokenizer.eos_token
            for i, role in enumerate(roles):
                if role == "assistant":
                    starts[i] = self._prompt_end(roles, literals, i)
                    ending, stop = self._ending(literals[i + 1])
                    ends[i] = len(ending)
            self._shapes[roles] = _Shape(literals, starts, ends, stop)
        return self._shapes[roles]

    def _skeleton(self, roles: tuple[str, ...], generate: bool) -> list[str]:
        """The template's own text around each content: len(roles) + 1 literals."""
        key = (roles, generate)
        if key not in self._skeletons:
            marks = [_MARK.format(i) for i in range(len(roles))]
            rest = self._text([Message(role, mark) for role, mark in zip(roles, marks, strict=True)], generate)
            literals = []
            for i, mark in enumerate(marks):
                if rest.count(mark) != 1:
                    raise TemplateError(
                        f"template {self.name}: the content of message {i + 1} ({roles[i]}) appears {rest.count(mark)} times "
                        f"or out of order in a conversation of {', '.join(roles)}"
                    )
                before, _, rest = rest.partition(mark)
                literals.append(before)
            self._skeletons[key] = [*literals, rest]
        return self._skeletons[key]

    def _prompt_end(self, roles: tuple[str, ...], literals: Sequence[str], i: int) -> int:
        """How much of the text before answer i generation shows; the rest the model writes itself, so it is trained."""
        shown = self._skeleton(roles[:i], generate=True)
        if shown[:-1] == list(literals[:i]) and literals[i].startswith(shown[-1]):
            return len(shown[-1])
        place = next((k for k, (a, b) in enumerate(zip(shown, literals, strict=False)) if a != b), 0)
        raise TemplateError(
            f"template {self.name}: the prompt before answer {i + 1} is not what training shows: generation writes "
            f"{shown[place]!r}, training {literals[place]!r}"
        )

    def _ending(self, after: str) -> tuple[str, str]:
        """The text behind an answer up to its stop token, and the stop token."""
        stop = self.tokenizer.first_control(after)
        if stop is None:
            raise TemplateError(
                f"template {self.name}: no control token ends an answer (it is followed by {after[:40]!r}), so the model could "
                "never learn to stop; use another template"
            )
        return after[: after.index(stop) + len(stop)], stop

    def _text(self, messages: Sequence[Message], generate: bool) -> str:
        try:
            return self._program.render(
                messages=[{"role": m.role, "content": m.content} for m in messages],
                add_generation_prompt=generate,
                bos_token=self.tokenizer.token("bos_token") or "",
                eos_token=self.tokenizer.token("eos_token") or "",
                pad_token=self.tokenizer.token("pad_token") or "",
                unk_token=self.tokenizer.token("unk_token") or "",
                tools=None,
                documents=None,
            )
        except Exception as error:
            roles = ", ".join(m.role for m in messages[:8]) + (", …" if len(messages) > 8 else "")
            raise TemplateError(f"template {self.name}: can't render a conversation of {roles}: {error}") from error


def _fill(literals: Sequence[str], contents: Sequence[str]) -> str:
    return literals[0] + "".join(content + after for content, after in zip(contents, literals[1:], strict=True))


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
