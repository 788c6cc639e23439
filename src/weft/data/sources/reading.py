"""A chunk to its rows: one reader for each kind of file, and one place where a fault of the file ends it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing

from weft.data.parse import Row
from weft.data.sources import columnar, hub, text
from weft.data.sources.cutting import Chunk, chunks
from weft.data.sources.json_array import json_array
from weft.data.sources.json_lines import json_lines, one_object, shape
from weft.data.sources.kinds import SourceFile
from weft.data.sources.streams import Cursor, Stream, StreamFault, begins_as_utf16, lines, open_stream
from weft.data.sources.tables import table
from weft.errors import DataError
from weft.types import Reject, RowId

FILE_REASONS = frozenset(
    {
        "bad_header",
        "broken_array",
        "damaged_arrow",
        "damaged_gzip",
        "damaged_parquet",
        "damaged_zstd",
        "not_utf8_file",
        "truncated_file",
        "unclosed_quote",
    }
)
"""Reasons that end a file: one such Reject stands for an unknown number of rows."""


class Reading:
    """The rows of a chunk in order, each parsed or rejected; holds one row and a window of the file at a time.

    Raises DataError if the file can't be opened or read at all (permissions, a failing disk).
    """

    def __init__(self, chunk: Chunk) -> None:
        self.chunk = chunk
        self._cursor = Cursor()
        self._entries = self._read()

    @property
    def position(self) -> int:
        """Bytes of the chunk that were read so far; of packed and binary files about so many."""
        return self._cursor.position

    def __iter__(self) -> Iterator[Row | Reject]:
        return self._entries

    def __next__(self) -> Row | Reject:
        return next(self._entries)

    def _read(self) -> Iterator[Row | Reject]:
        chunk = self.chunk
        try:
            yield from _entries(chunk, self._cursor)
        except StreamFault as fault:
            yield Reject(RowId(chunk.file.name, max(1, fault.line)), fault.reason, fault.detail)
        except OSError as error:
            raise DataError(f"{chunk.file.path}: can't be read: {error}") from error
        self._cursor.position = chunk.stop - chunk.start


def read(chunk: Chunk) -> Reading:
    """The rows of a chunk. `RowId.line` is a line of the file, from 1; of arrays, Parquet, Arrow and the hub, an item."""
    return Reading(chunk)


def rows(file: SourceFile) -> Iterator[Row | Reject]:
    """The rows of a whole file: those of its chunks one after another."""
    for chunk in chunks(file):
        yield from Reading(chunk)


def _entries(chunk: Chunk, cursor: Cursor) -> Iterator[Row | Reject]:
    file = chunk.file
    if file.kind == "hub" and file.hub is not None:
        yield from hub.hub_rows(file.hub, cursor)
    elif file.kind == "parquet":
        yield from columnar.parquet(file.path, file.name, cursor)
    elif file.kind == "arrow":
        yield from columnar.arrow(file.path, file.name, cursor)
    elif chunk.start == 0 and any(map(begins_as_utf16, file.paths)):
        yield Reject(RowId(file.name, 1), "not_utf8_file", "the whole file is UTF-16; convert it to UTF-8")
    elif file.kind == "parallel":
        yield from _parallel(file, cursor)
    elif file.kind == "json" and chunk.start == 0 and chunk.stop == file.num_bytes:
        yield from _json(file, cursor)
    else:
        with closing(open_stream(file.path, chunk.start, None if file.is_packed else chunk.stop)) as stream:
            yield from _text(stream, chunk, cursor)


def _text(stream: Stream, chunk: Chunk, cursor: Cursor) -> Iterator[Row | Reject]:
    file = chunk.file
    if file.kind == "text" and file.sample_by == "document":
        yield from text.whole(stream, file.name)
        return
    numbered = lines(stream, cursor, chunk.first_line)
    if file.kind in ("csv", "tsv"):
        yield from table(numbered, file.name, "," if file.kind == "csv" else "\t")
    elif file.kind != "text":
        yield from json_lines(numbered, file.name)
    elif file.sample_by == "paragraph":
        yield from text.by_paragraph(numbered, file.name)
    else:
        yield from text.by_line(numbered, file.name)


def _json(file: SourceFile, cursor: Cursor) -> Iterator[Row | Reject]:
    """A .json file: an array of rows, or one object over several lines, or lines all the same."""
    with closing(open_stream(file.path)) as stream:
        found = shape(stream)
    if found == "object":
        with closing(open_stream(file.path)) as stream:
            whole = one_object(stream, file.name)
        if whole is not None:
            yield whole
            return
    with closing(open_stream(file.path)) as stream:
        if found == "array":
            yield from json_array(stream, file.name, cursor)
        else:
            yield from json_lines(lines(stream, cursor), file.name)


def _parallel(file: SourceFile, cursor: Cursor) -> Iterator[Row | Reject]:
    with ExitStack() as stack:
        streams = [stack.enter_context(closing(open_stream(path, 0))) for path in file.paths]
        cursors = [Cursor() for _ in streams]
        feeds = [lines(stream, each) for stream, each in zip(streams, cursors, strict=True)]
        for entry in text.parallel(feeds, file.columns, file.name):
            cursor.position = sum(each.position for each in cursors)
            yield entry
