"""Validation: every task's mean nll over all of its validation rows, on all ranks, without gradient."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.data.plan import Plan, Step, join
from weft.losses.weighting import Floats
from weft.training.engines import Engine
from weft.training.step import Accumulator, Totals, part_factors


@torch.no_grad()
def validate(
    plan: Plan, settings: Settings, engine: Engine, module: nn.Module, dtype: torch.dtype, weight_K: Floats
) -> Totals:
    """The objective over the whole validation set, and each task's sums. `module` is the bare objective: no gradients travel."""
    micro_batches = plan.validation
    accumulator = Accumulator(engine, module, dtype, len(plan.stores))
    if micro_batches:
        factors = part_factors(plan, settings, micro_batches, weight_K)
        step = Step(0, join(micro_batches), tuple(micro_batches))
        training = module.training
        module.eval()
        for number, parts in step.of_rank(engine.rank, engine.ranks):
            accumulator.forward(make_batch(plan.stores, parts, factors[number]))
        module.train(training)
    return accumulator.totals()


def validation_record(totals: Totals, tasks: list[str]) -> dict[str, Any]:
    """`{"loss": …, "tasks": {name: {"loss": …, "tokens": …}}}`; a task without validation rows is absent."""
    return {
        "loss": totals.loss if math.isfinite(totals.loss) else None,
        "tasks": {
            name: {"loss": totals.mean_nll(k), "tokens": totals.tokens(k)}
            for k, name in enumerate(tasks)
            if totals.tokens_K[k] > 0
        },
    }
