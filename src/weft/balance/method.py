"""What a balancing method must do, and what it is given. One file a method in `balancers/`, each with

    class Options(Section): ...                                   its settings, `balance.options`
    def build(tasks: TaskFacts, options: Options) -> Method: ...

Suffix K: one entry a task, in the order of `TaskFacts.names`; NaN stands for a task of which nothing is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from weft.config.settings import Section
from weft.types import JsonObject

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
Wants: TypeAlias = Literal["nothing", "losses", "gradients"]


class NoOptions(Section):
    """For a method without settings of its own."""


@dataclass(frozen=True)
class TaskFacts:
    """What is known of the tasks before the first step."""

    names: tuple[str, ...]
    weight_K: Floats
    """`tasks.NAME.weight`."""
    trained_K: Floats
    """Trained tokens of each task's training rows."""
    num_steps: int
    """Optimizer steps of the run."""
    act_on: str = "loss"
    """`balance.act_on`."""


class Look(NamedTuple):
    """A look at validation rows after `step` optimizer steps. The rows of a task are the same in every look that has it.

    A look need not have all tasks: where there are many, they take turns.
    """

    step: int
    loss_K: Floats
    """Mean nll per trained token; NaN for a task that is not in this look."""
    norm_K: Floats
    """Norm of that loss's gradient on all trained parameters; NaN unless the method wants gradients."""
    frozen_K: Flags | None = None
    """The tasks that are frozen, which are in no look any more and must not steer the others; None: no task is."""


class Method(Protocol):
    """How the tasks' weights move. It is a pure function of what it has seen; all of its state is in the checkpoint.

    Every number that leaves it is finite, whatever it was shown.
    """

    wants: Wants
    """What a look must hold; looks cost time, and are not made for `nothing`."""
    formula: str
    """The formula in use, for the log."""

    def weights(self) -> Floats:
        """w of each task (K), at least 0, not all 0. Only proportions count; `tasks.NAME.weight` is already in it."""
        ...

    def see(self, look: Look) -> None:
        """A look at validation rows; the first comes before the first step."""
        ...

    def see_training(self, step: int, loss_K: Floats) -> None:
        """Each task's mean nll per trained token in optimizer step `step` (from 1); NaN for a task that is not in it."""
        ...

    def numbers(self) -> Mapping[str, float | Floats]:
        """The formula's parts as they are now, by their names in it: one number, or one a task (K)."""
        ...

    def state(self) -> JsonObject:
        """All that it remembers, as JSON without NaN."""
        ...

    def load_state(self, state: JsonObject) -> None:
        """Take up what `state` gave; an empty object is a fresh start."""
        ...


LEAST = 1e-6
"""No method makes a weight smaller, beside a mean of 1: a weight of 0 means that a task is frozen."""


def softmax(score_K: Floats) -> Floats:
    """exp(score) / Σ exp(score) over the entries that are finite; 0 elsewhere."""
    known_K = np.isfinite(score_K)
    result_K = np.zeros(len(score_K))
    if known_K.any():
        power_K = np.exp(score_K[known_K] - score_K[known_K].max())
        result_K[known_K] = power_K / power_K.sum()
    return result_K


def weighted(tasks: TaskFacts, omega_K: Floats) -> Floats:
    """A method's ω as weights: ω with mean 1 over the tasks that have one, 1 for the others, times each task's own weight."""
    known_K = np.isfinite(omega_K)
    scaled_K = np.ones(len(omega_K))
    if known_K.any() and omega_K[known_K].sum() > 0:
        scaled_K[known_K] = omega_K[known_K] * known_K.sum() / omega_K[known_K].sum()
    return tasks.weight_K * np.maximum(scaled_K, LEAST)
