"""A task to conversations: one format a task, every row accounted for, its meaning hashed, its text kept to be mended."""

from __future__ import annotations

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.rows import A, U, json_values
from weft.config.settings import TaskSettings
from weft.data import formats
from weft.data.formats import RowError
from weft.data.read import CHOSEN_AWAY, SAMPLE_ROWS, ReadRow, meaning_hash, needed_files, read_task, task_files
from weft.data.sources import chunks
from weft.errors import ConfigError, DataError
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message, Reject, RowId, Tokens, ToolCall

PAIR: JsonValue = {"question": "a", "answer": "b"}
ALPACA: JsonValue = {"instruction": "a", "input": "b", "output": "c"}


def write(path: Path, rows: Sequence[JsonValue]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path, format: str = "auto", **settings: Any) -> tuple[str, list[ReadRow], list[Reject]]:
    reader = read_task("t", TaskSettings(path=str(path), format=format, **settings))
    name = reader.format_name
    entries = list(reader)
    return name, [e for e in entries if isinstance(e, ReadRow)], [e for e in entries if isinstance(e, Reject)]


def test_rows_come_in_the_order_of_files_and_lines_the_sample_included(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl"):
        write(tmp_path / name, [{"question": f"{name} {n}", "answer": "x"} for n in range(SAMPLE_ROWS + 20)])
    name, accepted, rejected = read(tmp_path)
    assert (name, rejected) == ("pairs", [])
    assert [row.id for row in accepted] == [
        RowId(f, n) for f in ("a.jsonl", "b.jsonl") for n in range(1, SAMPLE_ROWS + 21)
    ]
    assert all(row.conversation.messages[0].content == f"{row.id.file} {row.id.line - 1}" for row in accepted)


def test_the_format_is_never_changed_for_a_row(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [ALPACA, ALPACA, PAIR, {"x": 1}, ALPACA, [1]])
    name, accepted, rejected = read(tmp_path)
    assert (name, len(accepted)) == ("alpaca", 3)
    assert [(reject.row.line, reject.reason) for reject in rejected] == [
        (3, "wrong_format"),
        (4, "wrong_format"),
        (6, "wrong_format"),
    ]
    assert rejected[0].detail == "expected alpaca, found {'question', 'answer'}; it would fit pairs"
    assert rejected[1].detail == "expected alpaca, found {'x'}"


def test_a_pair_task_does_not_read_alpaca_rows_by_half(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [PAIR, PAIR, PAIR, ALPACA, {"instruction": "a", "output": "b"}])
    name, accepted, rejected = read(tmp_path)
    assert (name, len(accepted)) == ("pairs", 4)
    assert [(reject.row.line, reject.reason) for reject in rejected] == [(4, "wrong_format")]


def test_a_named_format_is_taken_at_its_word(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"text": "a", "label": 1}, {"x": 1}, {"text": None, "label": 0}])
    with pytest.raises(DataError, match="no known format"):
        read(tmp_path)
    name, accepted, rejected = read(tmp_path, "text")
    assert (name, [row.conversation for row in accepted]) == ("text", [Conversation((Message(TEXT_ROLE, "a"),))])
    assert [reject.reason for reject in rejected] == ["wrong_format", "wrong_type"]


def test_a_wrong_value_has_its_own_reason(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [PAIR, {"question": None, "answer": "b"}, {"question": "a", "answer": ""}, {"question": " ", "answer": "b"}],
    )
    _, accepted, rejected = read(tmp_path)
    assert len(accepted) == 1
    assert [reject.reason for reject in rejected] == ["wrong_type", "empty_answer", "empty_prompt"]
    assert rejected[0].detail == "'question' is null; expected a string"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "no rows"),
        (b"\n\n", "no rows"),
        (b"[]\n{\n", "no known format|fits"),
        (b"{\n{\n", "bad_json 2"),
        (b"\xff\xfe{\0}\0", "UTF-16"),
    ],
)
def test_a_task_without_a_usable_row_is_an_error_with_its_name(tmp_path: Path, data: bytes, told: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(data)
    with pytest.raises(DataError, match=told) as raised:
        read(tmp_path)
    assert "tasks.t" in str(raised.value)


def test_missing_paths_and_formats_are_told_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"tasks\.t\.path"):
        read(tmp_path / "absent")
    write(tmp_path / "a.jsonl", [PAIR])
    with pytest.raises(ConfigError, match=r"tasks\.t\.format.*pairs"):
        read(tmp_path, "pair")


def test_a_sample_begins_with_bad_lines_and_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"{\n" * 500 + json.dumps(PAIR).encode())
    name, accepted, rejected = read(tmp_path)
    assert (name, len(accepted), len(rejected)) == ("pairs", 1, 500)


LINES = [
    b"{",
    b"[1]",
    b'{"question":"a","answer":"b"}',
    b'{"question":"a","answer":3}',
    b'{"text":"x"}',
    b"\xff",
    b"",
    b"\r",
    b'{"a":1,"a":1}',
]


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lines=st.lists(
        st.one_of(st.sampled_from(LINES), st.binary(max_size=40).map(lambda data: data.replace(b"\n", b""))),
        max_size=30,
    )
)
def test_read_is_accepted_and_rejected(tmp_path: Path, lines: list[bytes]) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"x\n" + b"\n".join(lines))
    not_blank = [n for n, line in enumerate([b"x", *lines], 1) if line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")]
    try:
        _, accepted, rejected = read(tmp_path)
    except DataError:
        return
    assert sorted([row.id.line for row in accepted] + [reject.row.line for reject in rejected]) == not_blank


# chunks, and what a worker was told


def test_the_rows_of_all_chunks_are_the_rows_of_the_task(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"question": f"a {n}", "answer": "x" if n % 7 else ""} for n in range(300)])
    whole = read_task("t", TaskSettings(path=str(tmp_path)))
    told = read_task("t", TaskSettings(path=str(tmp_path)), whole.format_name)
    assert told.format_name == "pairs"
    pieces = chunks(told.files[0], 1000)
    assert len(pieces) > 5
    assert [entry for chunk in pieces for entry in told.rows(chunk)] == list(whole)


def test_the_position_of_a_chunk_grows_to_its_size(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [PAIR] * 1000)
    reader = read_task("t", TaskSettings(path=str(tmp_path)))
    (chunk,) = chunks(reader.files[0])
    rows = reader.rows(chunk)
    next(rows)
    first = rows.position
    assert len(list(rows)) == 999
    assert first <= rows.position == chunk.stop


def test_a_worker_that_was_told_the_format_does_not_look_again(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"x": 1}, PAIR])
    reader = read_task("t", TaskSettings(path=str(tmp_path)), "alpaca")
    assert [entry.reason for entry in reader if isinstance(entry, Reject)] == ["wrong_format"] * 2
    by_columns = TaskSettings(path=str(tmp_path), columns={"user": "question", "assistant": "answer"})
    assert read_task("t", by_columns, "columns").format_name == "columns"


# rejected rows


def test_a_rejected_row_keeps_its_value(tmp_path: Path) -> None:
    bad: list[JsonValue] = [{"question": "a", "answer": ""}, {"x": [1]}]
    write(tmp_path / "a.jsonl", [PAIR, PAIR, *bad])
    assert [reject.raw for reject in read(tmp_path)[2]] == bad


def record(raw: JsonValue) -> JsonValue:
    return {"row": "t:a.jsonl:3", "reason": "empty_answer", "detail": "the answer is empty", "raw": raw}


def test_quarantined_records_are_read_again_as_the_rows_they_hold(tmp_path: Path) -> None:
    rows: list[JsonValue] = [record(PAIR), record(json.dumps(PAIR)), PAIR]
    write(tmp_path / "a.jsonl", rows)
    name, accepted, rejected = read(tmp_path)
    assert (name, rejected) == ("pairs", [])
    assert [row.conversation for row in accepted] == [Conversation((U, A))] * 3
    assert len({row.hash for row in accepted}) == 1


def test_a_record_that_was_not_mended_is_rejected_again_as_it_stood(tmp_path: Path) -> None:
    write(
        tmp_path / "a.jsonl",
        [PAIR, record({"question": "a", "answer": ""}), record('{"question": '), record(""), record(3)],
    )
    rejected = read(tmp_path)[2]
    assert [(reject.reason, reject.raw) for reject in rejected] == [
        ("empty_answer", {"question": "a", "answer": ""}),
        ("bad_json", '{"question": '),
        ("bad_json", ""),
        ("not_an_object", 3),
    ]


def test_a_row_with_other_keys_is_no_record(tmp_path: Path) -> None:
    fuller = {**record(PAIR), "question": "a", "answer": "c"}  # type: ignore[dict-item]
    write(tmp_path / "a.jsonl", [fuller])
    assert read(tmp_path)[1][0].conversation.messages[1].content == "c"


# preferences


def test_preferences_are_kept_or_the_chosen_answer_is_imitated(tmp_path: Path) -> None:
    said: JsonValue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    write(tmp_path / "a.jsonl", [{"messages": said, "label": True}, {"messages": said, "label": False}])
    pairs = [row.conversation.desirable for row in read(tmp_path)[1]]
    assert pairs == [True, False]
    _, accepted, rejected = read(tmp_path, preference="chosen")
    assert [row.conversation for row in accepted] == [Conversation((U, A))]
    assert [reject.reason for reject in rejected] == ["undesirable"]
    write(tmp_path / "a.jsonl", [{"prompt": "a", "chosen": "b", "rejected": "c"}])
    assert read(tmp_path)[1][0].conversation.rejected == (U, Message("assistant", "c"))
    assert read(tmp_path, preference="chosen")[1][0].conversation == Conversation((U, A))


def test_disliked_answers_that_come_late_are_not_trained_as_good_ones(tmp_path: Path) -> None:
    good: list[JsonValue] = [{"prompt": f"a {n}", "completion": "b"} for n in range(SAMPLE_ROWS + 20)]
    bad: list[JsonValue] = [{"prompt": f"c {n}", "completion": "b", "label": False} for n in range(10)]
    write(tmp_path / "a.jsonl", [*good, *bad])
    name, accepted, rejected = read(tmp_path)
    assert (name, len(accepted)) == ("pairs", SAMPLE_ROWS + 20)
    assert [reject.reason for reject in rejected] == ["preference_row"] * 10
    assert "format: preference" in rejected[0].detail


def left_out(row: JsonValue) -> None:
    """A user's own function that wants no row."""


def test_rows_that_someone_chose_away_are_told_from_bad_ones(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [{"prompt": "a", "completion": "b", "label": False}, {"prompt": "a", "label": True}])
    rejected = read(tmp_path, "preference", preference="chosen")[2]
    assert [reject.reason in CHOSEN_AWAY for reject in rejected] == [True, False]
    assert [reject.reason in CHOSEN_AWAY for reject in read(tmp_path, f"{__name__}:left_out")[2]] == [True, True]


# Spider's tables


ASKED: JsonValue = {"db_id": "d", "question": "How many?", "query": "SELECT count(*) FROM t"}
TABLES: JsonValue = [
    {
        "db_id": "d",
        "table_names_original": ["t"],
        "column_names_original": [[-1, "*"], [0, "a"]],
        "column_types": ["text", "text"],
        "primary_keys": [],
        "foreign_keys": [],
    }
]


def test_a_file_of_tables_beside_the_rows_is_their_ground_and_holds_no_rows(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps([ASKED, {**ASKED, "db_id": "other"}]))  # type: ignore[dict-item]
    (tmp_path / "tables.json").write_text(json.dumps(TABLES))
    for path in (tmp_path, tmp_path / "dev.json"):
        task = TaskSettings(path=str(path))
        reader = read_task("t", task)
        assert [file.name for file in reader.files] == ["dev.json"]
        assert reader.format_name == "spider"
        assert reader.needs == (tmp_path / "tables.json",)
        assert needed_files(task, reader.files) == [tmp_path / "tables.json"]
        first, second = reader
        assert isinstance(first, ReadRow)
        assert first.conversation.messages[0].content == "CREATE TABLE t (\n  a text\n);\n\nHow many?"
        assert isinstance(second, Reject)
        assert second.reason == "no_schema"


def test_the_setting_names_the_tables_wherever_they_lie(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows/dev.json").write_text(json.dumps([ASKED]))
    (tmp_path / "rows/schema.json").write_text(json.dumps(TABLES))
    task = TaskSettings(path=str(tmp_path / "rows"), schemas=str(tmp_path / "rows/schema.json"))
    assert [file.name for file in task_files("t", task)] == ["dev.json"]
    reader = read_task("t", task)
    assert [type(entry) for entry in reader] == [ReadRow]
    assert list(reader.needs) == needed_files(task, reader.files) == [tmp_path / "rows/schema.json"]


@pytest.mark.parametrize("name", ["absent.json", "folder", "~nobody-here/x.json", "x" * 300])
def test_tables_that_are_named_and_not_there_are_told_with_the_setting(tmp_path: Path, name: str) -> None:
    (tmp_path / "folder").mkdir()
    write(tmp_path / "a.jsonl", [PAIR])
    schemas = name if name.startswith("~") else f"{tmp_path}/{name}"
    with pytest.raises(DataError, match=r"tasks\.t\.schemas: .*(absent|folder|nobody|xxx)"):
        task_files("t", TaskSettings(path=str(tmp_path / "a.jsonl"), schemas=schemas))


def test_without_tables_the_task_is_refused_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text(json.dumps([ASKED]))
    with pytest.raises(ConfigError, match=r"tasks\.t\.schemas: .*columns: \{user: question, assistant: query\}"):
        read(tmp_path)
    with pytest.raises(ConfigError, match=r"tasks\.t\.schemas"):
        read(tmp_path, "spider")
    name, accepted, _ = read(tmp_path, columns={"user": "question", "assistant": "query"})
    assert (name, len(accepted)) == ("columns", 1)


def test_a_file_of_tables_alone_holds_nothing_to_learn(tmp_path: Path) -> None:
    (tmp_path / "tables.json").write_text(json.dumps(TABLES))
    with pytest.raises(DataError, match="descriptions of databases"):
        read(tmp_path)


# the hash of the meaning


def test_rows_that_mean_the_same_have_one_hash_whatever_their_format(tmp_path: Path) -> None:
    rows: list[JsonValue] = [
        {"id": 1, "prompt": "a", "answer": "b"},
        {"answer": "b", "prompt": "a"},
        {"instruction": "a", "input": "", "output": "b"},
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0.5}]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "tools": "[]"},
    ]
    hashes = set()
    for number, row in enumerate(rows):
        write(tmp_path / f"{number}.jsonl", [row])
        hashes.add(read(tmp_path / f"{number}.jsonl")[1][0].hash)
    assert len(hashes) == 1


CALL = Message("assistant", "", tool_calls=(ToolCall("f", {"x": 1}, "id"),))
DIFFERENT = [
    Conversation((U, A)),
    Conversation((U, Message("assistant", "c"))),
    Conversation((Message("user", "ab"), Message("assistant", ""))),
    Conversation((Message("user", "a1assistant b"),)),
    Conversation((Message("system", "a"), A)),
    Conversation((U, A._replace(reasoning="hm"))),
    Conversation((U, A), ({"type": "function", "function": {"name": "f"}},)),
    Conversation((U, A), (), ({"title": "t"},)),
    Conversation((U, A), rejected=(U, Message("assistant", "c"))),
    Conversation((U, A), rejected=(U, Message("assistant", "d"))),
    Conversation((U, A), desirable=True),
    Conversation((U, A), desirable=False),
    Conversation((U, CALL)),
    Conversation((U, CALL._replace(tool_calls=(ToolCall("g", {"x": 1}, "id"),)))),
    Conversation((U, CALL._replace(tool_calls=(ToolCall("f", {"x": 2}, "id"),)))),
    Conversation((U, CALL, Message("tool", "t", name="f"), A)),
    Conversation((U, CALL, Message("tool", "t", name="g"), A)),
    Conversation((), tokens=Tokens((1, 2), (0.0, 1.0))),
    Conversation((), tokens=Tokens((1, 3), (0.0, 1.0))),
    Conversation((Message(TEXT_ROLE, "a"),)),
]


def test_what_means_something_else_has_another_hash() -> None:
    assert len({meaning_hash(conversation) for conversation in DIFFERENT}) == len(DIFFERENT)
    assert all(0 <= meaning_hash(conversation) < 2**64 for conversation in DIFFERENT)


def test_neither_weights_nor_the_ids_of_calls_are_part_of_the_meaning() -> None:
    assert meaning_hash(Conversation((U, A._replace(weight=0.5)))) == meaning_hash(Conversation((U, A)))
    other = CALL._replace(tool_calls=(ToolCall("f", {"x": 1}, "another"),))
    assert meaning_hash(Conversation((U, other))) == meaning_hash(Conversation((U, CALL)))


def test_the_hash_is_the_same_in_every_process() -> None:
    expected = blake2b(b"1user a1assistant b", digest_size=8).digest()
    assert meaning_hash(Conversation((U, A))) == int.from_bytes(expected, "little")


@given(row=json_values)
def test_whatever_is_read_can_be_hashed(row: JsonValue) -> None:
    format = formats.first_fit(row)
    if format is not None:
        try:
            meaning_hash(format.convert(row))
        except RowError:
            return
