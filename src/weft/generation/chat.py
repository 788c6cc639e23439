"""A conversation that goes on: history, streaming, and room made for new turns by forgetting the oldest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from weft.errors import DataError
from weft.generation.decoding import Decoding
from weft.generation.model import Loaded
from weft.generation.stream import Stream
from weft.generation.text import AnswerText, TextStream, prompt_ids
from weft.log import logger
from weft.types import Message


class ChatSession:
    """Turns with one model. `messages` is the history; `notify` is told when old turns no longer fit."""

    def __init__(
        self,
        loaded: Loaded,
        system: str | None = None,
        decoding: Decoding | None = None,
        notify: Callable[[str], None] = logger.warning,
    ) -> None:
        self.messages: list[Message] = []
        self.stopped: str | None = None
        """How the last answer ended: stop, length, or interrupted."""
        self._loaded, self._decoding, self._notify = loaded, decoding or Decoding(), notify
        self._stream = Stream(loaded)
        self.reset(system)

    @property
    def reused_tokens(self) -> int:
        """How many tokens of the last prompt were found in the cache."""
        return self._stream.reused

    def reset(self, system: str | None = None) -> None:
        """Begin anew, with this system message or with none."""
        self.messages = [Message("system", system)] if system else []
        self.stopped = None
        self._stream.forget()

    def ask(self, text: str) -> Iterator[str]:
        """The answer to a user's turn, in pieces that never break a character.

        Whoever stops reading, or Ctrl-C, ends the answer there; what was written stays in the history. Raises DataError where the turn
        alone is too long for the model; the history is then as it was before.
        """
        self.messages.append(Message("user", text))
        return self._answer()

    def again(self) -> Iterator[str]:
        """Another answer to the last turn. Raises DataError where there is none."""
        if self.messages and self.messages[-1].role == "assistant":
            self.messages.pop()
        if not self.messages or self.messages[-1].role != "user":
            raise DataError("there is no turn to answer again")
        self._decoding = replace(self._decoding, seed=self._decoding.seed + 1)
        return self._answer()

    def _answer(self) -> Iterator[str]:
        try:
            prompt = self._fit()
        except DataError:
            self.messages.pop()
            raise
        limit = self._loaded.max_positions
        room = (
            self._decoding.max_new_tokens if limit is None else min(self._decoding.max_new_tokens, limit - len(prompt))
        )
        return self._write(prompt, replace(self._decoding, max_new_tokens=room))

    def _write(self, prompt: list[int], decoding: Decoding) -> Iterator[str]:
        ids: list[int] = []
        text = TextStream(self._loaded, prompt)
        self.stopped = "interrupted"
        try:
            for number in self._stream.answer(prompt, decoding):
                ids.append(number)
                if number in self._loaded.stop_ids:
                    self.stopped = "stop"
                elif piece := text.push(number):
                    yield piece
            if self.stopped != "stop":
                self.stopped = "length"
            if rest := text.finish(self.stopped == "stop"):
                yield rest
        finally:
            self._remember(prompt, ids)

    def _remember(self, prompt: list[int], ids: list[int]) -> None:
        answer = AnswerText(self._loaded, prompt).of(ids, stopped=self.stopped == "stop")
        if answer or self.stopped != "interrupted":
            self.messages.append(Message("assistant", answer))
        else:
            self.messages.pop()

    def _fit(self) -> list[int]:
        """The prompt's ids; where they leave no room for an answer, the oldest turns are dropped first."""
        prompt = prompt_ids(self._loaded, self.messages)
        limit = self._loaded.max_positions
        if limit is None:
            return prompt
        room = min(self._decoding.max_new_tokens, max(1, limit // 4))
        messages, dropped = self.messages, 0
        while len(prompt) + room > limit:
            shorter = _without_oldest(messages)
            if shorter is None:
                if len(prompt) < limit:
                    break
                raise DataError(
                    f"this turn is {len(prompt)} tokens long with its prompt, and the model reads {limit} in all; shorten it"
                )
            dropped += len(messages) - len(shorter)
            messages = shorter
            prompt = prompt_ids(self._loaded, messages)
        if dropped:
            self._notify(
                f"the conversation is longer than the {limit} tokens that the model reads: the oldest {dropped} messages are forgotten"
            )
            self.messages = messages
        return prompt


def _without_oldest(messages: list[Message]) -> list[Message] | None:
    """The messages less the oldest turn (a user's, and all up to the next user's); None where only one turn is left."""
    users = [i for i, message in enumerate(messages) if message.role == "user"]
    return None if len(users) < 2 else [*messages[: users[0]], *messages[users[1] :]]
