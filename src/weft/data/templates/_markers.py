"""Templates that are nothing but a marker before and a closing after each message; rendered without Jinja."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from weft.data.templates import TrainOn, document, jinja_with_system, message_weights, with_system
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import Message, Piece


@dataclass(frozen=True)
class MarkerTemplate:
    """`opening[role] + content + closing[role]`; an answer ends with `answer_end + stop`, trained, then `after_answer`."""

    name: str
    tokenizer: Tokenizer
    opening: Mapping[str, str]
    closing: Mapping[str, str]
    answer_end: str
    stop: str
    after_answer: str
    system: str | None = None

    @property
    def fingerprint(self) -> str:
        parts = [dict(self.opening), dict(self.closing), self.answer_end, self.stop, self.after_answer, self.system]
        return hashlib.sha256(json.dumps([self.name, *parts], sort_keys=True).encode()).hexdigest()

    def render(self, messages: Sequence[Message], train_on: TrainOn) -> list[Piece]:
        plain = document(messages, self.tokenizer)
        if plain is not None:
            return plain
        messages = with_system(messages, self.system)
        pieces: list[Piece] = []
        for message, weight in zip(messages, message_weights(messages, train_on), strict=True):
            answers = message.role == "assistant"
            pieces.append(Piece(self._open(message.role), 0.0, True))
            pieces.append(Piece(message.content, weight, False, cut=answers))
            if answers:
                pieces.append(Piece(self.answer_end + self.stop, weight, True))
                pieces.append(Piece(self.after_answer, 0.0, True, cut=True))
            else:
                pieces.append(Piece(self.closing[message.role], 0.0, True))
        return pieces

    def prompt(self, messages: Sequence[Message]) -> list[Piece]:
        return [*self.render(messages, "all_answers"), Piece(self._open("assistant"), 0.0, True)]

    def _open(self, role: str) -> str:
        if role not in self.opening:
            raise TemplateError(
                f"template {self.name} has no marker for the role {role!r}; it knows {', '.join(self.opening)}"
            )
        return self.opening[role]

    def jinja(self) -> str:
        branches = []
        for number, role in enumerate(self.opening):
            condition = ("if" if number == 0 else "elif") + f" message['role'] == {role!r}"
            after = self.answer_end + self.stop + self.after_answer if role == "assistant" else self.closing[role]
            branches.append(f"{{%- {condition} %}}{{{{ {self.opening[role]!r} + message['content'] + {after!r} }}}}")
        loop = "{%- for message in messages %}" + "".join(branches) + "{%- endif %}{%- endfor %}"
        start = self.opening["assistant"]
        prompt = f"{{%- if add_generation_prompt %}}{{{{ {start!r} }}}}{{%- endif %}}"
        return jinja_with_system(loop, self.system) + prompt
