"""The plan: what is in a step and how it is cut, on stores where every token is one of a kind."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from tests.data.stores import plain_settings, prepared_of, sample_of, store_of, stores_of_lengths, stores_of_weights
from weft.config.settings import Settings
from weft.data.forecast import SHARE_TOLERANCE, missed_shares
from weft.data.plan import Parts, Plan, cut, join, make_plan
from weft.data.prepare import prepare
from weft.data.store import Store
from weft.errors import DataError

LENGTHS = {
    "many": [2 + (7 * i) % 29 for i in range(41)],
    "few": [32, 31, 2, 17, 16, 16, 5],
    "one": [9],
}

Token = tuple[int, int, int]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, ...]:
    return stores_of_lengths(tmp_path_factory.mktemp("stores"), LENGTHS)


@pytest.fixture(scope="module")
def plan_of(stores: tuple[Store, ...]) -> Callable[..., Plan]:
    def make(**sections: Any) -> Plan:
        return make_plan(plain_settings(list(LENGTHS), **sections), prepared_of(stores))

    return make


def rows_of(parts: Parts) -> list[Token]:
    """Each part as (task, sample, number of tokens)."""
    return list(zip(parts.task_P.tolist(), parts.sample_P.tolist(), parts.length_P.tolist(), strict=True))


def steps_of(plan: Plan) -> list[list[Token]]:
    return [rows_of(plan.step(number).parts) for number in range(plan.num_steps)]


PACKINGS: dict[str, dict[str, Any]] = {
    "pack": {"data": {"packing": "pack"}},
    "padding": {"data": {"packing": "padding"}},
    "concat": {"data": {"packing": "concat"}},
    "samples": {"batch": {"tokens_per_step": None, "samples_per_step": 10}},
}
every_packing = pytest.mark.parametrize("packing", PACKINGS)


@every_packing
def test_over_a_run_every_row_is_there_as_often_as_there_are_epochs(plan_of: Callable[..., Plan], packing: str) -> None:
    plan = plan_of(mixture={"epochs": 3}, **PACKINGS[packing])
    tokens: Counter[tuple[int, int, int]] = Counter()
    for number in range(plan.num_steps):
        parts = plan.step(number).parts
        for task, sample, start, stop in zip(*(array.tolist() for array in parts), strict=True):
            tokens.update((task, sample, at) for at in range(start, stop))
    expected = {
        (task, sample, at)
        for task, lengths in enumerate(LENGTHS.values())
        for sample, length in enumerate(lengths)
        for at in range(length)
    }
    assert tokens == Counter(dict.fromkeys(expected, 3))


@every_packing
def test_the_micro_batches_of_a_step_hold_what_is_in_it(plan_of: Callable[..., Plan], packing: str) -> None:
    plan = plan_of(mixture={"epochs": 2}, **PACKINGS[packing])
    for number in range(plan.num_steps):
        step = plan.step(number)
        whole = Counter(zip(*(array.tolist() for array in step.parts), strict=True))
        assert Counter(zip(*(array.tolist() for array in join(step.micro_batches)), strict=True)) == whole
        for parts in step.micro_batches:
            tokens = parts.length_P.sum() if packing != "padding" else len(parts.task_P) * parts.length_P.max()
            assert 0 < tokens <= plan.settings.tokens_per_micro_batch


@pytest.mark.parametrize("packing", ["pack", "padding", "concat"])
def test_a_step_holds_at_most_tokens_per_step_and_is_well_filled(plan_of: Callable[..., Plan], packing: str) -> None:
    plan = plan_of(mixture={"epochs": 3}, batch={"tokens_per_step": 100}, **PACKINGS[packing])
    tokens = [int(plan.step(number).parts.length_P.sum()) for number in range(plan.num_steps)]
    total = 3 * sum(map(sum, LENGTHS.values()))
    assert sum(tokens) == total
    if packing == "concat":  # 100 tokens are three rows of 32; a pass's last row may be short, no other
        assert all(0 < count <= 96 for count in tokens)
        assert plan.num_steps == -(-3 * -(-total // 3 // 32) // 3)
    else:  # the next sample had no room any more
        longest = max(map(max, LENGTHS.values()))
        assert all(100 - longest < count <= 100 for count in tokens[:-1])
        assert 0 < tokens[-1] <= 100


def test_samples_per_step_is_exact_but_in_the_last_step(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(mixture={"epochs": 2}, **PACKINGS["samples"])
    counts = [len(plan.step(number).parts.task_P) for number in range(plan.num_steps)]
    assert counts == [10] * 9 + [8]


def test_max_steps_ends_a_run_early_without_changing_its_steps(plan_of: Callable[..., Plan]) -> None:
    whole, short = plan_of(mixture={"epochs": 3}), plan_of(mixture={"epochs": 3, "max_steps": 4})
    assert short.num_steps == 4
    assert steps_of(short) == steps_of(whole)[:4]
    assert plan_of(mixture={"max_steps": 10_000}).num_steps == plan_of().num_steps


@pytest.mark.parametrize("number", [-1, 10_000])
def test_there_is_no_step_beyond_the_run(plan_of: Callable[..., Plan], number: int) -> None:
    with pytest.raises(IndexError, match=f"no step {number}"):
        plan_of().step(number)


def test_what_is_in_a_step_does_not_depend_on_how_it_is_cut(plan_of: Callable[..., Plan]) -> None:
    expected = steps_of(plan_of(mixture={"epochs": 2}))
    for packing, tokens in itertools.product(("pack", "padding"), (32, 33, 50, 1000)):
        plan = plan_of(mixture={"epochs": 2}, data={"packing": packing}, batch={"tokens_per_micro_batch": tokens})
        assert steps_of(plan) == expected


def test_what_is_in_a_step_of_samples_does_not_depend_on_lengths(plan_of: Callable[..., Plan]) -> None:
    batch = {"tokens_per_step": None, "samples_per_step": 10}
    expected = steps_of(plan_of(batch=batch))
    for packing, max_tokens in itertools.product(("pack", "padding"), (32, 1000)):
        data = {"packing": packing, "max_tokens": max_tokens}
        assert steps_of(plan_of(batch={**batch, "tokens_per_micro_batch": 1000}, data=data)) == expected


def test_a_plan_is_the_same_again_and_another_seed_is_another(plan_of: Callable[..., Plan]) -> None:
    assert steps_of(plan_of(seed=5)) == steps_of(plan_of(seed=5))
    assert steps_of(plan_of(seed=5)) != steps_of(plan_of(seed=6))


def test_steps_can_be_asked_for_in_any_order(plan_of: Callable[..., Plan]) -> None:
    forwards = plan_of(mixture={"epochs": 2})
    backwards = plan_of(mixture={"epochs": 2})
    found = [rows_of(backwards.step(number).parts) for number in reversed(range(backwards.num_steps))]
    assert found[::-1] == steps_of(forwards)


@pytest.mark.parametrize("ranks", [1, 2, 3, 8, 100])
def test_the_ranks_share_the_micro_batches(plan_of: Callable[..., Plan], ranks: int) -> None:
    plan = plan_of(mixture={"epochs": 2}, batch={"tokens_per_step": 300})
    for number in range(plan.num_steps):
        step = plan.step(number)
        shares = [step.of_rank(rank, ranks) for rank in range(ranks)]
        assert sorted(n for share in shares for n, _ in share) == list(range(len(step.micro_batches)))
        assert all(parts is step.micro_batches[n] for share in shares for n, parts in share)
        loads = [sum(int(parts.length_P.sum()) for _, parts in share) for share in shares]
        assert max(loads) - min(loads) <= 32, "no rank has a whole micro-batch more to do than another"


def test_a_cut_sample_goes_on_in_the_next_row(plan_of: Callable[..., Plan]) -> None:
    """concat: every row of a pass but its last is full, and neighbouring pieces of a sample follow one another."""
    plan = plan_of(data={"packing": "concat", "max_tokens": 10}, batch={"tokens_per_step": 10})
    tokens = [int(plan.step(number).parts.length_P.sum()) for number in range(plan.num_steps)]
    assert set(tokens[:-1]) == {10}
    stream = [
        piece for n in range(plan.num_steps) for piece in zip(*(a.tolist() for a in plan.step(n).parts), strict=True)
    ]
    for (task, sample, _, stop), (next_task, next_sample, start, _) in itertools.pairwise(stream):
        if (task, sample) == (next_task, next_sample):
            assert start == stop
        else:
            assert start == 0
            assert stop == list(LENGTHS.values())[task][sample]


@pytest.mark.parametrize("capacity", [32, 33, 64, 100, 1000])
def test_a_stream_is_cut_into_micro_batches_in_its_order(plan_of: Callable[..., Plan], capacity: int) -> None:
    parts = join([plan_of(data={"packing": "concat"}).step(n).parts for n in range(3)])
    groups = cut(parts, capacity, "concat")
    assert [a.tolist() for a in join(groups)] == [a.tolist() for a in parts]
    sums = [int(group.length_P.sum()) for group in groups]
    assert max(sums) <= capacity
    assert all(a + int(b.length_P[0]) > capacity for a, b in zip(sums, groups[1:], strict=False)), (
        "none closed too early"
    )


@every_packing
def test_trained_tokens_of_parts_are_counted_as_batches_train_them(tmp_path: Path, packing: str) -> None:
    """A piece's first token has no one to predict it, so it counts nothing; checked token by token."""
    rng = np.random.default_rng(0)
    samples = []
    for line in range(1, 20):
        weights = rng.choice([0.0, 0.5, 1.0], size=int(rng.integers(2, 33)))
        weights[0] = 0.0
        samples.append(sample_of(range(len(weights)), weights.tolist(), line, row_hash=line))
    store = store_of(tmp_path, "t", samples)
    plan = make_plan(plain_settings(["t"], **PACKINGS[packing]), prepared_of((store,)))
    for number in range(plan.num_steps):
        parts = plan.step(number).parts
        expected = [
            samples[sample].encoded.weight_T[start + 1 : stop].sum()
            for _, sample, start, stop in zip(*(array.tolist() for array in parts), strict=True)
        ]
        assert plan.trained_P(parts) == pytest.approx(expected)


WEIGHTED = {
    "long": [[0.0, *[0.0] * (i % 5), *[1.0] * (3 + 7 * i % 23)] for i in range(160)],
    "short": [[0.0, *[0.5] * (1 + i % 4), 1.0] for i in range(230)],
    "odd": [[0.0, *[0.25, 0.0, 1.0] * (1 + i % 9)] for i in range(45)],
}


@pytest.fixture(scope="module")
def weighted_stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, ...]:
    return stores_of_weights(tmp_path_factory.mktemp("weighted"), WEIGHTED)


def trained_by_task(plan: Plan, steps: range | None = None) -> list[float]:
    """The trained tokens of each task in some steps (or all), token by token."""
    tasks, found = list(WEIGHTED.values()), [0.0] * len(WEIGHTED)
    for number in steps or range(plan.num_steps):
        for task, sample, start, stop in zip(*(a.tolist() for a in plan.step(number).parts), strict=True):
            found[task] += sum(tasks[task][sample][start + 1 : stop])
    return found


SHARES = {"long": 0.3, "short": 0.6, "odd": 0.1}


@every_packing
@pytest.mark.parametrize("max_tokens", [32, 100])
def test_by_trained_tokens_every_epoch_has_the_shares_after_packing(
    weighted_stores: tuple[Store, ...], packing: str, max_tokens: int
) -> None:
    """An epoch's tokens are those that a run of one epoch more has more, whatever steps they are in."""
    before = np.zeros(3)
    sections: dict[str, Any] = {**PACKINGS[packing]}
    sections["data"] = {**sections.get("data", {}), "max_tokens": max_tokens}
    sections["batch"] = {"tokens_per_step": 300, "tokens_per_micro_batch": 100, **sections.get("batch", {})}
    for epochs in (1, 2, 3, 4):
        mixture = {"by": "trained_tokens", "weights": SHARES, "epochs": epochs}
        plan = make_plan(plain_settings(list(WEIGHTED), mixture=mixture, **sections), prepared_of(weighted_stores))
        total = np.array(trained_by_task(plan))
        in_epoch, before = total - before, total
        assert in_epoch == pytest.approx(plan.trained_RK[-1])
        shares = in_epoch / in_epoch.sum()
        largest_K = np.array([store.trained_S.max() for store in weighted_stores])
        room = largest_K.sum() / in_epoch.sum() + (0.01 if packing == "concat" else 0)
        assert (np.abs(shares - list(SHARES.values())) <= room).all()
        told = " ".join(missed_shares(plan))
        for task, share, wanted in zip(WEIGHTED, shares, SHARES.values(), strict=True):
            if abs(share - wanted) > SHARE_TOLERANCE * wanted:
                assert f"task {task} is to have {wanted:.2%}" in told


@hypothesis.given(data=st.data())
@hypothesis.settings(max_examples=40)
def test_by_trained_tokens_every_epoch_is_within_the_tolerance_or_told(
    weighted_stores: tuple[Store, ...], data: st.DataObject
) -> None:
    weights = {task: data.draw(st.floats(0.05, 1)) for task in WEIGHTED}
    sections = PACKINGS[data.draw(st.sampled_from(list(PACKINGS)))]
    mixture = {"by": "trained_tokens", "weights": weights, "epochs": data.draw(st.sampled_from([0.5, 1, 2.3, 6]))}
    if data.draw(st.booleans()):
        mixture = {"epochs": 3.0, "stages": [mixture, {**mixture, "epochs": 1.5}]}
    plan = make_plan(plain_settings(list(WEIGHTED), mixture=mixture, **sections), prepared_of(weighted_stores))
    shares_RK = plan.trained_RK / plan.trained_RK.sum(axis=1, keepdims=True)
    wanted_K = np.array(list(weights.values())) / sum(weights.values())
    missed_K = (np.abs(shares_RK / wanted_K - 1) > SHARE_TOLERANCE).any(axis=0)
    told = missed_shares(plan)
    assert [any(line.startswith(f"task {task} ") for line in told) for task in WEIGHTED] == missed_K.tolist()
    assert sum(plan.trained_RK.sum(axis=1)) == pytest.approx(sum(trained_by_task(plan)))


STAGES = [
    {"by": "weight", "weights": {"few": 1.0}, "epochs": 3},
    {"by": "trained_tokens", "weights": {"many": 1.0}, "epochs": 0.7},
    {"by": "rows"},
]


@every_packing
def test_stages_keep_their_order_and_no_row_holds_two(plan_of: Callable[..., Plan], packing: str) -> None:
    batch = {"tokens_per_step": 32, **PACKINGS[packing].get("batch", {})}
    if packing != "concat":  # one sample a step, so that no step has samples of two stages
        batch = {"tokens_per_step": None, "samples_per_step": 1}
    sections = {**PACKINGS[packing], "batch": batch}
    plan = plan_of(mixture={"stages": STAGES, "epochs": 3.0}, **sections)
    stages = [plan.stage_of_step(number) for number in range(plan.num_steps)]
    assert stages == sorted(stages)
    assert set(stages) == {0, 1, 2}
    allowed = [{1}, {0}, {0, 1, 2}]
    for number, stage in enumerate(stages):
        assert set(plan.step(number).parts.task_P.tolist()) <= allowed[stage]
    assert plan.epochs == pytest.approx(4.7)


def test_a_step_that_reaches_into_the_next_stage_counts_to_the_one_before(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(mixture={"stages": STAGES, "epochs": 3.0}, batch={"tokens_per_step": 32 * 5})
    first_of_next = next(n for n in range(plan.num_steps) if plan.stage_of_step(n))
    assert set(plan.step(first_of_next - 1).parts.task_P.tolist()) == {0, 1}
    assert [plan.stage_of_step(n) for n in (0, first_of_next - 1, plan.num_steps - 1)] == [0, 0, 2]
    with pytest.raises(IndexError):
        plan.stage_of_step(plan.num_steps)


@every_packing
@pytest.mark.parametrize("max_steps", [None, 7])
def test_repeats_are_counted_as_they_happen(plan_of: Callable[..., Plan], packing: str, max_steps: int | None) -> None:
    mixture = {"by": "temperature", "temperature": 3.0, "epochs": 3, "max_steps": max_steps}
    sections = {**PACKINGS[packing]}
    sections["data"] = {**sections.get("data", {}), "validation": 0.2}
    plan = plan_of(mixture=mixture, **sections)
    begun: Counter[tuple[int, int]] = Counter()
    for number in range(plan.num_steps):
        task_P, sample_P, start_P, _ = (array.tolist() for array in plan.step(number).parts)
        begun.update((t, s) for t, s, start in zip(task_P, sample_P, start_P, strict=True) if start == 0)
    for task, samples in enumerate(plan.train_samples):
        assert plan.times_seen[task].tolist() == [begun[task, sample] for sample in samples.tolist()]
    assert sum(int(times.sum()) for times in plan.times_seen) == begun.total()


def test_every_task_is_in_every_step_as_far_as_its_size_lets_it(tmp_path: Path) -> None:
    """A short and rare task is not packed together into a few steps."""
    lengths = {"long": [30] * 400, "short": [3] * 40}
    plan = make_plan(
        plain_settings(list(lengths), batch={"tokens_per_step": 312, "tokens_per_micro_batch": 32}),
        prepared_of(stores_of_lengths(tmp_path, lengths)),
    )
    counts = [np.bincount(plan.step(n).parts.task_P, minlength=2) for n in range(plan.num_steps - 1)]
    assert all(count[0] in (9, 10) and count[1] <= 2 for count in counts), "about ten of the long and one of the short"
    assert plan.steps_with_task_K[1] >= 0.75 * plan.num_steps


def test_micro_batches_are_as_few_as_best_fit_finds(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    stores = stores_of_lengths(tmp_path, {"t": rng.integers(2, 30, 400).tolist()})
    for capacity in (32, 64, 128):
        batch = {"tokens_per_step": 256, "tokens_per_micro_batch": capacity}
        plan = make_plan(plain_settings(["t"], batch=batch), prepared_of(stores))
        found = [len(plan.step(number).micro_batches) for number in range(plan.num_steps - 1)]
        assert max(found) <= 256 // capacity + 2
        assert np.mean(found) <= 256 / capacity * 1.13


def test_rows_that_are_half_empty_are_laid_anew(tmp_path: Path) -> None:
    """Rows of 30 and of 18 in random order: side by side as they come they would fill 48 only by luck."""
    stores = stores_of_lengths(tmp_path, {"t": [30] * 12 + [18] * 12})
    batch = {"tokens_per_step": 32 * 24, "tokens_per_micro_batch": 48}
    step = make_plan(plain_settings(["t"], batch=batch), prepared_of(stores)).step(0)
    assert [sorted(parts.length_P.tolist()) for parts in step.micro_batches] == [[18, 30]] * 12


def test_a_plan_never_changes_from_version_to_version(tmp_path: Path) -> None:
    """And not from process to process: another hash seed, the same bytes."""
    program = (
        "import hashlib, sys\nfrom pathlib import Path\n"
        "from tests.data.stores import plain_settings, prepared_of, stores_of_lengths\n"
        "from weft.data.plan import make_plan\n"
        "lengths = {'many': [2 + (7 * i) % 29 for i in range(41)], 'few': [32, 31, 2, 17, 16, 16, 5]}\n"
        "digest, stores = hashlib.sha256(), stores_of_lengths(Path(sys.argv[1]), lengths)\n"
        "stages = [{'by': 'trained_tokens', 'weights': {'few': 1}}, {'by': 'temperature', 'epochs': 1.5}]\n"
        "for packing in ('pack', 'concat'):\n"
        "    sections = {'data': {'packing': packing}, 'mixture': {'epochs': 3.0, 'stages': stages}}\n"
        "    plan = make_plan(plain_settings(list(lengths), **sections), prepared_of(stores))\n"
        "    for number in range(plan.num_steps):\n"
        "        for array in plan.step(number).parts:\n"
        "            digest.update(array.astype('<i8').tobytes())\n"
        "print(digest.hexdigest()[:16])\n"
    )
    root = str(Path(__file__).parents[2])
    found = {
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / seed)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "77")
    }
    assert found == {"1610aa2ed5d5f7d0"}


def test_names_are_those_of_the_rows(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of()
    tasks = list(LENGTHS)
    for number in range(plan.num_steps):
        parts = plan.step(number).parts
        expected = [f"{tasks[task]}:rows.jsonl:{sample + 1}" for task, sample, _ in rows_of(parts)]
        assert plan.names(parts) == expected


def test_the_steps_of_each_task_are_counted(plan_of: Callable[..., Plan]) -> None:
    for packing in PACKINGS.values():
        plan = plan_of(mixture={"epochs": 2, "max_steps": 9}, **packing)
        present = Counter(task for step in steps_of(plan) for task in {task for task, _, _ in step})
        assert plan.steps_with_task_K.tolist() == [present[task] for task in range(3)]


def test_validation_rows_are_never_in_a_step_and_all_are_validated(plan_of: Callable[..., Plan]) -> None:
    for packing in ("pack", "padding", "concat"):
        plan = plan_of(data={"validation": 0.2, "test": 0.2, "packing": packing}, mixture={"epochs": 2})
        trained = {row[:2] for step in steps_of(plan) for row in step}
        held = {row[:2] for parts in plan.validation for row in rows_of(parts)}
        assert held
        assert not trained & held
        expected = {
            (task, int(sample))
            for task, store in enumerate(plan.stores)
            for sample in store.split("validation", 0.2, 0.2)
        }
        assert held == expected
        assert all(parts.length_P.sum() <= 32 for parts in plan.validation)


def test_no_validation_is_no_batch(plan_of: Callable[..., Plan]) -> None:
    assert plan_of().validation == []
    assert plan_of(data={"packing": "concat"}).validation == []


def test_one_sample_makes_one_step(tmp_path: Path) -> None:
    stores = stores_of_lengths(tmp_path, {"t": [2]})
    for packing in PACKINGS.values():
        plan = make_plan(plain_settings(["t"], **packing), prepared_of(stores))
        assert steps_of(plan) == [[(0, 0, 2)]]


def test_a_task_with_nothing_to_train_is_refused(tmp_path: Path) -> None:
    stores = stores_of_lengths(tmp_path, {"t": [3, 4]})
    with pytest.raises(DataError, match="leave no row for training"):
        make_plan(plain_settings(["t"], data={"validation": 0.6, "test": 0.6}), prepared_of(stores))


def test_real_settings_give_the_same_plan_whatever_cuts_it(make_settings: Callable[..., Settings]) -> None:
    """The same through `prepare`: packing and micro-batches leave the named samples of every step alone."""
    found = []
    for packing, tokens in (("pack", 256), ("padding", 300), ("pack", 4096)):
        batch = {"tokens_per_step": 512, "tokens_per_micro_batch": tokens}
        settings = make_settings(data={"packing": packing}, batch=batch, mixture={"epochs": 2})
        plan = make_plan(settings, prepare(settings))
        found.append([plan.names(plan.step(number).parts) for number in range(plan.num_steps)])
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > 3


def test_what_becomes_of_a_validation_sample_does_not_depend_on_the_others(tmp_path: Path) -> None:
    """Not even where one stream is cut: else losses of runs with other tasks could not be compared."""
    lengths = {"long": [70] * 12, "short": [9] * 12}
    found = []
    for tasks in (["long", "short"], ["long"]):
        stores = stores_of_lengths(tmp_path / "-".join(tasks), {name: lengths[name] for name in tasks})
        sections = {"data": {"packing": "concat", "validation": 0.5}}
        plan = Plan(plain_settings(tasks, **sections), stores, None)  # type: ignore[arg-type]
        mine = [
            part for parts in plan.validation for part in zip(*(a.tolist() for a in parts), strict=True) if not part[0]
        ]
        found.append(sorted(mine))
    assert found[0] == found[1]
    assert len(found[0]) >= 3
    assert {(start, stop) for _, _, start, stop in found[0]} == {(0, 32), (32, 64), (64, 70)}
