"""Dynamic weight average (arXiv 1803.10704): tasks whose loss fell less lately get more.

    ratio_k = loss_k(t - 1) / loss_k(t - 2),   each a mean over one of two adjacent windows of looks
    ω       = softmax(ratio / T)

The means of a task that is seen seldom lie more or less than a window apart; its ratio is brought to one window.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from pydantic import Field

from weft.balance.balancers._curves import Curves
from weft.balance.balancers._values import LEAST_LOSS, clean, num_steps_of, pack, told, unknown, unpack
from weft.balance.method import Floats, Look, TaskFacts, Wants, softmax, weighted
from weft.config.settings import Section
from weft.types import JsonObject

_MOST_STRETCHED = 2.0
"""A ratio between two means closer than half a window is not stretched further: it would be noise."""


class Options(Section):
    temperature: float = Field(2.0, gt=0, allow_inf_nan=False)
    """T: large is even."""
    window: float = Field(0.1, gt=0, allow_inf_nan=False)
    """Losses are means of so many steps: below 1 a share of all steps, else a number of steps."""


class Dwa:
    wants: Wants = "losses"
    _ratio_K: Floats
    _curves: Curves

    def __init__(self, tasks: TaskFacts, options: Options) -> None:
        self._tasks, self._options = tasks, options
        self._window = max(1, num_steps_of(options.window, tasks.num_steps))
        self.formula = f"ω = softmax(ratio / {options.temperature:g}), ratio = loss(t-1) / loss(t-2)"
        self.load_state({})

    def weights(self) -> Floats:
        omega_K = softmax(self._ratio_K / self._options.temperature)
        return weighted(self._tasks, np.where(np.isfinite(self._ratio_K), omega_K, np.nan))

    def see(self, look: Look) -> None:
        self._curves.add(look.step, np.maximum(clean(look.loss_K), LEAST_LOSS))
        if look.step >= 2 * self._window:
            self._ratio_K = np.array([self._ratio(k, look.step) for k in range(len(self._tasks.names))])

    def _ratio(self, task: int, step: int) -> float:
        points = self._curves.points(task, step)
        if points is None:
            return np.nan
        late_N = points.step_N > step - self._window
        if late_N.all() or not late_N.any():  # a task that is seen less than once a window
            late_N = np.arange(len(late_N)) == len(late_N) - 1
        apart = points.step_N[late_N].mean() - points.step_N[~late_N].mean()
        stretch = min(self._window / apart, _MOST_STRETCHED) if apart > 0 else 0.0
        return float((points.value_N[late_N].mean() / points.value_N[~late_N].mean()) ** stretch)

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        return {"ratio": told(self._ratio_K)} if np.isfinite(self._ratio_K).any() else {}

    def state(self) -> JsonObject:
        return {"ratio": pack(self._ratio_K), "curves": self._curves.state()}

    def load_state(self, state: JsonObject) -> None:
        num_tasks = len(self._tasks.names)
        self._ratio_K = unpack(state, "ratio", unknown(num_tasks))
        self._curves = Curves(num_tasks, 2 * self._window - 1)  # (step - 2 windows, step]
        self._curves.load_state(cast(JsonObject, state.get("curves", {})))


def build(tasks: TaskFacts, options: Options) -> Dwa:
    return Dwa(tasks, options)
