"""`train`: the whole job from settings to `final/`, in this process or in several."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from pathlib import Path

from weft import files
from weft.config.settings import Settings
from weft.data.prepare import prepare
from weft.log import logger
from weft.training import identity
from weft.training.engines import Engine, launched
from weft.training.events import read_journal
from weft.training.finish import finish
from weft.training.launch import launch
from weft.training.loop import train as train_loop
from weft.training.setup import build, check_identity, locked, open_engine
from weft.types import ProgressHook, silent


@dataclass(frozen=True)
class RunResult:
    """A finished run. Losses are each task's mean nll per trained token on its validation rows."""

    folder: Path
    final: Path
    steps: int
    final_step: int
    """The step that `final` is from."""
    losses_before: dict[str, float | None]
    """None where a loss was not a finite number."""
    losses_after: dict[str, float | None]
    """Those of `final`: of the last validation up to its step."""


def train(settings: Settings, progress: ProgressHook = silent) -> RunResult:
    """Train (or go on training, or find it done) and give the result. `settings` are resolved (config.resolve)."""
    if settings.engine.processes > 1 and not launched() and not is_done(settings.output):
        with locked(settings.output):
            prepared = prepare(settings, progress)  # before any process waits for another
            identity.check(settings.output, identity.describe(settings, prepared))
            launch(settings.engine.processes, _worker, settings, _that_travels(progress))
    else:
        _run_in_this_process(settings, progress)
    return result(settings.output)


def _worker(settings: Settings, progress: ProgressHook) -> None:
    _with_engine(settings, open_engine(settings), progress)


def _run_in_this_process(settings: Settings, progress: ProgressHook) -> None:
    engine = open_engine(settings)
    if engine.rank == 0:
        with locked(settings.output):
            _with_engine(settings, engine, progress)
    else:
        _with_engine(settings, engine, progress)


def _with_engine(settings: Settings, engine: Engine, progress: ProgressHook) -> None:
    try:
        if is_done(settings.output):
            check_identity(settings, engine, progress, done=True)
            return
        run = build(settings, engine, progress if engine.rank == 0 else silent)
        train_loop(run, progress if engine.rank == 0 else silent)
        if engine.rank == 0:
            finish(run)
        engine.barrier()
        for stream in (run.metrics, run.ledger, run.balance_record, run.tensorboard):
            if stream:
                stream.close()
    finally:
        engine.close()


def _that_travels(progress: ProgressHook) -> ProgressHook:
    """The hook, if it can be sent to another process; else nobody is told."""
    try:
        pickle.dumps(progress)
    except Exception:
        logger.warning("the progress hook can't be pickled, so the other processes can't call it: progress is not told")
        return silent
    return progress


def is_done(folder: Path) -> bool:
    """Whether a run has come to its end, and its result is whole."""
    return (folder / "final").is_dir() and not files.faults(folder / "final")


def result(folder: Path) -> RunResult:
    """What a finished run came to, read from its folder."""
    records = read_journal(folder / "metrics.jsonl")
    steps = max((r["step"] for r in records), default=0)
    final_step = int(json.loads((folder / "final" / files.MANIFEST).read_text("utf-8")).get("step", steps))
    validations = [r["validation"]["tasks"] for r in records if "validation" in r and r["step"] <= final_step]
    before, after = (validations[0], validations[-1]) if validations else ({}, {})
    return RunResult(
        folder,
        folder / "final",
        steps,
        final_step,
        {n: t["loss"] for n, t in before.items()},
        {n: t["loss"] for n, t in after.items()},
    )
