"""Formats of one question and one answer, of code, and of tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.rows import S, reason_of, turns
from weft.config.settings import TaskSettings
from weft.data.formats import by_name
from weft.data.formats.pairs import PAIRS
from weft.data.formats.spider import bind, create_tables
from weft.errors import ConfigError
from weft.types import FIM_ROLES, Conversation, JsonValue, Message, Tokens


@pytest.mark.parametrize(("prompt", "answer"), PAIRS)
def test_every_pair_is_read_unstripped_with_and_without_system(prompt: str, answer: str) -> None:
    row: dict[str, JsonValue] = {prompt: " a\n", answer: "b \n", "id": 7}
    assert by_name("pairs").convert(row) == turns(" a\n", "b \n")
    for empty in ("", None):
        assert by_name("pairs").convert({**row, "system": empty}) == turns(" a\n", "b \n")
    for system in ("system", "system_prompt"):
        assert by_name("pairs").convert({**row, system: "s"}).messages[0] == S


def test_pairs_are_tried_in_mftcoders_order() -> None:
    everything: dict[str, JsonValue] = dict(
        zip(["prompt", "answer", "response", "output", "question", "query"], "parOqy", strict=True)
    )
    convert = by_name("pairs").convert
    assert convert(everything) == turns("p", "a")
    del everything["answer"]
    assert convert(everything) == turns("p", "r")
    del everything["prompt"]
    assert convert(everything) == turns("q", "r")


@pytest.mark.parametrize(
    "row",
    [
        {"instruction": "a", "context": "c", "response": "b"},
        {"instruction": "a", "input": "c", "output": "b"},
        {"question": "a", "answer": "b", "context": ["c"]},
        {"prompt": "a", "answer": "b", "history": [["c", "d"]]},
        {"prompt": "a", "answer": "b", "tools": [{"name": "f"}]},
        {"prompt": "a", "answer": "b", "functions": '[{"name": "f"}]'},
        {"prompt": "a", "answer": "b", "documents": [{"text": "c"}]},
    ],
)
def test_a_pair_never_leaves_a_part_of_the_prompt_out(row: JsonValue) -> None:
    assert reason_of("pairs", row) == "unused_text"


@pytest.mark.parametrize("nothing", [None, "", " ", [], {}, "[]", " null"])
@pytest.mark.parametrize("key", ["context", "history", "tools", "documents"])
def test_a_column_with_nothing_in_it_is_no_part_of_the_prompt(key: str, nothing: JsonValue) -> None:
    assert by_name("pairs").convert({"prompt": "a", "answer": "b", key: nothing}) == turns("a", "b")


@pytest.mark.parametrize("key", ["context", "tools", "documents"])
def test_alpaca_never_leaves_a_part_of_the_prompt_out(key: str) -> None:
    assert reason_of("alpaca", {"instruction": "a", "output": "b", key: ["c"]}) == "unused_text"


@pytest.mark.parametrize("key", ["context", "history"])
def test_a_prompt_of_messages_never_leaves_a_part_of_the_prompt_out(key: str) -> None:
    asked: list[JsonValue] = [{"role": "user", "content": "a"}]
    assert reason_of("prompt_messages", {"prompt": asked, "completion": "b", key: ["c"]}) == "unused_text"


@pytest.mark.parametrize("key", ["images", "image", "videos", "video", "audios", "audio"])
@pytest.mark.parametrize("name", ["pairs", "preference", "text"])
def test_rows_with_more_than_text_are_refused_whatever_their_format(name: str, key: str) -> None:
    row: dict[str, JsonValue] = {"prompt": "a", "answer": "b", "chosen": "b", "rejected": "c", "text": "d"}
    if name == "pairs":
        del row["chosen"], row["rejected"]
    assert reason_of(name, {**row, key: ["a.png"]}) == "unsupported_part"
    assert by_name(name).convert({**row, key: []})


@pytest.mark.parametrize(
    ("row", "prompt"),
    [
        ({"instruction": "a", "input": "b"}, "a\nb"),
        ({"instruction": "a ", "input": ""}, "a "),
        ({"instruction": "a", "input": None}, "a"),
        ({"instruction": "a"}, "a"),
        ({"instruction": "", "input": "b"}, "b"),
    ],
)
def test_alpaca_joins_instruction_and_input(row: dict[str, JsonValue], prompt: str) -> None:
    assert by_name("alpaca").convert({**row, "output": "c"}) == turns(prompt, "c")


def test_alpaca_reads_history_and_system() -> None:
    row: JsonValue = {"instruction": "c", "output": "d", "history": [["a", "b"]], "system": "s"}
    assert by_name("alpaca").convert(row) == Conversation((S, *turns("a", "b", "c", "d").messages))
    assert by_name("alpaca").convert({**row, "history": []}) == Conversation((S, *turns("c", "d").messages))
    for history in ("x", [["a"]], [["a", 1]], [{"a": "b"}]):
        assert reason_of("alpaca", {"instruction": "c", "output": "d", "history": history}) == "wrong_type"


def test_alpaca_with_a_second_answer_is_read_if_both_say_the_same() -> None:
    assert by_name("alpaca").convert({"instruction": "a", "output": "b", "response": "b"}) == turns("a", "b")
    assert by_name("alpaca").convert({"instruction": "a", "output": "b", "response": None}) == turns("a", "b")
    assert reason_of("alpaca", {"instruction": "a", "output": "b", "response": "c"}) == "two_answers"


def test_a_seed_task_has_one_instance() -> None:
    one = {"input": "x", "output": "b"}
    assert by_name("alpaca").convert({"instruction": "a", "instances": [one]}) == turns("a\nx", "b")
    assert reason_of("alpaca", {"instruction": "a", "instances": [one, one]}) == "several_instances"
    for instances in ([], "x", ["x"], None):
        assert reason_of("alpaca", {"instruction": "a", "instances": instances}) == "wrong_type"


# messages as a prompt, reinforcement learning


@pytest.mark.parametrize(
    ("row", "answer"),
    [
        ({"completion": [{"role": "assistant", "content": "b"}]}, "b"),
        ({"completion": "b"}, "b"),
        ({"reward_model": {"ground_truth": "72"}, "extra_info": {"answer": "b\n#### 72"}}, "b\n#### 72"),
        ({"reward_model": {"ground_truth": "72"}, "extra_info": {"index": 0}}, "72"),
        ({"reward_model": {"ground_truth": 72}}, "72"),
    ],
)
def test_a_prompt_of_messages_has_its_answer_beside_it(row: dict[str, JsonValue], answer: str) -> None:
    asked: dict[str, JsonValue] = {"prompt": [{"role": "user", "content": "a"}], **row}
    assert by_name("prompt_messages").convert(asked) == turns("a", answer)


def test_a_prompt_of_messages_without_a_written_answer_is_told() -> None:
    asked: dict[str, JsonValue] = {"prompt": [{"role": "user", "content": "a"}]}
    assert reason_of("prompt_messages", {**asked, "reward_model": {"style": "model"}}) == "missing_key"
    assert reason_of("prompt_messages", {**asked, "reward_model": {"ground_truth": ["1"]}}) == "wrong_type"


# code


def test_infilling_keeps_both_sides_apart() -> None:
    row = {"prompt": "x = ", "suffix": "\n", "canonical_solution": "1"}
    gap = Conversation((Message(FIM_ROLES[0], "x = "), Message(FIM_ROLES[1], "\n"), Message("assistant", "1")))
    assert by_name("infilling").convert(row) == gap
    assert by_name("infilling").convert({"prefix": "x = ", "suffix": "\n", "middle": "1"}) == gap
    assert by_name("infilling").convert({**row, "canonical_solution": "\n "}).messages[2].content == "\n "
    assert reason_of("infilling", {**row, "canonical_solution": ""}) == "empty_answer"


def test_code_translation_says_the_language() -> None:
    row = {"task_id": "CPP/1", "prompt": "x = 1", "canonical_solution": "int x = 1;", "desc_en": "", "Difficulty": ""}
    assert by_name("code_trans").convert(row) == turns("Translate this code to C++:\nx = 1", "int x = 1;")
    assert (
        by_name("code_trans")
        .convert({**row, "task_id": "Java/2"})
        .messages[0]
        .content.startswith("Translate this code to Java:")
    )
    assert reason_of("code_trans", {**row, "task_id": "17"}) == "missing_key"
    assert reason_of("code_trans", {**row, "prompt": " "}) == "empty_prompt"


def test_code_is_read_as_it_stands() -> None:
    assert by_name("humaneval").convert({"prompt": "def f():\n", "canonical_solution": "    pass\r\n"}) == turns(
        "def f():\n", "    pass\r\n"
    )
    assert by_name("nl2code").convert({"nl": "a", "code": "b"}) == turns("a", "b")
    assert reason_of("nl2code", {"nl": "a", "code": ""}) == "empty_answer"
    mbpp = by_name("nl2code").convert({"text": "a", "code": "b\r\n", "test_list": ["assert f()", "assert g()"]})
    assert mbpp == turns("a\nYour code should pass these tests:\nassert f()\nassert g()", "b\r\n")
    assert by_name("nl2code").convert({"text": "a", "code": "b", "test_list": []}) == turns("a", "b")
    for tests in ("x", [1]):
        assert reason_of("nl2code", {"text": "a", "code": "b", "test_list": tests}) == "wrong_type"
    leetcode = by_name("leetcode").convert({"description": "a\n", "func_name": "f", "python_solution": "b"})
    assert leetcode == turns("a\n\nWrite it in Python as the method `f` of a class `Solution`.", "b")


def test_code_search_is_a_question_with_yes_or_no() -> None:
    row: dict[str, JsonValue] = {"doc": "q", "code": "c"}
    asked = "Query: q\nCode:\nc\nDoes the code answer the query? Say yes or no."
    assert by_name("code_search").convert({**row, "label": 1}) == turns(asked, "yes")
    assert by_name("code_search").convert({**row, "label": 0}) == turns(asked, "no")
    for label in (2, "1", True, None):
        assert reason_of("code_search", {**row, "label": label}) == "bad_label"


# Spider


DATABASE: dict[str, Any] = {
    "db_id": "school",
    "table_names_original": ["pupil", "class room"],
    "column_names_original": [[-1, "*"], [0, "id"], [0, "room"], [1, "id"], [1, "in use?"]],
    "column_types": ["text", "number", "number", "number", "text"],
    "primary_keys": [1, [3, 4]],
    "foreign_keys": [[2, 3]],
}
DDL = """CREATE TABLE pupil (
  id number,
  room number,
  PRIMARY KEY (id),
  FOREIGN KEY (room) REFERENCES "class room" (id)
);
CREATE TABLE "class room" (
  id number,
  "in use?" text,
  PRIMARY KEY (id, "in use?")
);"""
ASKED: dict[str, JsonValue] = {"db_id": "school", "question": "How many pupils?", "query": "SELECT count(*) FROM pupil"}


def test_tables_are_written_as_sql() -> None:
    assert create_tables(DATABASE) == DDL


def test_sql_that_was_written_parses() -> None:
    import sqlite3

    base = sqlite3.connect(":memory:")
    base.executescript(DDL)
    assert base.execute("SELECT count(*) FROM pupil").fetchone() == (0,)


@pytest.mark.parametrize("named", [True, False])
def test_spider_is_asked_with_the_tables(tmp_path: Path, named: bool) -> None:
    (tmp_path / "dev_tables.json").write_text(json.dumps([DATABASE]))
    schemas = str(tmp_path / "dev_tables.json") if named else None
    bound = bind("t", TaskSettings(path="x", schemas=schemas), [Path("y") if named else tmp_path / "dev.json"])
    assert bound.needs == (tmp_path / "dev_tables.json",)
    assert bound.convert(ASKED) == turns(f"{DDL}\n\nHow many pupils?", "SELECT count(*) FROM pupil")


def test_spider_is_never_asked_without_tables(tmp_path: Path) -> None:
    assert reason_of("spider", ASKED) == "no_schema"
    assert by_name("spider").convert({**ASKED, "schema": "CREATE TABLE pupil (id);"}) == turns(
        "CREATE TABLE pupil (id);\n\nHow many pupils?", "SELECT count(*) FROM pupil"
    )
    assert bind("t", TaskSettings(path="x"), [tmp_path / "dev.json"]).needs == ()
    (tmp_path / "a_tables.json").write_text(json.dumps([DATABASE]))
    (tmp_path / "tables.json").write_text(json.dumps([DATABASE]))
    with pytest.raises(ConfigError, match=r"tasks\.t\.schemas: there are several"):
        bind("t", TaskSettings(path="x"), [tmp_path / "dev.json"])


@pytest.mark.parametrize(
    "content",
    ["{", "{}", "[]", "[3]", '[{"db_id": "a"}]', '[{"db_id": "a", "table_names_original": 3}]', "[" * 100_000]
    + [json.dumps([{**DATABASE, key: value}]) for key, value in (("column_types", []), ("foreign_keys", [[2, 99]]))],
)
def test_tables_that_can_not_be_read_are_told_with_the_setting(tmp_path: Path, content: str) -> None:
    (tmp_path / "tables.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tasks\.t\.schemas: .*tables\.json"):
        bind("t", TaskSettings(path="x", schemas=str(tmp_path / "tables.json")), [])


# tokens


@pytest.mark.parametrize(
    ("row", "ids", "weights"),
    [
        ({"input_ids": [5, 6, 7]}, (5, 6, 7), (1.0, 1.0, 1.0)),
        ({"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, (5, 6, 7), (0.0, 1.0, 1.0)),
        ({"input_ids": [5, 6, 7], "loss_mask": [0, 1, 0]}, (5, 6, 7), (0.0, 1.0, 0.0)),
        ({"input_ids": [5, 6, 7], "loss_mask": [0, 0.5, 1]}, (5, 6, 7), (0.0, 0.5, 1.0)),
        ({"input_ids": [5, 6, 7], "labels": [-100, 6, 7], "loss_mask": [1, 1, 0]}, (5, 6, 7), (0.0, 1.0, 0.0)),
        ({"input_ids": [5, 6, 0], "attention_mask": [1, 1, 0]}, (5, 6), (1.0, 1.0)),
        ({"input_ids": [0, 5, 6], "attention_mask": [0, 1, 1], "labels": [-100, -100, 6]}, (5, 6), (0.0, 1.0)),
        ({"input_ids": [5, 6], "labels": None, "attention_mask": [True, True]}, (5, 6), (1.0, 1.0)),
    ],
)
def test_tokens_carry_their_weights(row: JsonValue, ids: tuple[int, ...], weights: tuple[float, ...]) -> None:
    assert by_name("tokens").convert(row) == Conversation((), tokens=Tokens(ids, weights))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"input_ids": []}, "empty_text"),
        ({"input_ids": "5 6"}, "wrong_type"),
        ({"input_ids": [5, "6"]}, "wrong_type"),
        ({"input_ids": [5, True]}, "wrong_type"),
        ({"input_ids": [5, 2**40]}, "wrong_type"),
        ({"input_ids": [5, -1]}, "bad_tokens"),
        ({"input_ids": [5, 6, 7], "labels": [6, 7, -100]}, "bad_labels"),
        ({"input_ids": [5, 6, 7], "labels": [-100, 6]}, "bad_tokens"),
        ({"input_ids": [5, 6, 7], "loss_mask": [0, 1, "1"]}, "wrong_type"),
        ({"input_ids": [5, 6, 7], "loss_mask": [0, 1, -1]}, "wrong_type"),
        ({"input_ids": [5, 6, 7], "attention_mask": [1, 0, 1]}, "bad_tokens"),
        ({"input_ids": [5, 6], "attention_mask": [0, 0]}, "empty_text"),
        ({"input_ids": [5, 6], "labels": [-100, -100]}, "nothing_trained"),
        ({"input_ids": [5, 6], "labels": [5, -100]}, "nothing_trained"),
    ],
)
def test_tokens_that_contradict_themselves_are_refused(row: JsonValue, reason: str) -> None:
    assert reason_of("tokens", row) == reason
