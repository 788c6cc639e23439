"""Packing against the textbook algorithm, one sample at a time."""

from __future__ import annotations

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.data.packing import Ints, best_fit_decreasing, in_order, next_fit, padded_groups, utilisation

some = settings(max_examples=100, deadline=None, derandomize=True)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Ints, int]:
    capacity = draw(st.integers(1, 40))
    lengths = draw(st.lists(st.integers(1, capacity), max_size=60))
    return np.array(lengths, dtype=np.int64), capacity


def naive_loads(lengths: list[int], capacity: int) -> list[int]:
    """Best-fit-decreasing by the book: each sample, longest first, into the fullest row that still takes it."""
    loads: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [row for row, load in enumerate(loads) if load + length <= capacity]
        if fitting:
            loads[max(fitting, key=loads.__getitem__)] += length
        else:
            loads.append(length)
    return loads


def loads_of(length_S: Ints, row_S: Ints) -> list[int]:
    return np.bincount(row_S, weights=length_S).astype(int).tolist() if len(row_S) else []


@some
@given(problems())
def test_rows_are_as_full_as_those_of_the_textbook_algorithm(problem: tuple[Ints, int]) -> None:
    length_S, capacity = problem
    row_S = best_fit_decreasing(length_S, capacity)
    assert len(row_S) == len(length_S)
    assert Counter(loads_of(length_S, row_S)) == Counter(naive_loads(length_S.tolist(), capacity))


@some
@given(problems())
def test_no_row_is_empty_or_too_full(problem: tuple[Ints, int]) -> None:
    length_S, capacity = problem
    loads = loads_of(length_S, best_fit_decreasing(length_S, capacity))
    assert all(0 < load <= capacity for load in loads)
    assert sum(loads) == length_S.sum()


@some
@given(problems())
def test_padded_groups_hold_every_sample_once_within_the_capacity(problem: tuple[Ints, int]) -> None:
    length_S, capacity = problem
    group_S = padded_groups(length_S, capacity)
    assert len(group_S) == len(length_S)
    assert sorted(set(group_S.tolist())) == list(range(len(set(group_S.tolist()))))
    for group in set(group_S.tolist()):
        members = length_S[group_S == group]
        assert len(members) * members.max() <= capacity


@some
@given(problems())
def test_padded_groups_are_closed_only_when_full(problem: tuple[Ints, int]) -> None:
    length_S, capacity = problem
    group_S = padded_groups(length_S, capacity)
    for group in range(int(group_S.max()) if len(group_S) else 0):
        members = length_S[group_S == group]
        assert (len(members) + 1) * members.max() > capacity
        assert members.min() >= length_S[group_S == group + 1].max()


@some
@given(problems())
def test_next_fit_closes_a_row_when_the_next_sample_does_not_fit(problem: tuple[Ints, int]) -> None:
    length_S, capacity = problem
    rows: list[list[int]] = []
    for length in length_S.tolist():
        if rows and sum(rows[-1]) + length <= capacity:
            rows[-1].append(length)
        else:
            rows.append([length])
    assert next_fit(length_S, capacity).tolist() == [number for number, row in enumerate(rows) for _ in row]


@pytest.mark.parametrize("largest", [1, 2**16 - 1, 2**16, 2**40, 2**62])
def test_the_fast_order_is_the_stable_order(largest: int) -> None:
    for size in (0, 1, 2, 500):
        key_S = np.random.default_rng(size).choice([0, 1, largest // 2, largest], size)
        assert np.array_equal(in_order(key_S), np.argsort(key_S, kind="stable"))


def test_among_samples_of_one_length_the_given_order_decides() -> None:
    length_S = np.array([3, 5, 3, 5, 3, 3, 2])
    assert best_fit_decreasing(length_S, 8).tolist() == [0, 0, 1, 1, 2, 2, 2]


def test_a_sample_longer_than_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="33 tokens does not fit into rows of 32"):
        best_fit_decreasing(np.array([3, 33]), 32)


def test_nothing_needs_no_row() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert len(best_fit_decreasing(none, 8)) == 0
    assert len(padded_groups(none, 8)) == 0
    assert utilisation(none, none, 8) == 1.0


def test_a_million_samples_take_less_than_a_second() -> None:
    length_S = np.random.default_rng(0).lognormal(5.5, 0.9, 1_000_000).astype(np.int64).clip(1, 4096)
    started = time.process_time()
    row_S = best_fit_decreasing(length_S, 4096)
    seconds = time.process_time() - started
    assert seconds < 1
    assert np.bincount(row_S, weights=length_S).max() <= 4096
    assert utilisation(length_S, row_S, 4096) > 0.999


def test_utilisation_is_the_share_of_filled_slots() -> None:
    assert utilisation(np.array([3, 4, 1]), np.array([0, 0, 1]), 8) == 0.5
