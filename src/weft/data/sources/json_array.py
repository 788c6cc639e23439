"""A JSON array of rows, read through a sliding window, so that memory follows the longest item and not the file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator

from weft.data.parse import MAX_ROW_BYTES, Parser, Row
from weft.data.sources.streams import Cursor, Stream, StreamFault
from weft.types import Reject, RowId

WINDOW_BYTES = 2**20
_SPACE = re.compile(r"[ \t\r\n]*")


class _Window:
    """Decoded text of a stream, `text[pos:]` not yet used. Bytes that are not UTF-8 become lone surrogates."""

    def __init__(self, stream: Stream, cursor: Cursor) -> None:
        self.text, self.pos, self.ended = "", 0, False
        self.is_utf8 = True
        self._stream, self._cursor = stream, cursor
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode

    def grow(self) -> bool:
        """Forget what was used and at least double what is held; False at the end of the file."""
        if self.ended:
            return False
        held = self.text[self.pos :]
        missing = max(WINDOW_BYTES, len(held))
        pieces: list[bytes] = []
        while missing > 0 and not self.ended:
            try:
                pieces.append(self._stream.read1(missing))
            except StreamFault:
                if not pieces:
                    raise
                break  # first use what came before; the next call meets the fault again
            missing -= len(pieces[-1])
            self.ended = not pieces[-1]
        self.text, self.pos = held + self._decode(b"".join(pieces), self.ended), 0
        self._cursor.position = self._stream.used()
        self.is_utf8 = self.text.isascii() or _encodes(self.text)
        return True

    def peek(self) -> str:
        """The next character that is not white space, which `pos` then stands on; '' at the end."""
        while True:
            space = _SPACE.match(self.text, self.pos)
            self.pos = space.end() if space else self.pos
            if self.pos < len(self.text):
                return self.text[self.pos]
            if not self.grow():
                return ""


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_array(stream: Stream, name: str, cursor: Cursor) -> Iterator[Row | Reject]:
    """The items of an array, numbered from 1. Where it breaks the rest is lost, and the last Reject says so."""
    parser, window, number = Parser(), _Window(stream, cursor), 0
    try:
        if window.peek() == "\ufeff":
            window.pos += 1
        window.peek()
        window.pos += 1  # the bracket that told that this is an array
        while (character := window.peek()) not in ("", "]"):
            entry, goes_on = _item(parser, RowId(name, number + 1), window)
            number += 1
            yield entry
            if not goes_on:
                return
            character = window.peek()
            if character == ",":
                window.pos += 1
            elif character not in ("", "]"):
                detail = f"expected ',' or ']' after item {number}; all after it is lost"
                yield Reject(RowId(name, number + 1), "broken_array", detail)
                return
        if not character:
            detail = "the array is not closed: all after the item before is lost"
            yield Reject(RowId(name, number + 1), "truncated_file", detail)
            return
        window.pos += 1
        if window.peek():
            yield Reject(RowId(name, number + 1), "broken_array", "there is more after the array's end, which is lost")
    except StreamFault as fault:
        fault.line = number + 1
        raise


def _item(parser: Parser, row: RowId, window: _Window) -> tuple[Row | Reject, bool]:
    """The item that begins at the window's position, which is left behind it; and whether anything can follow."""
    while True:
        text = window.text
        try:
            value, end = parser.scan(text, window.pos)
            if end < len(text) or window.ended:  # else it may go on: 12|34
                break
        except json.JSONDecodeError as error:
            if window.ended and (error.pos >= len(text) or error.msg.startswith("Unterminated string")):
                detail = "the file ends inside this item; it and all after it is lost"
                return Reject(row, "truncated_file", detail), False
            if window.ended or len(text) - window.pos > MAX_ROW_BYTES:
                return Reject(row, "broken_array", f"{error.msg}; this item and all after it is lost"), False
        except RecursionError:
            detail = "nests too deep to be read; this item and all after it is lost"
            return Reject(row, "broken_array", detail), False
        window.grow()
    start, window.pos = window.pos, end
    if end - start > MAX_ROW_BYTES:
        return Reject(row, "too_large", f"the item is longer than {MAX_ROW_BYTES} characters"), True
    return parser.judge(row, value, text, start, end, window.is_utf8), True
