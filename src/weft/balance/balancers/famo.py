"""FAMO (arXiv 2306.03792): weights under which the logarithms of all losses fall at the same rate.

    z   = softmax(ξ)
    d_k = log loss_k(before) - log loss_k(now)      on the same rows; per look since the task was last in one
    ξ  <- ξ - lr · Adam(Jᵀ d + γ ξ)                 J = diag(z) - z zᵀ, the softmax' Jacobian
    ω_k = z_k / loss_k

Adam as in the authors' code: the plain gradient is a step's small change of a loss, and with their lr would move nothing.
A task that is not in a look goes on at the rate of its last one: every task's ξ moves at every look.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from pydantic import Field

from weft.balance.balancers._values import LEAST_LOSS, clean, pack, told, unknown, unpack, whole
from weft.balance.method import Floats, Look, TaskFacts, Wants, softmax, weighted
from weft.config.settings import Section
from weft.types import JsonObject

_BETA_1, _BETA_2 = 0.9, 0.999
_EPSILON = 1e-5
"""Adam's: far above what rounding does to a difference of losses, so that losses that stand still move nothing."""


class Options(Section):
    lr: float = Field(0.025, gt=0, allow_inf_nan=False)
    """Step size of ξ."""
    gamma: float = Field(0.001, ge=0, allow_inf_nan=False)
    """γ, the decay of ξ towards even weights."""


class Famo:
    wants: Wants = "losses"
    formula = "ω = z / loss, z = softmax(ξ)"
    _num_looks: int
    _log_K: Floats
    _look_K: Floats
    _rate_K: Floats
    _xi_K: Floats
    _first_K: Floats
    _second_K: Floats
    _count_K: Floats

    def __init__(self, tasks: TaskFacts, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self.load_state({})

    def weights(self) -> Floats:
        return weighted(self._tasks, softmax(self._xi_K) / np.exp(self._log_K))

    def see(self, look: Look) -> None:
        self._num_looks += 1
        log_K = np.log(np.maximum(clean(look.loss_K), LEAST_LOSS))
        seen_K = np.isfinite(log_K)
        again_K = seen_K & np.isfinite(self._log_K)
        fell_K = (self._log_K - log_K) / np.maximum(self._num_looks - self._look_K, 1)
        self._rate_K = np.where(again_K, fell_K, self._rate_K)
        self._log_K = np.where(seen_K, log_K, self._log_K)
        self._look_K = np.where(seen_K, self._num_looks, self._look_K)
        if look.frozen_K is not None:
            self._rate_K = np.where(look.frozen_K, np.nan, self._rate_K)
        self._step()

    def _step(self) -> None:
        """One step of Adam on the ξ of each task whose rate is known; the others stay."""
        known_K = np.isfinite(self._rate_K)
        if not known_K.any():
            return
        z_K = softmax(self._xi_K)
        rate_K = told(self._rate_K)
        mean = (z_K[known_K] @ rate_K[known_K]) / max(z_K[known_K].sum(), np.finfo(np.float64).tiny)
        gradient_K = z_K * (rate_K - mean) + self._options.gamma * self._xi_K
        self._count_K = self._count_K + known_K
        count_K = np.maximum(self._count_K, 1)
        self._first_K = np.where(known_K, _BETA_1 * self._first_K + (1 - _BETA_1) * gradient_K, self._first_K)
        self._second_K = np.where(known_K, _BETA_2 * self._second_K + (1 - _BETA_2) * gradient_K**2, self._second_K)
        scale_K = np.sqrt(self._second_K / (1 - _BETA_2**count_K)) + _EPSILON
        step_K = self._options.lr * self._first_K / (1 - _BETA_1**count_K) / scale_K
        self._xi_K = np.where(known_K, self._xi_K - step_K, self._xi_K)

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        return {"z": softmax(self._xi_K), "xi": self._xi_K.copy(), "fell": told(self._rate_K)}

    def state(self) -> JsonObject:
        return {
            "num_looks": self._num_looks,
            "log": pack(self._log_K),
            "look": pack(self._look_K),
            "rate": pack(self._rate_K),
            "xi": pack(self._xi_K),
            "first": pack(self._first_K),
            "second": pack(self._second_K),
            "count": pack(self._count_K),
        }

    def load_state(self, state: JsonObject) -> None:
        num_tasks = len(self._tasks.names)
        nothing_K, zero_K = unknown(num_tasks), np.zeros(num_tasks)
        self._num_looks = whole(state.get("num_looks", 0))
        self._log_K = unpack(state, "log", nothing_K)
        self._look_K = unpack(state, "look", zero_K)
        self._rate_K = unpack(state, "rate", nothing_K)
        self._xi_K = unpack(state, "xi", zero_K)
        self._first_K = unpack(state, "first", zero_K)
        self._second_K = unpack(state, "second", zero_K)
        self._count_K = unpack(state, "count", zero_K)


def build(tasks: TaskFacts, options: Options) -> Famo:
    return Famo(tasks, options)
