"""What the tests of templates share: a tokenizer that has every family's tokens, conversations, and ways to look at pieces."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import jinja2
from tokenizers import Tokenizer as Backend

from weft.config.settings import TemplateSettings
from weft.data import templates
from weft.data.templates import Template
from weft.data.templates._skeleton import turn_of
from weft.data.tokens import Tokenizer
from weft.plugins import names
from weft.types import JsonObject, Message, Piece, ToolCall

ALL = names("weft.data.templates")
NATIVE = [name for name in ALL if name != "tokenizer"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
HERMES = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}"
    "{{ m.content }}{% for call in m.tool_calls or [] %}<tool_call>{{ call.function.name }} {{ call.function.arguments | tojson }}"
    "</tool_call>{% endfor %}<|im_end|>{{ '\n' }}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTROL = [
    *("[gMASK]", "sop", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|EOT|>", "<|end_of_turn|>"),
    *("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>", "<end_of_turn>"),
    *("[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_CALLS]", "[TOOL_RESULTS]", "[/TOOL_RESULTS]"),
    *("<|plugin|>", "<|action_start|>", "<|action_end|>", "<tool_call>", "</tool_call>"),
]  # fmt: skip
TALK = [
    Message("system", "Be kind."),
    Message("user", "What is 1+1?"),
    Message("assistant", "It is 2."),
    Message("user", "And 2+2?\n"),
    Message("assistant", " It is 4"),
]
WEATHER: JsonObject = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "How the weather is — <|im_end|> </s> said in words",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CLOCK: JsonObject = {"type": "function", "function": {"name": "clock", "description": "é", "parameters": {}}}
CALL = ToolCall("weather", {"city": 'Köln "am" Rhein</s>', "days": 2, "deep": {"list": [1.5, None, True]}}, "call00001")
TOOL_TALK = [
    Message("system", "Use tools."),
    Message("user", "How is it in Köln?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", '{"sky": "blue <|im_end|>"}', name="weather", call_id="call00001"),
    Message("assistant", "Blue."),
    Message("user", "And now, and what time is it?"),
    Message("assistant", "", tool_calls=(CALL, ToolCall("clock", {}, "call00002"))),
    Message("tool", "grey", name="weather", call_id="call00001"),
    Message("tool", "noon", name="clock", call_id="call00002"),
    Message("assistant", "Grey at noon."),
]


def tokenizer_with(
    source: Path,
    folder: Path,
    *tokens: str,
    bos: str | None = None,
    template: str | None = CHATML,
    special: bool = True,
) -> Tokenizer:
    """The fixture's tokenizer with more control tokens, and a chat template of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        shutil.copy(file, folder)
    backend = Backend.from_file(str(folder / "tokenizer.json"))
    added = [*tokens, *([bos] if bos else [])]
    backend.add_special_tokens(added) if special else backend.add_tokens(added)
    backend.save(str(folder / "tokenizer.json"))
    config = json.loads((folder / "tokenizer_config.json").read_text()) | ({"bos_token": bos} if bos else {})
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, "utf-8")
    return Tokenizer.load(folder)


def make(tokenizer: Tokenizer, name: str, **settings: Any) -> Template:
    return templates.build(TemplateSettings(name=name, **settings), tokenizer)


def joined(pieces: Sequence[Piece]) -> str:
    return "".join(piece.text for piece in pieces)


def trained(pieces: Sequence[Piece]) -> list[tuple[str, float]]:
    """The stretches with a weight, each with it."""
    runs = [(key, joined(list(group))) for key, group in groupby(pieces, key=lambda piece: piece.weight)]
    return [(text, weight) for weight, text in runs if weight > 0 and text]


def mask(pieces: Sequence[Piece]) -> list[tuple[str, float, bool]]:
    """Each character with its weight, and whether a control token may stand there."""
    return [(character, piece.weight, piece.control) for piece in pieces for character in piece.text]


def cuts(pieces: Sequence[Piece]) -> set[int]:
    """The characters before which no token may reach over."""
    at, found = 0, set()
    for piece in pieces:
        found |= {at} if piece.cut else set()
        at += len(piece.text)
    return found - {at}


def written(template: Template, message: Message) -> str:
    """A content as the template writes it."""
    trims = message.role in getattr(template, "trimmed", ())
    return message.content.strip() if trims else message.content


def answer(template: Template, message: Message) -> str:
    """All that is trained of a plain answer."""
    return template.answer_start + written(template, message) + template.answer_end + template.stop


def plainly(
    source: str, messages: Sequence[Message], generate: bool = False, tools: Sequence[JsonObject] = (), **names: Any
) -> str:
    """A reference: Jinja as Transformers sets it up, without any of ours."""

    def refuse(message: str) -> None:
        raise ValueError(message)

    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = refuse
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source).render(
        messages=[turn_of(m) for m in messages], add_generation_prompt=generate, tools=list(tools) or None, **names
    )
