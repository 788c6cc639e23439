"""The types that cross rooms; no logic.

Shape suffixes used everywhere: T tokens of a flat row, S samples, K tasks, D hidden size, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"
JsonObject: TypeAlias = "dict[str, JsonValue]"

TEXT_ROLE = "text"
"""The role of the single message of a plain document: all of it is trained and no template is applied."""

FIM_ROLES = ("fim_prefix", "fim_suffix")
"""The roles of what stands before and behind a gap in a document; an assistant message after them fills it."""

ROLES = ("system", "user", "assistant", "tool", TEXT_ROLE, *FIM_ROLES)


class ToolCall(NamedTuple):
    """A function that an assistant calls. `arguments` is an object; `id` is '' where the data names none."""

    name: str
    arguments: JsonObject
    id: str = ""


class Message(NamedTuple):
    """One turn. `weight` is how much its tokens are trained; None leaves that to the task's `train_on`.

    `reasoning` is what an assistant thought before its answer. A tool's message says whom it answers by `name` and `call_id`.
    """

    role: str
    content: str
    weight: float | None = None
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    name: str = ""
    call_id: str = ""


class Tokens(NamedTuple):
    """A sample that was tokenized elsewhere: ids and as many weights (0: context)."""

    ids: tuple[int, ...]
    weights: tuple[float, ...]


class Conversation(NamedTuple):
    """What a row means, whatever its format was.

    `tools` are JSON schemas in OpenAI's form, `documents` what a template may quote from. A preference row has `messages` that
    end with the preferred answer and `rejected`, the same with the other one; or it has `desirable`, whether the answer is
    liked. A row with `tokens` has no messages.
    """

    messages: tuple[Message, ...]
    tools: tuple[JsonObject, ...] = ()
    documents: tuple[JsonObject, ...] = ()
    rejected: tuple[Message, ...] = ()
    desirable: bool | None = None
    tokens: Tokens | None = None


class RowId(NamedTuple):
    """Where a row stands: the file relative to the task's folder and the 1-based line (or item of a JSON array)."""

    file: str
    line: int

    def of(self, task: str) -> str:
        """The public name of the row: `task:file:line`."""
        return f"{task}:{self.file}:{self.line}"


class Piece(NamedTuple):
    """A stretch of rendered text.

    `weight` 0.0 is context, above 0.0 is trained. `control` marks text that the template wrote: only there do strings such as
    `</s>` stand for control tokens; in what a user wrote they stay text. `cut`: generation starts or ends before this piece, so
    no token may reach over its start.
    """

    text: str
    weight: float
    control: bool
    cut: bool = False


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not used, and why. `reason` is a short stable key for counting; `detail` is for people.

    `raw` is the row as it stood, to be mended and read again: its JSON value where it has one, else its text ('' where it is too large).
    """

    row: RowId
    reason: str
    detail: str
    raw: JsonValue = ""


@dataclass(frozen=True, slots=True)
class TaskLedger:
    """What became of a task's rows; `read == used + quarantined + sum(dropped.values())` always holds."""

    task: str
    format: str
    read: int
    used: int
    quarantined: int
    dropped: Mapping[str, int] = field(default_factory=dict)
    cut: int = 0
    tokens: int = 0
    trained_tokens: int = 0


class Progress(NamedTuple):
    """How far a long piece of work has come. `total` is 0 where it is not known; `note` is one line for people.

    `unit` is 'bytes' where bytes are counted. `text` is something to be shown once, whole.
    """

    what: str
    done: int
    total: int
    note: str = ""
    unit: str = ""
    text: str = ""


ProgressHook: TypeAlias = Callable[[Progress], None]


def silent(_: Progress) -> None:
    """The hook that tells nobody."""
