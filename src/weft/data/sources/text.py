"""Plain text to rows {"text": …}: a line, a paragraph or the whole file; and parallel files, line by line."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from itertools import zip_longest

from weft.data.parse import MAX_ROW_BYTES, Row, raw_text
from weft.data.sources.json_lines import BLANK, too_large
from weft.data.sources.streams import BLOCK_BYTES, Stream, StreamFault
from weft.errors import DataError
from weft.types import JsonValue, Reject, RowId

Lines = Iterable[tuple[int, bytes | None, bool]]


def by_line(lines: Lines, name: str) -> Iterator[Row | Reject]:
    """A row for each line that is not blank, without its line end (LF or CRLF)."""
    for number, line, _ in lines:
        if line is None:
            yield too_large(RowId(name, number), "line")
        elif line := _without_mark(line, number):
            yield from _row(RowId(name, number), line.removesuffix(b"\r"))


def by_paragraph(lines: Lines, name: str) -> Iterator[Row | Reject]:
    """A row for each stretch between blank lines, as it stands but for its last line end; its number is its first line's."""
    held: list[bytes] = []  # empty where it is too long already
    first = num_bytes = 0
    for number, part, _ in lines:
        line = _without_mark(part, number) if part is not None else None
        if line is not None and not line.strip(BLANK):
            yield from _paragraph(RowId(name, first), held, num_bytes)
            held, num_bytes = [], 0
            continue
        first = first if num_bytes else number
        num_bytes += MAX_ROW_BYTES + 2 if line is None else len(line) + 1
        if line is None or num_bytes > MAX_ROW_BYTES + 1:
            held = []
        else:
            held.append(line)
    yield from _paragraph(RowId(name, first), held, num_bytes)


def _paragraph(row: RowId, held: list[bytes], num_bytes: int) -> Iterator[Row | Reject]:
    if num_bytes > MAX_ROW_BYTES + 1:
        yield too_large(row, "paragraph")
    elif held:
        yield from _row(row, b"\n".join(held).removesuffix(b"\r"))


def whole(stream: Stream, name: str) -> Iterator[Row | Reject]:
    """One row: the whole file as it stands; none where it is blank."""
    pieces, num_bytes = [], 0
    try:
        while block := stream.read1(BLOCK_BYTES):
            num_bytes += len(block)
            if num_bytes > MAX_ROW_BYTES:
                yield too_large(RowId(name, 1), "file")
                return
            pieces.append(block)
    except StreamFault as fault:
        fault.line = 1
        raise
    yield from _row(RowId(name, 1), _without_mark(b"".join(pieces), 1))


def _without_mark(line: bytes, number: int) -> bytes:
    return line.removeprefix(codecs.BOM_UTF8) if number == 1 else line


def _row(row: RowId, data: bytes) -> Iterator[Row | Reject]:
    if not data.strip(BLANK):
        return
    text = decoded(row, data)
    yield text if isinstance(text, Reject) else Row(row, {"text": text}, len(text))


def decoded(row: RowId, data: bytes) -> str | Reject:
    """Text of a plain file; NUL bytes are refused, because they tell of UTF-16 or of a file that is no text."""
    if b"\0" in data:
        return Reject(row, "nul_bytes", "NUL bytes are no text: is the file UTF-16, or binary?", raw_text(data))
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return Reject(row, "bad_utf8", f"byte {error.start + 1}: {error.reason}", raw_text(data))


def parallel(lines: Sequence[Lines], columns: Sequence[str], name: str) -> Iterator[Row | Reject]:
    """Line n of every file makes row n, an object with a key for each file; rows that are blank in all are none.

    Raises DataError where one file ends before another.
    """
    for parts in zip_longest(*lines):
        there = [part for part in parts if part is not None]
        number = there[0][0]
        if len(there) < len(parts):
            short = [column for column, part in zip(columns, parts, strict=True) if part is None]
            raise DataError(f"{name}: .{' and .'.join(short)} ends before line {number}, which the other file has")
        row = RowId(name, number)
        if any(line is None for _, line, _ in there):
            yield too_large(row, "line")
            continue
        data = [_without_mark(line or b"", number).removesuffix(b"\r") for _, line, _ in there]
        if not any(line.strip(BLANK) for line in data):
            continue
        yield _side_by_side(row, dict(zip(columns, data, strict=True)))


def _side_by_side(row: RowId, data: dict[str, bytes]) -> Row | Reject:
    value: dict[str, JsonValue] = {}
    for column, line in data.items():
        text = decoded(row, line)
        if isinstance(text, Reject):
            raw: JsonValue = {column: raw_text(line) for column, line in data.items()}
            return Reject(row, text.reason, f".{column}: {text.detail}", raw)
        value[column] = text
    return Row(row, value, sum(map(len, data.values())))
