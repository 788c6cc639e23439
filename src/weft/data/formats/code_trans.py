"""Code translation as codefuse-evaluation writes it: `prompt` in one language, `canonical_solution` in another.

The row names the language to translate to in `task_id` (`Java/1`); it is said before the code, or nobody could know what is
asked for.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, exchange, fields, text_of, to_imitate
from weft.types import Conversation, JsonValue

_NAMES = {"CPP": "C++"}


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and all(
        key in row for key in ("task_id", "prompt", "canonical_solution", "desc_en", "Difficulty")
    )


def convert(row: JsonValue) -> Conversation:
    to_imitate(row)
    row = fields(row)
    code, answer, task = text_of(row, "prompt"), text_of(row, "canonical_solution"), text_of(row, "task_id")
    language, slash, _ = task.partition("/")
    if not slash or not language.strip():
        raise RowError("missing_key", f"'task_id' is {task[:40]!r}; expected the target language before a slash")
    if not code.strip():
        raise RowError("empty_prompt", "there is no code to translate")
    return exchange(f"Translate this code to {_NAMES.get(language, language)}:\n{code}", answer)


FORMAT = Format(
    name="code_trans",
    order=18,
    fits=fits,
    convert=convert,
    examples=(
        {
            "task_id": "CPP/1",
            "prompt": "def one():\n    return 1",
            "canonical_solution": "int one() { return 1; }",
            "test": "assert(one() == 1);",
            "func_title": "one",
            "desc_en": "Return one.",
            "Difficulty": "easy",
        },
    ),
)
