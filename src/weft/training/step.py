"""One optimizer step's numbers: coefficients before the first forward pass, sums after the last.

Everything that is normalised is normalised here, over the whole step and all ranks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from weft.config.settings import Settings
from weft.data.batches import Batch
from weft.data.mixture import stable_seed
from weft.data.plan import Parts, Plan, join
from weft.data.tokens import Tokenizer
from weft.losses.weighting import Floats, coefficients
from weft.training.engines import Engine


@dataclass(frozen=True)
class Totals:
    """Sums over a step (or a validation) and all ranks, by task K."""

    loss: float
    """The objective: Σ aᵢ·nllᵢ, or in training with focal loss Σ aᵢ·(1 - pᵢ)^γ·nllᵢ."""
    nll_K: Floats
    tokens_K: Floats
    """Σ mᵢ: trained tokens."""
    share_K: Floats
    """Σ aᵢ as it was really used (see `shares`); all tasks together give 1."""

    def mean_nll(self, task: int) -> float | None:
        value = self.nll_K[task] / self.tokens_K[task] if self.tokens_K[task] > 0 else float("nan")
        return float(value) if np.isfinite(value) else None

    def tokens(self, task: int) -> int | float:
        """Trained tokens of a task; a whole number unless messages have weights of their own."""
        value = float(self.tokens_K[task])
        return int(value) if value.is_integer() else value


def part_factors(plan: Plan, settings: Settings, parts: Sequence[Parts], weight_K: Floats) -> list[Floats]:
    """The factor c of every part of a step, for each of its micro-batches; sums are taken over all of them."""
    whole = join(list(parts))
    factor_P = coefficients(settings.loss.weighting, plan.trained_P(whole), whole.task_P, weight_K)
    return np.split(factor_P, np.cumsum([len(p.task_P) for p in parts])[:-1])


def precision(dtype: torch.dtype, device: torch.device) -> AbstractContextManager[Any]:
    """bf16 arithmetic where the run asks for it; the trained weights themselves stay in fp32."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == torch.bfloat16 else nullcontext()


def empty_batch(tokenizer: Tokenizer) -> Batch:
    """A single token and nothing to train: for a rank that has no micro-batch in a step."""
    zero, none = np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.float32)
    return Batch(np.array([tokenizer.pad_id]), zero, zero, zero, none, none, (1,), 0)


class Accumulator:
    """Runs micro-batches and adds up what they give."""

    def __init__(self, engine: Engine, module: nn.Module, dtype: torch.dtype, num_tasks: int) -> None:
        self._engine, self._module, self._dtype = engine, module, dtype
        self._num_tasks = num_tasks
        self._sums_K4 = torch.zeros(num_tasks, 4, dtype=torch.float64, device=engine.device)
        self._loss = torch.zeros(1, dtype=torch.float64, device=engine.device)

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one micro-batch, with gradient; its sums by task are added up without."""
        device = self._engine.device
        trained = np.flatnonzero(batch.weight_T)
        trained_N = _to(trained, device)
        coefficient_N = _to(batch.coefficient_T[trained], device)
        with precision(self._dtype, device):
            loss, nll_N, used_N = self._module(
                _to(batch.ids_T, device),
                _to(batch.position_T, device),
                list(batch.lengths),
                trained_N,
                _to(batch.labels_T[trained], device),
                coefficient_N,
            )
        weight_N = _to(batch.weight_T[trained], device).double()
        values_N4 = torch.stack([weight_N * nll_N.double(), weight_N, coefficient_N.double(), used_N.double()], dim=1)
        self._sums_K4.index_add_(0, _to(batch.task_T[trained], device), values_N4)
        self._loss += loss.detach().double()
        return loss

    def totals(self) -> Totals:
        """The sums over all ranks; the one place where a step waits for the device."""
        flat = self._engine.reduce(torch.cat([self._loss, self._sums_K4.flatten()])).cpu().numpy()
        nll_K, tokens_K, coefficient_K, used_K = flat[1:].reshape(self._num_tasks, 4).T
        return Totals(float(flat[0]), nll_K, tokens_K, shares(coefficient_K, used_K))


def shares(coefficient_K: Floats, used_K: Floats) -> Floats:
    """Each task's part of what is left of the step's coefficients after the focal loss; they add up to what the coefficients add up to.

    coefficient_K: Σ aᵢ; used_K: Σ aᵢ·(1 - pᵢ)^γ. Where nothing is left, or a loss isn't finite, they are as before the focal loss.
    """
    left = float(used_K.sum())
    return used_K * (float(coefficient_K.sum()) / left) if 0 < left < math.inf else coefficient_K


def _to(array: Any, device: torch.device) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device, non_blocking=True)


def seed_micro_batch(settings: Settings, step: int, micro_batch: int) -> None:
    """Dropout's randomness: a function of where we are, so that no random state has to be saved."""
    torch.manual_seed(stable_seed(settings.seed, "dropout", step, micro_batch))
