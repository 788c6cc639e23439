"""Which samples a pass over the mixture holds: a pure function of the sizes, the settings and the seed.

Each task is an endless stream: its samples in a new random order, again and again. A pass takes the next few of every stream, so
no sample is seen a third time before all have been seen twice, whatever the proportions. Nothing is remembered between passes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weft.config.settings import MixtureSettings

Ints = npt.NDArray[np.int64]


def stable_seed(*parts: object) -> int:
    """A 63-bit seed from anything with a stable text form, the same in every process and version of Python."""
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest()) >> 1


@dataclass(frozen=True)
class Mixture:
    """Pass r takes samples `bounds_RK[r, k]` to `bounds_RK[r + 1, k]` of task k's stream. R passes, K tasks."""

    sizes_K: Ints
    bounds_RK: Ints
    names: tuple[str, ...]
    seed: int

    @property
    def num_passes(self) -> int:
        return len(self.bounds_RK) - 1

    def stream(self, task: int, start: int, stop: int) -> Ints:
        """Samples start..stop of a task's endless stream, as positions among the task's training samples."""
        size = int(self.sizes_K[task])
        parts = []
        for lap in range(start // size, -(-stop // size)):
            order = np.random.default_rng(stable_seed(self.seed, "order", self.names[task], lap)).permutation(size)
            parts.append(order[max(0, start - lap * size) : stop - lap * size])
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int64)

    def samples(self, number: int) -> tuple[Ints, Ints]:
        """The samples of one pass in their shuffled order: (task_S, index_S within the task's training samples)."""
        tasks, indexes = [], []
        for task in range(len(self.sizes_K)):
            part = self.stream(task, int(self.bounds_RK[number, task]), int(self.bounds_RK[number + 1, task]))
            tasks.append(np.full(len(part), task, dtype=np.int64))
            indexes.append(part)
        task_S, index_S = np.concatenate(tasks), np.concatenate(indexes)
        order = np.random.default_rng(stable_seed(self.seed, "mix", number)).permutation(len(task_S))
        return task_S[order], index_S[order]

    @property
    def times_seen_K(self) -> npt.NDArray[np.float64]:
        """How often each task's samples are seen in the whole run."""
        times_K: npt.NDArray[np.float64] = self.bounds_RK[-1] / self.sizes_K
        return times_K


def plan_mixture(
    settings: MixtureSettings, sizes: Mapping[str, int], epochs: Mapping[str, float | None], seed: int
) -> Mixture:
    """Lay out all passes. `sizes`: training samples of each task; `epochs`: a task's own number of epochs or None.

    by rows: each task's own number of epochs, spread evenly over the passes. by weight and by temperature: a pass has as many
    samples as all tasks together, shared out as p_k ∝ weight_k or size_k ** (1 / temperature) (arXiv 1907.05019, eq. 1).
    """
    names = tuple(sizes)
    sizes_K = np.array([sizes[name] for name in names], dtype=np.int64)
    num_passes = max(1, int(np.ceil(settings.epochs)))
    if settings.by == "rows":
        total_K = np.array([(epochs[n] if epochs[n] is not None else settings.epochs) for n in names]) * sizes_K
    else:
        weight_K = (
            np.array([settings.weights[name] for name in names])
            if settings.by == "weight"
            else sizes_K.astype(np.float64) ** (1.0 / settings.temperature)
        )
        total_K = settings.epochs * sizes_K.sum() * weight_K / weight_K.sum()
    reached_R = np.minimum(np.arange(num_passes + 1) / settings.epochs, 1.0)
    bounds_RK = np.round(np.outer(reached_R, np.maximum(total_K, 1.0))).astype(np.int64)
    return Mixture(sizes_K, bounds_RK, names, seed)
