"""Runs in which weights move: settings, and methods that are made for a test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from weft.balance.method import Floats, Look, NoOptions, TaskFacts, Wants
from weft.types import JsonObject

ACTIVE: dict[str, Any] = {
    "data": {"validation": 0.3},
    "mixture": {"epochs": 6},
    "batch": {"tokens_per_step": 256},
    "balance": {"every": 2, "rows": 3},
    "validate": {"every": 4},
    "save": {"every": 3},
}
"""Sections of a run of some twenty small steps that looks every second one."""

SAMPLED: dict[str, Any] = {
    **ACTIVE,
    "mixture": {"by": "trained_tokens", "weights": {"sums": 1, "chat": 1, "one": 1}, "epochs": 4},
    "loss": {"weighting": "token"},
}
"""The same for runs in which sampling follows the weights."""

QUICK: dict[str, dict[str, Any]] = {
    "coba": {"warmup": 0, "window": 8},
    "selfpaced": {"warmup": 0, "window": 8},
    "famo": {"lr": 5.0},
    "gradnorm": {"lr": 0.5},
    "uncertainty": {"lr": 0.5},
    "dwa": {},
}
"""Options with which the methods that move do so within twenty steps."""


def records(folder: Path, kind: str) -> list[dict[str, Any]]:
    """The lines of a run's balance.jsonl that are of one kind."""
    lines = [json.loads(line) for line in (folder / "balance.jsonl").read_bytes().splitlines()]
    return [line for line in lines if kind in line]


class Wobbling:
    """Weights that change at every look by a rule of their own, whatever the losses are."""

    wants: Wants = "losses"
    formula = "w = 1 + k · looks"

    def __init__(self, tasks: TaskFacts) -> None:
        self._num_tasks, self.looks = len(tasks.names), 0

    def weights(self) -> Floats:
        return 1.0 + np.arange(self._num_tasks) * (self.looks % 5)

    def see(self, look: Look) -> None:
        self.looks += 1

    def see_training(self, step: int, loss_K: Floats) -> None:
        return None

    def numbers(self) -> Mapping[str, float | Floats]:
        return {"looks": float(self.looks)}

    def state(self) -> JsonObject:
        return {"looks": self.looks}

    def load_state(self, state: JsonObject) -> None:
        self.looks = int(str(state.get("looks", 0)))


class Watching(Wobbling):
    """Looks, and leaves the weights alone."""

    def weights(self) -> Floats:
        return np.ones(self._num_tasks)


Options = NoOptions


def build(tasks: TaskFacts, options: NoOptions) -> Wobbling:
    return Wobbling(tasks)


def watching(tasks: TaskFacts, options: NoOptions) -> Watching:
    return Watching(tasks)
