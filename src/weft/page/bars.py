"""Parts of a whole as bars: SVG that stretches for what is drawn, HTML for what is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from weft.page.markup import Markup, el
from weft.page.words import percent


class Part(NamedTuple):
    """A part of a whole: its name, its number, the class that colours it."""

    name: str
    number: float
    kind: str


def stacked(parts: Sequence[Part]) -> Markup:
    """A whole as one bar, its parts side by side, each named below with its number and share."""
    total = sum(part.number for part in parts) or 1
    rects, start = [], 0.0
    for part in parts:
        width = 100 * part.number / total
        if part.number:
            rects.append(
                el("rect", x=f"{start:.3f}", y=0, width=f"{max(width, 0.35):.3f}", height=10, class_=part.kind)
            )
        start += width
    keys = [
        el(
            "li",
            el("i", class_=f"key {part.kind}"),
            el("span", part.name),
            el("b", f"{part.number:,.0f}"),
            el("small", percent(part.number / total)),
        )
        for part in parts
        if part.number
    ]
    drawing = el("svg", rects, viewBox="0 0 100 10", preserveAspectRatio="none", aria_hidden="true")
    return el("div", drawing, el("ul", keys, class_="legend"), class_="stacked")


def bar(share: float, kind: str = "") -> Markup:
    """A share of 1 as a bar with its percentage beside it."""
    fill = el("i", class_=kind or None, style=f"width:{100 * min(1.0, max(0.0, share)):.2f}%")
    return el("span", el("span", fill, class_="track"), el("span", percent(share), class_="value"), class_="bar")
