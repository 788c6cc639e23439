"""Whether the tasks help or hinder one another: the cosines of their gradients."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from weft.page import heat
from weft.page.markup import Child, Markup, el
from weft.page.plots import NUM_COLOURS
from weft.page.scale import Floats, by_likeness
from weft.page.tables import Head, table
from weft.page.words import short
from weft.report.page.view import View, section
from weft.report.record import Interference

_MOST_PAIRS = 8


def interference(view: View) -> Markup | None:
    """The last measurement and the mean of all."""
    found = view.run.interference
    names = [task.name for task in view.run.tasks if any(task.name in x.tasks for x in found)]
    if len(names) < 2:
        return None
    mean_KK = mean_cosine(found, names)
    order = by_likeness(mean_KK) if len(names) > NUM_COLOURS else list(range(len(names)))
    names, mean_KK = [names[k] for k in order], mean_KK[np.ix_(order, order)]
    last_KK = mean_cosine(found[-1:], names)
    sorted_ = " Tasks that are alike stand beside one another." if len(names) > NUM_COLOURS else ""
    note = (
        "The cosine of two tasks' gradients, measured at validations: above 0 a step for one helps the other, below 0 it harms it, "
        f"0 means that they don't touch.{sorted_}"
    )
    keys = heat.scale([(-1.0, "−1"), (-0.5, "−0.5"), (0.0, "0"), (0.5, "0.5"), (1.0, "1")], heat.cosine)
    last = f"At step {found[-1].step:,}, the last one"
    figures = [
        el(
            "figure",
            el("figcaption", last),
            heat.square(names, last_KK, f"Cosines of gradients. {last}"),
            class_="number",
        )
    ]
    if len(found) > 1:
        mean = f"Mean of {len(found):,} measurements"
        square = heat.square(names, mean_KK, f"Cosines of gradients. {mean}")
        figures.append(el("figure", el("figcaption", mean), square, class_="number"))
    return section(view, "interference", "Interference", note, keys, figures, _pairs(names, mean_KK), _norms(found[-1]))


def mean_cosine(found: Sequence[Interference], names: Sequence[str]) -> Floats:
    """The mean of several measurements, K × K in the order of `names`; NaN where a pair was never measured."""
    place = {name: k for k, name in enumerate(names)}
    sum_KK, count_KK = np.zeros((len(names), len(names))), np.zeros((len(names), len(names)))
    for x in found:
        here = [k for k, name in enumerate(x.tasks) if name in place]
        there = [place[x.tasks[k]] for k in here]
        cosine = x.cosine_KK[np.ix_(here, here)]
        known = np.isfinite(cosine)
        sum_KK[np.ix_(there, there)] += np.where(known, cosine, 0.0)
        count_KK[np.ix_(there, there)] += known
    return np.divide(sum_KK, count_KK, out=np.full_like(sum_KK, math.nan), where=count_KK > 0)


def _pairs(names: Sequence[str], mean_KK: Floats) -> Markup | None:
    """The pairs that harm one another most, and those that help."""
    first_P, second_P = np.triu_indices(len(names), 1)
    order_P = np.argsort(mean_KK[first_P, second_P], kind="stable")  # NaN last
    pairs = [(int(first_P[p]), int(second_P[p])) for p in order_P]
    known = pairs[: int(np.isfinite(mean_KK[first_P, second_P]).sum())]
    if len(known) < 3:
        return None
    harm = [(i, j) for i, j in known[:_MOST_PAIRS] if mean_KK[i, j] < 0]
    helped = [(i, j) for i, j in reversed(known[-_MOST_PAIRS:]) if mean_KK[i, j] > 0]

    def told(title: str, shown: Sequence[tuple[int, int]]) -> Markup:
        lines = [
            el("li", el("span", f"{names[i]} · {names[j]}"), el("b", _signed(float(mean_KK[i, j])))) for i, j in shown
        ]
        return el("div", el("h3", title), el("ol", lines) if lines else el("p", "none", class_="note"))

    return el("div", told("Against one another most", harm), told("Most alike", helped), class_="pairs")


def _norms(last: Interference) -> Markup | None:
    """The gradients' norms: a task with a large one moves the weights most."""
    if not np.isfinite(last.norm_K).any():
        return None
    rows: list[list[Child]] = [[name, short(float(norm))] for name, norm in zip(last.tasks, last.norm_K, strict=True)]
    summary = el("summary", f"Norms of the gradients at step {last.step:,}")
    return el("details", summary, table([Head("task", False), Head("norm")], rows, kind="plain narrow"))


def _signed(value: float) -> str:
    return f"{value:+.3f}".replace("-", "−")
