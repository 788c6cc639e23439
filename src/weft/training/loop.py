"""The training loop, from top to bottom."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from weft.balance import Balancer
from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.data.plan import Plan, Step
from weft.data.tokens import Tokenizer
from weft.errors import TrainingError
from weft.log import logger
from weft.losses.weighting import Floats
from weft.models.objective import Objective
from weft.training import checkpoint
from weft.training.engines import Engine
from weft.training.evaluate import validate, validation_record
from weft.training.events import Journal, TensorBoard
from weft.training.optim import learning_rate
from weft.training.step import Accumulator, Totals, empty_batch, part_factors, seed_micro_batch
from weft.types import Progress, ProgressHook

MAX_SKIPPED_IN_A_ROW = 10


@dataclass
class Run:
    """Everything that a run is made of; `setup.build` makes it."""

    settings: Settings
    folder: Path
    tokenizer: Tokenizer
    plan: Plan
    engine: Engine
    objective: Objective
    module: torch.nn.Module
    """The objective as the engine wraps it."""
    optimizer: torch.optim.Optimizer
    balancer: Balancer
    dtype: torch.dtype
    state: checkpoint.Progress
    metrics: Journal | None
    ledger: Journal | None
    tensorboard: TensorBoard | None
    """Journals and trackers are rank 0's alone."""

    @property
    def tasks(self) -> list[str]:
        return [store.task for store in self.plan.stores]


def train(run: Run, progress: ProgressHook) -> None:
    """All steps that are left, with validation and checkpoints where they are due."""
    settings, state, num_steps = run.settings, run.state, run.plan.num_steps
    started, first = time.monotonic(), state.step
    if state.validated_step < 0:
        _validate(run)
    while state.step < num_steps and not state.stopped_early:
        record = train_step(run, state.step)
        state.step += 1
        _write(run, record)
        last = state.step == num_steps
        improved = _validate(run) if last or state.step % settings.validate_.every == 0 else False
        if last or improved or state.stopped_early or state.step % settings.save.every == 0:
            _save(run)
        seconds_left = (time.monotonic() - started) / (state.step - first) * (num_steps - state.step)
        progress(Progress("train", state.step, num_steps, _line(record, seconds_left)))


def train_step(run: Run, number: int) -> dict[str, Any]:
    """Optimizer step `number` (from 0). Gives its line for metrics.jsonl."""
    started = time.monotonic()
    step = run.plan.step(number)
    weight_K = run.balancer.weights(number)
    totals = gradients(run, step, weight_K)
    norm = float(run.engine.clip(run.objective, run.settings.optimizer.clip_norm))
    lr = learning_rate(run.settings.optimizer, number, run.plan.num_steps)
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    finite = math.isfinite(totals.loss) and math.isfinite(norm)
    if finite:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    _watch(run, finite, norm, totals.loss)

    seconds = time.monotonic() - started
    record: dict[str, Any] = {
        "step": number + 1,
        "loss": totals.loss if math.isfinite(totals.loss) else None,
        "tasks": {
            name: {
                "loss": totals.mean_nll(k),
                "tokens": totals.tokens(k),
                "weight": float(weight_K[k]),
                "share": float(totals.share_K[k]),
            }
            for k, name in enumerate(run.tasks)
            if totals.tokens_K[k] > 0
        },
        "lr": lr,
        "grad_norm": norm if math.isfinite(norm) else None,
        "tokens_per_second": round(float(step.parts.length_P.sum()) / seconds, 1),
    }
    if not finite:
        record["skipped"] = "the loss or the gradient is not finite"
    if run.ledger:
        run.ledger.write({"step": number + 1, "samples": run.plan.names(step.parts)})
    return record


def gradients(run: Run, step: Step, weight_K: Floats) -> Totals:
    """Forward and backward of this rank's micro-batches; afterwards the parameters hold the gradient of the whole step's loss."""
    settings, engine, plan = run.settings, run.engine, run.plan
    factors = part_factors(plan, settings, step.micro_batches, weight_K)
    padding_id = run.tokenizer.pad_id if settings.data.packing == "padding" else None
    accumulator = Accumulator(engine, run.module, run.dtype, len(run.tasks))
    mine = step.of_rank(engine.rank, engine.ranks)
    batches = [(i, make_batch(plan.stores, parts, factors[i], padding_id)) for i, parts in mine]
    for i, batch in batches or [(0, empty_batch(run.tokenizer))]:
        seed_micro_batch(settings, step.number, i)
        with engine.micro_batch(run.module, last=not batches or i == batches[-1][0]):
            engine.backward(accumulator.forward(batch))
    return accumulator.totals()


def _watch(run: Run, finite: bool, norm: float, loss: float) -> None:
    """Count steps that were not taken, and stop where training can't come to anything."""
    state = run.state
    state.skipped += not finite
    state.skipped_in_a_row = 0 if finite else state.skipped_in_a_row + 1
    if not finite:
        logger.warning(
            "step %d: loss %s, gradient norm %s: not finite, the step is skipped", state.step + 1, loss, norm
        )
    if state.skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
        raise TrainingError(
            f"step {state.step + 1}: {MAX_SKIPPED_IN_A_ROW} steps in a row gave a loss or gradient that is not finite. What was saved "
            f"before is whole. In another output, try a lower optimizer.lr (now {run.settings.optimizer.lr}), "
            "a longer warm-up, or model.dtype: fp32"
        )
    if finite and norm == 0.0 and state.step == 0:
        raise TrainingError(
            "step 1: the gradient is exactly zero: nothing would ever learn. Are any weights trainable (adapter), and do the samples have "
            "trained tokens (`weft data show`)?"
        )


def _validate(run: Run) -> bool:
    """Look at all validation rows; keep the record of the best. Gives whether this is the best so far."""
    state, settings = run.state, run.settings
    totals = validate(run.plan, settings, run.engine, run.objective, run.dtype, run.balancer.weights(state.step))
    state.validated_step = state.step
    if not totals.tokens_K.any():
        return False
    record = {"step": state.step, "validation": validation_record(totals, run.tasks)}
    if run.metrics:
        run.metrics.write(record)
    if run.tensorboard:
        run.tensorboard.validation(record)
    losses = {name: loss for k, name in enumerate(run.tasks) if (loss := totals.mean_nll(k)) is not None}
    run.balancer.observe_validation(state.step, losses)
    if state.step == 0:  # the base model is no result of this run
        return False
    if math.isfinite(totals.loss) and (state.best_loss is None or totals.loss < state.best_loss):
        state.best_loss, state.best_step, state.stalled = totals.loss, state.step, 0
        return True
    state.stalled += 1
    if settings.validate_.stop_after and state.stalled >= settings.validate_.stop_after:
        state.stopped_early = True
        logger.info("step %d: no better validation loss %d times in a row; stopping early", state.step, state.stalled)
    return False


def _save(run: Run) -> None:
    run.state.balancer = run.balancer.state()
    if run.engine.rank == 0:
        for journal in (run.metrics, run.ledger):
            if journal:
                journal.sync()
        checkpoint.save(run.folder / "checkpoints", run.objective, run.optimizer, run.state, run.settings.save.keep)
    run.engine.barrier()


def _write(run: Run, record: dict[str, Any]) -> None:
    if run.metrics:
        run.metrics.write(record)
    if run.tensorboard:
        epoch = record["step"] / run.plan.steps_of_mixture * run.plan.epochs
        run.tensorboard.step(record, epoch)


def _line(record: dict[str, Any], seconds_left: float) -> str:
    """One line for people: loss, each task's loss, speed, time left."""
    tasks = " ".join(f"{name} {task['loss']:.3f}" for name, task in record["tasks"].items() if task["loss"] is not None)
    loss = "-" if record["loss"] is None else f"{record['loss']:.4f}"
    minutes, seconds = divmod(int(seconds_left), 60)
    return f"loss {loss} | {tasks} | {record['tokens_per_second']:.0f} tokens/s | {minutes}:{seconds:02d} left"
