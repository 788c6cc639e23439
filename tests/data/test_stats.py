"""The numbers of prepared data, against counting by hand."""

from __future__ import annotations

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.config.settings import Settings
from weft.data.checks.stats import histogram, sparkline, stats
from weft.data.plan import make_plan
from weft.data.prepare import prepare

MakeSettings = Callable[..., Settings]


def test_numbers_of_a_task_are_those_that_counting_gives(make_settings: MakeSettings) -> None:
    settings = make_settings(data={"validation": 0.3, "test": 0.1})
    prepared = prepare(settings)
    found = stats(settings, prepared)
    assert [x.task for x in found.tasks] == ["sums", "chat", "one"]
    for x, store in zip(found.tasks, prepared.stores, strict=True):
        samples = [store.sample(i) for i in range(len(store))]
        lengths = sorted(len(s.ids_T) for s in samples)
        assert (x.train + x.validation + x.test, x.used) == (len(samples), len(samples))
        assert x.tokens == sum(lengths)
        assert (x.quantiles["min"], x.quantiles["max"]) == (lengths[0], lengths[-1])
        assert sum(x.lengths.counts) == len(samples)
        text = prepared.tokenizer.decode([i for s in samples for i in s.ids_T.tolist()], skip_control=True)
        others = sum(i not in prepared.tokenizer.control_ids for s in samples for i in s.ids_T.tolist())
        assert x.bytes_per_token == pytest.approx(len(text.encode()) / others)
        assert x.unknown_tokens == 0


@pytest.mark.parametrize("mixture", [{"epochs": 1}, {"by": "weight", "weights": {"sums": 1, "chat": 3, "one": 2}}])
def test_a_pass_holds_what_the_plan_takes(make_settings: MakeSettings, mixture: dict[str, object]) -> None:
    settings = make_settings(mixture={**mixture, "epochs": 1}, data={"validation": 0.3})
    prepared = prepare(settings)
    found = stats(settings, prepared)
    plan = make_plan(settings, prepared)
    steps = [plan.step(n).parts for n in range(plan.num_steps)]
    task_P = np.concatenate([parts.task_P for parts in steps])
    length_P = np.concatenate([parts.length_P for parts in steps])
    trained_P = np.concatenate([plan.trained_P(parts) for parts in steps])
    for k, x in enumerate(found.tasks):
        assert x.pass_samples == (task_P == k).sum()
        assert x.pass_tokens == length_P[task_P == k].sum()
        assert x.pass_trained_tokens == pytest.approx(trained_P[task_P == k].sum())
    assert found.micro_batches == sum(len(plan.step(n).micro_batches) for n in range(plan.num_steps))
    room = found.micro_batches * settings.tokens_per_micro_batch
    assert found.utilisation == pytest.approx(length_P.sum() / room)


def test_the_record_is_json(make_settings: MakeSettings) -> None:
    settings = make_settings()
    record = json.loads(json.dumps(stats(settings, prepare(settings)).record()))
    assert record["tasks"]["sums"]["quantiles"]["median"] > 0
    assert record["tasks"]["sums"]["trained_share"] > 0


@given(st.lists(st.integers(1, 5000), max_size=60), st.integers(1, 30))
def test_a_histogram_holds_every_sample_once(lengths: list[int], bins: int) -> None:
    hist = histogram(np.array(lengths, dtype=np.int64), bins)
    assert len(hist.edges) == len(hist.counts) + 1
    assert hist.edges == sorted(set(hist.edges))
    expected = [sum(a <= n < b for n in lengths) for a, b in zip(hist.edges, hist.edges[1:], strict=False)]
    assert hist.counts == expected
    assert sum(hist.counts) == len(lengths)


def test_a_sparkline_shows_every_bin_that_is_not_empty() -> None:
    assert sparkline([0, 1, 50, 100]) == " ▁▄█"
    assert sparkline([]) == ""
    assert sparkline([0]) == " "
