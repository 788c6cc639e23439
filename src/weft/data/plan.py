"""The plan: which samples are in optimizer step n, and how they are cut into micro-batches. A pure function, nothing is drawn.

    passes ─► rows of max_tokens (best-fit-decreasing) ─► steps of tokens_per_step ─► micro-batches ─► ranks
              or: steps of samples_per_step ────────────┘

What is *in* a step depends on the settings, the seed and the data alone. How it is *cut* (tokens per micro-batch, padding or
packing, number of ranks) never changes what is in it, nor therefore its gradient. Position in a run is one integer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.config.settings import Settings
from weft.data.mixture import Mixture, plan_mixture, stable_seed
from weft.data.packing import best_fit_decreasing, padded_groups
from weft.data.prepare import Prepared
from weft.data.store import Store
from weft.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Parts(NamedTuple):
    """Samples, or pieces of samples, of a step. All arrays have one entry a part (suffix P)."""

    task_P: Ints
    sample_P: Ints  # in the task's store
    start_P: Ints
    stop_P: Ints

    @property
    def length_P(self) -> Ints:
        return self.stop_P - self.start_P

    def take(self, index: npt.NDArray[np.integer] | slice) -> Parts:
        return Parts(*(array[index] for array in self))

    def __bool__(self) -> bool:
        return len(self.task_P) > 0


def join(parts: Sequence[Parts]) -> Parts:
    return Parts(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


@dataclass(frozen=True)
class Step:
    """One optimizer step: its parts in their order, and the same parts cut into micro-batches."""

    number: int
    parts: Parts
    micro_batches: tuple[Parts, ...]

    def of_rank(self, rank: int, ranks: int) -> list[tuple[int, Parts]]:
        """The (number, micro-batch) pairs that a rank computes: longest first, each to the rank with the least to do."""
        load = [0] * ranks
        mine = []
        tokens = [int(parts.length_P.sum()) for parts in self.micro_batches]
        for number in sorted(range(len(tokens)), key=lambda i: (-tokens[i], i)):
            chosen = load.index(min(load))
            load[chosen] += tokens[number]
            if chosen == rank:
                mine.append(number)
        return [(number, self.micro_batches[number]) for number in sorted(mine)]


@dataclass(frozen=True)
class Plan:
    """All steps of a run. `step(n)` for n in 0 .. num_steps - 1."""

    settings: Settings
    stores: tuple[Store, ...]
    mixture: Mixture

    @cached_property
    def train_samples(self) -> list[Ints]:
        """Per task, the store's samples in the training split."""
        data = self.settings.data
        return [store.split("train", data.validation, data.test) for store in self.stores]

    @cached_property
    def _rows(self) -> tuple[Parts, Ints]:
        """All parts of the run in their order, and where each row begins among them (and the last ends)."""
        settings = self.settings
        found, lengths = [], []
        for number in range(self.mixture.num_passes):
            parts = self._pass(number)
            if settings.batch.samples_per_step:
                length_R = np.ones(len(parts.task_P), dtype=np.int64)
            elif settings.data.packing == "concat":
                parts, length_R = concatenated(parts, settings.max_tokens)
            else:
                parts, length_R = packed(parts, settings.max_tokens, stable_seed(settings.seed, "rows", number))
            found.append(parts)
            lengths.append(length_R)
        return join(found), np.cumsum(np.concatenate([np.zeros(1, dtype=np.int64), *lengths]))

    @cached_property
    def rows_per_step(self) -> int:
        return self.settings.batch.samples_per_step or max(1, self.settings.tokens_per_step // self.settings.max_tokens)

    @cached_property
    def num_steps(self) -> int:
        """Steps go on across the borders of passes, so only the last may be small."""
        return min(self.steps_of_mixture, self.settings.mixture.max_steps or self.steps_of_mixture)

    @cached_property
    def steps_of_mixture(self) -> int:
        """The steps that all epochs together would take, were there no max_steps."""
        return -(-(len(self._rows[1]) - 1) // self.rows_per_step)

    def step(self, number: int) -> Step:
        """Step `number`, from 0. Raises IndexError beyond the run."""
        if not 0 <= number < self.num_steps:
            raise IndexError(f"there is no step {number}; the run has {self.num_steps}")
        everything, begin_R = self._rows
        first, last = number * self.rows_per_step, min((number + 1) * self.rows_per_step, len(begin_R) - 1)
        parts = everything.take(slice(int(begin_R[first]), int(begin_R[last])))
        return Step(number, parts, tuple(cut(parts, self.settings.tokens_per_micro_batch, self.settings.data.packing)))

    @cached_property
    def steps_with_task_K(self) -> Ints:
        """In how many steps each task has a sample."""
        everything, begin_R = self._rows
        row_P = np.repeat(np.arange(len(begin_R) - 1), np.diff(begin_R))
        step_P = row_P // self.rows_per_step
        pairs = np.unique(step_P * len(self.stores) + everything.task_P)
        return np.bincount(
            pairs[pairs < self.num_steps * len(self.stores)] % len(self.stores), minlength=len(self.stores)
        )

    def _pass(self, number: int) -> Parts:
        task_S, index_S = self.mixture.samples(number)
        sample_S = np.empty_like(index_S)
        length_S = np.empty_like(index_S)
        for task, (store, samples) in enumerate(zip(self.stores, self.train_samples, strict=True)):
            mine = task_S == task
            sample_S[mine] = samples[index_S[mine]]
            length_S[mine] = store.length_S[sample_S[mine]]
        return Parts(task_S, sample_S, np.zeros_like(length_S), length_S)

    def trained_P(self, parts: Parts) -> Floats:
        """Σ of the token weights of each part; its first token counts nothing, for nothing predicts it."""
        trained_P = np.empty(len(parts.task_P))
        for task, store in enumerate(self.stores):
            mine = np.flatnonzero(parts.task_P == task)
            trained_P[mine] = store.trained_S[parts.sample_P[mine]]
        whole_P = parts.length_P == self._whole_length(parts)
        for index in np.flatnonzero(~whole_P).tolist():
            weight_T = self.stores[parts.task_P[index]].sample(int(parts.sample_P[index])).weight_T
            trained_P[index] = weight_T[parts.start_P[index] + 1 : parts.stop_P[index]].sum(dtype=np.float64)
        return trained_P

    def _whole_length(self, parts: Parts) -> Ints:
        length_P = np.empty_like(parts.task_P)
        for task, store in enumerate(self.stores):
            mine = parts.task_P == task
            length_P[mine] = store.length_S[parts.sample_P[mine]]
        return length_P

    def names(self, parts: Parts) -> list[str]:
        """The public ids of a step's samples, in order."""
        pairs = zip(parts.task_P.tolist(), parts.sample_P.tolist(), strict=True)
        return [self.stores[task].name(sample) for task, sample in pairs]

    @cached_property
    def validation(self) -> list[Parts]:
        """All validation samples, cut into micro-batches; the same whatever the packing of training is."""
        data = self.settings.data
        found = []
        for task, store in enumerate(self.stores):
            sample_S = store.split("validation", data.validation, data.test)
            length_S = store.length_S[sample_S]
            found.append(Parts(np.full(len(sample_S), task), sample_S, np.zeros_like(sample_S), length_S))
        parts = join(found)
        if data.packing == "concat":
            parts, _ = concatenated(parts, self.settings.max_tokens)
        return cut(parts, self.settings.tokens_per_micro_batch, "pack") if parts else []


def make_plan(settings: Settings, prepared: Prepared) -> Plan:
    """The plan of a run. Raises DataError where there is nothing to do."""
    data = settings.data
    sizes = {store.task: len(store.split("train", data.validation, data.test)) for store in prepared.stores}
    epochs = {name: task.epochs for name, task in settings.tasks.items()}
    mixture = plan_mixture(settings.mixture, sizes, epochs, settings.seed)
    plan = Plan(settings, prepared.stores, mixture)
    if not plan.num_steps:
        raise DataError("the mixture holds no sample: raise mixture.epochs or add rows")
    return plan


def cut(parts: Parts, capacity: int, packing: str) -> list[Parts]:
    """A step's parts as micro-batches of at most `capacity` tokens (padding counted with packing: padding)."""
    if packing == "padding":
        group_P = padded_groups(parts.length_P, capacity)
    elif packing == "concat":
        filled = np.cumsum(parts.length_P)
        group_P, start = np.zeros(len(filled), dtype=np.int64), 0
        for index in range(1, len(filled)):
            before = filled[start - 1] if start else 0
            if filled[index] - before > capacity:
                start = index
            group_P[index] = group_P[index - 1] + (start == index)
    else:
        group_P = best_fit_decreasing(parts.length_P, capacity)
    order = np.argsort(group_P, kind="stable")
    borders = np.flatnonzero(np.diff(group_P[order])) + 1
    return [parts.take(index) for index in np.split(order, borders)]


def packed(parts: Parts, capacity: int, seed: int) -> tuple[Parts, Ints]:
    """Whole samples in as few rows as best-fit-decreasing finds, the rows in random order; and how many parts each row has."""
    row_P = best_fit_decreasing(parts.length_P, capacity)
    num_rows = int(row_P.max()) + 1 if len(row_P) else 0
    place_R = np.random.default_rng(seed).permutation(num_rows)
    order = np.argsort(place_R[row_P], kind="stable")
    return parts.take(order), np.bincount(place_R[row_P], minlength=num_rows)


def concatenated(parts: Parts, capacity: int) -> tuple[Parts, Ints]:
    """The parts as one stream, cut every `capacity` tokens; a cut sample goes on in the next row, as a part of its own."""
    end_P = np.cumsum(parts.length_P)
    begin_P = end_P - parts.length_P
    total = int(end_P[-1]) if len(end_P) else 0
    border = np.unique(np.concatenate([begin_P, np.arange(0, total, capacity)]))
    stop = np.append(border[1:], total)[: len(border)]
    sample = np.searchsorted(end_P, border, side="right")
    taken = parts.take(sample)
    pieces = Parts(
        taken.task_P,
        taken.sample_P,
        taken.start_P + border - begin_P[sample],
        taken.start_P + stop - begin_P[sample],
    )
    return pieces, np.bincount(border // capacity, minlength=-(-total // capacity))
