"""The four weightings against literal loops over samples and tokens."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.losses.weighting import FORMULAS, Floats, Ints, Weighting, coefficients

EVERY: tuple[Weighting, ...] = ("token", "sample", "task", "task_sample")
every_weighting = pytest.mark.parametrize("weighting", EVERY)
some = settings(max_examples=40, deadline=None, derandomize=True)

Tokens = list[list[float]]
"""Of each sample, the weight m of every trained token (empty: all is masked)."""


@st.composite
def steps(draw: st.DrawFn) -> tuple[Tokens, list[int], list[float]]:
    tokens = draw(st.lists(st.lists(st.sampled_from([1.0, 0.5, 2.0]), max_size=5), min_size=1, max_size=8))
    tasks = draw(st.lists(st.integers(0, 3), min_size=len(tokens), max_size=len(tokens)))
    weights = draw(st.lists(st.sampled_from([0.1, 1.0, 3.0]), min_size=4, max_size=4))
    return tokens, tasks, weights


def literally(weighting: Weighting, tokens: Tokens, tasks: list[int], weights: list[float]) -> list[list[float]]:
    """The coefficient of every token by the letter of the docstring."""
    trained = [sum(of_sample) for of_sample in tokens]
    present = [s for s, n in enumerate(trained) if n > 0]
    tasks_present = sorted({tasks[s] for s in present})
    total_weight = sum(weights[k] for k in tasks_present)
    found: list[list[float]] = []
    for s, of_sample in enumerate(tokens):
        of_task = [other for other in present if tasks[other] == tasks[s]]
        row = []
        for m in of_sample:
            if weighting == "token":
                row.append(m / sum(trained))
            elif weighting == "sample":
                row.append(m / (len(present) * trained[s]))
            elif weighting == "task":
                row.append(weights[tasks[s]] * m / (total_weight * sum(trained[other] for other in of_task)))
            else:
                row.append(weights[tasks[s]] * m / (total_weight * len(of_task) * trained[s]))
        found.append(row)
    return found


def arrays(tokens: Tokens, tasks: list[int], weights: list[float]) -> tuple[Floats, Ints, Floats]:
    return np.array([sum(t) for t in tokens], dtype=float), np.array(tasks), np.array(weights)


@every_weighting
@some
@given(step=steps())
def test_coefficients_are_those_of_the_literal_loops(
    weighting: Weighting, step: tuple[Tokens, list[int], list[float]]
) -> None:
    factor_S = coefficients(weighting, *arrays(*step))
    for factor, of_sample, expected in zip(factor_S, step[0], literally(weighting, *step), strict=True):
        assert [factor * m for m in of_sample] == pytest.approx(expected, rel=1e-12)


@every_weighting
@some
@given(step=steps())
def test_coefficients_add_up_to_one(weighting: Weighting, step: tuple[Tokens, list[int], list[float]]) -> None:
    trained_S, task_S, weight_K = arrays(*step)
    total = float((coefficients(weighting, trained_S, task_S, weight_K) * trained_S).sum())
    assert total == pytest.approx(1.0 if trained_S.any() else 0.0)


@every_weighting
@some
@given(step=steps(), scale=st.floats(1e-3, 1e3))
def test_scaling_all_task_weights_changes_nothing(
    weighting: Weighting, step: tuple[Tokens, list[int], list[float]], scale: float
) -> None:
    trained_S, task_S, weight_K = arrays(*step)
    assert coefficients(weighting, trained_S, task_S, weight_K * scale) == pytest.approx(
        coefficients(weighting, trained_S, task_S, weight_K)
    )


@every_weighting
@some
@given(step=steps(), data=st.data())
def test_the_order_of_samples_does_not_matter(
    weighting: Weighting, step: tuple[Tokens, list[int], list[float]], data: st.DataObject
) -> None:
    trained_S, task_S, weight_K = arrays(*step)
    order = np.array(data.draw(st.permutations(range(len(trained_S)))))
    assert coefficients(weighting, trained_S[order], task_S[order], weight_K) == pytest.approx(
        coefficients(weighting, trained_S, task_S, weight_K)[order]
    )


@every_weighting
def test_a_masked_sample_has_no_share_and_takes_none(weighting: Weighting) -> None:
    weight_K = np.array([1.0, 2.0])
    found = coefficients(weighting, np.array([3.0, 0.0, 2.0]), np.array([0, 0, 1]), weight_K)
    without = coefficients(weighting, np.array([3.0, 2.0]), np.array([0, 1]), weight_K)
    assert found[1] == 0
    assert found[[0, 2]] == pytest.approx(without)


@every_weighting
def test_an_absent_tasks_weight_does_not_matter(weighting: Weighting) -> None:
    found = [
        coefficients(weighting, np.array([3.0, 2.0]), np.array([0, 2]), np.array([1.0, absent, 2.0]))
        for absent in (0.1, 1e6)
    ]
    assert found[0] == pytest.approx(found[1])


@pytest.mark.parametrize("weighting", ["task", "task_sample"])
def test_a_tasks_share_is_its_weight_among_those_present(weighting: Weighting) -> None:
    trained_S, task_S = np.array([3.0, 2.0, 5.0, 7.0]), np.array([0, 0, 2, 3])
    weight_K = np.array([1.0, 9.0, 2.0, 5.0])
    share_S = coefficients(weighting, trained_S, task_S, weight_K) * trained_S
    assert np.bincount(task_S, weights=share_S) == pytest.approx([1 / 8, 0, 2 / 8, 5 / 8])


@pytest.mark.parametrize("weighting", ["task", "task_sample"])
def test_where_all_weights_are_zero_nothing_is_trained(weighting: Weighting) -> None:
    found = coefficients(weighting, np.array([3.0, 2.0]), np.array([0, 1]), np.zeros(2))
    assert found.tolist() == [0, 0]


@every_weighting
def test_nothing_trained_at_all_is_all_zero(weighting: Weighting) -> None:
    for number in (0, 3):
        found = coefficients(weighting, np.zeros(number), np.zeros(number, dtype=np.int64), np.ones(2))
        assert found.tolist() == [0.0] * number


def test_every_weighting_has_a_formula() -> None:
    assert set(FORMULAS) == set(EVERY)
