"""The mixture: a pure function that shows each sample as often as the settings say."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.config.settings import MixtureSettings
from weft.data.mixture import Mixture, plan_mixture, stable_seed

SIZES = {"big": 50, "small": 7, "one": 1}
NO_OWN = dict.fromkeys(SIZES)
some = settings(max_examples=60, deadline=None, derandomize=True)
sizes = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), st.integers(1, 30), min_size=1)


def counts(mixture: Mixture, *passes: int) -> list[Counter[int]]:
    """How often each task's samples are in some passes (all, where none is given)."""
    found: list[Counter[int]] = [Counter() for _ in mixture.sizes_K]
    for number in passes or range(mixture.num_passes):
        for task, index in zip(*(array.tolist() for array in mixture.samples(number)), strict=True):
            found[task][index] += 1
    return found


@some
@given(sizes=sizes, epochs=st.integers(1, 4), seed=st.integers(0, 99))
def test_by_rows_every_pass_holds_every_row_once(sizes: dict[str, int], epochs: int, seed: int) -> None:
    mixture = plan_mixture(MixtureSettings(epochs=epochs), sizes, dict.fromkeys(sizes), seed)
    assert mixture.num_passes == epochs
    for number in range(epochs):
        assert counts(mixture, number) == [Counter(range(size)) for size in sizes.values()]


@some
@given(
    sizes=sizes,
    own=st.lists(st.none() | st.integers(1, 5), min_size=4, max_size=4),
    epochs=st.sampled_from([0.5, 1, 2, 2.5, 3]),
)
def test_a_tasks_own_whole_epochs_are_exact(sizes: dict[str, int], own: list[int | None], epochs: float) -> None:
    own_epochs = dict(zip(sizes, own, strict=False))
    mixture = plan_mixture(MixtureSettings(epochs=epochs), sizes, own_epochs, 3)
    for (name, size), found in zip(sizes.items(), counts(mixture), strict=True):
        wanted = own_epochs[name]
        if wanted is not None:
            assert found == Counter(dict.fromkeys(range(size), wanted))
        else:
            assert abs(found.total() - max(1, epochs * size)) <= 0.5
            assert max(found.values()) - min(found[index] for index in range(size)) <= 1


def test_a_part_of_an_epoch_is_a_part_of_the_rows_and_at_least_one() -> None:
    mixture = plan_mixture(MixtureSettings(epochs=0.3), SIZES, NO_OWN, 1)
    assert [found.total() for found in counts(mixture)] == [15, 2, 1]


def test_own_epochs_are_spread_evenly_over_the_passes() -> None:
    mixture = plan_mixture(MixtureSettings(epochs=4), SIZES, {**NO_OWN, "small": 2.0}, 1)
    assert [counts(mixture, number)[1].total() for number in range(4)] == pytest.approx([3.5] * 4, abs=0.5)


def test_by_weight_the_shares_are_those_of_the_weights() -> None:
    weights = {"big": 1.0, "small": 3.0, "one": 1.0}
    mixture = plan_mixture(MixtureSettings(by="weight", weights=weights, epochs=10), SIZES, NO_OWN, 1)
    found = [c.total() for c in counts(mixture)]
    total = 10 * sum(SIZES.values())
    assert found == pytest.approx([total * w / 5 for w in weights.values()], abs=1)
    assert mixture.times_seen_K == pytest.approx([c / s for c, s in zip(found, SIZES.values(), strict=True)])


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0, 1e6])
def test_by_temperature_the_shares_follow_the_paper(temperature: float) -> None:
    settings = MixtureSettings(by="temperature", temperature=temperature, epochs=5)
    found = [c.total() for c in counts(plan_mixture(settings, SIZES, NO_OWN, 1))]
    powers = [size ** (1 / temperature) for size in SIZES.values()]
    assert found == pytest.approx([5 * 58 * power / sum(powers) for power in powers], abs=1)


@some
@given(sizes=sizes, epochs=st.sampled_from([0.7, 1, 2, 3.3]), temperature=st.floats(1, 10))
def test_no_sample_is_seen_a_third_time_before_all_are_seen_twice(
    sizes: dict[str, int], epochs: float, temperature: float
) -> None:
    mixture = plan_mixture(MixtureSettings(by="temperature", temperature=temperature, epochs=epochs), sizes, {}, 5)
    for task, size in enumerate(sizes.values()):
        seen: Counter[int] = Counter()
        for index in mixture.stream(task, 0, int(mixture.bounds_RK[-1, task])).tolist():
            seen[index] += 1
            assert seen[index] <= 1 + min(seen[other] for other in range(size)) or seen[index] == 1


@some
@given(start=st.integers(0, 40), length=st.integers(0, 40))
def test_a_stream_can_be_entered_anywhere(start: int, length: int) -> None:
    mixture = plan_mixture(MixtureSettings(), SIZES, NO_OWN, 2)
    whole = mixture.stream(1, 0, 100).tolist()
    assert mixture.stream(1, start, start + length).tolist() == whole[start : start + length]


def test_passes_differ_in_their_order_and_so_do_seeds_and_tasks() -> None:
    orders = [
        plan_mixture(MixtureSettings(epochs=2), {"a": 40, "b": 40}, {"a": None, "b": None}, seed).samples(number)
        for seed in (0, 1)
        for number in (0, 1)
    ]
    assert len({tuple(task_S.tolist()) for task_S, _ in orders}) == 4
    assert len({tuple(index_S[task_S == task].tolist()) for task_S, index_S in orders for task in (0, 1)}) == 8


def test_another_task_leaves_a_tasks_own_order_alone() -> None:
    alone = plan_mixture(MixtureSettings(), {"small": 7}, {"small": None}, 1).stream(0, 0, 20)
    assert np.array_equal(alone, plan_mixture(MixtureSettings(), SIZES, NO_OWN, 1).stream(1, 0, 20))


def test_a_fresh_process_with_another_hash_seed_draws_the_same() -> None:
    program = (
        "import json; from weft.config.settings import MixtureSettings; from weft.data.mixture import plan_mixture, stable_seed\n"
        "m = plan_mixture(MixtureSettings(epochs=2), {'big': 50, 'small': 7, 'one': 1}, dict.fromkeys(['big', 'small', 'one']), 11)\n"
        "print(json.dumps([[a.tolist() for a in m.samples(1)], stable_seed(1, 'x')]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONHASHSEED": "77"}, capture_output=True, text=True, check=True
    )
    mixture = plan_mixture(MixtureSettings(epochs=2), SIZES, NO_OWN, 11)
    assert json.loads(done.stdout) == [[array.tolist() for array in mixture.samples(1)], stable_seed(1, "x")]


def test_a_seed_is_63_bits_and_tells_its_parts_apart() -> None:
    seeds = {stable_seed(*parts) for parts in [(1, "a"), (1, "b"), (2, "a"), ("1a",), (1, "a", 0), ("a", 1)]}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
