"""Proves that no data becomes part of a control token that a template writes around it, such as `<{{ key }}>` of the key `|im_end|`.

The one idea: a frame is rendered once more with all its data in other letters (each character moved to Unicode's private use, so that
lengths and what equals what stay). The template's control tokens must be the same ones in the same order.

Some templates ask for words that stand in data (a type, a tool's name) and then write otherwise. For those the words that the template
itself names stay, if none of them is part of a control token in the text.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import cast

from weft.data.templates._skeleton import Control, Frame, Render, Skeleton, plain_text
from weft.errors import TemplateError
from weft.types import JsonObject, JsonValue

_PRIVATE, _PRIVATE_TOO = 0xF0000, 0x100000
_OF_A_TURN = ("role", "content", "reasoning_content", "thinking")
_SCHEMA_KEYS = frozenset((
    "type", "function", "name", "description", "parameters", "properties", "required", "items", "enum", "default", "format", "title",
    "anyOf", "oneOf", "allOf", "additionalProperties", "return", "returns", "strict", "nullable", "minimum", "maximum",
    "id", "arguments", "tool_calls", "tool_call_id", "text",
))  # fmt: skip
"""Keys that may stay where a tool's schema, a call or a document has keys of its own, and no names out of data."""
_TYPES = frozenset(("function", "object", "string", "number", "integer", "boolean", "array", "null"))
_NAMES = frozenset(("properties", "patternProperties", "$defs", "definitions", "arguments"))
"""Keys of objects whose keys are data."""


def check_tokens(
    name: str,
    frame: Frame,
    generate: bool,
    skeleton: Skeleton,
    render: Render,
    control: Control,
    named: Collection[str],
) -> None:
    """Raises TemplateError where data is part of a control token. `named` are the words in the template's code, in lower case."""
    turns = [cast(JsonObject, json.loads(turn)) for turn in frame.turns]
    if not frame.offer and all(turn.keys() <= set(_OF_A_TURN) for turn in turns):
        return
    own = "".join(segment.text if segment.slot is None else "\u2997" for segment in skeleton.segments)
    tokens = _tokens(own, control)
    offer = cast(JsonObject, json.loads(frame.offer)) if frame.offer else {}
    found: list[str] | None = None
    for keeps in (False, True):
        kept: set[str] = set()
        change = _Change(named, keeps, kept).of
        neutral = Frame(
            tuple(_dump({k: v if k in _OF_A_TURN else change(v, k) for k, v in turn.items()}) for turn in turns),
            _dump({k: change(v, k) for k, v in offer.items()}) if offer else "",
        )
        try:
            found = _tokens(plain_text(render(neutral, generate)), control)
        except TemplateError:  # it can't do without a word that stands in the data
            continue
        if found == tokens and not any(word in token for word in kept for token in tokens):
            return
    if found is None:
        raise TemplateError(
            f"template {name}: can't prove that no tool, call, name or document becomes part of a control token: it "
            "can't be rendered with other words in their place"
        )
    odd = next(
        (a for a, b in zip(tokens, found, strict=False) if a != b),
        tokens[len(found)] if len(tokens) > len(found) else tokens[0],
    )
    raise TemplateError(
        f"template {name}: a tool, call, name or document would become part of the control token {odd!r}; rename what the template "
        "writes there"
    )


def _dump(value: JsonObject) -> str:
    return json.dumps(value, ensure_ascii=False)


def _tokens(text: str, control: Control) -> list[str]:
    """All control tokens in a text, in order."""
    found: list[str] = []
    while (token := control(text)) is not None:
        found.append(token)
        text = text[text.index(token) + len(token) :]
    return found


class _Change:
    """Data in other letters. `keeps`: words that the template names stay; `kept` gathers those that are no schema's own."""

    def __init__(self, named: Collection[str], keeps: bool, kept: set[str]) -> None:
        self._named, self._keeps, self._kept = named, keeps, kept

    def of(self, value: JsonValue, key: str = "", is_data: bool = False) -> JsonValue:
        """The value of a key. `is_data`: all keys in it are data."""
        if isinstance(value, str):
            return self._word(value, key == "type" and not is_data and value in _TYPES)
        if isinstance(value, list):
            return [self.of(item, key, is_data) for item in value]
        if not isinstance(value, dict):
            return value
        names = is_data or key in _NAMES
        deep = is_data or key == "arguments"
        return {self._key(k, names): self.of(v, "" if names else k, deep) for k, v in value.items()}

    def _key(self, key: str, is_data: bool) -> str:
        if not is_data and key in _SCHEMA_KEYS:
            return key
        if not is_data and key.lower() in self._named:
            self._kept.add(key)
            return key
        return self._word(key, False)

    def _word(self, word: str, is_type: bool) -> str:
        if not self._keeps or word.lower() not in self._named:
            return moved(word)
        if not is_type:
            self._kept.add(word)
        return word


def moved(text: str) -> str:
    """A text with every character in Unicode's private use: as long as it was, and other texts stay other texts."""
    return text.translate(_MOVES)


class _Moves(dict[int, int]):
    """Where each character goes, worked out when it first comes."""

    def __missing__(self, code: int) -> int:
        self[code] = _PRIVATE + code if code < 0xFFFE else _PRIVATE_TOO + code % 0xFFFE
        return self[code]


_MOVES = _Moves()
