"""The token store: a task's samples in Arrow files, memory-mapped, keyed by the hash of everything that made them.

    <cache>/<task>-<key>/00000.arrow …    ids, weights, row, hash, bytes: one record batch per some thousand samples
                         ledger.json      what became of every row
                         rejects.jsonl    each row that is not used, with its reason and as it stood

How it is written is in `data/parts`.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.data.stretches import Encoded
from weft.errors import DataError
from weft.types import JsonValue, RowId, TaskLedger

Split: TypeAlias = Literal["train", "validation", "test"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

SIDE = "preference.arrow"
SCHEMA = pa.schema(
    [
        ("ids", pa.large_list(pa.int32())),
        ("weights", pa.large_list(pa.float32())),
        ("file", pa.int32()),
        ("line", pa.int64()),
        ("hash", pa.uint64()),
        ("bytes", pa.int64()),
    ]
)


@dataclass(frozen=True)
class Store:
    """A task's samples. Arrays over samples have the suffix S; the order is that of the source."""

    folder: Path
    task: str
    ledger: TaskLedger
    files: tuple[str, ...]
    num_parts: int = 1

    @classmethod
    def open(cls, folder: Path, task: str) -> Store:
        """The store in a folder. Raises DataError where it is not whole."""
        try:
            record = json.loads((folder / "ledger.json").read_text("utf-8"))
            files, num_parts = tuple(record.pop("files")), int(record.pop("parts"))
            return cls(folder, task, TaskLedger(**{**record, "task": task}), files, num_parts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a whole token store ({error}); delete it and prepare again") from error

    def __len__(self) -> int:
        return self.ledger.used

    @cached_property
    def _batches(self) -> list[Any]:
        if not self.ledger.used:
            return []
        batches = [batch for number in range(self.num_parts) for batch in self._mapped(number, "arrow")]
        rows = sum(batch.num_rows for batch in batches)
        if rows != self.ledger.used:
            raise DataError(
                f"{self.folder}: holds {rows} samples where its ledger says {self.ledger.used}; delete it and prepare again"
            )
        return batches

    def _mapped(self, number: int, suffix: str) -> list[Any]:
        """The record batches of one of a part's files, mapped."""
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.folder / f"{number:05d}.{suffix}")))
            return [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.folder}: not a whole token store ({error}); delete it and prepare again") from error

    @cached_property
    def _starts(self) -> Ints:
        return np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)

    @cached_property
    def flat(self) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], Ints]]:
        """Per record batch: all ids, all weights, and where each sample starts in them; views of the mapped file."""
        return [_flat(batch) for batch in self._batches]

    def _column(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        parts = [_view(batch.column(name), dtype) for batch in self._batches]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=dtype)

    @cached_property
    def length_S(self) -> Ints:
        """Tokens of each sample."""
        parts = [np.diff(offsets) for _, _, offsets in self.flat]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @cached_property
    def trained_S(self) -> Floats:
        """Sum of the token weights of each sample; its first token counts nothing, for nothing predicts it."""
        parts = [np.add.reduceat(weights, offsets[:-1], dtype=np.float64) for _, weights, offsets in self.flat]
        return np.concatenate(parts) if parts else np.zeros(0)

    @cached_property
    def hash_S(self) -> npt.NDArray[np.uint64]:
        """A 64-bit hash of what each sample's row means: equal rows have equal hashes."""
        return self._column("hash", np.uint64)

    @cached_property
    def num_bytes_S(self) -> Ints:
        """UTF-8 bytes of each sample's text, without control tokens."""
        return self._column("bytes", np.int64)

    @cached_property
    def preferences(self) -> Preferences | None:
        """The other side of each sample, where the task holds preference rows."""
        sides, first = [], 0
        for number in range(self.num_parts):
            if (self.folder / f"{number:05d}.{SIDE}").is_file():
                sides.append((first, self._mapped(number, SIDE)))
            first += sum(batch.num_rows for batch in self._mapped(number, "arrow"))
        return Preferences(sides) if sides else None

    @cached_property
    def _rows(self) -> tuple[Ints, Ints]:
        return self._column("file", np.int32), self._column("line", np.int64)

    def sample(self, index: int) -> Encoded:
        """The tokens of one sample, as views of the mapped file."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        ids, weights, offsets = self.flat[number]
        local = index - int(self._starts[number])
        piece = slice(int(offsets[local]), int(offsets[local + 1]))
        return Encoded(ids[piece], weights[piece])

    def name(self, index: int) -> str:
        """The public id of one sample, `task:file:line`."""
        file_S, line_S = self._rows
        return RowId(self.files[file_S[index]], int(line_S[index])).of(self.task)

    def split(self, which: Split, validation: float, test: float) -> Ints:
        """The samples of a split, by the hash of their rows: equal rows are always on the same side.

        `validation` below 1 is a share, else a number of rows. A task with at least two different rows has a validation row where
        a validation is asked for at all, and no task ever lacks training rows: a task of one row keeps it for training.
        """
        if (validation if validation < 1 else 0) + test >= 1:
            raise DataError(
                f"task {self.task}: data.validation {validation:g} and data.test {test:g} leave no row for training; lower them"
            )
        hash_S = self.hash_S
        if not len(hash_S):
            return np.zeros(0, dtype=np.int64)
        place_S = hash_S.astype(np.float64) / 2.0**64
        if validation >= 1:
            validation = min(validation / len(hash_S), 0.5)
        validation_S = place_S < validation
        test_S = (place_S > 1 - test) & ~validation_S
        lowest_S = hash_S == hash_S.min()
        if validation > 0 and not validation_S.any() and not lowest_S.all():
            validation_S = lowest_S
            test_S &= ~validation_S
        if (validation_S | test_S).all():
            train_S = hash_S == hash_S.max()
            validation_S, test_S = validation_S & ~train_S, test_S & ~train_S
        chosen = {"train": ~validation_S & ~test_S, "validation": validation_S, "test": test_S}[which]
        return np.flatnonzero(chosen)


class Preferences:
    """The rejected answers of a task's samples and whether each sample's own answer is liked; to be trained on by methods for pairs."""

    def __init__(self, parts: list[tuple[int, list[Any]]]) -> None:
        """`parts`: the first sample of each part that has preference rows, and its record batches, one row for each sample."""
        self._starts: list[int] = []
        self._batches: list[Any] = []
        for first, batches in parts:
            before = first
            for batch in batches:
                self._starts.append(before)
                self._batches.append(batch)
                before += batch.num_rows

    def _place(self, index: int) -> tuple[Any, int] | None:
        number = bisect_right(self._starts, index) - 1
        if number < 0 or index - self._starts[number] >= self._batches[number].num_rows:
            return None
        return self._batches[number], index - self._starts[number]

    def rejected(self, index: int) -> Encoded:
        """The same conversation with the answer that was not preferred; no token where there is none."""
        place = self._place(index)
        if place is None:
            return Encoded(np.zeros(0, dtype=np.int32), np.zeros(0, dtype=np.float32))
        ids, weights, offsets = _flat(place[0])
        piece = slice(int(offsets[place[1]]), int(offsets[place[1] + 1]))
        return Encoded(ids[piece], weights[piece])

    def desirable(self, index: int) -> bool:
        """Whether the sample's own answer is liked; False for the disliked rows of a set with labels."""
        place = self._place(index)
        return True if place is None else bool(place[0].column("desirable")[place[1]].as_py())


def _flat(batch: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], Ints]:
    """All ids, all weights, and where each sample starts in them; views of the mapped file."""
    return (
        _view(batch.column("ids").values, np.int32),
        _view(batch.column("weights").values, np.float32),
        _view(batch.column("ids").offsets, np.int64),
    )


def _view(array: Any, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """An Arrow array of numbers as numpy sees the mapped file. (Arrow's own `to_numpy` imports pandas where it is installed.)"""
    if not len(array):
        return np.zeros(0, dtype=dtype)
    size = np.dtype(dtype).itemsize
    return np.frombuffer(array.buffers()[1], dtype=dtype, count=len(array), offset=array.offset * size)


def read_rejects(store: Store) -> Iterator[dict[str, JsonValue]]:
    """The rows that are not used: {"row", "reason", "detail", "raw"}."""
    with (store.folder / "rejects.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield cast("dict[str, JsonValue]", json.loads(line))
