"""Every dataset map of XTuner has its counterpart, as docs/formats.md says: the same question, answer and system message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from weft.config.settings import TaskSettings
from weft.data.read import ReadRow, read_task
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message


def said(question: str, answer: str, system: str = "") -> Conversation:
    first = (Message("system", system),) if system else ()
    return Conversation((*first, Message("user", question), Message("assistant", answer)))


MAPS: dict[str, tuple[dict[str, Any], JsonValue, str, Conversation]] = {
    "alpaca": (
        {},
        {"instruction": "i", "input": "in", "output": "o", "text": "all of it"},
        "alpaca",
        said("i\nin", "o"),
    ),
    "alpaca_zh": (
        {"user": "{instruction_zh}\n{input_zh}", "assistant": "{output_zh}"},
        {"instruction": "i", "input": "", "output": "o", "instruction_zh": "说", "input_zh": "甲", "output_zh": "乙"},
        "columns",
        said("说\n甲", "乙"),
    ),
    "arxiv": (
        {"system": "Give a title.", "columns": {"user": "abstract", "assistant": "title"}},
        {"id": "1", "abstract": "We show.", "title": "On it"},
        "columns",
        said("We show.", "On it", "Give a title."),
    ),
    "code_alpaca": ({"system": "You code."}, {"prompt": "p", "completion": "c"}, "pairs", said("p", "c", "You code.")),
    "colors": (
        {"system": "You paint.", "columns": {"user": "description", "assistant": "color"}},
        {"description": "Red: like blood", "color": "#ff0000"},
        "columns",
        said("Red: like blood", "#ff0000", "You paint."),
    ),
    "crime_kg_assitant": (
        {"system": "You judge."},
        {"input": "q", "output": "a"},
        "pairs",
        said("q", "a", "You judge."),
    ),
    "default": ({}, {"input": "q", "output": "a"}, "pairs", said("q", "a")),
    "law_reference": (
        {"system": "You judge."},
        {"question": "q", "answer": "a", "reference": ["§ 1"]},
        "pairs",
        said("q", "a", "You judge."),
    ),
    "medical": (
        {"system": "You heal."},
        {"instruction": "i", "input": "in", "output": "o"},
        "alpaca",
        said("i\nin", "o", "You heal."),
    ),
    "msagent": (
        {"format": f"{__name__}:msagent"},
        {"id": 1, "conversations": "[{'from': 'user', 'value': 'q'}, {'from': 'assistant', 'value': 'a'}]"},
        f"{__name__}:msagent",
        said("q", "a"),
    ),
    "oasst1": (
        {},
        {"text": "### Human: q### Assistant: a### Human: never answered"},
        "oasst1",
        said("q", "a"),
    ),
    "openai": (
        {},
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "loss": "True"}]},
        "messages",
        Conversation((Message("user", "q"), Message("assistant", "a", 1.0))),
    ),
    "openorca": (
        {},
        {"id": "1", "system_prompt": "s", "question": "q", "response": "a"},
        "pairs",
        said("q", "a", "s"),
    ),
    "pretrain": ({}, {"text": "It rains."}, "text", Conversation((Message(TEXT_ROLE, "It rains."),))),
    "completion": ({"format": "text"}, {"text": "It rains."}, "text", Conversation((Message(TEXT_ROLE, "It rains."),))),
    "sql": (
        {"system": "You query.", "user": "{context}\n{question}", "columns": {"assistant": "answer"}},
        {"question": "q", "context": "CREATE TABLE t (a);", "answer": "SELECT a FROM t"},
        "columns",
        said("CREATE TABLE t (a);\nq", "SELECT a FROM t", "You query."),
    ),
    "stack_exchange": ({}, {"question": "q", "response": "a"}, "pairs", said("q", "a")),
    "tiny_codes": (
        {"system": "You code."},
        {"idx": 1, "programming_language": "Go", "prompt": "p", "response": "r"},
        "pairs",
        said("p", "r", "You code."),
    ),
    "ultrafeedback": (
        {"preference": "chosen"},
        {
            "prompt": "q",
            "chosen": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
            "rejected": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "b"}],
        },
        "preference",
        said("q", "a"),
    ),
    "wizardlm": (
        {},
        {"idx": "1", "conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        "sharegpt",
        said("q", "a"),
    ),
    "its own form": (
        {},
        {"conversation": [{"system": "s", "input": "q", "output": "a"}]},
        "xtuner",
        said("q", "a", "s"),
    ),
    "its own form of a text": (
        {},
        {"conversation": [{"input": "", "output": "It rains."}]},
        "xtuner",
        Conversation((Message(TEXT_ROLE, "It rains."),)),
    ),
}


def msagent(row: dict[str, Any]) -> list[dict[str, str]]:
    """A function of the user's own, for rows that hold a Python list as text."""
    import ast

    roles = {"system": "system", "user": "user", "assistant": "assistant"}
    return [{"role": roles[turn["from"]], "content": turn["value"]} for turn in ast.literal_eval(row["conversations"])]


@pytest.mark.parametrize("name", MAPS)
def test_every_map_of_xtuner_has_its_counterpart(name: str, tmp_path: Path) -> None:
    settings, row, format_name, expected = MAPS[name]
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    reader = read_task("t", TaskSettings(path=str(tmp_path / "a.jsonl"), **settings))
    assert reader.format_name == format_name
    assert [entry.conversation if isinstance(entry, ReadRow) else entry for entry in reader] == [expected]


def test_a_turn_that_xtuner_does_not_train_is_not_trained(tmp_path: Path) -> None:
    turns = [{"input": "a", "output": "b", "output_with_loss": False}, {"input": "c", "output": "d"}]
    (tmp_path / "a.jsonl").write_text(json.dumps({"conversation": turns}) + "\n")
    (entry,) = read_task("t", TaskSettings(path=str(tmp_path / "a.jsonl")))
    assert isinstance(entry, ReadRow)
    assert [m.weight for m in entry.conversation.messages] == [None, 0.0, None, None]


@pytest.mark.parametrize("name", MAPS)
def test_the_docs_name_every_map(name: str) -> None:
    docs = (Path(__file__).parents[2] / "docs/formats.md").read_text("utf-8")
    assert f"`{name}`" in docs or name.startswith("its own form")
