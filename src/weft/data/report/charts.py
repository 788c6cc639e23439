"""Small charts: SVG that stretches for what is drawn, HTML for what is read, so that letters keep their size on every screen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from weft.data.checks.stats import Histogram
from weft.data.report.markup import Markup, el

_HEIGHT = 100
_MOST_TICKS = 6


class Part(NamedTuple):
    """A part of a whole: its name, its number, the class that colours it."""

    name: str
    number: float
    kind: str


class Line(NamedTuple):
    """A value that a histogram marks."""

    name: str
    value: int
    kind: str


def histogram(hist: Histogram, lines: Sequence[Line] = ()) -> Markup:
    """Bars of a histogram, all of one width whatever their bins are, with the bins' edges below."""
    num_bins, top = len(hist.counts), max(hist.counts, default=0) or 1
    bars = []
    for number, count in enumerate(hist.counts):
        if not count:
            continue
        height = max(1.5, _HEIGHT * count / top)
        low, high = hist.edges[number], hist.edges[number + 1] - 1
        span = f"{low:,}" if high <= low else f"{low:,} – {high:,}"
        title = el("title", f"{span} tokens: {count:,} samples")
        bars.append(el("rect", title, x=number + 0.06, y=_HEIGHT - height, width=0.88, height=height))
    marks, words = [], []
    for row, line in enumerate(reversed(lines)):
        place = _place(hist.edges, line.value)
        if place is not None:
            x = {"x1": place, "x2": place}
            marks.append(
                el("line", y1=0, y2=_HEIGHT, class_=f"mark {line.kind}", vector_effect="non-scaling-stroke", **x)
            )
            side = "left" if place < num_bins / 2 else "right"
            offset = place / num_bins if side == "left" else 1 - place / num_bins
            style = f"{side}:{100 * offset:.2f}%;top:{1.15 * row:.2f}rem"
            words.append(el("span", f"{line.name} {line.value:,}", class_=f"mark-word {side}", style=style))
    drawing = el(
        "svg", bars, marks, viewBox=f"0 0 {num_bins} {_HEIGHT}", preserveAspectRatio="none", aria_hidden="true"
    )
    every = max(1, -(-len(hist.edges) // _MOST_TICKS))
    ticks = [
        el("span", _short(edge), style=f"left:{100 * i / num_bins:.2f}%")
        for i, edge in enumerate(hist.edges[:-1])
        if i % every == 0 and i <= 0.84 * num_bins
    ]
    label = f"Histogram of sample lengths from {hist.edges[0]:,} to {hist.edges[-1] - 1:,} tokens"
    return el(
        "div",
        el("div", words, class_="mark-words", style=f"height:{1.15 * len(lines) + 0.1:.2f}rem"),
        drawing,
        el("div", ticks, el("span", _short(hist.edges[-1] - 1), class_="last"), class_="ticks"),
        class_="histogram",
        role="img",
        aria_label=label,
    )


def spark(hist: Histogram) -> Markup:
    """A histogram for a table's cell."""
    num_bins, top = len(hist.counts), max(hist.counts, default=0) or 1
    bars = [
        el("rect", x=i + 0.08, y=_HEIGHT - max(6, _HEIGHT * c / top), width=0.84, height=max(6, _HEIGHT * c / top))
        for i, c in enumerate(hist.counts)
        if c
    ]
    return el(
        "svg", bars, viewBox=f"0 0 {num_bins} {_HEIGHT}", preserveAspectRatio="none", class_="spark", aria_hidden="true"
    )


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


def percent(share: float) -> str:
    """A share as a percentage with as many digits as tell something."""
    value = 100 * share
    if 0 < value < 0.1:
        return "<0.1 %"
    return f"{value:.1f} %" if value < 99.95 or value == 100 else "99.9 %"


def _short(number: int) -> str:
    return f"{number:,}" if number < 10_000 else f"{number / 1000:.0f}k"


def _place(edges: Sequence[int], value: int) -> float | None:
    """Where a value stands among the bins, in bins; None outside."""
    if not edges[0] <= value < edges[-1]:
        return None
    number = bisect_right(edges, value) - 1
    return number + (value - edges[number]) / (edges[number + 1] - edges[number])
