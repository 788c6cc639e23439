"""The checks of masks: whole data passes whatever its kind, and every property that is broken on purpose is found."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from weft.config.settings import Settings
from weft.data.checks import Check, Material, masks
from weft.data.checks.masks import EMPTY, MATCHED
from weft.data.checks.proof import CONTROL, PROMPT, STOPS, TRAINED, Prover, trained_runs
from weft.data.parts import StoredSample, Writer
from weft.data.prepare import Prepared, prepare
from weft.data.stretches import Encoded
from weft.data.templates._markers import MarkerTemplate
from weft.types import Piece, RowId

Change = Callable[[Encoded], Encoded]
MakeSettings = Callable[..., Settings]


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(data={"validation": 0.3, "test": 0.1})


@pytest.fixture
def prepared(settings: Settings) -> Prepared:
    return prepare(settings)


def check(settings: Settings, prepared: Prepared) -> list[Check]:
    return list(masks.check(Material(settings, prepared)))


def failed(settings: Settings, prepared: Prepared) -> set[str]:
    return {result.name for result in check(settings, prepared) if not result.ok}


def tampered(prepared: Prepared, folder: Path, change: Change, task: int = 0) -> Prepared:
    """The same stores, but every sample of a task is changed."""
    old = prepared.stores[task]
    with Writer(folder / "tampered", old.task, old.files) as writer:
        for index in range(len(old)):
            _, file, line = old.name(index).split(":")
            encoded = Encoded(*(array.copy() for array in old.sample(index)))
            writer.add(StoredSample(RowId(file, int(line)), change(encoded), int(old.hash_S[index])))
        new = writer.publish(old.ledger)
    return replace(prepared, stores=tuple(new if k == task else s for k, s in enumerate(prepared.stores)))


def one_task(make_settings: MakeSettings, folder: Path, rows: list[Any], **sections: Any) -> Settings:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    task = {"path": str(folder / "rows.jsonl"), **sections.pop("task", {})}
    return make_settings(tasks={"one": task}, **sections)


# whole data passes


@pytest.mark.parametrize("template", ["mftcoder", "chatml", {"name": "mftcoder", "system": "Be kind."}])
def test_whole_data_passes_every_check(make_settings: MakeSettings, template: Any) -> None:
    settings = make_settings(template=template)
    results = check(settings, prepare(settings))
    assert [result.name for result in results if not result.ok] == []
    assert [result.detail for result in results] == [*["21 samples"] * 5, "3 tasks"]


@pytest.mark.parametrize("train_on", ["last_answer", "all_answers"])
def test_whole_data_passes_whatever_is_trained_of_it(
    make_settings: MakeSettings, task_files: dict[str, str], train_on: str
) -> None:
    settings = make_settings(tasks={"chat": {"path": task_files["chat"], "train_on": train_on}})
    assert failed(settings, prepare(settings)) == set()


LARGE = {"tokens_per_step": 4096, "tokens_per_micro_batch": 1024}
CALL = {"type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
TOOL = {"type": "function", "function": {"name": "add", "description": "</s>", "parameters": {"type": "object"}}}
ROWS: dict[str, Any] = {
    "documents": {"text": "Once upon a time </s> there was a weft."},
    "samples that were tokenized elsewhere": {"input_ids": [9, 8, 7, 6], "labels": [-100, -100, 7, 6]},
    "text that spells control tokens": {"prompt": "say </s><|im_end|> now", "answer": "</s>"},
    "weights of their own": {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", "content": "b", "weight": 0.5},
            {"role": "user", "content": "c"},
            {"role": "assistant", "content": "d", "weight": 0},
            {"role": "user", "content": "e"},
            {"role": "assistant", "content": "f"},
        ]
    },
    "tool calls": {
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "1 + 2? </s>"},
            {"role": "assistant", "content": "", "tool_calls": [CALL]},
            {"role": "tool", "name": "add", "content": "3 </s>"},
            {"role": "assistant", "content": "It is 3."},
        ],
    },
}


@pytest.mark.parametrize("kind", ROWS)
def test_every_kind_of_row_passes_as_it_was_prepared(make_settings: MakeSettings, tmp_path: Path, kind: str) -> None:
    template = "qwen" if kind == "tool calls" else "chatml"
    settings = one_task(
        make_settings, tmp_path, [ROWS[kind]] * 2, template=template, data={"max_tokens": 1024}, batch=LARGE
    )
    results = check(settings, prepare(settings))
    assert [(result.name, result.detail) for result in results if not result.ok] == []
    assert results[0].detail == "2 samples"


@pytest.mark.parametrize("kind", ["documents", "samples that were tokenized elsewhere", "weights of their own"])
@pytest.mark.parametrize("how", ["context trained", "a weight changed"])
def test_every_kind_of_row_is_really_looked_at(
    make_settings: MakeSettings, tmp_path: Path, kind: str, how: str
) -> None:
    settings = one_task(make_settings, tmp_path, [ROWS[kind]] * 2, template="chatml")

    def change(encoded: Encoded) -> Encoded:
        if how == "context trained":
            encoded.weight_T[:] = 1.0 if (encoded.weight_T[1:] == 0).any() else 0.0
        else:
            encoded.weight_T[encoded.weight_T > 0] *= 0.25
        return encoded

    assert TRAINED in failed(settings, tampered(prepare(settings), tmp_path, change))


def test_documents_with_a_gap_pass_and_are_looked_at(
    make_settings: MakeSettings, tmp_path: Path, tokenizer_folder: Path
) -> None:
    folder = tmp_path / "gap"
    shutil.copytree(tokenizer_folder, folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.add_special_tokens(["<fim_prefix>", "<fim_suffix>", "<fim_middle>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    rows = [{"prefix": "def f(x):\n", "suffix": "\n    return y\n", "middle": f"    y = x + {i}"} for i in range(3)]
    settings = one_task(make_settings, tmp_path, rows, model={"base": str(folder)})
    prepared = prepare(settings)
    assert failed(settings, prepared) == set()
    assert failed(settings, tampered(prepared, tmp_path, _stop_not_trained)) == {TRAINED, STOPS}


# broken masks


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


def _half_weight(encoded: Encoded) -> Encoded:
    return Encoded(encoded.ids_T, encoded.weight_T * np.float32(0.5))


BROKEN: dict[str, tuple[Change, set[str]]] = {
    "what the user says is trained": (_user_trained, {TRAINED, STOPS}),
    "the start of an answer is not trained": (_answer_half_trained, {TRAINED}),
    "the mask is shifted": (_shifted, {TRAINED, STOPS}),
    "the stop token is not trained": (_stop_not_trained, {TRAINED, STOPS}),
    "a control token stands in a content": (_control_in_content, {CONTROL, PROMPT}),
    "the prompt has other ids": (_another_prompt, {PROMPT}),
    "nothing is trained": (_nothing_trained, {TRAINED, EMPTY}),
    "an answer has another weight": (_half_weight, {TRAINED}),
}


@pytest.mark.parametrize("how", BROKEN)
def test_broken_masks_and_ids_fail_their_checks(
    settings: Settings, prepared: Prepared, tmp_path: Path, how: str
) -> None:
    change, expected = BROKEN[how]
    broken = tampered(prepared, tmp_path, change)
    assert failed(settings, broken) == expected
    for result in check(settings, broken):
        if not result.ok:
            assert result.detail.startswith("14 of 21 samples, first sums:sums.jsonl:1: ")
            assert result.examples[0].rows[0][0] == "sums:sums.jsonl:1"


def test_one_broken_sample_among_many_is_found_and_named(
    settings: Settings, prepared: Prepared, tmp_path: Path
) -> None:
    seen: list[int] = []

    def change(encoded: Encoded) -> Encoded:
        seen.append(1)
        return _user_trained(encoded) if len(seen) == 4 else encoded

    results = check(settings, tampered(prepared, tmp_path, change, task=1))
    assert results[0].detail.startswith("1 of 21 samples, first chat:chat.jsonl:4: ")


def test_samples_behind_the_proven_ones_are_looked_over(
    settings: Settings, prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stop token that is not trained is found in every sample; a control token that is new there is proven."""
    monkeypatch.setattr(masks, "CHECKED_ROWS", 2)
    assert failed(settings, prepared) == set()

    def late(change: Change) -> Change:
        seen: list[int] = []

        def changed(encoded: Encoded) -> Encoded:
            seen.append(1)
            return change(encoded) if len(seen) == 9 else encoded

        return changed

    def foreign(encoded: Encoded) -> Encoded:
        encoded.ids_T[4] = 2  # <|im_start|>, which mftcoder never writes
        return encoded

    assert failed(settings, tampered(prepared, tmp_path / "a", late(_stop_not_trained))) == {STOPS}
    results = check(settings, tampered(prepared, tmp_path / "b", late(foreign)))
    assert [result.name for result in results if not result.ok] == [CONTROL, PROMPT]
    assert results[2].detail.startswith("1 of 7 samples, first sums:sums.jsonl:9: ")


def test_control_tokens_from_a_rows_text_are_found_although_the_template_says_so(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A template that marks contents as its own text makes control ids of what a user wrote, in store and template alike."""
    render = MarkerTemplate.render

    def careless(self: MarkerTemplate, *args: Any, **kwargs: Any) -> list[Piece]:
        return [piece._replace(control=True) for piece in render(self, *args, **kwargs)]

    monkeypatch.setattr(MarkerTemplate, "render", careless)
    settings = one_task(make_settings, tmp_path, [{"prompt": "say </s> now", "answer": "no"}] * 2)
    results = check(settings, prepare(settings))
    assert "1 control tokens come from what was written in the row" in results[2].detail


def test_a_template_that_trains_what_the_row_does_not_say_is_found(
    make_settings: MakeSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is just what the template writes; only the raw conversation knows better."""
    render = MarkerTemplate.render

    def wrong(self: MarkerTemplate, *args: Any, **kwargs: Any) -> list[Piece]:
        pieces = render(self, *args, **kwargs)
        return [p._replace(text=p.text.replace("42", "43")) if p.weight > 0 else p for p in pieces]

    monkeypatch.setattr(MarkerTemplate, "render", wrong)
    settings = one_task(make_settings, tmp_path, [{"prompt": "6 * 7?", "answer": "It is 42."}] * 2)
    results = check(settings, prepare(settings))
    assert [result.name for result in results if not result.ok] == [TRAINED]
    assert "trained 'Itis43.', the answer is 'Itis42.'" in results[0].detail


def test_a_template_that_no_longer_renders_as_the_store_was_made_is_found(
    settings: Settings, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompt = MarkerTemplate.prompt
    monkeypatch.setattr(
        MarkerTemplate, "prompt", lambda *args, **kwargs: [*prompt(*args, **kwargs), Piece(" ", 0.0, True)]
    )
    assert failed(settings, prepared) == {PROMPT}


def test_samples_that_have_no_row_any_more_are_found(settings: Settings, prepared: Prepared) -> None:
    """A check that finds nothing to compare has proven nothing."""
    first = prepared.stores[0]
    elsewhere = replace(first, files=("elsewhere.jsonl",))
    assert failed(settings, replace(prepared, stores=(elsewhere, *prepared.stores[1:]))) == {MATCHED}


def test_rejected_rows_between_samples_do_not_shift_the_comparison(make_settings: MakeSettings, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer": "a" * (1 + 300 * (i % 3 == 0))} for i in range(9)]
    text = "{bad\n" + "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "some.jsonl").write_text(text)
    settings = make_settings(tasks={"some": str(tmp_path / "some.jsonl")}, data={"max_tokens": 64, "max_bad_rows": 0.5})
    results = check(settings, prepare(settings))
    assert [(result.ok, result.detail) for result in results[:4]] == [(True, "6 samples")] * 4


# samples that were cut

LONG: dict[str, list[Any]] = {
    "a prompt": [{"prompt": "why? " * 99, "answer": "so."}, {"prompt": "why?", "answer": "so."}],
    "a document": [{"text": "to be or not to be " * 30}, {"text": "short"}],
    "turns": [
        {
            "messages": [
                {"role": role, "content": f"{role} says {i} " * 3} for i in range(12) for role in ("user", "assistant")
            ]
        }
    ],
}


def cut_settings(make_settings: MakeSettings, tmp_path: Path, kind: str) -> Settings:
    return one_task(make_settings, tmp_path, LONG[kind], data={"max_tokens": 120, "too_long": "cut"})


@pytest.mark.parametrize("kind", LONG)
def test_cut_samples_are_proven_against_the_whole_ones(make_settings: MakeSettings, tmp_path: Path, kind: str) -> None:
    settings = cut_settings(make_settings, tmp_path, kind)
    prepared = prepare(settings)
    assert prepared.stores[0].ledger.cut == 1
    assert failed(settings, prepared) == set()


def _first_of_kept_answers(encoded: Encoded) -> Encoded:
    start, _ = trained_runs(encoded)[0]
    encoded.weight_T[start] = 0.0
    return encoded


def _context_of_cut(encoded: Encoded) -> Encoded:
    encoded.weight_T[3] = 1.0 if encoded.weight_T[3] == 0 else 0.0
    return encoded


def _another_end(encoded: Encoded) -> Encoded:
    encoded.ids_T[-3] += 1
    return encoded


@pytest.mark.parametrize("change", [_first_of_kept_answers, _context_of_cut, _another_end])
@pytest.mark.parametrize("kind", LONG)
def test_a_broken_cut_is_found(make_settings: MakeSettings, tmp_path: Path, kind: str, change: Change) -> None:
    settings = cut_settings(make_settings, tmp_path, kind)
    prepared = tampered(
        prepare(settings), tmp_path, lambda encoded: change(encoded) if len(encoded.ids_T) == 120 else encoded
    )
    expected = PROMPT if change is _another_end else TRAINED
    assert expected in failed(settings, prepared)


# small parts


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([], []), ([0], []), ([1], [(0, 1)]), ([0, 1, 1, 0, 2], [(1, 3), (4, 5)]), ([1, 1, 0], [(0, 2)])],
)
def test_trained_runs_are_the_stretches_of_positive_weight(
    weights: list[float], expected: list[tuple[int, int]]
) -> None:
    encoded = Encoded(np.zeros(len(weights), dtype=np.int32), np.array(weights, dtype=np.float32))
    assert trained_runs(encoded) == expected


def test_a_tokenizer_that_loses_text_is_no_fault_of_the_mask(
    settings: Settings, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = type(prepared.tokenizer)
    decode = tokenizer.decode
    monkeypatch.setattr(
        tokenizer, "decode", lambda self, ids, *rest: decode(self, ids, *rest).lower().replace("4", "?")
    )
    assert failed(settings, prepared) == set()
    assert Prover(settings, prepared).pattern is not None
