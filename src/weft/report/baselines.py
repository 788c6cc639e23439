"""Runs to measure a multi-task run against: the same settings with one task alone, or with all tasks but one.

The one idea: nothing but the other tasks goes. A baseline has the run's model, adapter, optimizer, loss, seed, tokens and validation rows;
each of its tasks gets as many trained tokens as it really got in the run (counted in its record, whatever balancing, freezing or a
mixture's stages made of it), about as many of them in a step, and so about as many steps:

    mixture     by trained_tokens, one stage; weights N_k, epochs Σ N_k / Σ trained tokens of an epoch      N_k: task k's tokens in the run
    batch       samples_per_step = what a step of the run held of these tasks on average, at least 1
                (data.packing: concat has no samples: tokens_per_step in that proportion, in whole rows of max_tokens,
                at least one)
    periods     validate.every, save.every and a warm-up in steps, scaled by the steps; nothing stops early, nothing is frozen
    balance     fixed
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from weft.config.check import check
from weft.config.faults import Origins
from weft.config.settings import BalanceSettings, Settings
from weft.data.plan import make_plan
from weft.data.prepare import Prepared, prepare
from weft.errors import CheckpointError
from weft.report.record import RunRecord, TaskRecord
from weft.training.finish import load_settings_of
from weft.training.run import train
from weft.types import Progress, ProgressHook, silent

WITHOUT = "without-"
"""What the folder of a run of all tasks but one begins with."""


def default_folder(run: Path) -> Path:
    """Where a run's baselines lie: beside it."""
    run = run.resolve()
    return run.with_name(f"{run.name}-singles")


def trained_tokens(task: TaskRecord) -> float:
    """The tokens of a task that a run learned from: those of steps in which it had a share of the loss."""
    return float(task.tokens.value_N[task.share.value_N > 0].sum())


@dataclass(frozen=True)
class Baseline:
    """A baseline to be trained: its tasks and its settings."""

    tasks: tuple[str, ...]
    settings: Settings


def train_baselines(run: RunRecord, folder: Path, pairs: bool = False, progress: ProgressHook = silent) -> list[Path]:
    """Train the baselines of a finished run that are not done yet, or go on with them; gives their folders.

    Single-task runs lie in `folder/TASK`, with `pairs` the runs of all tasks but one in `folder/without-TASK`. Raises CheckpointError
    for a run that isn't finished, and for a folder that holds a baseline of another run.
    """
    if run.final_step is None:
        raise CheckpointError(
            f"{run.folder}: this run is not finished, so nobody knows yet how many tokens each task will have seen; "
            f"go on with `weft train {run.folder / 'settings.yaml'}` first"
        )
    settings = load_settings_of(run.folder)
    prepared = prepare(settings, progress)
    wanted = baselines(run, settings, prepared, folder, pairs)
    for number, baseline in enumerate(wanted, 1):
        what = f"{baseline.settings.output.name} ({number}/{len(wanted)})"
        train(baseline.settings, _Renamed(progress, what))
    return [baseline.settings.output for baseline in wanted]


@dataclass(frozen=True)
class _Renamed:
    """Progress under the name of the run that it is of."""

    hook: ProgressHook
    what: str

    def __call__(self, event: Progress) -> None:
        self.hook(event._replace(what=f"{self.what}: {event.what}"))


def baselines(
    run: RunRecord, settings: Settings, prepared: Prepared, folder: Path, pairs: bool = False
) -> list[Baseline]:
    """The baselines that a run can have: one for each task that it trained, with `pairs` also one without each of them."""
    trained = [task.name for task in run.tasks if trained_tokens(task) > 0]
    wanted: list[tuple[tuple[str, ...], Path]] = [((name,), folder / name) for name in trained]
    if pairs and len(trained) > 2:  # of two tasks, the run without the one is the single run of the other
        wanted += [(tuple(t for t in trained if t != name), folder / f"{WITHOUT}{name}") for name in trained]
    return [Baseline(tasks, derived(run, settings, prepared, tasks, output)) for tasks, output in wanted]


def derived(run: RunRecord, settings: Settings, prepared: Prepared, tasks: Sequence[str], output: Path) -> Settings:
    """The settings of a run of some of the tasks that sees each of them as the multi-task run did (see the module)."""
    stores = tuple(store for store in prepared.stores if store.task in tasks)
    data = settings.data
    tokens_K = np.array([_tokens_of(run, store.task) for store in stores])
    train_S = [store.split("train", data.validation, data.test) for store in stores]
    epoch_K = np.array([store.trained_S[samples].sum() for store, samples in zip(stores, train_S, strict=True)])
    samples_K = tokens_K / epoch_K * np.array([len(samples) for samples in train_S])
    lengths_K = np.array([store.length_S[samples].sum() for store, samples in zip(stores, train_S, strict=True)])
    batch = settings.batch.model_dump()
    if data.packing == "concat":
        each = float((tokens_K / epoch_K * lengths_K).sum()) / run.steps
        batch["tokens_per_step"] = max(1, round(each / settings.max_tokens)) * settings.max_tokens
    else:
        batch |= {"tokens_per_step": None, "samples_per_step": max(1, round(float(samples_K.sum()) / run.steps))}
    plain = settings.model_dump(by_alias=True)
    plain |= {
        "tasks": {store.task: plain["tasks"][store.task] | {"epochs": None, "freeze_after": None} for store in stores},
        "mixture": {
            "by": "trained_tokens",
            "epochs": float(tokens_K.sum() / epoch_K.sum()),
            "weights": {store.task: float(tokens) for store, tokens in zip(stores, tokens_K, strict=True)},
        },
        "batch": batch,
        "balance": BalanceSettings().model_dump(),
        "track": [],
        "output": output,
    }
    plain["validate"] |= {"stop_after": None, "freeze_after": None, "interference": False}
    plain["save"] |= {"keep": 1, "final": "last", "best_of_tasks": False}
    found = check(plain, Origins())
    return _scaled(found, make_plan(found, replace(prepared, stores=stores)).num_steps / run.steps)


def _tokens_of(run: RunRecord, name: str) -> float:
    task = run.task(name)
    return trained_tokens(task) if task else 0.0


def _scaled(settings: Settings, factor: float) -> Settings:
    """Periods that were meant for another number of steps."""
    optimizer = settings.optimizer
    if optimizer.warmup >= 1:
        optimizer = optimizer.model_copy(update={"warmup": float(max(1, math.ceil(optimizer.warmup * factor)))})
    every = {"every": max(1, round(settings.validate_.every * factor))}
    return settings.model_copy(
        update={
            "optimizer": optimizer,
            "validate_": settings.validate_.model_copy(update=every),
            "save": settings.save.model_copy(update={"every": max(1, round(settings.save.every * factor))}),
        }
    )
