"""Weights by how much each task has to train on: tokens ** (1 / temperature)."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from weft.balance.balancers.fixed import Fixed
from weft.balance.method import TaskFacts, weighted
from weft.config.settings import Section


class Options(Section):
    temperature: float = Field(2.0, ge=1, allow_inf_nan=False)
    """1 weighs the tasks by their trained tokens; large: even."""


def build(tasks: TaskFacts, options: Options) -> Fixed:
    # a task with nothing to train counts as one token: its weight is small, and finite
    omega_K = np.maximum(tasks.trained_K, 1.0) ** (1 / options.temperature)
    return Fixed(weighted(tasks, omega_K), f"ω = tokens ** (1 / {options.temperature:g})")
