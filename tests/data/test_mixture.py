"""The mixture: a pure function that shows each sample as often as the settings say."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.config.settings import MixtureSettings
from weft.data.mixture import Floats, Mixture, plan_mixture, stable_seed, stages_of
from weft.errors import DataError

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


@st.composite
def trained_problems(draw: st.DrawFn) -> tuple[MixtureSettings, dict[str, Floats], int]:
    """Tasks' trained tokens, and mixtures by them, in one stage or several."""
    names = draw(st.lists(st.sampled_from("abcd"), min_size=1, unique=True))
    counts = st.integers(0, 40) | st.floats(0.0, 9.0, width=32)
    trained = {name: np.array([*draw(st.lists(counts, max_size=25)), draw(st.integers(1, 40))]) for name in names}
    weights = st.fixed_dictionaries({name: st.floats(0.01, 5) for name in names})
    stage = st.builds(
        lambda epochs, chosen: {"by": "trained_tokens", "epochs": epochs, "weights": chosen},
        st.sampled_from([0.4, 1, 2, 2.5]),
        weights,
    )
    stages = draw(st.lists(stage, min_size=1, max_size=3))
    values = stages[0] if len(stages) == 1 and draw(st.booleans()) else {"stages": stages}
    return MixtureSettings.model_validate(values), trained, draw(st.integers(0, 9))


def mixture_by_tokens(settings: MixtureSettings, trained: dict[str, Floats], seed: int) -> Mixture:
    return plan_mixture(settings, {name: len(t) for name, t in trained.items()}, {}, seed, trained)


@some
@given(trained_problems())
def test_by_trained_tokens_every_stream_goes_on_until_it_is_nearest_to_what_it_owes(
    problem: tuple[MixtureSettings, dict[str, Floats], int],
) -> None:
    """Against a walk along the stream, sample by sample."""
    settings, trained, seed = problem
    mixture = mixture_by_tokens(settings, trained, seed)
    whole = sum(t.sum() for t in trained.values())
    number = 0
    for stage in stages_of(settings):
        first, passes = number, int(np.ceil(stage.epochs))
        number += passes
        for task, name in enumerate(trained):
            begin, end = int(mixture.bounds_RK[first, task]), int(mixture.bounds_RK[number, task])
            walked = np.cumsum([0.0, *trained[name][mixture.stream(task, begin, end + 5 * len(trained[name]))]])
            for done in range(1, passes + 1):
                owed = min(done, stage.epochs) * whole * stage.weights[name] / sum(stage.weights.values())
                taken = int(mixture.bounds_RK[first + done, task]) - begin
                assert abs(walked[taken] - owed) <= np.abs(walked - owed).min() + 0.01 or (
                    taken == 1 and done == passes
                ), "nearest, but a task has at least one sample in a stage"
    assert mixture.num_passes == number


@some
@given(trained_problems())
def test_by_trained_tokens_all_samples_come_once_before_any_comes_again(
    problem: tuple[MixtureSettings, dict[str, Floats], int],
) -> None:
    mixture = mixture_by_tokens(*problem)
    seen: list[Counter[int]] = [Counter() for _ in mixture.names]
    for number in range(mixture.num_passes):
        for task, found in enumerate(counts(mixture, number)):
            seen[task] += found
            times = [seen[task][index] for index in range(int(mixture.sizes_K[task]))]
            assert max(times) - min(times) <= 1


def test_by_trained_tokens_every_pass_has_the_shares_and_errors_never_add_up() -> None:
    rng = np.random.default_rng(0)
    sizes = {"sql": 300, "chat": 4000, "docs": 900}
    trained = {name: rng.lognormal(4 + k, 0.7, size).round() for k, (name, size) in enumerate(sizes.items())}
    weights = {"sql": 30.0, "chat": 50.0, "docs": 20.0}
    settings = MixtureSettings(by="trained_tokens", weights=weights, epochs=9)
    mixture = mixture_by_tokens(settings, trained, 4)
    whole = sum(t.sum() for t in trained.values())
    tokens_RK = np.zeros((9, 3))
    for number in range(9):
        task_S, index_S = mixture.samples(number)
        for task, name in enumerate(trained):
            tokens_RK[number, task] = trained[name][index_S[task_S == task]].sum()
    shares_RK = tokens_RK / tokens_RK.sum(axis=1, keepdims=True)
    assert shares_RK == pytest.approx(np.tile([0.3, 0.5, 0.2], (9, 1)), rel=0.005)
    assert tokens_RK.sum(axis=1) == pytest.approx([whole] * 9, rel=0.005)
    largest_K = np.array([t.max() for t in trained.values()])
    owed_RK = np.outer(np.arange(1, 10) * whole, [0.3, 0.5, 0.2])
    assert (np.abs(tokens_RK.cumsum(axis=0) - owed_RK) <= largest_K / 2 + 1).all()


def test_a_task_without_a_trained_token_can_have_no_share_of_them() -> None:
    settings = MixtureSettings(by="trained_tokens", weights={"a": 1, "b": 1, "c": 1})
    with pytest.raises(DataError, match="the training rows of b, c have no trained token"):
        mixture_by_tokens(settings, {"a": np.ones(3), "b": np.zeros(3), "c": np.zeros(1)}, 1)
    left_out = MixtureSettings.model_validate({"stages": [{"by": "trained_tokens", "weights": {"a": 1}}]})
    assert mixture_by_tokens(left_out, {"a": np.ones(3), "b": np.zeros(3)}, 1).bounds_RK[-1].tolist() == [3, 0]


@pytest.mark.parametrize("by", ["weight", "trained_tokens"])
def test_the_smallest_share_is_one_sample_in_each_stage(by: str) -> None:
    stage = {"by": by, "weights": {"big": 1.0, "small": 1e-9}, "epochs": 2}
    settings = MixtureSettings.model_validate({"stages": [stage, stage]})
    trained = {"big": np.full(50, 10.0), "small": np.full(7, 10.0), "one": np.ones(1)}
    mixture = plan_mixture(settings, SIZES, {}, 1, trained)
    assert mixture.bounds_RK[[2, 4], 1].tolist() == [1, 2]


STAGES: list[dict[str, object]] = [
    {"by": "weight", "weights": {"big": 1.0, "small": 1.0}, "epochs": 1.5},
    {"by": "rows", "epochs": 2},
    {"by": "weight", "weights": {"one": 3.0, "small": 0.0}},
    {"by": "temperature", "temperature": 5.0, "epochs": 0.5},
]


def test_stages_follow_one_another_and_leave_out_tasks_without_a_weight() -> None:
    mixture = plan_mixture(MixtureSettings.model_validate({"stages": STAGES}), SIZES, {}, 3)
    assert mixture.stage_R.tolist() == [0, 0, 1, 1, 2, 3]
    drawn = [[found.total() for found in counts(mixture, number)] for number in range(mixture.num_passes)]
    assert [drawn[0][k] + drawn[1][k] for k in range(3)] == [43, 43, 0], "1.5 times as many as both tasks' 57 rows"
    assert drawn[2:5] == [[50, 7, 1], [50, 7, 1], [0, 0, 1]]
    assert sum(drawn[5]) == pytest.approx(29, abs=2)


def test_streams_go_on_from_stage_to_stage() -> None:
    mixture = plan_mixture(MixtureSettings.model_validate({"stages": STAGES}), SIZES, {}, 3)
    for task, size in enumerate(SIZES.values()):
        seen: Counter[int] = Counter()
        for number in range(mixture.num_passes):
            seen += counts(mixture, number)[task]
            times = [seen[index] for index in range(size)]
            assert max(times) - min(times) <= 1
    assert mixture.bounds_RK[-1].tolist() == [sum(c[k].total() for c in map(counts, [mixture])) for k in range(3)]


def test_a_single_stage_is_the_mixture_without_stages() -> None:
    for values in ({"by": "temperature", "epochs": 2.5}, {"by": "rows", "epochs": 3}):
        whole = plan_mixture(MixtureSettings.model_validate(values), SIZES, {}, 3)
        staged = plan_mixture(MixtureSettings.model_validate({"stages": [values]}), SIZES, {}, 3)
        assert np.array_equal(whole.bounds_RK, staged.bounds_RK)
        assert [a.tolist() for a in whole.samples(1)] == [a.tolist() for a in staged.samples(1)]


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


def test_a_mixture_never_changes_from_version_to_version() -> None:
    """A run that was begun goes on with the samples that it was promised."""
    weights = {"a": 1.0, "b": 2.0}
    trained = {"a": np.arange(40.0), "b": np.arange(30.0) / 4}
    settings = MixtureSettings(by="trained_tokens", weights=weights, epochs=3)
    by_rows = plan_mixture(MixtureSettings(epochs=2), SIZES, NO_OWN, 11)
    by_tokens = mixture_by_tokens(settings, trained, 11)
    digest = hashlib.sha256()
    for mixture in (by_rows, by_tokens):
        for number in range(mixture.num_passes):
            for array in mixture.samples(number):
                digest.update(array.astype("<i8").tobytes())
    assert digest.hexdigest()[:16] == "e6bd7ce9cd86aa6d"


def test_a_seed_is_63_bits_and_tells_its_parts_apart() -> None:
    seeds = {stable_seed(*parts) for parts in [(1, "a"), (1, "b"), (2, "a"), ("1a",), (1, "a", 0), ("a", 1)]}
    assert len(seeds) == 6
    assert all(0 <= seed < 2**63 for seed in seeds)
