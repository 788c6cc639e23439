"""From raw files to token stores; each task apart, nothing twice.

A task's store is named by everything that made it (`data/keys`): change any of it and another store is made; change none and nothing
is read but a ledger. The work is cut into parts (`data/work`), done here or by several processes (`data/workers`), written part by
part (`data/parts`); after a kill only the parts that were not finished are done again.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from weft.config.settings import Settings, TemplateSettings
from weft.data import cluster, keys, templates, workers
from weft.data.encoders import Choice, IdsDifferError
from weft.data.parts import added_up, clear, is_done, lost_of, seal, sweep, tidy
from weft.data.read import TaskReader, needed_files, task_files
from weft.data.sources import Chunk, SourceFile, chunks
from weft.data.store import Store, read_rejects
from weft.data.tokens import Tokenizer
from weft.data.work import Done, Job, Tell, made_of, prepare_part
from weft.errors import DataError
from weft.log import logger
from weft.types import Progress, ProgressHook, silent

PART_BYTES = 1 << 24
MAX_PARTS = 512
"""A source is cut into parts of PART_BYTES, or larger ones where that would make more than MAX_PARTS of them."""


@dataclass(frozen=True)
class Prepared:
    """All that training needs of the data, in the order of the settings' tasks."""

    stores: tuple[Store, ...]
    tokenizer: Tokenizer
    template_settings: TemplateSettings

    @cached_property
    def template(self) -> templates.Template:
        """The template, built when first used. Raises TemplateError."""
        return templates.build(self.template_settings, self.tokenizer)

    @property
    def tasks(self) -> list[str]:
        return [store.task for store in self.stores]

    def refuse_preferences(self) -> None:
        """Raises DataError where a task holds pairs of a preferred and a rejected answer, which can't be imitated."""
        paired = [store.task for store in self.stores if store.preferences is not None]
        if paired:
            raise DataError(
                f"task {', '.join(paired)}: holds preference rows, which are read and checked but can't be trained on yet; "
                f"set tasks.{paired[0]}.preference: chosen to imitate the chosen answers"
            )

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


class _Wanted(NamedTuple):
    """A store that is needed: where it lies or is to lie, and what it is made of."""

    name: str
    files: list[SourceFile]
    digests: dict[str, str]
    stamps: dict[str, tuple[int, ...]]
    place: Path


def prepare(settings: Settings, progress: ProgressHook = silent) -> Prepared:
    """Make (or find) the stores of all tasks. Raises DataError with every task that has no usable row."""
    tokenizer = Tokenizer.load(tokenizer_folder(settings.model.base))
    prepared = Prepared((), tokenizer, settings.template)
    faults: list[str] = []
    wanted: list[_Wanted] = []
    for name in settings.tasks:
        try:
            wanted.append(_wanted(settings, name, tokenizer))
        except DataError as error:
            faults.append(str(error))
    missing = [w for w in wanted if not w.place.is_dir()]
    choice = _encoder(settings, tokenizer, missing) if missing else None
    stores = []
    for w in wanted:
        try:
            store = _found(w) if choice is None or w not in missing else _made(settings, prepared, w, choice, progress)
            _refuse_unusable(store, settings)
            stores.append(store)
        except DataError as error:
            faults.append(str(error))
    if faults:
        raise DataError("\n".join(faults))
    return Prepared(tuple(stores), tokenizer, settings.template)


def _found(wanted: _Wanted) -> Store:
    tidy(wanted.place)
    return Store.open(wanted.place, wanted.name)


def _wanted(settings: Settings, name: str, tokenizer: Tokenizer) -> _Wanted:
    task = settings.tasks[name]
    files = task_files(name, task)
    stamps = keys.stamps(files)
    digests = keys.source_digests(files, settings.cache)
    beside = {str(path): keys.digest(path, settings.cache) for path in needed_files(task, files)}
    key = keys.store_key(settings, task, {**digests, **beside}, tokenizer)
    return _Wanted(name, files, digests, stamps, settings.cache / f"{name}-{key}")


def _encoder(settings: Settings, tokenizer: Tokenizer, missing: Sequence[_Wanted]) -> Choice:
    num_bytes = sum(file.num_bytes for w in missing for file in w.files)
    parallel = None if settings.data.processes == 1 else False
    choice = tokenizer.choose_encoder(settings.data.tokenizer, num_bytes, parallel)
    level = logging.INFO if choice.encoder.name == "gigatoken" else logging.DEBUG
    logger.log(level, "ids are made by %s: %s", choice.encoder.name, choice.why)
    return choice


def _made(settings: Settings, prepared: Prepared, wanted: _Wanted, choice: Choice, progress: ProgressHook) -> Store:
    """Make a store; where a fast encoder turns out to differ from the reference, from the start with the reference."""
    try:
        return _made_with(settings, prepared, wanted, choice, progress)
    except IdsDifferError as error:
        logger.warning("task %s: %s gave %s; preparing again with tokenizers", wanted.name, choice.encoder.name, error)
        clear(parts_folder(wanted.place))
        reference = prepared.tokenizer.choose_encoder("tokenizers", 0)
        return _made_with(settings, prepared, wanted, reference, progress)


def parts_folder(place: Path) -> Path:
    """Where the parts of a store lie while it is made."""
    return place.with_name(f"{place.name}.parts")


def _made_with(
    settings: Settings, prepared: Prepared, wanted: _Wanted, choice: Choice, progress: ProgressHook
) -> Store:
    name, folder = wanted.name, parts_folder(wanted.place)
    sweep(wanted.place, name)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        reader = TaskReader(name, settings.tasks[name], wanted.files)
        job = Job(settings.tasks[name], settings, reader, prepared.tokenizer, prepared.template, choice.encoder, folder)
        parts = part_chunks(wanted.files)
        waiting = [number for number in range(len(parts)) if not is_done(folder, number, made_of(parts[number]))]
        told = _Told(name, sum(c.stop - c.start for part in parts for c in part), progress)
        told.skip(sum(c.stop - c.start for number, part in enumerate(parts) if number not in waiting for c in part))
        run(job, parts, waiting, told)
        lost = lost_of(folder, len(parts))
        if lost:
            raise DataError(
                f"task {name}: the rest of a file can't be read, so nobody knows what is lost: {'; '.join(lost)}. Mend it or move it away"
            )
        if changed := keys.changed(wanted.files, wanted.digests, wanted.stamps):
            raise DataError(
                f"task {name}: {', '.join(changed)} changed while it was read; prepare again when it is whole"
            )
        ledger = added_up(folder, name, reader.format_name, len(parts))
        store = seal(folder, wanted.place, ledger, [file.name for file in wanted.files], len(parts))
    except FileNotFoundError as error:
        if not wanted.place.is_dir():
            raise DataError(
                f"task {name}: another preparation of the same data took {folder} away; run again"
            ) from error
        return Store.open(wanted.place, name)  # another process was faster and has moved the parts to their place
    except workers.WorkerDiedError:
        raise  # what was finished stays
    except DataError:
        clear(folder)
        raise
    return store


def run(job: Job, parts: Sequence[Sequence[Chunk]], waiting: Sequence[int], tell: Tell) -> None:
    """Do the parts that wait: here, in several processes, or on a cluster."""
    data = job.settings.data
    if waiting and data.engine == "ray":
        cluster.run(job, parts, waiting, data.processes, tell)
    elif min(data.processes, len(waiting)) > 1:
        workers.run(job, parts, waiting, min(data.processes, len(waiting)), tell)
    else:
        for number in waiting:
            prepare_part(job, number, parts[number], tell)


def part_chunks(files: Sequence[SourceFile]) -> list[list[Chunk]]:
    """The parts of a source, each some chunks one after another; a function of the files alone."""
    total = sum(file.num_bytes for file in files)
    size = max(PART_BYTES, -(-total // MAX_PARTS))
    parts: list[list[Chunk]] = []
    filled = 0
    for chunk in (chunk for file in files for chunk in chunks(file, size)):
        num_bytes = chunk.stop - chunk.start
        if not parts or filled + num_bytes > size:
            parts.append([])
            filled = 0
        parts[-1].append(chunk)
        filled += num_bytes
    return parts


class _Told:
    """Adds up what parts report and tells a person: bytes of the source, rows a second, and how long it may still take."""

    def __init__(self, task: str, num_bytes: int, progress: ProgressHook) -> None:
        self._task, self._total, self._progress = task, num_bytes, progress
        self._start, self._rows, self._tokens, self._bytes, self._skipped = time.monotonic(), 0, 0, 0, 0

    def skip(self, num_bytes: int) -> None:
        self._skipped = self._bytes = num_bytes

    def __call__(self, done: Done) -> None:
        self._rows, self._tokens, self._bytes = (
            self._rows + done.rows,
            self._tokens + done.tokens,
            self._bytes + done.num_bytes,
        )
        seconds = max(time.monotonic() - self._start, 1e-6)
        share = (self._bytes - self._skipped) / max(1, self._total - self._skipped)
        left = f", {_clock(seconds / share - seconds)} left" if 0.0 < share < 1.0 else ""
        note = f"{self._rows:,} rows, {self._tokens:,} tokens, {self._rows / seconds:,.0f} rows/s{left}"
        self._progress(
            Progress(f"prepare {self._task}", min(self._bytes, self._total), self._total, note, "bytes", done.first)
        )


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 3600}:{int(seconds) // 60 % 60:02d}:{int(seconds) % 60:02d}"


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
