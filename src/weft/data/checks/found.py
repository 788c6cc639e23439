"""What the checks are given and what they say; the one place that reaches into a store's columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.config.settings import Settings
from weft.data.prepare import Prepared
from weft.data.read import read_task
from weft.data.store import Split, Store
from weft.data.stretches import Encoded
from weft.types import Conversation, ProgressHook, Reject, silent

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Words64 = npt.NDArray[np.uint64]

MAX_EXAMPLES = 5
SPLITS: tuple[Split, ...] = ("train", "validation", "test")


class Example(NamedTuple):
    """One thing that was found: what it is, and the rows that it is about with what stands in them."""

    what: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Check:
    """One property of the data and whether it holds. `careful` marks what is no fault, but worth a look."""

    name: str
    ok: bool
    detail: str
    careful: bool = False
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Material:
    """What every check looks at."""

    settings: Settings
    prepared: Prepared
    progress: ProgressHook = silent

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.prepared.stores

    def split(self, store: Store, which: Split) -> Ints:
        return store.split(which, self.settings.data.validation, self.settings.data.test)

    def side_S(self, store: Store) -> npt.NDArray[np.int8]:
        """The number of each sample's split in SPLITS."""
        side_S = np.zeros(len(store), dtype=np.int8)
        for number, which in enumerate(SPLITS[1:], 1):
            side_S[self.split(store, which)] = number
        return side_S

    def text(self, store: Store, index: int, most: int = 240) -> str:
        """The beginning of a sample's text."""
        ids = store.sample(index).ids_T[: most * 4].tolist()
        text = self.prepared.tokenizer.decode(ids, skip_control=True)
        return text if len(text) <= most else text[:most] + "…"

    def example(self, what: str, samples: Sequence[tuple[Store, int]]) -> Example:
        return Example(what, tuple((store.name(index), self.text(store, index)) for store, index in samples))


class Flat(NamedTuple):
    """Some samples of a store, one after another: all ids, all weights, where each sample starts; `first` is the first one's number."""

    first: int
    ids_T: npt.NDArray[np.int32]
    weight_T: npt.NDArray[np.float32]
    offsets: Ints

    def sample_of(self, place_T: Ints) -> Ints:
        """The samples that hold these places."""
        return np.unique(np.searchsorted(self.offsets, place_T, side="right") - 1) + self.first


def flats(store: Store) -> Iterator[Flat]:
    """All tokens of a store, a few thousand samples at a time; views of the mapped file."""
    first = 0
    for ids, weights, offsets in store.flat:
        yield Flat(first, ids, weights, offsets)
        first += len(offsets) - 1


class Pair(NamedTuple):
    """A stored sample beside the conversation that it came from."""

    store: Store
    number: int
    conversation: Conversation
    encoded: Encoded

    @property
    def name(self) -> str:
        return self.store.name(self.number)


def pairs(settings: Settings, store: Store, rows: int | None = None) -> Iterator[Pair]:
    """Stored samples beside their conversations, from the first `rows` rows of the source (None: all); both lie in the same order."""
    index = 0
    for number, item in enumerate(read_task(store.task, settings.tasks[store.task])):
        if index == len(store) or number == rows:
            return
        if not isinstance(item, Reject) and item.id.of(store.task) == store.name(index):
            yield Pair(store, index, item.conversation, store.sample(index))
            index += 1


def share(part: float, whole: float) -> str:
    """A share in words: `12 of 340 (3.5 %)`."""
    return f"{part:,.0f} of {whole:,.0f} ({100 * part / whole if whole else 0:.3g} %)"
