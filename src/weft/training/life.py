"""Each task's own life in a run: its best validation loss, its patience, and whether it is frozen; and the best of the whole."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypedDict

from weft.config.settings import Settings

MEASURE_OF = {"best": "loss", "best_macro": "macro", "best_worst": "worst"}
"""The measure by which `save.final` chooses."""


class TaskLife(TypedDict):
    """One task, as the checkpoint keeps it."""

    best_loss: float | None
    """None as long as no loss was a finite number."""
    best_step: int
    stalled: int
    """Validations since the best."""


class Best(TypedDict):
    """The best of a whole run by one measure."""

    value: float
    step: int


@dataclass
class Lives:
    """What validations have shown so far. The base model, at step 0, is no result of a run and never the best."""

    tasks: dict[str, TaskLife] = field(default_factory=dict)
    best: dict[str, Best] = field(default_factory=dict)
    """By `loss` (the objective), `macro` (mean of the tasks' losses) and `worst` (largest of them)."""

    def see(self, step: int, losses: Mapping[str, float], objective: float) -> None:
        """A validation after `step` steps."""
        for name, loss in losses.items():
            life = self.tasks.setdefault(name, TaskLife(best_loss=None, best_step=step, stalled=-1))
            if math.isfinite(loss) and (life["best_loss"] is None or loss < life["best_loss"]):
                life["best_loss"], life["best_step"], life["stalled"] = loss, step, 0
            else:
                life["stalled"] += 1
        for name, value in measures(losses, objective).items():
            if math.isfinite(value) and (name not in self.best or value < self.best[name]["value"]):
                self.best[name] = Best(value=value, step=step)

    def exhausted(self, settings: Settings) -> list[str]:
        """The tasks whose patience is at its end."""
        found = []
        for name, life in self.tasks.items():
            patience = settings.tasks[name].freeze_after or settings.validate_.freeze_after
            if patience is not None and life["stalled"] >= patience:
                found.append(name)
        return found

    def protected(self, settings: Settings) -> set[int]:
        """The steps whose checkpoints must stay."""
        asked = {"loss", MEASURE_OF.get(settings.save.final)}
        steps = {best["step"] for name, best in self.best.items() if name in asked}
        return steps | ({life["best_step"] for life in self.tasks.values()} if settings.save.best_of_tasks else set())


def measures(losses: Mapping[str, float], objective: float) -> dict[str, float]:
    """A validation by each measure that a best can be chosen by."""
    if not losses:
        return {"loss": objective}
    return {"loss": objective, "macro": sum(losses.values()) / len(losses), "worst": max(losses.values())}
