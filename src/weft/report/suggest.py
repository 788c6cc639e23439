"""From a run's record to the settings of the next one: every change with the numbers that ask for it, none without.

These are rules of thumb with their reasons, not a search: each is of one kind of evidence (`report/evidence`), small, and told. What
the record says nothing about stays as it was, and that is told too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from weft import plugins
from weft.config import document
from weft.config.check import check
from weft.config.faults import Origins
from weft.config.load import to_yaml
from weft.config.settings import MixtureSettings, Settings
from weft.errors import ConfigError
from weft.report.baselines import default_folder
from weft.report.evidence import FEWEST, Groups, Trend, epoch_tokens, epochs_until, groups, trend
from weft.report.read import read_run
from weft.report.record import RunRecord
from weft.report.side_by_side import not_finite
from weft.report.transfer import TransferReport, transfer
from weft.training.finish import load_settings_of
from weft.types import JsonValue
from weft.version import __version__

LESS_FLAT, LESS_OVERFITTED, MORE_EPOCHS = 0.8, 0.67, 1.5
WANTED_VALIDATIONS = 20
_STILL = ("fixed", "uniform", "by_size")
"""Balancing methods that never move a weight while training."""
_MOVES = "coba"


@dataclass(frozen=True)
class Change:
    """One setting that is to be another."""

    setting: str
    was: JsonValue
    value: JsonValue
    reason: str


@dataclass(frozen=True)
class Suggested:
    """The settings of one run: of all tasks, or of a group of them."""

    tasks: tuple[str, ...]
    settings: Settings
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class Suggestions:
    """What the record asks for. `kept` says where nothing is suggested and why, `notes` what limits all of it."""

    folder: Path
    runs: tuple[Suggested, ...]
    kept: tuple[str, ...]
    notes: tuple[str, ...]


def suggest(folder: str | Path, baselines: Path | None = None) -> Suggestions:
    """Settings for a next run by a run's record, and by its baselines where they are (default: RUN-singles beside it).

    Raises CheckpointError where the folder is no run.
    """
    folder = Path(folder).expanduser()
    run = read_run(folder)
    settings = load_settings_of(folder)
    measured = transfer(run, baselines or default_folder(folder))
    draft = _Draft(run, settings, {task.name: trend(task) for task in run.tasks})
    _balancing(draft)
    _weights(draft)
    epochs = _epochs(draft)
    _freezing(draft)
    _rarity(draft)
    parted = _groups(draft, measured)
    many = len(parted.groups) > 1
    runs = tuple(
        draft.of_group(tasks, f"{folder.name}-suggested{f'-{n}' if n > 1 else ''}", parted if many else None, epochs)
        for n, tasks in enumerate(parted.groups, 1)
    )
    return Suggestions(folder, runs, tuple(draft.kept), (*_limits(run), *measured.notes))


@dataclass
class _Draft:
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

    def of_group(
        self, tasks: Sequence[str], name: str, parted: Groups | None, epochs: Mapping[str, float]
    ) -> Suggested:
        """The whole settings of a run of these tasks."""
        gone = [task for task in self.settings.tasks if task not in tasks]
        about_others = tuple(f"tasks.{task}." for task in gone)
        changes = (
            {n: c for n, c in self.changes.items() if not n.startswith(about_others)} if gone else dict(self.changes)
        )
        if len(tasks) == 1:  # alone there is nothing to be weighed against
            changes = {n: c for n, c in changes.items() if not n.startswith("balance.") and not n.endswith(".weight")}
        plain = self.settings.model_dump(mode="json", by_alias=True)
        if epochs:
            changes = _as_rows(self.settings, tasks, epochs) | changes
        if parted:
            together = f"{', '.join(tasks)} in a run of {'their' if len(tasks) > 1 else 'its'} own"
            reason = f"{together}: {parted.why(tasks) or 'the others are better apart from it'}"
            changes["tasks"] = Change("tasks", ", ".join(self.settings.tasks), ", ".join(tasks), reason)
        output = str(self.settings.output.with_name(name))
        changes["output"] = Change("output", plain["output"], output, "another run has another folder")
        for change in changes.values():
            if change.setting != "tasks":
                _put(plain, change.setting, change.value)
        for task in gone:
            del plain["tasks"][task]
        _forget(plain["mixture"], gone)
        return Suggested(tuple(tasks), check(plain, Origins()), tuple(changes.values()))


def _put(plain: dict[str, JsonValue], setting: str, value: JsonValue) -> None:
    """Set a setting by its dotted name; a task's name may hold dots."""
    room, _, rest = setting.partition(".")
    task, _, name = rest.rpartition(".")
    node = plain[room] if rest else plain
    if task and isinstance(node, dict):
        node = node[task]
    assert isinstance(node, dict)
    node[name or room] = value


def _forget(mixture: dict[str, JsonValue], gone: Sequence[str]) -> None:
    """Take tasks out of a mixture's weights; a stage that has no weight left goes."""

    def left(weights: JsonValue) -> dict[str, JsonValue]:
        return (
            {task: weight for task, weight in weights.items() if task not in gone} if isinstance(weights, dict) else {}
        )

    mixture["weights"] = left(mixture["weights"])
    stages = mixture["stages"]
    kept: list[JsonValue] = []
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, dict):
            weights = left(stage["weights"])
            if weights or not stage["weights"]:
                kept.append({**stage, "weights": weights})
    mixture["stages"] = kept


def _balancing(draft: _Draft) -> None:
    """A method that watches convergence, where some tasks overfit while others still fall."""
    method, falling, over = draft.settings.balance.method, draft.of_kind("falling"), draft.of_kind("overfits")
    if method not in _STILL:
        draft.kept.append(
            f"balance.method: {method} moves the weights already; nothing in one run says that another would do better"
        )
    elif len(draft.trends) < 2:
        draft.kept.append("balance.method: one task has nothing to be balanced against")
    elif falling and over and draft.finished and _MOVES in plugins.names("weft.balance.balancers"):
        reason = f"{_and(over)} rose again while {_and(falling)} still fell; {_MOVES} gives less to what diverges, more to what is slow"
        draft.change(
            "balance.method",
            method,
            _MOVES,
            f"{reason}. {over[0].task}: {over[0].why}; {falling[0].task}: {falling[0].why}",
        )
        if draft.settings.balance.options:
            draft.change("balance.options", {**draft.settings.balance.options}, {}, f"they were those of {method}")
    else:
        draft.kept.append(
            "balance.method: no task was seen to overfit while another still fell, so nothing asks for moving weights"
        )


def _weights(draft: _Draft) -> None:
    """More for tasks that still fall, less for those that don't, where both are there: only proportions count."""
    settings = draft.settings
    falling, still = draft.of_kind("falling"), draft.of_kind("flat", "overfits")
    if settings.loss.weighting not in ("task", "task_sample"):
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
                f"tasks.{found.task}.weight", was, _round(was * factor), f"× {factor:.2f}, {verb}: {found.why}"
            )


def _epochs(draft: _Draft) -> dict[str, float]:
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
            draft.change(f"tasks.{found.task}.epochs", was, _round(wanted[found.task]), reason)
    return {name: value for name, value in wanted.items() if value > 0}


def _as_rows(settings: Settings, tasks: Sequence[str], epochs: Mapping[str, float]) -> dict[str, Change]:
    """What else must change so that the tasks' own epochs are what decides: each task's stated, no other measure, no cut."""
    mixture, plain = settings.mixture, MixtureSettings()
    found = {}
    other_measure, cut = mixture.by != "rows", mixture.max_steps is not None
    for name in ("by", "weights", "temperature", "max_steps"):
        was, value = getattr(mixture, name), getattr(plain, name)
        if was != value:
            found[f"mixture.{name}"] = Change(
                f"mixture.{name}", was, value, "each task's own epochs decide what is seen"
            )
    for task in tasks if other_measure or cut else ():
        name, was = f"tasks.{task}.epochs", settings.tasks[task].epochs
        if task in epochs and was != _round(epochs[task]):
            found[name] = Change(name, was, _round(epochs[task]), f"as many as it saw in the run: {epochs[task]:.2f}")
    return found


def _freezing(draft: _Draft) -> None:
    """Patience for tasks that overfit: as short as it can be without having frozen them before their best."""
    found = draft.of_kind("overfits")
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


def _rarity(draft: _Draft) -> None:
    """Look more often where too few validations were made to say anything."""
    times = sum(validation.step > 0 for validation in draft.run.validations)
    if draft.run.validations and times < FEWEST and draft.run.steps >= FEWEST:
        every = max(1, draft.run.steps // WANTED_VALIDATIONS)
        reason = f"{times} validation{'' if times == 1 else 's'} in {draft.run.steps} steps after the start: too rare to say anything"
        draft.change("validate.every", draft.settings.validate_.every, every, reason)


def _groups(draft: _Draft, measured: TransferReport) -> Groups:
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


def _limits(run: RunRecord) -> list[str]:
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
    unknown = [f"{t.task} ({t.why})" for t in map(trend, run.tasks) if t.kind == "unknown"]
    if unknown and run.validations:
        told.append(f"nothing can be said of {', '.join(unknown)}")
    told += [
        f"{t.task}: {t.why}; what it needs is not in this record" for t in map(trend, run.tasks) if t.kind == "worse"
    ]
    if lost := not_finite(run):
        told.append(
            f"steps skipped, for the loss or the gradient was not finite: {lost}; a lower optimizer.lr may be needed"
        )
    return told


def _and(found: Sequence[Trend]) -> str:
    return " and ".join(item.task for item in found)


def _round(value: float) -> float:
    """To three digits; never to 0."""
    return float(f"{value:.3g}")


def as_yaml(found: Suggested, suggestions: Suggestions) -> str:
    """The whole settings as YAML; each changed line carries its reason, the head says what was not suggested and why."""
    text = to_yaml(found.settings)
    lines = document.parse(text, "the suggested settings").lines
    rows = text.splitlines()
    for change in found.changes:
        number = lines[change.setting] - 1
        rows[number] += f"  # was {_shown(change.was)}: {_one_line(change.reason)}"
    head = [
        f"suggested by weft {__version__} from the record of {suggestions.folder}; a line without a comment is as the run had it"
    ]
    head += [f"nothing suggested for {line}" for line in suggestions.kept]
    head += [f"note: {note}" for note in suggestions.notes]
    return "\n".join([*(f"# {_one_line(line)}" for line in head), *rows, ""])


def _shown(value: JsonValue) -> str:
    text = (
        "unset"
        if value is None or value == {}
        else f"{value:g}"
        if isinstance(value, float) and math.isfinite(value)
        else str(value)
    )
    return _one_line(text if len(text) <= 60 else f"{text[:40]}…")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def write(suggestions: Suggestions, file: Path) -> list[Path]:
    """Write the settings: one run to `file`, further ones beside it as NAME-2.yaml, …; nothing is overwritten. Raises ConfigError."""
    files = [
        file if n == 1 else file.with_name(f"{file.stem}-{n}{file.suffix}") for n in range(1, len(suggestions.runs) + 1)
    ]
    faults = [
        f"{path} is there already, and nothing is overwritten; choose another name" for path in files if path.exists()
    ]
    if not file.absolute().parent.is_dir():
        faults.append(f"{file}: there is no folder {file.absolute().parent}")
    if faults:
        raise ConfigError("\n".join(faults))
    for path, found in zip(files, suggestions.runs, strict=True):
        path.write_text(as_yaml(found, suggestions), "utf-8")
    return files
