"""Formats: what a row means. One file a format, each with `FORMAT = Format(…)`; nothing is registered by hand.

Which format a task has is told from its first rows. Each row votes for the first format, by `Format.order`, that it
fits; most votes win, and ties go to the lower order. The order makes the format that says more of a row go before one
that would drop a part:

    2 tokens            input_ids: tokenized elsewhere
    4 preference        chosen and rejected, or turns with a true/false label
    10 alpaca           instruction + output (or input + response, or instances); a pair would read `input` alone
    15 prompt_messages  a prompt of messages + completion or reward_model
    16 spider           question + query + db_id; its tables come from beside the row
    17 infilling        prompt + suffix + canonical_solution
    18 code_trans       prompt + canonical_solution + the language to translate to
    19 humaneval        prompt + canonical_solution
    20 pairs            prompt/answer and the others; MFTCoder reads them before chat_rounds
    30 chat_rounds      chat_rounds
    40 messages         messages, or a bare list of them
    45 xtuner           conversation: XTuner's own
    50 sharegpt         conversations
    51 sgd              turns of speaker and utterance
    52 code_search      doc + code + label
    53 nl2code          nl + code, or text + code + test_list
    54 leetcode         description + func_name + python_solution
    58 oasst1           a text of ### Human: and ### Assistant:
    60 text             text, and nothing beside it that looks like an answer or a label

The format is never changed for a single row: one that does not fit is rejected as `wrong_format`. A row is converted
as it stands; nothing is stripped or mended. Beside the formats of this folder there are the user's own: a task's
`columns` and row templates (`_columns`), and a function at a dotted path (`_own`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache

from weft.data.formats._check import MAX_TURNS, check
from weft.data.formats._core import (
    Bound,
    Converter,
    Format,
    RowError,
    blank,
    exchange,
    fields,
    json_of,
    keys_of,
    optional_text,
    system_of,
    system_text,
    text_of,
)
from weft.data.formats._guard import to_imitate
from weft.data.formats._own import from_function
from weft.errors import ConfigError, DataError
from weft.plugins import find, names
from weft.types import JsonValue

__all__ = [
    "MAX_TURNS",
    "Bound",
    "Converter",
    "Format",
    "RowError",
    "blank",
    "by_name",
    "check",
    "detect",
    "exchange",
    "fields",
    "first_fit",
    "json_of",
    "keys_of",
    "known",
    "optional_text",
    "system_of",
    "system_text",
    "text_of",
    "to_imitate",
]

_NOT_TO_LEARN = (
    (frozenset({"question_id", "turns"}), "These are questions without answers: there is nothing to learn from them"),
    (frozenset({"question_id", "choices"}), "These are answers without questions: there is nothing to learn from them"),
    (
        frozenset({"db_id", "table_names_original"}),
        "These are descriptions of databases: name the file as tasks.NAME.schemas beside the rows that ask about them",
    ),
)
"""Rows that are met and hold nothing to learn, by their keys."""


@cache
def known() -> tuple[Format, ...]:
    """All formats in this folder, by their order of precedence."""
    found: list[Format] = [find(__name__, name, "FORMAT", "format") for name in names(__name__)]
    return tuple(sorted(found, key=lambda format: (format.order, format.name)))


def by_name(name: str, setting: str = "format") -> Format:
    """The format of a name, or a user's own at a dotted path `module:attribute`: a Format, or a function of a row.

    Raises ConfigError naming the setting.
    """
    found = find(__name__, name, "FORMAT", setting)
    if isinstance(found, Format):
        return found
    if not callable(found):
        raise ConfigError(
            f"{setting}: {name!r} is {type(found).__name__}, neither a function of a row nor a weft.data.formats.Format"
        )
    return from_function(name, found)


def first_fit(row: JsonValue) -> Format | None:
    """The format that goes before all others that a row fits."""
    return next((format for format in known() if format.fits(row)), None)


def detect(rows_sample: Sequence[JsonValue]) -> Format:
    """The format that most rows of a sample have.

    Raises DataError listing the keys seen and the known formats if none fits any row.
    """
    votes = Counter(format.name for row in rows_sample if (format := first_fit(row)))
    if not votes:
        seen = Counter(keys_of(row) for row in rows_sample)
        shapes = "; ".join(f"{count} × {keys}" for keys, count in seen.most_common(5)) or "none"
        raise DataError(
            f"no known format fits the first {len(rows_sample)} rows. Keys seen: {shapes}. {_advice(rows_sample)}"
        )
    return max(known(), key=lambda format: (votes[format.name], -format.order))


def _advice(rows_sample: Sequence[JsonValue]) -> str:
    for keys, advice in _NOT_TO_LEARN:
        if any(isinstance(row, dict) and keys.issubset(row) for row in rows_sample):
            return advice
    return (
        "Say which column is what (tasks.NAME.columns: {user: …, assistant: …}, or the templates user: and assistant:), or "
        f"write a function of a row (tasks.NAME.format: 'module:function'). Known formats: {', '.join(f.name for f in known())}"
    )
