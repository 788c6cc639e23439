"""Text to SQL as Spider writes it: a `question`, its `query`, and the name of a database, `db_id`.

Without the tables nobody could write the query, so the prompt begins with them as CREATE TABLE statements: from the file
that `tasks.NAME.schemas` names, from the one `*tables.json` beside the rows, or from the row's own `schema`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from weft.config.settings import TaskSettings
from weft.data.formats import Bound, Format, RowError, exchange, fields, text_of, to_imitate
from weft.errors import ConfigError
from weft.types import Conversation, JsonObject, JsonValue

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "question" in row and "query" in row and "db_id" in row and "answer" not in row


def convert(row: JsonValue) -> Conversation:
    return _convert(row, {})


def _convert(row: JsonValue, schemas: dict[str, str]) -> Conversation:
    to_imitate(row)
    row = fields(row)
    question, query, name = text_of(row, "question"), text_of(row, "query"), text_of(row, "db_id")
    schema = schemas.get(name) or (text_of(row, "schema") if "schema" in row else "")
    if not schema.strip():
        raise RowError("no_schema", f"the tables of the database {name[:80]!r} are not known; see tasks.NAME.schemas")
    if not question.strip():
        raise RowError("empty_prompt", "the question is empty or white space")
    return exchange(f"{schema}\n\n{question}", query)


def bind(name: str, task: TaskSettings, paths: Sequence[Path]) -> Bound:
    """Reads the tables. Raises ConfigError where there are none, or several files of them, or where they can't be read."""
    if task.schemas is not None:
        found = [Path(task.schemas).expanduser()]
    else:
        folders = sorted({path.parent for path in paths})
        found = [file for folder in folders for file in sorted(folder.glob("*tables.json"))]
    if len(found) > 1:
        shown = ", ".join(map(str, found[:5]))
        raise ConfigError(f"tasks.{name}.schemas: there are several: {shown}; say which")
    if not found:
        return Bound(convert)  # rows may hold their tables themselves; those that don't are told
    schemas = _read(found[0], f"tasks.{name}.schemas: {found[0]}")
    return Bound(lambda row: _convert(row, schemas), (found[0],))


def _read(path: Path, where: str) -> dict[str, str]:
    try:
        listed = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: can't be read: {error}") from None
    if not isinstance(listed, list) or not listed:
        raise ConfigError(f"{where}: is not a list of databases, as Spider's tables.json is")
    schemas = {}
    for number, database in enumerate(listed, 1):
        try:
            schemas[text_of(fields(database), "db_id")] = create_tables(database)
        except (RowError, KeyError, IndexError, TypeError, ValueError) as error:
            raise ConfigError(
                f"{where}: database {number} is not written as in Spider's tables.json: {error!r}"
            ) from None
    return schemas


def create_tables(database: JsonObject) -> str:
    """The CREATE TABLE statements of one database of Spider's tables.json. Raises KeyError, IndexError, TypeError."""
    tables: list[str] = _as_list(database["table_names_original"])
    columns: list[tuple[int, str]] = [(at, column) for at, column in _as_list(database["column_names_original"])]
    kinds: list[str] = _as_list(database["column_types"])
    keys: list[int] = [
        key
        for entry in _as_list(database.get("primary_keys", []))
        for key in (entry if isinstance(entry, list) else [entry])
    ]
    foreign: list[tuple[int, int]] = [(a, b) for a, b in _as_list(database.get("foreign_keys", []))]
    statements = []
    for number, table in enumerate(tables):
        own = [place for place, (at, _) in enumerate(columns) if at == number]
        lines = [f"  {_quoted(columns[place][1])} {kinds[place]}" for place in own]
        primary = [_quoted(columns[place][1]) for place in keys if place in own]
        if primary:
            lines.append(f"  PRIMARY KEY ({', '.join(primary)})")
        for here, there in foreign:
            if here in own:
                at, column = columns[there]
                lines.append(
                    f"  FOREIGN KEY ({_quoted(columns[here][1])}) REFERENCES {_quoted(tables[at])} ({_quoted(column)})"
                )
        statements.append(f"CREATE TABLE {_quoted(table)} (\n" + ",\n".join(lines) + "\n);")
    return "\n".join(statements)


def _as_list(value: JsonValue) -> list:  # type: ignore[type-arg]
    if not isinstance(value, list):
        raise TypeError("expected a list")
    return value


def _quoted(name: str) -> str:
    return name if _PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


FORMAT = Format(
    name="spider",
    order=16,
    fits=fits,
    convert=convert,
    examples=(
        {
            "db_id": "sums",
            "question": "How many?",
            "query": "SELECT count(*) FROM sum",
            "schema": "CREATE TABLE sum (a);",
        },
    ),
    bind=bind,
)
