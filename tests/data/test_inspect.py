"""Looking at data: what is shown is what is stored."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from weft.config.settings import Settings
from weft.data import inspect
from weft.data.inspect import coloured_runs, show
from weft.data.prepare import Prepared, prepare
from weft.data.store import Store
from weft.errors import ConfigError


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(data={"validation": 0.3, "test": 0.1})


@pytest.fixture
def prepared(settings: Settings) -> Prepared:
    return prepare(settings)


def test_what_is_shown_is_what_is_stored(settings: Settings, prepared: Prepared) -> None:
    shown = list(show(settings, prepared, None, 0))
    stored = [(store, index) for store in prepared.stores for index in range(len(store))]
    assert len(shown) == len(stored) == 21
    for sample, (store, index) in zip(shown, stored, strict=True):
        encoded = store.sample(index)
        assert (sample.id, sample.task) == (store.name(index), store.task)
        assert sample.ids == encoded.ids_T.tolist()
        assert sample.weights == encoded.weight_T.tolist()
        assert sample.text == prepared.tokenizer.backend.decode(sample.ids, skip_special_tokens=False)
        assert index in store.split(sample.split, 0.3, 0.1).tolist()  # type: ignore[arg-type]
    assert {sample.split for sample in shown} >= {"train", "validation"}


def test_the_shown_record_is_json_with_the_documented_keys(settings: Settings, prepared: Prepared) -> None:
    record = json.loads(json.dumps(next(iter(show(settings, prepared, "chat", 1))).record()))
    assert list(record) == ["id", "task", "split", "ids", "weights", "text"]
    assert record["id"] == "chat:chat.jsonl:1"
    assert len(record["ids"]) == len(record["weights"])
    assert set(record["weights"]) == {0.0, 0.5, 1.0}


@pytest.mark.parametrize(("task", "number", "expected"), [("one", 1, 1), ("one", 99, 2), (None, 3, 8), ("sums", 0, 14)])
def test_as_many_samples_are_shown_as_asked_for(
    settings: Settings, prepared: Prepared, task: str | None, number: int, expected: int
) -> None:
    assert len(list(show(settings, prepared, task, number))) == expected


def test_an_unknown_task_is_refused(settings: Settings, prepared: Prepared) -> None:
    with pytest.raises(ConfigError, match="--task sum: there is no such task; the tasks are sums, chat, one"):
        list(show(settings, prepared, "sum", 1))


def test_coloured_runs_are_the_text_cut_at_the_masks_borders(settings: Settings, prepared: Prepared) -> None:
    for sample in show(settings, prepared, None, 0):
        runs = coloured_runs(prepared.tokenizer, sample)
        assert "".join(text for text, _ in runs) == sample.text
        assert all(a[1] != b[1] for a, b in zip(runs, runs[1:], strict=False))
    chat = next(iter(show(settings, prepared, "chat", 1)))
    assert [text for text, trained in coloured_runs(prepared.tokenizer, chat) if trained] == [
        "你好 🙂\n</s>",
        "y\n</s>",
    ]


def test_a_stores_splits_have_names(settings: Settings, prepared: Prepared) -> None:
    store: Store = prepared.stores[0]
    names = inspect.split_names(settings, store)
    for which in ("train", "validation", "test"):
        found = [index for index, name in enumerate(names) if name == which]
        assert found == store.split(which, 0.3, 0.1).tolist()  # type: ignore[arg-type]
