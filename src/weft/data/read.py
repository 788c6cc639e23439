"""A task's rows to conversations: what the token store and the checks read.

The format is told before the first row is handed out, from the first rows of the first files, and never changed after. A row
that can't be used costs itself alone, and keeps its own text to be mended: a quarantined record, {"row", "reason", "detail",
"raw"}, is read as the row in its `raw`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from json import JSONEncoder
from pathlib import Path
from typing import NamedTuple

from weft.config.settings import TaskSettings
from weft.data import formats
from weft.data.formats import Converter, Format, RowError, json_of
from weft.data.formats import _columns as columns
from weft.data.formats._own import guarded
from weft.data.parse import Row
from weft.data.sources import Chunk, Reading, SourceFile, chunks, of_task, read
from weft.data.sources.find import refuse_idle
from weft.errors import ConfigError, DataError
from weft.types import Conversation, JsonValue, Message, Reject, RowId

SAMPLE_ROWS = 100
CHOSEN_AWAY = frozenset({"undesirable", "left_out"})
"""Reasons of rows that are left out on purpose: they are dropped, not quarantined."""

TABLES = "tables.json"
"""What the name of a file ends with that describes databases, as Spider's does."""

CHOSEN_AWAY = frozenset({"undesirable", "left_out"})
"""Reasons of rows that are sound and that someone chose not to train: `preference: chosen`, a user's own function."""

_SAMPLE_CHARS = 16 * 2**20
_SAMPLE_REJECTS = 10_000
_HEAD_BYTES = 1 << 20
_RECORD = {"row", "reason", "detail", "raw"}
_PLAIN_MESSAGE = Message("", "")[3:]
_PLAIN_CONVERSATION = Conversation(())[1:]
_canonical = JSONEncoder(sort_keys=True, separators=(",", ":")).encode


class ReadRow(NamedTuple):
    """A row that means something. `hash` is of its meaning, the same wherever and in whatever format it stands."""

    id: RowId
    conversation: Conversation
    hash: int
    value: JsonValue = None

    def raw(self) -> JsonValue:
        """The row as it stood."""
        return self.value


def meaning_hash(conversation: Conversation) -> int:
    """64 bits of what a conversation says: roles, texts, reasoning, tools, documents, the other answer, tokens.

    How much a message is trained is no part of it, nor are the ids of tool calls: rows that say the same must fall on the same
    side of a split.
    """
    parts = []
    for message in conversation.messages:
        content = message[1]
        parts.append(f"{len(content)}{message[0]} {content}")
        if message[3:] != _PLAIN_MESSAGE:
            parts.append(_extras(message))
    if conversation[1:] != _PLAIN_CONVERSATION:
        _, tools, documents, rejected, desirable, tokens = conversation
        others = [[m.role, m.content, _extras(m)] for m in rejected]
        parts.append(_canonical([tools, documents, others, desirable, tokens]))
    data = "".join(parts).encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "little")


def _extras(message: Message) -> str:
    return _canonical([message.reasoning, [call[:2] for call in message.tool_calls], message.name])


class Rows:
    """The rows of one chunk, read or rejected; `position` is how many bytes of it were read so far."""

    __slots__ = ("_entries", "_reading")

    def __init__(self, reading: Reading, entries: Iterator[ReadRow | Reject]) -> None:
        self._reading, self._entries = reading, entries

    @property
    def position(self) -> int:
        return self._reading.position

    def __iter__(self) -> Iterator[ReadRow | Reject]:
        return self._entries

    def __next__(self) -> ReadRow | Reject:
        return next(self._entries)


class TaskReader:
    """The rows of one task, chunk by chunk or all in the order of file names and lines; `read == accepted + rejected` for
    whoever counts.

    `format_name` is known before the first row is handed out; `needs` are files beside the rows that decide what they mean.
    """

    def __init__(
        self, name: str, task: TaskSettings, sources: list[SourceFile], format_name: str | None = None
    ) -> None:
        """Looks at the first rows, unless it is told their format. Raises DataError, ConfigError."""
        self.name, self.files = name, sources
        found = columns.templates(name, task)
        sample = [_unwrapped(entry) for entry in _first_rows(sources)] if format_name is None else []
        values = [entry.value for entry in sample if isinstance(entry, Row)]
        columns.refuse_unknown(found, values)
        self._format = _told(name, task, found, format_name) or _detected(name, task, sources, sample)
        self.needs: tuple[Path, ...] = ()
        convert = self._format.convert
        if self._format.bind is not None:
            convert, self.needs = self._format.bind(name, task, [path for file in sources for path in file.paths])
        self._convert = _for_task(task, found, convert)
        # A format that the user named is taken at its word, without asking whether the row fits
        self._asks = task.format == "auto" and self._format.name != columns.NAME
        _refuse_groundless(name, self._convert, values)

    @property
    def format_name(self) -> str:
        """The name of the format that every row is read as."""
        return self._format.name

    def rows(self, chunk: Chunk) -> Rows:
        """The rows of one chunk. Iterating raises DataError if the file can't be read at all."""
        reading = read(chunk)
        return Rows(reading, self._read(reading))

    def __iter__(self) -> Iterator[ReadRow | Reject]:
        """Every row, read or rejected. Raises DataError if a file can't be read at all."""
        for file in self.files:
            for chunk in chunks(file):
                yield from self.rows(chunk)

    def _read(self, entries: Iterable[Row | Reject]) -> Iterator[ReadRow | Reject]:
        format, convert, fits = self._format, self._convert, self._format.fits if self._asks else None
        for entry in map(_unwrapped, entries):
            if isinstance(entry, Reject):
                yield entry
                continue
            value = entry.value
            if fits is not None and not fits(value):
                yield _wrong_format(entry, format)
                continue
            try:
                conversation = convert(value)
            except RowError as error:
                yield _rejected(entry, format, error)
                continue
            yield ReadRow(entry.id, conversation, meaning_hash(conversation), value)


def read_task(name: str, task: TaskSettings, format_name: str | None = None) -> TaskReader:
    """A reader of all rows of a task; finds its files and tells its format, unless `format_name` says what was told before.

    Raises DataError (no files, no rows, no format that fits) and ConfigError (no such format), naming the task.
    """
    return TaskReader(name, task, task_files(name, task), format_name)


def task_files(name: str, task: TaskSettings) -> list[SourceFile]:
    """The files of a task that hold rows: all but those that describe its databases.

    Raises DataError naming the task, and ConfigError for a setting that says nothing of any of them.
    """
    if task.schemas is not None:
        _must_be_file(task.schemas, f"tasks.{name}.schemas")
    try:
        found = of_task(task, leave_out=[] if task.schemas is None else [task.schemas])
    except DataError as error:
        raise DataError(f"tasks.{name}.path: {error}") from None
    refuse_idle(name, task, found)
    return [file for file in found if not _is_tables(file)] or found


def _must_be_file(text: str, setting: str) -> None:
    try:
        path = Path(text).expanduser()
        is_file, is_there = path.is_file(), path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # a name that is too long, NUL in it, nobody's home
        raise DataError(f"{setting}: {text}: {error}") from None
    if not is_file:
        what = "is no file" if is_there else f"no such file (looked from {Path.cwd()})"
        raise DataError(f"{setting}: {text}: {what}")


def needed_files(task: TaskSettings, sources: Sequence[SourceFile]) -> list[Path]:
    """The files beside a task's rows that may decide what the rows mean: if one changes, they must be read again."""
    if task.schemas is not None:
        return [Path(task.schemas).expanduser()]
    folders = sorted({path.parent for file in sources for path in file.paths})
    return [file for folder in folders for file in sorted(folder.glob(f"*{TABLES}")) if file.is_file()]


def _is_tables(file: SourceFile) -> bool:
    if file.kind != "json" or not file.name.endswith(TABLES):
        return False
    try:
        with file.path.open("rb") as opened:
            return b'"table_names_original"' in opened.read(_HEAD_BYTES)
    except OSError:
        return False


# Which format


def _first_rows(sources: Sequence[SourceFile]) -> list[Row | Reject]:
    sample: list[Row | Reject] = []
    num_rows = num_chars = 0
    for entry in (entry for file in sources for chunk in chunks(file) for entry in read(chunk)):
        sample.append(entry)
        if isinstance(entry, Row):
            num_rows, num_chars = num_rows + 1, num_chars + entry.num_chars
        if num_rows == SAMPLE_ROWS or num_chars > _SAMPLE_CHARS or len(sample) - num_rows > _SAMPLE_REJECTS:
            break
    return sample


def _told(name: str, task: TaskSettings, found: columns.Templates, format_name: str | None) -> Format | None:
    """The format that the settings say, or that was told before; None where the rows must be looked at."""
    setting = f"tasks.{name}.format"
    if set(found) - {"system"}:
        if task.format not in ("auto", columns.NAME):
            shown = ", ".join(sorted(template.setting for template in found.values()))
            raise ConfigError(f"{setting}: {task.format} reads its own columns, beside {shown}; keep one of the two")
        return columns.build(found)
    if task.format == columns.NAME:
        raise ConfigError(f"{setting}: is {columns.NAME}, but tasks.{name}.columns doesn't say which column is what")
    if task.format != "auto":
        return formats.by_name(task.format, setting)
    return None if format_name is None else formats.by_name(format_name, setting)


def _detected(name: str, task: TaskSettings, sources: Sequence[SourceFile], sample: Sequence[Row | Reject]) -> Format:
    values = [entry.value for entry in sample if isinstance(entry, Row)]
    rejects = [entry for entry in sample if isinstance(entry, Reject)]
    if not sample:
        raise DataError(f"tasks.{name}: no rows in {task.path} ({len(sources)} files, all empty)")
    if not values:
        counts = Counter(reject.reason for reject in rejects).most_common()
        reasons = ", ".join(f"{reason} {count}" for reason, count in counts)
        shown = "".join(f"\n  {r.row.file}:{r.row.line}: {r.reason}: {r.detail}" for r in rejects[:5])
        raise DataError(f"tasks.{name}: none of {len(rejects)} rows in {task.path} is readable ({reasons}):{shown}")
    try:
        return formats.detect(values)
    except DataError as error:
        first = next(entry.id for entry in sample if isinstance(entry, Row))
        raise DataError(f"tasks.{name}: {task.path}, from {first.file}:{first.line}: {error}") from None


def _for_task(task: TaskSettings, found: columns.Templates, convert: Converter) -> Converter:
    """A format's conversion with what the task asks for laid around it."""
    if ":" in task.format:
        convert = guarded(convert)
    if set(found) == {"system"}:
        convert = columns.with_system(found["system"], convert)
    return _chosen(convert) if task.preference == "chosen" else convert


def _chosen(convert: Converter) -> Converter:
    """Only what is liked, to be imitated."""

    def liked(row: JsonValue) -> Conversation:
        conversation = convert(row)
        if conversation.desirable is False:
            raise RowError("undesirable", "the answer is marked as one that is not liked")
        if conversation.rejected or conversation.desirable is not None:
            return conversation._replace(rejected=(), desirable=None)
        return conversation

    return liked


def _refuse_groundless(name: str, convert: Converter, values: Sequence[JsonValue]) -> None:
    """Raises ConfigError where all the first rows name databases and nobody knows their tables."""
    for value in values:
        try:
            convert(value)
        except RowError as error:
            if error.reason == "no_schema":
                continue
        return
    if values:
        raise ConfigError(
            f"tasks.{name}.schemas: the rows name databases (db_id), and no *{TABLES} beside them describes their tables; name "
            f"Spider's file of tables here, or set tasks.{name}.columns: {{user: question, assistant: query}} to train without"
        )


# One row


def _unwrapped(entry: Row | Reject) -> Row | Reject:
    """The row inside a quarantined record of ours; any other as it is."""
    if isinstance(entry, Reject):
        return entry
    record = entry.value
    if type(record) is not dict or len(record) != len(_RECORD) or record.keys() != _RECORD:
        return entry
    raw = record["raw"]
    if isinstance(raw, str):
        try:
            raw = json_of(raw, "raw", "bad_json")
        except RowError as error:
            return Reject(entry.id, error.reason, error.detail, record["raw"])
    if not isinstance(raw, dict | list):
        return Reject(entry.id, "not_an_object", "the quarantined record's raw is no row", raw)
    return entry._replace(value=raw)


def _rejected(row: Row, format: Format, error: RowError) -> Reject:
    ours = any(format is other for other in formats.known())
    if error.reason == "missing_key" and ours and not format.fits(row.value):
        return _wrong_format(row, format)
    return Reject(row.id, error.reason, error.detail, row.value)


def _wrong_format(row: Row, expected: Format) -> Reject:
    other = formats.first_fit(row.value)
    hint = f"; it would fit {other.name}" if other and other.name != expected.name else ""
    detail = f"expected {expected.name}, found {formats.keys_of(row.value)}{hint}"
    return Reject(row.id, "wrong_format", detail, row.value)
