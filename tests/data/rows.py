"""What tests of formats share: rows of any kind, and ways to say what they mean."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import strategies as st

from weft.data.formats import Converter, RowError, by_name
from weft.types import Conversation, JsonValue, Message

U, A, S = Message("user", "a"), Message("assistant", "b"), Message("system", "s")

KEYS = re.findall(
    r"\w+",
    """instruction input output response history system prompt answer question query completion messages conversations
    text chat_rounds role content from value train weight type tools context label chosen rejected tool_calls loss_weight
    function name arguments parameters canonical_solution suffix nl code doc test_list db_id schema reward_model extra_info
    input_ids labels loss_mask attention_mask conversation turns speaker utterance instances task_id desc_en Difficulty
    chosen_messages rejected_messages rejected_response kto_tag description func_name python_solution documents loss
    reasoning_content tool_call_id output_with_loss""",
)
WORDS = [
    *KEYS,
    *("user", "assistant", "human", "gpt", "bot", "tool", "pretrain", "function_call", "observation", "USER", "SYSTEM"),
    *(
        "",
        " ",
        "x",
        "[]",
        "{}",
        '{"name": "f"}',
        '[{"name": "f", "arguments": "{}"}]',
        "[" * 200_000,
        "NaN",
        '"\\ud800"',
    ),
    *("### Human: a ### Assistant: b", "Java/1", "tool_call", "reasoning"),
]
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


def outcome(convert: Converter, row: JsonValue) -> Conversation | RowError:
    """What a row becomes; any other exception than RowError passes."""
    try:
        return convert(row)
    except RowError as error:
        return error


def reason_of(name: str, row: Any) -> str:
    """Why a format refuses a row."""
    with pytest.raises(RowError) as raised:
        by_name(name).convert(row)
    assert raised.value.detail
    return raised.value.reason
