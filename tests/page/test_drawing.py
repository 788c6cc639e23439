"""What charts are drawn from: ticks, smooth lines, stretches of steps, neighbours, shades."""

from __future__ import annotations

import math
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.page import heat
from weft.page.markup import Markup
from weft.page.plots import Curve, plot, stacked_area, trend
from weft.page.scale import bins, by_likeness, decimals, held, smoothed, sums_of_bins, thinned, ticks
from weft.page.words import fixed, short

NAN = math.nan


def places(drawn: Markup, kind: str) -> list[tuple[int, int]]:
    """The points of the path of a class, of those drawn with lines."""
    path = re.search(rf'd="([^"]*)" class="{kind}', drawn)
    assert path
    return [(int(x), int(y)) for x, y in re.findall(r"[ML](\d+) (\d+)", path[1])]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(1, 8))
def test_ticks_are_even_and_within_their_range(low: float, size: float, most: int) -> None:
    found = ticks(low, low + size, most)
    assert len(found) <= most
    assert all(low - 1e-6 * size <= tick <= low + size * (1 + 1e-6) for tick in found)
    steps = [b - a for a, b in pairwise(found)]
    assert all(step == pytest.approx(steps[0], rel=1e-6) for step in steps)
    digits = decimals(found)
    if digits < 8:
        assert len({f"{tick:.{digits}f}" for tick in found}) == len(found)


def test_smoothing_is_the_mean_of_the_neighbours_and_skips_what_is_not_known() -> None:
    values = np.array([1.0, 2.0, NAN, 6.0, 8.0])
    expected = [1.5, 1.5, NAN, 7.0, 7.0]
    np.testing.assert_allclose(smoothed(values, 3), expected)
    np.testing.assert_array_equal(smoothed(values, 1), values)
    assert len(smoothed(np.zeros(0), 3)) == 0


@given(st.integers(1, 3000), st.integers(1, 80))
def test_stretches_hold_every_step_once(num_steps: int, most: int) -> None:
    edges = bins(num_steps, most)
    steps = np.arange(1.0, num_steps + 1)
    assert edges[0] == 0
    assert edges[-1] == num_steps
    assert len(edges) - 1 == min(num_steps, most)
    sums = sums_of_bins(steps, np.ones(num_steps), edges)
    assert sums.sum() == num_steps
    naive = [sum(low < step <= high for step in steps) for low, high in pairwise(edges)]
    assert sums.tolist() == naive


def test_a_number_is_held_until_the_next() -> None:
    x_N, y_N = np.array([2.0, 5.0]), np.array([1.0, 3.0])
    np.testing.assert_array_equal(held(x_N, y_N, np.array([0.0, 2.0, 4.9, 5.0, 9.0])), [NAN, 1, 1, 3, 3])
    assert np.isnan(held(np.zeros(0), np.zeros(0), np.array([1.0]))).all()


@pytest.mark.parametrize("number", [0, 1, 2, 3, 401, 1000])
def test_thinning_keeps_short_lines_and_lines_without_numbers(number: int) -> None:
    x_N = np.arange(float(number))
    few_x, few_y = thinned(x_N, np.full(number, NAN), 400)
    assert len(few_x) == len(few_y) <= 402
    assert few_x.tolist()[:1] == x_N.tolist()[:1]


def test_like_ones_become_neighbours() -> None:
    family = np.array([0, 1, 2, 0, 1, 2, 0, 1])
    like_KK = np.where(family[:, None] == family, 0.9, -0.2)
    order = by_likeness(like_KK)
    assert sorted(order) == list(range(8))
    assert sum(family[a] != family[b] for a, b in pairwise(order)) == 2
    assert by_likeness(np.full((3, 3), NAN)) in ([0, 1, 2], [2, 1, 0])
    assert by_likeness(np.ones((1, 1))) == [0]
    assert by_likeness(np.zeros((0, 0))) == []


def test_a_line_is_drawn_where_its_numbers_are_and_broken_where_they_are_not() -> None:
    curve = Curve(np.array([0.0, 5.0, 10.0]), np.array([0.0, 1.0, 0.5]), "c1")
    points = places(plot([curve], 10, "x"), "line c1")
    assert [x for x, _ in points] == [0, 500, 1000]
    top, bottom = points[1][1], points[0][1]
    assert top < points[2][1] < bottom
    assert points[2][1] == pytest.approx((top + bottom) / 2, abs=1)
    broken = Curve(np.arange(5.0), np.array([1.0, 2.0, NAN, 3.0, 4.0]), "c1")
    assert re.findall(r'd="([^"]*)" class="line', plot([broken], 4, "x"))[0].count("M") == 2


def test_numbers_that_lie_far_apart_are_drawn_by_their_logarithms() -> None:
    far = plot([Curve(np.arange(3.0), np.array([10.0, 1.0, 0.1]), "c1")], 2, "x")
    heights = [y for _, y in places(far, "line c1")]
    assert heights[1] - heights[0] == pytest.approx(heights[2] - heights[1], abs=1)
    assert re.findall(r'top:[\d.]+%">([^<]+)<', far) == ["0.1", "0.3", "1", "3", "10"]
    near = plot([Curve(np.arange(3.0), np.array([10.0, 1.0, 0.0]), "c1")], 2, "x")  # 0 has no logarithm
    heights = [y for _, y in places(near, "line c1")]
    assert (heights[1] - heights[0]) == pytest.approx(9 * (heights[2] - heights[1]), abs=5)


def test_steps_hold_to_the_end() -> None:
    steps = Curve(np.array([0.0, 4.0]), np.array([1.0, 2.0]), "c1", "steps")
    path = re.findall(r'd="([^"]*)" class="steps', plot([steps], 10, "x"))[0]
    assert re.fullmatch(r"M0 \d+h0H400V\d+H1000", path)


@pytest.mark.parametrize("values", [[], [NAN], [1.0], [0.0, 0.0], [-1.0, 3.0], [1e9, 2e9], [1e-9, 2e-9]])
def test_any_numbers_can_be_drawn(values: list[float]) -> None:
    curve = Curve(np.arange(float(len(values))), np.array(values), "c1")
    for drawn in (plot([curve], max(1, len(values) - 1), "x"), plot([], 0, "x"), trend(curve.x_N, curve.y_N, 1.0)):
        assert not re.search(r"\b(nan|inf)\b", drawn)


def test_parts_of_a_whole_lie_one_upon_the_other() -> None:
    half_B = np.array([0.5, 0.25])
    drawn = stacked_area([("a", "c0", half_B), ("b", "c1", 1 - half_B)], np.array([0.0, 10.0]), 10, "x")
    first, second = re.findall(r'd="M([^"]*)z"', drawn)
    assert first == "0 500L1000 750L1000 1000L0 1000"
    assert second == "0 0L1000 0L1000 750L0 500"


def test_shades_tell_better_from_worse() -> None:
    assert [heat.around_one(r) for r in (0.25, 0.5, 1.0, 2.0, 4.0, 100.0, 0.0, NAN)] == [
        "u8", "u4", "s0", "d4", "d8", "d8", "u8", "none",
    ]  # fmt: skip
    assert [heat.cosine(c) for c in (-1.0, 0.0, 0.5, NAN)] == ["d8", "s0", "u4", "none"]
    assert [heat.upward(2.0)(w) for w in (0.0, 1.0, 2.0)] == ["s0", "u4", "u8"]


def test_equal_neighbours_in_a_heat_map_are_one_piece() -> None:
    row = heat.Row("t", np.array([1.0, 1.0, 0.0, NAN]), "1", "t")
    drawn = heat.heat([row], heat.upward(1.0), 4, "x")
    assert re.findall(r'd="([^"]*)" class="(\w+)"', drawn) == [
        ("M0 0h2v1h-2z", "u8"), ("M2 0h1v1h-1z", "s0"), ("M3 0h1v1h-1z", "none"),
    ]  # fmt: skip


def test_very_many_tasks_are_shown_in_blocks() -> None:
    names = [f"t{k}" for k in range(150)]
    drawn = heat.square(names, np.eye(150), "x")
    assert drawn.count("<li>") == 50
    assert "Each cell is the mean of 3 × 3 tasks" in drawn


@pytest.mark.parametrize(
    ("value", "expected_short", "expected_fixed"),
    [
        (0, "0", "0.000"),
        (0.12345, "0.123", "0.123"),
        (1234.5, "1,234", "1234.500"),
        (1e-7, "1.0e-07", "1.0e-07"),
        (NAN, "–", "–"),
    ],
)
def test_numbers_are_written_with_the_digits_that_tell_something(
    value: float, expected_short: str, expected_fixed: str
) -> None:
    assert short(value) == expected_short
    assert fixed(value) == expected_fixed
