"""What a run came to, in numbers and in plain words."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from weft.report.record import Freeze, RunRecord, TaskRecord, Validation

SAME = 0.005
"""A validation loss that changed by less than this share of its start is called the same."""
EARLIER = 0.01
"""A last validation loss this share above the task's best was better earlier."""

Kind = Literal["better", "worse", "same", "lost", "unknown"]
"""`lost`: the last validation has no finite loss."""


@dataclass(frozen=True)
class TaskVerdict:
    """How a task fared on its validation rows; NaN where nothing is known. `first` and `best` are of its finite losses."""

    name: str
    kind: Kind
    first: float
    last: float
    best: float
    best_step: int | None
    """Where it was best; the start counts too."""
    frozen: Freeze | None
    lost_since: int | None = None
    """The first of the validations at its end that have no finite loss."""

    @property
    def ratio(self) -> float:
        """Last over first: r_k at the end."""
        return self.last / self.first if self.first > 0 else math.nan

    @property
    def was_better(self) -> bool:
        """Whether it was clearly better at some step between the start and the end."""
        return self.last > self.best * (1 + EARLIER) and self.best < self.first


def of_task(task: TaskRecord) -> TaskVerdict:
    known, since = task.validation.finite, task.validation.lost_since
    kind: Kind = "unknown" if since is None else "lost"
    if not len(known):
        return TaskVerdict(task.name, kind, math.nan, math.nan, math.nan, None, task.frozen, since)
    first, last = float(known.value_N[0]), float(task.validation.value_N[-1])
    best = int(np.argmin(known.value_N))
    if since is None and len(known) > 1:
        change = last - first
        kind = "same" if abs(change) <= SAME * abs(first) else "better" if change < 0 else "worse"
    lowest, at = float(known.value_N[best]), int(known.step_N[best])
    return TaskVerdict(task.name, kind, first, last, lowest, at, task.frozen, since)


def lost(run: RunRecord) -> list[str]:
    """Which tasks have no finite loss at their end, and from which validation on."""
    since: dict[int, list[str]] = {}
    for task in run.tasks:
        if (step := task.validation.lost_since) is not None:
            since.setdefault(step, []).append(task.name)
    return [f"{listed(names)}: no finite loss since step {step:,}" for step, names in sorted(since.items())]


def best_validation(run: RunRecord, of: Literal["loss", "macro", "worst_loss"]) -> Validation | None:
    """The validation after a training step at which a number was lowest; the base model is no result of the run."""
    known = [v for v in run.validations if v.step > 0 and math.isfinite(getattr(v, of))]
    return min(known, key=lambda v: float(getattr(v, of)), default=None)


def headline(run: RunRecord) -> tuple[str, str]:
    """The verdict in one line, and its colour."""
    tasks = [of_task(task) for task in run.tasks]
    by: dict[Kind, list[str]] = {"better": [], "worse": [], "same": [], "lost": [], "unknown": []}
    for task in tasks:
        by[task.kind].append(task.name)
    better, worse, same, gone = by["better"], by["worse"], by["same"], by["lost"]
    if len(by["unknown"]) == len(tasks):
        return (
            "No step was taken yet" if not run.steps else f"{_steps(run.steps)} trained; no task has two validations"
        ), ""
    kind = "bad" if gone or len(worse) > len(better) else "careful" if worse else "good"
    if len(tasks) == 1:
        x = tasks[0]
        if x.lost_since is not None:
            return f"{x.name} got worse: no finite validation loss since step {x.lost_since:,}", kind
        word = {"better": "got better", "worse": "got worse", "same": "stayed the same"}[x.kind]
        return f"{x.name} {word}: validation loss {x.first:.3f} → {x.last:.3f}", kind
    if len(better) == len(tasks):
        return f"{'Both' if len(tasks) == 2 else f'All {len(tasks)}'} tasks got better", kind
    told = [f"{len(better)} of {len(tasks)} tasks got better"]
    told += [f"{_some(worse)} got worse"] if worse else []
    told += [f"{_some(gone)} got worse: no finite loss at the end"] if gone else []
    told += [f"{_some(same)} stayed the same"] if same else []
    told += (
        [f"{_some(by['unknown'])} {'was' if len(by['unknown']) == 1 else 'were'} not measured"] if by["unknown"] else []
    )
    return "; ".join(told), kind


def sentences(run: RunRecord) -> list[str]:
    """What else is to be known at once."""
    tasks = [of_task(task) for task in run.tasks]
    told = []
    if run.final_step is None:
        told.append(f"The run has not come to its end: it goes on, or was interrupted. Shown up to step {run.steps:,}.")
    told += [f"{line}." for line in lost(run)]
    told += _losses(run)
    worse = [f"{t.name} ({t.first:.3f} → {t.last:.3f})" for t in tasks if t.kind == "worse"]
    if worse and len(tasks) > 1:
        told.append(f"Worse than at the start: {listed(worse)}.")
    frozen = [t for t in tasks if t.frozen]
    if frozen:
        told.append(f"Frozen: {listed([_frozen(t.name, t.frozen) for t in frozen if t.frozen])}.")
    earlier = [t for t in tasks if t.was_better and not t.frozen]
    if earlier:
        named = [f"{t.name} by {100 * (t.last / t.best - 1):.1f} % at step {t.best_step:,}" for t in earlier]
        told.append(f"Better earlier: {listed(named)}.")
    for steps, why in (
        (run.skipped, "the loss or the gradient was not finite"),
        (run.spared, "all of the rows belong to frozen tasks"),
    ):
        if steps:
            told.append(f"{_steps(len(steps))} skipped, for {why}: {listed([f'{step:,}' for step in steps])}.")
    both = [task.name for task in run.tasks if task.rows.both]
    if both:
        told.append(f"Rows of {listed(both)} were both trained on and looked at: the balancing saw what it trained.")
    return told


def _frozen(name: str, freeze: Freeze) -> str:
    best = f"best at {freeze.best_step:,}" if math.isfinite(freeze.best_loss) else "it never had a finite loss"
    return f"{name} at step {freeze.step:,} ({best})"


def _losses(run: RunRecord) -> list[str]:
    if len(run.validations) < 2:
        return []
    first, last = run.validations[0], run.validations[-1]
    best = best_validation(run, "loss")
    told = f"Validation loss of the whole: {loss(first.loss)} at step {first.step:,}, {loss(last.loss)} at step {last.step:,}"
    if best and best.step != last.step:
        told += f", {loss(best.loss)} at its best, step {best.step:,}"
    elif best:
        told += ", its best"
    return [f"{told}. The result is from step {run.final_step:,}." if run.final_step is not None else f"{told}."]


def loss(value: float) -> str:
    """A loss with four digits behind the point."""
    return f"{value:,.4f}" if math.isfinite(value) else "–"


def listed(names: Sequence[str], most: int = 6) -> str:
    """Names in a row, the rest as a number."""
    rest = len(names) - most
    return ", ".join(names) if rest <= 1 else f"{', '.join(names[:most])} and {rest:,} more"


def _some(names: Sequence[str]) -> str:
    return " and ".join(names) if len(names) <= 2 else f"{len(names)}"


def _steps(number: int) -> str:
    return f"{number:,} step{'' if number == 1 else 's'}"
