"""HumanEval, HumanEval-X and MBPP-X: a `prompt` (a function's head, or what it should do) and its `canonical_solution`."""

from __future__ import annotations

from weft.data.formats import Format, exchange, fields, text_of, to_imitate
from weft.types import Conversation, JsonValue


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "prompt" in row and "canonical_solution" in row and "suffix" not in row


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    row = fields(row)
    return exchange(text_of(row, "prompt"), text_of(row, "canonical_solution"))


FORMAT = Format(
    name="humaneval",
    order=19,
    fits=fits,
    convert=convert,
    examples=(
        {
            "task_id": "Python/0",
            "prompt": 'def one():\n    """Returns 1."""\n',
            "canonical_solution": "    return 1\n",
            "entry_point": "one",
            "test": "assert one() == 1",
        },
        {"prompt": "Write a function that returns 1.", "canonical_solution": "def one():\n    return 1"},
    ),
)
