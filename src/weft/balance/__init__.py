"""Balancers move the tasks' weights while training: one file each, with `build(tasks, weight_K)`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

from weft import plugins
from weft.config.settings import Settings
from weft.types import JsonObject

Floats = npt.NDArray[np.float64]


class Balancer(Protocol):
    """What a method must do. It sees validation losses and gives the weights of the next step; its state is in the checkpoint."""

    def weights(self, step: int) -> Floats:
        """w of each task (K) for optimizer step `step`."""
        ...

    def observe_validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Each task's validation loss after `step` steps; a task without validation rows is absent."""
        ...

    def state(self) -> JsonObject: ...

    def load_state(self, state: JsonObject) -> None: ...


def build(settings: Settings) -> Balancer:
    """The balancer of a run. Raises ConfigError for an unknown method."""
    tasks: Sequence[str] = list(settings.tasks)
    weight_K = np.array([task.weight for task in settings.tasks.values()])
    balancer: Balancer = plugins.find("weft.balance.balancers", settings.balance.method, "build", "balance.method")(
        tasks, weight_K
    )
    return balancer
