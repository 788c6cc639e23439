"""Looking at data: what is shown is what is stored, and every check fails when its property is broken."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from weft.config.settings import Settings
from weft.data import inspect
from weft.data.inspect import check, coloured_runs, show
from weft.data.prepare import Prepared, prepare
from weft.data.store import Store, StoredSample, Writer
from weft.data.templates._markers import MarkerTemplate
from weft.data.tokens import Encoded
from weft.errors import ConfigError
from weft.types import Piece, RowId

TRAINED, STOPS, CONTROL, PROMPT = inspect._MASK_CHECKS
Change = Callable[[Encoded], Encoded]


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(data={"validation": 0.3, "test": 0.1})


@pytest.fixture
def prepared(settings: Settings) -> Prepared:
    return prepare(settings)


def failed(settings: Settings, prepared: Prepared) -> set[str]:
    return {result.name for result in check(settings, prepared) if not result.ok}


def tampered(prepared: Prepared, folder: Path, change: Change, task: int = 0) -> Prepared:
    """The same stores, but every sample of a task is changed."""
    old = prepared.stores[task]
    with Writer(folder / "tampered", old.task, old.files) as writer:
        for index in range(len(old)):
            _, file, line = old.name(index).split(":")
            encoded = Encoded(*(array.copy() for array in old.sample(index)))
            writer.add(StoredSample(RowId(file, int(line)), change(encoded), int(old._hash_S[index])))
        new = writer.publish(old.ledger)
    return replace(prepared, stores=tuple(new if k == task else s for k, s in enumerate(prepared.stores)))


# checks


@pytest.mark.parametrize("template", ["mftcoder", "chatml", {"name": "mftcoder", "system": "Be kind."}])
def test_whole_data_passes_every_check(make_settings: Callable[..., Settings], template: Any) -> None:
    settings = make_settings(template=template)
    results = check(settings, prepare(settings))
    assert [result.name for result in results if not result.ok] == []
    assert [result.detail for result in results[:5]] == ["21 samples"] * 5


@pytest.mark.parametrize("train_on", ["last_answer", "all_answers"])
def test_whole_data_passes_whatever_is_trained_of_it(
    make_settings: Callable[..., Settings], task_files: dict[str, str], train_on: str
) -> None:
    settings = make_settings(tasks={"chat": {"path": task_files["chat"], "train_on": train_on}})
    assert failed(settings, prepare(settings)) == set()


def _user_trained(encoded: Encoded) -> Encoded:
    encoded.weight_T[1:3] = 1.0
    return encoded


def _answer_half_trained(encoded: Encoded) -> Encoded:
    encoded.weight_T[np.flatnonzero(encoded.weight_T)[0]] = 0.0
    return encoded


def _shifted(encoded: Encoded) -> Encoded:
    return Encoded(encoded.ids_T, np.roll(encoded.weight_T, -1))


def _stop_not_trained(encoded: Encoded) -> Encoded:
    encoded.weight_T[np.flatnonzero(encoded.weight_T)[-1]] = 0.0
    return encoded


def _control_in_content(encoded: Encoded) -> Encoded:
    encoded.ids_T[4] = 1  # </s> where the user speaks
    return encoded


def _another_prompt(encoded: Encoded) -> Encoded:
    encoded.ids_T[4] += 1
    return encoded


def _nothing_trained(encoded: Encoded) -> Encoded:
    return Encoded(encoded.ids_T, np.zeros_like(encoded.weight_T))


BROKEN: dict[str, tuple[Change, set[str]]] = {
    "what the user says is trained": (_user_trained, {TRAINED, STOPS}),
    "the start of an answer is not trained": (_answer_half_trained, {TRAINED}),
    "the mask is shifted": (_shifted, {TRAINED, STOPS}),
    "the stop token is not trained": (_stop_not_trained, {TRAINED, STOPS}),
    "a control token stands in a content": (_control_in_content, {CONTROL, PROMPT}),
    "the prompt has other ids": (_another_prompt, {PROMPT}),
    "nothing is trained": (_nothing_trained, {TRAINED, "every task has trained tokens"}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_masks_and_ids_fail_their_checks(
    settings: Settings, prepared: Prepared, tmp_path: Path, how: str
) -> None:
    change, expected = BROKEN[how]
    broken = tampered(prepared, tmp_path, change)
    assert failed(settings, broken) == expected
    details = [
        result.detail for result in check(settings, broken) if result.name in expected & set(inspect._MASK_CHECKS)
    ]
    assert all(detail.startswith("14 of 21 samples, first sums:sums.jsonl:1: ") for detail in details)


def test_one_broken_sample_among_many_is_found_and_named(
    settings: Settings, prepared: Prepared, tmp_path: Path
) -> None:
    seen: list[int] = []

    def change(encoded: Encoded) -> Encoded:
        seen.append(1)
        return _user_trained(encoded) if len(seen) == 4 else encoded

    results = check(settings, tampered(prepared, tmp_path, change, task=1))
    assert results[0].detail.startswith("1 of 21 samples, first chat:chat.jsonl:4: ")


def test_a_template_that_no_longer_renders_as_the_store_was_made_is_found(
    settings: Settings, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = MarkerTemplate.prompt
    monkeypatch.setattr(MarkerTemplate, "prompt", lambda *args: [*prompt(*args), Piece(" ", 0.0, True)])
    assert failed(settings, prepared) == {PROMPT}


def test_a_ledger_that_does_not_add_up_is_found(settings: Settings, prepared: Prepared) -> None:
    first = prepared.stores[0]
    wrong = replace(first, ledger=replace(first.ledger, read=first.ledger.read + 1))
    broken = replace(prepared, stores=(wrong, *prepared.stores[1:]))
    assert failed(settings, broken) == {"the ledger adds up"}


def test_samples_that_have_no_row_any_more_are_found(settings: Settings, prepared: Prepared) -> None:
    """A check that finds nothing to compare has proven nothing."""
    first = prepared.stores[0]
    elsewhere = replace(first, files=("elsewhere.jsonl",))
    assert failed(settings, replace(prepared, stores=(elsewhere, *prepared.stores[1:]))) == {"every sample has its row"}


def test_cut_samples_are_not_taken_for_broken_ones(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    rows = [{"prompt": "why? " * 99, "answer": "so."}, {"prompt": "why?", "answer": "so."}]
    (tmp_path / "long.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = make_settings(tasks={"long": str(tmp_path / "long.jsonl")}, data={"max_tokens": 40, "too_long": "cut"})
    prepared = prepare(settings)
    assert prepared.stores[0].ledger.cut == 1
    assert failed(settings, prepared) == set()


def test_rejected_rows_between_samples_do_not_shift_the_comparison(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    rows = [{"prompt": f"q{i}", "answer": "a" * (1 + 300 * (i % 3 == 0))} for i in range(9)]
    text = "{bad\n" + "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "some.jsonl").write_text(text)
    settings = make_settings(tasks={"some": str(tmp_path / "some.jsonl")}, data={"max_tokens": 64, "max_bad_rows": 0.5})
    results = check(settings, prepare(settings))
    assert [(result.ok, result.detail) for result in results[:4]] == [(True, "6 samples")] * 4


# show


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
