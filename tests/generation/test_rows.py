from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft.data import formats
from weft.data.formats import RowError
from weft.errors import DataError
from weft.generation.rows import prompt_of, read_prompts
from weft.types import TEXT_ROLE, JsonValue, Message

Q = Message("user", "1+1?")
CASES: list[tuple[JsonValue, list[Message], str | None]] = [
    ({"prompt": "1+1?"}, [Q], None),
    ({"question": "1+1?"}, [Q], None),
    ({"instruction": "1+1?", "input": ""}, [Q], None),
    ({"prompt": "1+1?", "answer": "2"}, [Q], "2"),
    ({"prompt": "1+1?", "system": "Be brief."}, [Message("system", "Be brief."), Q], None),
    ({"messages": [{"role": "user", "content": "1+1?"}]}, [Q], None),
    ([{"role": "user", "content": "1+1?"}], [Q], None),
    (
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "1+1?"},
            ]
        },
        [Message("user", "a"), Message("assistant", "b"), Q],
        None,
    ),
    ({"chat_rounds": [{"role": "human", "content": "1+1?"}]}, [Q], None),
    ({"conversations": [{"from": "human", "value": "1+1?"}]}, [Q], None),
    ({"conversations": [{"from": "human", "value": "1+1?"}, {"from": "gpt", "value": "2"}]}, [Q], "2"),
    ({"text": "Once"}, [Message(TEXT_ROLE, "Once")], None),
]


@pytest.mark.parametrize(("row", "messages", "expected"), CASES)
def test_a_prompt_is_read_with_and_without_its_answer(
    row: JsonValue, messages: list[Message], expected: str | None
) -> None:
    assert prompt_of(row) == (messages, expected)


@pytest.mark.parametrize("format", formats.known(), ids=lambda f: f.name)
def test_rows_of_every_format_can_be_answered(format: formats.Format) -> None:
    for row in format.examples:
        whole = list(format.convert(row).messages)
        if not whole:  # tokens: there are no words to answer
            with pytest.raises(RowError, match="wrong_format"):
                prompt_of(row)
            continue
        messages, expected = prompt_of(row)
        if whole[0].role == TEXT_ROLE:
            assert (messages, expected) == (whole, None)
        else:
            assert (messages, expected) == (whole[:-1], whole[-1].content)


def test_every_bad_row_is_told_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text('{"prompt": "a"}\n{"prompt": 1}\nnonsense\n{"x": 1}\n')
    with pytest.raises(
        DataError, match=r"(?s)3 rows.*in\.jsonl:2: wrong_type.*in\.jsonl:3: bad_json.*in\.jsonl:4: wrong_format"
    ):
        read_prompts(file)
    with pytest.raises(DataError, match="no such file"):
        read_prompts(tmp_path / "gone.jsonl")
    file.write_text("")
    with pytest.raises(DataError, match="no row"):
        read_prompts(file)


def test_places_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "in.jsonl"
    file.write_text("\n" + json.dumps({"prompt": "a"}) + "\n\n" + json.dumps({"prompt": "b"}) + "\n")
    assert [asked.id.line for asked in read_prompts(file)] == [2, 4]
