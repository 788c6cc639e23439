"""What every format is made of: the Format itself, the fault of a row, and ways to take text out of a row."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from weft.config.settings import TaskSettings
from weft.data.parse import kind_of
from weft.types import Conversation, JsonObject, JsonValue, Message

MAX_NESTING = 100
"""How deep JSON that stands in a string may nest."""


class RowError(ValueError):
    """A row that can't be used: a short stable `reason` for counting, a `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


Converter: TypeAlias = Callable[[JsonValue], Conversation]


class Bound(NamedTuple):
    """A format's `convert` for one task, and the files beside the rows that it depends on."""

    convert: Converter
    needs: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a conversation as JSON.

    `fits` says by its keys whether a row is of this format, and never raises. `convert` gives a checked conversation
    or raises RowError, whatever the row. `examples` are rows that are this format and no other's; the conformance
    test reads them. `bind` is there where rows mean something only together with the task's settings or with a file
    beside them: it gives the `convert` of one task (its name, settings and files), or raises ConfigError.
    """

    name: str
    order: int
    fits: Callable[[JsonValue], bool]
    convert: Converter
    examples: tuple[JsonValue, ...]
    bind: Callable[[str, TaskSettings, Sequence[Path]], Bound] | None = None


def blank(text: str) -> bool:
    """Whether a text is empty or white space."""
    return not text or text.isspace()


def keys_of(row: JsonValue) -> str:
    """The keys of a row in words, for messages; short whatever the row holds."""
    if isinstance(row, dict):
        shown = ", ".join(repr(key[:40]) for key in list(row)[:12])
        return "{" + shown + (", …" if len(row) > 12 else "") + "}"
    if isinstance(row, list):
        return f"a list of {keys_of(row[0])}" if row and not isinstance(row[0], list) else "a list"
    return kind_of(row)


def fields(row: JsonValue) -> JsonObject:
    """The row as an object. Raises RowError."""
    if not isinstance(row, dict):
        raise RowError("wrong_type", f"the row is {kind_of(row)}; expected an object")
    return row


def text_of(holder: JsonObject, key: str, where: str = "") -> str:
    """The string at a key. Raises RowError naming the key, and the type that stands there instead."""
    value = holder.get(key)
    if isinstance(value, str):
        return value
    if key not in holder:
        raise RowError("missing_key", f"{where}{key!r} is missing among {keys_of(holder)}")
    raise RowError("wrong_type", f"{where}{key!r} is {kind_of(value)}; expected a string")


def optional_text(holder: JsonObject, key: str) -> str:
    """The string at a key, '' where it is absent or null. Raises RowError."""
    return "" if holder.get(key) is None else text_of(holder, key)


def system_text(row: JsonObject) -> str:
    """What stands in a column `system` or `system_prompt`; '' where there is none: a column holds '' in rows without one."""
    return optional_text(row, "system") or optional_text(row, "system_prompt")


def system_of(row: JsonObject) -> tuple[Message, ...]:
    """The message of a `system` column, none where it is absent or empty."""
    system = system_text(row)
    return (Message("system", system),) if system else ()


def exchange(prompt: str, answer: str, system: str = "") -> Conversation:
    """A question and its answer, checked. Raises RowError where one of them is empty or white space."""
    if not prompt or prompt.isspace():
        raise RowError("empty_prompt", "the user message is empty or white space")
    if not answer or answer.isspace():
        raise RowError("empty_answer", "the answer is empty or white space")
    messages = (Message("user", prompt), Message("assistant", answer))
    return Conversation((Message("system", system), *messages) if system else messages)


def json_of(text: str, where: str, reason: str) -> JsonValue:
    """The JSON that a string holds, as strict as a row's own JSON. Raises RowError with the reason."""

    def refuse(literal: str) -> None:
        raise ValueError(f"{literal} is not JSON")

    try:
        value: JsonValue = json.loads(text, parse_constant=refuse)
    except RecursionError:
        raise RowError(reason, f"{where} nests deeper than {MAX_NESTING}") from None
    except ValueError as error:
        raise RowError(reason, f"{where} is not JSON: {str(error)[:200]}") from None
    if text.count("{") + text.count("[") > MAX_NESTING and _nests_deeper(value):
        raise RowError(reason, f"{where} nests deeper than {MAX_NESTING}")
    if "\\u" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise RowError("lone_surrogate", f"{where}: half of a surrogate pair is no character") from None
    return value


def _nests_deeper(value: JsonValue) -> bool:
    level = [value]
    for _ in range(MAX_NESTING):
        inner = [
            outer.values() if isinstance(outer, dict) else outer for outer in level if isinstance(outer, dict | list)
        ]
        level = [value for values in inner for value in values]
        if not level:
            return False
    return True
