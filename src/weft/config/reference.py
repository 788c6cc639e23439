"""The reference of all settings, made from their docstrings."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from weft.config.check import fields_of
from weft.config.settings import Settings
from weft.config.words import describe, entry_of, is_optional, section_of


def reference() -> str:
    """A Markdown table of every setting: section, setting, what it accepts, its default, what it is for."""
    lines = [
        "# Settings",
        "",
        "Made from `weft settings --reference`. A section's short form, where it has one, is told in its own row.",
        "",
        "| section | setting | accepts | default | meaning |",
        "|---|---|---|---|---|",
    ]
    return "\n".join([*lines, *_rows(), ""])


def _rows() -> Iterator[str]:
    for name, field in fields_of(Settings).items():
        entry = entry_of(field.annotation)
        section = section_of(field.annotation) or section_of(entry)
        accepts = describe(field)
        if name == "tasks":
            accepts = "for each task's name a path, or a section"
        elif name == "template":
            accepts = "a template's name, or a section"
        yield _row(name, "", accepts, "" if section else _default(field), field)
        if section:
            owner = f"{name}.NAME" if entry is not None else name
            yield from _section_rows(owner, section)


def _section_rows(owner: str, section: type[BaseModel]) -> Iterator[str]:
    for name, field in fields_of(section).items():
        yield _row(owner, name, describe(field), _default(field), field)


def _row(section: str, setting: str, accepts: str, default: str, field: FieldInfo) -> str:
    optional = ", or null" if is_optional(field.annotation) else ""
    cells = (section, setting, accepts + optional, default, " ".join((field.description or "").split()))
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return str(list(value))
    return str(value) if isinstance(value, str | int | float | Path | list | dict) else repr(value)
