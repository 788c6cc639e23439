"""What a run's validations say about each task, and which tasks go together: measured facts with thresholds, nothing guessed.

A task is judged by its own validation losses after the start, if there are at least four:

    overfits    two or more validations ago it was better (or it was frozen), and the last loss is more than 1 % above that best
    falling     the last quarter of the validations still brought a tenth of all that its loss ever fell
    flat        neither
    worse       it was never better than the base model

A frozen task is judged up to the step at which it was frozen, for what came then was not its own training; it is never called falling.
Nothing is said of a task whose last validation has no finite loss: the run has lost it, however it went before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from weft.config.settings import Settings
from weft.data.store import Store
from weft.errors import DataError
from weft.report.baselines import trained_tokens
from weft.report.record import RunRecord, Series, TaskRecord
from weft.report.transfer import CLEAR, Floats, TransferReport

FEWEST = 4
"""Validations after the start below which nothing is said of a task."""
RISEN = 0.01
"""A last loss so much above the best, as a share of it, has risen."""
LATE = 0.1
"""A task whose loss fell by this share of its whole fall in the last quarter of the validations is still falling."""
HURT = 0.02
"""A task that its own run beats by this share is better trained apart."""

Kind = Literal["overfits", "falling", "flat", "worse", "unknown"]


@dataclass(frozen=True)
class Trend:
    """How a task's validation loss went. For `unknown`, `why` is all that is known."""

    task: str
    kind: Kind
    why: str
    """The measured numbers, in words."""
    best_step: int = 0
    late: float = 0.0
    """The share of its whole fall that came in the last quarter of the validations."""
    patience: int = 2
    """The fewest, from 2, validations without a better one after which freezing would not have come before its best."""


def trend(task: TaskRecord) -> Trend:
    """Judge one task by its validations."""
    everything = task.validation.finite
    after = _between(everything, 1, math.inf)
    course = _between(everything, 1, task.frozen.step if task.frozen else math.inf)
    if unknown := _nothing_to_say(task, everything, after, course):
        return Trend(task.name, "unknown", unknown)
    value_N, step_N = course.value_N, course.step_N
    best = int(np.argmin(value_N))
    last, lowest, start = float(value_N[-1]), float(value_N[best]), float(everything.value_N[0])
    at, end = int(step_N[best]), int(step_N[-1])
    fall = start - lowest
    if everything.step_N[0] == 0 and fall <= 0:
        why = f"its loss was never below the base model's {start:.4f}; the best was {lowest:.4f} at step {at}"
        return Trend(task.name, "worse", f"{why}; it was frozen at step {task.frozen.step}" if task.frozen else why, at)
    patience = _patience(value_N[: best + 1])
    if (task.frozen or len(value_N) - 1 - best >= 2) and last > lowest * (1 + RISEN):
        why = f"its loss was best at step {at} ({lowest:.4f}) and rose to {last:.4f} at step {end}"
        return Trend(task.name, "overfits", f"{why}; it was frozen" if task.frozen else why, at, 0.0, patience)
    if task.frozen:
        why = f"it was frozen at step {task.frozen.step} with a loss of {last:.4f}, its best being {lowest:.4f} at step {at}"
        later = f"; from then on, without training, it went to {after.value_N[-1]:.4f} at step {after.step_N[-1]:.0f}"
        return Trend(task.name, "flat", f"{why}{later if len(after) > len(course) else ''}", at, 0.0, patience)
    quarter = max(1, len(value_N) // 4)
    late = float(value_N[-1 - quarter] - last) / fall if fall > 0 else 0.0
    before = int(step_N[-1 - quarter])
    why = f"from step {before} to {end} its loss went from {value_N[-1 - quarter]:.4f} to {last:.4f}, {late:.0%} of its whole fall"
    return Trend(task.name, "falling" if late >= LATE else "flat", why, at, late, patience)


def _between(series: Series, first: float, last: float) -> Series:
    """The points of the steps first … last."""
    inside_N = (series.step_N >= first) & (series.step_N <= last)
    return Series(series.step_N[inside_N], series.value_N[inside_N])


def _nothing_to_say(task: TaskRecord, everything: Series, after: Series, course: Series) -> str:
    """Why a task can't be judged by its finite losses (all, those after the start, those until it was frozen); empty where it can."""
    if not task.validation_tokens:
        return "it has no validation rows"
    since = task.validation.lost_since
    if since is not None:
        told = f"it has no finite loss since step {since}"
        if not len(everything):
            return told
        return f"{told}; the last one was {everything.value_N[-1]:.4f} at step {everything.step_N[-1]:.0f}"
    if len(after) < FEWEST:
        lost = len(task.validation) - len(everything)
        also = f", and {lost} with a loss that is not finite" if lost else ""
        times = "validation" if len(after) == 1 else "validations"
        return f"{len(after)} {times} after the start{also}: at least {FEWEST} are needed"
    return "" if len(course) else "it had no finite loss until it was frozen"


def _patience(value_N: Floats) -> int:
    """One more than the longest row of validations without a better one, up to the best; at least 2, for one may be chance."""
    best_N = np.minimum.accumulate(value_N)
    longest = stalled = 0
    for better in (value_N[1:] < best_N[:-1]).tolist():
        stalled = 0 if better else stalled + 1
        longest = max(longest, stalled)
    return max(2, longest + 1)


def epoch_tokens(run: RunRecord, settings: Settings) -> dict[str, float]:
    """The trained tokens of one pass over each task's training rows, from the run's own token stores; without those whose store is gone."""
    keys = run.identity.get("data")
    found = {}
    for name, key in keys.items() if isinstance(keys, dict) else ():
        folder = Path(settings.cache) / f"{name}-{key}"
        try:
            store = Store.open(folder, name)
            tokens = float(store.trained_S[store.split("train", settings.data.validation, settings.data.test)].sum())
        except DataError:
            continue
        if tokens > 0:
            found[name] = tokens
    return found


def epochs_until(task: TaskRecord, step: int, tokens_of_epoch: float) -> float:
    """How often a task's rows had been trained on after a step, by their trained tokens."""
    until_N = task.tokens.step_N <= step
    seen = task.tokens.value_N[until_N & (task.share.value_N > 0)].sum()
    return float(seen) / tokens_of_epoch


@dataclass(frozen=True)
class Groups:
    """Tasks that go together, and why those that do not were parted; `evidence` False where nothing is known of any pair or task."""

    groups: tuple[tuple[str, ...], ...]
    reasons: tuple[tuple[frozenset[str], str], ...]
    """Each with the tasks that it is about."""
    evidence: bool

    def why(self, tasks: Sequence[str]) -> str:
        """What is told of a group."""
        return "; ".join(reason for about, reason in self.reasons if about & set(tasks))


def groups(run: RunRecord, transfer: TransferReport) -> Groups:
    """Part tasks that conflict.

    Two tasks' likeness is the mean cosine of their gradients, and the mean of what each did to the other in units where HURT weighs as
    much as CLEAR; groups are joined by the highest average likeness as long as that is above -CLEAR. A single measurement of cosines is not
    enough. Where no pair parts the tasks, those that their single-task run beats by HURT are taken out.
    """
    names = [task.name for task in run.tasks if trained_tokens(task) > 0]
    likeness_KK = _likeness(names, transfer)
    found = _joined(len(names), likeness_KK)
    parted = [[names[k] for k in members] for members in found]
    reasons: list[tuple[frozenset[str], str]] = []
    for i, one in enumerate(found):
        for other in found[i + 1 :]:
            if np.nan_to_num(likeness_KK[np.ix_(one, other)]).mean() <= -CLEAR:
                sides = [[names[k] for k in side] for side in (one, other)]
                told = (
                    f"{' and '.join(sides[0])} against {' and '.join(sides[1])}: {_pairs(names, one, other, transfer)}"
                )
                reasons.append((frozenset(sides[0] + sides[1]), told))
    if len(parted) == 1 and len(names) > 1:
        hurt = [item for item in transfer.tasks if item.value <= -HURT and item.task in names]
        for item in hurt:
            if item.single and item.multi:
                losses = f"its best loss is {item.multi.loss:.4f} together and {item.single.loss:.4f} alone ({item.value:+.1%})"
                reasons.append((frozenset([item.task]), f"{item.task} is hurt: {losses}"))
        apart = {item.task for item in hurt}
        parted = [group for group in ([n for n in names if n not in apart], *([name] for name in apart)) if group]
    size = {task.name: trained_tokens(task) for task in run.tasks}
    ordered = sorted(parted, key=lambda group: (-sum(size[name] for name in group), group))
    evidence = bool(np.isfinite(likeness_KK).any()) or any(np.isfinite(item.value) for item in transfer.tasks)
    return Groups(tuple(tuple(group) for group in ordered), tuple(reasons), evidence)


def _likeness(names: Sequence[str], transfer: TransferReport) -> Floats:
    """K × K; NaN for a pair of which nothing is known, and on the diagonal."""
    sources = []
    found = transfer.gradients
    if found and found.times > 1:
        sources.append(_placed(names, found.tasks, found.cosine_KK))
    if transfer.effect_KK is not None:
        effect_KK = _placed(names, transfer.names, transfer.effect_KK)
        sources.append((effect_KK + effect_KK.T) / 2 * CLEAR / HURT)
    total_KK, times_KK = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for source_KK in sources:
        known_KK = np.isfinite(source_KK)
        total_KK += np.where(known_KK, source_KK, 0.0)
        times_KK += known_KK
    likeness_KK = np.where(times_KK > 0, total_KK / np.maximum(times_KK, 1), np.nan)
    np.fill_diagonal(likeness_KK, np.nan)
    return likeness_KK


def _placed(names: Sequence[str], have: Sequence[str], value_KK: Floats) -> Floats:
    """A matrix over `have` as one over `names`."""
    placed_KK = np.full((len(names), len(names)), np.nan)
    at_K = [(i, have.index(name)) for i, name in enumerate(names) if name in have]
    for i, a in at_K:
        for j, b in at_K:
            placed_KK[i, j] = value_KK[a, b]
    return placed_KK


def _joined(num: int, likeness_KK: Floats) -> list[list[int]]:
    """Average linkage: pairs of which nothing is known count as indifferent."""
    known_KK = np.nan_to_num(likeness_KK)
    found = [[k] for k in range(num)]
    while len(found) > 1:
        pairs = [(i, j) for i in range(len(found)) for j in range(i + 1, len(found))]
        best = max(pairs, key=lambda pair: known_KK[np.ix_(found[pair[0]], found[pair[1]])].mean())
        if known_KK[np.ix_(found[best[0]], found[best[1]])].mean() <= -CLEAR:
            break
        found[best[0]] = sorted(found[best[0]] + found.pop(best[1]))
    return found


def _pairs(names: Sequence[str], one: Sequence[int], other: Sequence[int], transfer: TransferReport) -> str:
    """The measurements between two groups, in words."""
    told = []
    for what, form, have, value_KK in (
        ("mean cosine of the gradients", "{:+.2f}", *_cosines(transfer)),
        ("mean effect of one on the other", "{:+.1%}", transfer.names, transfer.effect_KK),
    ):
        if value_KK is None:
            continue
        placed_KK = _placed(names, have, value_KK)
        both_KK = (placed_KK + placed_KK.T)[np.ix_(one, other)] / 2
        if np.isfinite(both_KK).any():
            told.append(f"{what} {form.format(np.nanmean(both_KK))}")
    return ", ".join(told)


def _cosines(transfer: TransferReport) -> tuple[tuple[str, ...], Floats | None]:
    found = transfer.gradients
    return (found.tasks, found.cosine_KK) if found else ((), None)
