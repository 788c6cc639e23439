"""Text to code: MBPP's `text` and CONCODE's `nl`, with `code`.

MBPP's `test_list` goes with the text, as in its paper (arXiv 2108.07732): the tests say what the function is called.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, exchange, fields, text_of, to_imitate
from weft.data.parse import kind_of
from weft.types import Conversation, JsonValue


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "code" in row and ("nl" in row or ("text" in row and "test_list" in row))


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    row = fields(row)
    prompt, tests = text_of(row, "nl" if "nl" in row else "text"), row.get("test_list")
    if tests:
        if not isinstance(tests, list):
            raise RowError("wrong_type", f"'test_list' is {kind_of(tests)}; expected a list of strings")
        lines = [test for test in tests if isinstance(test, str)]
        if len(lines) != len(tests):
            raise RowError("wrong_type", "'test_list' holds what is no string")
        if prompt.strip():
            prompt = "\n".join([prompt, "Your code should pass these tests:", *lines])
    return exchange(prompt, text_of(row, "code"))


FORMAT = Format(
    name="nl2code",
    order=53,
    fits=fits,
    convert=convert,
    examples=(
        {
            "task_id": 1,
            "text": "Write a function that returns 1.",
            "code": "def one():\r\n    return 1",
            "test_list": ["assert one() == 1"],
            "test_setup_code": "",
            "challenge_test_list": [],
        },
        {"nl": "returns one . concode_field_sep int one", "code": "int function ( ) { return one ; }"},
    ),
)
