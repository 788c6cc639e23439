"""Weights by homoscedastic uncertainty (arXiv 1705.07115): s_k, learned to minimise exp(-s_k) · loss_k + s_k, gives ω_k = exp(-s_k).

    ds/dt = -lr · (1 - exp(-s) · loss)

which for a loss that stays for Δ steps has an exact solution, a moving average: exp(s) <- loss + (exp(s) - loss) · exp(-lr · Δ). It is used
as it is: no step is too large, and a task that is seldom trained comes as far as one that is in every step. At rest ω = 1 / loss.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from weft.balance.balancers._values import LEAST_LOSS, clean, pack, unpack
from weft.balance.method import Floats, Look, TaskFacts, Wants, weighted
from weft.config.settings import Section
from weft.types import JsonObject


class Options(Section):
    lr: float = Field(0.025, gt=0, allow_inf_nan=False)
    """Step size of s: it follows the losses of about the last 1 / lr steps."""


class Uncertainty:
    wants: Wants = "nothing"
    formula = "ω = exp(-s), s → log(loss)"
    _scale_K: Floats
    _step_K: Floats

    def __init__(self, tasks: TaskFacts, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self.load_state({})

    def weights(self) -> Floats:
        return weighted(self._tasks, 1 / self._scale_K)

    def see(self, look: Look) -> None:
        return None

    def see_training(self, step: int, loss_K: Floats) -> None:
        loss_K = np.maximum(clean(loss_K), LEAST_LOSS)
        kept_K = np.exp(-self._options.lr * np.maximum(step - self._step_K, 0))
        seen_K = np.isfinite(loss_K)
        self._scale_K = np.where(seen_K, loss_K + (self._scale_K - loss_K) * kept_K, self._scale_K)
        self._step_K = np.where(seen_K, step, self._step_K)

    def numbers(self) -> Mapping[str, float | Floats]:
        return {"s": np.log(self._scale_K)}

    def state(self) -> JsonObject:
        return {"scale": pack(self._scale_K), "step": pack(self._step_K)}

    def load_state(self, state: JsonObject) -> None:
        num_tasks = len(self._tasks.names)
        self._scale_K = unpack(state, "scale", np.ones(num_tasks))
        self._step_K = unpack(state, "step", np.zeros(num_tasks))


def build(tasks: TaskFacts, options: Options) -> Uncertainty:
    return Uncertainty(tasks, options)
