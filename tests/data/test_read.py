"""A task to conversations: one format a task, every row accounted for; shared/data with its counts from ASSETS.md."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.config.settings import TaskSettings
from weft.data.read import SAMPLE_ROWS, ReadRow, read_task
from weft.data.sources import files, rows
from weft.errors import ConfigError, DataError
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message, Reject, RowId

SHARED = (Path(__file__).parents[2] / "../shared/data").resolve()
PAIR: JsonValue = {"question": "a", "answer": "b"}
ALPACA: JsonValue = {"instruction": "a", "input": "b", "output": "c"}


def write(path: Path, rows: Sequence[JsonValue]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def read(path: Path, format: str = "auto") -> tuple[str, list[ReadRow], list[Reject]]:
    reader = read_task("t", TaskSettings(path=str(path), format=format))
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


def test_a_row_has_the_hash_of_the_source(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", [PAIR, {"question": "c", "answer": "d"}, PAIR])
    hashes = [row.hash for row in read(tmp_path)[1]]
    assert hashes == [row.hash for row in rows(files(str(tmp_path))[0]) if not isinstance(row, Reject)]
    assert hashes[0] == hashes[2] != hashes[1]


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


# real data


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared assets are not at {SHARED}")
@pytest.mark.parametrize(
    ("path", "format", "used", "rejects"),
    [
        ("code_instruct", "alpaca", 6550, {"empty_answer": 2}),
        ("general_en/alpaca_en_demo.json", "alpaca", 999, {}),
        ("general_en/alpaca_tiny.json", "alpaca", 100, {}),
        ("general_en/identity.json", "alpaca", 91, {}),
        ("general_en/openai_sft.jsonl", "messages", 128, {}),
        ("general_en/sft_text_messages_200.jsonl", "messages", 200, {}),
        ("general_en/v1_sft_demo.jsonl", "messages", 500, {}),
        ("general_zh", "alpaca", 11015, {"empty_answer": 6}),
        ("math/gsm8k_train.jsonl", "pairs", 7473, {}),
        ("math/gsm8k_test.jsonl", "pairs", 1319, {}),
        ("t0_tasks", "pairs", 4699, {}),
        ("text2sql/example_text2sql.json", "alpaca", 217, {}),
        ("text2sql/spider_dev_alpaca.json", "alpaca", 1034, {}),
        ("multiturn/dummy_conversation.json", "sharegpt", 500, {}),
        ("pretrain/c4_demo.jsonl", "text", 300, {}),
        ("pretrain/pretrain_messages_3.jsonl", "messages", 3, {}),
        ("tools/glaive_toolcall_en_demo.json", "sharegpt", 109, {"tools_unsupported": 191}),
        ("preference/dpo_en_demo.json", "sharegpt", 0, {"preference_row": 300}),
        ("preference/kto_en_demo.json", "messages", 0, {"preference_row": 300}),
    ],
)
def test_real_data_has_the_counts_of_assets_md(path: str, format: str, used: int, rejects: dict[str, int]) -> None:
    name, accepted, rejected = read(SHARED / path)
    assert name == format
    assert len(accepted) == used
    assert Counter(reject.reason for reject in rejected) == rejects


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared assets are not at {SHARED}")
def test_real_rows_that_are_quarantined_are_those_that_assets_md_names() -> None:
    zh = [284, 1223, 1347, 1736, 7723, 9038]  # counted from 0 there
    for folder, file, lines in (
        ("general_zh", "zh-data-part-00.json", zh),
        ("code_instruct", "code_alpaca_2k.json", [237, 1859]),
    ):
        assert [reject.row for reject in read(SHARED / folder)[2]] == [RowId(file, n + 1) for n in lines]


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared assets are not at {SHARED}")
@pytest.mark.parametrize(
    "path",
    [
        "classification",
        "code_completion",
        "code_infilling",
        "code_search",
        "code_trans",
        "nl2code",
        "unit_test",
        "t0_tasks/trec_fine_grained_ABBR.jsonl",
    ],
)
def test_real_data_of_no_known_format_is_refused_not_guessed(path: str) -> None:
    with pytest.raises(DataError, match=r"tasks\.t"):
        read(SHARED / path)


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared assets are not at {SHARED}")
def test_real_duplicates_have_equal_hashes() -> None:
    for path, doubled in (
        ("general_en/alpaca_en_demo.json", 14),
        ("t0_tasks/duorc_SelfRC_title_generation.jsonl", 189),
    ):
        hashes = [row.hash for row in read(SHARED / path)[1]]
        assert len(hashes) - len(set(hashes)) == doubled


@pytest.mark.shared
@pytest.mark.skipif(not SHARED.is_dir(), reason=f"the shared assets are not at {SHARED}")
def test_real_rows_are_read_unstripped_and_weighted() -> None:
    first = read(SHARED / "general_en/openai_sft.jsonl")[1][0]
    assert first.conversation.messages[0] == Message("user", "Give three tips for staying healthy.\n")
    v1 = read(SHARED / "general_en/v1_sft_demo.jsonl")[1]
    assert {(m.role, m.weight) for row in v1 for m in row.conversation.messages} >= {("user", 0.0), ("assistant", 1.0)}
    t0 = read(SHARED / "t0_tasks/common_gen_Put_together.jsonl")[1]
    assert t0[0].conversation.messages[1].content == "Skier skis down the mountain<|endoftext|>"
