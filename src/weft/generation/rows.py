"""A file of prompts: rows in any format that training reads, with an answer (which is left out) or without."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from weft.data import formats
from weft.data.formats import RowError
from weft.data.parse import Row
from weft.data.sources import rows, source_file
from weft.errors import DataError
from weft.types import TEXT_ROLE, JsonObject, JsonValue, Message, RowId

_SHOWN = 20
_TURNS: dict[str, JsonObject] = {
    "messages": {"role": "assistant", "content": "?"},
    "chat_rounds": {"role": "bot", "content": "?"},
    "conversations": {"from": "gpt", "value": "?"},
}
"""The keys of lists of turns, each with an answer to stand in for the one that is asked for."""
_ANSWERERS = ("assistant", "bot", "gpt", "chatgpt", "pretrain")
"""Roles with which a list of turns is complete; the last is a document of its own."""
_ANSWERS = ("answer", "output", "response")


class Asked(NamedTuple):
    """A row's place, the messages to answer, and the answer that stands there already (None: none)."""

    id: RowId
    messages: list[Message]
    expected: str | None


def read_prompts(file: Path) -> list[Asked]:
    """All prompts of a file. Raises DataError with every row that can't be read as one."""
    if not file.is_file():
        raise DataError(f"{file}: no such file (looked for {file.absolute()})")
    found, faults = [], []
    for row in rows(source_file(file)):
        if not isinstance(row, Row):
            faults.append(f"{file}:{row.row.line}: {row.reason}: {row.detail}")
            continue
        try:
            found.append(Asked(row.id, *prompt_of(row.value)))
        except RowError as error:
            faults.append(f"{file}:{row.id.line}: {error}")
    if faults:
        more = f"\nand {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise DataError(f"{len(faults)} rows can't be answered:\n" + "\n".join(faults[:_SHOWN]) + more)
    if not found:
        raise DataError(f"{file}: holds no row")
    return found


def prompt_of(row: JsonValue) -> tuple[list[Message], str | None]:
    """The messages of a row up to its last answer, and that answer if the row has one. Raises RowError."""
    for filled, answered in _candidates(row):
        format = formats.first_fit(filled)
        if format is None:
            continue
        messages = list(format.convert(filled).messages)
        if not messages:
            raise RowError("wrong_format", "a tokenized row has no prompt in words")
        if messages[0].role == TEXT_ROLE:
            return messages, None
        return messages[:-1], messages[-1].content if answered else None
    raise RowError(
        "wrong_format", f'no prompt found among {formats.keys_of(row)}; write {{"prompt": …}} or {{"messages": […]}}'
    )


def _candidates(row: JsonValue) -> Iterator[tuple[JsonValue, bool]]:
    """The row with an answer put in where it has none, and whether it had one; formats insist on an answer."""
    if isinstance(row, list):
        yield (row, True) if _is_answered(row) else ([*row, _TURNS["messages"]], False)
    elif isinstance(row, dict):
        if "chosen" in row:  # its turns end before the answers
            yield row, True
        for key, answer in _TURNS.items():
            turns = row.get(key)
            if isinstance(turns, list) and not _is_answered(turns):
                yield {**row, key: [*turns, answer]}, False
        yield row, True
        for key in _ANSWERS:
            if key not in row:
                yield {**row, key: "?"}, False


def _is_answered(turns: list[JsonValue]) -> bool:
    last = turns[-1] if turns else None
    return isinstance(last, dict) and last.get("role", last.get("from")) in _ANSWERERS
