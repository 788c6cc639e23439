"""Self-paced weights, as MFTCoder 0.3 to 0.4.3 had them, on true step numbers.

    α_k   = least-squares slope of task k's loss over the last `window` steps
    s_k   = K · α_k / Σ_j |α_j|
    score = softmax(s) · (-s)
    ω     = softmax(scale · score)

x · exp(-x) is largest at x = 1: tasks that fall as fast as the mean get most, those that stand or rise get least.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from pydantic import Field

from weft.balance.balancers._curves import Curves
from weft.balance.balancers._values import clean, num_steps_of, pack, told, unknown, unpack
from weft.balance.method import Floats, Look, TaskFacts, Wants, softmax, weighted
from weft.config.settings import Section
from weft.types import JsonObject

STILL = 1e-4
"""Nats; losses that move by less over a window stand still: what moves them is rounding."""


class Options(Section):
    warmup: float = Field(0.1, ge=0, allow_inf_nan=False)
    """Even weights until so many steps, while the history collects: below 1 a share of all steps, else a number of steps."""
    window: float = Field(0.2, gt=0, allow_inf_nan=False)
    """Slopes are of so many last steps: below 1 a share of all steps, else a number of steps."""
    scale: float = Field(50.0, gt=0, allow_inf_nan=False)
    """How far the scores are spread before they become weights."""


class SelfPaced:
    wants: Wants = "losses"
    formula = "ω = softmax(scale · softmax(s) · (-s)), s = K · α / Σ|α|"
    _alpha_K: Floats
    _curves: Curves

    def __init__(self, tasks: TaskFacts, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self._warmup = num_steps_of(options.warmup, tasks.num_steps)
        self._window = max(1, num_steps_of(options.window, tasks.num_steps))
        self.load_state({})

    def weights(self) -> Floats:
        if not np.isfinite(self._alpha_K).any():
            return weighted(self._tasks, self._alpha_K)
        omega_K = softmax(self._options.scale * self._scores())
        return weighted(self._tasks, np.where(np.isfinite(self._alpha_K), omega_K, np.nan))

    def _scores(self) -> Floats:
        known_K = np.isfinite(self._alpha_K)
        speed_K = self._alpha_K / (np.abs(self._alpha_K[known_K]).mean() + STILL / self._window)
        return np.where(known_K, softmax(speed_K) * -speed_K, np.nan)

    def see(self, look: Look) -> None:
        self._curves.add(look.step, clean(look.loss_K))
        if look.step >= self._warmup:
            self._alpha_K = self._curves.slopes(look.step)

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        if not np.isfinite(self._alpha_K).any():
            return {}
        return {"alpha": told(self._alpha_K), "score": told(self._scores())}

    def state(self) -> JsonObject:
        return {"alpha": pack(self._alpha_K), "curves": self._curves.state()}

    def load_state(self, state: JsonObject) -> None:
        num_tasks = len(self._tasks.names)
        self._alpha_K = unpack(state, "alpha", unknown(num_tasks))
        self._curves = Curves(num_tasks, self._window)
        self._curves.load_state(cast(JsonObject, state.get("curves", {})))


def build(tasks: TaskFacts, options: Options) -> SelfPaced:
    return SelfPaced(tasks, options)
