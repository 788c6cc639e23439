"""Writing a token store in parts, so that several processes can share the work and a killed one loses little of it.

    <cache>/<task>-<key>.parts/00000.arrow            the samples of a stretch of the source
                               00000.rejects.jsonl    its rows that are not used
                               00000.json             its counts; written last: the part is done

A part is a pure function of its stretch of the source. When all are done, the folder gets its ledger and is renamed into its place;
so the bytes of a store are the same whoever made its parts, and it is there whole or not at all.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from weft.data.store import SCHEMA, SIDE, Ints, Store
from weft.data.stretches import Encoded, EncodedBatch
from weft.files import sync
from weft.types import Reject, RowId, TaskLedger

SIDE_SCHEMA = pa.schema(
    [("ids", pa.large_list(pa.int32())), ("weights", pa.large_list(pa.float32())), ("desirable", pa.bool_())]
)


_COUNTED = ("read", "used", "quarantined", "cut", "tokens", "trained_tokens")
_ABANDONED_SECONDS = 24 * 3600.0


class StoredSample(NamedTuple):
    """What is written for one sample."""

    row: RowId
    encoded: Encoded
    row_hash: int


class Side(NamedTuple):
    """The other side of a batch of preference rows: the rejected answers, and whether each row's own answer is liked."""

    rejected: EncodedBatch
    desirable: list[bool]


class PartWriter:
    """Writes one part; a context manager that leaves nothing behind where the part was not finished."""

    def __init__(self, folder: Path, number: int, task: str, files: Iterable[str]) -> None:
        self.counts: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.lost: list[str] = []
        self._folder, self._name, self._task = folder, f"{number:05d}", task
        self._files = {name: place for place, name in enumerate(files)}
        self._work = Path(tempfile.mkdtemp(prefix=f"{self._name}.tmp-", dir=folder))
        self._sink = pa.OSFile(str(self._work / "arrow"), "wb")
        self._arrow = pa.ipc.new_file(self._sink, SCHEMA)
        self._side: Any = None
        self._rejects = (self._work / "rejects.jsonl").open("w", encoding="utf-8")

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()
        shutil.rmtree(self._work, ignore_errors=True)

    def add(self, batch: EncodedBatch, rows: Sequence[RowId], hashes: Sequence[int], side: Side | None = None) -> None:
        """Samples with at least one token each, and the rows that they come from."""
        if not rows:
            return
        columns = [
            *_ragged(batch),
            pa.array([self._files[row.file] for row in rows], pa.int32()),
            pa.array([row.line for row in rows], pa.int64()),
            pa.array(np.array(hashes, dtype=np.uint64)),
            pa.array(batch.num_bytes_S),
        ]
        self._arrow.write_batch(pa.record_batch(columns, schema=SCHEMA))
        if side is not None and self._side is None:
            self._side = pa.ipc.new_file(str(self._work / SIDE), SIDE_SCHEMA)
            self._write_side(_no_side(self.counts["used"]))
        if self._side is not None:
            self._write_side(side or _no_side(len(rows)))
        self.counts["used"] += len(rows)
        self.counts["tokens"] += len(batch.ids_T)
        self.counts["trained_tokens"] += int((batch.weight_T > 0).sum())

    def _write_side(self, side: Side) -> None:
        columns = [*_ragged(side.rejected), pa.array(side.desirable, pa.bool_())]
        self._side.write_batch(pa.record_batch(columns, schema=SIDE_SCHEMA))

    def reject(self, reject: Reject) -> None:
        record = {"row": reject.row.of(self._task), "reason": reject.reason, "detail": reject.detail, "raw": reject.raw}
        self._rejects.write(json.dumps(record, ensure_ascii=True) + "\n")

    def finish(self, made_of: Sequence[Sequence[str | int]] = ()) -> None:
        """Make the part durable and move it into the folder, its counts last; `made_of` names its stretch of the source."""
        self._close()
        record = {
            **{name: self.counts[name] for name in _COUNTED},
            "dropped": dict(sorted(self.dropped.items())),
            "lost": self.lost,
            "made_of": [*map(list, made_of)],
        }
        (self._work / "json").write_text(json.dumps(record), "utf-8")
        for suffix in ("arrow", SIDE, "rejects.jsonl", "json"):
            if (self._work / suffix).is_file():
                sync(self._work / suffix)
                (self._work / suffix).replace(self._folder / f"{self._name}.{suffix}")

    def _close(self) -> None:
        if not self._sink.closed:
            self._arrow.close()
            self._sink.close()
            self._rejects.close()
            if self._side is not None:
                self._side.close()


def _no_side(number: int) -> Side:
    """The other side of ordinary samples: none, and all are liked."""
    nothing = EncodedBatch(
        np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(number + 1, np.int64), np.zeros(number, np.int64), {}
    )
    return Side(nothing, [True] * number)


def _ragged(batch: EncodedBatch) -> list[Any]:
    offsets = pa.array(batch.begin_S)
    return [pa.LargeListArray.from_arrays(offsets, pa.array(flat)) for flat in (batch.ids_T, batch.weight_T)]


def clear(folder: Path) -> None:
    """Forget all parts."""
    shutil.rmtree(folder, ignore_errors=True)


def is_done(folder: Path, number: int, made_of: Sequence[Sequence[str | int]]) -> bool:
    """Whether a part lies whole in the folder, made of this stretch of the source."""
    if not _json(folder, number).is_file():
        return False
    found: object = _records(folder, number, number + 1)[0]["made_of"]
    return found == [*map(list, made_of)]


def _json(folder: Path, number: int) -> Path:
    return folder / f"{number:05d}.json"


def lost_of(folder: Path, num_parts: int) -> list[str]:
    """What could not be read to its end, over all parts."""
    return [lost for record in _records(folder, 0, num_parts) for lost in record["lost"]]


def seal(folder: Path, place: Path, ledger: TaskLedger, files: Sequence[str], num_parts: int) -> Store:
    """Write the ledger beside the finished parts and move the folder to its place; where another process was faster, its store is
    taken."""
    try:
        _write_ledger(folder, ledger, files, num_parts)
        sync(folder)
        folder.rename(place)
        sync(place.parent)
    except OSError:
        if not (place / "ledger.json").is_file():
            raise
        shutil.rmtree(folder, ignore_errors=True)
    tidy(place)
    return Store.open(place, ledger.task)


def tidy(place: Path) -> None:
    """Remove from a published store what only its making needed; the first part's counts go last and say whether it was done."""
    if not _json(place, 0).is_file():
        return
    for stray in [
        *place.glob("*.rejects.jsonl"),
        *place.glob("*.tmp-*"),
        *sorted(place.glob("[0-9]*.json"), reverse=True),
    ]:
        if stray.is_dir():
            shutil.rmtree(stray, ignore_errors=True)
        else:
            stray.unlink(missing_ok=True)


def sweep(place: Path, task: str) -> None:
    """Remove the unfinished parts of a task's other stores that nobody has touched for a day: nobody will take them up again."""
    for folder in place.parent.glob(f"{glob.escape(task)}-*.parts"):
        key = folder.name.removeprefix(f"{task}-").removesuffix(".parts")
        if folder.name == f"{place.name}.parts" or "-" in key:
            continue  # this one, or that of a task with a longer name
        with contextlib.suppress(FileNotFoundError):  # it is being worked on, so it is not abandoned
            newest = max((path.stat().st_mtime for path in [folder, *folder.iterdir()]), default=0.0)
            if time.time() - newest > _ABANDONED_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)


def added_up(folder: Path, task: str, format_name: str, num_parts: int) -> TaskLedger:
    """The ledger of all parts together."""
    total: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    for record in _records(folder, 0, num_parts):
        dropped.update(record["dropped"])
        total.update({name: record[name] for name in _COUNTED})
    counted = {name: total[name] for name in _COUNTED}
    return TaskLedger(task, format_name, dropped=dict(sorted(dropped.items())), **counted)


def _write_ledger(folder: Path, ledger: TaskLedger, files: Sequence[str], num_parts: int) -> None:
    mine = f"tmp-{os.getpid()}-{threading.get_ident()}"  # another process may be doing the same
    rejects, ledger_file = folder / f"rejects.{mine}", folder / f"ledger.{mine}"
    with rejects.open("wb") as out:
        for number in range(num_parts):
            with (folder / f"{number:05d}.rejects.jsonl").open("rb") as part:
                shutil.copyfileobj(part, out)
    ledger_file.write_text(json.dumps({**asdict(ledger), "files": list(files), "parts": num_parts}, indent=1), "utf-8")
    for temporary, name in ((rejects, "rejects.jsonl"), (ledger_file, "ledger.json")):
        sync(temporary)
        temporary.replace(folder / name)


def _records(folder: Path, first: int, stop: int) -> list[dict[str, Any]]:
    return [json.loads(_json(folder, number).read_text("utf-8")) for number in range(first, stop)]


class Writer:
    """Makes a store of samples that were not read from a source: one part, published with a given ledger."""

    def __init__(self, place: Path, task: str, files: Iterable[str], batch_samples: int = 4096) -> None:
        place.parent.mkdir(parents=True, exist_ok=True)
        self._place, self._task, self._files, self._batch_samples = place, task, list(files), batch_samples
        self._folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.tmp-", dir=place.parent))
        self._folder.chmod(0o755)
        self._part = PartWriter(self._folder, 0, task, self._files)
        self._waiting: list[StoredSample] = []

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._part.__exit__()
        shutil.rmtree(self._folder, ignore_errors=True)

    def add(self, sample: StoredSample) -> None:
        self._waiting.append(sample)
        if len(self._waiting) >= self._batch_samples:
            self._flush()

    def reject(self, reject: Reject) -> None:
        self._part.reject(reject)

    def publish(self, ledger: TaskLedger) -> Store:
        """The store, with `used`, `tokens` and `trained_tokens` as they were written and the rest of the ledger as given."""
        self._flush()
        self._part.finish()
        (record,) = _records(self._folder, 0, 1)
        ledger = replace(ledger, used=record["used"], tokens=record["tokens"], trained_tokens=record["trained_tokens"])
        return seal(self._folder, self._place, ledger, self._files, 1)

    def _flush(self) -> None:
        encoded = [sample.encoded for sample in self._waiting]
        if not encoded:
            return
        begin_S: Ints = np.cumsum([0, *(len(e.ids_T) for e in encoded)], dtype=np.int64)
        batch = EncodedBatch(
            np.concatenate([e.ids_T for e in encoded]),
            np.concatenate([e.weight_T for e in encoded]),
            begin_S,
            np.zeros(len(encoded), dtype=np.int64),
            {},
        )
        self._part.add(batch, [sample.row for sample in self._waiting], [sample.row_hash for sample in self._waiting])
        self._waiting = []
