"""CSV and TSV with a header: every row an object of strings.

A quoted cell may hold line ends, so a quote that is opened and not closed swallows the rows behind it; where that shows, nobody knows
how many rows went with it, and the file ends there.
"""

from __future__ import annotations

import codecs
import csv
from collections.abc import Iterator

from weft.data.parse import Row, raw_text
from weft.data.sources.json_lines import BLANK
from weft.data.sources.text import Lines
from weft.types import JsonValue, Reject, RowId

MAX_RECORD_BYTES = 16 * 2**20
"""The longest row of a table; less than elsewhere, because the reader holds four bytes a character."""


class _TooLarge(Exception):
    pass


class _Feed:
    """Lines as text for the csv reader; remembers those of the record at hand."""

    def __init__(self, lines: Lines) -> None:
        self._lines = iter(lines)
        self.number, self.first = 0, 0
        self.num_lines = 0
        self.text = bytearray()

    def begin(self) -> None:
        self.first, self.num_lines = 0, 0
        self.text.clear()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        self.number, line, is_cut = next(self._lines)
        self.first = self.first or self.number
        self.num_lines += 1
        if line is None or len(self.text) + len(line) > MAX_RECORD_BYTES:
            raise _TooLarge
        line = line.removeprefix(codecs.BOM_UTF8) if self.number == 1 else line
        self.text += b"\n" + line if self.text else line
        try:
            return line.decode() if is_cut else line.decode() + "\n"
        except UnicodeDecodeError:
            return line.decode("utf-8", "surrogateescape") + "\n"


def table(lines: Lines, name: str, delimiter: str) -> Iterator[Row | Reject]:
    """The rows below the header; `RowId.line` is the line a row begins in."""
    if csv.field_size_limit() < MAX_RECORD_BYTES:  # the interpreter has one limit for all readers: never lower it
        csv.field_size_limit(MAX_RECORD_BYTES)
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    header: list[str] = []
    while True:
        feed.begin()
        fault: tuple[str, str] | None = None
        record: list[str] = []
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            fault = ("bad_csv", str(error))
        except _TooLarge:
            fault = ("too_large", f"the row is longer than {MAX_RECORD_BYTES} bytes")
        row, data = RowId(name, feed.first), bytes(feed.text)
        if fault is None and not data.strip(BLANK):
            continue
        if fault is not None and feed.num_lines > 1:
            detail = f"a quote that opens in line {feed.first} is not closed as it should be ({fault[1]})"
            yield Reject(row, "unclosed_quote", f"{detail}; all from here on is lost")
            return
        fault = fault or _text_fault(data)
        if not header:
            fault = ("bad_header", f"{fault[0]}: {fault[1]}") if fault else _header_fault(record)
            if fault:
                yield Reject(row, *fault, raw_text(data))
                return
            header = record
            continue
        if fault is None and len(record) != len(header):
            fault = ("wrong_number_of_cells", f"{len(record)} cells, the header has {len(header)}")
        if fault is not None:
            yield Reject(row, *fault, raw_text(data))
            continue
        value: dict[str, JsonValue] = dict(zip(header, record, strict=True))
        yield Row(row, value, len(data))


def _text_fault(data: bytes) -> tuple[str, str] | None:
    if b"\0" in data:
        return "nul_bytes", "NUL bytes are no text: is the file UTF-16, or binary?"
    try:
        data.decode()
    except UnicodeDecodeError as error:
        return "bad_utf8", f"byte {error.start + 1}: {error.reason}"
    return None


def _header_fault(header: list[str]) -> tuple[str, str] | None:
    double = sorted({cell for cell in header if header.count(cell) > 1})
    return ("bad_header", f"these columns are there more than once: {double[:5]}") if double else None
