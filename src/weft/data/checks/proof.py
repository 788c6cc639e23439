"""One sample against the raw conversation it came from: what is trained, where control tokens stand, what a prompt's ids are.

A proof compares two ways that share little: what the store holds, decoded; and what the raw conversation says was answered. A
sample that was cut is compared with the whole one, encoded again, which is then proven in its place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from weft.config.settings import Settings
from weft.data.checks.found import Ints, Pair
from weft.data.prepare import Prepared
from weft.data.stretches import Encoded
from weft.data.templates import Template, message_weights, with_system
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import FIM_ROLES, TEXT_ROLE, Conversation, Message, Piece

TRAINED = "trained text is the answers and their stop tokens"
STOPS = "every trained answer ends with a trained stop token"
CONTROL = "control tokens stand only where the template put them"
PROMPT = "a prompt's ids are what training shows before the answer"

Fault = tuple[str, str]


class Rendered(NamedTuple):
    """What the template writes for a conversation now: all of it, and the prompt before its last answer; or why it can't."""

    whole: list[Piece]
    prompt: list[Piece] | None
    fault: Fault | None


class _Run(NamedTuple):
    """A trained stretch as the template wrote it: all of its text, the part that is not the template's own, its weight."""

    text: str
    content: str
    weight: float


@dataclass(frozen=True)
class Prover:
    """Proves samples of one run's data."""

    settings: Settings
    prepared: Prepared

    @property
    def tokenizer(self) -> Tokenizer:
        return self.prepared.tokenizer

    @property
    def template(self) -> Template:
        return self.prepared.template

    @cached_property
    def control_ids(self) -> Ints:
        return np.array(sorted(self.tokenizer.control_ids), dtype=np.int64)

    @cached_property
    def pattern(self) -> re.Pattern[str] | None:
        names = sorted(self.tokenizer.control, key=len, reverse=True)
        return re.compile("|".join(map(re.escape, names))) if names else None

    def faults(self, pairs: Sequence[Pair]) -> Iterator[tuple[Pair, Fault]]:
        """What is wrong with some samples; their prompts are encoded in one call."""
        rendered = [self._rendered(pair) for pair in pairs]
        asked = [index for index, r in enumerate(rendered) if r.prompt is not None]
        encoded = self.tokenizer.encode([rendered[index].prompt or [] for index in asked])
        prompts = dict(zip(asked, (e.ids_T for e in encoded), strict=True))
        for index, (pair, r) in enumerate(zip(pairs, rendered, strict=True)):
            if pair.conversation.tokens is not None:
                yield from ((pair, fault) for fault in self._foreign_faults(pair))
                continue
            if r.fault is not None:
                yield pair, r.fault
            if not r.whole:
                continue
            whole, faults = self._whole(pair, r.whole)
            faults += [*self._trained_faults(pair, r.whole, whole), *self._control_faults(pair, r.whole, whole)]
            prompt = prompts.get(index)
            if prompt is not None and not np.array_equal(whole.ids_T[: len(prompt)], prompt):
                faults.append((PROMPT, "the prompt's ids differ"))
            yield from ((pair, fault) for fault in faults)

    def _rendered(self, pair: Pair) -> Rendered:
        conversation = pair.conversation
        if conversation.tokens is not None:
            return Rendered([], None, None)
        try:
            pieces = self._render(conversation, self.settings.tasks[pair.store.task].train_on)
        except TemplateError as error:
            return Rendered([], None, (TRAINED, str(error)))
        messages = conversation.messages
        if messages[-1].role != "assistant":
            return Rendered(pieces, None, None)
        try:
            return Rendered(
                pieces, self.template.prompt(messages[:-1], conversation.tools, conversation.documents), None
            )
        except TemplateError as error:
            return Rendered(pieces, None, (PROMPT, str(error)))

    def _render(self, conversation: Conversation, train_on: str) -> list[Piece]:
        return self.template.render(
            conversation.messages,
            "last_answer" if train_on == "last_answer" else "all_answers",
            conversation.tools,
            conversation.documents,
        )

    # -- samples that were cut, and those that were tokenized elsewhere -----------------------------------------------------------

    def _may_be_cut(self, pair: Pair) -> bool:
        return pair.store.ledger.cut > 0 and len(pair.encoded.ids_T) == self.settings.max_tokens

    def _whole(self, pair: Pair, pieces: Sequence[Piece]) -> tuple[Encoded, list[Fault]]:
        """The sample, or where it was cut the whole one, encoded again, with what is wrong with the cut."""
        if self._may_be_cut(pair):
            whole = self.tokenizer.encode([pieces])[0]
            whole = Encoded(whole.ids_T, _first_untrained(whole))
            if len(whole.ids_T) > len(pair.encoded.ids_T):
                is_text = pair.conversation.messages[0].role == TEXT_ROLE
                return whole, list(self._cut_faults(pair.encoded, whole, is_text))
        return pair.encoded, []

    def _foreign_faults(self, pair: Pair) -> Iterator[Fault]:
        assert pair.conversation.tokens is not None
        ids, weights = pair.conversation.tokens
        whole = Encoded(np.array(ids, dtype=np.int32), np.array(weights, dtype=np.float32))
        whole = Encoded(whole.ids_T, _first_untrained(whole))
        if self._may_be_cut(pair) and len(whole.ids_T) > len(pair.encoded.ids_T):
            yield from self._cut_faults(pair.encoded, whole, is_text=False)
        elif not _equal(pair.encoded, whole):
            yield TRAINED, "the ids or weights are not those of the row"

    def _cut_faults(self, encoded: Encoded, whole: Encoded, is_text: bool) -> Iterator[Fault]:
        """A cut document is the beginning of the whole, a cut conversation its end; an answer is trained whole or not at all."""
        number, longer = len(encoded.ids_T), len(whole.ids_T)
        head = number if is_text else int(np.isin(whole.ids_T[0], self.control_ids))
        kept = np.concatenate([np.arange(head), np.arange(longer - number + head, longer)])
        if not np.array_equal(encoded.ids_T, whole.ids_T[kept]):
            yield PROMPT, f"a cut sample is not the {'beginning' if is_text else 'end'} of the whole"
            return
        if ((encoded.weight_T != whole.weight_T[kept]) & (encoded.weight_T > 0)).any():
            yield TRAINED, "a cut sample trains what the whole one doesn't"
        elif is_text:
            if not np.array_equal(encoded.weight_T, whole.weight_T[kept]):
                yield TRAINED, "a cut document isn't trained as the whole one is"
        else:
            weight_T = np.zeros(longer, dtype=np.float32)
            weight_T[kept] = encoded.weight_T
            if any(0 < np.count_nonzero(weight_T[a:b]) < b - a for a, b in trained_runs(whole)):
                yield TRAINED, "a cut sample trains a part of an answer"

    # -- conversations and documents ----------------------------------------------------------------------------------------------

    def _answers(self, pair: Pair) -> list[tuple[Message, float]]:
        """What the conversation says is trained, with its weight."""
        messages: Sequence[Message] = pair.conversation.messages
        if messages[0].role in (TEXT_ROLE, *FIM_ROLES):
            roles = ("assistant", TEXT_ROLE)
            return [(m, 1.0 if m.weight is None else m.weight) for m in messages if m.role in roles and m.weight != 0]
        messages = with_system(messages, self.settings.template.system)
        weights = message_weights(messages, self.settings.tasks[pair.store.task].train_on)
        return [(m, w) for m, w in zip(messages, weights, strict=True) if w > 0]

    def _trained_faults(self, pair: Pair, pieces: Sequence[Piece], encoded: Encoded) -> Iterator[Fault]:
        ids = encoded.ids_T.tolist()
        answers, runs, expected = self._answers(pair), trained_runs(encoded), _piece_runs(pieces)
        if len(runs) != len(answers) or len(expected) != len(answers):
            yield TRAINED, f"{len(answers)} answers are trained, but the mask has {len(runs)} stretches"
        opens_trained = next((p.weight > 0 for p in pieces if p.text), False)
        is_gap = pair.conversation.messages[0].role in FIM_ROLES
        for (start, stop), run, (message, weight) in zip(runs, expected, answers, strict=False):
            first = 0 if start == 1 and opens_trained else start  # the very first token is never trained
            text = plain(self.tokenizer.decode(ids[first:stop]))
            if text != plain(run.text) and not self._loses_text(pieces, encoded):
                yield TRAINED, f"trained {text[:60]!r} instead of {plain(run.text)[:60]!r}"
            if not _says(run, message):
                yield TRAINED, f"trained {plain(run.content)[:60]!r}, the answer is {plain(message.content)[:60]!r}"
            wrong = encoded.weight_T[start:stop][np.abs(encoded.weight_T[start:stop] - weight) > 1e-6]
            if len(wrong):
                yield TRAINED, f"an answer's weight is {wrong[0]:g} instead of {weight:g}"
            yield from self._stop_faults(message, ids[stop - 1], is_gap)

    def _stop_faults(self, message: Message, last: int, is_gap: bool) -> Iterator[Fault]:
        if is_gap or message.tool_calls:  # these may end with a token of their own
            good = last in self.tokenizer.control_ids
        elif message.role == TEXT_ROLE:
            good = last == self.tokenizer.eos_id
        else:
            good = last == self.tokenizer.id_of(self.template.stop)
        if not good:
            wanted = f"{self.tokenizer.id_of(self.template.stop)} ({self.template.stop})"
            yield STOPS, f"an answer ends with token {last} instead of {wanted}"

    def _loses_text(self, pieces: Sequence[Piece], encoded: Encoded) -> bool:
        """Whether a text differs only because the tokenizer can't give it back: ids and mask are as encoded again."""
        again = self.tokenizer.encode([pieces])[0]
        return _equal(encoded, Encoded(again.ids_T, _first_untrained(again)))

    def _control_faults(self, pair: Pair, pieces: Sequence[Piece], encoded: Encoded) -> Iterator[Fault]:
        if self.pattern is None:
            return
        found, allowed = int(np.isin(encoded.ids_T, self.control_ids).sum()), self._control_count(pieces)
        if found != allowed:
            yield CONTROL, f"{found} control tokens where the template writes {allowed}"
            return
        messages = pair.conversation.messages
        if not any(self.pattern.search(m.content) or self.pattern.search(m.reasoning) for m in messages):
            return
        # The row spells control tokens: without them there must be just as many ids
        innocent = tuple(
            m._replace(content=self.pattern.sub("x", m.content), reasoning=self.pattern.sub("x", m.reasoning))
            for m in messages
        )
        try:
            expected = self._control_count(self._render(pair.conversation._replace(messages=innocent), "all_answers"))
        except TemplateError:
            return
        if found != expected:
            yield CONTROL, f"{found - expected} control tokens come from what was written in the row"

    def _control_count(self, pieces: Sequence[Piece]) -> int:
        assert self.pattern is not None
        return sum(len(self.pattern.findall(piece.text)) for piece in pieces if piece.control)


# -- small parts ------------------------------------------------------------------------------------------------------------------


def trained_runs(encoded: Encoded) -> list[tuple[int, int]]:
    """Stretches of positive weight. Two answers never touch: the template writes something between them."""
    trained_T = encoded.weight_T > 0
    change = np.flatnonzero(trained_T[1:] != trained_T[:-1]) + 1
    borders = [0, *change.tolist(), len(trained_T)] if len(trained_T) else []
    return [(a, b) for a, b in pairwise(borders) if trained_T[a]]


def _piece_runs(pieces: Sequence[Piece]) -> list[_Run]:
    runs: list[_Run] = []
    goes_on = False
    for piece in pieces:
        if not piece.text:
            continue
        if piece.weight > 0:
            content = "" if piece.control else piece.text
            if goes_on:
                runs[-1] = _Run(runs[-1].text + piece.text, runs[-1].content + content, piece.weight)
            else:
                runs.append(_Run(piece.text, content, piece.weight))
        goes_on = piece.weight > 0
    return runs


def _says(run: _Run, message: Message) -> bool:
    """Whether a trained stretch is this message's: its content (a template may leave out the thoughts before it), its calls."""
    said, content = plain(run.content), plain(message.content)
    if message.reasoning or message.tool_calls:
        return content in plain(run.text) and all(call.name in run.text for call in message.tool_calls)
    return said == content or (bool(said) and content.endswith(said))


def _first_untrained(encoded: Encoded) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    weight_T = np.array(encoded.weight_T, dtype=np.float32)
    weight_T[:1] = 0.0
    return weight_T


def _equal(a: Encoded, b: Encoded) -> bool:
    return np.array_equal(a.ids_T, b.ids_T) and np.array_equal(a.weight_T, b.weight_T)


def plain(text: str) -> str:
    """Text up to what tokenizers legitimately normalise: white space and composed characters."""
    return "".join((text if text.isascii() else unicodedata.normalize("NFC", text)).split())
