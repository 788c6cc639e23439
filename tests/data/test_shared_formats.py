"""Every file of the shared data: what it is told to be, how many rows are read, and why the others are not.

The numbers were counted here; where rows are rejected, ASSETS.md says what is odd about them ("What is odd in the data").
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import SHARED
from weft.config.settings import TaskSettings
from weft.data.read import ReadRow, read_task
from weft.errors import ConfigError, DataError
from weft.types import FIM_ROLES, TEXT_ROLE, Conversation, Message, Reject, RowId

DATA = SHARED / "data"
pytestmark = [
    pytest.mark.shared,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the shared assets are not at {DATA}"),
]

T0_ROWS = {"paws_labeled_final_paraphrase_task": 91, "trec_fine_grained_ABBR": 0, "wiki_qa_Jeopardy_style": 8}

READ: dict[str, tuple[str, int, dict[str, int]]] = {
    # path: format, rows that are read, rows that are not
    "code_completion/HumanEval.jsonl.gz": ("humaneval", 164, {}),
    "code_completion/humaneval_cpp.jsonl": ("humaneval", 164, {}),
    "code_completion/humaneval_go.jsonl": ("humaneval", 164, {}),
    "code_completion/humaneval_java.jsonl": ("humaneval", 164, {}),
    "code_completion/humaneval_js.jsonl": ("humaneval", 164, {}),
    "code_completion/humaneval_python.jsonl": ("humaneval", 164, {}),
    "code_completion/humaneval_python_cn.jsonl": ("humaneval", 164, {}),
    "code_completion/humaneval_rust.jsonl": ("humaneval", 164, {}),
    # 14 gaps are filled with nothing; the 37 that are filled with white space are kept, for that is code too
    "code_infilling/HumanEval-RandomSpanInfilling.jsonl.gz": ("infilling", 1626, {"empty_answer": 14}),
    "code_infilling/HumanEval-SingleLineInfilling.jsonl.gz": ("infilling", 1033, {}),
    "code_instruct/code_alpaca_2k.json": ("alpaca", 2015, {"empty_answer": 2}),
    "code_instruct/new_codealpaca.json": ("alpaca", 4535, {}),
    "code_search/cosqa-dev.json": ("code_search", 604, {}),
    "code_trans/codeTrans_cpp_to_java.jsonl": ("code_trans", 594, {}),
    "code_trans/codeTrans_cpp_to_python.jsonl": ("code_trans", 601, {}),
    "code_trans/codeTrans_java_to_cpp.jsonl": ("code_trans", 589, {}),
    "code_trans/codeTrans_java_to_python.jsonl": ("code_trans", 662, {}),
    "code_trans/codeTrans_python_to_cpp.jsonl": ("code_trans", 588, {}),
    "code_trans/codeTrans_python_to_java.jsonl": ("code_trans", 650, {}),
    "general_en/alpaca_en_demo.json": ("alpaca", 999, {}),
    "general_en/alpaca_tiny.json": ("alpaca", 100, {}),
    "general_en/identity.json": ("alpaca", 91, {}),
    "general_en/openai_sft.jsonl": ("messages", 128, {}),
    "general_en/seed_tasks.jsonl": ("alpaca", 175, {}),
    "general_en/sft_text_messages_200.jsonl": ("messages", 200, {}),
    "general_en/v1_sft_demo.jsonl": ("messages", 500, {}),
    "general_zh/alpaca_zh_demo.json": ("alpaca", 1000, {}),
    "general_zh/zh-data-part-00.json": ("alpaca", 10015, {"empty_answer": 6}),
    "math/gsm8k_rl_style_200.jsonl": ("prompt_messages", 200, {}),
    "math/gsm8k_test.jsonl": ("pairs", 1319, {}),
    "math/gsm8k_train.jsonl": ("pairs", 7473, {}),
    "multiturn/dummy_conversation.json": ("sharegpt", 500, {}),
    "multiturn/sgd_train_dialogues_001.json": ("sgd", 128, {}),
    "multiturn/sgd_train_dialogues_002.json": ("sgd", 128, {}),
    "multiturn/sgd_train_dialogues_003.json": ("sgd", 128, {}),
    "nl2code/concode_dev.json": ("nl2code", 2000, {}),
    # its labels are hidden upstream: every answer is empty
    "nl2code/concode_test.json": ("nl2code", 0, {"empty_answer": 2000}),
    "nl2code/mbpp.jsonl": ("nl2code", 974, {}),
    "nl2code/mbpp_x.jsonl": ("humaneval", 500, {}),
    "preference/dpo_en_demo.json": ("preference", 300, {}),
    "preference/dpo_zh_demo.json": ("preference", 300, {}),
    "preference/kto_en_demo.json": ("preference", 300, {}),
    "preference/v1_dpo_demo.jsonl": ("preference", 10, {}),
    "pretrain/c4_demo.jsonl": ("text", 300, {}),
    "pretrain/pretrain_messages_3.jsonl": ("messages", 3, {}),
    "pretrain/tiny_shakespeare.txt": ("text", 32777, {}),
    "pretrain/wiki_demo.txt": ("text", 30, {}),
    **{
        f"t0_tasks/{path.name}": ("pairs", T0_ROWS.get(path.stem, 200), {})
        for path in sorted((DATA / "t0_tasks").glob("*.jsonl"))
        if T0_ROWS.get(path.stem, 200)
    },
    "text2sql/example_text2sql.json": ("alpaca", 217, {}),
    "text2sql/spider_dev.json": ("spider", 1034, {}),  # with spider_tables.json, which lies beside it
    "text2sql/spider_dev_alpaca.json": ("alpaca", 1034, {}),
    "tools/glaive_toolcall_en_demo.json": ("sharegpt", 300, {}),
    # rows 197 and 293 have an observation without a call before it
    "tools/glaive_toolcall_zh_demo.json": ("sharegpt", 298, {"tool_without_call": 2}),
    "tools/reason_tool_use_demo_50.jsonl": ("messages", 50, {}),
    "unit_test/leetcode-py.jsonl": ("leetcode", 210, {}),
}

BY_COLUMNS: dict[str, tuple[dict[str, Any], int, dict[str, int]]] = {
    "classification/zh_financial_intent.jsonl": ({"columns": {"user": "question", "assistant": "intent"}}, 6716, {}),
    "code_comment": ({"user": "Describe this line of code.\n{code}", "columns": {"assistant": "anno"}}, 18805, {}),
}

REFUSED = {
    "multiturn/mt_bench_question.jsonl": "questions without answers",
    "multiturn/mt_bench_gpt4_reference.jsonl": "answers without questions",
    "text2sql/spider_tables.json": "descriptions of databases",
    "t0_tasks/trec_fine_grained_ABBR.jsonl": "no rows",
    "classification/zh_financial_intent.jsonl": r"'question', 'intent'.*columns",
    "code_comment": r"'anno', 'code'.*columns|'code', 'anno'.*columns",
}


def read(path: str, **settings: Any) -> tuple[str, list[ReadRow], list[Reject]]:
    reader = read_task("t", TaskSettings(path=str(DATA / path), **settings))
    entries = list(reader)
    return (
        reader.format_name,
        [entry for entry in entries if isinstance(entry, ReadRow)],
        [entry for entry in entries if isinstance(entry, Reject)],
    )


@pytest.mark.parametrize("path", READ)
def test_a_file_is_read_without_conversion_by_hand(path: str) -> None:
    format, used, rejects = READ[path]
    name, accepted, rejected = read(path)
    assert (name, len(accepted), Counter(reject.reason for reject in rejected)) == (format, used, rejects)


@pytest.mark.parametrize("path", BY_COLUMNS)
def test_a_file_is_read_by_the_columns_that_are_named(path: str) -> None:
    settings, used, rejects = BY_COLUMNS[path]
    name, accepted, rejected = read(path, **settings)
    assert (name, len(accepted), Counter(reject.reason for reject in rejected)) == ("columns", used, rejects)


@pytest.mark.parametrize("path", REFUSED)
def test_a_file_with_nothing_to_learn_or_no_known_columns_is_refused_clearly(path: str) -> None:
    with pytest.raises(DataError, match=rf"tasks\.t: (?s:.*)(?s:{REFUSED[path]})"):
        read(path)


def test_every_file_of_the_shared_data_is_here() -> None:
    here = {*READ, *BY_COLUMNS, *REFUSED}
    there = {path.relative_to(DATA).as_posix() for path in DATA.rglob("*") if path.is_file()}
    assert {path for path in there if path not in here and Path(path).parent.as_posix() not in here} == set()


def test_spider_without_tables_is_refused(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_bytes((DATA / "text2sql/spider_dev.json").read_bytes())
    with pytest.raises(ConfigError, match=r"tasks\.t\.schemas"):
        read(str(tmp_path / "dev.json"))


def test_the_rows_that_are_rejected_are_those_that_are_known_to_be_odd() -> None:
    zh = [284, 1223, 1347, 1736, 7723, 9038]  # counted from 0 in ASSETS.md
    for path, lines in (
        ("general_zh/zh-data-part-00.json", zh),
        ("code_instruct/code_alpaca_2k.json", [237, 1859]),
        ("tools/glaive_toolcall_zh_demo.json", [197, 293]),
    ):
        assert [reject.row for reject in read(path)[2]] == [RowId(Path(path).name, n + 1) for n in lines]


@pytest.mark.parametrize(
    ("path", "doubled"),
    [
        ("general_en/alpaca_en_demo.json", 14),
        ("general_zh/alpaca_zh_demo.json", 8),
        ("t0_tasks/duorc_SelfRC_title_generation.jsonl", 189),
        ("tools/glaive_toolcall_en_demo.json", 35),
        ("tools/glaive_toolcall_zh_demo.json", 43),
        ("preference/dpo_en_demo.json", 5),
        ("preference/dpo_zh_demo.json", 11),
    ],
)
def test_rows_that_are_doubled_have_equal_hashes(path: str, doubled: int) -> None:
    hashes = [row.hash for row in read(path)[1]]
    assert len(hashes) - len(set(hashes)) == doubled


def test_rows_are_read_unstripped_and_weighted() -> None:
    first = read("general_en/openai_sft.jsonl")[1][0]
    assert first.conversation.messages[0] == Message("user", "Give three tips for staying healthy.\n")
    v1 = read("general_en/v1_sft_demo.jsonl")[1]
    assert {(m.role, m.weight) for row in v1 for m in row.conversation.messages} >= {("user", 0.0), ("assistant", 1.0)}
    t0 = read("t0_tasks/common_gen_Put_together.jsonl")[1]
    assert t0[0].conversation.messages[1].content == "Skier skis down the mountain<|endoftext|>"
    mbpp = read("nl2code/mbpp.jsonl")[1]
    assert sum("\r\n" in row.conversation.messages[1].content for row in mbpp) == 972


def test_tools_calls_and_reasoning_are_read() -> None:
    for path, calling, offering in (
        ("tools/glaive_toolcall_en_demo.json", 153, 191),
        ("tools/glaive_toolcall_zh_demo.json", 157, 198),
        ("tools/reason_tool_use_demo_50.jsonl", 31, 48),
    ):
        found = [row.conversation for row in read(path)[1]]
        assert sum(any(m.tool_calls for m in c.messages) for c in found) == calling, path
        assert sum(bool(c.tools) for c in found) == offering, path
        assert all(tool["type"] == "function" for c in found for tool in c.tools)
    answers = [m for c in found for m in c.messages if m.role == "assistant"]
    assert all(m.reasoning for m in answers)
    assert sum(len(m.tool_calls) for m in answers) == 41 + 2 * 9 + 3 * 3


def test_preferences_are_pairs_or_labels_and_the_chosen_can_be_imitated() -> None:
    pairs = [row.conversation for row in read("preference/dpo_en_demo.json")[1]]
    assert all(c.rejected and c.messages[:-1] == c.rejected[:-1] and c.desirable is None for c in pairs)
    labels = Counter(row.conversation.desirable for row in read("preference/kto_en_demo.json")[1])
    assert labels == {True: 150, False: 150}
    _, accepted, rejected = read("preference/kto_en_demo.json", preference="chosen")
    assert (len(accepted), Counter(reject.reason for reject in rejected)) == (150, {"undesirable": 150})
    chosen = [row.conversation for row in read("preference/dpo_en_demo.json", preference="chosen")[1]]
    assert chosen == [Conversation(c.messages) for c in pairs]


def test_code_and_sql_are_asked_with_their_ground() -> None:
    gap = read("code_infilling/HumanEval-SingleLineInfilling.jsonl.gz")[1][0].conversation
    assert tuple(message.role for message in gap.messages) == (*FIM_ROLES, "assistant")
    sql = read("text2sql/spider_dev.json")[1][0].conversation
    assert sql.messages[0].content.startswith("CREATE TABLE stadium (\n  Stadium_ID number,\n")
    assert sql.messages[0].content.endswith(");\n\nHow many singers do we have?")
    assert sql.messages[1].content == "SELECT count(*) FROM singer"
    java = read("code_trans/codeTrans_cpp_to_java.jsonl")[1][0].conversation
    assert java.messages[0].content.startswith("Translate this code to Java:\n#include")


def test_documents_are_documents() -> None:
    for path in ("pretrain/c4_demo.jsonl", "pretrain/pretrain_messages_3.jsonl", "pretrain/wiki_demo.txt"):
        assert {m.role for row in read(path)[1] for m in row.conversation.messages} == {TEXT_ROLE}
