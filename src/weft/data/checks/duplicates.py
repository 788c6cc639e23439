"""Rows that stand there more than once: within a task, across tasks, and on both sides of the split.

Equal rows have equal hashes (of the conversation's meaning, whatever its format), and the split goes by the hash. So within a task they
are always on one side; but tasks that ask for a number of validation rows draw their line at different places.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.data.checks.found import MAX_EXAMPLES, SPLITS, Check, Example, Ints, Material, Words64, flats, share
from weft.data.store import Store
from weft.types import Progress

DUPLICATES = "duplicate rows"
OVERLAP = "no row is both trained on and held out"
PROMPTS = "prompts on both sides of the split"

NOTABLE_SHARE = 0.01


class _All(NamedTuple):
    """One number of each sample (a hash), with its task, its place in the store and its side; sorted by the number."""

    hash_S: Words64
    task_S: Ints
    index_S: Ints
    side_S: npt.NDArray[np.int8]
    group_S: Ints  # equal numbers, equal groups, from 0

    def some(self, groups: Ints) -> Iterator[list[int]]:
        """The places of the first few groups."""
        for group in groups[:MAX_EXAMPLES].tolist():
            first, stop = np.searchsorted(self.group_S, [group, group + 1]).tolist()
            yield list(range(first, stop))


def check(material: Material) -> Iterator[Check]:
    """Exact duplicates, the overlap of training and held-out rows, and prompts that stand on both sides."""
    every = _sorted(material, [store.hash_S for store in material.stores])
    yield _duplicates(material, every)
    both = _on_both_sides(every)
    yield Check(
        OVERLAP,
        not len(both),
        f"{len(both):,} rows are in the training split and in a held-out one, first {_first(material, every, both)}"
        if len(both)
        else _sides(material),
        examples=_examples(material, every, both, "the same row on both sides"),
    )
    yield _prompts(material)


def _duplicates(material: Material, every: _All) -> Check:
    parts = []
    for number, store in enumerate(material.stores):
        more = len(store) - len(np.unique(every.hash_S[every.task_S == number]))
        if more:
            parts.append(f"{store.task}: {share(more, len(store))} repeat another row of the task")
    groups, first = np.unique(every.group_S, return_index=True)
    lowest = np.minimum.reduceat(every.task_S, first) if len(groups) else groups
    highest = np.maximum.reduceat(every.task_S, first) if len(groups) else groups
    across = groups[lowest != highest]
    if len(across):
        between = _pairs_of_tasks(material, every, across)
        parts.insert(0, f"{len(across):,} rows stand in more than one task ({between})")
    total = len(every.hash_S)
    repeated = total - len(groups)
    larger = groups[np.diff(np.append(first, total)) > 1] if len(groups) else groups
    shown = np.concatenate([across, np.setdiff1d(larger, across)])
    return Check(
        DUPLICATES,
        True,
        "; ".join(parts) or f"none among {total:,} rows",
        careful=repeated > NOTABLE_SHARE * total or len(across) > 0,
        examples=_examples(material, every, shown, "equal rows"),
    )


def _pairs_of_tasks(material: Material, every: _All, across: Ints) -> str:
    """The pairs of tasks that share most rows."""
    inside = np.isin(every.group_S, across)
    has_GK = np.zeros((len(across), len(material.stores)), dtype=np.int64)
    has_GK[np.searchsorted(across, every.group_S[inside]), every.task_S[inside]] = 1
    shared_KK = np.triu(has_GK.T @ has_GK, 1)
    order = np.argsort(-shared_KK, axis=None, kind="stable")[:3]
    tasks = material.prepared.tasks
    found = [(int(i) // len(tasks), int(i) % len(tasks)) for i in order]
    return ", ".join(f"{tasks[a]} and {tasks[b]} {shared_KK[a, b]:,}" for a, b in found if shared_KK[a, b])


def _prompts(material: Material) -> Check:
    hashes = []
    for store in material.stores:
        hashes.append(_prompt_S(store))
        material.progress(Progress("check prompts", len(hashes), len(material.stores), store.task))
    every = _sorted(material, hashes, leave_out=np.uint64(0))
    both = _on_both_sides(every)
    held_out = (every.side_S > 0) & np.isin(every.group_S, both)
    whole = int((every.side_S > 0).sum())
    detail = f"{share(int(held_out.sum()), whole)} held-out prompts are also a training row's, with another answer"
    return Check(
        PROMPTS,
        True,
        detail if len(both) else f"none of {whole:,} held-out prompts is a training row's",
        careful=bool(held_out.sum() > NOTABLE_SHARE * whole),
        examples=_examples(material, every, both, "the same prompt on both sides"),
    )


def _prompt_S(store: Store) -> Words64:
    """A hash of each sample's ids before its first trained token; 0 where there is no prompt to speak of."""
    found: list[int] = []
    for flat in flats(store):
        trained = np.flatnonzero(flat.weight_T > 0)
        place = np.searchsorted(trained, flat.offsets[:-1])
        begins = np.append(trained, len(flat.weight_T))[place]
        data = flat.ids_T.tobytes()
        for start, stop in zip(flat.offsets[:-1].tolist(), begins.tolist(), strict=True):
            if stop - start < 2:
                found.append(0)
            else:
                digest = hashlib.blake2b(data[4 * start : 4 * stop], digest_size=8).digest()
                found.append(int.from_bytes(digest, "little") or 1)
    return np.array(found, dtype=np.uint64)


def _sorted(material: Material, hashes: list[Words64], leave_out: np.uint64 | None = None) -> _All:
    hash_A = np.concatenate(hashes) if hashes else np.zeros(0, dtype=np.uint64)
    sizes = [len(h) for h in hashes]
    task_A = np.repeat(np.arange(len(sizes)), sizes)
    index_A = np.concatenate([np.arange(size) for size in sizes])
    side_A = np.concatenate([material.side_S(store) for store in material.stores])
    order = np.argsort(hash_A, kind="stable")
    if leave_out is not None:
        order = order[hash_A[order] != leave_out]
    hash_A = hash_A[order]
    group_A = np.cumsum(np.append(False, hash_A[1:] != hash_A[:-1])) if len(hash_A) else np.zeros(0, dtype=np.int64)
    return _All(hash_A, task_A[order], index_A[order], side_A[order], group_A.astype(np.int64))


def _on_both_sides(every: _All) -> Ints:
    """The groups with a training row and a held-out one."""
    trained = np.unique(every.group_S[every.side_S == 0])
    held_out = np.unique(every.group_S[every.side_S > 0])
    return np.intersect1d(trained, held_out, assume_unique=True)


def _sides(material: Material) -> str:
    counts = [sum(len(material.split(store, which)) for store in material.stores) for which in SPLITS]
    return ", ".join(f"{count:,} {which}" for count, which in zip(counts, SPLITS, strict=True))


def _first(material: Material, every: _All, groups: Ints) -> str:
    places = next(every.some(groups))
    by_side = sorted(places, key=lambda i: every.side_S[i])
    chosen = [by_side[0], by_side[-1]]
    return " and ".join(
        f"{material.stores[every.task_S[i]].name(int(every.index_S[i]))} ({SPLITS[every.side_S[i]]})" for i in chosen
    )


def _examples(material: Material, every: _All, groups: Ints, what: str) -> tuple[Example, ...]:
    found = []
    for places in every.some(groups):
        by_side = sorted(places, key=lambda i: (every.side_S[i], i))
        chosen = by_side if len(by_side) <= 3 else [*by_side[:2], by_side[-1]]
        samples = [(material.stores[every.task_S[i]], int(every.index_S[i])) for i in chosen]
        found.append(material.example(f"{what} ({len(places)} times)", samples))
    return tuple(found)
