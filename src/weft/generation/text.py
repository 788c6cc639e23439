"""Between text and ids on either side of an answer: the prompt's ids, and the answer's text, whole or as it grows.

An answer goes on inside a text, so its ids are decoded behind a context: SentencePiece tokenizers take a space off the first word
of a text, and would take it off the answer. The context is a letter, whose text is then taken off again.

    training   <s>bot⏎ | ▁2 ⏎ </s>      encoded behind a sentinel
    answer              ▁2 ⏎ </s>       decode([▁a ▁2]) = "a 2", less "a", less the template's "⏎": " 2"

(A template that begins answers with a space, such as Llama-2's, has that space taken off too: it is no part of the answer.)
"""

from __future__ import annotations

from collections.abc import Sequence

from weft.data.tokens import Tokenizer
from weft.errors import DataError
from weft.generation.model import Loaded
from weft.types import JsonObject, Message, Piece

_LETTER = "a"
_HALF = "\ufffd"
"""What a decoder writes for bytes that are not, or not yet, a character."""


def prompt_ids(
    loaded: Loaded,
    messages: Sequence[Message],
    tools: Sequence[JsonObject] = (),
    documents: Sequence[JsonObject] = (),
    continue_final: bool = False,
) -> list[int]:
    """The ids that the model is shown before it answers; a document (or one with a gap) is shown as it is, to be gone on with.

    `continue_final`: the last message is an answer that is only begun.
    """
    if not messages:
        raise DataError("there is no message to answer")
    ids = loaded.tokenizer.encode_one(loaded.template.prompt(messages, tools, documents, continue_final))
    if not ids:
        raise DataError("the prompt is empty: there is nothing to go on from")
    return ids


class AnswerText:
    """The text of one answer, from its ids. Control tokens are not shown."""

    def __init__(self, loaded: Loaded, prompt: Sequence[int]) -> None:
        self._tokenizer = loaded.tokenizer
        self._stop_ids = frozenset(loaded.stop_ids)
        self._answer_start, self._answer_end = loaded.answer_start, loaded.answer_end
        self._context = _context(loaded.tokenizer, prompt[-1])

    def of(self, ids: Sequence[int], stopped: bool) -> str:
        """The whole answer: what comes before the stop token, less what the template adds there and at its beginning."""
        text = self._after(self._context, self._before_stop(ids)).removeprefix(self._answer_start)
        return text.removesuffix(self._answer_end) if stopped else text

    def _before_stop(self, ids: Sequence[int]) -> list[int]:
        end = next((i for i, number in enumerate(ids) if number in self._stop_ids), len(ids))
        return list(ids[:end])

    def _after(self, context: Sequence[int], ids: Sequence[int]) -> str:
        before = self._tokenizer.decode(context, skip_control=True)
        return self._tokenizer.decode([*context, *ids], skip_control=True)[len(before) :]


class TextStream(AnswerText):
    """The same text piece by piece. `push` gives what is certain, `finish` the rest; a character is never broken."""

    def __init__(self, loaded: Loaded, prompt: Sequence[int]) -> None:
        super().__init__(loaded, prompt)
        self._ids: list[int] = []
        self._held = ""
        self._begins = bool(self._answer_start)

    def push(self, number: int) -> str:
        """The text that one more id (no stop token) makes certain, often nothing."""
        self._ids.append(number)
        grown = self._after(self._context, self._ids)
        if not grown or grown.endswith(_HALF):
            return ""
        self._context, self._ids = self._ids, []
        text = self._held + grown
        if self._begins and self._answer_start.startswith(text) and text != self._answer_start:
            self._held = text
            return ""
        text = self._less_start(text)
        self._held = _open_end(text, self._answer_end)
        return text[: len(text) - len(self._held)]

    def finish(self, stopped: bool) -> str:
        """What is left at the answer's end."""
        text = self._less_start(self._held + (self._after(self._context, self._ids) if self._ids else ""))
        self._held, self._ids = "", []
        return text.removesuffix(self._answer_end) if stopped else text

    def _less_start(self, text: str) -> str:
        """The text less what the template begins answers with, where this is the answer's beginning."""
        begins, self._begins = self._begins, False
        return text.removeprefix(self._answer_start) if begins else text


def _open_end(text: str, ending: str) -> str:
    """The longest end of a text that may be the beginning of the template's ending."""
    for length in range(min(len(text), len(ending)), 0, -1):
        if ending.startswith(text[-length:]):
            return text[-length:]
    return ""


def _context(tokenizer: Tokenizer, last: int) -> list[int]:
    """The ids to decode an answer behind: a letter, or nothing where training encoded the answer as the beginning of a text."""
    letter = Piece(_LETTER, 0.0, False)
    alone = tokenizer.encode_one([letter])
    if last not in tokenizer.control_ids:
        return alone
    control = Piece(tokenizer.backend.id_to_token(last) or "", 0.0, True)
    return [] if tokenizer.encode_one([control, letter])[1:] == alone else alone
