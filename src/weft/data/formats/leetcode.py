"""TestEval's LeetCode problems: a `description`, the method's name, and a `python_solution`.

The file is made for asking a model for tests and counting what they cover; it holds no tests to learn from. What it can
teach is the solution.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, exchange, fields, text_of, to_imitate
from weft.types import Conversation, JsonValue


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and all(key in row for key in ("description", "func_name", "python_solution"))


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    row = fields(row)
    problem, name = text_of(row, "description"), text_of(row, "func_name")
    if not problem.strip():
        raise RowError("empty_prompt", "the description is empty or white space")
    prompt = f"{problem.rstrip()}\n\nWrite it in Python as the method `{name}` of a class `Solution`."
    return exchange(prompt, text_of(row, "python_solution"))


FORMAT = Format(
    name="leetcode",
    order=54,
    fits=fits,
    convert=convert,
    examples=(
        {
            "task_num": 1,
            "task_title": "One",
            "func_name": "one",
            "description": "Return one.\n",
            "python_solution": "class Solution:\n  def one(self) -> int:\n    return 1\n",
            "target_lines": [3],
        },
    ),
)
