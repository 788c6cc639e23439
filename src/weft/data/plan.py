"""The plan: which samples are in optimizer step n, and how they are cut into micro-batches. A pure function, nothing is drawn.

    passes ─► steps of up to tokens_per_step, or of samples_per_step ─► micro-batches (best-fit-decreasing) ─► ranks
              or: one stream cut into rows of max_tokens, tokens_per_step of them a step

What is *in* a step depends on the settings, the seed and the data alone. How it is *cut* (tokens per micro-batch, padding or
packing, number of ranks) never changes what is in it, nor therefore its gradient. Position in a run is one integer.

A pass spreads every task evenly (`Mixture.samples`), so a step holds of each task about what its size lets it have; steps go on across
the borders of passes. A *row* is what steps are counted in: a whole step, a sample, or max_tokens of the stream.
Where sampling follows the tasks' weights, passes are added while training (`Plan.extended`): the plan is then a function of the
settings and the shares that were recorded, pass by pass.
Suffixes: P parts, R rows (or passes, where a name says so), K tasks, A all samples of all tasks, one task after another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.config.settings import Settings
from weft.data.mixture import Mixture, plan_mixture, stages_of
from weft.data.packing import best_fit_decreasing, in_order, next_fit, padded_groups
from weft.data.prepare import Prepared
from weft.data.store import Store
from weft.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

PLAN_VERSION = 2
"""Counts up when the same settings give other steps than before: a run that was begun can't go on with those."""


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

    @classmethod
    def none(cls) -> Parts:
        """No part at all."""
        return cls(*(np.zeros(0, dtype=np.int64) for _ in cls._fields))


class Layout(NamedTuple):
    """All rows of a run: row r holds parts `begin_R[r]` to `begin_R[r + 1]`; part p comes from pass `pass_P[p]`."""

    parts: Parts
    begin_R: Ints
    pass_P: Ints

    @property
    def num_rows(self) -> int:
        return len(self.begin_R) - 1


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


class Growing(NamedTuple):
    """What a plan whose passes are added while training keeps of the one that the settings alone would give."""

    num_steps: int
    steps_of_mixture: int
    tokens_per_pass: float
    """Trained tokens of a pass, of all tasks together."""


@dataclass(frozen=True)
class Plan:
    """All steps of a run. `step(n)` for n in 0 .. num_steps - 1."""

    settings: Settings
    stores: tuple[Store, ...]
    mixture: Mixture
    growing: Growing | None = None
    """Set where passes are added while training."""

    @cached_property
    def train_samples(self) -> list[Ints]:
        """Per task, the store's samples in the training split."""
        data = self.settings.data
        return [store.split("train", data.validation, data.test) for store in self.stores]

    @cached_property
    def _layout(self) -> Layout:
        """Every row of the run, pass after pass."""
        passes = [self._pass(number) for number in range(self.mixture.num_passes)]
        return self._laid_out(Layout(Parts.none(), np.zeros(1, dtype=np.int64), Parts.none().task_P), passes, 0)

    def _laid_out(self, before: Layout, passes: Sequence[Parts], first: int) -> Layout:
        """A layout with more passes behind it, of which the first is number `first`; a step that was not full is filled up."""
        settings = self.settings
        parts, counts = join([before.parts, *passes]), [len(p.task_P) for p in passes]
        pass_P = np.concatenate([before.pass_P, np.repeat(np.arange(first, first + len(passes)), counts)])
        if settings.batch.samples_per_step:
            return Layout(parts, np.arange(len(parts.task_P) + 1), pass_P)
        if settings.data.packing != "concat":
            return Layout(parts, _filled(parts.length_P, settings.tokens_per_step, before.begin_R), pass_P)
        found = [before.parts]
        begin, rows = int(before.begin_R[-1]), [before.begin_R]
        number_P = [before.pass_P]
        for number, each in enumerate(passes, first):
            pieces, count_R = concatenated(each, settings.max_tokens)
            found.append(pieces)
            rows.append(begin + np.cumsum(count_R))
            begin = int(rows[-1][-1]) if len(count_R) else begin
            number_P.append(np.full(len(pieces.task_P), number))
        return Layout(join(found), np.concatenate(rows), np.concatenate(number_P))

    def reaches(self, number: int) -> bool:
        """Whether all rows of a step are laid out; always so where the plan doesn't grow."""
        return not self.growing or self._layout.num_rows > (number + 1) * self.rows_per_step

    def extended(self, share_K: Floats) -> Plan:
        """A growing plan with one more pass, of which each task has its share of the trained tokens."""
        assert self.growing is not None
        mixture = self.mixture.extended(self.train_trained, share_K, self.growing.tokens_per_pass)
        longer = replace(self, mixture=mixture)
        kept = ("train_samples", "rows_per_step", "validation", "_first_K", "_length_A", "_trained_A", "train_trained")
        longer.__dict__.update({name: self.__dict__[name] for name in kept if name in self.__dict__})
        number = mixture.num_passes - 1
        longer.__dict__["_layout"] = self._laid_out(self._layout, [longer._pass(number)], number)
        return longer

    @cached_property
    def train_trained(self) -> list[Floats]:
        """Per task, the trained tokens of each training sample."""
        return [store.trained_S[samples] for store, samples in zip(self.stores, self.train_samples, strict=True)]

    @cached_property
    def rows_per_step(self) -> int:
        settings = self.settings
        if settings.data.packing == "concat":
            return max(1, settings.tokens_per_step // settings.max_tokens)
        return settings.batch.samples_per_step or 1

    @cached_property
    def num_steps(self) -> int:
        """Steps go on across the borders of passes, so only the last may be small."""
        if self.growing:
            return self.growing.num_steps
        return min(self.steps_of_mixture, self.settings.mixture.max_steps or self.steps_of_mixture)

    @cached_property
    def steps_of_mixture(self) -> int:
        """The steps that all epochs together would take, were there no max_steps."""
        if self.growing:
            return self.growing.steps_of_mixture
        return -(-self._layout.num_rows // self.rows_per_step)

    @property
    def epochs(self) -> float:
        """The passes of all stages together, the last of a stage perhaps a part of one."""
        return sum(stage.epochs for stage in stages_of(self.settings.mixture))

    def step(self, number: int, spent_K: npt.NDArray[np.bool_] | None = None) -> Step:
        """Step `number`, from 0, of which only the rows of tasks that are `spent` are taken (without it, of all).

        Raises IndexError beyond the run.
        """
        rows = self._rows_of_step(number)
        begin_R = self._layout.begin_R[rows.start : rows.stop + 1]
        parts = self._layout.parts.take(slice(int(begin_R[0]), int(begin_R[-1])))
        if spent_K is not None and not spent_K.all():
            parts = parts.take(np.flatnonzero(spent_K[parts.task_P]))
        capacity, packing = self.settings.tokens_per_micro_batch, self.settings.data.packing
        return Step(number, parts, tuple(cut(parts, capacity, packing)) if parts else ())

    def stage_of_step(self, number: int) -> int:
        """The stage, from 0, of a step's first part: a step that reaches into the next stage still counts to the one before."""
        layout = self._layout
        return int(self.mixture.stage_R[layout.pass_P[layout.begin_R[self._rows_of_step(number).start]]])

    def _rows_of_step(self, number: int) -> slice:
        if not 0 <= number < self.num_steps:
            raise IndexError(f"there is no step {number}; the run has {self.num_steps}")
        first = number * self.rows_per_step
        return slice(first, min(first + self.rows_per_step, self._layout.num_rows))

    @property
    def mean_tokens_per_step(self) -> float:
        """Tokens of all steps, by their number."""
        return float(self.run[0].length_P.sum()) / self.num_steps

    @cached_property
    def run(self) -> tuple[Parts, Ints, Ints]:
        """All parts of all steps in their order, and each one's step and pass."""
        everything, begin_R, pass_P = self._layout
        num_rows = min(self.num_steps * self.rows_per_step, self._layout.num_rows)
        row_P = np.repeat(np.arange(num_rows), np.diff(begin_R[: num_rows + 1]))
        return everything.take(slice(len(row_P))), row_P // self.rows_per_step, pass_P[: len(row_P)]

    @cached_property
    def steps_with_task_K(self) -> Ints:
        """In how many steps each task has a sample."""
        parts, step_P, _ = self.run
        present_NK = np.zeros((self.num_steps, len(self.stores)), dtype=np.bool_)
        present_NK[step_P, parts.task_P] = True
        steps_K: Ints = present_NK.sum(axis=0)
        return steps_K

    @cached_property
    def times_seen(self) -> list[Ints]:
        """Per task, in how many passes of the run each training sample is begun, in the order of `train_samples`."""
        parts, _, _ = self.run
        begun = parts.take(parts.start_P == 0)
        times_A = np.bincount(self._first_K[begun.task_P] + begun.sample_P, minlength=len(self._length_A))
        return [times_A[first + samples] for first, samples in zip(self._first_K, self.train_samples, strict=True)]

    @cached_property
    def trained_RK(self) -> Floats:
        """The trained tokens of each task in each pass of the mixture (R), as far as the run's steps go."""
        parts, _, pass_P = self.run
        num_passes, num_tasks = self.mixture.num_passes, len(self.stores)
        cell_P = pass_P * num_tasks + parts.task_P
        summed = np.bincount(cell_P, weights=self.trained_P(parts), minlength=num_passes * num_tasks)
        return summed.astype(np.float64).reshape(num_passes, num_tasks)

    @cached_property
    def _first_K(self) -> Ints:
        """Where each task's samples begin among those of all tasks."""
        sizes = [len(store.length_S) for store in self.stores]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)

    @cached_property
    def _length_A(self) -> Ints:
        return np.concatenate([store.length_S for store in self.stores])

    @cached_property
    def _trained_A(self) -> Floats:
        return np.concatenate([store.trained_S for store in self.stores])

    def _pass(self, number: int) -> Parts:
        task_S, index_S = self.mixture.samples(number)
        first_K = np.cumsum([0, *(len(samples) for samples in self.train_samples[:-1])], dtype=np.int64)
        sample_S = np.concatenate(self.train_samples)[first_K[task_S] + index_S]
        length_S = self._length_A[self._first_K[task_S] + sample_S]
        return Parts(task_S, sample_S, np.zeros_like(length_S), length_S)

    def trained_P(self, parts: Parts) -> Floats:
        """Σ of the token weights of each part; its first token counts nothing, for nothing predicts it."""
        at_P = self._first_K[parts.task_P] + parts.sample_P
        trained_P: Floats = self._trained_A[at_P]
        pieces = np.flatnonzero(parts.length_P != self._length_A[at_P])
        for index, (task, sample, start, stop) in zip(
            pieces.tolist(), zip(*(array[pieces].tolist() for array in parts), strict=True), strict=True
        ):
            weight_T = self.stores[task].sample(sample).weight_T
            trained_P[index] = weight_T[start + 1 : stop].sum(dtype=np.float64)
        return trained_P

    def names(self, parts: Parts) -> list[str]:
        """The public ids of a step's samples, in order."""
        pairs = zip(parts.task_P.tolist(), parts.sample_P.tolist(), strict=True)
        return [self.stores[task].name(sample) for task, sample in pairs]

    @cached_property
    def validation(self) -> list[Parts]:
        """All validation samples, cut into micro-batches. What becomes of a sample doesn't depend on the others."""
        data = self.settings.data
        found = []
        for task, store in enumerate(self.stores):
            sample_S = store.split("validation", data.validation, data.test)
            length_S = store.length_S[sample_S]
            found.append(Parts(np.full(len(sample_S), task), sample_S, np.zeros_like(sample_S), length_S))
        parts = join(found)
        if data.packing == "concat":
            parts = shortened(parts, self.settings.max_tokens)
        return cut(parts, self.settings.tokens_per_micro_batch, "pack") if parts else []


def make_plan(settings: Settings, prepared: Prepared) -> Plan:
    """The plan of a run. Raises DataError where there is nothing to do."""
    data = settings.data
    sizes = {store.task: len(store.split("train", data.validation, data.test)) for store in prepared.stores}
    epochs = {name: task.epochs for name, task in settings.tasks.items()}
    by_trained = any(stage.by == "trained_tokens" for stage in stages_of(settings.mixture))
    trained = {
        store.task: store.trained_S[store.split("train", data.validation, data.test)]
        for store in (prepared.stores if by_trained else ())
    }
    mixture = plan_mixture(settings.mixture, sizes, epochs, settings.seed, trained)
    plan = Plan(settings, prepared.stores, mixture)
    if not plan.num_steps:
        raise DataError("the mixture holds no sample: raise mixture.epochs or add rows")
    return plan


def start_plan(whole: Plan, shares: Sequence[Sequence[float]]) -> Plan:
    """The plan that a run goes on with: `whole`, or where sampling follows the weights, the passes whose shares are recorded."""
    balance = whole.settings.balance
    if balance.act_on == "loss":
        return whole
    steps = balance.stage_steps or max(1, whole.num_steps // 20)
    tokens = float(whole.trained_RK.sum()) * steps / whole.num_steps
    mixture = whole.mixture
    empty = replace(
        mixture, bounds_RK=mixture.bounds_RK[:1], stage_R=mixture.stage_R[:0], share_RK=mixture.share_RK[:0]
    )
    plan = replace(whole, mixture=empty, growing=Growing(whole.num_steps, whole.steps_of_mixture, tokens))
    for share_K in shares:
        plan = plan.extended(np.array(share_K))
    return plan


def cut(parts: Parts, capacity: int, packing: str) -> list[Parts]:
    """A step's parts as micro-batches of at most `capacity` tokens (padding counted with packing: padding)."""
    if packing == "padding":
        group_P = padded_groups(parts.length_P, capacity)
    elif packing == "concat":
        group_P = next_fit(parts.length_P, capacity)
    else:
        group_P = best_fit_decreasing(parts.length_P, capacity)
    order = in_order(group_P)
    borders = np.flatnonzero(np.diff(group_P[order])) + 1
    return [parts.take(index) for index in np.split(order, borders)]


def _filled(length_P: Ints, capacity: int, begin_R: Ints) -> Ints:
    """Where each row begins, and the last one ends, if each takes the next parts up to `capacity` tokens.

    `begin_R`: rows that are known already; the last of them is filled up, for it may have been cut short.
    """
    reached_P = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(length_P)])
    begins = begin_R[:-1].tolist() or [0]
    while True:
        end = int(np.searchsorted(reached_P, reached_P[begins[-1]] + capacity, side="right")) - 1
        begins.append(max(end, min(begins[-1] + 1, len(length_P))))
        if begins[-1] >= len(length_P):
            return np.array(begins, dtype=np.int64)


def shortened(parts: Parts, capacity: int) -> Parts:
    """The same parts, those of more than `capacity` tokens in pieces of so many and a rest."""
    num_pieces_P = -(-parts.length_P // capacity)
    part = np.repeat(np.arange(len(num_pieces_P)), num_pieces_P)
    nth = np.arange(len(part)) - np.repeat(np.cumsum(num_pieces_P) - num_pieces_P, num_pieces_P)
    start_P = parts.start_P[part] + nth * capacity
    return Parts(parts.task_P[part], parts.sample_P[part], start_P, np.minimum(start_P + capacity, parts.stop_P[part]))


def concatenated(parts: Parts, capacity: int) -> tuple[Parts, Ints]:
    """The parts as one stream, cut every `capacity` tokens; a cut sample goes on in the next row, as a part of its own."""
    end_P = np.cumsum(parts.length_P)
    begin_P = end_P - parts.length_P
    total = int(end_P[-1]) if len(end_P) else 0
    num_pieces_P = (end_P - 1) // capacity - begin_P // capacity + 1
    part = np.repeat(np.arange(len(end_P)), num_pieces_P)
    nth = np.arange(len(part)) - np.repeat(np.cumsum(num_pieces_P) - num_pieces_P, num_pieces_P)
    row = begin_P[part] // capacity + nth
    before = begin_P[part] - parts.start_P[part]  # from a place in the stream to one in the sample
    pieces = Parts(
        parts.task_P[part],
        parts.sample_P[part],
        np.maximum(begin_P[part], row * capacity) - before,
        np.minimum(end_P[part], (row + 1) * capacity) - before,
    )
    return pieces, np.bincount(row, minlength=-(-total // capacity))
