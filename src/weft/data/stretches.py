"""Pieces to ids in bulk: a rendered conversation is cut where the model starts and stops to write and at control tokens; the
stretches between are encoded apart, those of thousands of conversations in one call, and laid together again without a loop.

    pieces    <s>human⏎ What is 1+1? ⏎<s>bot⏎ | 2⏎</s> | ⏎<s>human⏎ …
    stretches <s> [human⏎What is 1+1?⏎] <s> [bot⏎] | [2⏎] </s> | [⏎] <s> [human⏎ …]

So the ids of a prompt are always a prefix of the ids of the conversation, the mask falls on token borders by construction, and a
`</s>` in a user's text stays text. Suffixes: G segments (a stretch or a control token) of all samples, S samples, T tokens.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.data.encoders import Encoder
from weft.types import Piece, Tokens

Ints = npt.NDArray[np.int64]

_WHITE = "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
"""What `lstrip` and `rstrip` of an added token take away: Unicode's white space, which is not quite Python's."""


_MOST_WRITTEN = 4096
"""Templates write few different texts; one that writes more is not remembered whole."""


class ControlToken(NamedTuple):
    """A control token: its id, and whether it takes away white space on its left and on its right."""

    id: int
    lstrip: bool
    rstrip: bool


class Encoded(NamedTuple):
    """A sample's tokens: ids_T int32 and weight_T float32 (0: context)."""

    ids_T: npt.NDArray[np.int32]
    weight_T: npt.NDArray[np.float32]


class EncodedBatch(NamedTuple):
    """S samples one after another: those of sample s are `ids_T[begin_S[s] : begin_S[s + 1]]` (begin_S has S + 1 entries).

    `num_bytes_S`: UTF-8 bytes of their texts. `faults`: samples whose text this tokenizer can't encode apart, and why.
    """

    ids_T: npt.NDArray[np.int32]
    weight_T: npt.NDArray[np.float32]
    begin_S: Ints
    num_bytes_S: Ints
    faults: Mapping[int, str]

    def sample(self, index: int) -> Encoded:
        piece = slice(int(self.begin_S[index]), int(self.begin_S[index + 1]))
        return Encoded(self.ids_T[piece], self.weight_T[piece])


@dataclass(frozen=True)
class Cutter:
    """Cuts pieces into stretches and control tokens, for a tokenizer that

    writes `sentinel` ids in front of a stretch that goes on inside a text ('' where none is needed: see `Tokenizer`), and takes
    text behind a control token as going on (`goes_on_after_control`) or as beginning.
    """

    control: Mapping[str, ControlToken]
    sentinel: str
    sentinel_ids: tuple[int, ...]
    goes_on_after_control: bool
    _parts: dict[str, tuple[str | ControlToken, ...]] = field(default_factory=dict, compare=False)

    def parts(self, text: str) -> tuple[str | ControlToken, ...]:
        """Text that a template wrote, split at its control tokens; templates write the same few texts again and again."""
        found = self._parts.get(text)
        if found is None:
            names = sorted(self.control, key=len, reverse=True)
            split = re.split("(" + "|".join(map(re.escape, names)) + ")", text) if names else [text]
            found = tuple(self.control.get(part, part) for part in split if part)
            if len(self._parts) < _MOST_WRITTEN:
                self._parts[text] = found
        return found

    def encode(self, samples: Sequence[Sequence[Piece] | Tokens], encoder: Encoder) -> EncodedBatch:
        """The tokens of rendered samples; one that was tokenized elsewhere is taken as it is."""
        stretches = _Stretches(self)
        for sample in samples:
            if isinstance(sample, Tokens):
                stretches.add_tokens(sample)
            else:
                stretches.add(sample)
        return stretches.encoded(encoder)


class _Written(NamedTuple):
    """What a template wrote: text before its first control token, that and all up to the last, and text after it."""

    before: str
    refs: list[int]
    after: str
    strips: bool


class _Stretches:
    """Collects the segments of many samples. A segment refers to a text (0, 1, …) or a single id (-1 - id)."""

    def __init__(self, cutter: Cutter) -> None:
        self._cutter = cutter
        self._begin: dict[str, int] = {}  # stretches that begin a text, and their numbers
        self._goes_on: dict[str, int] = {}
        self._written: dict[str, _Written] = {}
        self._texts: list[str] = []
        self._num_bytes: list[int] = []
        self._refs: list[int] = []
        self._weights: list[float] = []
        self._counts: list[int] = []
        self._faults: dict[int, str] = {}

    def add(self, pieces: Sequence[Piece]) -> None:
        refs, weights, written = self._refs, self._weights, self._written
        begin, going_on, before = self._begin, self._goes_on, len(self._refs)
        text, weight, goes_on, strip_next = "", 0.0, False, False
        for piece_text, piece_weight, is_control, cut in pieces:
            if cut or piece_weight != weight:
                if text:
                    number = (going_on if goes_on else begin).get(text)
                    refs.append(self._new(text, goes_on) if number is None else number)
                    weights.append(weight)
                    text, goes_on = "", True
                weight = piece_weight
            if not is_control:
                text += piece_text.lstrip(_WHITE) if strip_next else piece_text
                strip_next = strip_next and not text
                continue
            known = written.get(piece_text) or self._learn(piece_text)
            if known.strips or strip_next:
                text, goes_on, strip_next = self._add_stripping(piece_text, weight, text, goes_on, strip_next)
                continue
            text += known.before
            if known.refs:
                if text:
                    number = (going_on if goes_on else begin).get(text)
                    refs.append(self._new(text, goes_on) if number is None else number)
                    weights.append(weight)
                refs += known.refs
                weights += [weight] * len(known.refs)
                text, goes_on = known.after, self._cutter.goes_on_after_control
        if text:
            number = (going_on if goes_on else begin).get(text)
            refs.append(self._new(text, goes_on) if number is None else number)
            weights.append(weight)
        self._counts.append(len(refs) - before)

    def _learn(self, text: str) -> _Written:
        """Text that a template wrote as its control tokens, the stretches between them, and what stands before and after."""
        parts = self._cutter.parts(text)
        places = [place for place, part in enumerate(parts) if not isinstance(part, str)]
        strips = any(part.lstrip or part.rstrip for part in parts if not isinstance(part, str))
        refs = [
            self._number_of(part, self._cutter.goes_on_after_control) if isinstance(part, str) else -1 - part.id
            for part in (parts[places[0] : places[-1] + 1] if places and not strips else ())
        ]
        before, after = parts[: places[0]] if places else parts, parts[places[-1] + 1 :] if places else ()
        known = _Written("".join(map(str, before)), refs, "".join(map(str, after)), strips)
        if len(self._written) < _MOST_WRITTEN:
            self._written[text] = known
        return known

    def _add_stripping(
        self, piece: str, weight: float, text: str, goes_on: bool, strip_next: bool
    ) -> tuple[str, bool, bool]:
        """The same part by part, for control tokens that take away white space around them."""
        for part in self._cutter.parts(piece):
            if isinstance(part, str):
                text += part.lstrip(_WHITE) if strip_next else part
                strip_next = strip_next and not text
                continue
            if part.lstrip:
                text = text.rstrip(_WHITE)
            if text:
                self._refs.append(self._number_of(text, goes_on))
                self._weights.append(weight)
                text = ""
            self._refs.append(-1 - part.id)
            self._weights.append(weight)
            goes_on, strip_next = self._cutter.goes_on_after_control, part.rstrip
        return text, goes_on, strip_next

    def _number_of(self, text: str, goes_on: bool) -> int:
        """The number of a stretch, which is encoded but once in a batch."""
        number = (self._goes_on if goes_on else self._begin).get(text)
        return self._new(text, goes_on) if number is None else number

    def _new(self, text: str, goes_on: bool) -> int:
        number = len(self._texts)
        try:
            num_bytes = len(text) if text.isascii() else len(text.encode())
        except UnicodeEncodeError:
            self._faults[len(self._counts)] = "half of a surrogate pair is no character"
            return self._number_of("", goes_on)
        (self._goes_on if goes_on else self._begin)[text] = number
        self._texts.append(self._cutter.sentinel + text if goes_on else text)
        self._num_bytes.append(num_bytes)
        return number

    def add_tokens(self, tokens: Tokens) -> None:
        self._refs += [-1 - number for number in tokens.ids]
        self._weights += tokens.weights
        self._counts.append(len(tokens.ids))

    def encoded(self, encoder: Encoder) -> EncodedBatch:
        flat, offsets = encoder.encode(self._texts)
        start_N, length_N = offsets[:-1].copy(), np.diff(offsets)
        broken = self._take_sentinels_off(flat, start_N, length_N)
        ref_G = np.array(self._refs, dtype=np.int64)
        is_id_G = ref_G < 0
        singles = (-1 - ref_G[is_id_G]).astype(np.int32)
        start_G, length_G = np.empty_like(ref_G), np.ones_like(ref_G)
        start_G[is_id_G] = len(flat) + np.arange(len(singles))
        start_G[~is_id_G] = start_N[ref_G[~is_id_G]]
        length_G[~is_id_G] = length_N[ref_G[~is_id_G]]
        end_G = np.cumsum(length_G)
        total = int(end_G[-1]) if len(end_G) else 0
        place_T = np.repeat(start_G - (end_G - length_G), length_G) + np.arange(total)
        ids_T = np.concatenate([flat, singles])[place_T]
        weight_T = np.repeat(np.array(self._weights, dtype=np.float32), length_G)
        last_S = np.cumsum(self._counts, dtype=np.int64)  # segments before the end of each sample
        begin_S = np.zeros(len(last_S) + 1, dtype=np.int64)
        begin_S[1:] = np.concatenate([np.zeros(1, dtype=np.int64), end_G])[last_S]
        faults = dict(self._faults)
        if broken:
            sample_G = np.repeat(np.arange(len(self._counts)), self._counts)
            for number in broken:
                shown = self._texts[number][len(self._cutter.sentinel) :][:40]
                for sample in sample_G[ref_G == number].tolist():
                    faults.setdefault(sample, f"{shown!r} can't be encoded in the middle of a text with this tokenizer")
        bytes_G = np.zeros_like(ref_G)
        bytes_G[~is_id_G] = np.array(self._num_bytes, dtype=np.int64)[ref_G[~is_id_G]]
        num_bytes_S = np.diff(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(bytes_G)])[np.append(0, last_S)])
        return EncodedBatch(ids_T, weight_T, begin_S, num_bytes_S, faults)

    def _take_sentinels_off(self, flat: npt.NDArray[np.int32], start_N: Ints, length_N: Ints) -> list[int]:
        """Moves the starts of stretches that go on behind their sentinel; gives those that merged with it."""
        alone = np.array(self._cutter.sentinel_ids, dtype=np.int32)
        if not len(alone) or not self._goes_on:
            return []
        number_N = np.fromiter(self._goes_on.values(), dtype=np.int64, count=len(self._goes_on))
        place_NA = np.minimum(start_N[number_N][:, None] + np.arange(len(alone)), max(0, len(flat) - 1))
        whole_N = (flat[place_NA] == alone).all(axis=1) & (length_N[number_N] >= len(alone))
        start_N[number_N] += len(alone)
        length_N[number_N] = np.maximum(length_N[number_N] - len(alone), 0)
        broken: list[int] = number_N[~whole_N].tolist()
        return broken
