"""The training loop, from top to bottom."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from weft.balance.method import Floats
from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.data.plan import Step
from weft.errors import TrainingError
from weft.log import logger
from weft.training import checkpoint
from weft.training.between import look_at_tasks, tell_weights, validate_tasks
from weft.training.optim import learning_rate
from weft.training.state import Run
from weft.training.step import Accumulator, Totals, empty_batch, part_factors, seed_micro_batch
from weft.types import Progress, ProgressHook

MAX_SKIPPED_IN_A_ROW = 10
ALL_FROZEN = "all of its rows belong to tasks that are frozen"


def train(run: Run, progress: ProgressHook) -> None:
    """All steps that are left, with looks, validation and checkpoints where they are due."""
    settings, state, num_steps = run.settings, run.state, run.plan.num_steps
    started, first = time.monotonic(), state.step
    if state.validated_step < 0:
        tell_weights(run)
        validate_tasks(run)
        look_at_tasks(run)
    while state.step < num_steps and not state.stopped_early:
        record = train_step(run, state.step)
        state.step += 1
        _write(run, record)
        if run.looks.due(state.step):
            look_at_tasks(run)
        last = state.step == num_steps
        improved = validate_tasks(run) if last or state.step % settings.validate_.every == 0 else False
        if last or improved or state.stopped_early or state.step % settings.save.every == 0:
            _save(run)
        seconds_left = (time.monotonic() - started) / (state.step - first) * (num_steps - state.step)
        progress(Progress("train", state.step, num_steps, _line(record, seconds_left)))
    if run.looks.every and state.step > first:
        share = run.look_seconds / (time.monotonic() - started)
        logger.info("balance: looks took %.1f %% of the time", 100 * share)


def train_step(run: Run, number: int) -> dict[str, Any]:
    """Optimizer step `number` (from 0). Gives its line for metrics.jsonl."""
    started = time.monotonic()
    weight_K = run.balance.loss_weights()
    while not run.plan.reaches(number):
        _draw_anew(run)
    step = run.plan.step(number, spent_K=weight_K > 0)
    lr = learning_rate(run.settings.optimizer, number, run.plan.num_steps)
    if run.ledger:
        run.ledger.write({"step": number + 1, **_ledger_line(run, step)})
    if not step.parts:
        run.balance.method.see_training(number + 1, np.full(len(run.tasks), np.nan))
        tell_weights(run, number + 1)
        return {"step": number + 1, "loss": None, "tasks": {}, "lr": lr, "grad_norm": None, "skipped": ALL_FROZEN}
    totals = gradients(run, step, weight_K)
    norm = float(run.engine.clip(run.objective, run.settings.optimizer.clip_norm))
    for group in run.optimizer.param_groups:
        group["lr"] = lr
    finite = math.isfinite(totals.loss) and math.isfinite(norm)
    if finite:
        run.optimizer.step()
    run.optimizer.zero_grad(set_to_none=True)
    _watch(run, finite, norm, totals.loss)
    means = [totals.mean_nll(k) for k in range(len(run.tasks))]
    run.balance.method.see_training(number + 1, np.array([np.nan if mean is None else mean for mean in means]))

    seconds = time.monotonic() - started
    record: dict[str, Any] = {
        "step": number + 1,
        "loss": totals.loss if math.isfinite(totals.loss) else None,
        "tasks": {
            name: {
                "loss": means[k],
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
        "seconds": round(seconds, 4),
    }
    if not finite:
        record["skipped"] = "the loss or the gradient is not finite"
    tell_weights(run, number + 1)
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


def _ledger_line(run: Run, step: Step) -> dict[str, list[str]]:
    """The samples that begin in a step; and apart, those of which the stream brings a further piece."""
    begun_P = step.parts.start_P == 0
    found = {"samples": run.plan.names(step.parts.take(np.flatnonzero(begun_P)))}
    if not begun_P.all():
        found["continued"] = run.plan.names(step.parts.take(np.flatnonzero(~begun_P)))
    return found


def _draw_anew(run: Run) -> None:
    """One more pass of the plan, shared out by the weights as they are now; recorded with the first step that takes from it."""
    share_K = run.balance.next_shares(base_shares(run.settings))
    run.plan = run.plan.extended(share_K)
    if run.balance_record:
        shares = dict(zip(run.tasks, share_K.tolist(), strict=True))
        number = run.plan.mixture.num_passes - 1
        run.balance_record.write({"step": run.state.step + 1, "pass": number, "shares": shares})


def base_shares(settings: Settings) -> Floats:
    """Where sampling by weights starts from: `mixture.weights`, by task."""
    return np.array([settings.mixture.weights[name] for name in settings.tasks])


def _save(run: Run) -> None:
    state, settings = run.state, run.settings
    state.balance = run.balance.state()
    if run.engine.rank == 0:
        for journal in (run.metrics, run.ledger, run.balance_record):
            if journal:
                journal.sync()
        protected = state.lives.protected(settings)
        checkpoint.save(run.folder / "checkpoints", run.objective, run.optimizer, state, settings.save.keep, protected)
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
    speed = f"{record['tokens_per_second']:.0f} tokens/s | " if "tokens_per_second" in record else ""
    return f"loss {loss} | {tasks} | {speed}{minutes}:{seconds:02d} left"
