"""Validation: every task's mean nll over all of its validation rows, on all ranks, without gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.data.plan import Parts, Plan, Step, join
from weft.losses.weighting import Floats
from weft.training.engines import Engine
from weft.training.step import Accumulator, Totals, part_factors


def validate(
    plan: Plan, settings: Settings, engine: Engine, module: nn.Module, dtype: torch.dtype, weight_K: Floats
) -> Totals:
    """The objective over the whole validation set, and each task's sums. `module` is the bare objective: no gradients travel."""
    micro_batches = plan.validation
    factors = part_factors(plan, settings, micro_batches, weight_K) if micro_batches else []
    return losses_of(micro_batches, plan, engine, module, dtype, factors)


@torch.no_grad()
def losses_of(
    micro_batches: Sequence[Parts],
    plan: Plan,
    engine: Engine,
    module: nn.Module,
    dtype: torch.dtype,
    factors: Sequence[Floats] | None = None,
) -> Totals:
    """The sums of some micro-batches over all ranks, as they are without dropout; `factors` are each part's, if the objective counts."""
    accumulator = Accumulator(engine, module, dtype, len(plan.stores))
    if micro_batches:
        step = Step(0, join(micro_batches), tuple(micro_batches))
        training = module.training
        module.eval()
        for number, parts in step.of_rank(engine.rank, engine.ranks):
            factor_P = np.zeros(len(parts.task_P)) if factors is None else factors[number]
            accumulator.forward(make_batch(plan.stores, parts, factor_P))
        module.train(training)
    return accumulator.totals()


def validation_record(totals: Totals, tasks: list[str]) -> dict[str, Any]:
    """`{"loss", "macro", "worst", "tasks": {name: {"loss", "tokens"}}}`; a task without validation rows is absent.

    macro: the mean of the tasks' losses; worst: the task with the largest.
    """
    losses = losses_by_task(totals, tasks)
    worst = max(losses, key=losses.__getitem__)
    macro = sum(losses.values()) / len(losses)
    return {
        "loss": totals.loss if math.isfinite(totals.loss) else None,
        "macro": macro if math.isfinite(macro) else None,
        "worst": {"task": worst, "loss": losses[worst] if math.isfinite(losses[worst]) else None},
        "tasks": {
            name: {"loss": totals.mean_nll(k), "tokens": totals.tokens(k)}
            for k, name in enumerate(tasks)
            if totals.tokens_K[k] > 0
        },
    }


def losses_by_task(totals: Totals, tasks: list[str]) -> dict[str, float]:
    """Each task's mean nll per trained token, infinite where it is not a number; a task without rows is absent."""
    means = {name: totals.mean_nll(k) for k, name in enumerate(tasks) if totals.tokens_K[k] > 0}
    return {name: math.inf if mean is None else mean for name, mean in means.items()}
