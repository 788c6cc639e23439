"""Several runs side by side: what they are called, what was set otherwise, whether their losses compare at all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel

from weft.config.settings import ModelSettings, Settings, TaskSettings
from weft.report.lines import flat
from weft.report.record import RunRecord
from weft.types import JsonObject, JsonValue

_PLACES = {("output",), ("data", "cache")}
"""Where things lie: it differs from run to run, and changes nothing."""


def run_names(folders: Sequence[Path]) -> list[str]:
    """The shortest ends of the folders' paths that tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for size in range(1, max(map(len, parts), default=1) + 1):
        names = ["/".join(part[-size:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def task_names(runs: Sequence[RunRecord]) -> list[str]:
    """All runs' tasks, each once, in the order in which they come."""
    return list(dict.fromkeys(task.name for run in runs for task in run.tasks))


def lowest(values: Sequence[float]) -> set[int]:
    """The places of the lowest number; none where fewer than two are known (not NaN), or all of them are infinite."""
    known = [value for value in values if not math.isnan(value)]
    least = min(known, default=math.inf)
    return {i for i, value in enumerate(values) if value == least} if len(known) > 1 and least < math.inf else set()


def macro(values: Sequence[float]) -> float:
    """The mean of the tasks' losses; NaN where one is missing."""
    return float(np.mean(values)) if values else math.nan


def defaults() -> dict[tuple[str, ...], JsonValue]:
    """Every setting's default by its path; a task's settings stand under `tasks, ""`."""
    whole: JsonObject = {}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            whole[field.alias or name] = field.default.model_dump(mode="json")
        elif not field.is_required():
            whole[field.alias or name] = field.get_default(call_default_factory=True)
    whole["model"] = _fields(ModelSettings)
    whole["tasks"] = {"": _fields(TaskSettings)}
    return flat(whole)


def _fields(section: type[BaseModel]) -> JsonObject:
    """The defaults of a section that has settings without one."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in section.model_fields.items()
        if not field.is_required()
    }


def is_default(path: tuple[str, ...], value: JsonValue, known: dict[tuple[str, ...], JsonValue]) -> bool:
    """Whether a setting has its default value."""
    general = ("tasks", "", *path[2:]) if path[0] == "tasks" else path
    return general in known and known[general] == value


def differing(runs: Sequence[RunRecord]) -> dict[tuple[str, ...], list[JsonValue]]:
    """The settings that are not the same in all runs, each with every run's value; a run that lacks it has its default, or None."""
    known = defaults()
    paths = dict.fromkeys(path for run in runs for path in run.settings if path not in _PLACES)
    found = {path: [run.settings.get(path, known.get(path)) for run in runs] for path in paths}
    return {path: values for path, values in found.items() if any(value != values[0] for value in values)}


def not_comparable(runs: Sequence[RunRecord]) -> list[str]:
    """Why losses of these runs may not be set side by side; empty where nothing speaks against it."""
    told = []
    if len({str(run.identity.get("tokenizer")) for run in runs}) > 1:
        told.append("The tokenizers differ, so a loss per token means another thing in each run.")
    if len({str(run.identity.get("template")) for run in runs}) > 1:
        told.append("The chat templates differ, so the trained tokens do too.")
    other = []
    for name in task_names(runs):
        having = [task for run in runs if (task := run.task(name)) and len(task.validation)]
        if len({task.validation_tokens for task in having}) > 1:
            other.append(name)
    if other:
        told.append(
            f"The validation rows differ (their trained tokens are not as many) for {', '.join(other[:8])}"
            f"{' and others' if len(other) > 8 else ''}."
        )
    return told
