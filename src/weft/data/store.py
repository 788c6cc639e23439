"""The token store: a task's samples in Arrow files, memory-mapped, keyed by the hash of everything that made them.

    <cache>/<task>-<key>/00000.arrow …    ids, weights, row, hash, bytes: one record batch per some thousand samples
                         ledger.json      what became of every row
                         rejects.jsonl    each row that is not used, with its reason and as it stood

How it is written is in `data/parts`.
"""

from __future__ import annotations

import json
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
        batches = self._mapped("arrow")
        rows = sum(batch.num_rows for batch in batches)
        if rows != self.ledger.used:
            raise DataError(
                f"{self.folder}: holds {rows} samples where its ledger says {self.ledger.used}; delete it and prepare again"
            )
        return batches

    def _mapped(self, suffix: str) -> list[Any]:
        """The record batches of all parts' files of one kind, mapped."""
        batches = []
        try:
            for number in range(self.num_parts):
                file = self.folder / f"{number:05d}.{suffix}"
                if suffix == "arrow" or file.is_file():
                    reader = pa.ipc.open_file(pa.memory_map(str(file)))
                    batches += [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.folder}: not a whole token store ({error}); delete it and prepare again") from error
        return batches

    @cached_property
    def _starts(self) -> Ints:
        return np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)

    @cached_property
    def _flat(self) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], Ints]]:
        """Per record batch: all ids, all weights, and where each sample starts in them; views of the mapped file."""
        return [_flat(batch) for batch in self._batches]

    def _column(self, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        parts = [batch.column(name).to_numpy() for batch in self._batches]
        return np.concatenate(parts).astype(dtype, copy=False) if parts else np.zeros(0, dtype=dtype)

    @cached_property
    def length_S(self) -> Ints:
        """Tokens of each sample."""
        parts = [np.diff(offsets) for _, _, offsets in self._flat]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    @cached_property
    def trained_S(self) -> Floats:
        """Sum of the token weights of each sample; its first token counts nothing, for nothing predicts it."""
        parts = [np.add.reduceat(weights, offsets[:-1], dtype=np.float64) for _, weights, offsets in self._flat]
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
        batches = self._mapped("preference.arrow")
        return Preferences(batches) if batches else None

    @cached_property
    def _rows(self) -> tuple[Ints, Ints]:
        return self._column("file", np.int64), self._column("line", np.int64)

    def sample(self, index: int) -> Encoded:
        """The tokens of one sample, as views of the mapped file."""
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        ids, weights, offsets = self._flat[number]
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

    def __init__(self, batches: list[Any]) -> None:
        self._sides = [(_flat(batch), batch.column("desirable")) for batch in batches]
        self._starts = np.cumsum([0, *(len(desirable) for _, desirable in self._sides)], dtype=np.int64)

    def _place(self, index: int) -> tuple[int, int]:
        number = int(np.searchsorted(self._starts, index, side="right")) - 1
        return number, index - int(self._starts[number])

    def rejected(self, index: int) -> Encoded:
        """The same conversation with the answer that was not preferred; no token where the row is a single liked or disliked answer."""
        number, local = self._place(index)
        ids, weights, offsets = self._sides[number][0]
        piece = slice(int(offsets[local]), int(offsets[local + 1]))
        return Encoded(ids[piece], weights[piece])

    def desirable(self, index: int) -> bool:
        number, local = self._place(index)
        return bool(self._sides[number][1][local].as_py())


def _flat(batch: Any) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], Ints]:
    """All ids, all weights, and where each sample starts in them; views of the mapped file."""
    return (
        batch.column("ids").values.to_numpy(),
        batch.column("weights").values.to_numpy(),
        batch.column("ids").offsets.to_numpy(),
    )


def read_rejects(store: Store) -> Iterator[dict[str, JsonValue]]:
    """The rows that are not used: {"row", "reason", "detail", "raw"}."""
    with (store.folder / "rejects.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield cast("dict[str, JsonValue]", json.loads(line))
