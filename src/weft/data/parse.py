"""Text to a row: a piece of JSON checked and hashed, or the reason why not; and the window arrays are read through."""

from __future__ import annotations

import codecs
import gzip
import io
import json
import re
import zlib
from collections import Counter
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from weft.types import JsonValue, Reject, RowId

MAX_ROW_BYTES = 64 * 2**20
MAX_DEPTH = 100
"""How deep a row may nest. The interpreter's own limit depends on the caller's stack; a row's fate must not."""

WINDOW_BYTES = 2**20
GZIP_FAULTS = (EOFError, zlib.error, gzip.BadGzipFile)

_MAX_DIGITS = 4000
_SPACE = re.compile(r"[ \t\r\n]*")
_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode

Container: TypeAlias = "dict[str, JsonValue] | list[JsonValue]"
Stream: TypeAlias = "io.BufferedReader | gzip.GzipFile"


class Row(NamedTuple):
    """A row that could be parsed.

    `hash` (64 bits, unsigned) is of its content alone, the same wherever and however it is written; `num_chars` is
    the length of its canonical JSON.
    """

    id: RowId
    value: JsonValue
    hash: int
    num_chars: int


class Window:
    """Decoded text of a stream, `text[pos:]` not yet used. Bytes that are not UTF-8 become lone surrogates, found
    later.
    """

    def __init__(self, stream: Stream) -> None:
        self.text, self.pos, self.ended = "", 0, False
        self._stream = stream
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
            except GZIP_FAULTS:
                if not pieces:
                    raise
                break  # first use what came before; the next call meets the fault again
            missing -= len(pieces[-1])
            self.ended = not pieces[-1]
        self.text, self.pos = held + self._decode(b"".join(pieces), self.ended), 0
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


class Parser:
    """Text to a row. Faults inside well-formed JSON are noted, not raised, so that an array goes on behind its item."""

    def __init__(self) -> None:
        self._fault: tuple[str, str] | None = None
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._pairs, parse_constant=self._constant, parse_int=self._int
        )

    def line(self, row: RowId, data: bytes) -> Row | Reject:
        """A row that is written as the whole of `data`."""
        self._fault = None
        try:
            text = data.decode()
            value = self._decoder.decode(text)
        except UnicodeDecodeError as error:
            return Reject(row, "bad_utf8", f"byte {error.start + 1}: {error.reason}")
        except json.JSONDecodeError as error:
            cut = "" if data.endswith(b"\n") else "; the file ends here without a line end: was it cut?"
            nul = "; there are NUL bytes in it" if b"\0" in data else ""
            return Reject(row, "bad_json", f"character {error.pos + 1}: {error.msg}{nul}{cut}")
        except RecursionError:
            return _too_deep(row)
        return self._finish(row, value, text)

    def item(self, row: RowId, window: Window) -> Row | Reject:
        """The item of an array that begins at the window's position, which is left behind the item."""
        while True:
            self._fault = None
            try:
                value, end = self._decoder.raw_decode(window.text, window.pos)
                if end < len(window.text) or window.ended:  # else it may go on: 12|34
                    break
            except json.JSONDecodeError as error:
                if window.ended and (error.pos >= len(window.text) or error.msg.startswith("Unterminated string")):
                    return Reject(row, "truncated_file", "the file ends inside this item; it and all after it is lost")
                if window.ended or len(window.text) - window.pos > MAX_ROW_BYTES:
                    return Reject(row, "broken_array", f"{error.msg}; this item and all after it is lost")
            except RecursionError:
                return Reject(row, "broken_array", "nests too deep to be read; this item and all after it is lost")
            window.grow()
        text, window.pos = window.text[window.pos : end], end
        if len(text) > MAX_ROW_BYTES:
            return Reject(row, "too_large", f"the item is longer than {MAX_ROW_BYTES} characters")
        return self._finish(row, value, text)

    def _finish(self, row: RowId, value: JsonValue, text: str) -> Row | Reject:
        if self._fault is not None:
            return Reject(row, *self._fault)
        if not isinstance(value, dict | list):
            return Reject(row, "not_an_object", f"a row is an object or a list of messages, not {kind_of(value)}")
        if text.count("{") + text.count("[") > MAX_DEPTH and _nests_deeper(value, MAX_DEPTH):
            return _too_deep(row)
        canonical = _canonical(value)
        try:
            data = canonical.encode()
        except UnicodeEncodeError:
            if _encodes(text):
                return Reject(row, "lone_surrogate", "half of a surrogate pair such as \\ud800 is no character")
            return Reject(row, "bad_utf8", "bytes that are not UTF-8")
        return Row(row, value, int.from_bytes(blake2b(data, digest_size=8).digest(), "little"), len(canonical))

    def _pairs(self, pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        value = dict(pairs)
        if len(value) != len(pairs):
            double, count = Counter(key for key, _ in pairs).most_common(1)[0]
            self._fault = ("duplicate_key", f"the key {double[:80]!r} is there {count} times")
        return value

    def _constant(self, literal: str) -> None:
        self._fault = ("bad_json", f"{literal} is not JSON")

    def _int(self, digits: str) -> int:
        if len(digits) > _MAX_DIGITS:
            self._fault = ("bad_json", f"a number of {len(digits)} digits")
            return 0
        return int(digits)


def _too_deep(row: RowId) -> Reject:
    return Reject(row, "too_deep", f"nests deeper than {MAX_DEPTH}")


def _nests_deeper(value: Container, limit: int) -> bool:
    level = [value]
    for _ in range(limit):
        inner = [outer.values() if isinstance(outer, dict) else outer for outer in level]
        level = [value for values in inner for value in values if isinstance(value, dict | list)]
        if not level:
            return False
    return True


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


_KINDS = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", int: "a number", float: "a number"}


def kind_of(value: JsonValue) -> str:
    """What a JSON value is, in words, for messages."""
    return _KINDS.get(type(value), "null")
