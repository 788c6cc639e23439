"""The numbers of `weft compare`: each task's validation losses run by run, and differences only where the rows are the same.

The one idea: a difference of two losses means something only if both were taken on the same rows with the same tokens. `run.json` names
the data of each task by a hash of all that made it; with the split's settings that says which rows are held out. Where they differ,
the losses are shown and the difference is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from weft.report.compare import differing, run_names, task_names
from weft.report.read import read_runs
from weft.report.record import RunRecord, Series, Validation
from weft.report.verdict import lost
from weft.types import JsonValue


class Best(NamedTuple):
    """The lowest validation loss of a run after its start (the base model, at step 0, is no result), and where it was."""

    loss: float
    step: int


class Cell(NamedTuple):
    """A task in a run. NaN and None: there was no such validation, or its loss was not finite."""

    last: float
    best: Best | None
    same_rows: bool
    """Whether its validation rows are those of the first run."""
    change: float
    """Best loss less the first run's; NaN unless both are of the same rows."""


@dataclass(frozen=True)
class Column:
    """A run."""

    name: str
    folder: Path
    steps: int
    finished: bool
    cells: Mapping[str, Cell]
    """By task; a task that the run doesn't have is absent."""
    macro_last: float
    macro_best: Best | None
    macro_change: float
    """Best macro mean less the first run's; NaN unless both have the same tasks with the same rows."""
    worst: tuple[str, float] | None
    """The task with the largest loss at the last validation, and that loss; a loss that is not finite (NaN) is the largest."""


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side; the first is what the others are measured against."""

    columns: tuple[Column, ...]
    tasks: tuple[str, ...]
    settings: Mapping[str, tuple[JsonValue, ...]]
    """The settings that are not the same in all runs, by name, with each run's value."""
    notes: tuple[str, ...]
    """What must be known before the numbers are read."""


def compare(folders: Sequence[Path]) -> Comparison:
    """Set runs side by side. Raises CheckpointError with every folder that is no run."""
    return of_records(read_runs(folders))


def of_records(runs: Sequence[RunRecord]) -> Comparison:
    """Set records side by side."""
    names = run_names([run.folder for run in runs])
    tasks = task_names(runs)
    columns = tuple(_column(name, run, runs[0]) for name, run in zip(names, runs, strict=True))
    settings = {".".join(path): tuple(values) for path, values in differing(runs).items()}
    return Comparison(columns, tuple(tasks), settings, tuple(_notes(runs, columns)))


def best_of(series: Series) -> Best | None:
    """The lowest finite value after step 0."""
    known = series.finite
    places = np.flatnonzero(known.step_N > 0)
    if not len(places):
        return None
    place = places[int(np.argmin(known.value_N[places]))]
    return Best(float(known.value_N[place]), int(known.step_N[place]))


def same_rows(one: RunRecord, other: RunRecord, task: str) -> bool:
    """Whether a task's validation rows and their tokens are the same in two runs."""
    data = [run.identity.get("data") for run in (one, other)]
    keys = [found.get(task) if isinstance(found, dict) else None for found in data]
    split = [[run.setting("data", name) for name in ("validation", "test")] for run in (one, other)]
    return keys[0] is not None and keys[0] == keys[1] and split[0] == split[1]


def _column(name: str, run: RunRecord, first: RunRecord) -> Column:
    cells = {task.name: _cell(run, first, task.name) for task in run.tasks}
    comparable = {t.name for t in run.tasks} == {t.name for t in first.tasks} and all(
        c.same_rows for c in cells.values()
    )
    best = _best_macro(run)
    last = run.validations[-1] if run.validations else None
    against = _best_macro(first) if comparable else None
    return Column(
        name=name,
        folder=run.folder,
        steps=run.steps,
        finished=run.final_step is not None,
        cells=cells,
        macro_last=last.macro if last else math.nan,
        macro_best=best,
        macro_change=best.loss - against.loss if best and against else math.nan,
        worst=(last.worst_task, last.worst_loss) if last and last.worst_task else None,
    )


def _cell(run: RunRecord, first: RunRecord, name: str) -> Cell:
    task, other = run.task(name), first.task(name)
    series = task.validation if task else Series(np.zeros(0), np.zeros(0))
    same = other is not None and same_rows(run, first, name)
    best = best_of(series)
    against = best_of(other.validation) if other and same else None
    last = float(series.value_N[-1]) if len(series) else math.nan
    return Cell(last, best, same, best.loss - against.loss if best and against else math.nan)


def _best_macro(run: RunRecord) -> Best | None:
    known: list[Validation] = [v for v in run.validations if v.step > 0 and math.isfinite(v.macro)]
    best = min(known, key=lambda v: v.macro, default=None)
    return Best(best.macro, best.step) if best else None


def _notes(runs: Sequence[RunRecord], columns: Sequence[Column]) -> list[str]:
    found = []
    first = columns[0]
    for run, column in zip(runs, columns, strict=True):
        if not column.finished:
            found.append(f"{column.name}: has not come to its end; shown up to step {column.steps}")
        unmeasured = [task for task, cell in column.cells.items() if cell.best is None]
        if unmeasured:
            found.append(f"{column.name}: no finite validation loss after the start for {', '.join(unmeasured)}")
        found += [f"{column.name}: {line}" for line in lost(run)]
        if run.skipped:
            found.append(f"{column.name}: steps skipped, for their loss or gradient was not finite: {len(run.skipped)}")
        lacking = [task for task in first.cells if task not in column.cells]
        more = [task for task in column.cells if task not in first.cells]
        if lacking:
            found.append(f"{column.name}: has no task {', '.join(lacking)}; no macro mean is compared")
        if more:
            found.append(f"{column.name}: has {', '.join(more)}, which {first.name} has not; no macro mean is compared")
        other = [task for task, cell in column.cells.items() if task in first.cells and not cell.same_rows]
        if other:
            found.append(
                f"{column.name}: the data or the split of {', '.join(other)} is not that of {first.name}, so other rows are held out: "
                "the losses are shown, their difference is not"
            )
    return found
