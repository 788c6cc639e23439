"""Formats: every file in the folder joins the conformance test; then what each reads and refuses (FAULTS.md 33)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.data import formats
from weft.data.formats import Format, RowError, by_name, check, detect, first_fit, known
from weft.data.formats.pairs import PAIRS
from weft.errors import ConfigError, DataError
from weft.plugins import names
from weft.types import TEXT_ROLE, Conversation, JsonValue, Message

ALL = names("weft.data.formats")
KEYS = re.findall(
    r"\w+",
    """instruction input output response history system prompt answer question query completion messages conversations
    text chat_rounds role content from value train weight type tools context label chosen tool_calls loss_weight""",
)
WORDS = [*KEYS, "user", "assistant", "human", "gpt", "bot", "tool", "pretrain", "", " ", "x"]
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.sampled_from(WORDS))
json_values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=3)), inner, max_size=6),
    ),
    max_leaves=25,
)


def turns(*contents: str) -> Conversation:
    """user, assistant, user, …"""
    return Conversation(tuple(Message("assistant" if n % 2 else "user", content) for n, content in enumerate(contents)))


def reason_of(name: str, row: Any) -> str:
    with pytest.raises(RowError) as raised:
        by_name(name).convert(row)
    assert raised.value.detail
    return raised.value.reason


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
        assert check(format.convert(example)).messages
        assert detect([example]) is format


@pytest.mark.parametrize("name", ALL)
@given(row=json_values)
def test_fits_never_raises_and_convert_gives_a_conversation_or_a_row_error(name: str, row: JsonValue) -> None:
    format = by_name(name)
    assert format.fits(row) in (True, False)
    outcome = converted(format, row)
    if isinstance(outcome, RowError):
        assert outcome.reason.isidentifier()
        assert len(outcome.detail) < 1000
    else:
        assert check(outcome) is outcome


def converted(format: Format, row: JsonValue) -> Conversation | RowError:
    try:
        return format.convert(row)
    except RowError as error:
        return error


@pytest.mark.parametrize("name", ALL)
def test_the_doc_of_the_folder_lists_the_format_with_its_order(name: str) -> None:
    assert f"    {by_name(name).order} {name} " in (formats.__doc__ or "")


@given(row=json_values)
def test_keys_of_anything_are_short(row: JsonValue) -> None:
    assert len(formats.keys_of(row)) < 1000


# finding and telling


OWN = Format("own", 0, lambda row: False, lambda row: turns("a", "b"), ())


def test_a_format_of_the_users_own_is_found_at_its_dotted_path() -> None:
    assert by_name(f"{__name__}:OWN") is OWN


@pytest.mark.parametrize("name", ["alpaka", "no.such:FORMAT", "os:path", f"{__name__}:ABSENT"])
def test_an_unknown_format_is_a_config_error_with_its_setting(name: str) -> None:
    with pytest.raises(ConfigError, match=r"tasks\.t\.format"):
        by_name(name, "tasks.t.format")


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ({"instruction": "a", "input": "", "output": "b"}, "alpaca"),
        ({"instruction": "a", "input": "", "output": "b", "response": "b", "text": "c"}, "alpaca"),
        ({"instruction": "a", "response": "b"}, "pairs"),
        ({"prompt": "a", "answer": "b", "chat_rounds": []}, "pairs"),
        ({"prompt": "a", "messages": []}, "messages"),
        ({"text": "a", "label": 1}, None),
        ({"text": "a", "code": "b"}, None),
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


def test_nothing_that_fits_is_an_error_with_the_keys_and_the_formats() -> None:
    with pytest.raises(DataError, match=r"2 × \{'frage', 'antwort'\}") as raised:
        detect([{"frage": "a", "antwort": "b"}, {"frage": "a", "antwort": "b"}, 1])
    assert all(name in str(raised.value) for name in ALL)


# what they read


@pytest.mark.parametrize(("prompt", "answer"), PAIRS)
def test_every_pair_is_read_unstripped_with_and_without_system(prompt: str, answer: str) -> None:
    row: dict[str, JsonValue] = {prompt: " a\n", answer: "b \n", "id": 7}
    assert by_name("pairs").convert(row) == turns(" a\n", "b \n")
    for empty in ("", None):
        assert by_name("pairs").convert({**row, "system": empty}) == turns(" a\n", "b \n")
    assert by_name("pairs").convert({**row, "system": "s"}).messages[0] == Message("system", "s")


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
    ],
)
def test_a_pair_never_leaves_a_part_of_the_prompt_out(row: JsonValue) -> None:
    assert reason_of("pairs", row) == "unused_text"


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
    assert by_name("alpaca").convert(row) == Conversation((Message("system", "s"), *turns("a", "b", "c", "d").messages))
    for history in ("x", [["a"]], [["a", 1]], [{"a": "b"}]):
        assert reason_of("alpaca", {"instruction": "c", "output": "d", "history": history}) == "wrong_type"


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
    assert by_name("chat_rounds").convert(with_system).messages[0] == Message("system", "s")


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
        ({"weight": True}, "wrong_type"),
        ({"weight": "1"}, "wrong_type"),
        ({"weight": -1}, "bad_weight"),
        ({"weight": float("inf")}, "bad_weight"),
        ({"weight": 10**400}, "bad_weight"),
        ({"train": True, "weight": 0}, "bad_weight"),
        ({"train": False}, "nothing_trained"),
        ({"content": None, "tool_calls": [{"id": "1"}]}, "tools_unsupported"),
        ({"content": [{"type": "tool_call", "value": "f()"}]}, "tools_unsupported"),
        ({"content": [{"type": "image_url", "image_url": "x"}]}, "unsupported_part"),
        ({"content": [{"text": "x"}]}, "unsupported_part"),
        ({"content": ["x"]}, "wrong_type"),
        ({"content": []}, "empty_answer"),
        ({"reasoning_content": "hm"}, "unsupported_part"),
    ],
)
def test_messages_that_can_not_be_trained_are_refused(keys: dict[str, JsonValue], reason: str) -> None:
    assert reason_of("messages", messages(keys)) == reason


def test_user_tokens_are_never_trained() -> None:
    row = {"messages": [{"role": "user", "content": "a", "weight": 1}, {"role": "assistant", "content": "b"}]}
    assert reason_of("messages", row) == "bad_weight"


@pytest.mark.parametrize("name", ["messages", "sharegpt"])
def test_preference_and_tool_rows_are_not_imitated(name: str) -> None:
    turns: JsonValue = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    key = "messages" if name == "messages" else "conversations"
    assert reason_of(name, {key: turns, "label": False}) == "preference_row"
    assert reason_of(name, {key: turns, "chosen": {}, "rejected": {}}) == "preference_row"
    assert reason_of(name, {key: turns, "tools": '[{"name": "f"}]'}) == "tools_unsupported"
    assert by_name(name).convert({key: turns, "tools": "[]", "label": 3}).messages


def test_sharegpt_refuses_tool_turns_and_unknown_speakers() -> None:
    for speaker, reason in (
        ("function_call", "tools_unsupported"),
        ("observation", "tools_unsupported"),
        ("GPT", "unknown_role"),
    ):
        row = {"conversations": [{"from": "human", "value": "a"}, {"from": speaker, "value": "b"}]}
        assert reason_of("sharegpt", row) == reason


def test_pretrain_messages_and_text_rows_are_documents() -> None:
    document = Conversation((Message(TEXT_ROLE, " a\n"),))
    assert by_name("text").convert({"text": " a\n"}) == document
    assert by_name("messages").convert({"messages": [{"role": "pretrain", "content": " a\n"}]}) == document
    assert (
        by_name("text").convert({"text": " a\n", "label": 1}) == document
    )  # who names the format is taken at his word
    two = [{"role": "pretrain", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert reason_of("messages", {"messages": two}) == "bad_role_order"


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
    ],
)
def test_what_is_no_string_is_named_with_its_key(name: str, row: Any, value: JsonValue) -> None:
    def fill(part: Any) -> Any:
        if isinstance(part, dict):
            return {key: fill(inner) for key, inner in part.items()}
        return [fill(inner) for inner in part] if isinstance(part, list) else value if part is ... else part

    assert reason_of(name, fill(row)) == "wrong_type"


@pytest.mark.parametrize("name", ["messages", "chat_rounds", "sharegpt"])
@pytest.mark.parametrize("value", [None, 3, "a", {"a": "b"}, ["a"], [None], [[]]])
def test_turns_that_are_no_list_of_objects_are_told(name: str, value: JsonValue) -> None:
    assert reason_of(name, {"conversations" if name == "sharegpt" else name: value}) == "wrong_type"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("row", [{}, {"x": 1}])
def test_a_row_without_the_keys_is_told(name: str, row: JsonValue) -> None:
    assert reason_of(name, row) == "missing_key"


U, A, S, T = Message("user", "a"), Message("assistant", "b"), Message("system", "s"), Message("tool", "t")


@pytest.mark.parametrize(
    "order", [(U, A), (S, U, A), (U, A, U, A), (U, A, T, A), (U, A, T, T, A, U, A), (Message("system", ""), U, A)]
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
        ((U, A, T), "no_final_answer"),
        ((A,), "bad_role_order"),
        ((A, U, A), "bad_role_order"),
        ((S, A), "bad_role_order"),
        ((S, S, U, A), "bad_role_order"),
        ((U, S, A), "bad_role_order"),
        ((U, U, A), "bad_role_order"),
        ((U, A, A), "bad_role_order"),
        ((U, T, A), "bad_role_order"),
        ((U, A, S), "bad_role_order"),
        ((Message("wizard", "a"), A), "unknown_role"),
        ((Message("user", " \u3000\n"), A), "empty_prompt"),
        ((U, Message("assistant", "\t")), "empty_answer"),
        ((Message(TEXT_ROLE, " "),), "empty_text"),
        ((Message(TEXT_ROLE, "a", 0.0),), "nothing_trained"),
        ((Message(TEXT_ROLE, "a"), Message(TEXT_ROLE, "b")), "bad_role_order"),
        ((U, A) * 50_000, "too_many_turns"),
    ],
)
def test_unsound_orders_have_their_reason(order: tuple[Message, ...], reason: str) -> None:
    with pytest.raises(RowError) as raised:
        check(Conversation(order))
    assert raised.value.reason == reason


@pytest.mark.parametrize("content", ["😀", "<|im_end|></s>[INST]", "\u2028x", "\0x"])
def test_odd_content_is_content(content: str) -> None:
    assert by_name("pairs").convert({"prompt": content, "answer": content}) == turns(content, content)
