"""Preferences: pairs and likings in all their spellings, and that no other format imitates them."""

from __future__ import annotations

import pytest

from tests.data.rows import A, S, U, reason_of, turns
from weft.data.formats import by_name
from weft.types import Conversation, JsonValue, Message


def pair(good: str = "b", bad: str = "c", *before: Message) -> Conversation:
    prompt = before or (U,)
    return Conversation((*prompt, Message("assistant", good)), rejected=(*prompt, Message("assistant", bad)))


ASKS: JsonValue = {"role": "user", "content": "a"}
SAYS: JsonValue = {"role": "assistant", "content": "b"}
ELSE: JsonValue = {"role": "assistant", "content": "c"}
SYS: JsonValue = {"role": "system", "content": "s"}
FIRST: JsonValue = {"role": "user", "content": "first"}


def test_a_prompt_inside_each_answer_is_not_said_twice() -> None:
    row: JsonValue = {"prompt": [SYS, ASKS], "chosen": [SYS, ASKS, SAYS], "rejected": [SYS, ASKS, ELSE]}
    assert by_name("preference").convert(row) == pair("b", "c", S, U)
    longer: JsonValue = {"prompt": "a", "chosen": [SYS, ASKS, SAYS], "rejected": [SYS, ASKS, ELSE]}
    assert by_name("preference").convert(longer) == pair("b", "c", S, U)


def test_tools_and_history_go_with_a_pair_where_its_form_has_a_place_for_them() -> None:
    row: JsonValue = {
        "instruction": "a",
        "history": [["x", "y"]],
        "tools": [{"name": "f"}],
        "chosen": "b",
        "rejected": "c",
    }
    found = by_name("preference").convert(row)
    assert found.messages == (Message("user", "x"), Message("assistant", "y"), U, A)
    assert [tool["function"] for tool in found.tools] == [{"name": "f"}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "a", "chosen": "b", "rejected": "c"},
        {"question": "a", "chosen": "b", "rejected": "c"},
        {"instruction": "a", "input": "", "chosen": "b", "rejected": "c"},
        {"prompt": [ASKS], "chosen": [SAYS], "rejected": [ELSE]},
        {"prompt": "a", "chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE], "score_chosen": 1.0},
        {"chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE]},
        {"messages": [ASKS], "chosen": SAYS, "rejected": ELSE},
        {"messages": [ASKS, SAYS], "rejected_response": "c"},
        {"messages": [ASKS, SAYS], "rejected_response": "c", "label": True},
        {"prompt": "a", "response": "b", "rejected_response": "c"},
        {"prompt": "a", "messages": [ASKS, SAYS], "chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE]},
        {"prompt": "a", "chosen": "b", "rejected": "c", "history": [], "context": ""},
        {
            "conversations": [{"from": "human", "value": "a"}],
            "chosen": {"from": "gpt", "value": "b"},
            "rejected": {"from": "gpt", "value": "c"},
        },
    ],
)
def test_a_pair_is_the_same_however_it_is_written(row: JsonValue) -> None:
    assert by_name("preference").convert(row) == pair()


def test_pairs_of_whole_conversations_keep_their_weights_and_the_system_column() -> None:
    weighted = {"role": "assistant", "content": [{"type": "text", "value": "b"}], "loss_weight": 1.0}
    row: JsonValue = {"chosen_messages": [ASKS, weighted], "rejected_messages": [ASKS, ELSE], "system": "s"}
    found = by_name("preference").convert(row)
    assert found.messages == (S, U, Message("assistant", "b", 1.0))
    assert found.rejected == (S, U, Message("assistant", "c"))


@pytest.mark.parametrize("label", [True, False])
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [ASKS, SAYS]},
        {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
        {"prompt": "a", "completion": "b"},
        {"prompt": [ASKS], "completion": [SAYS]},
        {"instruction": "a", "input": "", "output": "b"},
    ],
)
def test_an_answer_is_liked_or_not(row: dict[str, JsonValue], label: bool) -> None:
    key = "kto_tag" if "instruction" in row else "label"
    assert by_name("preference").convert({**row, key: label}) == Conversation((U, A), desirable=label)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "no_preference"),
        ({"prompt": "a", "chosen": "b", "rejected": " "}, "empty_answer"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, "wrong_type"),
        ({"prompt": "a", "chosen": "b"}, "missing_key"),
        ({"prompt": "a", "chosen": "b", "rejected": []}, "no_answer"),
        ({"chosen": "b", "rejected": "c"}, "missing_key"),
        ({"prompt": "x", "chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE]}, "unused_text"),
        ({"chosen": [ASKS, SAYS], "rejected": [{"role": "user", "content": "x"}, ELSE]}, "prompts_differ"),
        ({"chosen": [ASKS, SAYS, ASKS], "rejected": [ASKS, ELSE, ASKS]}, "no_final_answer"),
        ({"messages": [ASKS, SAYS]}, "missing_key"),
        ({"messages": [ASKS], "label": True}, "no_answer"),
        ({"prompt": [SYS, ASKS], "chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE]}, "unused_text"),
        ({"prompt": [FIRST, SAYS, ASKS], "chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE]}, "unused_text"),
        ({"prompt": [SYS, ASKS], "chosen": [SYS, ASKS, SAYS], "rejected": [ASKS, ELSE]}, "unused_text"),
        ({"prompt": "b", "chosen": [ASKS, SAYS], "rejected": [ASKS, SAYS]}, "unused_text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "history": [["d", "e"]]}, "unused_text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "context": "d"}, "unused_text"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "documents": [{}]}, "unused_text"),
        ({"question": "a", "input": "d", "chosen": "b", "rejected": "c"}, "unused_text"),
        ({"chosen_messages": [ASKS, SAYS], "rejected_messages": [ASKS, ELSE], "history": ["d"]}, "unused_text"),
        ({"chosen": [ASKS, SAYS], "rejected": [ASKS, ELSE], "context": "d"}, "unused_text"),
        ({"messages": [ASKS], "chosen": SAYS, "rejected": ELSE, "history": [["d", "e"]]}, "unused_text"),
        ({"messages": [ASKS, SAYS], "rejected_response": "c", "label": False}, "bad_label"),
        ({"prompt": "a", "chosen": "b", "rejected": "c", "label": False}, "bad_label"),
    ],
)
def test_preferences_that_say_nothing_are_refused(row: JsonValue, reason: str) -> None:
    assert reason_of("preference", row) == reason


# not to be imitated


LIKINGS: list[dict[str, JsonValue]] = [
    {"label": False},
    {"label": True},
    {"kto_tag": False},
    {"kto_tag": 0},
    {"rejected": "c"},
    {"rejected_response": "c"},
    {"chosen": "b", "rejected": "c"},
    {"chosen_response": "b"},
    {"rejected_messages": []},
]


@pytest.mark.parametrize("liking", LIKINGS)
@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("pairs", {"prompt": "a", "completion": "b"}),
        ("pairs", {"question": "a", "answer": "b"}),
        ("alpaca", {"instruction": "a", "input": "", "output": "b"}),
        ("prompt_messages", {"prompt": [{"role": "user", "content": "a"}], "completion": "b"}),
        ("spider", {"question": "a", "query": "b", "db_id": "d", "schema": "c"}),
        ("infilling", {"prompt": "a", "suffix": "c", "canonical_solution": "b"}),
        ("humaneval", {"prompt": "a", "canonical_solution": "b"}),
        ("nl2code", {"nl": "a", "code": "b"}),
        ("leetcode", {"description": "a", "func_name": "f", "python_solution": "b"}),
    ],
)
def test_an_answer_that_may_be_disliked_is_never_imitated(
    name: str, row: dict[str, JsonValue], liking: dict[str, JsonValue]
) -> None:
    assert by_name(name).convert(row)
    assert reason_of(name, {**row, **liking}) == "preference_row"


@pytest.mark.parametrize("label", [0, 1])
def test_a_number_is_a_liking_beside_ktos_columns_and_a_class_elsewhere(label: int) -> None:
    kto: dict[str, JsonValue] = {"prompt": "a", "completion": "b", "label": label}
    assert reason_of("pairs", kto) == "preference_row"
    assert by_name("preference").convert(kto) == Conversation((U, A), desirable=bool(label))
    assert by_name("pairs").convert({"question": "a", "answer": "b", "label": label}) == turns("a", "b")
    assert by_name("code_search").convert({"doc": "a", "code": "b", "label": label}).messages[-1].content in (
        "yes",
        "no",
    )


@pytest.mark.parametrize("label", ["positive", 2, None, "0"])
def test_a_label_that_is_a_class_is_no_liking(label: JsonValue) -> None:
    assert by_name("pairs").convert({"prompt": "a", "completion": "b", "label": label}) == turns("a", "b")
