"""What training together did to each task: its best validation loss beside that of a run of its own.

    transfer_k = (single_k - multi_k) / single_k        above 0: the other tasks helped; below: they hurt

and, where runs without one task are there, what that task did to each other one, in the same way. With interference in the run's
record, the mean cosine between the tasks' gradients says which pairs pulled against each other while training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from weft.errors import CheckpointError
from weft.report.baselines import WITHOUT, trained_tokens
from weft.report.compare import differing
from weft.report.lines import IDENTITY
from weft.report.read import read_run
from weft.report.record import RunRecord
from weft.report.side_by_side import Best, best_of, same_rows

Floats = npt.NDArray[np.float64]

SAME = 0.01
"""A loss that differs by less than this share is called about the same; two runs that differ in the seed alone differ by as much."""
CLEAR = 0.05
"""A mean cosine at least so far from 0 is named."""
_TOKENS_OFF = 0.02
_MEANT = ("mixture", "balance", "batch", "tasks", "validate", "save", "track", "engine", "output")
_MEANT_TOO = {("data", "cache"), ("optimizer", "warmup")}
"""Sections and settings in which a baseline differs on purpose, or may without changing what is learned."""


@dataclass(frozen=True)
class Transfer:
    """One task, trained together with others and alone."""

    task: str
    multi: Best | None
    single: Best | None
    multi_tokens: float
    single_tokens: float
    single_steps: int
    value: float
    """transfer_k; NaN where it can't be said."""
    why_not: str
    """Why it can't be said; empty where it can."""


@dataclass(frozen=True)
class Gradients:
    """The mean over all measurements of the cosines between the tasks' gradients (K × K), and the share of them below 0."""

    tasks: tuple[str, ...]
    cosine_KK: Floats
    negative_KK: Floats
    times: int


@dataclass(frozen=True)
class TransferReport:
    """All that is known about who helps and who hurts whom."""

    folder: Path
    tasks: tuple[Transfer, ...]
    effect_KK: Floats | None
    """Row j, column k: what task j's presence did to task k, as a share of k's loss without j; NaN where there is no such run."""
    gradients: Gradients | None
    notes: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(task.task for task in self.tasks)

    @property
    def any_baseline(self) -> bool:
        return any(task.single for task in self.tasks) or self.effect_KK is not None


def transfer(run: RunRecord, folder: Path) -> TransferReport:
    """Measure a run against the baselines in `folder`, as far as they are there."""
    notes: list[str] = []
    singles = {task.name: _read(folder / task.name, (task.name,), notes) for task in run.tasks}
    found = tuple(_transfer(run, task.name, singles[task.name], notes) for task in run.tasks)
    names = [task.name for task in run.tasks]
    others = {name: _read(folder / f"{WITHOUT}{name}", tuple(n for n in names if n != name), notes) for name in names}
    effect_KK = _effects(run, names, others) if any(others.values()) else None
    return TransferReport(folder, found, effect_KK, gradients(run), tuple(notes))


def gradients(run: RunRecord) -> Gradients | None:
    """The mean of the run's measurements of interference; None where there is none. NaN: a pair that was never measured."""
    if not run.interference:
        return None
    names = tuple(dict.fromkeys(name for measured in run.interference for name in measured.tasks))
    cosines_NKK = np.full((len(run.interference), len(names), len(names)), np.nan)
    for number, measured in enumerate(run.interference):
        at_K = [names.index(name) for name in measured.tasks]
        cosines_NKK[number][np.ix_(at_K, at_K)] = measured.cosine_KK
    known_NKK = np.isfinite(cosines_NKK)
    times_KK = known_NKK.sum(axis=0)
    with np.errstate(invalid="ignore"):
        mean_KK = np.where(known_NKK, cosines_NKK, 0.0).sum(axis=0) / times_KK
        negative_KK = (known_NKK & (cosines_NKK < 0)).sum(axis=0) / times_KK
    return Gradients(names, mean_KK, negative_KK, len(run.interference))


def _read(folder: Path, tasks: Sequence[str], notes: list[str]) -> RunRecord | None:
    """The baseline in a folder; None where there is none, or where it is of other tasks, which is noted."""
    if not (folder / IDENTITY).is_file():
        return None
    try:
        record = read_run(folder)
    except CheckpointError as error:
        notes.append(f"left out: {error}")
        return None
    names = [task.name for task in record.tasks]
    if sorted(names) != sorted(tasks):
        notes.append(f"left out: {folder} is a run of {', '.join(names)}, not of {', '.join(tasks)}")
        return None
    if record.final_step is None:
        notes.append(
            f"{folder.name}: this baseline has not come to its end (step {record.steps}); train it on with --train"
        )
    return record


def _transfer(run: RunRecord, name: str, single: RunRecord | None, notes: list[str]) -> Transfer:
    task = run.task(name)
    multi = best_of(task.validation) if task else None
    tokens = trained_tokens(task) if task else 0.0
    if single is None:
        why = "no single-task run is there" if tokens else "the run never trained it"
        return Transfer(name, multi, None, tokens, 0.0, 0, math.nan, why)
    alone = single.tasks[0]
    best, alone_tokens = best_of(alone.validation), trained_tokens(alone)
    why = ""
    if not same_rows(run, single, name):
        why = "the single-task run held out other rows"
    elif multi is None or best is None:
        why = f"no finite validation loss after the start in the {'single-task run' if multi else 'run'}"
    elif best.loss <= 0:
        why = "the single-task run's loss is 0"
    notes += _otherwise(run, single, name)
    if tokens and abs(alone_tokens / tokens - 1) > _TOKENS_OFF:
        notes.append(f"{name}: alone it has seen {alone_tokens:,.0f} trained tokens, together {tokens:,.0f}")
    value = math.nan if why or not (multi and best) else (best.loss - multi.loss) / best.loss
    return Transfer(name, multi, best, tokens, alone_tokens, single.steps, value, why)


def _otherwise(run: RunRecord, single: RunRecord, name: str) -> list[str]:
    """A note of the settings in which a baseline differs though only the tasks should."""
    found = [
        f"{'.'.join(path)}: {values[1]} alone, {values[0]} together"
        for path, values in differing([run, single]).items()
        if path[0] not in _MEANT and path not in _MEANT_TOO
    ]
    return [f"{name}: the single-task run differs in more than its tasks: {'; '.join(found)}"] if found else []


def _effects(run: RunRecord, names: Sequence[str], others: dict[str, RunRecord | None]) -> Floats:
    effect_KK = np.full((len(names), len(names)), np.nan)
    for j, left_out in enumerate(names):
        without = others[left_out]
        for k, name in enumerate(names):
            task, other = run.task(name), without.task(name) if without else None
            if without is None or task is None or other is None or not same_rows(run, without, name):
                continue
            together, apart = best_of(task.validation), best_of(other.validation)
            if together and apart and apart.loss > 0:
                effect_KK[j, k] = (apart.loss - together.loss) / apart.loss
    return effect_KK


def verdict(value: float) -> str:
    """A transfer in a word."""
    if not math.isfinite(value):
        return "not known"
    return "about the same" if abs(value) < SAME else "helped" if value > 0 else "hurt"


def sentences(report: TransferReport) -> list[str]:
    """What the numbers say, in words."""
    by = {word: [t for t in report.tasks if verdict(t.value) == word] for word in ("helped", "hurt", "about the same")}
    told = [
        f"{heading}: {', '.join(f'{t.task} ({t.value:+.1%})' for t in sorted(by[word], key=lambda t: -abs(t.value)))}"
        for word, heading in (
            ("helped", "helped by training together"),
            ("hurt", "hurt by training together"),
            ("about the same", f"about the same (within {SAME:.0%})"),
        )
        if by[word]
    ]
    told += _of_effects(report)
    if report.gradients:
        told += of_gradients(report.gradients)
    return told


def _of_effects(report: TransferReport) -> list[str]:
    if report.effect_KK is None:
        return []
    pairs = [(float(value), j, k) for (j, k), value in np.ndenumerate(report.effect_KK) if abs(value) >= SAME]
    words = {True: "helps", False: "hurts"}
    return [
        f"{report.names[j]} {words[value > 0]} {report.names[k]}: its loss is {abs(value):.1%} {'lower' if value > 0 else 'higher'} with it"
        for value, j, k in sorted(pairs)
    ]


def of_gradients(found: Gradients) -> list[str]:
    """The pairs whose gradients clearly pull against each other, and those that pull together; the clearest first."""
    upper = [(i, j) for i in range(len(found.tasks)) for j in range(i + 1, len(found.tasks))]
    known = [(float(found.cosine_KK[pair]), pair) for pair in upper if np.isfinite(found.cosine_KK[pair])]
    told = []
    for (i, j), value in ((pair, value) for value, pair in sorted(known) if value <= -CLEAR):
        times = (
            f"in {found.negative_KK[i, j]:.0%} of {found.times} measurements" if found.times > 1 else "measured once"
        )
        told.append(
            f"{found.tasks[i]} and {found.tasks[j]} pull against each other: mean cosine {value:+.2f}, below 0 {times}"
        )
    for (i, j), value in ((pair, value) for value, pair in sorted(known, reverse=True) if value >= CLEAR):
        told.append(f"{found.tasks[i]} and {found.tasks[j]} pull together: mean cosine {value:+.2f}")
    if known and not told:
        told.append(f"no pair's gradients have a mean cosine of {CLEAR} or more either way")
    return told
