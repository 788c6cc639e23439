"""HTML that is safe by construction: whatever is not markup already is escaped, and no invisible character stays invisible."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from typing import TypeAlias

_INVISIBLE = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
"""Control characters, marks that turn the direction of text, blanks without width, halves of surrogate pairs."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | Iterable[Child] | None"

_VOID = frozenset({"meta"})


def el(name: str, /, *children: Child, **attributes: str | int | float | bool | None) -> Markup:
    """An element. `class_` and `http_equiv` stand for `class` and `http-equiv`; False and None leave an attribute out."""
    written = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{html.escape(str(value), quote=True)}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    return Markup(f"<{name}{written}>" if name in _VOID else f"<{name}{written}>{join(children)}</{name}>")


def join(children: Iterable[Child]) -> Markup:
    """Children one after another; text is escaped."""
    return Markup("".join(map(_written, children)))


def _written(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return str(child)
    if isinstance(child, str):
        return text(child)
    if isinstance(child, int):
        return f"{child:,}"
    return join(child)


def text(value: str) -> Markup:
    """Text as HTML; characters that can't be seen are shown by their numbers."""
    if not _INVISIBLE.search(value):
        return Markup(html.escape(value, quote=False))
    parts, done = [], 0
    for found in _INVISIBLE.finditer(value):
        parts.append(html.escape(value[done : found.start()], quote=False))
        parts.append(f'<span class="hidden-char">U+{ord(found.group()):04X}</span>')
        done = found.end()
    return Markup("".join([*parts, html.escape(value[done:], quote=False)]))


def shortened(value: str, most: int) -> str:
    """The beginning of a text, and how much is left out."""
    return value if len(value) <= most else f"{value[:most]}… ({len(value) - most:,} more characters)"
