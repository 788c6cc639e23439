"""Rows that are nearly the same, found by MinHash (Broder 1997) with locality-sensitive hashing, through the library datasketch.

A row is the set of its shingles: every five tokens in a row, without control tokens. Shingles that a quarter of a task's rows have
(a system message, an instruction) say nothing about one row and are left out. MinHash only proposes; what is told is the true
Jaccard similarity of the sets. Each row is compared with the first of each group found so far, so the work grows with the rows and
not with the size of a group.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from weft.data.checks.found import MAX_EXAMPLES, Check, Example, Ints, Material, share
from weft.data.store import Store
from weft.data.tokens import Tokenizer
from weft.types import Progress

NEAR = "near-duplicate rows"

MAX_SAMPLES = 50_000
"""Distinct rows that are looked at, over all tasks; a task beyond its fair part is represented by the rows of its lowest hashes."""

SIMILAR = 0.8
"""The Jaccard similarity from which two rows are called near."""

SHINGLE_TOKENS = 5
_MOST_SHINGLES = 512
_COMMON_SHARE, _COMMON_ROWS = 0.25, 20
_BANDS, _ROWS_OF_BAND = 12, 5  # a pair of similarity 0.8 is proposed with 99 %, one of 0.5 with 32 %
_MOST_CANDIDATES = 50

Shingles = npt.NDArray[np.uint32]


class _Row(NamedTuple):
    task: int
    sample: int
    side: int
    shingles: Shingles


def check(material: Material) -> Iterator[Check]:
    """How many rows are near another one: within tasks, across tasks, across the split. Informs only."""
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        yield Check(NEAR, True, "not looked for: they need datasketch; pip install 'weft[checks]'", careful=True)
        return
    rows, distinct, common = _rows(material)
    signature = MinHash(num_perm=_BANDS * _ROWS_OF_BAND, seed=1, hashfunc=int)
    index = MinHashLSH(num_perm=_BANDS * _ROWS_OF_BAND, params=(_BANDS, _ROWS_OF_BAND))
    groups = _grouped(material, rows, signature, index)
    yield _told(material, rows, groups, distinct, common)


def _grouped(material: Material, rows: Sequence[_Row], empty: Any, index: Any) -> dict[int, list[tuple[int, float]]]:
    """Groups of near rows: the number of a first row, and the others with their similarity to it."""
    groups: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for number, row in enumerate(rows):
        signature = empty.copy()
        signature.update_batch(row.shingles[:_MOST_SHINGLES].tolist())
        found = None
        for candidate in sorted(index.query(signature))[:_MOST_CANDIDATES]:
            similarity = jaccard(row.shingles, rows[candidate].shingles)
            if similarity >= SIMILAR:
                found = candidate
                groups[candidate].append((number, similarity))
                break
        if found is None:
            index.insert(number, signature)
        if number % 500 == 0:
            material.progress(Progress("check near duplicates", number, len(rows)))
    return groups


def _told(
    material: Material, rows: Sequence[_Row], groups: dict[int, list[tuple[int, float]]], distinct: int, common: int
) -> Check:
    near_K = np.zeros(len(material.stores), dtype=np.int64)
    across = split = 0
    for first, others in groups.items():
        members = [rows[first], *(rows[number] for number, _ in others)]
        for row in members[1:]:
            near_K[row.task] += 1
        across += len({row.task for row in members}) > 1
        split += sum(row.side > 0 for row in members) if any(row.side == 0 for row in members) else 0
    looked_K = np.bincount([row.task for row in rows], minlength=len(near_K)) if rows else near_K
    total = int(near_K.sum())
    parts = [f"{share(total, len(rows))} rows are near another one" if total else "none"]
    if split:
        parts.append(f"{split:,} held-out rows are near a training row")
    if across:
        parts.append(f"{across:,} groups span several tasks")
    parts.append(
        f"looked at {share(len(rows), distinct)} distinct rows, Jaccard ≥ {SIMILAR:g} of {SHINGLE_TOKENS}-token shingles"
    )
    if common:
        parts.append(f"{common:,} rows are left out, being little but text that many rows of their task share")
    parts += [
        f"{store.task}: {share(int(near), int(looked))}"
        for store, near, looked in zip(material.stores, near_K, looked_K, strict=True)
        if near
    ]
    careful = total > 0.01 * max(1, len(rows)) or split > 0
    return Check(NEAR, True, "; ".join(parts), careful, _examples(material, rows, groups))


def _examples(
    material: Material, rows: Sequence[_Row], groups: dict[int, list[tuple[int, float]]]
) -> tuple[Example, ...]:
    """The most telling pairs: those across the split first, then across tasks, then the largest groups'."""

    def telling(first: int) -> tuple[bool, bool, int]:
        members = [rows[first], *(rows[number] for number, _ in groups[first])]
        return (len({r.side > 0 for r in members}) > 1, len({r.task for r in members}) > 1, len(members))

    found = []
    for first in sorted(groups, key=telling, reverse=True)[:MAX_EXAMPLES]:
        a = rows[first]
        number, similarity = max(
            groups[first],
            key=lambda pair: ((rows[pair[0]].side > 0) != (a.side > 0), rows[pair[0]].task != a.task, -pair[0]),
        )
        b = rows[number]
        samples = [(material.stores[row.task], row.sample) for row in (a, b)]
        size = len(groups[first]) + 1
        sides = ", on both sides of the split" if (a.side > 0) != (b.side > 0) else ""
        found.append(material.example(f"similarity {similarity:.2f}{sides}, a group of {size}", samples))
    return tuple(found)


# -- rows as sets -------------------------------------------------------------------------------------------------------------


def _rows(material: Material) -> tuple[list[_Row], int, int]:
    """The rows to look at, how many distinct rows there are, and how many are left out as nothing but common text."""
    chosen = []
    seen = np.zeros(0, dtype=np.uint64)
    for store in material.stores:
        hashes, first = np.unique(store.hash_S, return_index=True)
        new = ~np.isin(hashes, seen)
        seen = np.union1d(seen, hashes)
        chosen.append(first[new].astype(np.int64))  # by their hashes
    limits = fair_parts([len(c) for c in chosen], MAX_SAMPLES)
    rows, common = [], 0
    for number, (store, index_S, limit) in enumerate(zip(material.stores, chosen, limits, strict=True)):
        side_S = material.side_S(store)
        picked = np.sort(index_S[:limit])
        sets = _sets(store, picked, material.prepared.tokenizer)
        kept = _without_common(sets)
        material.progress(Progress("read rows", number + 1, len(material.stores), store.task))
        for index, shingles in zip(picked.tolist(), kept, strict=True):
            if len(shingles):
                rows.append(_Row(number, index, int(side_S[index]), shingles))
            else:
                common += 1
    return rows, sum(map(len, chosen)), common


def _sets(store: Store, picked: Ints, tokenizer: Tokenizer) -> list[Shingles]:
    highest = max(tokenizer.control_ids, default=0)
    is_control = np.zeros(highest + 2, dtype=np.bool_)
    is_control[list(tokenizer.control_ids)] = True
    found = []
    for index in picked.tolist():
        ids_T = store.sample(index).ids_T
        found.append(shingles_of(ids_T[~is_control[np.minimum(ids_T, highest + 1)]]))
    return found


def shingles_of(ids_T: npt.NDArray[np.int32]) -> Shingles:
    """The set of hashes of every five tokens in a row, sorted; of all tokens where there are fewer."""
    length = min(SHINGLE_TOKENS, len(ids_T))
    if not length:
        return np.zeros(0, dtype=np.uint32)
    wide_T = ids_T.astype(np.uint64)
    number = len(ids_T) - length + 1
    mixed = np.full(number, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for place in range(length):
        mixed = (mixed ^ wide_T[place : place + number]) * np.uint64(0xFF51AFD7ED558CCD)
        mixed ^= mixed >> np.uint64(32)
    return np.unique(mixed.astype(np.uint32))


def _without_common(sets: list[Shingles]) -> list[Shingles]:
    """The sets without the shingles that a quarter of them have."""
    if len(sets) < _COMMON_ROWS:
        return sets
    values, counts = np.unique(np.concatenate(sets), return_counts=True)
    common = values[counts > max(_COMMON_ROWS, _COMMON_SHARE * len(sets))]
    if not len(common):
        return sets
    return [shingles[~np.isin(shingles, common, assume_unique=True)] for shingles in sets]


def jaccard(a: Shingles, b: Shingles) -> float:
    """|a ∩ b| / |a ∪ b| of two sorted sets."""
    small, large = (a, b) if len(a) < len(b) else (b, a)
    if not len(small):
        return 0.0
    place = np.minimum(np.searchsorted(large, small), len(large) - 1)
    both = int((large[place] == small).sum())
    return both / (len(small) + len(large) - both)


def fair_parts(sizes: Sequence[int], most: int) -> list[int]:
    """How many of each may be taken so that all are at most `most`: the small ones whole, the rest in equal parts."""
    parts = [0] * len(sizes)
    left, waiting = most, len(sizes)
    for number in sorted(range(len(sizes)), key=lambda i: sizes[i]):
        parts[number] = min(sizes[number], left // waiting)
        left, waiting = left - parts[number], waiting - 1
    return parts
