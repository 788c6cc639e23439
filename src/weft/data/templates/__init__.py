"""How a conversation becomes text, and which of it is trained: one file a template, each with `build(settings, tokenizer)`.

A template gives pieces (text, weight, control) instead of a string, so nothing has to be searched for afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, Protocol

from weft import plugins
from weft.config.settings import TemplateSettings
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import TEXT_ROLE, Message, Piece

TrainOn = Literal["all_answers", "last_answer"]


class Template(Protocol):
    """Renders messages. `fingerprint` names everything that decides the text; `jinja` is the same template for other programs."""

    @property
    def name(self) -> str: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def stop(self) -> str:
        """The control token that ends an answer."""
        ...

    @property
    def answer_end(self) -> str:
        """What the template writes between an answer and its stop token ('' for most): no part of the answer itself."""
        ...

    def render(self, messages: Sequence[Message], train_on: TrainOn) -> list[Piece]:
        """A whole conversation with what is trained of it. Raises TemplateError where it can't be rendered or verified."""
        ...

    def prompt(self, messages: Sequence[Message]) -> list[Piece]:
        """The conversation so far and the start of an answer: exactly what training shows before an answer."""
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


def jinja_with_system(source: str, system: str | None) -> str:
    """The same for a template in Jinja, by a line before its source."""
    if system is None:
        return source
    message = f"{{'role': 'system', 'content': {system!r}}}"
    condition = "{%- if not messages or messages[0]['role'] != 'system' %}"
    return f"{condition}{{%- set messages = [{message}] + messages %}}{{%- endif %}}\n{source}"


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


def read_jinja(path: str) -> str:
    """The text of a template file. Raises TemplateError where it can't be read."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TemplateError(f"template.name: can't read {path}: {error}") from error
