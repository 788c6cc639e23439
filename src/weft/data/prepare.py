"""From raw files to token stores: read, render, encode, check the length, write; each task apart, nothing twice.

A task's store is named by the SHA-256 of everything that made it: the bytes of its files, how they are read, the template, the
tokenizer, the length limit. Change any of them and another store is made; change none and nothing is tokenized.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tokenizers

from weft.config.settings import Settings, TaskSettings
from weft.data import sources, templates
from weft.data.read import TaskReader, read_task
from weft.data.store import Store, StoredSample, Writer, read_rejects
from weft.data.tokens import Encoded, Tokenizer
from weft.errors import DataError, TemplateError
from weft.files import sha256
from weft.log import logger
from weft.types import (
    TEXT_ROLE,
    Conversation,
    Message,
    Piece,
    Progress,
    ProgressHook,
    Reject,
    RowId,
    TaskLedger,
    silent,
)

STORE_VERSION = 3
_BATCH_ROWS = 2048
_RESTING_NANOSECONDS = 1_000_000_000
"""How long a file must have been left alone before its digest is remembered: times of files tick slowly."""


@dataclass(frozen=True)
class Prepared:
    """All that training needs of the data, in the order of the settings' tasks."""

    stores: tuple[Store, ...]
    tokenizer: Tokenizer
    template: templates.Template

    @property
    def tasks(self) -> list[str]:
        return [store.task for store in self.stores]

    @property
    def fingerprint(self) -> str:
        """Names the data exactly: the hash of all stores' keys."""
        return hashlib.sha256("\n".join(store.folder.name for store in self.stores).encode()).hexdigest()


def tokenizer_folder(base: str) -> Path:
    """The folder of a model's tokenizer: the folder itself, or for a hub name the files of it, downloaded once."""
    if Path(base).is_dir():
        return Path(base)
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(base, allow_patterns=["*.json", "*.jinja", "tokenizer.model", "merges.txt"]))
    except Exception as error:
        raise DataError(
            f"model.base: {base} is no folder here, and it can't be fetched from the hub: {error}"
        ) from error


def prepare(settings: Settings, progress: ProgressHook = silent) -> Prepared:
    """Make (or find) the stores of all tasks. Raises DataError with every task that has no usable row."""
    tokenizer = Tokenizer.load(tokenizer_folder(settings.model.base))
    template = templates.build(settings.template, tokenizer)
    stores, faults = [], []
    for name, task in settings.tasks.items():
        try:
            stores.append(_task_store(_Job(name, task, settings, tokenizer, template, progress)))
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return Prepared(tuple(stores), tokenizer, template)


class _Job(NamedTuple):
    """One task to prepare, and all that decides what comes of it."""

    name: str
    task: TaskSettings
    settings: Settings
    tokenizer: Tokenizer
    template: templates.Template
    progress: ProgressHook


def _task_store(job: _Job) -> Store:
    name, task, settings, tokenizer, template, _ = job
    files = sources.files(task.paths[0])
    digests = {file.name: digest(file.path, settings.cache) for file in files}
    made_of = {
        "version": [STORE_VERSION, tokenizers.__version__],
        "files": digests,
        "read": [task.format, task.train_on],
        "template": template.fingerprint,
        "tokenizer": tokenizer.fingerprint,
        "length": [settings.max_tokens, settings.data.too_long, settings.data.packing == "concat"],
    }
    key = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:20]
    place = settings.cache / f"{name}-{key}"
    if place.is_dir():
        store = Store.open(place, name)
    else:
        with Writer(place, name, [file.name for file in files]) as writer:
            ledger = _fill(writer, job)
            changed = [file.name for file in files if digest(file.path) != digests[file.name]]
            if changed:
                raise DataError(
                    f"task {name}: {', '.join(changed)} changed while it was read; prepare again when it is whole"
                )
            store = writer.publish(ledger)
    _refuse_unusable(store, settings)
    return store


def _fill(writer: Writer, job: _Job) -> TaskLedger:
    name, task, settings, tokenizer, template, progress = job
    reader = read_task(name, task)
    lost: list[str] = []
    counts: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    limit = None if settings.data.packing == "concat" else settings.max_tokens
    opening = (
        len(tokenizer.encode_one(template.prompt([Message("user", "x")]))) if settings.data.too_long == "cut" else 1
    )
    for batch in _batches(reader):
        rendered: list[tuple[RowId, int, bool, list[Piece]]] = []
        for item in batch:
            counts["read"] += 1
            if isinstance(item, Reject):
                counts["quarantined"] += 1
                writer.reject(item)
                if item.reason in sources.FILE_REASONS:
                    lost.append(f"{item.row.file}: {item.reason}: {item.detail}")
                continue
            row, conversation, row_hash = item
            try:
                pieces = template.render(conversation.messages, task.train_on)
            except TemplateError as error:
                counts["quarantined"] += 1
                writer.reject(Reject(row, "template", str(error)))
                continue
            rendered.append((row, row_hash, conversation.messages[0].role == TEXT_ROLE, pieces))
        for (row, row_hash, is_text, _), encoded in zip(
            rendered, tokenizer.encode([pieces for *_, pieces in rendered]), strict=True
        ):
            fitted, reason = fit(encoded, limit, settings.data.too_long, is_text, tokenizer.control_ids, opening)
            if fitted is None:
                dropped[reason] += 1
                writer.reject(Reject(row, reason, f"{len(encoded.ids_T)} tokens, data.max_tokens is {limit}"))
                continue
            counts["cut"] += reason == "cut"
            writer.add(StoredSample(row, fitted, row_hash))
        progress(Progress(f"prepare {name}", counts["read"], 0, f"{writer.tokens} tokens"))
    if lost:
        raise DataError(
            f"task {name}: the rest of a file can't be read, so nobody knows what is lost: {'; '.join(lost)}. Mend it or move it away"
        )
    return TaskLedger(
        task=name,
        format=reader.format_name,
        read=counts["read"],
        used=writer.used,
        quarantined=counts["quarantined"],
        dropped=dict(sorted(dropped.items())),
        cut=counts["cut"],
    )


def fit(
    encoded: Encoded, limit: int | None, too_long: str, is_text: bool, control_ids: frozenset[int], opening: int = 1
) -> tuple[Encoded | None, str]:
    """A sample within the limit, or None and the reason: `too_long` or `nothing_trained`; ("cut" where it was shortened).

    A cut takes the front of the prompt away (but a leading control token such as BOS). An answer that is not left whole, with at least
    `opening` tokens of what leads to it, is no longer trained. A plain document loses its end, and with it the stop token.
    """
    ids_T, weight_T = encoded.ids_T, encoded.weight_T.copy()
    weight_T[:1] = 0.0  # nothing predicts the first token
    reason = ""
    if limit is not None and len(ids_T) > limit:
        if too_long == "drop":
            return None, "too_long"
        reason = "cut"
        if is_text:
            ids_T, weight_T = ids_T[:limit], weight_T[:limit]
        else:
            head = 1 if int(ids_T[0]) in control_ids else 0
            start = len(ids_T) - limit + head
            rest = weight_T[start:].copy()
            while rest.any() and (first := int(np.argmax(rest > 0))) < opening:
                ends = np.flatnonzero(rest[first:] == 0)
                rest[first : first + int(ends[0]) if len(ends) else len(rest)] = 0.0
            ids_T = np.concatenate([ids_T[:head], ids_T[start:]])
            weight_T = np.concatenate([np.zeros(head, dtype=np.float32), rest])
            if not weight_T.any():
                return None, "too_long"
    if not weight_T.any():
        return None, "nothing_trained"
    return Encoded(ids_T, weight_T), reason


def _batches(reader: TaskReader) -> Iterator[list[tuple[RowId, Conversation, int] | Reject]]:
    batch: list[tuple[RowId, Conversation, int] | Reject] = []
    for item in reader:
        batch.append(item)
        if len(batch) == _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _refuse_unusable(store: Store, settings: Settings) -> None:
    """A task with no usable row, or with more unreadable rows than allowed, stops here."""
    ledger = store.ledger
    if ledger.read and ledger.used and ledger.quarantined <= settings.data.max_bad_rows * ledger.read:
        if ledger.quarantined or ledger.dropped:
            logger.info(
                "task %s: %d of %d rows are not used (%s); they are listed in %s",
                store.task, ledger.read - ledger.used, ledger.read, _reasons(store), store.folder / "rejects.jsonl",
            )  # fmt: skip
        return
    if not ledger.read:
        raise DataError(f"task {store.task}: {settings.tasks[store.task].path} holds no row")
    first = islice(read_rejects(store), 3)
    examples = [f"\n  {record['row']}: {record['reason']}: {record['detail']}" for record in first]
    budget = f"more than data.max_bad_rows {settings.data.max_bad_rows:g} allows" if ledger.used else "none is left"
    raise DataError(
        f"task {store.task}: {ledger.read - ledger.used} of {ledger.read} rows can't be used ({_reasons(store)}): {budget}. "
        f"All are listed in {store.folder / 'rejects.jsonl'}, the first are:{''.join(examples)}"
    )


def _reasons(store: Store) -> str:
    parts: Sequence[str] = [f"{number} {reason}" for reason, number in store.ledger.dropped.items()]
    return ", ".join([*([f"{store.ledger.quarantined} quarantined"] if store.ledger.quarantined else []), *parts])


def digest(path: Path, cache: Path | None = None) -> str:
    """SHA-256 of a file's bytes; with a cache folder, remembered by path, size and the times that no program can set back."""
    stat = path.stat()
    seen = [str(path.absolute()), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino]
    note = None if cache is None else cache / "digests" / hashlib.sha256(json.dumps(seen).encode()).hexdigest()
    if note is not None and note.is_file():
        return note.read_text("ascii")
    found = sha256(path)
    rests = time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _RESTING_NANOSECONDS
    if note is not None and rests:
        note.parent.mkdir(parents=True, exist_ok=True)
        temporary = note.with_name(f"{note.name}.{os.getpid()}")
        temporary.write_text(found, "ascii")
        temporary.replace(note)
    return found
