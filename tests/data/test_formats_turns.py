"""Formats with a list of turns: OpenAI's, ShareGPT's, MFTCoder's, XTuner's, dialogues; their tools, reasoning and weights."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.data.rows import A, S, U, reason_of, turns
from weft.data.formats import by_name
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message, ToolCall

LOOK = {"name": "look", "description": "Looks.", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": LOOK}


@pytest.mark.parametrize("user", ["human", "user"])
@pytest.mark.parametrize("assistant", ["bot", "assistant", "gpt"])
def test_chat_rounds_knows_mftcoders_roles(user: str, assistant: str) -> None:
    rounds: list[JsonValue] = [
        {"role": role, "content": content, "chat_round_id": n}
        for n, (role, content) in enumerate([(user, "a"), (assistant, "b"), (user, "c"), (assistant, "d")])
    ]
    row: JsonValue = {"id": 0, "data_name": "x", "chat_rounds": rounds}
    assert by_name("chat_rounds").convert(row) == turns("a", "b", "c", "d")
    with_system: JsonValue = {"chat_rounds": [{"role": "system", "content": "s"}, *rounds]}
    assert by_name("chat_rounds").convert(with_system).messages[0] == S


def messages(*answer: dict[str, JsonValue]) -> JsonValue:
    return {
        "messages": [
            {"role": "user", "content": "a"},
            *({"role": "assistant", "content": "b", **turn} for turn in answer),
        ]
    }


@pytest.mark.parametrize(
    ("keys", "weight"),
    [
        ({}, None),
        ({"train": True}, 1.0),
        ({"weight": 1}, 1.0),
        ({"loss_weight": 0.25}, 0.25),
        ({"loss": True}, 1.0),
        ({"loss": "True"}, 1.0),
        ({"weight": None, "train": None}, None),
        ({"train": True, "weight": 1.0}, 1.0),
    ],
)
def test_messages_carry_their_weight(keys: dict[str, JsonValue], weight: float | None) -> None:
    assert by_name("messages").convert(messages(keys)).messages[1] == Message("assistant", "b", weight)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"train": 1}, "wrong_type"),
        ({"train": "yes"}, "wrong_type"),
        ({"loss": "maybe"}, "wrong_type"),
        ({"weight": True}, "wrong_type"),
        ({"weight": "1"}, "wrong_type"),
        ({"weight": -1}, "bad_weight"),
        ({"weight": float("inf")}, "bad_weight"),
        ({"weight": 10**400}, "bad_weight"),
        ({"train": True, "weight": 0}, "bad_weight"),
        ({"train": False}, "nothing_trained"),
        ({"loss": False}, "nothing_trained"),
        ({"content": [{"type": "image_url", "image_url": "x"}]}, "unsupported_part"),
        ({"content": [{"text": "x"}]}, "unsupported_part"),
        ({"content": ["x"]}, "wrong_type"),
        ({"content": []}, "empty_answer"),
        ({"content": None}, "wrong_type"),
        ({"content": None, "reasoning_content": "hm"}, "wrong_type"),
        ({"reasoning_content": 3}, "wrong_type"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "bad_tool_call"),
        ({"content": [{"type": "tool_call", "value": "f()"}]}, "bad_tool_call"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}, "bad_tool_call"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": "[1]"}}]}, "bad_tool_call"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": '{"x": NaN}'}}]}, "bad_tool_call"),
        ({"tool_calls": [{"function": {"name": "f", "arguments": '{"x": "\\ud800"}'}}]}, "lone_surrogate"),
        ({"tool_calls": [{"function": {"name": " ", "arguments": {}}}]}, "bad_tool_call"),
        ({"tool_calls": "[" * 100_000}, "bad_tool_call"),
        ({"tool_calls": '[{"name": "f", "arguments": {"x": ' + "[" * 200 + "]" * 200 + "}}]"}, "bad_tool_call"),
    ],
)
def test_messages_that_can_not_be_trained_are_refused(keys: dict[str, JsonValue], reason: str) -> None:
    assert reason_of("messages", messages(keys)) == reason


def test_user_tokens_are_never_trained() -> None:
    row = {"messages": [{"role": "user", "content": "a", "weight": 1}, {"role": "assistant", "content": "b"}]}
    assert reason_of("messages", row) == "bad_weight"


@pytest.mark.parametrize("name", ["messages", "sharegpt"])
def test_preference_rows_are_not_imitated(name: str) -> None:
    listed: JsonValue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    key = "messages" if name == "messages" else "conversations"
    assert reason_of(name, {key: listed, "label": False}) == "preference_row"
    assert reason_of(name, {key: listed, "chosen": {}, "rejected": {}}) == "preference_row"
    assert by_name(name).convert({key: listed, "tools": "[]", "label": 3}) == turns("a", "b")


@pytest.mark.parametrize("key", ["images", "image", "videos", "audios"])
@pytest.mark.parametrize("name", ["messages", "sharegpt", "chat_rounds"])
def test_rows_with_more_than_text_are_refused_beside_the_turns_and_in_one(name: str, key: str) -> None:
    where = {"sharegpt": "conversations"}.get(name, name)
    asks: dict[str, JsonValue] = {"role": "user", "content": "<image>a"}
    says: JsonValue = {"role": "assistant", "content": "b"}
    assert reason_of(name, {where: [asks, says], key: ["a.png"]}) == "unsupported_part"
    assert reason_of(name, {where: [{**asks, key: "a.png"}, says]}) == "unsupported_part"
    asked_by_from: JsonValue = {"from": "human", "value": "a", key: "a.png"}
    assert reason_of(name, {where: [asked_by_from, says]}) == "unsupported_part"
    for nothing in (None, [], ""):
        row: JsonValue = {where: [{**asks, key: nothing}, says], key: nothing}
        assert by_name(name).convert(row) == turns("<image>a", "b")


@pytest.mark.parametrize("name", ["messages", "sharegpt", "chat_rounds"])
def test_a_system_column_beside_the_turns_is_the_first_message(name: str) -> None:
    key = {"sharegpt": "conversations"}.get(name, name)
    listed: list[JsonValue] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert by_name(name).convert({key: listed, "system": "s"}).messages == (S, U, A)
    assert by_name(name).convert({key: listed, "system": ""}).messages == (U, A)
    assert reason_of(name, {key: [{"role": "system", "content": "t"}, *listed], "system": "s"}) == "bad_role_order"


# tools


CALLS = (ToolCall("look", {"where": "out"}, "c1"),)
SAID = "Yes."


@pytest.mark.parametrize(
    ("call", "call_id"),
    [
        (
            {
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"where":"out"}'}}
                ]
            },
            "c1",
        ),
        (
            {
                "tool_calls": [{"id": "c1", "function": {"name": "look", "arguments": {"where": "out"}}}],
                "content": None,
            },
            "c1",
        ),
        ({"tool_calls": [{"name": "look", "arguments": {"where": "out"}}], "content": ""}, ""),
        ({"tool_calls": '[{"name": "look", "arguments": {"where": "out"}}]', "content": ""}, ""),
        ({"function_call": {"name": "look", "arguments": '{"where": "out"}'}, "content": None}, ""),
        ({"content": [{"type": "tool_call", "value": '{"name": "look", "arguments": {"where": "out"}}'}]}, ""),
        ({"content": [{"type": "tool_call", "name": "look", "arguments": {"where": "out"}}]}, ""),
    ],
)
def test_a_call_is_the_same_however_openais_form_writes_it(call: dict[str, JsonValue], call_id: str) -> None:
    row: JsonValue = {
        "messages": [
            {"role": "user", "content": "a"},
            {"role": "assistant", **call},
            {"role": "tool", "content": "rain", "tool_call_id": call_id, "name": "look"},
            {"role": "assistant", "content": SAID},
        ],
        "tools": [TOOL],
    }
    assert by_name("messages").convert(row) == Conversation(
        (
            U,
            Message("assistant", "", tool_calls=(CALLS[0]._replace(id=call_id),)),
            Message("tool", "rain", name="look", call_id=call_id),
            Message("assistant", SAID),
        ),
        (TOOL,),
    )


@pytest.mark.parametrize("arguments", ["", None, {}, "{}", " "])
def test_a_call_without_arguments_has_an_empty_object(arguments: JsonValue) -> None:
    row = messages({"content": None, "tool_calls": [{"function": {"name": "f", "arguments": arguments}}]})
    assert by_name("messages").convert(row).messages[1].tool_calls == (ToolCall("f", {}),)


def test_sharegpt_calls_and_observes() -> None:
    listed: list[JsonValue] = [
        {"from": "human", "value": "a"},
        {"from": "function_call", "value": '{"name": "look", "arguments": {"where": "out"}}'},
        {"from": "observation", "value": "rain"},
        {"from": "gpt", "value": SAID},
    ]
    read = by_name("sharegpt").convert({"conversations": listed, "tools": json.dumps([LOOK])})
    call = Message("assistant", "", tool_calls=(ToolCall("look", {"where": "out"}),))
    assert read == Conversation((U, call, Message("tool", "rain"), Message("assistant", SAID)), (TOOL,))
    several: JsonValue = {"from": "function_call", "value": '[{"name": "f"}, {"name": "g", "arguments": "{}"}]'}
    both = by_name("sharegpt").convert({"conversations": [listed[0], several, listed[2], listed[3]]})
    assert both.messages[1].tool_calls == (ToolCall("f", {}), ToolCall("g", {}))
    assert reason_of("sharegpt", {"conversations": [listed[0], listed[3], listed[2], listed[3]]}) == "tool_without_call"
    broken: JsonValue = {"from": "function_call", "value": "look(out)"}
    assert reason_of("sharegpt", {"conversations": [listed[0], broken, listed[2], listed[3]]}) == "bad_tool_call"
    assert reason_of("sharegpt", {"conversations": [listed[0], {"from": "GPT", "value": "b"}]}) == "unknown_role"


@pytest.mark.parametrize("tools", [[LOOK], [TOOL], [{"function": LOOK}], LOOK, json.dumps([LOOK]), json.dumps([TOOL])])
def test_tools_have_one_form(tools: JsonValue) -> None:
    row: JsonValue = {
        "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}],
        "tools": tools,
    }
    assert by_name("messages").convert(row) == Conversation((U, A), (TOOL,))


@pytest.mark.parametrize("tools", [None, "", "[]", " [ ] ", [], {}, "null"])
def test_no_tools_are_no_tools(tools: JsonValue) -> None:
    assert by_name("sharegpt").convert({**{"conversations": list(SHARE)}, "tools": tools}) == Conversation((U, A))


SHARE: list[JsonValue] = [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]


@pytest.mark.parametrize(
    "tools",
    [
        "f",
        3,
        ["f"],
        [[]],
        [{}],
        [{"name": ""}],
        [{"name": 3}],
        [{"function": 3}],
        [{"type": 3, "function": LOOK}],
        "[1]",
        "{",
    ],
)
def test_tools_that_are_none_are_told(tools: JsonValue) -> None:
    assert reason_of("sharegpt", {"conversations": SHARE, "tools": tools}) == "bad_tools"


# reasoning, parts, documents


@pytest.mark.parametrize(
    "answer",
    [
        {"content": "b", "reasoning_content": "hm"},
        {"content": "b", "reasoning": "hm"},
        {"content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "b"}]},
        {"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "b"}]},
    ],
)
def test_reasoning_is_kept_apart_from_the_answer(answer: dict[str, JsonValue]) -> None:
    read = by_name("messages").convert(messages({"content": None, **answer}))
    assert read.messages[1] == Message("assistant", "b", reasoning="hm")


def test_reasoning_is_neither_doubled_nor_a_users() -> None:
    twice = {
        "content": [{"type": "reasoning", "value": "hm"}, {"type": "text", "value": "b"}],
        "reasoning_content": "x",
    }
    assert reason_of("messages", messages(twice)) == "unsupported_part"
    asked = {"messages": [{"role": "user", "content": "a", "reasoning": "hm"}, {"role": "assistant", "content": "b"}]}
    assert reason_of("messages", asked) == "unsupported_part"


def test_documents_go_with_the_conversation() -> None:
    row: dict[str, Any] = {**messages({}), "documents": [{"title": "t", "text": "x"}]}  # type: ignore[dict-item]
    assert by_name("messages").convert(row) == Conversation((U, A), documents=({"title": "t", "text": "x"},))
    assert reason_of("messages", {**row, "documents": ["x"]}) == "wrong_type"


def test_pretrain_messages_and_text_rows_are_documents() -> None:
    document = Conversation((Message(TEXT_ROLE, " a\n"),))
    assert by_name("text").convert({"text": " a\n"}) == document
    assert by_name("messages").convert({"messages": [{"role": "pretrain", "content": " a\n"}]}) == document
    assert (
        by_name("text").convert({"text": " a\n", "label": 1}) == document
    )  # a format that was named is taken at its word
    two = [{"role": "pretrain", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert reason_of("messages", {"messages": two}) == "bad_role_order"


# other dialogues


def test_schema_guided_dialogues_are_user_and_system_in_turn() -> None:
    said = [("USER", "a"), ("SYSTEM", "b"), ("USER", "c"), ("SYSTEM", "d")]
    row = {"dialogue_id": "1", "turns": [{"speaker": who, "utterance": what, "frames": []} for who, what in said]}
    assert by_name("sgd").convert(row) == turns("a", "b", "c", "d")
    assert reason_of("sgd", {"turns": [{"speaker": "AGENT", "utterance": "a"}]}) == "unknown_role"
    assert reason_of("sgd", {"turns": row["turns"][:3]}) == "no_final_answer"


def test_oasst1_is_cut_at_its_marks_and_a_last_question_is_left_out() -> None:
    text = "### Human: a\n# not a mark ###\n### Assistant: b### Human: c### Assistant: d### Human: thanks"
    assert by_name("oasst1").convert({"text": text}) == turns("a\n# not a mark ###", "b", "c", "d")
    assert reason_of("oasst1", {"text": "### Human: a"}) == "no_answer"
    assert reason_of("oasst1", {"text": "### Assistant: a"}) == "bad_role_order"
    assert reason_of("oasst1", {"text": "hello ### Human: a ### Assistant: b"}) == "wrong_type"
