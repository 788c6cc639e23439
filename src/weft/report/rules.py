"""The rules by which a run's record asks for other settings: each is of one kind of evidence (`report/evidence`), small, and told.

They are rules of thumb with their reasons, not a search. What the record says nothing about, and what the run's other settings would not
honour, is left as it was, and that is told too (`Draft.kept`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from weft import plugins
from weft.config.settings import Settings
from weft.report.evidence import FEWEST, Groups, Trend, epoch_tokens, epochs_until, groups
from weft.report.record import RunRecord
from weft.report.transfer import TransferReport
from weft.report.verdict import lost
from weft.types import JsonValue

LESS_FLAT, LESS_OVERFITTED, MORE_EPOCHS = 0.8, 0.67, 1.5
WANTED_VALIDATIONS = 20
_STILL = ("fixed", "uniform", "by_size")
"""Balancing methods that never move a weight while training."""
_MOVES = "coba"
_BY_TASK = ("task", "task_sample")
"""Weightings of the loss that look at the tasks' weights."""


@dataclass(frozen=True)
class Change:
    """One setting that is to be another."""

    setting: str
    was: JsonValue
    value: JsonValue
    reason: str

    @property
    def path(self) -> tuple[str, ...]:
        """Its names one by one; between `tasks.` and the last of them is the task's, which may hold dots."""
        room, _, rest = self.setting.partition(".")
        task, _, name = rest.rpartition(".")
        return tuple(part for part in (room, task, name) if part)


@dataclass
class Draft:
    """The changes while they are gathered."""

    run: RunRecord
    settings: Settings
    trends: Mapping[str, Trend]
    changes: dict[str, Change] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)

    def change(self, setting: str, was: JsonValue, value: JsonValue, reason: str) -> None:
        if was != value:
            self.changes[setting] = Change(setting, was, value, reason)

    def of_kind(self, *kinds: str) -> list[Trend]:
        return [found for found in self.trends.values() if found.kind in kinds]

    @property
    def finished(self) -> bool:
        return self.run.final_step is not None


def balancing(draft: Draft) -> None:
    """A method that watches convergence, where some tasks overfit while others still fall."""
    balance, weighting = draft.settings.balance, draft.settings.loss.weighting
    method, falling, over = balance.method, draft.of_kind("falling"), draft.of_kind("overfits")
    if method not in _STILL:
        draft.kept.append(
            f"balance.method: {method} moves the weights already; nothing in one run says that another would do better"
        )
    elif len(draft.trends) < 2:
        draft.kept.append("balance.method: one task has nothing to be balanced against")
    elif balance.act_on != "sampling" and weighting not in _BY_TASK:
        draft.kept.append(f"balance.method: loss.weighting: {weighting} does not look at the tasks' weights")
    elif falling and over and draft.finished and _MOVES in plugins.names("weft.balance.balancers"):
        reason = f"{_and(over)} rose again while {_and(falling)} still fell; {_MOVES} gives less to what diverges, more to what is slow"
        draft.change(
            "balance.method",
            method,
            _MOVES,
            f"{reason}. {over[0].task}: {over[0].why}; {falling[0].task}: {falling[0].why}",
        )
        if balance.options:
            draft.change("balance.options", {**balance.options}, {}, f"they were those of {method}")
    else:
        draft.kept.append(
            "balance.method: no task was seen to overfit while another still fell, so nothing asks for moving weights"
        )


def weights(draft: Draft) -> None:
    """More for tasks that still fall, less for those that don't, where both are there: only proportions count."""
    settings = draft.settings
    falling, still = draft.of_kind("falling"), draft.of_kind("flat", "overfits")
    if settings.loss.weighting not in _BY_TASK:
        draft.kept.append(f"weights: loss.weighting {settings.loss.weighting} has none")
    elif settings.balance.method not in ("fixed", "by_size"):
        draft.kept.append(f"weights: balance.method {settings.balance.method} sets or moves them")
    elif not (falling and still and draft.finished):
        which = (
            "not finished"
            if not draft.finished
            else "not known to differ in whether their losses still fall at the end"
        )
        draft.kept.append(f"weights: the {'run is' if not draft.finished else 'tasks are'} {which}")
    else:
        for found in (*falling, *still):
            factor = {"falling": 1 + min(found.late, 1.0), "flat": LESS_FLAT, "overfits": LESS_OVERFITTED}[found.kind]
            was = settings.tasks[found.task].weight
            verb = {"falling": "still falling", "flat": "no longer falling", "overfits": "overfitted"}[found.kind]
            draft.change(
                f"tasks.{found.task}.weight", was, rounded(was * factor), f"× {factor:.2f}, {verb}: {found.why}"
            )


def epochs(draft: Draft) -> dict[str, float]:
    """The epochs that each task should have; empty where nothing asks for a change. Reasons go into the draft."""
    mixture = draft.settings.mixture
    asked = draft.of_kind("overfits") + (draft.of_kind("falling") if draft.finished else [])
    if mixture.stages or draft.settings.balance.act_on != "loss":
        what = "mixture.stages say" if mixture.stages else f"balance.act_on: {draft.settings.balance.act_on} decides"
        draft.kept.append(f"epochs: {what} what is seen when")
        return {}
    if not asked:
        draft.kept.append("epochs: no task is known to overfit, or to fall still at the end of a finished run")
        return {}
    tokens = epoch_tokens(draft.run, draft.settings)
    missing = [task.name for task in draft.run.tasks if task.name not in tokens]
    if missing:
        draft.kept.append(
            f"epochs: the token stores of {', '.join(missing)} are gone from {draft.settings.cache}, so what an epoch holds is not known"
        )
        return {}
    seen = {task.name: epochs_until(task, draft.run.steps, tokens[task.name]) for task in draft.run.tasks}
    wanted = dict(seen)
    for found in asked:
        task = draft.run.task(found.task)
        assert task is not None
        if found.kind == "overfits":
            wanted[found.task] = epochs_until(task, found.best_step, tokens[found.task])
            reason = f"of {seen[found.task]:.2f} seen, it was best after {wanted[found.task]:.2f}: {found.why}"
        else:
            wanted[found.task] = seen[found.task] * MORE_EPOCHS
            reason = f"× {MORE_EPOCHS} of the {seen[found.task]:.2f} seen, still falling: {found.why}"
        if wanted[found.task] > 0:
            was = draft.settings.tasks[found.task].epochs
            draft.change(f"tasks.{found.task}.epochs", was, rounded(wanted[found.task]), reason)
    return {name: value for name, value in wanted.items() if value > 0}


def freezing(draft: Draft) -> None:
    """Patience for tasks that overfit: as short as it can be without having frozen them before their best."""
    found = draft.of_kind("overfits")
    if draft.settings.balance.method == "replay":
        draft.kept.append("freeze_after: balance.method: replay freezes the tasks that its record says were frozen")
        return
    for item in found:
        name, now = f"tasks.{item.task}.freeze_after", draft.settings.tasks[item.task].freeze_after
        patience = now or draft.settings.validate_.freeze_after
        if patience is not None and patience <= item.patience:
            draft.kept.append(f"{name}: it is {patience} already")
            continue
        draft.change(
            name,
            now,
            item.patience,
            f"the shortest patience, from 2, with which it would still have had its best; {item.why}",
        )
    if not found:
        draft.kept.append("freeze_after: no task is known to overfit")


def rarity(draft: Draft) -> None:
    """Look more often where too few validations were made to say anything."""
    times = sum(validation.step > 0 for validation in draft.run.validations)
    if draft.run.validations and times < FEWEST and draft.run.steps >= FEWEST:
        every = max(1, draft.run.steps // WANTED_VALIDATIONS)
        reason = f"{times} validation{'' if times == 1 else 's'} in {draft.run.steps} steps after the start: too rare to say anything"
        draft.change("validate.every", draft.settings.validate_.every, every, reason)


def parted(draft: Draft, measured: TransferReport) -> Groups:
    """The tasks in groups, each for a run of its own; one group where nothing parts them."""
    found = groups(draft.run, measured)
    if len(found.groups) > 1:
        return found
    if len(draft.run.tasks) < 2:
        draft.kept.append("groups: there is one task")
    elif not found.evidence:
        once = " (one measurement of gradients is not enough)" if measured.gradients else ""
        how = f"validate.interference: true measures it, and so does `weft compare {draft.run.folder} --train`"
        draft.kept.append(f"groups: what the tasks do to one another was not measured{once}; {how}")
    else:
        draft.kept.append("groups: no tasks were seen to be in each other's way, so all stay together")
    return Groups((tuple(draft.settings.tasks),), (), found.evidence)


def limits(draft: Draft) -> list[str]:
    """What is to be known before any of it is believed."""
    run = draft.run
    told = []
    if run.final_step is None:
        told.append(
            f"the run has not come to its end (step {run.steps}): whether a loss still falls at the end is not known"
        )
    if not run.validations:
        told.append("the run has no validation at all, so nothing can be said; set data.validation above 0")
    elif (times := sum(v.step > 0 for v in run.validations)) < FEWEST:
        told.append(
            f"validated {times} time{'' if times == 1 else 's'} after the start: too rare to say anything of the tasks' course"
        )
    unknown = [f"{t.task} ({t.why})" for t in draft.of_kind("unknown")]
    if unknown and run.validations:
        told.append(f"nothing can be said of {', '.join(unknown)}")
    told += [f"{t.task}: {t.why}; what it needs is not in this record" for t in draft.of_kind("worse")]
    told += [f"{line}; a lower optimizer.lr may be needed" for line in lost(run)]
    if run.skipped:
        told.append(
            f"steps skipped, for the loss or the gradient was not finite: {len(run.skipped)}; a lower optimizer.lr may be needed"
        )
    return told


def _and(found: Sequence[Trend]) -> str:
    return " and ".join(item.task for item in found)


def rounded(value: float) -> float:
    """To three digits; never to 0."""
    return float(f"{value:.3g}")
