"""Tables that scroll within themselves where a screen is too narrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from weft.page.markup import Child, Markup, el


class Head(NamedTuple):
    """A column: its name, whether it holds numbers."""

    name: Child
    number: bool = True


class Cell(NamedTuple):
    """A cell with a colour."""

    content: Child
    kind: str = ""


def table(heads: Sequence[Head], rows: Sequence[Sequence[Child | Cell]], foot: int = 0, kind: str = "") -> Markup:
    """A table whose first column names its rows; the last `foot` rows stand apart."""
    lines = [
        el("tr", [_cell(content, head, first=i == 0) for i, (content, head) in enumerate(zip(row, heads, strict=True))])
        for row in rows
    ]
    body, end = lines[: len(lines) - foot], lines[len(lines) - foot :]
    names = [el("th", head.name, scope="col", class_="num" if head.number else "t") for head in heads]
    return el(
        "div",
        el(
            "table",
            el("thead", el("tr", names)),
            el("tbody", body),
            el("tfoot", end) if end else None,
            class_=kind or None,
        ),
        class_="scroll",
        tabindex="0",
    )


def _cell(content: Child | Cell, head: Head, first: bool) -> Markup:
    if first:
        return el("th", content.content if isinstance(content, Cell) else content, scope="row")
    cell = content if isinstance(content, Cell) else Cell(content)
    return el("td", cell.content, class_=f"{'num' if head.number else 't'} {cell.kind}".strip())
