"""The token store: a task's samples in an Arrow file, memory-mapped, keyed by the hash of everything that made them.

    <cache>/<task>-<key>/samples.arrow    ids, weights, row, hash: one record batch per few thousand samples
                         ledger.json      what became of every row
                         rejects.jsonl    each row that is not used, with its reason

A store is written beside its place and renamed into it, so it is there whole or not at all, also when two processes make it.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from weft.data.tokens import Encoded
from weft.errors import DataError
from weft.types import Reject, RowId, TaskLedger

Split: TypeAlias = Literal["train", "validation", "test"]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_SCHEMA = pa.schema(
    [
        ("ids", pa.large_list(pa.int32())),
        ("weights", pa.large_list(pa.float32())),
        ("file", pa.int32()),
        ("line", pa.int64()),
        ("hash", pa.uint64()),
    ]
)


class StoredSample(NamedTuple):
    """What is written for one sample."""

    row: RowId
    encoded: Encoded
    row_hash: int


@dataclass(frozen=True)
class Store:
    """A task's samples. Arrays over samples have the suffix S; the order is that of the source."""

    folder: Path
    task: str
    ledger: TaskLedger
    files: tuple[str, ...]

    @classmethod
    def open(cls, folder: Path, task: str) -> Store:
        """The store in a folder. Raises DataError where it is not whole."""
        try:
            record = json.loads((folder / "ledger.json").read_text("utf-8"))
            files = tuple(record.pop("files"))
            return cls(folder, task, TaskLedger(**{**record, "task": task}), files)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a whole token store ({error}); delete it and prepare again") from error

    def __len__(self) -> int:
        return self.ledger.used

    @cached_property
    def _batches(self) -> list[Any]:
        if not self.ledger.used:
            return []
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(self.folder / "samples.arrow")))
            batches = [reader.get_batch(i) for i in range(reader.num_record_batches)]
        except (OSError, pa.ArrowException) as error:
            raise DataError(f"{self.folder}: not a whole token store ({error}); delete it and prepare again") from error
        rows = sum(batch.num_rows for batch in batches)
        if rows != self.ledger.used:
            raise DataError(
                f"{self.folder}: holds {rows} samples where its ledger says {self.ledger.used}; delete it and prepare again"
            )
        return batches

    @cached_property
    def _starts(self) -> Ints:
        return np.cumsum([0, *(batch.num_rows for batch in self._batches)], dtype=np.int64)

    @cached_property
    def _flat(self) -> list[tuple[npt.NDArray[np.int32], npt.NDArray[np.float32], Ints]]:
        """Per record batch: all ids, all weights, and where each sample starts in them; views of the mapped file."""
        return [
            (
                batch.column("ids").values.to_numpy(),
                batch.column("weights").values.to_numpy(),
                batch.column("ids").offsets.to_numpy(),
            )
            for batch in self._batches
        ]

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
    def _hash_S(self) -> npt.NDArray[np.uint64]:
        return self._column("hash", np.uint64)

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
        hash_S = self._hash_S
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


class Writer:
    """Collects samples and rejects of one task and publishes them as a store; a context manager that cleans up after itself."""

    def __init__(self, place: Path, task: str, files: Iterable[str], batch_samples: int = 4096) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self._place, self._task, self._batch_samples = place, task, batch_samples
        self._folder = Path(tempfile.mkdtemp(prefix=f".{place.name}.", dir=place.parent))
        self._files = {name: number for number, name in enumerate(files)}
        self._sink = pa.OSFile(str(self._folder / "samples.arrow"), "wb")
        self._arrow = pa.ipc.new_file(self._sink, _SCHEMA)
        self._rejects = (self._folder / "rejects.jsonl").open("w", encoding="utf-8")
        self._waiting: list[StoredSample] = []
        self.used = self.tokens = 0
        self.trained = 0.0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, sample: StoredSample) -> None:
        self._waiting.append(sample)
        self.used += 1
        self.tokens += len(sample.encoded.ids_T)
        self.trained += float(np.count_nonzero(sample.encoded.weight_T))
        if len(self._waiting) >= self._batch_samples:
            self._flush()

    def reject(self, reject: Reject) -> None:
        record = {"row": reject.row.of(self._task), "reason": reject.reason, "detail": reject.detail}
        self._rejects.write(json.dumps(record, ensure_ascii=True) + "\n")

    def publish(self, ledger: TaskLedger) -> Store:
        """Write the ledger and move the store to its place; where another process was faster, its store is taken."""
        self._flush()
        self._close()
        ledger = replace(ledger, used=self.used, tokens=self.tokens, trained_tokens=int(self.trained))
        record = {**asdict(ledger), "files": list(self._files)}
        (self._folder / "ledger.json").write_text(json.dumps(record, indent=1), "utf-8")
        for name in ("samples.arrow", "rejects.jsonl", "ledger.json"):
            with (self._folder / name).open("rb") as file:
                os.fsync(file.fileno())
        try:
            self._folder.rename(self._place)
        except OSError:
            if not (self._place / "ledger.json").is_file():
                raise
        return Store.open(self._place, self._task)

    def _close(self) -> None:
        if not self._sink.closed:
            self._arrow.close()
            self._sink.close()
            self._rejects.close()

    def _flush(self) -> None:
        if not self._waiting:
            return
        encoded = [sample.encoded for sample in self._waiting]
        offsets = pa.array(np.cumsum([0, *(len(e.ids_T) for e in encoded)], dtype=np.int64))
        columns = [
            pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate([e.ids_T for e in encoded]))),
            pa.LargeListArray.from_arrays(offsets, pa.array(np.concatenate([e.weight_T for e in encoded]))),
            pa.array([self._files[sample.row.file] for sample in self._waiting], pa.int32()),
            pa.array([sample.row.line for sample in self._waiting], pa.int64()),
            pa.array([sample.row_hash for sample in self._waiting], pa.uint64()),
        ]
        self._arrow.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        self._waiting = []


def read_rejects(store: Store) -> Iterator[dict[str, str]]:
    """The rows that are not used: {"row", "reason", "detail"}."""
    with (store.folder / "rejects.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            yield cast("dict[str, str]", json.loads(line))
