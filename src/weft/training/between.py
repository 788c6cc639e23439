"""What happens between steps: looks that move the weights, validations, tasks that are frozen; and the record of all of it.

`balance.jsonl` holds it line by line, enough to replay a run: the weights whenever they changed, what was looked at, who was frozen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from weft.balance.method import Floats, Look
from weft.log import logger
from weft.training.evaluate import losses_by_task, validate, validation_record
from weft.training.look import look
from weft.training.state import Run


def look_at_tasks(run: Run) -> None:
    """Look at the tasks whose turn it is, and let the weights move."""
    if not run.looks.every:
        return
    step, balance, frozen_K = run.state.step, run.balance, run.balance.is_frozen_K
    tasks = [k for k in run.looks.tasks(step) if not frozen_K[k]]
    wants_gradients = balance.method.wants == "gradients"
    seen = look(
        run.looks, tasks, run.plan, run.settings, run.engine, run.objective, run.dtype, gradients=wants_gradients
    )
    run.look_seconds += seen.seconds
    balance.method.see(Look(step, seen.loss_K, seen.norm_K, frozen_K))
    if run.ledger:
        run.ledger.write({"step": step, "looked_at": run.plan.names(seen.rows)})
    if run.balance_record:
        found = {"look": _finite(run.tasks, seen.loss_K), "norms": _finite(run.tasks, seen.norm_K)}
        tokens = int(seen.rows.length_P.sum())
        run.balance_record.write(
            {"step": step, **{k: v for k, v in found.items() if v}, "tokens": tokens, "seconds": round(seen.seconds, 4)}
        )
    tell_weights(run)


def tell_weights(run: Run, step: int | None = None) -> None:
    """Write the weights into the record where they have changed, so that a run can be replayed from it."""
    record = run.balance.record()
    weights = record["weights"]
    if run.balance_record and weights != run.told_weights:
        run.balance_record.write({"step": run.state.step if step is None else step, **record})
    run.told_weights = weights


def validate_tasks(run: Run) -> bool:
    """Look at all validation rows; keep the record of the best. Gives whether a best that is to be kept was found."""
    state, settings = run.state, run.settings
    totals = validate(run.plan, settings, run.engine, run.objective, run.dtype, run.balance.tasks.weight_K)
    state.validated_step = state.step
    if not totals.tokens_K.any():
        return False
    record = {"step": state.step, "validation": validation_record(totals, run.tasks)}
    if run.metrics:
        run.metrics.write(record)
    if run.tensorboard:
        run.tensorboard.validation(record)
    if settings.validate_.interference:
        _measure_interference(run)
    if run.balance.method.wants != "nothing" and state.step:
        logger.info("step %d: balance: %s", state.step, run.balance.told())
    if state.step == 0:  # the base model is no result of this run
        return False
    before = state.lives.protected(settings)
    losses = losses_by_task(totals, run.tasks)
    state.lives.see(state.step, losses, totals.loss)
    _freeze(run, losses)
    best = state.lives.best.get("loss")
    state.stalled = 0 if best and best["step"] == state.step else state.stalled + 1
    if settings.validate_.stop_after and state.stalled >= settings.validate_.stop_after:
        state.stopped_early = True
        logger.info("step %d: no better validation loss %d times in a row; stopping early", state.step, state.stalled)
    return state.lives.protected(settings) != before


def _freeze(run: Run, losses: Mapping[str, float]) -> None:
    """Freeze the tasks whose patience is at its end; where none is left, the run ends."""
    state, balance = run.state, run.balance
    told = {}
    for name in state.lives.exhausted(run.settings) if balance.may_freeze else ():
        if name not in balance.frozen:
            balance.frozen.add(name)
            life = state.lives.tasks[name]
            told[name] = {"best_step": life["best_step"], "best_loss": life["best_loss"], "loss": _number(losses[name])}
            best = "not a number" if life["best_loss"] is None else f"{life['best_loss']:.4f}"
            logger.info(
                "step %d: task %s is frozen: its validation loss was best at step %d (%s) and has not improved %d times in a row; "
                "its rows are not spent any more",
                *(state.step, name, life["best_step"], best, life["stalled"]),
            )
    if told and run.balance_record:
        run.balance_record.write({"step": state.step, "frozen": told})
    if told:
        tell_weights(run)
    if not balance.weights().any():
        state.stopped_early = True
        logger.info("step %d: every task is frozen; stopping early", state.step)


def _measure_interference(run: Run) -> None:
    """Record how the gradients of all tasks lie to one another."""
    tasks = sorted(k for turn in run.looks.turns for k in turn)
    seen = look(run.looks, tasks, run.plan, run.settings, run.engine, run.objective, run.dtype, cosines=True)
    if run.balance_record and seen.cosine_KK is not None:
        cosines = seen.cosine_KK[np.ix_(tasks, tasks)]
        run.balance_record.write(
            {
                "step": run.state.step,
                "interference": {
                    "tasks": [run.tasks[k] for k in tasks],
                    "cosine": [[_number(round(float(c), 6)) for c in row] for row in cosines],
                    "norms": [_number(float(seen.norm_K[k])) for k in tasks],
                },
            }
        )


def _finite(tasks: list[str], values_K: Floats) -> dict[str, float]:
    return {name: float(value) for name, value in zip(tasks, values_K, strict=True) if math.isfinite(value)}


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
