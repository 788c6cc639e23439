"""How a conversation becomes text, and which of it is trained: one file a template, each with `build(settings, tokenizer)`.

A template gives pieces (text, weight, control) instead of a string, so nothing has to be searched for afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from weft import plugins
from weft.config.settings import TemplateSettings
from weft.data.templates._gap import gap
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import FIM_ROLES, TEXT_ROLE, JsonObject, Message, Piece

TrainOn = Literal["all_answers", "last_answer"]


class Template(Protocol):
    """Renders messages. `fingerprint` names everything that decides the text; `jinja` is the same template for other programs.

    Contents, tools, calls and documents are data: no piece of them is ever `control`, so nothing in them becomes a control token.
    An answer's tool calls are trained as its text is; what tools give back never is. A conversation that the template has no way
    to write (tools, reasoning, documents, a role) is refused with a TemplateError, never written in part.
    """

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def stop(self) -> str:
        """The control token that ends an answer."""
        ...

    @property
    def answer_start(self) -> str:
        """What the model writes before an answer's text ('' for most; a space for Llama-2): trained, but no part of the answer."""
        ...

    @property
    def answer_end(self) -> str:
        """What the template writes between an answer and its stop token ('' for most): no part of the answer itself."""
        ...

    def render(
        self,
        messages: Sequence[Message],
        train_on: TrainOn,
        tools: Sequence[JsonObject] = (),
        documents: Sequence[JsonObject] = (),
    ) -> list[Piece]:
        """A whole conversation with what is trained of it. Raises TemplateError where it can't be rendered or verified."""
        ...

    def prompt(
        self,
        messages: Sequence[Message],
        tools: Sequence[JsonObject] = (),
        documents: Sequence[JsonObject] = (),
        continue_final: bool = False,
    ) -> list[Piece]:
        """The conversation so far and the start of an answer: exactly what training shows before an answer.

        `continue_final`: the last message is an answer that is only begun; the text ends with it, to be gone on with.
        """
        ...

    def jinja(self) -> str:
        """The template as a chat template that Transformers and servers understand."""
        ...


def build(settings: TemplateSettings, tokenizer: Tokenizer) -> Template:
    """The template of a run. auto: the tokenizer's own where it has one, else MFTCoder's role markers."""
    name = settings.name
    if name == "auto":
        name = "tokenizer" if own_template(tokenizer) is not None else "mftcoder"
    if name.endswith((".jinja", ".jinja2", ".j2")):
        name = "tokenizer"
    template: Template = plugins.find("weft.data.templates", name, "build", "template.name")(settings, tokenizer)
    return template


def own_template(tokenizer: Tokenizer) -> str | None:
    """The chat template in a tokenizer's folder: `chat_template.jinja`, or the default one of tokenizer_config.json."""
    file = tokenizer.folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text("utf-8")
    value = tokenizer.config.get("chat_template")
    if isinstance(value, list):
        value = {entry["name"]: entry["template"] for entry in value}.get("default")
    return value if isinstance(value, str) else None


def message_weights(messages: Sequence[Message], train_on: TrainOn) -> list[float]:
    """How much each message is trained: its own weight, else 1 for assistant turns as `train_on` says, else 0."""
    answers = [i for i, message in enumerate(messages) if message.role == "assistant"]
    chosen = set(answers if train_on == "all_answers" else answers[-1:])
    return [
        (message.weight if message.weight is not None else float(i in chosen)) if message.role == "assistant" else 0.0
        for i, message in enumerate(messages)
    ]


def with_system(messages: Sequence[Message], system: str | None) -> list[Message]:
    """The messages with the template's system message in front where they have none of their own."""
    if system is None or (messages and messages[0].role == "system"):
        return list(messages)
    return [Message("system", system), *messages]


def without_template(messages: Sequence[Message], tokenizer: Tokenizer, to_go_on: bool = False) -> list[Piece] | None:
    """Plain documents and documents with a gap, which no template writes; None for conversations.

    `to_go_on`: without a stop token, for the model to go on with.
    """
    role = messages[0].role if messages else ""
    if role == TEXT_ROLE:
        pieces = document(messages, tokenizer)
        return pieces[:-1] if to_go_on and pieces else pieces
    return gap(messages, tokenizer, to_go_on) if role in FIM_ROLES else None


def document(messages: Sequence[Message], tokenizer: Tokenizer) -> list[Piece] | None:
    """A plain document: the tokenizer's own start, the text, the stop token, all trained. None for conversations."""
    if len(messages) != 1 or messages[0].role != TEXT_ROLE:
        return None
    weight = 1.0 if messages[0].weight is None else messages[0].weight
    return [
        Piece(tokenizer.bos_text, 0.0, True),
        Piece(messages[0].content, weight, False),
        Piece(tokenizer.eos_token, weight, True),
    ]


def check_continued(messages: Sequence[Message]) -> None:
    """Raises TemplateError where the last message is no answer that can be gone on with."""
    if not messages or messages[-1].role != "assistant" or messages[-1].tool_calls:
        raise TemplateError("only an assistant's last message that calls no tool can be continued")


def read_jinja(path: str) -> str:
    """The text of a template file. Raises TemplateError where it can't be read."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"template.name: can't read {path}: {error}") from error
