"""A setting's type and limits in plain words, and near spellings: what error messages and the reference are made of."""

from __future__ import annotations

import difflib
import types
import typing
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PLAIN: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    Path: "a path",
}
_PLURAL: dict[object, str] = {str: "texts", int: "whole numbers", float: "numbers", Path: "paths"}
_BOUNDS = (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below"))


def near(word: str, options: Iterable[str]) -> str | None:
    """The option that `word` was most likely meant to be, whatever its case; None where nothing comes close."""
    by_lower = {option.lower(): option for option in options}
    found = difflib.get_close_matches(word.lower(), list(by_lower), n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def did_you_mean(word: str, options: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing."""
    found = near(word, options)
    return f"; did you mean '{found}'?" if found else ""


def show(value: object) -> str:
    """A value as a message prints it: on one line, never long."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits has no repr
        return f"a huge {type(value).__name__}"
    return text if len(text) <= 80 else text[:60] + " … " + text[-15:]


def bare(annotation: object) -> object:
    """The annotation without its `Annotated` wrapping."""
    while typing.get_origin(annotation) is typing.Annotated:
        annotation = typing.get_args(annotation)[0]
    return annotation


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section that an annotation stands for, or None where it is a plain setting."""
    annotation = bare(annotation)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def entry_of(annotation: object) -> object | None:
    """The annotation of the values of a mapping such as `tasks`, or None where it is no mapping."""
    annotation = bare(annotation)
    return typing.get_args(annotation)[1] if typing.get_origin(annotation) is dict else None


def item_of(annotation: object) -> object | None:
    """The annotation of the items of a list such as `mixture.stages`, or None where it is no list."""
    annotation = bare(annotation)
    return typing.get_args(annotation)[0] if typing.get_origin(annotation) is list else None


def is_optional(annotation: object) -> bool:
    """Whether null is a value of the setting."""
    return type(None) in typing.get_args(bare(annotation))


def choices(annotation: object) -> tuple[str, ...]:
    """The words that a setting with a fixed choice accepts; empty for all others."""
    annotation = bare(annotation)
    if typing.get_origin(annotation) is Literal:
        return tuple(str(value) for value in typing.get_args(annotation))
    if typing.get_origin(annotation) is list:
        return choices(typing.get_args(annotation)[0])
    return ()


def describe(field: FieldInfo) -> str:
    """What a setting accepts, as in 'a whole number (at least 1)'."""
    return describe_type(field.annotation) + _limits(field)


def describe_type(annotation: object) -> str:
    """What a type accepts, without the field's limits."""
    annotation = bare(annotation)
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    words = "a section" if section_of(annotation) else _PLAIN.get(annotation, str(annotation))
    if origin is Literal:
        one_of = choices(annotation)
        words = one_of[0] if len(one_of) == 1 else "one of " + ", ".join(one_of)
    elif origin in (typing.Union, types.UnionType):
        words = " or ".join(describe_type(each) for each in arguments if each is not type(None))
    elif origin is list:
        items = ", ".join(choices(arguments[0])) or _PLURAL.get(arguments[0]) or describe_type(arguments[0])
        words = f"a list of {items}"
    elif origin is tuple:
        words = f"{len(arguments)} {_PLURAL.get(arguments[0], 'values')}"
    elif origin is dict:
        words = f"a mapping of names to {_PLURAL.get(bare(arguments[1]), 'sections')}"
    return words


def _limits(field: FieldInfo) -> str:
    found = [
        f"{words} {getattr(limit, name)}" for limit in field.metadata for name, words in _BOUNDS if hasattr(limit, name)
    ]
    return f" ({', '.join(found)})" if found else ""
