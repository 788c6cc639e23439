"""Preparing: nothing twice, nothing half, nothing cut that is trained as whole, and a ledger that adds up."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from weft.config.settings import Settings
from weft.data.keys import digest
from weft.data.prepare import prepare
from weft.data.store import read_rejects
from weft.data.stretches import Encoded
from weft.data.tokens import Tokenizer
from weft.data.work import fit
from weft.errors import DataError
from weft.files import sha256

Make = Callable[..., Settings]
ROWS = [{"prompt": f"What is {i}?", "answer": f"It is {i}."} for i in range(6)]


@pytest.fixture
def base(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A copy of the tokenizer that a test may change."""
    folder = tmp_path / "base"
    shutil.copytree(tokenizer_folder, folder)
    return folder


@pytest.fixture
def make(base: Path, tmp_path: Path) -> Make:
    """Settings of tasks given as rows (or as text, as it stands), with sections laid over them."""

    def build(data: Mapping[str, Any], /, **sections: Any) -> Settings:
        for name, rows in data.items():
            text = rows if isinstance(rows, bytes) else "".join(json.dumps(row) + "\n" for row in rows).encode()
            (tmp_path / f"{name}.jsonl").write_bytes(text)
        values: dict[str, Any] = {
            "model": {"base": str(base)},
            "tasks": {name: {"path": str(tmp_path / f"{name}.jsonl")} for name in data},
            "template": "mftcoder",
            "data": {"max_tokens": 64, "cache": str(tmp_path / "cache")},
            "output": str(tmp_path / "run"),
        }
        for name, section in sections.items():
            old = values.get(name)
            values[name] = {**old, **section} if isinstance(old, dict) and isinstance(section, dict) else section
        return Settings.model_validate(values)

    return build


def keys(settings: Settings) -> dict[str, str]:
    return {store.task: store.folder.name for store in prepare(settings).stores}


# nothing twice


def test_a_second_start_tokenizes_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make({"a": ROWS, "b": ROWS[:2]})
    before = prepare(settings)

    def refuse(*_: object) -> None:
        raise AssertionError("tokenized again")

    monkeypatch.setattr(Tokenizer, "backend", property(refuse))
    monkeypatch.setattr("weft.data.prepare.TaskReader", refuse)
    after = prepare(settings)
    assert after.fingerprint == before.fingerprint
    assert [s.sample(0).ids_T.tolist() for s in after.stores] == [s.sample(0).ids_T.tolist() for s in before.stores]


def _one_byte(settings: Settings) -> Settings:
    file = Path(settings.tasks["a"].path)
    file.write_bytes(file.read_bytes().replace(b"What is 3?", b"What is 4?"))
    return settings


def _another_stop(settings: Settings) -> Settings:
    file = Path(settings.model.base, "tokenizer_config.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token": "<|im_end|>"}))
    return settings


def _another_vocabulary(settings: Settings) -> Settings:
    file = Path(settings.model.base, "tokenizer.json")
    made_of = json.loads(file.read_text("utf-8"))
    made_of["model"]["merges"].pop()
    file.write_text(json.dumps(made_of), "utf-8")
    return settings


def _section(**sections: Any) -> Callable[[Settings], Settings]:
    def change(settings: Settings) -> Settings:
        values = settings.model_dump(by_alias=True)
        for name, section in sections.items():
            values[name].update(section)
        return Settings.model_validate(values)

    return change


CHANGES: dict[str, Callable[[Settings], Settings]] = {
    "one byte of the data": _one_byte,
    "the stop token": _another_stop,
    "the vocabulary": _another_vocabulary,
    "the template": _section(template={"name": "chatml"}),
    "a marker": _section(template={"markers": {"user": "Q: "}}),
    "the system message": _section(template={"system": "Be kind."}),
    "the longest sample": _section(data={"max_tokens": 65}),
    "what becomes of longer ones": _section(data={"too_long": "cut"}),
    "concatenation": _section(data={"packing": "concat"}),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_the_samples_makes_another_store(make: Make, change: str) -> None:
    settings = make({"a": ROWS})
    before = prepare(settings)
    after = prepare(CHANGES[change](settings))
    assert after.fingerprint != before.fingerprint
    assert before.stores[0].folder.is_dir(), "the old one is left alone"


@pytest.mark.parametrize("key", ["format", "train_on"])
def test_how_a_task_is_read_makes_another_store(make: Make, key: str) -> None:
    settings = make({"a": ROWS})
    task = {"path": settings.tasks["a"].path, key: {"format": "pairs", "train_on": "last_answer"}[key]}
    assert keys(settings) != keys(make({"a": ROWS}, tasks={"a": task}))


FREE: dict[str, dict[str, Any]] = {
    "packing": {"data": {"packing": "padding"}},
    "the split": {"data": {"validation": 0.3, "test": 0.1}},
    "the seed": {"seed": 99},
    "the mixture": {"mixture": {"epochs": 9}},
    "the output": {"output": "elsewhere"},
}


@pytest.mark.parametrize("what", FREE)
def test_what_does_not_touch_the_samples_keeps_the_store(make: Make, what: str) -> None:
    assert keys(make({"a": ROWS})) == keys(make({"a": ROWS}, **FREE[what]))


def test_another_tasks_change_leaves_a_tasks_store_alone(make: Make) -> None:
    before, after = keys(make({"a": ROWS, "b": ROWS})), keys(make({"a": ROWS, "b": ROWS[:3]}))
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]


def test_a_file_put_beside_the_others_makes_another_store(make: Make, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    (folder / "x.jsonl").write_text(json.dumps(ROWS[0]) + "\n")
    settings = make({}, tasks={"a": str(folder)})
    before = keys(settings)
    (folder / "y.jsonl").write_text(json.dumps(ROWS[1]) + "\n")
    assert keys(settings) != before
    assert [prepare(settings).stores[0].name(i) for i in (0, 1)] == ["a:x.jsonl:1", "a:y.jsonl:1"]


def test_two_preparations_at_once_end_in_one_store(make: Make, tmp_path: Path) -> None:
    settings = make({"a": ROWS * 200})
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(keys(settings)["a"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert len(set(found)) == 1
    assert [p.name for p in (tmp_path / "cache").iterdir() if p.name != "digests"] == found[:1]


def test_a_file_that_changes_while_it_is_read_is_refused(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = make({"a": ROWS})
    encode = Tokenizer.encode_batch

    def change(self: Tokenizer, *arguments: Any) -> Any:
        with Path(str(settings.tasks["a"].path)).open("a") as file:
            file.write(json.dumps(ROWS[0]) + "\n")
        return encode(self, *arguments)

    monkeypatch.setattr(Tokenizer, "encode_batch", change)
    with pytest.raises(DataError, match=r"a\.jsonl changed while it was read"):
        prepare(settings)
    monkeypatch.undo()
    assert len(prepare(settings).stores[0]) == 7


# digests


def test_a_file_that_has_just_changed_is_not_remembered(tmp_path: Path) -> None:
    """Times of files tick slowly: two changes within a tick look the same from outside."""
    file, cache = tmp_path / "x", tmp_path / "cache"
    file.write_bytes(b"one")

    class Ticking(type(tmp_path)):  # type: ignore[misc]
        def stat(self, **_: Any) -> os.stat_result:
            return at

    at = file.stat()
    assert digest(Ticking(file), cache) == sha256(file)
    file.write_bytes(b"two")
    assert digest(Ticking(file), cache) == sha256(file)


def test_a_digest_is_not_computed_twice_for_a_file_that_rests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "x", tmp_path / "cache"
    file.write_bytes(b"one")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)
    expected = digest(file, cache)
    monkeypatch.setattr("weft.data.keys.sha256", lambda _: pytest.fail("computed again"))
    assert digest(file, cache) == expected


def test_setting_the_time_back_does_not_hide_a_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, cache = tmp_path / "x", tmp_path / "cache"
    file.write_bytes(b"one")
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)
    times = file.stat()
    before = digest(file, cache)
    file.write_bytes(b"two")
    time.sleep(0.02)  # the clock of files ticks every few milliseconds
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert digest(file, cache) != before


# too long


@st.composite
def encodings(draw: st.DrawFn) -> Encoded:
    """Stretches of context (0) and answers, each answer with a weight of its own and context behind it."""
    head = draw(st.sampled_from([100, 1]))  # a control token, or none
    ids, weights = [head], [0.0]
    for number in range(draw(st.integers(1, 3))):
        context, answer = draw(st.integers(0 if number == 0 else 1, 4)), draw(st.integers(1, 4))
        ids += [1] * context + [1000 * (number + 1) + i for i in range(answer)]
        weights += [0.0] * context + [0.5 * (number + 1)] * answer
    tail = draw(st.integers(0, 2))
    return Encoded(np.array([*ids, *[1] * tail], dtype=np.int32), np.array([*weights, *[0.0] * tail], dtype=np.float32))


def answers_of(encoded: Encoded) -> set[tuple[tuple[int, float], ...]]:
    runs, run = set(), []
    for token, weight in [*zip(encoded.ids_T.tolist(), encoded.weight_T.tolist(), strict=True), (0, 0.0)]:
        if weight > 0:
            run.append((token, weight))
        elif run:
            runs.add(tuple(run))
            run = []
    return runs


@settings(max_examples=300, deadline=None, derandomize=True)
@given(encoded=encodings(), limit=st.integers(2, 20))
def test_a_cut_never_trains_a_part_of_an_answer(encoded: Encoded, limit: int) -> None:
    fitted, reason = fit(encoded, limit, "cut", False, frozenset({100}))
    if fitted is None:
        assert reason == "too_long"
        assert len(encoded.ids_T) > limit
        return
    assert answers_of(fitted) <= answers_of(encoded)
    assert fitted.weight_T[0] == 0, "nothing predicts the first token"
    assert len(fitted.ids_T) == min(limit, len(encoded.ids_T))
    assert (reason == "cut") == (len(encoded.ids_T) > limit)
    kept = 1 if encoded.ids_T[0] == 100 and reason == "cut" else 0
    assert fitted.ids_T[:kept].tolist() == encoded.ids_T[:kept].tolist()
    tail = len(fitted.ids_T) - kept
    assert fitted.ids_T[kept:].tolist() == encoded.ids_T[len(encoded.ids_T) - tail :].tolist()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(encoded=encodings(), limit=st.integers(2, 20))
def test_a_cut_keeps_every_answer_that_has_room(encoded: Encoded, limit: int) -> None:
    """The answers that are lost are those that begin before the cut, or right behind it with nothing that leads to them."""
    fitted, _ = fit(encoded, limit, "cut", False, frozenset({100}))
    head = 1 if encoded.ids_T[0] == 100 else 0
    start = len(encoded.ids_T) - limit + head if len(encoded.ids_T) > limit else 0
    begins = {run: encoded.ids_T.tolist().index(run[0][0]) for run in answers_of(encoded)}
    complete = {run for run, begin in begins.items() if begin >= max(start, 1) and (begin > start or start == 0)}
    assert (answers_of(fitted) if fitted else set()) == complete


@settings(max_examples=50, deadline=None, derandomize=True)
@given(encoded=encodings(), limit=st.integers(2, 20))
def test_dropping_keeps_what_fits_as_it_is(encoded: Encoded, limit: int) -> None:
    fitted, reason = fit(encoded, limit, "drop", False, frozenset({100}))
    if len(encoded.ids_T) > limit:
        assert (fitted, reason) == (None, "too_long")
    else:
        assert fitted is not None
        assert [a.tolist() for a in fitted] == [a.tolist() for a in encoded]


def test_a_document_loses_its_end_and_its_stop_token() -> None:
    encoded = Encoded(np.arange(6, dtype=np.int32), np.ones(6, dtype=np.float32))
    fitted, reason = fit(encoded, 4, "cut", True, frozenset())
    assert fitted is not None
    assert (fitted.ids_T.tolist(), fitted.weight_T.tolist(), reason) == ([0, 1, 2, 3], [0, 1, 1, 1], "cut")


def test_a_single_token_trains_nothing() -> None:
    encoded = Encoded(np.array([5], dtype=np.int32), np.array([1.0], dtype=np.float32))
    assert fit(encoded, 4, "drop", True, frozenset()) == (None, "nothing_trained")
    assert encoded.weight_T.tolist() == [1.0], "the given weights are left alone"


def test_long_samples_are_dropped_or_cut_and_counted(make: Make) -> None:
    long = {"prompt": "why? " * 50, "answer": "so."}
    hopeless = {"prompt": "why?", "answer": "so. " * 80}
    rows = [*ROWS, long, hopeless]
    dropped, cut = (prepare(make({"a": rows}, data={"too_long": way})).stores[0] for way in ("drop", "cut"))
    assert (dropped.ledger.used, dict(dropped.ledger.dropped), dropped.ledger.cut) == (6, {"too_long": 2}, 0)
    assert (cut.ledger.used, dict(cut.ledger.dropped), cut.ledger.cut) == (7, {"too_long": 1}, 1)
    assert cut.length_S.max() == 64
    assert cut.name(6) == "a:a.jsonl:7"
    tokenizer = prepare(make({"a": rows})).tokenizer
    ids_T, weight_T = cut.sample(6)
    assert tokenizer.decode(ids_T[weight_T > 0].tolist()) == "so.\n</s>"
    assert [record["row"] for record in read_rejects(dropped)] == ["a:a.jsonl:7", "a:a.jsonl:8"]
    assert {record["reason"] for record in read_rejects(dropped)} == {"too_long"}


def test_a_stream_has_no_longest_sample(make: Make) -> None:
    rows = [{"prompt": "why? " * 50, "answer": "so. " * 80}]
    store = prepare(make({"a": rows}, data={"packing": "concat"})).stores[0]
    assert store.ledger.used == 1
    assert store.length_S[0] > 64


# what can't be used


def test_the_ledger_adds_up(make: Make) -> None:
    turns = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
    rows = [
        *([{"messages": turns}] * 20),
        {"messages": [*turns, turns[0], {**turns[1], "weight": 0}]},  # last_answer: nothing is trained
        {"messages": [*turns[:1], {**turns[1], "content": "word " * 99}]},
        {"messages": turns[:1]},
        {"message": turns},
    ]
    data = "".join(json.dumps(row) + "\n" for row in rows).encode() + b'{"messages": [\n'
    settings = make({"a": data}, data={"max_bad_rows": 0.2})
    settings = _section(tasks={"a": {"path": settings.tasks["a"].path, "train_on": "last_answer"}})(settings)
    store = prepare(settings).stores[0]
    ledger = store.ledger
    assert (ledger.read, ledger.used, ledger.quarantined) == (25, 20, 3)
    assert dict(ledger.dropped) == {"nothing_trained": 1, "too_long": 1}
    assert ledger.read == ledger.used + ledger.quarantined + sum(ledger.dropped.values())
    assert [r["row"].rpartition(":")[2] for r in read_rejects(store)] == ["21", "22", "23", "24", "25"]
    assert ledger.format == "messages"


def test_too_many_bad_rows_are_refused_with_their_places(make: Make) -> None:
    data = "".join(json.dumps(row) + "\n" for row in ROWS).encode() + b"{oops\n" + b'{"prompt": 1, "answer": "x"}\n'
    for _ in range(2):  # the second time the store is there already
        with pytest.raises(DataError) as raised:
            prepare(make({"a": data}))
        assert "2 of 8 rows can't be used (2 quarantined): more than data.max_bad_rows 0.1 allows" in str(raised.value)
        assert "a:a.jsonl:7: bad_json" in str(raised.value)
        assert "a:a.jsonl:8: wrong_type" in str(raised.value)
    assert len(prepare(make({"a": data}, data={"max_bad_rows": 0.25})).stores[0]) == 6


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_an_empty_task_is_refused_by_name(make: Make, data: bytes) -> None:
    with pytest.raises(DataError, match=r"a: no rows in .*a\.jsonl"):
        prepare(make({"a": data}))
    with pytest.raises(DataError, match=r"a.*a\.jsonl.* holds no row"):
        settings = make({"a": data})
        prepare(_section(tasks={"a": {"path": settings.tasks["a"].path, "format": "pairs"}})(settings))


def test_a_task_with_nothing_to_train_is_refused(make: Make) -> None:
    row = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": False}]}
    with pytest.raises(
        DataError, match=r"task a: 1 of 1 rows can't be used .*none is left(.|\n)*a\.jsonl:1: nothing_trained"
    ):
        prepare(make({"a": [row]}))


def test_a_task_whose_rows_are_all_too_long_is_refused(make: Make) -> None:
    row = {"prompt": "q", "answer": "word " * 99}
    with pytest.raises(
        DataError, match=r"1 of 1 rows can't be used \(1 too_long\): none is left(.|\n)*tokens, data\.max_tokens is 64"
    ):
        prepare(make({"a": [row]}))


def test_the_faults_of_all_tasks_are_told_at_once(make: Make) -> None:
    with pytest.raises(DataError) as raised:
        prepare(make({"a": b"{", "b": ROWS, "c": b""}))
    assert "tasks.a" in str(raised.value)
    assert "tasks.c" in str(raised.value)


def test_a_file_that_ends_early_is_refused_for_nobody_knows_what_is_lost(make: Make, tmp_path: Path) -> None:
    text = json.dumps(ROWS)[:-9]
    (tmp_path / "cut.json").write_text(text)
    with pytest.raises(DataError, match=r"task a: the rest of a file can't be read.*cut\.json: truncated_file"):
        prepare(make({}, tasks={"a": str(tmp_path / "cut.json")}))
    assert not list((tmp_path / "cache").glob("*a-*")), "no store is left of it"


def test_rows_that_the_template_refuses_are_quarantined(make: Make, base: Path) -> None:
    (base / "chat_template.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content.split('@')[0] }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{{ 'assistant\n' }}{% endif %}"
    )
    rows = [*ROWS * 3, {"prompt": "a@b", "answer": "c"}]
    store = prepare(make({"a": rows}, template="tokenizer")).stores[0]
    assert (store.ledger.used, store.ledger.quarantined) == (18, 1)
    assert [record["reason"] for record in read_rejects(store)] == ["template"]


def test_progress_is_told(make: Make) -> None:
    told: list[Any] = []
    prepare(make({"a": ROWS}), told.append)
    size = Path(str(make({"a": ROWS}).tasks["a"].path)).stat().st_size
    assert [(progress.what, progress.done, progress.unit) for progress in told][-1] == ("prepare a", size, "bytes")
    assert told[0].note.startswith("6 rows, ")


def test_a_base_that_is_nowhere_is_told_quickly(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = time.monotonic()
    with pytest.raises(DataError, match=r"model\.base: no-such/model is no folder here"):
        prepare(make({"a": ROWS}, model={"base": "no-such/model"}))
    assert time.monotonic() - started < 5


# preference rows


def test_pairs_keep_both_answers_and_can_not_be_trained_on(make: Make) -> None:
    turn = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": "Go on"},
    ]
    rows = [{"prompt": turn, "chosen": "good", "rejected": f"bad {i}"} for i in range(6)]
    prepared = prepare(make({"a": rows}))
    (store,) = prepared.stores
    sides = store.preferences
    assert sides is not None
    for index in range(6):
        chosen, rejected = store.sample(index), sides.rejected(index)
        texts = [prepared.tokenizer.decode(side.ids_T[side.weight_T > 0].tolist()) for side in (chosen, rejected)]
        assert [text.split("\n")[0] for text in texts] == ["good", f"bad {index}"], (
            "what they share counts on neither side"
        )
        assert sides.desirable(index)
    with pytest.raises(DataError, match=r"set tasks\.a\.preference: chosen"):
        prepared.refuse_preferences()
    chosen_only = make(
        {"a": rows}, tasks={"a": {"path": str(make({"a": rows}).tasks["a"].path), "preference": "chosen"}}
    )
    assert prepare(chosen_only).stores[0].preferences is None


MIXED = """
def read(row):
    from weft.types import Conversation, Message
    def turns(answer):
        return Message("user", row["q"]), Message("assistant", answer)
    return Conversation(turns("good"), rejected=turns("bad") if row["pair"] else ())
"""


def test_pairs_behind_plain_rows_stay_beside_their_own_samples(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mixed_rows.py").write_text(MIXED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("weft.data.work._BATCH_ROWS", 4)
    rows = [{"q": f"{i}?", "pair": i >= 10} for i in range(14)]
    path = str(make({"a": rows}).tasks["a"].path)
    (store,) = prepare(make({"a": rows}, tasks={"a": {"path": path, "format": "mixed_rows:read"}})).stores
    assert store.preferences is not None
    lengths = [len(store.preferences.rejected(index).ids_T) for index in range(14)]
    assert lengths[:10] == [0] * 10
    assert all(lengths[10:])


def test_what_is_left_out_on_purpose_is_no_bad_row(make: Make) -> None:
    rows = [
        {"messages": [{"role": "user", "content": f"{i}"}, {"role": "assistant", "content": "a"}], "label": i % 2 == 0}
        for i in range(20)
    ]
    path = str(make({"a": rows}).tasks["a"].path)
    (store,) = prepare(make({"a": rows}, tasks={"a": {"path": path, "preference": "chosen"}})).stores
    assert (store.ledger.used, store.ledger.quarantined, dict(store.ledger.dropped)) == (10, 0, {"undesirable": 10})
