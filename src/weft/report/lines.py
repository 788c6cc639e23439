"""Reading the files of a run's folder: JSON lines that may end in the middle, and small whole files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from weft.errors import CheckpointError
from weft.types import JsonObject, JsonValue

SETTINGS, METRICS, LEDGER, BALANCE = "settings.yaml", "metrics.jsonl", "ledger.jsonl", "balance.jsonl"
IDENTITY, ENVIRONMENT = "run.json", "environment.json"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The one in C is ten times as fast; with hundreds of tasks that is seconds."""


def json_lines(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The lines of a journal with their numbers from 1; none where there is no such file.

    A last line that is not whole is left out: its run was killed, or is writing it now. Raises CheckpointError for any other one.
    """
    if not file.is_file():
        return
    before = 0
    with file.open("rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                record = json.loads(line)
            except ValueError as error:
                if stream.peek(1):
                    raise broken(file, number, error) from error
                return
            if not line.endswith(b"\n"):
                return
            if not isinstance(record, dict) or not isinstance(record.get("step"), int):
                raise broken(file, number, "an object with a step was expected")
            if record["step"] < before:
                raise broken(file, number, f"step {record['step']} after step {before}")
            before = record["step"]
            yield number, record


def broken(file: Path, number: int, what: object) -> CheckpointError:
    """The error for a line that weft did not write so."""
    return CheckpointError(
        f"{file}:{number}: not a line of weft's journal ({what}); the file was changed or damaged after it was written. "
        "Restore it, or start the run again: it goes on from its last checkpoint and cuts the journal there"
    )


def json_object(file: Path) -> JsonObject:
    """A JSON file that holds an object; an empty one where there is no such file."""
    if not file.is_file():
        return {}
    try:
        found: JsonValue = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{file}: not readable as JSON ({error}); restore it, or remove the whole run") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: holds no object; restore it, or remove the whole run")
    return found


def read_settings(folder: Path, identity: JsonObject) -> dict[tuple[str, ...], JsonValue]:
    """Every setting by its path: from settings.yaml, or those that run.json keeps where it is missing."""
    file = folder / SETTINGS
    if not file.is_file():
        kept = identity.get("settings")
        return {tuple(name.split(".")): value for name, value in kept.items()} if isinstance(kept, dict) else {}
    try:
        found = yaml.load(file.read_text("utf-8"), Loader=_LOADER)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{file}: not readable as YAML ({error}); restore it") from error
    if not isinstance(found, dict):
        raise CheckpointError(f"{file}: holds no settings; restore it")
    return flat(found)


def flat(value: JsonValue, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], JsonValue]:
    """The leaves of nested objects by their paths; an empty object is a leaf."""
    if not isinstance(value, dict) or (path and not value):
        return {path: value}
    return {inner: leaf for key, below in value.items() for inner, leaf in flat(below, (*path, str(key))).items()}
