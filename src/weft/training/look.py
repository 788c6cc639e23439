"""Looks at a few validation rows between steps: each task's loss, and its gradient where a balancing method asks for it.

A task's rows are the same in every look, so that what moves is the model. Where tasks are many they take turns: a look never costs
more than a step. Looks change nothing that is trained, and don't depend on how they are cut. Suffixes: K tasks, G a flat gradient.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from weft.balance.method import Floats
from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.data.mixture import stable_seed
from weft.data.plan import Parts, Plan, Step, cut, join, shortened
from weft.training.engines import Engine
from weft.training.evaluate import losses_of
from weft.training.step import Accumulator

COST = 0.02
"""The share of a run's time that looks may take, where `balance.every` doesn't say how often they are."""

_FORWARD, _GRADIENT = 0.5, 2.0
"""What a token of a look costs, beside one of a training step."""

_PIECE = 1 << 22
_EXACT_NUMBERS = 1 << 28
"""Gradients of all tasks are compared as they are up to so many numbers together; above that, through a sketch."""

_SKETCH = 1 << 18
_FEW_ROWS = 2


class Seen(NamedTuple):
    """What a look found, by task K; NaN for tasks that were not in it."""

    loss_K: Floats
    norm_K: Floats
    cosine_KK: Floats | None
    """Cosine similarity of the tasks' gradients; None where it was not asked for."""
    rows: Parts
    seconds: float


@dataclass(frozen=True)
class Looks:
    """When a run looks, and at what. `every` 0: never."""

    every: int
    parts: tuple[Parts, ...]
    """The rows of each task; of a task without validation rows, none."""
    turns: tuple[tuple[int, ...], ...]
    """The tasks of look 0, 1, 2, …; then from the start again."""

    def due(self, step: int) -> bool:
        """Whether a look comes after so many steps."""
        return self.every > 0 and step % self.every == 0

    def tasks(self, step: int) -> tuple[int, ...]:
        """The tasks of the look after `step` steps; the first look, from which all are measured, has all of them."""
        everyone = tuple(task for turn in self.turns for task in turn)
        return self.turns[(step // self.every) % len(self.turns)] if step and self.every and self.turns else everyone

    @property
    def tokens(self) -> int:
        """Tokens of a look, at most."""
        return max((sum(int(self.parts[k].length_P.sum()) for k in turn) for turn in self.turns), default=0)

    @property
    def rows(self) -> int:
        """Rows of a look, at most."""
        return max((sum(len(self.parts[k].task_P) for k in turn) for turn in self.turns), default=0)


def plan_looks(settings: Settings, plan: Plan, wants: str, tokens_per_step: float) -> Looks:
    """The looks of a run: a pure function of settings and data."""
    rows = settings.balance.rows
    while True:  # fewer rows of each task, before tasks must take turns
        parts = tuple(_rows_of(settings, plan, task, rows) for task in range(len(plan.stores)))
        tokens_K = [int(p.length_P.sum()) for p in parts]
        if rows <= _FEW_ROWS or sum(tokens_K) <= tokens_per_step:
            break
        rows = max(_FEW_ROWS, rows // 2)
    most, load = max([tokens_per_step, *tokens_K]), 0.0
    turns: list[list[int]] = []
    for task in np.random.default_rng(stable_seed(settings.seed, "looks")).permutation(len(parts)).tolist():
        if not tokens_K[task]:
            continue
        if not turns or load + tokens_K[task] > most:
            turns.append([])
            load = 0.0
        turns[-1].append(task)
        load += tokens_K[task]
    looks = Looks(0, parts, tuple(tuple(sorted(turn)) for turn in turns))
    if wants == "nothing" or not turns:
        return looks
    cost = looks.tokens * (_GRADIENT if wants == "gradients" else _FORWARD)
    return Looks(settings.balance.every or max(1, math.ceil(cost / (COST * tokens_per_step))), looks.parts, looks.turns)


def _rows_of(settings: Settings, plan: Plan, task: int, rows: int) -> Parts:
    """A task's rows in every look: of its validation rows that train anything, those with the smallest hashes."""
    store = plan.stores[task]
    sample_S = store.split("validation", settings.data.validation, settings.data.test)
    sample_S = sample_S[store.trained_S[sample_S] > 0]
    sample_S = np.sort(sample_S[np.argsort(store.hash_S[sample_S], kind="stable")[:rows]])
    length_S = store.length_S[sample_S]
    parts = Parts(np.full(len(sample_S), task), sample_S, np.zeros_like(length_S), length_S)
    return shortened(parts, settings.max_tokens) if settings.data.packing == "concat" else parts


def look(
    looks: Looks,
    tasks: Sequence[int],
    plan: Plan,
    settings: Settings,
    engine: Engine,
    objective: nn.Module,
    dtype: torch.dtype,
    gradients: bool = False,
    cosines: bool = False,
) -> Seen:
    """Look at the rows of some tasks. `objective` is the bare one; all ranks call this, and all find the same."""
    started = time.monotonic()
    num_tasks = len(looks.parts)
    loss_K, norm_K = np.full(num_tasks, np.nan), np.full(num_tasks, np.nan)
    cosine_KK = None
    seen = [task for task in tasks if looks.parts[task]]
    rows = join([looks.parts[task] for task in seen]) if seen else Parts.none()
    if seen and (gradients or cosines):
        loss_K, norm_K, cosine_KK = _gradients(looks, seen, plan, settings, engine, objective, dtype, cosines)
    elif seen:
        micro_batches = cut(rows, settings.tokens_per_micro_batch, "pack")
        totals = losses_of(micro_batches, plan, engine, objective, dtype)
        loss_K = np.array([np.nan if v is None else v for v in map(totals.mean_nll, range(num_tasks))])
    return Seen(loss_K, norm_K, cosine_KK, rows, time.monotonic() - started)


def _gradients(
    looks: Looks,
    seen: Sequence[int],
    plan: Plan,
    settings: Settings,
    engine: Engine,
    objective: nn.Module,
    dtype: torch.dtype,
    cosines: bool,
) -> tuple[Floats, Floats, Floats | None]:
    """Each task's loss, its gradient's norm, and the cosines of the gradients, on everything that is trained."""
    num_tasks = len(looks.parts)
    parameters = [p for _, p in sorted(objective.named_parameters()) if p.requires_grad]
    size = sum(p.numel() for p in parameters)
    sketch = _Sketch() if cosines and size * len(seen) > _EXACT_NUMBERS else None
    loss_K, norm_K, found = np.full(num_tasks, np.nan), np.full(num_tasks, np.nan), []
    training = objective.training
    _without_dropout(objective)
    for task in seen:
        micro_batches = cut(looks.parts[task], settings.tokens_per_micro_batch, "pack")
        factor = 1.0 / float(plan.trained_P(looks.parts[task]).sum())
        accumulator = Accumulator(engine, objective, dtype, num_tasks)
        gradient_G = torch.zeros(size, device=engine.device)
        for _, parts in Step(0, looks.parts[task], tuple(micro_batches)).of_rank(engine.rank, engine.ranks):
            loss = accumulator.forward(make_batch(plan.stores, parts, np.full(len(parts.task_P), factor)))
            pieces = torch.autograd.grad(loss, parameters, allow_unused=True)
            gradient_G += torch.cat(
                [
                    (torch.zeros_like(p) if g is None else g).flatten().float()
                    for p, g in zip(parameters, pieces, strict=True)
                ]
            )
        mean = accumulator.totals().mean_nll(task)
        gradient_G = engine.reduce(gradient_G)
        loss_K[task] = np.nan if mean is None else mean
        norm_K[task] = float(gradient_G.norm())
        if cosines:
            found.append(gradient_G if sketch is None else sketch(gradient_G))
    objective.train(training)
    return loss_K, norm_K, _cosines(found, seen, num_tasks) if cosines else None


def _without_dropout(objective: nn.Module) -> None:
    """Evaluation mode, but layers that recompute their activations go on doing so: else a look would take more memory than a step."""
    objective.eval()
    for module in objective.modules():
        if getattr(module, "gradient_checkpointing", False):
            module.training = True


def _cosines(gradients: Sequence[Tensor], seen: Sequence[int], num_tasks: int) -> Floats:
    """The cosine of every two gradients; NaN where one of them is nothing."""
    unit = torch.stack([gradient / gradient.norm() for gradient in gradients])
    cosine_KK = np.full((num_tasks, num_tasks), np.nan)
    cosine_KK[np.ix_(seen, seen)] = (unit @ unit.T).clamp(-1.0, 1.0).double().cpu().numpy()
    return cosine_KK


class _Sketch:
    """A count sketch: cosines of sketches are those of the vectors, give or take 1/√(its size) (arXiv 0902.2206).

    Places and signs are drawn anew each time, piece by piece, from one seed: they would take more memory than the gradient.
    """

    def __call__(self, gradient_G: Tensor) -> Tensor:
        sketch = torch.zeros(_SKETCH, device=gradient_G.device)
        generator = torch.Generator().manual_seed(0)
        for piece in gradient_G.split(_PIECE):
            drawn = torch.randint(2 * _SKETCH, (len(piece),), generator=generator).to(gradient_G.device)
            sketch.index_add_(0, drawn // 2, piece * (drawn % 2 * 2 - 1))
        return sketch
