"""One model of several checkpoints of a run: the average of their trained weights (model soups, arXiv 2203.05482).

The one idea: nothing is believed that was not measured. Every checkpoint, every average that is tried and the result itself are
scored on the run's own validation rows, by the very way training does it. A greedy soup starts with the best checkpoint and takes
another one in only if the average gets better, so it is never worse than the best single one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from weft import files
from weft.config.settings import Settings
from weft.data.about import ABOUT, about, write_tokenizer
from weft.data.plan import make_plan
from weft.data.prepare import Prepared, prepare
from weft.data.templates import build
from weft.errors import CheckpointError, ConfigError
from weft.export.merge import refuse_existing
from weft.log import logger
from weft.models.load import compute_dtype, pick_device
from weft.models.objective import Objective
from weft.training import checkpoint, identity
from weft.training.engines.local import LocalEngine
from weft.training.evaluate import losses_by_task, validate
from weft.training.events import read_journal
from weft.training.finish import load_settings_of, save_model
from weft.training.life import measures
from weft.training.setup import build_objective
from weft.types import Progress, ProgressHook, silent
from weft.version import __version__

How: TypeAlias = Literal["greedy", "uniform"]
HOWS: tuple[How, ...] = ("greedy", "uniform")
OVERALL = ("macro", "loss", "worst")
"""Scores that are of no single task; a task of such a name can't be asked for."""
_WEIGHTS = "weights.safetensors"


@dataclass(frozen=True, slots=True)
class Score:
    """Validation losses: lower is better. A task without validation rows is absent; a loss that isn't finite is infinite."""

    overall: dict[str, float]
    """The objective at the settings' own weights (`loss`), the mean of the tasks' losses (`macro`), the largest (`worst`)."""
    tasks: dict[str, float]

    @property
    def worst_task(self) -> str:
        return max(self.tasks, key=self.tasks.__getitem__)

    def by(self, what: str) -> float:
        """`macro`, `loss`, `worst`, or a task's loss."""
        return self.overall[what] if what in OVERALL else self.tasks[what]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A checkpoint that was looked at; `score` is None where the run has no validation rows."""

    step: int
    score: Score | None
    chosen: bool


@dataclass(frozen=True, slots=True)
class SoupReport:
    """What was made of what. `broken` says which checkpoints were left out because they are not whole, and why."""

    folder: Path
    by: str
    candidates: list[Candidate]
    score: Score | None
    broken: list[str]
    notes: list[str]

    @property
    def steps(self) -> list[int]:
        """The checkpoints that are in it."""
        return [candidate.step for candidate in self.candidates if candidate.chosen]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which checkpoints: those of `steps`, the `last` so many that are whole, or the one that is best at the task `best_of`; else all."""

    steps: tuple[int, ...] = ()
    last: int | None = None
    best_of: str | None = None


def soup(
    run: str | Path,
    out: str | Path,
    wanted: Wanted | None = None,
    how: How = "greedy",
    by: str = "macro",
    base: str | None = None,
    device: str = "auto",
    progress: ProgressHook = silent,
) -> SoupReport:
    """Average checkpoints of a run and publish the result as `out`, which must not exist, in the layout of a run's `final/`.

    greedy: from the best checkpoint to the worst by the validation loss `by` (macro, loss, worst, or a task's name), each is added
    if the average is then better. uniform: all of them. With `wanted.best_of`, it is the one checkpoint that is best at that task.
    Weights are added in fp64 and rounded once. `base` is the base model, where it is not where it was.

    Raises CheckpointError (`out` is there, the run has no whole checkpoint, its data or base are no longer the same) and ConfigError.
    """
    run, out, wanted = Path(run).expanduser(), Path(out).expanduser(), wanted or Wanted()
    refuse_existing(out)
    settings = _settings_of(run, base)
    by = wanted.best_of or by
    _refuse_unknown(how, by, wanted, settings)
    places, broken = _whole(run / "checkpoints", wanted)
    pot = _open_pot(run, settings, device, progress)
    _refuse_unmeasured(run, pot.tasks_with_rows, how == "greedy" or wanted.best_of is not None, by)
    scores = {step: pot.measure([place], f"step {step}") for step, place in places.items()}
    if wanted.best_of or how == "greedy":
        chosen = _greedy(pot, places, scores, by, at_most=1 if wanted.best_of else len(places))
    else:
        chosen = list(places)
    score = pot.measure([places[step] for step in chosen], "the result")
    candidates = [Candidate(step, scores[step], step in chosen) for step in places]
    report = SoupReport(out, by, candidates, score, broken, _lost_bests(run, wanted.best_of, scores))
    with files.building(out) as folder:
        _write(folder, report, pot)
        refuse_existing(out)
        files.publish(folder, out, {"format": 1, "soup_of": str(run), "steps": [*report.steps]})
    progress(Progress("soup", 1, 1, f"of {len(chosen)} checkpoints"))
    return report


def _settings_of(run: Path, base: str | None) -> Settings:
    if not (run / identity.FILE).is_file() or not (run / "settings.yaml").is_file():
        what = "is no run of weft (it has no run.json and settings.yaml)" if run.exists() else "is not there"
        raise CheckpointError(f"{run}: {what}; name the folder that `weft train` wrote")
    settings = load_settings_of(run)
    if base is None:
        return settings
    return settings.model_copy(update={"model": settings.model.model_copy(update={"base": base})})


def _refuse_unknown(how: str, by: str, wanted: Wanted, settings: Settings) -> None:
    """Every option that means nothing for this run."""
    faults = []
    if how not in HOWS:
        faults.append(f"--how {how}: unknown; write {' or '.join(HOWS)}")
    known = list(settings.tasks) if wanted.best_of else [*OVERALL, *settings.tasks]
    if by not in known:
        faults.append(f"{'--best-of' if wanted.best_of else '--by'} {by}: unknown; write one of {', '.join(known)}")
    if wanted.last is not None and wanted.last < 1:
        faults.append(f"--last {wanted.last}: write 1 or more")
    if (bool(wanted.steps), wanted.last is not None).count(True) == 2:
        faults.append("--steps and --last: use one of the two")
    if faults:
        raise ConfigError("\n".join(faults))


def _refuse_unmeasured(run: Path, tasks_with_rows: Sequence[str], compares: bool, by: str) -> None:
    """There are validation rows where one checkpoint is to be called better than another."""
    if compares and not tasks_with_rows:
        raise ConfigError(
            f"{run}: the run has no validation rows, so nothing says which checkpoint is better; average them all with --how uniform"
        )
    if compares and by not in OVERALL and by not in tasks_with_rows:
        raise ConfigError(
            f"{by}: this task has no validation rows to judge by; those that have: {', '.join(tasks_with_rows)}"
        )


def _whole(folder: Path, wanted: Wanted) -> tuple[dict[int, Path], list[str]]:
    """The whole checkpoints that are wanted, by ascending step, and in words those that are broken."""
    there = {int(place.name[5:]): place for place in folder.glob("step-*") if place.name[5:].isdecimal()}
    missing = sorted(set(wanted.steps) - set(there))
    if missing:
        raise CheckpointError(
            f"{folder}: there is no checkpoint of step {', '.join(map(str, missing))}; there are "
            f"{', '.join(map(str, sorted(there))) or 'none'} (save.keep says how many stay)"
        )
    whole: dict[int, Path] = {}
    broken = []
    for step in sorted(wanted.steps or there, reverse=True):
        if wanted.last is not None and len(whole) == wanted.last:
            break
        wrong = files.faults(there[step], [_WEIGHTS])
        if wrong:
            broken.append(f"{there[step].name}: {'; '.join(wrong)}")
            logger.warning("checkpoint %s is broken (%s); it is left out", there[step], "; ".join(wrong))
        else:
            whole[step] = there[step]
    if not whole:
        told = "\n".join(["; all that are there are broken:", *broken]) if broken else " (it holds none)"
        raise CheckpointError(f"{folder}: there is no whole checkpoint to make anything of{told}")
    if wanted.last is not None and len(whole) < wanted.last:
        logger.warning("--last %d: only %d whole checkpoints are there", wanted.last, len(whole))
    return dict(sorted(whole.items())), broken


def _greedy(
    pot: _Pot, places: Mapping[int, Path], scores: Mapping[int, Score | None], by: str, at_most: int
) -> list[int]:
    """The steps of the best average that is found by adding one after the other, best first (the paper's recipe 1)."""
    value = {step: score.by(by) for step, score in scores.items() if score is not None}
    order = sorted(value, key=lambda step: (value[step], -step))
    chosen, best = order[:1], value[order[0]]
    if not math.isfinite(best):
        raise CheckpointError(f"no checkpoint has a finite validation loss by {by}: nothing good can be made of them")
    for step in order[1:]:
        if len(chosen) == at_most:
            break
        trial = pot.measure([places[s] for s in [*chosen, step]], f"with step {step}")
        if trial is not None and trial.by(by) < best:
            chosen, best = [*chosen, step], trial.by(by)
    return chosen


def average(places: Sequence[Path]) -> dict[str, Tensor]:
    """The mean of checkpoints' weights, added in fp64 in the order of `places` and rounded once to the first one's format."""
    first = load_file(places[0] / _WEIGHTS)
    sums = {name: tensor.double() for name, tensor in first.items()}
    for place in places[1:]:
        for name, tensor in load_file(place / _WEIGHTS).items():
            sums[name] += tensor.double()
    return {name: (total / len(places)).to(first[name].dtype) for name, total in sums.items()}


@dataclass(slots=True)
class _Pot:
    """The run's model, which holds one checkpoint or average at a time, and what measuring it needs."""

    settings: Settings
    prepared: Prepared
    objective: Objective
    tasks_with_rows: list[str]
    score: Callable[[], Score | None]
    progress: ProgressHook
    measured: int = 0

    def measure(self, places: Sequence[Path], what: str) -> Score | None:
        """Put the average of checkpoints into the model and give its score. Raises CheckpointError where they don't fit it."""
        try:
            self._hold(places)
        except (FileNotFoundError, SafetensorError) as error:
            raise CheckpointError(
                f"a checkpoint was whole a moment ago and can't be read any more ({error}); a run that is still going deletes old ones: "
                "wait for its end, or name newer ones with --steps"
            ) from error
        score = self.score()
        self.measured += 1
        self.progress(Progress("measure", self.measured, 0, what))
        return score

    def _hold(self, places: Sequence[Path]) -> None:
        if len(places) == 1:
            checkpoint.load_weights(places[0], self.objective)
            return
        parameters = checkpoint.trainable(self.objective)  # each of the checkpoints has fitted them alone
        with torch.no_grad():
            for name, tensor in average(places).items():
                parameters[name].copy_(tensor)


def _open_pot(run: Path, settings: Settings, device: str, progress: ProgressHook) -> _Pot:
    prepared = prepare(settings, progress)
    _refuse_changed(run, settings, prepared)
    if settings.engine.threads:
        torch.set_num_threads(settings.engine.threads)
    where = pick_device(device)
    dtype = compute_dtype(settings.model, where)
    objective = build_objective(settings, where, dtype, prepared).eval()
    plan, engine, tasks, data = make_plan(settings, prepared), LocalEngine(where), prepared.tasks, settings.data
    with_rows = [s.task for s in prepared.stores if len(s.split("validation", data.validation, data.test))]
    weight_K = np.array([settings.tasks[task].weight for task in tasks])

    def score() -> Score | None:
        if not with_rows:
            return None
        totals = validate(plan, settings, engine, objective, dtype, weight_K)
        losses = losses_by_task(totals, tasks)
        found = measures(losses, totals.loss)
        return Score({name: value if math.isfinite(value) else math.inf for name, value in found.items()}, losses)

    return _Pot(settings, prepared, objective, with_rows, score, progress)


def _refuse_changed(run: Path, settings: Settings, prepared: Prepared) -> None:
    """Rows, tokens and base are those that the run was trained with."""
    file = run / identity.FILE
    try:
        before = json.loads(file.read_text("utf-8"))
        now = json.loads(json.dumps(identity.describe(settings, prepared)))
        changed = [what for what in ("template", "tokenizer", "base") if before[what] != now[what]]
        if not changed:  # a changed template or tokenizer gives every store another name
            changed = [f"data of task {task}" for task, key in now["data"].items() if before["data"].get(task) != key]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{file}: is not what weft writes there ({error}); take it from a backup") from error
    if changed:
        raise CheckpointError(
            f"{run}: no longer as the run was trained: {', '.join(changed)}. Its checkpoints can't be judged with that; undo the change"
        )


def _lost_bests(run: Path, task: str | None, scores: Mapping[int, Score | None]) -> list[str]:
    """A note where the run's own record knows a better step for the task than any checkpoint that stayed."""
    if task is None or not (run / "metrics.jsonl").is_file():
        return []
    held = min(score.tasks[task] for score in scores.values() if score is not None)
    better = [
        (loss, record["step"])
        for record in read_journal(run / "metrics.jsonl")
        if (loss := record.get("validation", {}).get("tasks", {}).get(task, {}).get("loss")) is not None
        and loss < held
        and record["step"] not in {0, *scores}
    ]
    if not better:
        return []
    loss, step = min(better)
    return [
        f"{task}: the validation after step {step} was better ({loss:.4f}), but no checkpoint of that step is among these; "
        "save.best_of_tasks: true keeps each task's best"
    ]


def _write(folder: Path, report: SoupReport, pot: _Pot) -> None:
    template = build(pot.settings.template, pot.prepared.tokenizer)
    save_model(pot.objective.model, folder)
    write_tokenizer(pot.prepared.tokenizer, template, folder)
    files.write_json(folder / ABOUT, about(pot.settings, template))
    (folder / "README.md").write_text(_card(report, pot.settings), "utf-8")


def _card(report: SoupReport, settings: Settings) -> str:
    """A short model card: of which checkpoints it is made, and how each of them and the result do."""
    tasks = list(report.score.tasks) if report.score else []
    rows = [(f"step {c.step}{' (in it)' if c.chosen else ''}", c.score) for c in report.candidates]
    lines = [
        f"| {name} | {' | '.join(f'{score.by(what):.4f}' for what in ['macro', *tasks])} |"
        for name, score in [*rows, ("**this model**", report.score)]
        if score is not None
    ]
    heading = [f"| | macro | {' | '.join(tasks)} |", f"|---|{'---:|' * (len(tasks) + 1)}"] if lines else []
    kind = "LoRA adapter" if settings.adapter.kind == "lora" else "model"
    steps = ", ".join(map(str, report.steps))
    made = (
        f"the average of the checkpoints of steps {steps}"
        if len(report.steps) > 1
        else f"the checkpoint of step {steps}"
    )
    return "\n".join(
        [
            "---",
            f"base_model: {settings.model.base}",
            "tags: [weft, multi-task]",
            "---",
            f"# {report.folder.name}",
            "",
            f"A {kind} trained with weft {__version__} on {len(settings.tasks)} tasks from `{settings.model.base}`: {made} of one run.",
            "",
            *(["Validation losses (nll per trained token):", "", *heading, *lines, ""] if lines else []),
            f"Use it: `weft chat {report.folder}`, `weft generate {report.folder} --prompt …`, `weft merge {report.folder} OUT`.",
            "",
        ]
    )
