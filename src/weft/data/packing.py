"""Laying samples into rows of a fixed capacity.

    pack     |a a a a b b b c|d d d d d e e .|     whole samples side by side, best-fit-decreasing
    concat   |a a a a b b b c|c d d d d d e e|     one stream, cut at every row's end
    padding  |a a a a|b b b .|c c . .|             one sample a row, filled up to the longest

Best-fit-decreasing places every sample, longest first, into the row with the least room that still takes it. Samples of one
length and rows of one free room are interchangeable, so both are moved in bulk: the work grows with the number of *different*
lengths, not with the number of samples (after Johnson 1974, doi:10.1137/0203025).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


def best_fit_decreasing(length_S: Ints, capacity: int) -> Ints:
    """The row of each sample, rows numbered from 0 in the order in which they are opened.

    Among samples of one length the given order decides, so a shuffled input gives another, equally full packing.
    Raises ValueError where a sample is longer than `capacity`.
    """
    if len(length_S) == 0:
        return np.zeros(0, dtype=np.int64)
    if length_S.max() > capacity:
        raise ValueError(f"a sample of {length_S.max()} tokens does not fit into rows of {capacity}")
    count_L = np.bincount(length_S, minlength=capacity + 1)
    lengths = np.flatnonzero(count_L)[::-1]
    rows: list[int] = []  # the rows that take samples, in the order of the samples, longest first
    takes: list[int] = []  # and how many samples each of them takes
    rows_of_room: dict[int, list[int]] = {}
    rooms = 0  # bit r is set where some row has room r
    num_rows = 0
    for length, num_samples in zip(lengths.tolist(), count_L[lengths].tolist(), strict=True):
        count = num_samples
        if length == 0:
            rows.append(0)
            takes.append(count)
            continue
        while count:
            fitting = rooms >> length
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                open_rows = rows_of_room[room]
            else:
                room = capacity
                needed = -(-count // (capacity // length))
                open_rows = list(range(num_rows, num_rows + needed))
                num_rows += needed
            each = room // length
            num_taken = min(len(open_rows), -(-count // each))
            last = min(each, count - (num_taken - 1) * each)
            count -= (num_taken - 1) * each + last
            chosen = open_rows[:num_taken]
            rows += chosen
            takes += [each] * (num_taken - 1)
            takes.append(last)
            if fitting:
                _keep(rows_of_room, room, open_rows[num_taken:])
                rooms = _mark(rooms, rows_of_room, room)
            for left, moved in ((room - each * length, chosen[:-1]), (room - last * length, chosen[-1:])):
                if left and moved:
                    rows_of_room.setdefault(left, []).extend(moved)
                    rooms |= 1 << left
    row_S = np.empty(len(length_S), dtype=np.int64)
    row_S[in_order(capacity - length_S)] = np.repeat(np.array(rows, dtype=np.int64), takes)
    return row_S


def _keep(rows_of_room: dict[int, list[int]], room: int, rows: list[int]) -> None:
    if rows:
        rows_of_room[room] = rows
    else:
        del rows_of_room[room]


def _mark(rooms: int, rows_of_room: dict[int, list[int]], room: int) -> int:
    return rooms if room in rows_of_room else rooms & ~(1 << room)


def in_order(key_S: Ints) -> Ints:
    """The stable order of small whole numbers: as `np.argsort(key_S, kind="stable")`, several times as fast.

    Keys that fit into 16 bits are sorted by radix; else key and place make one number, so that any fast sort is stable.
    """
    if not len(key_S) or key_S.max() < 2**16:
        return np.argsort(key_S.astype(np.uint16), kind="stable")
    if key_S.max() >= 2**62 // len(key_S):
        return np.argsort(key_S, kind="stable")
    keyed_S: Ints = np.sort(key_S * len(key_S) + np.arange(len(key_S))) % len(key_S)
    return keyed_S


def next_fit(length_S: Ints, capacity: int) -> Ints:
    """The row of each sample when a row is closed as soon as the next sample does not fit: neighbours stay together."""
    filled_S = np.cumsum(length_S)
    borders, before = [0], 0
    while borders[-1] < len(length_S):
        borders.append(max(borders[-1] + 1, int(np.searchsorted(filled_S, before + capacity, side="right"))))
        before = int(filled_S[borders[-1] - 1])
    return np.repeat(np.arange(len(borders) - 1), np.diff(borders))


def padded_groups(length_S: Ints, capacity: int) -> Ints:
    """The micro-batch of each sample when samples are padded to the longest of their group: number × longest ≤ capacity.

    Samples of like length come together, which wastes the least.
    """
    group_S = np.zeros(len(length_S), dtype=np.int64)
    longest = members = group = 0
    for index in np.argsort(-length_S, kind="stable").tolist():
        longest = longest or int(length_S[index])
        if members and (members + 1) * longest > capacity:
            group, members, longest = group + 1, 0, int(length_S[index])
        group_S[index] = group
        members += 1
    return group_S


def utilisation(length_S: Ints, row_S: Ints, capacity: int) -> float:
    """The share of slots that hold a token."""
    return float(length_S.sum() / (capacity * (int(row_S.max()) + 1))) if len(row_S) else 1.0
