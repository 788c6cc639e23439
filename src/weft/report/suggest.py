"""From a run's record to the settings of the next one: every change with the numbers that ask for it, none without.

`report/rules` says what is asked for; here it becomes the whole settings of a run, or of one run for each group of tasks.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from weft.config.check import check
from weft.config.faults import Origins
from weft.config.load import to_yaml
from weft.config.settings import BalanceSettings, MixtureSettings, Settings
from weft.errors import ConfigError
from weft.report import rules
from weft.report.baselines import default_folder
from weft.report.evidence import Groups, trend
from weft.report.read import read_run
from weft.report.rules import Change, Draft, rounded
from weft.report.transfer import transfer
from weft.training.finish import load_settings_of
from weft.types import JsonValue
from weft.version import __version__


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
    draft = Draft(run, settings, {task.name: trend(task) for task in run.tasks})
    rules.balancing(draft)
    rules.weights(draft)
    epochs = rules.epochs(draft)
    rules.freezing(draft)
    rules.rarity(draft)
    parted = rules.parted(draft, measured)
    apart = parted if len(parted.groups) > 1 else None
    runs = tuple(
        _of_group(draft, tasks, f"{folder.name}-suggested{f'-{n}' if n > 1 else ''}", apart, epochs)
        for n, tasks in enumerate(parted.groups, 1)
    )
    return Suggestions(folder, runs, tuple(draft.kept), (*rules.limits(draft), *measured.notes))


def _of_group(
    draft: Draft, tasks: Sequence[str], name: str, apart: Groups | None, epochs: Mapping[str, float]
) -> Suggested:
    """The whole settings of a run of these tasks."""
    settings = draft.settings
    gone = [task for task in settings.tasks if task not in tasks]
    changes = {n: c for n, c in draft.changes.items() if not (c.path[0] == "tasks" and c.path[1] in gone)}
    if len(tasks) == 1:  # alone there is nothing to be weighed against
        changes = {n: c for n, c in changes.items() if c.path[0] != "balance" and c.path[-1] != "weight"}
    plain = settings.model_dump(mode="json", by_alias=True)
    if epochs:
        changes = _as_rows(settings, tasks, epochs) | changes
    if apart:
        together = f"{', '.join(tasks)} in a run of {'their' if len(tasks) > 1 else 'its'} own"
        reason = f"{together}: {apart.why(tasks) or 'the others are better apart from it'}"
        changes["tasks"] = Change("tasks", ", ".join(settings.tasks), ", ".join(tasks), reason)
    if gone and settings.balance.method == "replay":
        changes |= _no_replay(settings)
    output = str(settings.output.with_name(name))
    changes["output"] = Change("output", plain["output"], output, "another run has another folder")
    for change in changes.values():
        if change.setting != "tasks":
            _put(plain, change)
    for task in gone:
        del plain["tasks"][task]
    _forget(plain["mixture"], gone)
    return Suggested(tuple(tasks), check(plain, Origins()), tuple(changes.values()))


def _no_replay(settings: Settings) -> dict[str, Change]:
    """A record of weights is one of all the tasks."""
    was, fixed = settings.balance, BalanceSettings()
    why = "the record that it replays is of more tasks than this run has"
    return {
        "balance.method": Change("balance.method", was.method, fixed.method, why),
        "balance.options": Change(
            "balance.options", {**was.options}, {**fixed.options}, f"they were those of {was.method}"
        ),
    }


def _put(plain: dict[str, JsonValue], change: Change) -> None:
    node = plain
    for name in change.path[:-1]:
        below = node[name]
        assert isinstance(below, dict)
        node = below
    node[change.path[-1]] = change.value


def _forget(mixture: dict[str, JsonValue], gone: Sequence[str]) -> None:
    """Take tasks out of a mixture's weights; a stage that has no weight left goes."""

    def left(weights: JsonValue) -> dict[str, float]:
        found = weights.items() if isinstance(weights, dict) else ()
        return {task: weight for task, weight in found if task not in gone and isinstance(weight, int | float)}

    mixture["weights"] = {**left(mixture["weights"])}
    stages = mixture["stages"]
    kept: list[JsonValue] = []
    for stage in stages if isinstance(stages, list) else ():
        if isinstance(stage, dict):
            weights = left(stage["weights"])
            if any(weight > 0 for weight in weights.values()) or not stage["weights"]:
                kept.append({**stage, "weights": {**weights}})
    mixture["stages"] = kept


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
        if task in epochs and was != rounded(epochs[task]):
            found[name] = Change(name, was, rounded(epochs[task]), f"as many as it saw in the run: {epochs[task]:.2f}")
    return found


def as_yaml(found: Suggested, suggestions: Suggestions) -> str:
    """The whole settings as YAML; each changed line carries its reason, the head says what was not suggested and why."""
    text = to_yaml(found.settings)
    lines = _lines(yaml.compose(text, Loader=yaml.SafeLoader))
    rows = text.splitlines()
    for change in found.changes:
        rows[lines[change.path]] += f"  # was {_shown(change.was)}: {_one_line(change.reason)}"
    head = [
        f"suggested by weft {__version__} from the record of {suggestions.folder}; a line without a comment is as the run had it"
    ]
    head += [f"nothing suggested for {line}" for line in suggestions.kept]
    head += [f"note: {note}" for note in suggestions.notes]
    return "\n".join([*(f"# {_one_line(line)}" for line in head), *rows, ""])


def _lines(node: yaml.Node | None, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], int]:
    """The line of each setting, from 0. By paths, for the dotted name of task a's weight may be that of a task a.weight."""
    found = {}
    for key, below in node.value if isinstance(node, yaml.MappingNode) else ():
        found[*path, str(key.value)] = key.start_mark.line
        found |= _lines(below, (*path, str(key.value)))
    return found


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
