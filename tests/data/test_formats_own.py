"""What a user says himself: columns and row templates, and a function at a dotted path."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rows import A, S, U, json_values, outcome, turns
from weft.config.settings import TaskSettings
from weft.data.formats import Format, RowError, by_name
from weft.data.formats import _columns as columns
from weft.data.formats._columns import build, template, templates
from weft.data.read import ReadRow, read_task
from weft.errors import ConfigError
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message, Reject, Tokens, ToolCall


def write(path: Path, *rows: JsonValue) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def read(path: str, **settings: Any) -> tuple[str, list[Conversation | str]]:
    """The format's name; each row's conversation, or why it was rejected."""
    reader = read_task("t", TaskSettings(path=path, **settings))
    return reader.format_name, [e.conversation if isinstance(e, ReadRow) else e.reason for e in reader]


# columns


def test_columns_say_what_is_asked_and_answered(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", {"question": "a", "intent": "b"}, {"question": "a", "intent": ""}, {"question": "a"}
    )
    found = read(path, columns={"user": "question", "assistant": "intent"})
    assert found == ("columns", [turns("a", "b"), "empty_answer", "missing_key"])


def test_a_column_may_lie_inside_another_and_need_not_be_text(tmp_path: Path) -> None:
    row: JsonValue = {"q": {"text": "a", "n.o": [1, {"x": "é"}]}, "a": [2.5, "b"], "c.d": True, "n": 7}
    path = write(tmp_path / "a.jsonl", row)
    for column, text in (
        ("q.text", "a"),
        ("a", '[2.5, "b"]'),
        ("a.0", "2.5"),
        ("c.d", "true"),
        ("n", "7"),
        ("q", '{"text": "a", "n.o": [1, {"x": "é"}]}'),
    ):
        assert read(path, columns={"user": column, "assistant": "n"})[1] == [turns(text, "7")]


def test_templates_put_columns_into_words(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.jsonl", {"lang": "French", "text": "a", "out": "b"}, {"lang": None, "text": "a", "out": "b"}
    )
    found = read(
        path, system="You know {lang}.", user="Translate to {lang}: {text} {{as it is}}", columns={"assistant": "out"}
    )
    first = Conversation(
        (
            Message("system", "You know French."),
            Message("user", "Translate to French: a {as it is}"),
            Message("assistant", "b"),
        )
    )
    assert found == ("columns", [first, "wrong_type"])


def test_a_column_of_text_is_a_document(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"body": "a", "label": 1}, {"body": None, "label": 1})
    found = read(path, columns={"text": "body"})
    assert found == ("columns", [Conversation((Message(TEXT_ROLE, "a"),)), "empty_text"])


def test_a_system_template_alone_goes_before_what_the_format_found(tmp_path: Path) -> None:
    rows: list[JsonValue] = [
        {"prompt": "a", "answer": "b", "who": "poet"},
        {"prompt": "a", "answer": "b", "who": "poet", "system": "s"},
    ]
    found = read(write(tmp_path / "a.jsonl", *rows), system="You are a {who}.")
    assert found == ("pairs", [Conversation((Message("system", "You are a poet."), U, A)), Conversation((S, U, A))])
    found = read(write(tmp_path / "b.jsonl", {"text": "a"}), system="Be brief.")
    assert found == ("text", [Conversation((Message(TEXT_ROLE, "a"),))])


def test_an_empty_system_column_is_no_message(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"q": "a", "a": "b", "s": ""}, {"q": "a", "a": "b", "s": None})
    assert read(path, columns={"user": "q", "assistant": "a", "system": "s"})[1] == [Conversation((U, A))] * 2


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"columns": {"user": "questoin", "assistant": "intent"}},
            r"columns\.user: .*'questoin'; did you mean 'question'",
        ),
        ({"user": "{question}", "assistant": "{q.z}"}, r"tasks\.t\.assistant: .*'q\.z'.*question, intent, q"),
        ({"columns": {"user": "question"}}, "not assistant"),
        ({"assistant": "{intent}"}, "not user"),
        ({"columns": {"user": "question", "assistant": "intent"}, "user": "x"}, r"tasks\.t\.user: is set beside"),
        ({"columns": {"text": "question", "assistant": "intent", "user": "q"}}, "stands alone"),
        ({"columns": {"text": "question"}, "system": "s"}, "stands alone"),
        ({"columns": {"user": "question", "assistant": "intent"}, "format": "pairs"}, r"tasks\.t\.format: pairs"),
        ({"format": "columns"}, "doesn't say which"),
        ({"user": "{question", "assistant": "{intent}"}, r"tasks\.t\.user: a lone '\{' at character 1"),
        ({"user": "question}", "assistant": "{intent}"}, r"a lone '\}' at character 9"),
        ({"user": "{}", "assistant": "{intent}"}, "a lone"),
    ],
)
def test_columns_that_can_not_be_meant_are_a_config_error(tmp_path: Path, settings: dict[str, Any], told: str) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "a", "intent": "b", "q": {"x": 1}})
    with pytest.raises(ConfigError, match=told):
        read(path, **settings)


def test_all_columns_that_no_row_has_are_told_at_once(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"question": "a"})
    with pytest.raises(ConfigError, match=r"(?s)columns\.user.*columns\.assistant"):
        read(path, columns={"user": "x", "assistant": "y"})


@given(text=st.text(alphabet="ab{} .:!", max_size=12))
def test_a_template_is_read_or_refused_and_plain_text_means_itself(text: str) -> None:
    try:
        made = template(text, "here")
    except ConfigError:
        return
    assert len(made.texts) == len(made.columns) + 1
    if not made.columns:
        assert made.fill({}) == text.replace("{{", "{").replace("}}", "}")


@given(row=json_values)
def test_columns_give_a_conversation_or_a_row_error_for_anything(row: JsonValue) -> None:
    settings = TaskSettings(path="x", columns={"user": "prompt"}, assistant="{answer.text} {label}")
    assert outcome(build(templates("t", settings)).convert, row)


def test_columns_are_no_name_of_a_file_in_the_folder() -> None:
    with pytest.raises(ConfigError):
        by_name(columns.NAME)


# functions


def kept(row: Any) -> Any:
    return row.pop("give")


def conversation(row: Any) -> Conversation:
    return Conversation([Message("user", "a"), Message("assistant", "b")])  # type: ignore[arg-type]


MADE: list[tuple[Any, Conversation | str]] = [
    ([U, A], turns("a", "b")),
    ((S, U, A), Conversation((S, U, A))),
    (turns("a", "b"), turns("a", "b")),
    (Conversation((), tokens=Tokens([1, 2], [0, 1])), Conversation((), tokens=Tokens((1, 2), (0.0, 1.0)))),  # type: ignore[arg-type]
    ([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], turns("a", "b")),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, turns("a", "b")),
    (None, "left_out"),
    ("text", "format_error"),
    (3, "format_error"),
    ({}, "missing_key"),
    ([], "no_answer"),
    ([U], "no_answer"),
    ([A, U], "bad_role_order"),
    ([Message("user", 3), A], "format_error"),  # type: ignore[arg-type]
    ([U, Message("assistant", "b", weight="1")], "format_error"),  # type: ignore[arg-type]
    ([U, Message("assistant", "\ud800")], "lone_surrogate"),
    ([U, Message("assistant", "b", tool_calls=("f",))], "format_error"),  # type: ignore[arg-type]
    ([U, Message("assistant", "b", tool_calls=(ToolCall("f", {"x": object()}),))], "format_error"),  # type: ignore[dict-item]
    (Conversation("ab"), "format_error"),  # type: ignore[arg-type]
    (Conversation((U, A), tools=("f",)), "format_error"),  # type: ignore[arg-type]
    (Conversation((U, A), desirable=1), "format_error"),  # type: ignore[arg-type]
    (Conversation((), tokens=Tokens((1, "2"), (0.0, 1.0))), "format_error"),  # type: ignore[arg-type]
    (Conversation((), tokens=7), "format_error"),  # type: ignore[arg-type]
    ({"messages": [{"role": "user", "content": {1, 2}}]}, "wrong_type"),
]


@pytest.mark.parametrize(("made", "expected"), MADE)
def test_a_function_may_give_any_of_these_and_no_other(made: Any, expected: Conversation | str) -> None:
    try:
        found: Conversation | str = by_name(f"{__name__}:kept").convert({"give": made})
    except RowError as error:
        found = error.reason
    assert found == expected


@pytest.fixture
def module() -> Iterator[ModuleType]:
    """A module of the user's own."""
    module = ModuleType("of_the_user")
    sys.modules[module.__name__] = module
    yield module
    del sys.modules[module.__name__]


def test_an_exception_in_a_function_costs_its_row_alone(tmp_path: Path, module: ModuleType) -> None:
    def mine(row: Any) -> list[Message] | None:
        if row["n"] == 2:
            raise RowError("too_silly", "says the user")
        return [U, Message("assistant", row.pop("a"))] if row["n"] else None

    module.mine = mine  # type: ignore[attr-defined]
    rows: list[JsonValue] = [{"n": 1, "a": "b"}, {"n": 1}, {"n": 0}, {"n": 2}, {"n": "x" * 99, "a": "b"}]
    reader = read_task("t", TaskSettings(path=write(tmp_path / "a.jsonl", *rows), format="of_the_user:mine"))
    entries = list(reader)
    assert reader.format_name == "of_the_user:mine"
    assert [e.reason if isinstance(e, Reject) else "" for e in entries] == [
        "",
        "format_error",
        "left_out",
        "too_silly",
        "",
    ]
    assert isinstance(entries[1], Reject)
    assert entries[1].detail == "KeyError: 'a'"
    assert [
        e.raw if isinstance(e, Reject) else e.raw() for e in entries
    ] == rows  # though the function takes them apart


def test_a_format_object_of_the_users_own_is_guarded_too(tmp_path: Path, module: ModuleType) -> None:
    module.OWN = Format("own", 0, lambda row: 1 / 0 > 0, lambda row: turns("a", row["b"]), ())  # type: ignore
    path = write(tmp_path / "a.jsonl", {"b": "x"}, {"c": "x"})
    assert read(path, format="of_the_user:OWN") == ("own", [turns("a", "x"), "format_error"])


def test_a_function_can_have_a_system_message_laid_before_it(tmp_path: Path, module: ModuleType) -> None:
    module.mine = lambda row: [U, A]  # type: ignore[attr-defined]
    path = write(tmp_path / "a.jsonl", {"b": "x"})
    assert read(path, format="of_the_user:mine", system="s{b}")[1] == [Conversation((Message("system", "sx"), U, A))]
