"""Formats: what a row means. One file a format, each with `FORMAT = Format(…)`; nothing is registered by hand.

Which format a task has is told from its first rows. Each row votes for the first format, by `Format.order`, that it
fits; most votes win, and ties go to the lower order. The order makes the format that says more of a row go before one
that would drop a part:

    10 alpaca       instruction + output (or instruction + input + response); a pair would read `input` alone
    20 pairs        prompt/answer and the others; MFTCoder reads them before chat_rounds
    30 chat_rounds  chat_rounds
    40 messages     messages, or a bare list of them
    50 sharegpt     conversations
    60 text         text, and nothing beside it that looks like an answer or a label

The format is never changed for a single row: one that does not fit is rejected as `wrong_format`. A row is converted
as it stands; nothing is stripped or mended.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from weft.data.parse import kind_of
from weft.errors import ConfigError, DataError
from weft.plugins import find, names
from weft.types import ROLES, TEXT_ROLE, Conversation, JsonObject, JsonValue, Message

MAX_TURNS = 10_000

_FOLLOWS = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("tool", "assistant"),
}
"""Which roles may follow a role; '' is the start."""


class RowError(ValueError):
    """A row that can't be used: a short stable `reason` for counting, a `detail` for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a conversation as JSON.

    `fits` says by its keys whether a row is of this format, and never raises. `convert` gives a checked conversation
    or raises RowError, whatever the row. `examples` are rows that are this format and no other's; the conformance
    test reads them.
    """

    name: str
    order: int
    fits: Callable[[JsonValue], bool]
    convert: Callable[[JsonValue], Conversation]
    examples: tuple[JsonValue, ...]


@cache
def known() -> tuple[Format, ...]:
    """All formats in this folder, by their order of precedence."""
    found: list[Format] = [find(__name__, name, "FORMAT", "format") for name in names(__name__)]
    return tuple(sorted(found, key=lambda format: (format.order, format.name)))


def by_name(name: str, setting: str = "format") -> Format:
    """The format of a name, or a user's own at a dotted path `module:attribute`.

    Raises ConfigError naming the setting.
    """
    found = find(__name__, name, "FORMAT", setting)
    if not isinstance(found, Format):
        raise ConfigError(f"{setting}: {name!r} is {type(found).__name__}, not a weft.data.formats.Format")
    return found


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
            f"no known format fits the first {len(rows_sample)} rows. Keys seen: {shapes}. Known formats: "
            f"{', '.join(format.name for format in known())}. Rename the keys, or write a format ('module:attribute')"
        )
    return max(known(), key=lambda format: (votes[format.name], -format.order))


def check(conversation: Conversation) -> Conversation:
    """A conversation that can be trained, unchanged; RowError if it can't.

    A document of one text, or: a system message first if at all, then user and assistant in turn (tool messages
    between two assistants), an assistant at the end. User messages, the last answer and documents have content; only
    answers have a weight above 0, and not all of them 0.
    """
    messages = conversation.messages
    if len(messages) > MAX_TURNS:
        raise RowError("too_many_turns", f"{len(messages)} messages; at most {MAX_TURNS} are read")
    for number, message in enumerate(messages, 1):
        _check_message(number, message)
    if any(message.role == TEXT_ROLE for message in messages):
        if len(messages) > 1:
            raise RowError("bad_role_order", f"a document is one message of its own, not one of {len(messages)}")
        if not messages[0].content.strip():
            raise RowError("empty_text", "the text is empty or white space")
        _check_trained(messages)
        return conversation
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RowError("no_answer", f"no assistant message among {len(messages)}")
    _check_order(messages)
    if not answers[-1].content.strip():
        raise RowError("empty_answer", "the last assistant message is empty or white space")
    _check_trained(answers)
    return conversation


def _check_trained(targets: Sequence[Message]) -> None:
    if all(message.weight == 0 for message in targets):
        raise RowError("nothing_trained", f"the weight of every {targets[0].role} message is 0")


def _check_message(number: int, message: Message) -> None:
    if message.role not in ROLES:
        raise RowError("unknown_role", f"message {number}: {message.role[:40]!r}; known: {', '.join(ROLES)}")
    if message.role == "user" and not message.content.strip():
        raise RowError("empty_prompt", f"message {number}: the user message is empty or white space")
    if message.weight is None:
        return
    if not (message.weight == 0 or 1e-6 <= message.weight <= 1e6):
        raise RowError("bad_weight", f"message {number}: {message.weight} is neither 0 nor between 1e-6 and 1e6")
    if message.weight > 0 and message.role not in ("assistant", TEXT_ROLE):
        raise RowError(
            "bad_weight", f"message {number}: weight {message.weight} on {message.role}; only answers are trained"
        )


def _check_order(messages: Sequence[Message]) -> None:
    before = ""
    for number, message in enumerate(messages, 1):
        if message.role not in _FOLLOWS[before]:
            place = f"after {before}" if before else "at the start"
            raise RowError(
                "bad_role_order", f"message {number}: {message.role} {place}; expected {' or '.join(_FOLLOWS[before])}"
            )
        before = message.role
    if before != "assistant":
        raise RowError("no_final_answer", f"the last message is of {before}; there is nothing to learn after it")


def keys_of(row: JsonValue) -> str:
    """The keys of a row in words, for messages; short whatever the row holds."""
    if isinstance(row, dict):
        shown = ", ".join(repr(key[:40]) for key in list(row)[:12])
        return "{" + shown + (", …" if len(row) > 12 else "") + "}"
    if isinstance(row, list):
        return f"a list of {keys_of(row[0])}" if row and not isinstance(row[0], list) else "a list"
    return kind_of(row)


def fields(row: JsonValue) -> JsonObject:
    """The row as an object. Raises RowError."""
    if not isinstance(row, dict):
        raise RowError("wrong_type", f"the row is {kind_of(row)}; expected an object")
    return row


def text_of(holder: JsonObject, key: str, where: str = "") -> str:
    """The string at a key. Raises RowError naming the key, and the type that stands there instead."""
    if key not in holder:
        raise RowError("missing_key", f"{where}{key!r} is missing among {keys_of(holder)}")
    value = holder[key]
    if not isinstance(value, str):
        raise RowError("wrong_type", f"{where}{key!r} is {kind_of(value)}; expected a string")
    return value


def optional_text(holder: JsonObject, key: str) -> str:
    """The string at a key, '' where it is absent or null. Raises RowError."""
    return "" if holder.get(key) is None else text_of(holder, key)


def system_of(row: JsonObject) -> tuple[Message, ...]:
    """The message of a `system` column, none where it is absent or empty: a column holds '' in rows without one."""
    system = optional_text(row, "system")
    return (Message("system", system),) if system else ()
