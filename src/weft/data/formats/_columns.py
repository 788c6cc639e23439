"""A task's own columns: `columns: {user: question, assistant: answer}`, and row templates such as "Translate to {lang}: {text}".

A template has columns in braces, `{a.b}` for what lies inside an object (a number for a list's item) and `{{` for a brace;
nothing else of str.format. Text goes in as it stands, a number as its digits, a list or an object as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TypeAlias

from weft.config.settings import TaskSettings
from weft.config.words import near
from weft.data.formats._check import check
from weft.data.formats._core import Converter, Format, RowError, exchange, fields, keys_of
from weft.data.parse import kind_of
from weft.errors import ConfigError
from weft.types import TEXT_ROLE, Conversation, JsonObject, JsonValue, Message

NAME = "columns"
"""What a task's format is called where its columns say what a row means."""

_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")


@dataclass(frozen=True, slots=True)
class RowTemplate:
    """Text with columns in it: texts[0], columns[0], texts[1], …, texts[-1]. `setting` is where it was written."""

    setting: str
    texts: tuple[str, ...]
    columns: tuple[str, ...]

    def fill(self, row: JsonObject) -> str:
        """The text for one row. Raises RowError `missing_key` or `wrong_type`."""
        if self.texts == ("", ""):
            return _text(_value(row, self.columns[0]), self.columns[0], nothing="")
        parts = [self.texts[0]]
        for column, text in zip(self.columns, self.texts[1:], strict=True):
            parts += (_text(_value(row, column), column), text)
        return "".join(parts)


Templates: TypeAlias = dict[str, RowTemplate]
"""What the templates of a task say of each role, and of `text`."""


def template(text: str, setting: str) -> RowTemplate:
    """Reads a template. Raises ConfigError naming the setting."""
    texts, columns, end = [""], [], 0
    for found in _BRACES.finditer(text):
        texts[-1] += text[end : found.start()]
        end = found.end()
        if found[0] in ("{{", "}}"):
            texts[-1] += found[0][0]
        elif found[1]:
            columns.append(found[1].strip())
            texts.append("")
        else:
            raise ConfigError(
                f"{setting}: a lone {found[0]!r} at character {found.start() + 1} of {text!r}; write a column as {{name}}, "
                "and a brace that is text as {{ or }}"
            )
    texts[-1] += text[end:]
    return RowTemplate(setting, tuple(texts), tuple(columns))


def templates(name: str, task: TaskSettings) -> Templates:
    """What a task's columns and templates say of each role, and of `text`. Raises ConfigError where they contradict."""
    found: Templates = {
        role: RowTemplate(f"tasks.{name}.columns.{role}", ("", ""), (column,)) for role, column in task.columns.items()
    }
    written = (("system", task.system), ("user", task.user), ("assistant", task.assistant))
    for role, text in written:
        if text is None:
            continue
        if role in found:
            raise ConfigError(f"tasks.{name}.{role}: is set beside columns.{role}; keep one of the two")
        found[role] = template(text, f"tasks.{name}.{role}")
    if "text" in found and len(found) > 1:
        others = ", ".join(sorted(set(found) - {"text"}))
        raise ConfigError(f"tasks.{name}.columns.text: a document stands alone, but there is {others} too")
    for one, other in (("user", "assistant"), ("assistant", "user")):
        if one in found and other not in found:
            raise ConfigError(
                f"tasks.{name}.columns: says what {one} is, but not {other}; add columns: {{{other}: …}} or a template {other}:"
            )
    return found


def build(found: Templates) -> Format:
    """The format of a task whose templates say what every row means."""
    text, system, user, assistant = (found.get(role) for role in ("text", "system", "user", "assistant"))

    def convert(row: JsonValue) -> Conversation:
        row = fields(row)
        if text is not None:
            return check(Conversation((Message(TEXT_ROLE, text.fill(row)),)))
        assert user is not None
        assert assistant is not None
        return exchange(user.fill(row), assistant.fill(row), system.fill(row) if system else "")

    return Format(name=NAME, order=0, fits=lambda row: isinstance(row, dict), convert=convert, examples=())


def with_system(system: RowTemplate, convert: Converter) -> Converter:
    """A format's conversion with a system message put before every conversation that has none."""

    def fuller(row: JsonValue) -> Conversation:
        conversation = convert(row)
        messages = conversation.messages
        if not messages or messages[0].role != "user":
            return conversation
        content = system.fill(row if isinstance(row, dict) else {})
        if not content.strip():
            return conversation
        message = Message("system", content)
        rejected = conversation.rejected and (message, *conversation.rejected)
        return conversation._replace(messages=(message, *messages), rejected=rejected)

    return fuller


def refuse_unknown(found: Templates, sample: Iterable[JsonValue]) -> None:
    """Raises ConfigError for every column that no row of the sample has."""
    rows = [row for row in sample if isinstance(row, dict)]
    seen = list(dict.fromkeys(key for row in rows for key in row))
    faults = [
        f"{role.setting}: no row among the first {len(rows)} has the column {column!r}"
        + (f"; did you mean {hint!r}?" if (hint := near(column, seen)) else "")
        + f". Columns seen: {', '.join(key[:40] for key in seen[:20])}"
        for role in found.values()
        for column in role.columns
        if rows and not any(_has(row, column) for row in rows)
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _has(row: JsonObject, column: str) -> bool:
    try:
        _value(row, column)
    except RowError:
        return False
    return True


def _value(row: JsonObject, column: str) -> JsonValue:
    if column in row:
        return row[column]
    value: JsonValue = row
    for part in column.split("."):
        if isinstance(value, dict) and part in value:
            value = value[part]
        elif isinstance(value, list) and part.isdecimal() and len(part) < 10 and int(part) < len(value):
            value = value[int(part)]
        else:
            raise RowError("missing_key", f"there is no {column!r} among {keys_of(row)}")
    return value


def _text(value: JsonValue, column: str, nothing: str | None = None) -> str:
    if isinstance(value, str):
        return value
    if value is None:
        if nothing is None:
            raise RowError("wrong_type", f"{column!r} is null; a template needs something to put there")
        return nothing
    try:
        return json.dumps(value, ensure_ascii=False)
    except (ValueError, RecursionError):
        raise RowError("wrong_type", f"{column!r} is {kind_of(value)} too large or too deep to be written") from None
