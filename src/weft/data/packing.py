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
    row_S = np.full(len(length_S), -1, dtype=np.int64)
    order_S = np.argsort(-length_S, kind="stable")
    lengths, starts = np.unique(-length_S[order_S], return_index=True)
    stops = np.append(starts[1:], len(order_S))
    rows_of_room: dict[int, list[int]] = {}
    rooms = 0  # bit r is set where some row has room r
    num_rows = 0
    for negative, start, stop in zip(lengths.tolist(), starts.tolist(), stops.tolist(), strict=True):
        length = -negative
        items = order_S[start:stop]
        if length == 0:
            row_S[items] = 0
            num_rows = max(num_rows, 1)
            continue
        done = 0
        while done < len(items):
            fitting = rooms >> length
            if fitting:
                room = length + (fitting & -fitting).bit_length() - 1
                rows = rows_of_room[room]
            else:
                room = capacity
                needed = -(-(len(items) - done) // (capacity // length))
                rows = list(range(num_rows, num_rows + needed))
                num_rows += needed
            each = room // length
            taken = min(len(rows), -(-(len(items) - done) // each))
            chosen = rows[:taken]
            count = min(len(items) - done, taken * each)
            row_S[items[done : done + count]] = np.repeat(np.asarray(chosen, dtype=np.int64), each)[:count]
            done += count
            if fitting:
                _keep(rows_of_room, room, rows[taken:])
                rooms = _mark(rooms, rows_of_room, room)
            last = count - (taken - 1) * each
            for left, moved in ((room - each * length, chosen[:-1]), (room - last * length, chosen[-1:])):
                if left and moved:
                    rows_of_room.setdefault(left, []).extend(moved)
                    rooms |= 1 << left
    return row_S


def _keep(rows_of_room: dict[int, list[int]], room: int, rows: list[int]) -> None:
    if rows:
        rows_of_room[room] = rows
    else:
        del rows_of_room[room]


def _mark(rooms: int, rows_of_room: dict[int, list[int]], room: int) -> int:
    return rooms if room in rows_of_room else rooms & ~(1 << room)


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
