"""Small charts: SVG that stretches for what is drawn, HTML for what is read, so that letters keep their size on every screen."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import NamedTuple

from weft.data.checks.stats import Histogram
from weft.page.markup import Markup, el

_HEIGHT = 100
_MOST_TICKS = 6


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


def _short(number: int) -> str:
    return f"{number:,}" if number < 10_000 else f"{number / 1000:.0f}k"


def _place(edges: Sequence[int], value: int) -> float | None:
    """Where a value stands among the bins, in bins; None outside."""
    if not edges[0] <= value < edges[-1]:
        return None
    number = bisect_right(edges, value) - 1
    return number + (value - edges[number]) / (edges[number + 1] - edges[number])
