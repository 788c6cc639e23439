"""GradNorm (arXiv 1711.02257): weights under which every task pulls as hard as it lags behind.

    G_k      = w_k · norm_k                       norm_k: the gradient norm of task k's loss
    r_k      = loss_k / loss_k at the first look
    target_k = mean(G) · (r_k / mean(r)) ** α     taken as a constant
    w       <- w - lr · ∂/∂w Σ|G_k - target_k|    then positive, and with mean 1

The derivative is sign(G_k - target_k) · norm_k. Norms are taken in units of their mean, so that lr doesn't depend on the model,
and no step leads past the target, around which the weights would else swing by lr for ever. A task that is not in a look stands
as it was last seen.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from pydantic import Field

from weft.balance.balancers._values import LEAST_LOSS, clean, pack, told, unknown, unpack
from weft.balance.method import Floats, Look, TaskFacts, Wants, weighted
from weft.config.settings import Section
from weft.types import JsonObject

Flags = npt.NDArray[np.bool_]

_LEAST = 0.01
"""The least weight before they are brought to mean 1."""


class Options(Section):
    alpha: float = Field(1.5, ge=0, allow_inf_nan=False)
    """α: how much harder a task pulls that lags behind; 0: all pull the same."""
    lr: float = Field(0.025, gt=0, allow_inf_nan=False)
    """Step size of the weights."""


class GradNorm:
    wants: Wants = "gradients"
    _first_K: Floats
    _rate_K: Floats
    _norm_K: Floats
    _omega_K: Floats

    def __init__(self, tasks: TaskFacts, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self.formula = f"w · norm → mean(w · norm) · (r / mean(r)) ** {options.alpha:g}"
        self.load_state({})

    def weights(self) -> Floats:
        return weighted(self._tasks, np.where(self._known_K, self._omega_K, np.nan))

    @property
    def _known_K(self) -> Flags:
        return np.isfinite(self._norm_K) & np.isfinite(self._rate_K)

    def see(self, look: Look) -> None:
        loss_K, norm_K = clean(look.loss_K), clean(look.norm_K)
        self._first_K = np.where(np.isfinite(self._first_K), self._first_K, np.maximum(loss_K, LEAST_LOSS))
        self._rate_K = np.where(np.isfinite(loss_K), loss_K / self._first_K, self._rate_K)
        self._norm_K = np.where(np.isfinite(norm_K), norm_K, self._norm_K)
        if look.frozen_K is not None:
            self._norm_K = np.where(look.frozen_K, np.nan, self._norm_K)
        known_K = self._known_K
        if known_K.any() and self._norm_K[known_K].mean() > 0:
            omega_K = np.maximum(self._moved()[known_K], _LEAST)
            self._omega_K[known_K] = omega_K / omega_K.mean()

    def _moved(self) -> Floats:
        """w after one step of the descent."""
        pull_K, target_K = self._pull()
        most_K = self._options.lr * self._norm_K / self._norm_K[self._known_K].mean()
        off_K = np.divide(pull_K - target_K, self._norm_K, out=np.zeros(len(pull_K)), where=self._norm_K > 0)
        moved_K: Floats = self._omega_K - np.clip(off_K, -most_K, most_K)
        return moved_K

    def _pull(self) -> tuple[Floats, Floats]:
        """G and target of each task; NaN where it is not known."""
        known_K = self._known_K
        pull_K = np.where(known_K, self._omega_K * self._norm_K, np.nan)
        mean_rate = max(self._rate_K[known_K].mean(), LEAST_LOSS)
        target_K = pull_K[known_K].mean() * (self._rate_K / mean_rate) ** self._options.alpha
        return pull_K, np.where(known_K, target_K, np.nan)

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        if not self._known_K.any():
            return {}
        pull_K, target_K = self._pull()
        return {"G": told(pull_K), "target": told(target_K), "r": told(self._rate_K)}

    def state(self) -> JsonObject:
        return {
            "first": pack(self._first_K),
            "rate": pack(self._rate_K),
            "norm": pack(self._norm_K),
            "omega": pack(self._omega_K),
        }

    def load_state(self, state: JsonObject) -> None:
        nothing_K = unknown(len(self._tasks.names))
        self._first_K = unpack(state, "first", nothing_K)
        self._rate_K = unpack(state, "rate", nothing_K)
        self._norm_K = unpack(state, "norm", nothing_K)
        self._omega_K = unpack(state, "omega", np.ones(len(nothing_K)))


def build(tasks: TaskFacts, options: Options) -> GradNorm:
    return GradNorm(tasks, options)
