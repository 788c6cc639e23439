"""A prompt of messages beside its answer: TRL's prompt and completion, and the rows of reinforcement learning.

The latter have a `reward_model` with a `ground_truth`. The worked answer in `extra_info.answer` says more than the bare
result, so it goes before it.
"""

from __future__ import annotations

import json

from weft.data.formats import Format, RowError, check, fields, keys_of, to_imitate
from weft.data.formats._guard import all_used
from weft.data.formats._turns import conversation_of as turns_of
from weft.data.formats._turns import message_of, turns
from weft.data.parse import kind_of
from weft.types import Conversation, JsonObject, JsonValue, Message


def fits(row: JsonValue) -> bool:
    return (
        isinstance(row, dict) and isinstance(row.get("prompt"), list) and ("completion" in row or "reward_model" in row)
    )


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    return conversation_of(fields(row))


def conversation_of(row: JsonObject) -> Conversation:
    """The prompt and the answer, whoever likes it or not. Raises RowError."""
    all_used(row, ("context", "history"), "prompt", "completion")
    asked = turns_of(row, "prompt")
    return check(asked._replace(messages=(*asked.messages, *_answer(row))))


def _answer(row: JsonObject) -> tuple[Message, ...]:
    completion = row.get("completion")
    if isinstance(completion, list):
        return tuple(message_of(where, turn) for where, turn in turns(row, "completion"))
    if isinstance(completion, str):
        return (Message("assistant", completion),)
    extra, reward = row.get("extra_info"), row.get("reward_model")
    answer = extra.get("answer") if isinstance(extra, dict) else None
    if answer is None and isinstance(reward, dict):
        answer = reward.get("ground_truth")
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        try:
            answer = json.dumps(answer)
        except ValueError:
            raise RowError("wrong_type", "the answer is too large a number") from None
    if answer is None:
        raise RowError(
            "missing_key", f"neither completion nor extra_info.answer nor reward_model.ground_truth in {keys_of(row)}"
        )
    if not isinstance(answer, str):
        raise RowError("wrong_type", f"the answer is {kind_of(answer)}; expected a string or a number")
    return (Message("assistant", answer),)


FORMAT = Format(
    name="prompt_messages",
    order=15,
    fits=fits,
    convert=convert,
    examples=(
        {
            "prompt": [{"role": "user", "content": "1 + 1?"}],
            "completion": [{"role": "assistant", "content": "2"}],
        },
        {
            "data_source": "sums",
            "prompt": [{"role": "user", "content": "1 + 1?"}],
            "reward_model": {"ground_truth": "2", "style": "rule"},
            "extra_info": {"answer": "1 + 1 = 2\n#### 2"},
        },
        {"prompt": [{"role": "user", "content": "1 + 1?"}], "reward_model": {"ground_truth": 2}},
    ),
)
