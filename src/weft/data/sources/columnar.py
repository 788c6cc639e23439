"""Parquet and Arrow to rows, a batch at a time.

Cells become JSON: lists and structs nest, maps with string keys become objects, dates and times ISO strings, decimals strings of their
digits. What JSON has no value for (bytes, NaN, durations) costs the row, named by its column.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import types

from weft.data.parse import MAX_DEPTH, MAX_ROW_BYTES, Row
from weft.data.sources.json_lines import too_large
from weft.data.sources.streams import Cursor, StreamFault
from weft.types import JsonValue, Reject, RowId

_BATCH_ROWS = 512
_BATCH_BYTES = 16 * 2**20
_PIECE_ROWS = 512
_PIECE_BYTES = 16 * 2**20
_FAULTS = (pa.ArrowException, OSError, UnicodeDecodeError)

Converter: TypeAlias = Callable[[Any], JsonValue]


class _NotJsonError(Exception):
    pass


class _Fault(NamedTuple):
    """Stands in the place of a cell that can't be read."""

    reason: str
    detail: str


def parquet(path: Path, name: str, cursor: Cursor) -> Iterator[Row | Reject]:
    """The rows of a Parquet file, numbered from 1. Raises StreamFault where it is damaged."""
    yield from _rows(_parquet_batches(path, cursor), name, "damaged_parquet")


def arrow(path: Path, name: str, cursor: Cursor) -> Iterator[Row | Reject]:
    """The rows of an Arrow file or stream, numbered from 1. Raises StreamFault where it is damaged."""
    yield from _rows(_arrow_batches(path, cursor), name, "damaged_arrow")


def batches_to_rows(batches: Iterator[pa.RecordBatch], name: str) -> Iterator[Row | Reject]:
    """The rows of batches that came from elsewhere."""
    yield from _rows(batches, name, "damaged_arrow")


def _parquet_batches(path: Path, cursor: Cursor) -> Iterator[pa.RecordBatch]:
    size = path.stat().st_size
    with pq.ParquetFile(path, buffer_size=2**20, pre_buffer=False, page_checksum_verification=True) as file:
        metadata = file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        num_bytes = sum(group.total_byte_size for group in groups)
        row_bytes = num_bytes / max(1, metadata.num_rows)
        batch_rows = max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(1.0, row_bytes))))
        done = 0
        for batch in file.iter_batches(batch_rows, use_threads=False):
            yield batch
            done += batch.num_rows
            cursor.position = size * done // max(1, metadata.num_rows)


def _arrow_batches(path: Path, cursor: Cursor) -> Iterator[pa.RecordBatch]:
    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            file = pa.ipc.open_file(source)
            for number in range(file.num_record_batches):
                yield file.get_batch(number)
                cursor.position = source.size() * (number + 1) // file.num_record_batches
            return
        source.seek(0)
        with pa.ipc.open_stream(source) as stream:
            for batch in stream:
                yield batch
                cursor.position = source.tell()


def _rows(batches: Iterator[pa.RecordBatch], name: str, reason: str) -> Iterator[Row | Reject]:
    number = 0
    while True:
        try:
            batch = next(batches, None)
            if batch is None:
                return
            columns = [_Column(batch.column(i), batch.schema.field(i).name) for i in range(batch.num_columns)]
        except (FileNotFoundError, PermissionError):
            raise
        except _FAULTS as error:
            raise StreamFault(reason, f"all from here on is lost: {error}", number + 1) from None
        names = [column.name for column in columns]
        if len(set(names)) < len(names):
            double = sorted({column for column in names if names.count(column) > 1})
            raise StreamFault("bad_header", f"these columns are there more than once: {double[:5]}", number + 1)
        for start, stop in _pieces(batch, 0, batch.num_rows):
            yield from _piece(columns, start, stop, RowId(name, number + start + 1), batch)
        number += batch.num_rows


def _pieces(batch: pa.RecordBatch, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Stretches of a batch that are small enough to be held as Python's values."""
    if stop - start > 1 and (stop - start > _PIECE_ROWS or batch.slice(start, stop - start).nbytes > _PIECE_BYTES):
        middle = (start + stop) // 2
        yield from _pieces(batch, start, middle)
        yield from _pieces(batch, middle, stop)
    elif stop > start:
        yield start, stop


def _piece(
    columns: list[_Column], start: int, stop: int, first: RowId, batch: pa.RecordBatch
) -> Iterator[Row | Reject]:
    num_bytes = batch.slice(start, stop - start).nbytes
    if num_bytes > MAX_ROW_BYTES:  # a piece of one row
        yield too_large(first, "row")
        return
    names = [column.name for column in columns]
    cells = [column.values(start, stop) for column in columns]
    for offset, row in enumerate(zip(*cells, strict=True)):
        row_id = RowId(first.file, first.line + offset)
        faults = [(name, cell) for name, cell in zip(names, row, strict=True) if isinstance(cell, _Fault)]
        if faults:
            column, fault = faults[0]
            yield Reject(row_id, fault.reason, f"column {column!r}: {fault.detail}")
        else:
            yield Row(row_id, dict(zip(names, row, strict=True)), num_bytes // (stop - start))


class _Column:
    """A column of a batch that is safe to read, and how its cells become JSON."""

    def __init__(self, array: pa.Array, name: str) -> None:
        """Raises ArrowInvalid where the array points outside its own bytes."""
        self.name = name
        self._is_sound = True
        try:
            array.validate(full=True)
        except pa.ArrowInvalid as error:
            if "UTF8" not in str(error):
                raise
            self._is_sound = False
        if isinstance(array.type, pa.BaseExtensionType):
            array = array.storage
        readable = _readable(array.type)
        if readable != array.type and self._is_sound:
            array = array.cast(readable)
        self._array = array
        self._convert = _converter(array.type)

    def values(self, start: int, stop: int) -> list[JsonValue | _Fault]:
        """The cells from `start` to `stop` as JSON, or what is wrong with them."""
        if not self._is_sound:
            return [self._checked(i) for i in range(start, stop)]
        values = self._array.slice(start, stop - start).to_pylist()
        return [_cell(self._convert, value) for value in values] if self._convert else values

    def _checked(self, i: int) -> JsonValue | _Fault:
        cell = self._array.slice(i, 1)
        try:
            cell.validate(full=True)
            value = cell.cast(_readable(cell.type)).to_pylist()[0]
        except pa.ArrowException as error:
            return _Fault("bad_utf8", str(error))
        convert = _converter(_readable(cell.type))
        return _cell(convert, value) if convert else value


def _cell(convert: Converter, value: object) -> JsonValue | _Fault:
    try:
        return None if value is None else convert(value)
    except _NotJsonError as error:
        return _Fault("not_json", str(error))


def _readable(kind: pa.DataType) -> pa.DataType:
    """The type to read a type as: what Python or JSON can't hold exactly, as the string that Arrow writes for it."""
    found = kind
    if types.is_date(kind) or types.is_time(kind) or types.is_timestamp(kind) or types.is_decimal(kind):
        found = pa.string()
    elif types.is_float16(kind):
        found = pa.float32()
    elif types.is_dictionary(kind):
        found = _readable(kind.value_type)
    elif types.is_list(kind):
        found = pa.list_(_readable(kind.value_type))
    elif types.is_large_list(kind):
        found = pa.large_list(_readable(kind.value_type))
    elif types.is_struct(kind):
        found = pa.struct([(field.name, _readable(field.type)) for field in kind])
    return found


def _converter(kind: pa.DataType, depth: int = 2) -> Converter | None:
    """What makes JSON of a cell of a type that is not null; None where Arrow's own value is JSON already."""
    if types.is_null(kind) or types.is_boolean(kind) or types.is_integer(kind) or _is_text(kind):
        return None
    if types.is_floating(kind):
        return _finite
    if depth > MAX_DEPTH:
        return _refuse(f"nests deeper than {MAX_DEPTH}")
    if types.is_nested(kind) and not types.is_union(kind):
        return _nested_converter(kind, depth)
    return _refuse(f"JSON has no value for the type {kind}")


def _nested_converter(kind: pa.DataType, depth: int) -> Converter | None:
    if types.is_struct(kind):
        return _struct_converter(kind, depth)
    if not types.is_map(kind):
        return _list_converter(_converter(kind.value_type, depth + 1))
    if not _is_text(kind.key_type):
        return _refuse(f"JSON has no value for the type {kind}")
    value = _converter(kind.item_type, depth + 1)
    return lambda pairs: _map(pairs, value)


def _is_text(kind: pa.DataType) -> bool:
    return bool(types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind))


def _list_converter(item: Converter | None) -> Converter | None:
    if item is None:
        return None
    return lambda cells: [None if cell is None else item(cell) for cell in cells]


def _struct_converter(kind: pa.StructType, depth: int) -> Converter | None:
    fields = {field.name: _converter(field.type, depth + 1) for field in kind}
    if len(fields) < kind.num_fields:
        return _refuse("a struct with a doubled name")
    if not any(fields.values()):
        return None
    return lambda cells: _object(cells, fields)


def _refuse(why: str) -> Converter:
    def refuse(_: Any) -> JsonValue:
        raise _NotJsonError(why)

    return refuse


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _NotJsonError(f"{value} is no number in JSON")
    return value


def _object(cells: dict[str, Any], fields: dict[str, Converter | None]) -> JsonValue:
    return {
        name: cell if cell is None or (convert := fields[name]) is None else convert(cell)
        for name, cell in cells.items()
    }


def _map(pairs: list[tuple[str, Any]], convert: Converter | None) -> JsonValue:
    value: dict[str, JsonValue] = {}
    for key, cell in pairs:
        if key in value:
            raise _NotJsonError(f"the key {key[:80]!r} is there more than once")
        value[key] = cell if cell is None or convert is None else convert(cell)
    return value
