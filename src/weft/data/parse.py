"""Text to a row: a piece of JSON, or the reason why it is none.

A good row is the common case and pays for one pass of the decoder and one look at each value. What a fault inside well-formed
JSON is (a double key, NaN) the decoder's hooks note without stopping, so that an array goes on behind its item.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple, TypeAlias

from weft.types import JsonValue, Reject, RowId

MAX_ROW_BYTES = 64 * 2**20
MAX_DEPTH = 100
"""How deep a row may nest. The interpreter's own limit depends on the caller's stack; a row's fate must not."""
RAW_CHARS = 2**20
"""A rejected row's text is kept up to here."""

_MAX_DIGITS = 4300
_BOM = "\ufeff"
_BLANK = " \t\r\n"
_CONTAINERS = (dict, list)  # a tuple: isinstance is slower with a union
_WALKED = frozenset({str, dict, list})
_LONG_LIST = 16
_HALF_PAIR = re.compile(r"\\u[dD][89a-fA-F]")
Container: TypeAlias = "dict[str, JsonValue] | list[JsonValue]"

_encode = json.JSONEncoder(ensure_ascii=False, check_circular=False).encode


class Row(NamedTuple):
    """A row that could be parsed. `num_chars` is the length of its text as it stands in the file."""

    id: RowId
    value: JsonValue
    num_chars: int


def raw_text(text: str | bytes) -> str:
    """A rejected row's text as it is kept: bytes that are not UTF-8 as lone surrogates, '' where it is too long."""
    if len(text) > RAW_CHARS:
        return ""
    return text if isinstance(text, str) else text.decode("utf-8", "surrogateescape")


class Parser:
    """Text to a row. It holds the fault that was met in the text at hand; use one in each thread."""

    def __init__(self) -> None:
        self._fault: tuple[str, str] | None = None
        hooks: dict[str, Any] = {
            "object_pairs_hook": self._pairs,
            "parse_constant": self._constant,
            "parse_float": self._float,
        }
        self._scan = json.JSONDecoder(**hooks).raw_decode
        self._scan_odd_numbers = json.JSONDecoder(**hooks, parse_int=self._int).raw_decode

    def line(self, row: RowId, data: bytes, cut: bool = False) -> Row | Reject:
        """A row that is written as the whole of `data`; `cut`: the file ends in it, without a line end."""
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            return Reject(row, "bad_utf8", f"byte {error.start + 1}: {error.reason}", raw_text(data))
        start = 0
        if text[:1] != "{":
            text = text.removeprefix(_BOM)
            start = len(text) - len(text.lstrip(_BLANK))
        try:
            value, end = self.scan(text, start)
            if end != len(text) and (rest := text[end:].lstrip(_BLANK)):
                raise json.JSONDecodeError("Extra data", text, len(text) - len(rest))
        except json.JSONDecodeError as error:
            hint = "; there are NUL bytes in it" if b"\0" in data else ""
            hint += "; the file ends here without a line end: was it cut?" if cut else ""
            return Reject(row, "bad_json", f"character {error.pos + 1}: {error.msg}{hint}", raw_text(text))
        except RecursionError:
            return _too_deep(row, text)
        return self.judge(row, value, text, start, end)

    def scan(self, text: str, start: int) -> tuple[JsonValue, int]:
        """The JSON value that begins at `start`, and its end. Faults inside it are noted for `judge`.

        Raises json.JSONDecodeError, and RecursionError far beyond MAX_DEPTH.
        """
        self._fault = None
        try:
            return self._scan(text, start)
        except json.JSONDecodeError:
            raise
        except ValueError:  # a number with more digits than Python converts
            self._fault = None
            return self._scan_odd_numbers(text, start)

    def judge(
        self, row: RowId, value: JsonValue, text: str, start: int, end: int, is_utf8: bool = True
    ) -> Row | Reject:
        """The row whose value was just scanned from text[start:end]; `is_utf8`: no broken bytes are in the text."""
        if self._fault is not None:
            return Reject(row, *self._fault, raw_text(text[start:end]))
        if not isinstance(value, _CONTAINERS):
            detail = f"a row is an object or a list of messages, not {kind_of(value)}"
            return Reject(row, "not_an_object", detail, value if end - start <= RAW_CHARS else "")
        # With few brackets and no escapes it can be neither too deep nor hold half a pair
        is_simple = is_utf8 and text.count("{", start, end) + text.count("[", start, end) <= MAX_DEPTH
        too_deep, is_ascii = (False, True) if is_simple and text.find("\\u", start, end) < 0 else _survey(value)
        if too_deep:
            return _too_deep(row, text[start:end])
        if not is_ascii and (not is_utf8 or _HALF_PAIR.search(text, start, end)) and not _encodes(_encode(value)):
            if _encodes(text[start:end]):
                detail = "half of a surrogate pair such as \\ud800 is no character"
                return Reject(row, "lone_surrogate", detail, raw_text(text[start:end]))
            return Reject(row, "bad_utf8", "bytes that are not UTF-8", raw_text(text[start:end]))
        return Row(row, value, end - start)

    def _pairs(self, pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
        value = dict(pairs)
        if len(value) != len(pairs):
            double, count = Counter(key for key, _ in pairs).most_common(1)[0]
            self._fault = ("duplicate_key", f"the key {_shown(double)} is there {count} times")
        return value

    def _constant(self, literal: str) -> None:
        self._fault = ("bad_json", f"{literal} is not JSON")

    def _float(self, digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            self._fault = ("bad_json", f"the number {digits[:40]} is larger than a float can be")
        return number

    def _int(self, digits: str) -> int:
        try:
            if len(digits) <= _MAX_DIGITS:
                return int(digits)
        except ValueError:  # the interpreter was started with a lower limit
            pass
        self._fault = ("bad_json", f"a number of {len(digits)} digits")
        return 0


def _shown(text: str) -> str:
    return ascii(text[:80]) if not _encodes(text) else repr(text[:80])


def _too_deep(row: RowId, text: str) -> Reject:
    return Reject(row, "too_deep", f"nests deeper than {MAX_DEPTH}", raw_text(text))


def _survey(value: Container) -> tuple[bool, bool]:
    """Whether it nests deeper than MAX_DEPTH, and whether every string in it is ASCII; level by level, no recursion."""
    is_ascii = True
    level = [value]
    for _ in range(MAX_DEPTH):
        inner: list[Container] = []
        for outer in level:
            items: Iterable[JsonValue]
            if isinstance(outer, dict):
                for key in outer:
                    if not key.isascii():
                        is_ascii = False
                items = outer.values()
            elif len(outer) > _LONG_LIST and _WALKED.isdisjoint(map(type, outer)):
                continue  # token ids and the like
            else:
                items = outer
            for item in items:
                if isinstance(item, str):
                    if not item.isascii():
                        is_ascii = False
                elif isinstance(item, _CONTAINERS):
                    inner.append(item)
        if not inner:
            return False, is_ascii
        level = inner
    return True, is_ascii


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
