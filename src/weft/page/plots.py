"""Lines over steps: SVG that stretches for what is drawn, HTML for what is read, so that letters keep their size on every screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from weft.page.markup import Child, Markup, el
from weft.page.scale import Floats, decimals, thinned, ticks
from weft.page.words import short

NUM_COLOURS = 10
"""So many lines can be told apart by their colours (classes c0 … c9)."""
_SIZE = 1000
_FAR = 30


class Curve(NamedTuple):
    """A line, thin line, row of dots, or steps (a number holds until the next one); `colour` is a class, `name` shows on hovering."""

    x_N: Floats
    y_N: Floats
    colour: str
    dress: Literal["line", "thin", "dots", "steps"] = "line"
    name: str = ""


class Mark(NamedTuple):
    """A place on the x-axis, marked from top to bottom."""

    x: float
    name: str


class Key(NamedTuple):
    """An entry of a legend: the colour's class, what it stands for, and its number."""

    colour: str
    name: Child
    value: str = ""


def plot(
    curves: Sequence[Curve],
    end: float,
    label: str,
    *,
    most_points: int = 400,
    marks: Sequence[Mark] = (),
    from_zero: bool = False,
    level: float | None = None,
    small: bool = False,
) -> Markup:
    """Curves over the steps 0 … end. `level` draws a line at that height; a thin curve's outliers don't stretch the axis.

    Numbers above 0 that lie far apart are drawn by their logarithms, and the ticks tell the numbers.
    """
    low, high = _range(curves, from_zero, level)
    most_ticks = 3 if small else 5
    if _far_apart(curves) and not from_zero:
        curves = [curve._replace(y_N=np.log10(curve.y_N)) for curve in curves]
        level = None if level is None else math.log10(level)
        low, high = _range(curves, from_zero, level)
        height_ticks, words = _powers(low, high, most_ticks)
    else:
        height_ticks = ticks(low, high, most_ticks)
        digits = decimals(height_ticks)
        words = [f"{y:,.{digits}f}" if digits < 5 else short(y) for y in height_ticks]

    def x_of(x: float) -> int:
        return round(_SIZE * x / end) if end > 0 else 0

    def y_of(y: float) -> int:
        return round(_SIZE * (1 - (min(max(y, low), high) - low) / (high - low)))

    drawn: list[Markup] = [el("path", d="".join(f"M0 {y_of(y)}h{_SIZE}" for y in height_ticks), class_="grid")]
    if level is not None:
        drawn.append(el("path", d=f"M0 {y_of(level)}h{_SIZE}", class_="level"))
    for mark in marks:
        drawn.append(el("path", el("title", mark.name), d=f"M{x_of(mark.x)} 0v{_SIZE}", class_="mark"))
    for curve in curves:
        x_N, y_N = thinned(curve.x_N, curve.y_N, most_points)
        points = [
            (x_of(x), y_of(y)) if math.isfinite(y) else None for x, y in zip(x_N.tolist(), y_N.tolist(), strict=True)
        ]
        path = _path(points, curve.dress)
        if path:
            title = el("title", curve.name) if curve.name else None
            drawn.append(el("path", title, d=path, class_=f"{curve.dress} {curve.colour}"))
    return frame(
        el("svg", drawn, viewBox=f"0 0 {_SIZE} {_SIZE}", preserveAspectRatio="none", aria_hidden="true"),
        [(100 * y_of(y) / _SIZE, word) for y, word in zip(height_ticks, words, strict=True)],
        end,
        label,
        small,
    )


def stacked_area(parts: Sequence[tuple[str, str, Floats]], x_B: Floats, end: float, label: str) -> Markup:
    """Parts (name, colour's class, numbers B) of a whole, one above the other; the numbers are shares of 1 at the places x_B."""
    below_B = np.zeros(len(x_B))
    drawn = []
    for name, colour, part_B in parts:
        above_B = below_B + part_B
        there = [f"{round(_SIZE * x / end)} {round(_SIZE * (1 - y))}" for x, y in zip(x_B, above_B, strict=True)]
        back = [f"{round(_SIZE * x / end)} {round(_SIZE * (1 - y))}" for x, y in zip(x_B, below_B, strict=True)][::-1]
        drawn.append(el("path", el("title", name), d=f"M{'L'.join([*there, *back])}z", class_=f"area {colour}"))
        below_B = above_B
    svg = el("svg", drawn, viewBox=f"0 0 {_SIZE} {_SIZE}", preserveAspectRatio="none", aria_hidden="true")
    return frame(svg, [(100 - 25 * n, f"{25 * n} %") for n in range(5)], end, label, small=False)


def frame(svg: Markup, heights: Sequence[tuple[float, str]], end: float, label: str, small: bool) -> Markup:
    """A drawing with numbers to its left (at percentages of its height from the top) and steps below it."""
    left = [el("span", text, style=f"top:{place:.1f}%") for place, text in heights]
    return el(
        "div",
        el("div", left, class_="heights"),
        svg,
        steps_below(end, 4 if small else 6),
        class_="plot small" if small else "plot",
        role="img",
        aria_label=label,
    )


def steps_below(end: float, most: int) -> Markup:
    """Ticks of the steps 0 … end below a drawing; the last step is always among them."""
    even = [x for x in ticks(0, end, most) if x == round(x) and x < 0.86 * end]
    shown = [el("span", f"{x:,.0f}", style=f"left:{100 * x / end:.2f}%") for x in even if end > 0]
    return el("div", shown, el("span", f"{end:,.0f}", class_="last"), class_="ticks")


def trend(x_N: Floats, y_N: Floats, level: float) -> Markup:
    """A line for a table's cell, with a level to compare it with."""
    known_N = np.isfinite(y_N)
    x_N, y_N = thinned(x_N[known_N], y_N[known_N], 60)
    if len(x_N) < 2:
        return Markup("")
    low, high = min(float(y_N.min()), level), max(float(y_N.max()), level)
    points = [
        f"{_SIZE * (x - x_N[0]) / (x_N[-1] - x_N[0]):.0f} {_SIZE * (1 - (y - low) / ((high - low) or 1)):.0f}"
        for x, y in zip(x_N, y_N, strict=True)
    ]
    at = f"M0 {_SIZE * (1 - (level - low) / ((high - low) or 1)):.0f}h{_SIZE}"
    paths = [el("path", d=at, class_="level"), el("path", d=f"M{'L'.join(points)}")]
    return el(
        "svg", paths, viewBox=f"0 0 {_SIZE} {_SIZE}", preserveAspectRatio="none", class_="trend", aria_hidden="true"
    )


def legend(keys: Sequence[Key]) -> Markup:
    """What the colours stand for."""
    return el(
        "ul",
        [
            el("li", el("i", class_=f"key {k.colour}"), el("span", k.name), el("b", k.value) if k.value else None)
            for k in keys
        ],
        class_="keys",
    )


def colour(number: int) -> str:
    """The class of the n-th colour; after the last, the first again."""
    return f"c{number % NUM_COLOURS}"


def _range(curves: Sequence[Curve], from_zero: bool, level: float | None) -> tuple[float, float]:
    """The lowest and highest number to be seen, with a little room around them."""
    seen: list[float] = [] if level is None else [level]
    for curve in curves:
        known = curve.y_N[np.isfinite(curve.y_N)]
        if len(known):
            span = np.quantile(known, [0.02, 0.98]) if curve.dress == "thin" else [known.min(), known.max()]
            seen += [float(value) for value in span]
    low, high = (min(seen), max(seen)) if seen else (0.0, 1.0)
    if from_zero:
        low = min(low, 0.0)
    room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
    return (low if from_zero and low == 0 else low - room), high + room


def _far_apart(curves: Sequence[Curve]) -> bool:
    """Whether a scale of even steps would press most of the numbers flat: all are above 0, and the largest is many times the smallest."""
    known = [y_N for curve in curves if len(y_N := curve.y_N[np.isfinite(curve.y_N)])]
    return (
        bool(known)
        and min(float(y_N.min()) for y_N in known) * _FAR < max(float(y_N.max()) for y_N in known)
        and all(float(y_N.min()) > 0 for y_N in known)
    )


def _powers(low: float, high: float, most: int) -> tuple[list[float], list[str]]:
    """Ticks of a logarithmic scale: powers of ten, with twos and fives between them where there is room; and what they stand for."""
    whole = range(math.floor(low), math.ceil(high) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [(math.log10(x), f"{x:g}") for e in whole for x in (f * 10.0**e for f in factors)]
        seen = [(y, word) for y, word in found if low <= y <= high]
        if len(seen) <= most:
            break
    seen = seen[:: -(-len(seen) // most) or 1]
    return [y for y, _ in seen], [word for _, word in seen]


def _path(points: Sequence[tuple[int, int] | None], dress: str) -> str:
    """The drawing of points; None is a gap."""
    if dress == "dots":
        return "".join(f"M{x} {y}h0" for x, y in filter(None, points))
    written: list[str] = []
    before: tuple[int, int] | None = None
    for point in points:
        if point is not None and before is None:
            written.append(f"M{point[0]} {point[1]}h0")  # a single point is seen, too
        elif point is not None and point != before and before is not None:
            written.append(f"H{point[0]}V{point[1]}" if dress == "steps" else f"L{point[0]} {point[1]}")
        before = point
    if dress == "steps" and before is not None:
        written.append(f"H{_SIZE}")
    return "".join(written)
