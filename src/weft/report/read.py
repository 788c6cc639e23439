"""From a run's folder to a `RunRecord`."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from weft.errors import CheckpointError
from weft.files import MANIFEST
from weft.report import lines
from weft.report.record import Freeze, Interference, Look, Rows, RunRecord, Series, Shares, TaskRecord, Validation
from weft.types import JsonObject, JsonValue


def read_runs(folders: Sequence[Path]) -> tuple[RunRecord, ...]:
    """The records of several runs, each once. Raises CheckpointError with every folder that is no run or can't be read."""
    records, faults = [], []
    for folder in {folder.resolve(): folder for folder in folders}.values():
        try:
            records.append(read_run(folder))
        except CheckpointError as error:
            faults.append(str(error))
    if faults:
        raise CheckpointError("\n".join(faults))
    return tuple(records)


def read_run(folder: Path) -> RunRecord:
    """The record of one run. Raises CheckpointError where the folder is no run, or a file of it is not as weft wrote it."""
    if not (folder / lines.IDENTITY).is_file():
        raise CheckpointError(_no_run(folder))
    identity = lines.json_object(folder / lines.IDENTITY)
    settings = lines.read_settings(folder, identity)
    metrics = _Metrics()
    balance = _Balance()
    ledger = _Ledger()
    for take, name in ((metrics.take, lines.METRICS), (balance.take, lines.BALANCE), (ledger.take, lines.LEDGER)):
        for number, line in lines.json_lines(folder / name):
            try:
                take(line)
            except (KeyError, TypeError, ValueError, AttributeError) as error:
                raise lines.broken(folder / name, number, f"{type(error).__name__}: {error}") from error
    rows = ledger.by_task()
    names = _tasks(identity, settings, [*metrics.tasks, *metrics.validation, *balance.weight, *balance.frozen])
    return RunRecord(
        folder=folder,
        settings=settings,
        identity=identity,
        environment=lines.json_object(folder / lines.ENVIRONMENT),
        tasks=tuple(_task(name, metrics, balance, rows) for name in names),
        steps=metrics.steps,
        skipped=tuple(metrics.skipped),
        spared=tuple(metrics.spared),
        loss=metrics.loss.series,
        rate=metrics.rate.series,
        norm=metrics.norm.series,
        speed=metrics.speed.series,
        seconds=metrics.seconds if metrics.steps and metrics.timed else None,
        validations=tuple(metrics.validations),
        looks=tuple(balance.looks),
        numbers=balance.by_name(),
        shares=tuple(balance.shares),
        interference=tuple(balance.interference),
        final_step=_final_step(folder),
    )


def _no_run(folder: Path) -> str:
    what = "is no run of weft (it has no run.json)" if folder.is_dir() else "is no folder"
    near = next((p for p in (folder.parent, *folder.parents[1:3]) if (p / lines.IDENTITY).is_file()), None)
    if near:
        return f"{folder}: {what}; name its run instead: {near}"
    below = sorted(p.parent.name for p in folder.glob(f"*/{lines.IDENTITY}")) if folder.is_dir() else []
    if below:
        return f"{folder}: {what}; the runs below it are {', '.join(below[:5])}{', …' if len(below) > 5 else ''}"
    return f"{folder}: {what}; name the folder that `output` in a run's settings names"


def _final_step(folder: Path) -> int | None:
    step = lines.json_object(folder / "final" / MANIFEST).get("step")
    return step if isinstance(step, int) else None


def _tasks(identity: JsonObject, settings: Mapping[tuple[str, ...], JsonValue], seen: Sequence[str]) -> tuple[str, ...]:
    """All tasks: in the settings' order first, then those that only a journal names."""
    order = identity.get("order")
    named = [str(name) for name in order] if isinstance(order, list) else []
    return tuple(dict.fromkeys([*named, *(path[1] for path in settings if path[0] == "tasks" and path[1:]), *seen]))


@dataclass
class _Points:
    """A series while it is read."""

    steps: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)

    def add(self, step: float, value: object) -> None:
        """Another point; null is NaN, and of two at one step the second counts."""
        number = _number(value)
        if self.steps and self.steps[-1] == step:
            self.values[-1] = number
            return
        self.steps.append(step)
        self.values.append(number)

    @property
    def series(self) -> Series:
        return Series(np.array(self.steps, dtype=np.float64), np.array(self.values, dtype=np.float64))


def _number(value: object) -> float:
    if type(value) is float:  # nearly all are
        return value
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{value!r} is not a number")
    return float(value)


def _many() -> defaultdict[str, _Points]:
    return defaultdict(_Points)


@dataclass
class _Trained:
    """What the steps say of a task."""

    loss: _Points = field(default_factory=_Points)
    tokens: _Points = field(default_factory=_Points)
    weight: _Points = field(default_factory=_Points)
    share: _Points = field(default_factory=_Points)


@dataclass
class _Metrics:
    """metrics.jsonl while it is read."""

    tasks: defaultdict[str, _Trained] = field(default_factory=lambda: defaultdict(_Trained))
    validation: defaultdict[str, _Points] = field(default_factory=_many)
    validation_tokens: dict[str, float] = field(default_factory=dict)
    validations: list[Validation] = field(default_factory=list)
    loss: _Points = field(default_factory=_Points)
    rate: _Points = field(default_factory=_Points)
    norm: _Points = field(default_factory=_Points)
    speed: _Points = field(default_factory=_Points)
    seconds: float = 0.0
    timed: bool = True
    steps: int = 0
    skipped: list[int] = field(default_factory=list)
    spared: list[int] = field(default_factory=list)

    def take(self, line: dict[str, Any]) -> None:
        if "validation" in line:
            self._validation(line["step"], line["validation"])
        elif "tasks" in line:
            self._step(line["step"], line)

    def _step(self, step: int, line: dict[str, Any]) -> None:
        self.steps = step
        for points, name in (
            (self.loss, "loss"),
            (self.rate, "lr"),
            (self.norm, "grad_norm"),
            (self.speed, "tokens_per_second"),
        ):
            points.add(step, line.get(name))
        self.timed = self.timed and "seconds" in line
        self.seconds += _number(line.get("seconds", 0.0))
        if "skipped" in line:
            (self.skipped if line["tasks"] else self.spared).append(step)
        for name, task in line["tasks"].items():
            trained = self.tasks[name]
            trained.loss.add(step, task["loss"])
            trained.tokens.add(step, task["tokens"])
            trained.weight.add(step - 1, task["weight"])  # it was in force before the step
            trained.share.add(step, task["share"])

    def _validation(self, step: int, found: dict[str, Any]) -> None:
        losses = {}
        for name, task in found["tasks"].items():
            self.validation[name].add(step, task["loss"])
            self.validation_tokens[name] = _number(task["tokens"])
            losses[name] = _number(task["loss"])
        macro = _number(found["macro"]) if "macro" in found else _mean(list(losses.values()))
        rank = {name: loss if math.isfinite(loss) else math.inf for name, loss in losses.items()}
        worst = max(rank, key=rank.__getitem__, default="")
        self.validations.append(Validation(step, _number(found["loss"]), macro, worst, losses.get(worst, math.nan)))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


@dataclass
class _Balance:
    """balance.jsonl while it is read."""

    weight: defaultdict[str, _Points] = field(default_factory=_many)
    look: defaultdict[str, _Points] = field(default_factory=_many)
    frozen: dict[str, Freeze] = field(default_factory=dict)
    numbers: dict[str, _Points] = field(default_factory=dict)
    numbers_of_tasks: dict[str, defaultdict[str, _Points]] = field(default_factory=dict)
    looks: list[Look] = field(default_factory=list)
    shares: list[Shares] = field(default_factory=list)
    interference: list[Interference] = field(default_factory=list)

    def take(self, line: dict[str, Any]) -> None:
        step = line["step"]
        if "weights" in line:
            for name, value in line["weights"].items():
                self.weight[name].add(step, 0.0 if name in self.frozen else value)
            self._numbers(step, line.get("numbers", {}))
        if "look" in line:
            for name, value in line["look"].items():
                self.look[name].add(step, value)
            self.looks.append(Look(step, _number(line.get("seconds")), _number(line.get("tokens"))))
        if "frozen" in line:
            for name, found in line["frozen"].items():
                self.frozen[name] = Freeze(step, int(found["best_step"]), _number(found["best_loss"]))
                if name in self.weight:
                    self.weight[name].add(step, 0.0)
        if "shares" in line:
            self._shares(step - 1, line)  # the line has the first step that takes from the pass
        if "interference" in line:
            self.interference.append(_interference(step, line["interference"]))

    def _shares(self, step: int, line: dict[str, Any]) -> None:
        if self.shares and self.shares[-1].step == step:  # one step went through more than one pass
            self.shares.pop()
        shares = {name: _number(value) for name, value in line["shares"].items()}
        self.shares.append(Shares(step, int(line["pass"]), shares))

    def _numbers(self, step: int, found: dict[str, Any]) -> None:
        for name, value in found.items():
            if isinstance(value, dict):
                points = self.numbers_of_tasks.setdefault(name, _many())
                for task, number in value.items():
                    points[task].add(step, number)
            else:
                self.numbers.setdefault(name, _Points()).add(step, value)

    def by_name(self) -> dict[str, Series | Mapping[str, Series]]:
        single = {name: points.series for name, points in self.numbers.items()}
        return {**single, **{n: {t: p.series for t, p in of.items()} for n, of in self.numbers_of_tasks.items()}}


def _interference(step: int, found: dict[str, Any]) -> Interference:
    names = tuple(str(name) for name in found["tasks"])
    cosine_KK = np.array(found["cosine"], dtype=np.float64)  # null becomes NaN
    if cosine_KK.shape != (len(names), len(names)):
        raise ValueError(f"{len(names)} tasks, but cosines of shape {cosine_KK.shape}")
    norm_K = np.array(found["norms"], dtype=np.float64)
    return Interference(step, names, cosine_KK, norm_K)


@dataclass
class _Ledger:
    """ledger.jsonl while it is read."""

    used: Counter[str] = field(default_factory=Counter)
    looked_at: Counter[str] = field(default_factory=Counter)

    def take(self, line: dict[str, Any]) -> None:
        if "samples" in line:
            self.used.update(line["samples"])
        if "looked_at" in line:
            self.looked_at.update(line["looked_at"])

    def by_task(self) -> dict[str, Rows]:
        """Counts by task; a row is named `task:file:line`."""
        sums: defaultdict[str, list[int]] = defaultdict(lambda: [0] * 6)
        for name, times in self.used.items():
            of = sums[name.partition(":")[0]]
            of[0] += times
            of[1] += 1
            of[2] = max(of[2], times)
            of[5] += name in self.looked_at
        for name, times in self.looked_at.items():
            of = sums[name.partition(":")[0]]
            of[3] += times
            of[4] += 1
        return {task: Rows(*of) for task, of in sums.items()}


def _task(name: str, metrics: _Metrics, balance: _Balance, rows: Mapping[str, Rows]) -> TaskRecord:
    trained = metrics.tasks.get(name, _Trained())
    frozen = balance.frozen.get(name)
    weight = balance.weight.get(name, trained.weight)
    if frozen and name not in balance.weight:
        weight.add(frozen.step, 0.0)
    return TaskRecord(
        name=name,
        loss=trained.loss.series,
        tokens=trained.tokens.series,
        share=trained.share.series,
        validation=metrics.validation.get(name, _Points()).series,
        validation_tokens=metrics.validation_tokens.get(name, 0.0),
        weight=weight.series,
        look=balance.look.get(name, _Points()).series,
        frozen=frozen,
        rows=rows.get(name, Rows(0, 0, 0, 0, 0, 0)),
    )
