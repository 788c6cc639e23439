"""What a run wrote down about itself, read back into one typed record. Nothing is worked out here, only read and sorted by task.

A run that is still going on or was killed is read up to its last whole line. What weft did not write is an error, never guessed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.types import JsonObject, JsonValue

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Series:
    """A number by optimizer step (N points, steps rising); NaN where it was not finite."""

    step_N: Floats
    value_N: Floats

    @property
    def finite(self) -> Series:
        """Only the points that have a number."""
        known_N = np.isfinite(self.value_N)
        return Series(self.step_N[known_N], self.value_N[known_N])

    @property
    def lost_since(self) -> int | None:
        """The step from which on no value is finite; None where the last one is, or where there is none at all."""
        known = np.flatnonzero(np.isfinite(self.value_N))
        place = int(known[-1]) + 1 if len(known) else 0
        return int(self.step_N[place]) if place < len(self) else None

    def __len__(self) -> int:
        return len(self.step_N)


class Freeze(NamedTuple):
    """When a task was frozen, and the best validation loss it had by then; NaN where none was finite."""

    step: int
    best_step: int
    best_loss: float


class Rows(NamedTuple):
    """How often a task's rows were trained on and looked at, and how many different ones they were."""

    used: int
    distinct: int
    most: int
    """How often the row was used that was used most."""
    looked_at: int
    distinct_looked_at: int
    both: int
    """Rows that were trained on and looked at; 0 in a sound run."""


@dataclass(frozen=True)
class TaskRecord:
    """Everything about one task."""

    name: str
    loss: Series
    """Training loss of the steps that have the task: mean nll per trained token."""
    tokens: Series
    """Trained tokens of those steps."""
    share: Series
    """Its share Σ aᵢ of those steps' loss, as it was really used."""
    validation: Series
    validation_tokens: float
    """Trained tokens of its validation rows; 0 where it has none."""
    weight: Series
    """The weight in force from each of these steps on."""
    look: Series
    """Its loss on the rows that looks hold."""
    frozen: Freeze | None
    rows: Rows


class Validation(NamedTuple):
    """A validation as a whole; NaN where a loss was not finite."""

    step: int
    loss: float
    macro: float
    worst_task: str
    """The task with the largest loss; one whose loss is not finite is worse than all others. Empty where no task was validated."""
    worst_loss: float


class Look(NamedTuple):
    """What a look cost."""

    step: int
    seconds: float
    tokens: float


class Interference(NamedTuple):
    """How the tasks' gradients stand to one another at a step: K names, K × K cosines, K norms."""

    step: int
    tasks: tuple[str, ...]
    cosine_KK: Floats
    norm_K: Floats


class Shares(NamedTuple):
    """The shares of the trained tokens that were asked for, in force after `step` steps; of passes begun in one step, the last."""

    step: int
    number: int
    shares: Mapping[str, float]


@dataclass(frozen=True)
class RunRecord:
    """A run's folder."""

    folder: Path
    settings: Mapping[tuple[str, ...], JsonValue]
    """Every setting by its path."""
    identity: JsonObject
    environment: JsonObject
    """Empty where the folder has none."""
    tasks: tuple[TaskRecord, ...]
    steps: int
    """Optimizer steps that were taken."""
    skipped: tuple[int, ...]
    """Steps that were not taken because their loss or gradient was not finite."""
    spared: tuple[int, ...]
    """Steps that had nothing to take, because all of their rows belong to tasks that were frozen."""
    loss: Series
    """The objective of every step."""
    rate: Series
    norm: Series
    """Norm of the gradient before clipping."""
    speed: Series
    """Tokens per second."""
    seconds: float | None
    """Seconds that the steps took together; None where the journal doesn't tell."""
    validations: tuple[Validation, ...]
    looks: tuple[Look, ...]
    numbers: Mapping[str, Series | Mapping[str, Series]]
    """Parts of the balancing method's formula: one number, or one a task."""
    shares: tuple[Shares, ...]
    interference: tuple[Interference, ...]
    final_step: int | None
    """The step that `final/` was made of; None while there is no result."""

    def setting(self, *path: str) -> JsonValue:
        """A setting's value; None where it is not known."""
        return self.settings.get(path)

    def task(self, name: str) -> TaskRecord | None:
        return next((task for task in self.tasks if task.name == name), None)
