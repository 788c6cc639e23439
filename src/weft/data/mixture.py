"""Which samples a pass over the mixture holds: a pure function of sizes, trained tokens, settings and the seed.

Each task is an endless stream: its samples in a new random order, again and again. A pass takes the next few of every stream, so
no sample is seen a third time before all have been seen twice, whatever the proportions. Nothing is remembered between passes,
and the streams go on where stages follow one another.

    stream of a task    b a c | c a b | a c b | …          laps: all samples, in an order of their own each
    passes              0     |1  | 2       | …            where a pass ends in a stream is its bound

Suffixes: R passes, K tasks, S samples.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.config.settings import MixtureSettings, StageSettings
from weft.errors import DataError

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_UNITS = 2**16
"""Trained tokens are added up as whole numbers of this part of a token, so that sums are exact in any order on any machine."""


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from anything with a stable text form, the same in every process and version of Python."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()) >> 1


def stages_of(settings: MixtureSettings) -> list[StageSettings]:
    """The stages of a mixture; one that has none is a single stage."""
    whole = {name: getattr(settings, name) for name in StageSettings.model_fields}
    return settings.stages or [StageSettings(**whole)]


@dataclass(frozen=True)
class Mixture:
    """Pass r takes samples `bounds_RK[r, k]` to `bounds_RK[r + 1, k]` of task k's stream. R passes, K tasks."""

    sizes_K: Ints
    bounds_RK: Ints
    names: tuple[str, ...]
    seed: int
    stage_R: Ints
    """The stage of each pass, from 0."""
    share_RK: Floats
    """The share of a pass's trained tokens that each task was promised; NaN in passes that promise none."""

    @property
    def num_passes(self) -> int:
        return len(self.bounds_RK) - 1

    def stream(self, task: int, start: int, stop: int) -> Ints:
        """Samples start..stop of a task's endless stream, as positions among the task's training samples."""
        size = int(self.sizes_K[task])
        parts = []
        for lap in range(start // size, -(-stop // size)):
            order = _lap(self.seed, self.names[task], lap, size)
            parts.append(order[max(0, start - lap * size) : stop - lap * size])
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def samples(self, number: int) -> tuple[Ints, Ints]:
        """The samples of one pass in their order: (task_S, index_S within the task's training samples).

        Every task is spread evenly over the pass: of its n samples, one lies at a random place in each n-th part of it.

            a task of 12   a  a a  a  a  a a   a a  a  a a
            a task of 3       b         b            b
        """
        chance = np.random.default_rng(stable_seed(self.seed, "mix", number))
        tasks, indexes, places = [], [], []
        for task in range(len(self.sizes_K)):
            part = self.stream(task, int(self.bounds_RK[number, task]), int(self.bounds_RK[number + 1, task]))
            tasks.append(np.full(len(part), task, dtype=np.int64))
            indexes.append(part)
            places.append((np.arange(len(part)) + chance.random(len(part))) / max(1, len(part)))
        order = np.argsort(np.concatenate(places), kind="stable")
        return np.concatenate(tasks)[order], np.concatenate(indexes)[order]

    def extended(self, trained: Sequence[Floats], share_K: Floats, tokens: float) -> Mixture:
        """The same with one more pass of about so many trained tokens, shared out anew; `trained` as in `plan_mixture`.

        What is owed to a task is counted from the first pass, so the rounding of one pass is made good in the next.
        """
        promised_RK = np.concatenate([self.share_RK, share_K[None]])
        owed_K = promised_RK.sum(axis=0) * tokens * _UNITS
        bound_K = self.bounds_RK[-1].copy()
        for k in np.flatnonzero(share_K > 0).tolist():
            stream = _Stream.of(self.seed, self.names[k], trained[k])
            bound_K[k] = max(int(bound_K[k]), stream.nearest(round(float(owed_K[k]))))
        stage_R = np.append(self.stage_R, 0)
        return replace(self, bounds_RK=np.vstack([self.bounds_RK, bound_K]), stage_R=stage_R, share_RK=promised_RK)

    @property
    def times_seen_K(self) -> Floats:
        """How often each task's samples are in all passes together."""
        times_K: Floats = self.bounds_RK[-1] / self.sizes_K
        return times_K


def _lap(seed: int, name: str, lap: int, size: int) -> Ints:
    return np.random.default_rng(stable_seed(seed, "order", name, lap)).permutation(size)


def plan_mixture(
    settings: MixtureSettings,
    sizes: Mapping[str, int],
    epochs: Mapping[str, float | None],
    seed: int,
    trained: Mapping[str, Floats] | None = None,
) -> Mixture:
    """Lay out all passes of all stages.

    `sizes`: training samples of each task; `epochs`: a task's own number of epochs or None; `trained`: the trained tokens of each
    training sample, which by: trained_tokens asks for.

    by rows: each task's own number of epochs, spread evenly over the passes. by weight and by temperature: a pass has as many
    samples as all its tasks together, shared out as p_k ∝ weight_k or size_k ** (1 / temperature) (arXiv 1907.05019, eq. 1).
    by trained_tokens: a pass has about as many trained tokens as all rows of its tasks together, shared out as p_k ∝ weight_k.
    A task of weight 0 is in none of a stage's passes. Raises DataError for a task with nothing to train.
    """
    names = tuple(sizes)
    sizes_K = np.array([sizes[name] for name in names], dtype=np.int64)
    bounds = [np.zeros((1, len(names)), dtype=np.int64)]
    stage_of, shares = [], []
    for number, stage in enumerate(stages_of(settings)):
        weight_K = _weights(stage, names, sizes_K)
        num_passes = max(1, int(np.ceil(stage.epochs)))
        epochs_R = np.minimum(np.arange(1, num_passes + 1), stage.epochs)
        start_K = bounds[-1][-1]
        share_K = np.full(len(names), np.nan)
        if stage.by == "trained_tokens":
            share_K = weight_K / weight_K.sum()
            streams = [_Stream.of(seed, name, (trained or {})[name]) for name in names]
            bounds.append(_by_trained_tokens(streams, start_K, share_K, epochs_R))
        else:
            if stage.by == "rows":
                total_K = np.array([epochs.get(n) or stage.epochs for n in names]) * sizes_K
            else:
                total_K = stage.epochs * sizes_K[weight_K > 0].sum() * weight_K / weight_K.sum()
            total_K = np.where(weight_K > 0, np.maximum(total_K, 1.0), 0.0)
            bounds.append(start_K + np.round(np.outer(epochs_R / stage.epochs, total_K)).astype(np.int64))
        stage_of.append(np.full(num_passes, number, dtype=np.int64))
        shares.append(np.tile(share_K, (num_passes, 1)))
    return Mixture(sizes_K, np.concatenate(bounds), names, seed, np.concatenate(stage_of), np.concatenate(shares))


def _weights(stage: StageSettings, names: Sequence[str], sizes_K: Ints) -> Floats:
    """How much of a stage each task gets, relative to the others; 0 where it gets nothing."""
    if stage.by in ("weight", "trained_tokens"):
        return np.array([stage.weights.get(name, 0.0) for name in names])
    return sizes_K.astype(np.float64) ** (1.0 / stage.temperature)


class _Stream(NamedTuple):
    """A task's endless stream, measured in trained tokens (in units of `_UNITS` to a token)."""

    seed: int
    name: str
    units_S: Ints
    total: int

    @classmethod
    def of(cls, seed: int, name: str, trained_S: Floats) -> _Stream:
        units_S = np.rint(trained_S * _UNITS).astype(np.int64)
        return cls(seed, name, units_S, int(units_S.sum()))

    def _reached(self, lap: int) -> Ints:
        """The units after 0, 1, 2, … samples of a lap."""
        order = _lap(self.seed, self.name, lap, len(self.units_S))
        return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(self.units_S[order])])

    def units_before(self, position: int) -> int:
        """The units of all samples before a position."""
        lap, within = divmod(position, len(self.units_S))
        return lap * self.total + int(self._reached(lap)[within])

    def nearest(self, units: int) -> int:
        """The position before which as nearly so many units lie as whole samples allow; the earlier of two."""
        lap, wanted = divmod(units, self.total)
        reached = self._reached(lap)
        after = int(np.searchsorted(reached, wanted))
        nearer = after > 0 and wanted - reached[after - 1] <= reached[after] - wanted
        return lap * len(self.units_S) + after - int(nearer)


def _by_trained_tokens(streams: Sequence[_Stream], start_K: Ints, share_K: Floats, epochs_R: Floats) -> Ints:
    """The bounds of a stage's passes: each stream goes on until its trained tokens are nearest to what it owes by then.

    What is owed is counted from the start of the stage, so the rounding of one pass is made good in the next.
    """
    drawn = [k for k in range(len(streams)) if share_K[k] > 0]
    empty = [streams[k].name for k in drawn if not streams[k].total]
    if empty:
        raise DataError(
            f"mixture: by trained_tokens, but the training rows of {', '.join(empty)} have no trained token; "
            "give the task answers to train on, or leave it out"
        )
    whole = sum(streams[k].total for k in drawn)
    bounds_RK = np.tile(start_K, (len(epochs_R), 1))
    for k in drawn:
        before = streams[k].units_before(int(start_K[k]))
        bounds_RK[:, k] = [streams[k].nearest(before + round(whole * float(e * share_K[k]))) for e in epochs_R]
        bounds_RK[-1, k] = max(bounds_RK[-1, k], start_K[k] + 1)  # a task that is asked for is seen at least once
    return bounds_RK
