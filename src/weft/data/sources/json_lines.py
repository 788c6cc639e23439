"""JSON, one value a line; and the .json files that hold lines, or one object over several lines."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator
from typing import Literal

from weft.data.parse import MAX_ROW_BYTES, Parser, Row
from weft.data.sources.streams import BLOCK_BYTES, Stream, StreamFault
from weft.types import Reject, RowId

BLANK = b" \t\r\n"
_BRACE = ord("{")


def json_lines(lines: Iterable[tuple[int, bytes | None, bool]], name: str) -> Iterator[Row | Reject]:
    """The row of each line that is not blank."""
    parser = Parser()
    for number, line, is_cut in lines:
        if line is None:
            yield too_large(RowId(name, number), "line")
        elif line:
            if line[0] != _BRACE and not line.removeprefix(codecs.BOM_UTF8).strip(BLANK):
                continue
            yield parser.line(RowId(name, number), line, is_cut)


def too_large(row: RowId, what: str) -> Reject:
    """A row that is never held as a whole."""
    return Reject(row, "too_large", f"the {what} is longer than {MAX_ROW_BYTES} bytes")


def shape(stream: Stream) -> Literal["array", "object", "lines"]:
    """What a .json file holds, told from the first and last character of its first line and the character after it."""
    first = last = b""
    is_over = False
    try:
        while block := stream.read1(BLOCK_BYTES):
            for number, part in enumerate(block.split(b"\n")):
                is_over = is_over or bool(first and number)
                text = (part if first else part.removeprefix(codecs.BOM_UTF8)).strip(BLANK)
                if is_over and first == b"{":
                    return "lines" if last == b"}" else "object"
                if is_over and first == b"[" and (text or last != b"]"):
                    return "lines" if last == b"]" and text[:1] == b"[" else "array"
                if text:
                    first, last = first or text[:1], text[-1:]
                    if first not in (b"{", b"["):
                        return "lines"
    except StreamFault:  # whoever reads on meets it again and reports it
        return "array" if first == b"[" else "lines"
    if first == b"{":
        return "lines" if last == b"}" else "object"
    return "array" if first == b"[" else "lines"


def one_object(stream: Stream, name: str) -> Row | Reject | None:
    """A file that is one object over several lines; None if it is not."""
    pieces, num_bytes = [], 0
    try:
        while num_bytes <= MAX_ROW_BYTES and (block := stream.read1(BLOCK_BYTES)):
            pieces.append(block)
            num_bytes += len(block)
    except StreamFault:
        return None
    if num_bytes > MAX_ROW_BYTES:
        return None
    entry = Parser().line(RowId(name, 1), b"".join(pieces))
    return None if isinstance(entry, Reject) and entry.reason in ("bad_json", "bad_utf8") else entry
