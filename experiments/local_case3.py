"""The comparison: multi-task balancing whose every sum is taken over one micro-batch, as MFTCoder's case3 does it.

    loss of a micro-batch    Σ_k w_k · (Σ_{i∈k} mᵢ nllᵢ / Σ_{i∈k} mᵢ) / Σ_k w_k        k: tasks present in the micro-batch
    loss of a step           the mean of its micro-batches' losses (gradient accumulation and data-parallel ranks both average)

A micro-batch is `size` samples, taken from the step in random order. `local_loss` is that procedure in torch, word by word.
Its result is linear in the tokens' nll, so each sample has a factor known beforehand, as in weft: `local_factors`. Training with
the factors is the same gradient in fewer forward passes (the tests hold both against the procedure), so that the comparison
costs no more than weft's own runs and differs from them in nothing but the factors.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

import weft
from weft.data.batches import make_batch
from weft.data.mixture import stable_seed
from weft.data.packing import next_fit
from weft.data.plan import Parts, Plan, make_plan
from weft.data.prepare import prepare
from weft.losses.weighting import coefficients
from weft.models.load import compute_dtype
from weft.training.evaluate import validate, validation_record
from weft.training.optim import build_optimizer, learning_rate
from weft.training.setup import build_objective, open_engine
from weft.training.step import Accumulator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def local_loss(nll_T: Tensor, mask_T: Tensor, task_T: Tensor, weight_K: Tensor) -> Tensor:
    """case3 of one micro-batch. T: its tokens."""
    total, weights = nll_T.new_zeros(()), nll_T.new_zeros(())
    for task in torch.unique(task_T).tolist():
        of_task_T = mask_T * (task_T == task)
        total = total + weight_K[task] * (of_task_T * nll_T).sum() / of_task_T.sum()
        weights = weights + weight_K[task]
    return total / weights


def shuffled(parts: Parts, seed: int, step: int) -> Parts:
    """A step's samples in random order: micro-batches are cut from a shuffled stream."""
    return parts.take(np.random.default_rng(stable_seed(seed, "local", step)).permutation(len(parts.task_P)))


def groups(num_samples: int, size: int) -> list[slice]:
    """The micro-batches of a step: `size` samples each, the last perhaps fewer."""
    return [slice(first, first + size) for first in range(0, num_samples, size)]


def local_factors(trained_P: Floats, task_P: Ints, weight_K: Floats, size: int) -> Floats:
    """The factor of each sample's mᵢ·nllᵢ in the step's loss; P: the step's samples in their order."""
    micro_batches = groups(len(task_P), size)
    found = [coefficients("task", trained_P[group], task_P[group], weight_K) for group in micro_batches]
    return np.concatenate(found) / len(micro_batches)


def train_local(settings: weft.Settings, size: int) -> Path:
    """A run of the comparison: weft's plan, model, optimizer, schedule and validation with micro-batch-local factors.

    Gives its metrics.jsonl, with the validations alone; a finished one is found done.
    """
    metrics = settings.output / "metrics.jsonl"
    if metrics.is_file():
        return metrics
    prepared = prepare(settings)
    plan, engine = make_plan(settings, prepared), open_engine(settings)
    dtype = compute_dtype(settings.model, engine.device)
    objective = build_objective(settings, engine.device, dtype, prepared)
    optimizer = build_optimizer(objective, settings.optimizer)
    weight_K = np.array([task.weight for task in settings.tasks.values()])
    lines = []
    for number in range(plan.num_steps + 1):
        if number % settings.validate_.every == 0 or number == plan.num_steps:
            totals = validate(plan, settings, engine, objective, dtype, weight_K)
            record = validation_record(totals, [store.task for store in plan.stores])
            lines.append(json.dumps({"step": number, "validation": record}) + "\n")
        if number == plan.num_steps:
            break
        parts = shuffled(plan.step(number).parts, settings.seed, number)
        factor_P = local_factors(plan.trained_P(parts), parts.task_P, weight_K, size)
        accumulator = Accumulator(engine, objective, dtype, len(plan.stores))
        for group in _affordable(plan, parts, settings.tokens_per_micro_batch):
            accumulator.forward(make_batch(plan.stores, parts.take(group), factor_P[group])).backward()
        engine.clip(objective, settings.optimizer.clip_norm)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(settings.optimizer, number, plan.num_steps)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    metrics.parent.mkdir(parents=True, exist_ok=True)
    temporary = metrics.with_suffix(".part")
    temporary.write_text("".join(lines), "utf-8")
    temporary.replace(metrics)
    return metrics


def _affordable(plan: Plan, parts: Parts, capacity: int) -> list[slice]:
    """The samples in runs of at most `capacity` tokens, for memory's sake."""
    group_P = next_fit(parts.length_P, capacity)
    borders = [0, *(np.flatnonzero(np.diff(group_P)) + 1).tolist(), len(group_P)]
    return [slice(a, b) for a, b in itertools.pairwise(borders)]
