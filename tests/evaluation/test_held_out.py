"""Questions from held-out files: which rows can be asked, and whose columns they have."""

from __future__ import annotations

import json
from pathlib import Path

from weft.config.settings import TaskSettings
from weft.evaluation.held_out import held_out_questions
from weft.types import Message


def test_a_held_out_file_is_read_as_its_task_is(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text(json.dumps({"q": "1 + 1?", "a": "2"}) + "\n")
    task = TaskSettings(path="elsewhere.jsonl", columns={"user": "q", "assistant": "a"})
    (question,) = held_out_questions(tmp_path, {"t": task}, 10)["t"]
    assert (question.messages, question.expected) == ((Message("user", "1 + 1?"),), "2")


def test_rows_without_an_answer_in_words_are_not_asked(tmp_path: Path) -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"name": "look", "arguments": {}}]}
    rows = {
        "calls": {"messages": [{"role": "user", "content": "a"}, call]},
        "documents": {"text": "a"},
        "ids": {"input_ids": [1, 2, 3]},
        "disliked": {"prompt": "a", "completion": "b", "label": False},
        "liked": {"prompt": "a", "completion": "b", "label": True},
    }
    for name, row in rows.items():
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    found = held_out_questions(tmp_path, list(rows), 10)
    assert {name: len(questions) for name, questions in found.items()} == {**dict.fromkeys(rows, 0), "liked": 1}
