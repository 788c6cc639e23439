"""The tasks' losses on true step numbers, and how fast each moves now.

A look need not have every task. An observation is kept with the step that it was made at, never with its position among
the looks, so a task that is seen in a quarter of the looks has a quarter of the points of the same curve, and the same slope.
"""

from __future__ import annotations

from typing import NamedTuple, cast

import numpy as np

from weft.balance.balancers._values import unknown
from weft.balance.method import Floats
from weft.types import JsonObject

_LEAST_POINTS = 2
_MISSED = 2
"""A task's slope counts no longer when it stayed away for so many times as long as between its last two looks (it was frozen)."""


class Points(NamedTuple):
    """A task's observations, oldest first."""

    step_N: Floats
    value_N: Floats


class Curves:
    """What was seen of each task in the last `window` steps, and its last two observations if they are older."""

    def __init__(self, num_tasks: int, window: int) -> None:
        self._window = window
        self._steps: list[list[int]] = [[] for _ in range(num_tasks)]
        self._values: list[list[float]] = [[] for _ in range(num_tasks)]

    def add(self, step: int, value_K: Floats) -> None:
        """Note the values that are not NaN."""
        for k in np.flatnonzero(np.isfinite(value_K)).tolist():
            steps, values = self._steps[k], self._values[k]
            steps.append(step)
            values.append(float(value_K[k]))
            while len(steps) > _LEAST_POINTS and steps[0] < step - self._window:
                del steps[0], values[0]

    def points(self, task: int, step: int) -> Points | None:
        """A task's observations of the `window` steps up to `step`, its last two if those are fewer.

        None for a task that was seen less than twice, or not for long.
        """
        steps, values = self._steps[task], self._values[task]
        if len(steps) < _LEAST_POINTS or step - steps[-1] > max(self._window, _MISSED * (steps[-1] - steps[-2])):
            return None
        first = next(n for n in range(len(steps)) if steps[n] >= step - self._window or n == len(steps) - _LEAST_POINTS)
        return Points(np.array(steps[first:], dtype=np.float64), np.array(values[first:]))

    def slopes(self, step: int) -> Floats:
        """α of each task (K) as of `step`: the least-squares slope of its points, per step; NaN where there are too few."""
        slope_K = unknown(len(self._steps))
        for k in range(len(slope_K)):
            points = self.points(k, step)
            if points is not None:
                from_mean_N = points.step_N - points.step_N.mean()
                spread = float(from_mean_N @ from_mean_N)
                if spread > 0:
                    slope_K[k] = float(from_mean_N @ (points.value_N - points.value_N.mean())) / spread
        return slope_K

    def state(self) -> JsonObject:
        return {"steps": [list(steps) for steps in self._steps], "values": [list(values) for values in self._values]}

    def load_state(self, state: JsonObject) -> None:
        num_tasks = len(self._steps)
        self._steps = [list(steps) for steps in cast("list[list[int]]", state.get("steps", [[]] * num_tasks))]
        self._values = [list(values) for values in cast("list[list[float]]", state.get("values", [[]] * num_tasks))]
