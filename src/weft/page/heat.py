"""Many rows of coloured cells, for what would be too many lines; and square tables of cosines."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from weft.page.markup import Child, Markup, el
from weft.page.plots import steps_below
from weft.page.scale import Floats

NUM_SHADES = 8
"""Shades on each side: classes u1 … u8 above the middle, d1 … d8 below it, s0 in the middle, none for what is not known."""
_WRITTEN_OUT = 8
_NUMBERED = 15
_MOST_ROWS = 60


class Row(NamedTuple):
    """A row of a heat map: its name, its cells (C; NaN: not known), the number behind it, what shows on hovering."""

    name: Child
    cell_C: Floats
    value: str
    title: str


def heat(rows: Sequence[Row], shade: Callable[[float], str], end: float, label: str) -> Markup:
    """Rows over the steps 0 … end, a cell for each stretch of steps."""
    lines = [
        el("li", el("span", row.name, class_="name"), _strip(row.cell_C, shade, row.title), el("b", row.value))
        for row in rows
    ]
    foot = el("div", el("span"), steps_below(end, 3), el("b"), class_="foot")
    return el("div", el("ul", lines), foot, class_="heat", role="img", aria_label=label)


def upward(top: float) -> Callable[[float], str]:
    """Shades from 0 to `top`."""
    return lambda value: _shade(value / top if top > 0 else 0.0)


def around_one(value: float) -> str:
    """Shades of a ratio that should fall: below 1 the colour of good, above it the other; the darkest is a factor of 4 away."""
    return _shade(-math.log2(value) / 2) if value > 0 else _shade(1.0 if value == 0 else math.nan)


def cosine(value: float) -> str:
    """Shades of a cosine: above 0 one colour, below another."""
    return _shade(value)


def scale(entries: Sequence[tuple[float, str]], shade: Callable[[float], str]) -> Markup:
    """What the shades stand for."""
    keys = [el("li", el("i", class_=f"shade {shade(value)}"), text) for value, text in entries]
    return el("ul", keys, class_="keys")


def square(names: Sequence[str], value_KK: Floats, label: str) -> Markup:
    """A table of cosines: small ones with their numbers, large ones as colours, very large ones as means of blocks."""
    if len(names) <= _WRITTEN_OUT:
        return _written_out(names, value_KK, label)
    size = -(-len(names) // _MOST_ROWS)
    blocks = [range(start, min(start + size, len(names))) for start in range(0, len(names), size)]
    lines = []
    for number, rows in enumerate(blocks):
        cells = np.array([_mean(value_KK[np.ix_(rows, columns)]) for columns in blocks])
        name = names[rows[0]] if len(rows) == 1 else f"{names[rows[0]]} … {names[rows[-1]]}"
        svg = _strip(cells, cosine, "" if size > 1 else _told(names, rows[0], cells))
        lines.append(el("li", el("span", f"{number + 1} ", el("span", name), class_="name"), svg))
    every = 1 if len(blocks) <= _NUMBERED else 5
    numbers = [
        el("span", n, style=f"left:{100 * (n - 0.5) / len(blocks):.2f}%")
        for n in range(1, len(blocks) + 1)
        if n % every == 0 or n == 1
    ]
    head = el("div", el("span"), el("div", numbers, class_="ticks"), class_="foot")
    note = el("p", f"Each cell is the mean of {size} × {size} tasks that are neighbours in this order.", class_="note")
    return el(
        "div", note if size > 1 else None, head, el("ul", lines), class_="heat square", role="img", aria_label=label
    )


def _written_out(names: Sequence[str], value_KK: Floats, label: str) -> Markup:
    rows = [
        el(
            "tr",
            el("th", f"{k + 1} ", el("span", name), scope="row"),
            [
                el("td", _cosine(value), class_=cosine(value) if other != k else "self")
                for other, value in enumerate(value_KK[k])
            ],
        )
        for k, name in enumerate(names)
    ]
    head = el("tr", el("td"), [el("th", k + 1, scope="col") for k in range(len(names))])
    return el("table", el("thead", head), el("tbody", rows), class_="cosines", aria_label=label)


def _told(names: Sequence[str], k: int, cells: Floats) -> str:
    others = sorted(
        (value, name)
        for other, (name, value) in enumerate(zip(names, cells, strict=True))
        if other != k and math.isfinite(value)
    )
    if not others:
        return names[k]
    (least, lowest), (most, highest) = others[0], others[-1]
    return f"{names[k]}: from {_cosine(least)} ({lowest}) to {_cosine(most)} ({highest})"


def _cosine(value: float) -> str:
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "–"


def _mean(values: Floats) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _shade(level: float) -> str:
    """The class of a level from −1 to 1."""
    if not math.isfinite(level):
        return "none"
    number = min(NUM_SHADES, round(abs(level) * NUM_SHADES))
    return f"{'u' if level > 0 else 'd'}{number}" if number else "s0"


def _strip(cell_C: Floats, shade: Callable[[float], str], title: str) -> Markup:
    """A row of cells, a path for each shade; neighbours of one shade are one piece."""
    runs: dict[str, list[str]] = {}
    start, kinds = 0, [shade(float(value)) for value in cell_C]
    for place in range(1, len(kinds) + 1):
        if place == len(kinds) or kinds[place] != kinds[start]:
            runs.setdefault(kinds[start], []).append(f"M{start} 0h{place - start}v1h-{place - start}z")
            start = place
    paths = [el("path", d="".join(pieces), class_=kind) for kind, pieces in runs.items()]
    return el(
        "svg",
        el("title", title) if title else None,
        paths,
        viewBox=f"0 0 {max(1, len(cell_C))} 1",
        preserveAspectRatio="none",
        aria_hidden="true",
    )
