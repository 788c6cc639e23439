"""Several runs side by side: the tasks' losses, their curves one upon the other, and what was set otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from weft.page.markup import Child, Markup, el
from weft.page.plots import Curve, Key, Mark, colour, legend, plot
from weft.page.tables import Cell, Head, table
from weft.page.words import broken
from weft.report import compare
from weft.report.page.settings import written
from weft.report.page.view import View, section
from weft.report.record import RunRecord, Series
from weft.report.verdict import listed, loss, lost, of_task

_MANY = 60


def heading(view: View, runs: Sequence[RunRecord], names: Sequence[str]) -> Markup:
    """Which run is best, in plain words."""
    common = _common(runs)
    last = [compare.macro([_last(run, name) for name in common]) for run in runs]
    best = compare.lowest(last)
    told, kind = f"{len(runs)} runs", ""
    if best and len(best) == 1:
        first = next(iter(best))
        others = sorted(
            (value, name)
            for i, (value, name) in enumerate(zip(last, names, strict=True))
            if i != first and math.isfinite(value)
        )
        against = f", against {others[0][0]:.3f} of {others[0][1]}" if others else "; no other has a finite loss"
        told = f"{names[first]} is best: {last[first]:.3f} in the mean of the tasks{against}"
        kind = "good"
    doubts = compare.not_comparable(runs)
    doubts += [f"{name}: {line}." for name, run in zip(names, runs, strict=True) for line in lost(run)]
    lines = (
        [f"{name}: {_won(runs, common, i)}" for i, name in enumerate(names)]
        if common
        else ["The runs have no task in common."]
    )
    return el(
        "header",
        el("p", "weft run report", class_="eyebrow"),
        el("h1", told, class_=f"verdict {kind}".strip()),
        el(
            "ul",
            [el("li", el("b", "Careful. "), doubt) for doubt in doubts],
            [el("li", line) for line in lines],
            class_="told",
        ),
        legend([Key(colour(i), name, str(run.folder)) for i, (name, run) in enumerate(zip(names, runs, strict=True))]),
        id=view.place("top"),
    )


def _common(runs: Sequence[RunRecord]) -> list[str]:
    """The tasks that all runs have validated."""
    having = [{task.name for task in run.tasks if len(task.validation)} for run in runs]
    return [name for name in compare.task_names(runs) if all(name in names for names in having)]


def _won(runs: Sequence[RunRecord], common: Sequence[str], number: int) -> str:
    """How many of the tasks a run is best at."""
    won = [name for name in common if number in compare.lowest([_last(run, name) for run in runs])]
    return f"lowest last loss in {len(won)} of {len(common)} tasks{f' ({listed(won)})' if won else ''}"


def _last(run: RunRecord, name: str) -> float:
    """Infinite where it is not finite, so that it is worse than all others; NaN where there is none."""
    task = run.task(name)
    found = of_task(task) if task else None
    return math.nan if found is None else math.inf if found.kind == "lost" else found.last


def _best(run: RunRecord, name: str) -> float:
    task = run.task(name)
    return of_task(task).best if task else math.nan


def side_by_side(view: View, runs: Sequence[RunRecord], names: Sequence[str]) -> Markup:
    """Each task's last and best validation loss in each run, the lowest marked."""
    heads = [
        Head("task", False),
        *(Head([el("small", "last"), el("i", class_=f"key {colour(i)}"), name]) for i, name in enumerate(names)),
        *(Head([el("small", "best"), el("i", class_=f"key {colour(i)}"), name]) for i, name in enumerate(names)),
    ]
    tasks, common = compare.task_names(runs), _common(runs)
    rows = [_losses(broken(t), [_last(r, t) for r in runs], [_best(r, t) for r in runs]) for t in tasks]
    columns = [[_last(r, t) for t in common] for r in runs], [[_best(r, t) for t in common] for r in runs]
    several = len(common) > 1
    if several:
        rows += [
            _losses(f"mean of {len(common)} tasks", *([compare.macro(values) for values in half] for half in columns)),
            _losses("largest of them", *([float(np.max(values)) for values in half] for half in columns)),
        ]
    note = "Validation losses: the last one, and the lowest that the task ever had in that run. The lowest of each row is marked."
    return section(
        view, "side-by-side", "Side by side", note, table(heads, rows, foot=2 if several else 0, kind="side")
    )


def _losses(name: Child, last: Sequence[float], best: Sequence[float]) -> list[Child | Cell]:
    row: list[Child | Cell] = [name]
    for values in (last, best):
        marked = compare.lowest(values)
        row += [Cell(loss(value), "lowest" if i in marked else "") for i, value in enumerate(values)]
    return row


def overlaid(view: View, runs: Sequence[RunRecord], names: Sequence[str], points: int) -> Markup:
    """Validation losses by step, a colour for each run."""
    end = float(max(1, *(run.steps for run in runs)))
    means = [
        Series(
            np.array([v.step for v in run.validations], dtype=np.float64),
            np.array([v.macro for v in run.validations], dtype=np.float64),
        )
        for run in runs
    ]
    tasks = compare.task_names(runs)
    panels = el("div", [_panel(runs, names, task, end, points) for task in tasks], class_="panels")
    whole = plot(_curves(means, names), end, "Mean of the tasks' validation losses by step", most_points=points)
    return section(
        view,
        "curves",
        "Curves",
        "Validation loss by optimizer step; a dotted line from top to bottom is the step at which a task was frozen. "
        "Numbers that lie far apart are drawn on a logarithmic scale.",
        legend([Key(colour(i), name) for i, name in enumerate(names)]),
        el("figure", el("figcaption", "Mean of the tasks"), whole),
        el("details", el("summary", f"Curves of all {len(tasks):,} tasks"), panels) if len(tasks) > _MANY else panels,
    )


def _panel(runs: Sequence[RunRecord], names: Sequence[str], name: str, end: float, points: int) -> Markup:
    tasks = [run.task(name) for run in runs]
    empty = Series(np.zeros(0), np.zeros(0))
    marks = [
        Mark(task.frozen.step, f"frozen in {of} at step {task.frozen.step:,}")
        for task, of in zip(tasks, names, strict=True)
        if task and task.frozen
    ]
    series = [task.validation if task else empty for task in tasks]
    drawing = plot(
        _curves(series, names), end, f"Validation losses of {name}", most_points=points, marks=marks, small=True
    )
    return el("figure", el("figcaption", el("span", broken(name))), drawing)


def _curves(series: Sequence[Series], names: Sequence[str]) -> list[Curve]:
    lines = [Curve(s.step_N, s.value_N, colour(i), "line", names[i]) for i, s in enumerate(series)]
    return [*lines, *(Curve(c.x_N, c.y_N, c.colour, "dots", c.name) for c in lines if len(c.x_N) <= 40)]


def otherwise(view: View, runs: Sequence[RunRecord], names: Sequence[str]) -> Markup:
    """The settings that are not the same in all runs."""
    found = compare.differing(runs)
    heads = [
        Head("setting", False),
        *(Head([el("i", class_=f"key {colour(i)}"), name], False) for i, name in enumerate(names)),
    ]
    rows: list[list[Child]] = [[el("code", ".".join(path)), *map(written, values)] for path, values in found.items()]
    note = "" if rows else "There are none but the places of their folders."
    return section(
        view, "otherwise", "Settings that differ", note, table(heads, rows, kind="plain values") if rows else None
    )
