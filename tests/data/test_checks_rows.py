"""The checks of rows: the ledger, duplicates, the overlap of the split, near duplicates, contamination, shares."""

from __future__ import annotations

import builtins
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.conftest import need_shared
from weft.config.settings import Settings
from weft.data import checks
from weft.data.checks import Check, Material, contamination, duplicates, ledger, near, shares
from weft.data.checks.contamination import CONTAMINATION, index_of, ngram_hashes, texts, words_of
from weft.data.checks.duplicates import DUPLICATES, OVERLAP, PROMPTS
from weft.data.checks.ledger import LEDGER, UNUSED
from weft.data.checks.near import NEAR, fair_parts, jaccard, shingles_of
from weft.data.prepare import Prepared, prepare
from weft.errors import DataError
from weft.types import Progress

MakeSettings = Callable[..., Settings]


def pair(prompt: str, answer: str) -> dict[str, str]:
    return {"prompt": prompt, "answer": answer}


def written(folder: Path, name: str, rows: Sequence[Any]) -> str:
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return str(folder / f"{name}.jsonl")


def verdicts(module: ModuleType, settings: Settings, prepared: Prepared | None = None) -> dict[str, Check]:
    return {c.name: c for c in module.check(Material(settings, prepared or prepare(settings)))}


@pytest.fixture
def tasks_of(make_settings: MakeSettings, tmp_path: Path) -> Callable[..., Settings]:
    def make(rows: dict[str, Sequence[Any]], **sections: Any) -> Settings:
        tasks = {name: written(tmp_path, name, of_task) for name, of_task in rows.items()}
        return make_settings(tasks=tasks, **sections)

    return make


# all of them


def test_every_check_speaks_once_and_whole_data_passes(make_settings: MakeSettings) -> None:
    settings = make_settings(data={"validation": 0.3})
    told: list[Progress] = []
    found = checks.check(settings, prepare(settings), told.append)
    assert len({c.name for c in found}) == len(found) == 17
    assert [c.name for c in found if not c.ok] == []
    assert all(c.detail for c in found)
    assert {event.what for event in told} >= {"check masks", "check near duplicates", "stats"}


# the ledger


def test_a_ledger_that_does_not_add_up_is_found(make_settings: MakeSettings) -> None:
    settings = make_settings()
    prepared = prepare(settings)
    first = prepared.stores[0]
    wrong = replace(first, ledger=replace(first.ledger, read=first.ledger.read + 1))
    broken = replace(prepared, stores=(wrong, *prepared.stores[1:]))
    assert verdicts(ledger, settings, prepared)[LEDGER].ok
    found = verdicts(ledger, settings, broken)[LEDGER]
    assert (found.ok, found.detail) == (False, "sums: 15 read, but 14 used + 0 quarantined + 0 dropped")


def test_rejects_that_are_not_listed_are_found(tasks_of: Callable[..., Settings]) -> None:
    settings = tasks_of({"a": [pair(f"q{i}", "a") for i in range(9)] + [{"prompt": 1, "answer": "x"}]})
    prepared = prepare(settings)
    assert verdicts(ledger, settings, prepared)[LEDGER].ok
    (prepared.stores[0].folder / "rejects.jsonl").write_text("")
    assert "a: 0 rows are listed" in verdicts(ledger, settings, prepared)[LEDGER].detail


def test_what_is_not_used_is_told_by_reason(tasks_of: Callable[..., Settings]) -> None:
    rows = [pair("q", "a"), pair("q", "a" * 400), {"prompt": 1, "answer": "x"}, pair("q " * 99, "a"), pair("w", "a")]
    settings = tasks_of({"a": rows}, data={"max_tokens": 60, "too_long": "cut", "max_bad_rows": 0.5})
    found = verdicts(ledger, settings)[UNUSED]
    assert found.ok
    assert found.careful
    assert found.detail == "a: too_long 1 of 5 (20 %), wrong_type 1 of 5 (20 %), cut 1 of 5 (20 %)"


# duplicates and the split


def test_duplicates_are_counted_within_and_across_tasks(tasks_of: Callable[..., Settings]) -> None:
    a = [pair(f"q{i}", "a") for i in range(10)]
    alpaca = [{"instruction": "q1", "input": "", "output": "a"}, {"instruction": "new", "input": "", "output": "b"}]
    settings = tasks_of({"a": [*a, a[0], a[0]], "b": alpaca})
    found = verdicts(duplicates, settings)[DUPLICATES]
    assert found.ok
    assert found.careful
    assert found.detail == (
        "1 rows stand in more than one task (a and b 1); a: 2 of 12 (16.7 %) repeat another row of the task"
    )
    assert [name for name, _ in found.examples[0].rows] == ["a:a.jsonl:2", "b:b.jsonl:1"]


def test_a_row_that_is_trained_on_and_held_out_fails(tasks_of: Callable[..., Settings]) -> None:
    """Tasks that ask for a number of validation rows draw their line at different hashes."""
    rows = [pair(f"question {i}", "yes") for i in range(40)]
    settings = tasks_of({"a": rows, "b": rows[:4]}, data={"validation": 2})
    found = verdicts(duplicates, settings)[OVERLAP]
    prepared = prepare(settings)
    sides = [
        {prepared.stores[k].hash_S[i] for i in prepared.stores[k].split(which, 2, 0)}  # type: ignore[arg-type]
        for which in ("train", "validation")
        for k in (0, 1)
    ]
    expected = len((sides[0] | sides[1]) & (sides[2] | sides[3]))
    assert expected > 0
    assert not found.ok
    assert found.detail.startswith(f"{expected} rows are in the training split and in a held-out one, first ")
    assert "(train) and " in found.detail
    assert "(validation)" in found.detail


def test_equal_rows_of_one_share_are_on_one_side(tasks_of: Callable[..., Settings]) -> None:
    rows = [pair(f"question {i}", "yes") for i in range(40)]
    settings = tasks_of({"a": rows * 2, "b": rows}, data={"validation": 0.3, "test": 0.2})
    found = verdicts(duplicates, settings)
    assert found[OVERLAP].ok
    assert found[PROMPTS].detail.startswith("none of ")


def test_a_prompt_on_both_sides_is_told(tasks_of: Callable[..., Settings]) -> None:
    rows = [pair("the same question", f"answer {i}") for i in range(60)]
    settings = tasks_of({"a": rows}, data={"validation": 0.3})
    found = verdicts(duplicates, settings)[PROMPTS]
    held_out = len(prepare(settings).stores[0].split("validation", 0.3, 0))
    assert found.ok
    assert found.careful
    assert (
        found.detail
        == f"{held_out} of {held_out} (100 %) held-out prompts are also a training row's, with another answer"
    )


# near duplicates

WORDS = [f"w{i}" for i in range(400)]


def prose(seed: int, number: int = 60) -> str:
    return " ".join(np.random.default_rng(seed).choice(WORDS, number))


def test_near_duplicates_are_found_within_tasks_across_them_and_across_the_split(
    tasks_of: Callable[..., Settings],
) -> None:
    texts = [prose(seed) for seed in range(30)]
    a = [pair(text, "yes") for text in texts] + [pair(text + " please", "yes") for text in texts[:5]]
    b = [pair("kindly " + text, "yes") for text in texts[10:13]]
    settings = tasks_of({"a": a, "b": b}, data={"max_tokens": 256, "validation": 0.3})
    found = verdicts(near, settings)[NEAR]
    assert found.ok
    assert found.careful
    parts = found.detail.split("; ")
    assert parts[0] == "8 of 38 (21.1 %) rows are near another one"
    assert "held-out rows are near a training row" in parts[1]
    assert parts[2] == "3 groups span several tasks"
    assert parts[4:] == ["a: 5 of 35 (14.3 %)", "b: 3 of 3 (100 %)"]
    assert len(found.examples) == 5


def test_different_rows_are_not_near_although_they_share_an_instruction(tasks_of: Callable[..., Settings]) -> None:
    """What a quarter of the rows have is no property of one row."""
    shared = prose(999, 56)
    settings = tasks_of(
        {"a": [pair(f"{shared} {prose(seed, 3)}", "yes") for seed in range(60)]}, data={"max_tokens": 256}
    )
    assert verdicts(near, settings)[NEAR].detail.startswith("none; looked at 60 of 60 (100 %) distinct rows")


def test_exact_duplicates_are_not_counted_again_as_near(tasks_of: Callable[..., Settings]) -> None:
    settings = tasks_of({"a": [pair(prose(seed), "yes") for seed in range(6)] * 3})
    assert verdicts(near, settings)[NEAR].detail.startswith("none; looked at 6 of 6 ")


def test_the_number_of_rows_is_bounded_and_told(
    tasks_of: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(near, "MAX_SAMPLES", 20)
    settings = tasks_of({"a": [pair(prose(s), "a") for s in range(50)], "b": [pair(prose(s), "b") for s in range(5)]})
    assert "looked at 20 of 55 (36.4 %) distinct rows" in verdicts(near, settings)[NEAR].detail


def test_a_large_group_takes_no_longer_than_its_rows(tasks_of: Callable[..., Settings]) -> None:
    """Each row is compared with a group's first one only."""
    rows = [pair(prose(5, 50) + f" {i}", "a") for i in range(19)]  # below the number from which common text is left out
    found = verdicts(near, tasks_of({"a": rows}))[NEAR]
    assert found.detail.startswith("18 of 19 (94.7 %) rows are near another one")
    assert found.examples[0].what.endswith("a group of 19")


def test_without_the_library_it_is_told_how_to_get_it(
    make_settings: MakeSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "datasketch":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    settings = make_settings()
    prepared = prepare(settings)
    monkeypatch.setattr(builtins, "__import__", without)
    found = verdicts(near, settings, prepared)[NEAR]
    assert found.ok
    assert "pip install 'weft[checks]'" in found.detail


@given(st.lists(st.integers(0, 9), max_size=30), st.lists(st.integers(0, 9), max_size=30))
def test_jaccard_of_shingles_is_that_of_sets_of_tuples(a: list[int], b: list[int]) -> None:
    def tuples(ids: list[int]) -> set[tuple[int, ...]]:
        size = min(near.SHINGLE_TOKENS, len(ids))
        return {tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)} if ids else set()

    x, y = (shingles_of(np.array(ids, dtype=np.int32)) for ids in (a, b))
    sets = tuples(a), tuples(b)
    assert (len(x), len(y)) == (len(sets[0]), len(sets[1]))
    union = sets[0] | sets[1]
    assert jaccard(x, y) == pytest.approx(len(sets[0] & sets[1]) / len(union) if sets[0] and sets[1] else 0.0)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=9), st.integers(0, 200))
def test_fair_parts_fill_what_there_is_and_no_one_gets_less_than_a_larger_one(sizes: list[int], most: int) -> None:
    parts = fair_parts(sizes, most)
    assert sum(parts) <= most
    assert all(part <= size for part, size in zip(parts, sizes, strict=True))
    assert sum(sizes) > most or parts == sizes
    assert sum(parts) > min(most, sum(sizes)) - len(sizes)


# contamination

QUESTION = "Janet's ducks lay sixteen eggs per day; she eats three for breakfast every morning, and sells the rest!"


@pytest.mark.parametrize(
    ("benchmark", "row", "hit"),
    [
        (QUESTION, f"Well: {QUESTION.upper()}", True),  # case and punctuation don't matter
        (QUESTION, QUESTION.replace("breakfast", "lunch"), False),  # no 13 words in a row are left
        (QUESTION, "so " + " ".join(QUESTION.split()[3:17]) + " anyway", True),  # a part is enough
        ("What is the capital of France, please?", "what is the capital of france please", True),  # short: a whole message
        ("What is the capital of France?", "What is the capital of France and of Spain?", False),
        ("one two three", "one two three", False),  # too short to tell
        ("a b c d e f g h i", "so a b c d e f g h i it is", True),  # 8 to 12 words: whole, anywhere
        ("a b c d e f g h i", "so a b c d e f g h it is", False),
        ("鸭子每天下十六个蛋她早餐吃三个其余的卖掉", "问：鸭子每天下十六个蛋，她早餐吃三个，其余的卖掉。", True),
    ],
)  # fmt: skip
def test_a_benchmarks_text_among_the_training_rows_fails(
    tasks_of: Callable[..., Settings], tmp_path: Path, benchmark: str, row: str, hit: bool
) -> None:
    bench = written(tmp_path, "bench", [{"task_id": "x/1", "inputs": {"question": benchmark}, "answer": 7}])
    settings = tasks_of({"a": [pair("hello there", "you"), pair(row, "so")]}, data={"contamination": [bench]})
    found = verdicts(contamination, settings)[CONTAMINATION]
    assert found.ok is not hit
    assert ("a: 1 rows hold something of 1 benchmark rows" in found.detail) is hit
    if hit:
        assert found.examples[0].rows[0][0] == "a:a.jsonl:2"
        assert found.examples[0].rows[1][0] == "bench.jsonl:1"


def test_answers_are_looked_for_too_and_held_out_rows_are_not(
    tasks_of: Callable[..., Settings], tmp_path: Path
) -> None:
    rows = [pair(f"q{i}", f"{QUESTION} {i}") for i in range(30)]
    bench = written(tmp_path, "bench", [{"prompt": "p", "canonical_solution": QUESTION}])
    settings = tasks_of({"a": rows}, data={"contamination": [bench], "validation": 0.3, "max_tokens": 256})
    trained = len(prepare(settings).stores[0].split("train", 0.3, 0))
    assert 0 < trained < 30
    assert f"a: {trained} rows" in verdicts(contamination, settings)[CONTAMINATION].detail


def test_what_a_benchmarks_texts_share_is_not_looked_for(tasks_of: Callable[..., Settings], tmp_path: Path) -> None:
    instruction = "Think step by step and give your final answer after four hash marks at the very end of it"
    bench = written(tmp_path, "bench", [{"q": f"{prose(i, 20)} {instruction}"} for i in range(12)])
    few = written(tmp_path, "few", [{"q": f"{prose(i, 20)} {instruction}"} for i in range(3)])
    rows = {"a": [pair(f"hello {instruction}", "you"), pair("x", "y")]}
    assert verdicts(contamination, tasks_of(rows, data={"contamination": [bench]}))[CONTAMINATION].ok
    assert not verdicts(contamination, tasks_of(rows, data={"contamination": [few]}))[CONTAMINATION].ok


def test_rows_that_were_tokenized_elsewhere_are_looked_at_by_their_text(
    tasks_of: Callable[..., Settings], tmp_path: Path, tokenizer_folder: Path
) -> None:
    from weft.data.tokens import Tokenizer

    ids = Tokenizer.load(tokenizer_folder).backend.encode(QUESTION).ids
    bench = written(tmp_path, "bench", [{"q": QUESTION}])
    settings = tasks_of({"a": [{"input_ids": ids}] * 2}, data={"contamination": [bench]})
    assert not verdicts(contamination, settings)[CONTAMINATION].ok


def test_without_a_benchmark_it_is_said_that_none_was_looked_for(make_settings: MakeSettings) -> None:
    found = verdicts(contamination, make_settings())[CONTAMINATION]
    assert found.ok
    assert "no benchmark is given" in found.detail


def test_a_benchmark_that_is_not_there_is_an_error(make_settings: MakeSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        verdicts(contamination, make_settings(data={"contamination": [str(tmp_path / "nowhere.jsonl")]}))


@given(st.lists(st.sampled_from("abc"), max_size=20), st.integers(1, 5))
def test_ngram_hashes_are_equal_where_the_words_are(words: list[str], size: int) -> None:
    hashes = ngram_hashes(words, size).tolist()
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    assert len(hashes) == len(grams)
    assert len(set(hashes)) == len(set(grams))
    assert len(set(zip(hashes, grams, strict=True))) == len(set(grams))


def test_words_are_small_letters_without_punctuation_and_chinese_characters_stand_alone() -> None:
    assert words_of("It's 3.5 MiB, ÜBER_all 你好!") == ("it", "s", "3", "5", "mib", "über", "all", "你", "好")


@pytest.mark.shared
def test_a_real_benchmark_is_found_in_its_own_copy_only(make_settings: MakeSettings, tmp_path: Path) -> None:
    test = need_shared("data", "math", "gsm8k_test.jsonl")
    train = need_shared("data", "math", "gsm8k_train.jsonl").read_text("utf-8").splitlines()[:300]
    copied = test.read_text("utf-8").splitlines()[5]
    (tmp_path / "math.jsonl").write_text("\n".join([*train, copied]) + "\n", "utf-8")
    settings = make_settings(
        tasks={"math": str(tmp_path / "math.jsonl")},
        data={"contamination": [str(test)], "max_tokens": 2048},
        batch={"tokens_per_step": 4096, "tokens_per_micro_batch": 2048},
    )
    found = verdicts(contamination, settings)[CONTAMINATION]
    assert not found.ok
    assert found.examples[0].rows[0][0] == "math:math.jsonl:301"
    assert found.examples[0].rows[1][0] == "gsm8k_test.jsonl:6"
    assert len(index_of(texts([str(test)])).texts) > 2000


# shares


def test_few_trained_tokens_and_a_poor_fit_deserve_a_look(tasks_of: Callable[..., Settings]) -> None:
    rows = {
        "plain": [pair("What is the weft?", "The weft is the thread that is woven across many others.")] * 3,
        "prose": [pair("What is it?", "It is the thread that is woven into one cloth.")] * 3,
        "reader": [pair("The weft is the thread that is woven " * 30, "a")] * 3,
        "emoji": [pair("🙃🙃🙃🙃", "🦆🦆🦆🦆🦆🦆")] * 3,
    }
    settings = tasks_of(
        rows, data={"max_tokens": 1024}, batch={"tokens_per_step": 4096, "tokens_per_micro_batch": 1024}
    )
    found = verdicts(shares, settings)
    assert found[shares.LABELS].careful
    assert "less than 2 % in reader" in found[shares.LABELS].detail
    assert found[shares.TOKENIZER].careful
    assert "far fewer in emoji than in the other tasks" in found[shares.TOKENIZER].detail
    assert all(c.ok for c in found.values())
