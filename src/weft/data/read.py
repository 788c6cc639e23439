"""A task's rows to conversations: what the token store and the checks read.

One pass over the data: the rows that the format was told from are kept and handed out first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

from weft.config.settings import TaskSettings
from weft.data import formats
from weft.data.formats import Format, RowError
from weft.data.parse import Row
from weft.data.sources import SourceFile, files, rows
from weft.errors import DataError
from weft.types import Conversation, Reject, RowId

SAMPLE_ROWS = 100
_SAMPLE_CHARS = 16 * 2**20
_SAMPLE_REJECTS = 10_000


class ReadRow(NamedTuple):
    """A row that means something; `hash` is the 64-bit hash of the raw row, the same wherever it stands."""

    id: RowId
    conversation: Conversation
    hash: int


class TaskReader:
    """The rows of one task, once, in the order of file names and lines; `read == accepted + rejected` for whoever
    counts.

    `format_name` is known before the first row is handed out.
    """

    def __init__(self, name: str, sources: list[SourceFile], task: TaskSettings) -> None:
        """Opens the first file. Raises DataError, ConfigError."""
        self.name = name
        self.sources = sources
        self._auto = task.format == "auto"
        self._entries = chain.from_iterable(rows(file) for file in sources)
        if self._auto:
            sample = self._take_sample()
            self._format = self._detect(sample, task)
            self._entries = chain(sample, self._entries)
        else:
            self._format = formats.by_name(task.format, f"tasks.{name}.format")

    @property
    def format_name(self) -> str:
        """The name of the format that every row is read as."""
        return self._format.name

    def __iter__(self) -> Iterator[ReadRow | Reject]:
        """Every row, read or rejected. Raises DataError if a file can't be read at all."""
        for entry in self._entries:
            yield self._read(entry) if isinstance(entry, Row) else entry

    def _read(self, row: Row) -> ReadRow | Reject:
        # A format that the user named is taken at its word, without asking whether the row fits
        if self._auto and not self._format.fits(row.value):
            return _wrong_format(row, self._format)
        try:
            return ReadRow(row.id, self._format.convert(row.value), row.hash)
        except RowError as error:
            if error.reason == "missing_key" and not self._format.fits(row.value):
                return _wrong_format(row, self._format)
            return Reject(row.id, error.reason, error.detail)

    def _take_sample(self) -> list[Row | Reject]:
        sample: list[Row | Reject] = []
        num_rows = num_chars = 0
        for entry in self._entries:
            sample.append(entry)
            if isinstance(entry, Row):
                num_rows, num_chars = num_rows + 1, num_chars + entry.num_chars
            if num_rows == SAMPLE_ROWS or num_chars > _SAMPLE_CHARS or len(sample) - num_rows > _SAMPLE_REJECTS:
                break
        return sample

    def _detect(self, sample: list[Row | Reject], task: TaskSettings) -> Format:
        values = [entry.value for entry in sample if isinstance(entry, Row)]
        rejects = [entry for entry in sample if isinstance(entry, Reject)]
        if not sample:
            raise DataError(f"tasks.{self.name}: no rows in {task.path} ({len(self.sources)} files, all empty)")
        if not values:
            counts = Counter(reject.reason for reject in rejects).most_common()
            reasons = ", ".join(f"{reason} {count}" for reason, count in counts)
            shown = "".join(f"\n  {r.row.file}:{r.row.line}: {r.reason}: {r.detail}" for r in rejects[:5])
            raise DataError(
                f"tasks.{self.name}: none of {len(rejects)} rows in {task.path} is readable ({reasons}):{shown}"
            )
        try:
            return formats.detect(values)
        except DataError as error:
            first = next(entry.id for entry in sample if isinstance(entry, Row))
            raise DataError(f"tasks.{self.name}: {task.path}, from {first.file}:{first.line}: {error}") from None


def _wrong_format(row: Row, expected: Format) -> Reject:
    other = formats.first_fit(row.value)
    hint = f"; it would fit {other.name}" if other and other.name != expected.name else ""
    return Reject(row.id, "wrong_format", f"expected {expected.name}, found {formats.keys_of(row.value)}{hint}")


def read_task(name: str, task: TaskSettings) -> TaskReader:
    """A reader of all rows of a task; finds its files and tells its format.

    Raises DataError (no files, no rows, no format that fits) and ConfigError (no such format), naming the task.
    """
    try:
        sources = files(task.paths[0])
    except DataError as error:
        raise DataError(f"tasks.{name}.path: {error}") from None
    return TaskReader(name, sources, task)
