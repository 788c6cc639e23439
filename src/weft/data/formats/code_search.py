"""Code search as a question with a yes or a no: CoSQA's query (`doc`), `code` and `label` 0 or 1."""

from __future__ import annotations

from weft.data.formats import Format, RowError, exchange, fields, text_of
from weft.types import Conversation, JsonValue

QUESTION = "Does the code answer the query? Say yes or no."


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "doc" in row and "code" in row and "label" in row


def convert(row: JsonValue) -> Conversation:
    row = fields(row)
    query, code, label = text_of(row, "doc"), text_of(row, "code"), row.get("label")
    if not query.strip() or not code.strip():
        raise RowError("empty_prompt", "the query or the code is empty or white space")
    if isinstance(label, bool) or label not in (0, 1):
        raise RowError("bad_label", "'label' is neither 0 nor 1")
    return exchange(f"Query: {query}\nCode:\n{code}\n{QUESTION}", "yes" if label else "no")


FORMAT = Format(
    name="code_search",
    order=52,
    fits=fits,
    convert=convert,
    examples=(
        {"idx": "a", "doc": "python return one", "code": "def one():\n    return 1", "label": 1},
        {"doc": "python sort a list", "code": "def one():\n    return 1", "code_tokens": "def one", "label": 0},
    ),
)
