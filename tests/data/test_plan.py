"""The plan: what is in a step and how it is cut, on stores where every token is one of a kind."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.data.stores import plain_settings, prepared_of, sample_of, store_of, stores_of_lengths
from weft.config.settings import Settings
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
    assert all(0 < count <= 96 for count in tokens), "100 tokens are three rows of 32"
    total = 3 * sum(map(sum, LENGTHS.values()))
    assert sum(tokens) == total
    assert plan.num_steps >= total / 96
    if packing == "concat":  # a pass's last row may be short, no other
        assert plan.num_steps == -(-3 * -(-total // 3 // 32) // 3)


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
