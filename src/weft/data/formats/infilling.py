"""Code infilling: what stands before a gap (`prompt`), behind it (`suffix`), and what fills it (`canonical_solution`).

The fill may be called `middle` and the text before it `prefix`. A fill of white space is text like any other in code.
"""

from __future__ import annotations

from weft.data.formats import Format, check, fields, text_of, to_imitate
from weft.types import FIM_ROLES, Conversation, JsonObject, JsonValue, Message


def _keys(row: JsonObject) -> tuple[str, str]:
    return "prefix" if "prefix" in row else "prompt", "middle" if "middle" in row else "canonical_solution"


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "suffix" in row and all(key in row for key in _keys(row))


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    row = fields(row)
    before, fill = _keys(row)
    prefix, suffix = Message(FIM_ROLES[0], text_of(row, before)), Message(FIM_ROLES[1], text_of(row, "suffix"))
    return check(Conversation((prefix, suffix, Message("assistant", text_of(row, fill)))))


FORMAT = Format(
    name="infilling",
    order=17,
    fits=fits,
    convert=convert,
    examples=(
        {"prompt": "def one():\n", "suffix": "\n\nprint(one())\n", "canonical_solution": "    return 1"},
        {"task_id": "a/0", "prompt": "x = ", "suffix": "", "canonical_solution": "1", "test": "assert x"},
        {"prefix": "x = ", "suffix": "\n", "middle": "1"},
    ),
)
