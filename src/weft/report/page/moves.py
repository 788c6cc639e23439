"""What moves while training: how far each task has come, its weight, its share of the loss, the balancing method's own numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from weft.page.heat import Row, around_one, heat, scale, upward
from weft.page.markup import Markup, el
from weft.page.plots import Curve, Key, colour, legend, plot, stacked_area
from weft.page.scale import bins, held, sums_of_bins
from weft.page.words import fixed, percent, short
from weft.report.page.tasks import mean_share
from weft.report.page.view import View, section
from weft.report.record import Series, TaskRecord

_COLUMNS = 60


def ratios(view: View) -> Markup | None:
    """r_k(t): each task's validation loss over its loss at the start."""
    run = view.run
    lines = {task.name: series for task in run.tasks if (series := _ratio(task))}
    if not lines:
        return None
    note = (
        "r(t) is a task's validation loss at step t over its loss at the start: 1 is no progress, above 1 is worse than the base model. "
        "Where one task runs away from the others, it learns faster, or they were left behind."
    )
    if view.few:
        drawn = _lines(view, lines, "Validation loss over its start, by step", level=1.0)
    else:
        keys = scale(
            [(0.25, "a quarter"), (0.5, "half"), (1.0, "as at the start"), (2.0, "twice"), (4.0, "four times")],
            around_one,
        )
        columns = min(_COLUMNS, len(run.validations) - 1)
        drawn = [
            keys,
            _heat(view, lines, around_one, columns, "Validation loss over its start, by task and step", at_end=True),
        ]
    return section(view, "ratios", "Progress beside one another", note, drawn)


def _ratio(task: TaskRecord) -> Series | None:
    known = task.validation.finite
    if len(known) < 2 or known.value_N[0] <= 0:
        return None
    return Series(task.validation.step_N, task.validation.value_N / known.value_N[0])


def weights(view: View) -> Markup | None:
    """w of each task over the run."""
    run = view.run
    lines = {task.name: task.weight.finite for task in run.tasks if len(task.weight.finite)}
    if not lines:
        return None
    method = run.setting("balance", "method")
    frozen = {task.name for task in run.tasks if task.frozen}
    if all(
        len(set(series.value_N.tolist()) - ({0.0} if name in frozen else set())) <= 1 for name, series in lines.items()
    ):
        values = sorted({float(series.value_N[0]) for series in lines.values()})
        told = f"all are {short(values[0])}" if len(values) == 1 else f"from {short(values[0])} to {short(values[-1])}"
        zero = " A frozen task's weight is 0 from then on." if frozen else ""
        return section(
            view, "weights", "Weights", f"They did not move while training (balance.method: {method}): {told}.{zero}"
        )
    note = f"What balance.method: {method} gave each task; a weight holds until the next look. Only their proportions count."
    top = max(float(series.value_N.max()) for series in lines.values())
    if view.few:
        drawn = _lines(view, lines, "Weights by step", steps=True, from_zero=True)
    else:
        drawn = [scale([(0, "0"), (top / 2, short(top / 2)), (top, short(top))], upward(top)),
                 _heat(view, lines, upward(top), _COLUMNS, "Weights by task and step")]  # fmt: skip
    return section(view, "weights", "Weights", note, drawn, _numbers(view))


def _numbers(view: View) -> Markup | None:
    """The parts of the method's formula, as it wrote them down."""
    found = []
    for name, series in view.run.numbers.items():
        if isinstance(series, Series):
            drawn: Sequence[Markup] = [
                plot([Curve(series.step_N, series.value_N, "", "steps", name)], view.end, f"{name} by step")
            ]
        elif view.few:
            drawn = _lines(view, dict(series), f"{name} by step", steps=True)
        else:
            top = max((float(s.finite.value_N.max()) for s in series.values() if len(s.finite)), default=0.0)
            drawn = [_heat(view, series, upward(top), _COLUMNS, f"{name} by task and step")]
        found.append(el("figure", el("figcaption", name), drawn, class_="number"))
    return el("details", el("summary", f"Parts of the formula ({len(found)})"), found) if found else None


def shares(view: View) -> Markup | None:
    """Each task's share of the loss, as it was really used."""
    run = view.run
    if not run.steps or len(run.tasks) < 2:
        return None
    edge_B = bins(run.steps, _COLUMNS)
    steps_B = np.maximum(sums_of_bins(run.loss.step_N, np.ones(len(run.loss)), edge_B), 1)
    parts = {task.name: sums_of_bins(task.share.step_N, task.share.value_N, edge_B) / steps_B for task in run.tasks}
    means = {task.name: mean_share(view, task) for task in run.tasks}
    note = (
        "Σ of the coefficients of a task's tokens in each step's loss, so its share of the gradient as measured while training. "
        f"Means of stretches of about {max(1, round(run.steps / len(steps_B))):,} step{'' if run.steps < 1.5 * len(steps_B) else 's'}."
    )
    if view.few:
        place_B2, told = np.repeat(edge_B, 2)[1:-1], [(name, colour(k)) for k, name in enumerate(parts)]
        area = stacked_area(
            [(n, c, np.repeat(parts[n], 2)) for n, c in told], place_B2, view.end, "Shares of the loss by step"
        )
        drawn = [area, legend([Key(c, n, percent(means[n])) for n, c in told])]
    else:
        top = max(float(part_B.max()) for part_B in parts.values())
        shade = upward(top)
        rows = [Row(n, part_B, percent(means[n]), f"{n}: {percent(means[n])} of all") for n, part_B in parts.items()]
        keys = scale([(0, "0 %"), (top / 2, percent(top / 2)), (top, percent(top))], shade)
        drawn = [keys, heat(rows, shade, view.end, "Shares of the loss by task and step")]
    return section(view, "shares", "Shares of the loss", note, drawn, _asked(view))


def _asked(view: View) -> Markup | None:
    """The shares of the trained tokens that the sampling was asked for, pass by pass."""
    asked = view.run.shares
    if not asked:
        return None
    steps = np.array([x.step for x in asked], dtype=np.float64)
    lines = {
        task.name: Series(steps, np.array([x.shares.get(task.name, math.nan) for x in asked]))
        for task in view.run.tasks
    }
    caption = el("figcaption", "Shares of the trained tokens that were asked for, from each pass on")
    if view.few:
        return el(
            "figure",
            caption,
            _lines(view, lines, "Shares asked for by step", steps=True, from_zero=True),
            class_="number",
        )
    top = max(max(x.shares.values(), default=0.0) for x in asked)
    return el(
        "figure",
        caption,
        _heat(view, lines, upward(top), _COLUMNS, "Shares asked for by task and step"),
        class_="number",
    )


def _lines(
    view: View,
    lines: Mapping[str, Series],
    label: str,
    *,
    steps: bool = False,
    from_zero: bool = False,
    level: float | None = None,
) -> list[Markup]:
    """A line for every task, and a legend in the order in which they end."""
    order = {task.name: k for k, task in enumerate(view.run.tasks)}
    drawn = [
        Curve(s.step_N, s.value_N, colour(order.get(n, 0)), "steps" if steps else "line", n) for n, s in lines.items()
    ]
    if not steps:
        drawn += [Curve(c.x_N, c.y_N, c.colour, "dots") for c in drawn if len(c.x_N) <= 40]
    ends = {name: float(series.value_N[-1]) if len(series) else math.nan for name, series in lines.items()}
    ranked = sorted(ends, key=lambda name: (-ends[name] if math.isfinite(ends[name]) else math.inf, order.get(name, 0)))
    keys = [Key(colour(order.get(name, 0)), name, short(ends[name])) for name in ranked]
    picture = plot(drawn, view.end, label, most_points=view.points, from_zero=from_zero, level=level)
    return [picture, legend(keys)]


def _heat(
    view: View,
    lines: Mapping[str, Series],
    shade: Callable[[float], str],
    columns: int,
    label: str,
    *,
    at_end: bool = False,
) -> Markup:
    """A row for every task: what was in force at the start (or the end) of each stretch of steps."""
    edge_B = bins(max(view.run.steps, 1), max(1, columns))
    at_B = edge_B[1:] if at_end else edge_B[:-1]
    rows = [
        Row(name, held(series.step_N, series.value_N, at_B), _last(series), f"{name}: {_last(series)} at the end")
        for name, series in lines.items()
    ]
    return heat(rows, shade, view.end, label)


def _last(series: Series) -> str:
    return fixed(float(series.value_N[-1])) if len(series) else "–"
