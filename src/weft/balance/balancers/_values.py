"""What every method that remembers something needs: clean values in, JSON out. Suffix K: one entry a task."""

from __future__ import annotations

import math
from typing import cast

import numpy as np

from weft.balance.method import Floats
from weft.types import JsonObject, JsonValue

LEAST_LOSS = 1e-3
"""Nats; where a loss is divided by, or its logarithm is taken, a smaller one counts as this: the task is solved."""

_MOST = 1e6


def unknown(num_tasks: int) -> Floats:
    """NaN for each task."""
    return np.full(num_tasks, np.nan)


def clean(value_K: Floats) -> Floats:
    """Values that can be reckoned with: NaN where one is not finite, and between 0 and a million."""
    value_K = np.asarray(value_K, dtype=np.float64)
    return np.where(np.isfinite(value_K), np.clip(value_K, 0.0, _MOST), np.nan)


def told(value_K: Floats) -> Floats:
    """Values for the log: 0 where nothing is known."""
    return np.where(np.isfinite(value_K), value_K, 0.0)


def pack(value_K: Floats) -> list[JsonValue]:
    """As JSON: null where nothing is known."""
    return [float(value) if math.isfinite(value) else None for value in value_K]


def unpack(state: JsonObject, key: str, start_K: Floats) -> Floats:
    """What `pack` gave and lies in `state`; a copy of `start_K` where there is nothing."""
    if key not in state:
        return start_K.copy()
    stored = cast("list[float | None]", state[key])
    return np.array([np.nan if value is None else value for value in stored], dtype=np.float64)


def whole(value: JsonValue) -> int:
    """A count of a state."""
    return int(cast(int, value))


def num_steps_of(setting: float, num_steps: int) -> int:
    """Steps that a setting names: below 1 a share of the run's steps, else their number."""
    return math.ceil(setting * num_steps) if setting < 1 else round(setting)
