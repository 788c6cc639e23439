"""Formats: every file in the folder joins the conformance test; finding and telling; what is checked in all of them
(FAULTS.md 33)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rows import A, S, U, json_values, outcome, reason_of, turns
from weft.data import formats
from weft.data.formats import Format, RowError, by_name, check, detect, first_fit, known
from weft.data.formats._check import check_closely, plainly_sound
from weft.errors import ConfigError, DataError
from weft.plugins import names
from weft.types import FIM_ROLES, TEXT_ROLE, Conversation, JsonValue, Message, Tokens, ToolCall

ALL = names("weft.data.formats")


# conformance


@pytest.mark.parametrize("name", ALL)
def test_a_format_is_named_like_its_file_and_has_an_order_of_its_own(name: str) -> None:
    assert by_name(name).name == name
    assert sum(other.order == by_name(name).order for other in known()) == 1


@pytest.mark.parametrize("name", ALL)
def test_a_format_reads_its_own_examples_and_is_told_by_each(name: str) -> None:
    format = by_name(name)
    assert format.examples
    for example in format.examples:
        assert check(format.convert(example))
        assert detect([example]) is format
        assert all(other.order > format.order for other in known() if other is not format and other.fits(example))


@pytest.mark.parametrize("name", ALL)
@given(row=json_values)
def test_fits_never_raises_and_convert_gives_a_conversation_or_a_row_error(name: str, row: JsonValue) -> None:
    told_or_converted(by_name(name), row)


@pytest.mark.parametrize("name", ALL)
@given(data=st.data())
def test_an_example_with_anything_in_it_is_converted_or_a_row_error(name: str, data: st.DataObject) -> None:
    format = by_name(name)
    example = data.draw(st.sampled_from(format.examples))
    told_or_converted(format, spoiled(example, data))


def spoiled(value: JsonValue, data: st.DataObject) -> JsonValue:
    """The same value with one place in it, wherever, changed to anything."""
    if isinstance(value, dict) and value and data.draw(st.integers(0, 3)):
        key = data.draw(st.sampled_from(sorted(value)))
        return {**value, key: spoiled(value[key], data)}
    if isinstance(value, list) and value and data.draw(st.integers(0, 3)):
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], spoiled(value[place], data), *value[place + 1 :]]
    return data.draw(json_values)


def told_or_converted(format: Format, row: JsonValue) -> None:
    assert format.fits(row) in (True, False)
    conversation = outcome(format.convert, row)
    if isinstance(conversation, RowError):
        assert conversation.reason.isidentifier()
        assert 0 < len(conversation.detail) < 2000
        return
    assert check(conversation) is conversation
    for message in (*conversation.messages, *conversation.rejected):
        assert all(isinstance(text, str) for text in (message.content, message.reasoning, message.name))
        assert all(isinstance(call.arguments, dict) for call in message.tool_calls)
    assert all(tool["type"] and isinstance(tool["function"], dict) for tool in conversation.tools)


@pytest.mark.parametrize("name", ALL)
def test_the_doc_of_the_folder_lists_the_format_with_its_order(name: str) -> None:
    assert f"    {by_name(name).order} {name} " in (formats.__doc__ or "")


@given(row=json_values)
def test_keys_of_anything_are_short(row: JsonValue) -> None:
    assert len(formats.keys_of(row)) < 1000


# finding and telling


OWN = Format("own", 0, lambda row: False, lambda row: turns("a", "b"), ())
NUMBER = 3


def test_a_format_of_the_users_own_is_found_at_its_dotted_path() -> None:
    assert by_name(f"{__name__}:OWN") is OWN


@pytest.mark.parametrize("name", ["alpaka", "no.such:FORMAT", f"{__name__}:NUMBER", f"{__name__}:ABSENT"])
def test_an_unknown_format_is_a_config_error_with_its_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.t\.format"):
        by_name(name, "tasks.t.format")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"instruction": "a", "input": "", "output": "b", "response": "b", "text": "c"}, "alpaca"),
        ({"instruction": "a", "input": "", "output": "b", "chosen": "b", "rejected": "c"}, "preference"),
        ({"instruction": "a", "input": "", "output": "b", "kto_tag": True}, "preference"),
        ({"instruction": "a", "response": "b"}, "pairs"),
        ({"prompt": "a", "answer": "b", "chat_rounds": []}, "pairs"),
        ({"prompt": "a", "messages": []}, "messages"),
        ({"messages": [], "label": True}, "preference"),
        ({"prompt": "a", "response": "b", "rejected_response": "c"}, "preference"),
        ({"prompt": "a", "completion": "b", "label": 0}, "preference"),
        ({"prompt": [], "completion": [], "label": False}, "preference"),
        ({"prompt": "a", "completion": "b", "label": "class"}, "pairs"),
        ({"question": "a", "answer": "b", "label": 0}, "pairs"),
        ({"doc": "a", "code": "b", "label": 0}, "code_search"),
        ({"text": "a", "rejected_response": "b"}, None),
        ({"messages": [], "label": 3}, "messages"),
        ({"prompt": "a", "canonical_solution": "b", "text": "c"}, "humaneval"),
        ({"prompt": "a", "canonical_solution": "b", "suffix": "c"}, "infilling"),
        ({"question": "a", "query": "b", "db_id": "c"}, "spider"),
        ({"question": "a", "query": "b", "db_id": "c", "answer": "d"}, "pairs"),
        ({"text": "### Human: a ### Assistant: b"}, "oasst1"),
        ({"text": "### Human rights"}, "text"),
        ({"text": "a", "label": 1}, None),
        ({"text": "a", "label": True}, None),
        ({"text": "a", "code": "b"}, None),
        ({"question": "a", "intent": "b"}, None),
        ({"code": "a", "anno": "b"}, None),
        ({"prompt": [{"role": "user", "content": "a"}]}, None),
        ([], None),
        ([["a", "b"]], None),
        (3, None),
    ],
)
def test_precedence(row: JsonValue, name: str | None) -> None:
    found = first_fit(row)
    assert (found.name if found else None) == name


def test_most_rows_decide_each_with_one_vote() -> None:
    alpaca: JsonValue = {"instruction": "a", "input": "b", "output": "c"}
    pair: JsonValue = {"question": "a", "answer": "b"}
    assert detect([alpaca, alpaca, pair]).name == "alpaca"
    assert detect([alpaca, pair, pair]).name == "pairs"
    assert detect([pair, alpaca]).name == "alpaca"
    assert detect([{"x": 1}, {"x": 1}, pair]).name == "pairs"


def test_nothing_that_fits_is_an_error_with_the_keys_the_formats_and_a_way_out() -> None:
    with pytest.raises(DataError, match=r"2 × \{'frage', 'antwort'\}") as raised:
        detect([{"frage": "a", "antwort": "b"}, {"frage": "a", "antwort": "b"}, 1])
    assert all(name in str(raised.value) for name in ALL)
    assert "columns" in str(raised.value)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"question_id": 1, "category": "a", "turns": ["b"]}, "questions without answers"),
        ({"question_id": 1, "choices": [{"turns": ["b"]}]}, "answers without questions"),
        ({"db_id": "a", "table_names_original": ["b"]}, "tasks.NAME.schemas"),
    ],
)
def test_files_with_nothing_to_learn_are_named_as_such(row: JsonValue, told: str) -> None:
    with pytest.raises(DataError, match=told):
        detect([row])


# what is checked in all of them


@pytest.mark.parametrize("value", [None, 3, 2.5, True, ["a"], {"a": "b"}])
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("pairs", {"question": "a", "answer": ...}),
        ("pairs", {"question": ..., "answer": "b"}),
        ("alpaca", {"instruction": "a", "output": ...}),
        ("alpaca", {"instruction": ..., "input": "a", "output": "b"}),
        ("text", {"text": ...}),
        ("chat_rounds", {"chat_rounds": [{"role": "human", "content": "a"}, {"role": "bot", "content": ...}]}),
        ("chat_rounds", {"chat_rounds": [{"role": ..., "content": "a"}]}),
        ("sharegpt", {"conversations": [{"from": "human", "value": ...}]}),
        ("humaneval", {"prompt": ..., "canonical_solution": "b"}),
        ("nl2code", {"nl": "a", "code": ...}),
        ("infilling", {"prompt": "a", "suffix": ..., "canonical_solution": "b"}),
        ("spider", {"question": "a", "query": ..., "db_id": "b", "schema": "c"}),
    ],
)
def test_what_is_no_string_is_named_with_its_key(name: str, row: Any, value: JsonValue) -> None:
    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: fill(inner) for key, inner in part.items()}
        return [fill(inner) for inner in part] if isinstance(part, list) else value if part is ... else part

    if name == "chat_rounds" and isinstance(value, list):
        return  # a list of parts is content
    assert reason_of(name, fill(row)) == "wrong_type"


@pytest.mark.parametrize("name", ["messages", "chat_rounds", "sharegpt", "xtuner", "sgd"])
@pytest.mark.parametrize("value", [None, 3, "a", {"a": "b"}, ["a"], [None], [[]]])
def test_turns_that_are_no_list_of_objects_are_told(name: str, value: JsonValue) -> None:
    key = {"sharegpt": "conversations", "xtuner": "conversation", "sgd": "turns"}.get(name, name)
    assert reason_of(name, {key: value}) == "wrong_type"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("row", [{}, {"x": 1}])
def test_a_row_without_the_keys_is_told(name: str, row: JsonValue) -> None:
    assert reason_of(name, row) == "missing_key"


T, CALL = Message("tool", "t"), Message("assistant", "", tool_calls=(ToolCall("f", {}),))
PREFIX, SUFFIX = Message(FIM_ROLES[0], "a"), Message(FIM_ROLES[1], "b")


@pytest.mark.parametrize(
    "order",
    [
        (U, A),
        (S, U, A),
        (U, A, U, A),
        (Message("system", ""), U, A),
        (U, CALL, T, A),
        (U, CALL, T, T, A, U, A),
        (U, CALL, T, CALL, T, A),
        (U, A._replace(tool_calls=CALL.tool_calls), T, A),
        (U, CALL),
        (PREFIX, SUFFIX, A),
        (PREFIX, SUFFIX._replace(content=""), A._replace(content="\n  ")),
    ],
)
def test_sound_orders_pass(order: tuple[Message, ...]) -> None:
    check(Conversation(order))


@pytest.mark.parametrize(
    ("order", "reason"),
    [
        ((), "no_answer"),
        ((U,), "no_answer"),
        ((S, U), "no_answer"),
        ((U, A, U), "no_final_answer"),
        ((U, CALL, T), "no_final_answer"),
        ((A,), "bad_role_order"),
        ((A, U, A), "bad_role_order"),
        ((S, A), "bad_role_order"),
        ((S, S, U, A), "bad_role_order"),
        ((U, S, A), "bad_role_order"),
        ((U, U, A), "bad_role_order"),
        ((U, A, A), "bad_role_order"),
        ((U, CALL, CALL), "bad_role_order"),
        ((U, T, A), "bad_role_order"),
        ((U, A, S), "bad_role_order"),
        ((U, A, T, A), "tool_without_call"),
        ((U._replace(tool_calls=CALL.tool_calls), A), "bad_tool_call"),
        ((Message("wizard", "a"), A), "unknown_role"),
        ((Message("user", " \u3000\n"), A), "empty_prompt"),
        ((U, Message("assistant", "\t")), "empty_answer"),
        ((U, Message("assistant", "", reasoning="hm")), "empty_answer"),
        ((Message(TEXT_ROLE, " "),), "empty_text"),
        ((Message(TEXT_ROLE, "a", 0.0),), "nothing_trained"),
        ((Message(TEXT_ROLE, "a"), Message(TEXT_ROLE, "b")), "bad_role_order"),
        ((U, A) * 50_000, "too_many_turns"),
        ((U._replace(weight=1.0), A), "bad_weight"),
        ((U, A._replace(weight=-1.0)), "bad_weight"),
        ((U, A._replace(weight=float("nan"))), "bad_weight"),
        ((U, A._replace(weight=0.0)), "nothing_trained"),
        ((PREFIX, A), "bad_role_order"),
        ((SUFFIX, PREFIX, A), "bad_role_order"),
        ((PREFIX, SUFFIX, U, A), "bad_role_order"),
        ((PREFIX, SUFFIX, A._replace(content="")), "empty_answer"),
        ((PREFIX._replace(content=""), SUFFIX._replace(content="\n"), A), "empty_prompt"),
    ],
)
def test_unsound_orders_have_their_reason(order: tuple[Message, ...], reason: str) -> None:
    with pytest.raises(RowError) as raised:
        check(Conversation(order))
    assert raised.value.reason == reason


any_messages = st.lists(
    st.builds(
        Message,
        st.sampled_from(["system", "user", "assistant", "tool", TEXT_ROLE, *FIM_ROLES, "x"]),
        st.sampled_from(["a", "", " \n"]),
        st.sampled_from([None, None, 0.0, 1.0, 0.5, -1.0, float("nan")]),
        tool_calls=st.sampled_from([(), (), CALL.tool_calls]),
    ),
    max_size=5,
)


@given(messages=any_messages)
def test_what_is_plainly_sound_is_sound_when_looked_at_closely(messages: list[Message]) -> None:
    if plainly_sound(messages):
        check_closely(messages)


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (Tokens((), ()), "empty_text"),
        (Tokens((1, 2), (1.0,)), "bad_tokens"),
        (Tokens((1, -2), (0.0, 1.0)), "bad_tokens"),
        (Tokens((1, 2**31), (0.0, 1.0)), "bad_tokens"),
        (Tokens((1, 2), (0.0, float("nan"))), "bad_weight"),
        (Tokens((1, 2), (1.0, 0.0)), "nothing_trained"),
    ],
)
def test_tokens_that_can_not_be_trained_have_their_reason(tokens: Tokens, reason: str) -> None:
    with pytest.raises(RowError) as raised:
        check(Conversation((), tokens=tokens))
    assert raised.value.reason == reason


def test_tokens_beside_messages_and_pairs_of_different_prompts_are_refused() -> None:
    for conversation, reason in (
        (Conversation((U, A), tokens=Tokens((1, 2), (0.0, 1.0))), "bad_tokens"),
        (Conversation((U, A), rejected=(Message("user", "other"), A)), "prompts_differ"),
        (Conversation((U, A), rejected=(U, Message("assistant", " "))), "empty_answer"),
    ):
        with pytest.raises(RowError) as raised:
            check(conversation)
        assert raised.value.reason == reason


@pytest.mark.parametrize("content", ["😀", "<|im_end|></s>[INST]", "\u2028x", "\0x"])
def test_odd_content_is_content(content: str) -> None:
    assert by_name("pairs").convert({"prompt": content, "answer": content}) == turns(content, content)


def test_reasons_are_short_whatever_a_row_holds() -> None:
    huge = "x" * 100_000
    for name, row in (
        ("messages", {"messages": [{"role": huge, "content": "a"}]}),
        ("sharegpt", {"conversations": [{"from": huge, "value": "a"}]}),
        ("sharegpt", {"conversations": [{"from": "function_call", "value": huge}]}),
        ("code_trans", {"task_id": huge, "prompt": "a", "canonical_solution": "b"}),
        ("spider", {"question": "a", "query": "b", "db_id": huge}),
    ):
        with pytest.raises(RowError) as raised:
            by_name(name).convert(row)
        assert len(raised.value.detail) < 1000, name


def test_the_list_of_formats_in_the_docs_is_whole() -> None:
    assert len(re.findall(r"^    \d+ \w+", formats.__doc__ or "", re.MULTILINE)) == len(ALL)
