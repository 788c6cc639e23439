"""The tasks side by side, in numbers and as curves."""

from __future__ import annotations

import math

import numpy as np

from weft.page.markup import Child, Markup, el
from weft.page.plots import Curve, Key, Mark, legend, plot, trend
from weft.page.scale import smoothed
from weft.page.tables import Cell, Head, table
from weft.page.words import broken, fixed, number, percent
from weft.report.page.view import View, section
from weft.report.record import Series, TaskRecord
from weft.report.verdict import TaskVerdict, loss, of_task

_MANY = 60
_MOST_COLUMNS = 12
_WORDS = {"better": "good", "worse": "bad", "same": "careful", "lost": "bad", "unknown": ""}


def overview(view: View) -> Markup:
    """Every task's losses, weight and share in a row."""
    heads = [
        Head("task", False), Head("validation", False), Head("start"), Head("last"), Head("last ÷ start"), Head("best"),
        Head("at step"), Head("weight"), Head("share of the loss"), Head("trained tokens"),
    ]  # fmt: skip
    rows = [_row(view, task, of_task(task)) for task in view.run.tasks]
    return section(
        view,
        "tasks",
        "Tasks",
        "Losses are each task's mean nll per trained token on its validation rows. The weight is the last one in force, the share "
        "the mean over all steps of what the task really contributed to the loss.",
        table(heads, rows),
        _numbers(view),
    )


def _row(view: View, task: TaskRecord, x: TaskVerdict) -> list[Child | Cell]:
    state = f"frozen at {x.frozen.step:,}" if x.frozen else {"unknown": "not measured"}.get(x.kind, x.kind)
    state = _lost(x) or state
    known = task.validation.finite
    weight = task.weight.finite.value_N
    return [
        el("a", broken(task.name), el("small", state), href=f"#{view.task_place(task)}"),
        trend(known.step_N, known.value_N, float(known.value_N[0])) if len(known) else "",
        loss(x.first),
        loss(x.last),
        Cell(_ratio(x), _WORDS[x.kind]),
        loss(x.best),
        f"{x.best_step:,}" if x.best_step is not None else "–",
        fixed(float(weight[-1])) if len(weight) else "–",
        percent(mean_share(view, task)) if view.run.steps else "–",
        number(round(float(task.tokens.value_N.sum()))),
    ]


def _lost(x: TaskVerdict) -> str:
    return f"no finite loss since step {x.lost_since:,}" if x.lost_since is not None else ""


def _ratio(x: TaskVerdict) -> str:
    return f"{x.ratio:.3f}" if math.isfinite(x.ratio) else "–"


def mean_share(view: View, task: TaskRecord) -> float:
    """The task's share of the loss, over all steps; a step without the task counts as 0."""
    return float(task.share.finite.value_N.sum()) / max(1, len(view.run.loss))


def _numbers(view: View) -> Markup | None:
    """The validation losses themselves; of many validations some, and always the first and the last."""
    run = view.run
    if not run.validations:
        return None
    places = np.unique(
        np.linspace(0, len(run.validations) - 1, min(_MOST_COLUMNS, len(run.validations))).round().astype(int)
    )
    shown = [run.validations[place] for place in places]
    heads = [Head("validation loss", False), *(Head(f"step {v.step:,}") for v in shown)]
    rows: list[list[Child | Cell]] = []
    for task in run.tasks:
        by_step = dict(zip(task.validation.step_N.tolist(), task.validation.value_N.tolist(), strict=True))
        rows.append([broken(task.name), *(loss(by_step.get(float(v.step), math.nan)) for v in shown)])
    wholes: list[list[Child | Cell]] = [
        ["mean of the tasks", *(loss(v.macro) for v in shown)],
        ["largest", *(loss(v.worst_loss) for v in shown)],
        ["objective", *(loss(v.loss) for v in shown)],
    ]
    summary = f"Validation losses in numbers ({len(shown)} of {len(run.validations):,} validations)"
    return el("details", el("summary", summary), table(heads, [*rows, *wholes], foot=3, kind="plain losses"))


def curves(view: View) -> Markup:
    """The whole, and a small plot of every task."""
    run = view.run
    looked = any(len(task.look) for task in run.tasks)
    keys = [
        Key("thin", "training loss, every step"),
        Key("", "training loss, mean of the steps around"),
        Key("held-out", "validation loss"),
        *([Key("look", "loss on the rows of looks")] if looked else []),
    ]
    panels = el("div", [_panel(view, task) for task in run.tasks], class_="panels")
    many = el("details", el("summary", f"Curves of all {len(run.tasks):,} tasks"), panels)
    return section(
        view,
        "curves",
        "Curves",
        "Mean nll per trained token by optimizer step. A dotted line from top to bottom is the step at which a task was frozen. "
        "Numbers that lie far apart are drawn on a logarithmic scale.",
        legend(keys),
        _whole(view),
        (many if len(run.tasks) > _MANY else panels) if len(run.tasks) > 1 else None,
    )


def _whole(view: View) -> Markup:
    """The objective: what the optimizer lowers."""
    run = view.run
    if len(run.tasks) == 1:
        task = run.tasks[0]
        drawing = plot(
            _lines(view, task, task.validation), view.end, f"Losses of {task.name} by step", most_points=view.points
        )
        return el("figure", el("figcaption", broken(task.name)), drawing, id=view.task_place(task))
    steps = np.array([v.step for v in run.validations], dtype=np.float64)
    held_out = Series(steps, np.array([v.loss for v in run.validations], dtype=np.float64))
    mean = Series(steps, np.array([v.macro for v in run.validations], dtype=np.float64))
    drawn = [*training(run.loss), *_validation(held_out, "held-out")]
    same = np.allclose(held_out.value_N, mean.value_N, rtol=1e-4, equal_nan=True)
    if not same:
        drawn.append(Curve(mean.step_N, mean.value_N, "c2", "line", "mean of the tasks' validation losses"))
    return el(
        "figure",
        el("figcaption", "All tasks together: the objective"),
        plot(drawn, view.end, "The objective by step", most_points=view.points),
        None if same else legend([Key("c2", "mean of the tasks' validation losses")]),
    )


def _panel(view: View, task: TaskRecord) -> Markup:
    x = of_task(task)
    told = _lost(x) or (f"{x.first:.3f} → {x.last:.3f}" if math.isfinite(x.first) else "not validated")
    marks = [Mark(x.frozen.step, f"frozen at step {x.frozen.step:,}")] if x.frozen else []
    drawing = plot(
        _lines(view, task, task.validation),
        view.end,
        f"Losses of {task.name} by step",
        most_points=view.points,
        marks=marks,
        small=True,
    )
    return el(
        "figure", el("figcaption", el("span", broken(task.name)), el("small", told)), drawing, id=view.task_place(task)
    )


def _lines(view: View, task: TaskRecord, validation: Series) -> list[Curve]:
    look = Curve(task.look.step_N, task.look.value_N, "look", "dots", "looks")
    thin = training(task.loss)
    return [*(thin if view.points > 60 else thin[1:]), look, *_validation(validation, "held-out")]


def training(series: Series) -> list[Curve]:
    """A training loss: every step thin, and smoothed."""
    width = max(1, len(series) // 20)
    return [
        Curve(series.step_N, series.value_N, "", "thin"),
        Curve(series.step_N, smoothed(series.value_N, width), "", "line", "training"),
    ]


def _validation(series: Series, colour: str) -> list[Curve]:
    dots = [Curve(series.step_N, series.value_N, colour, "dots", "validation")] if len(series) <= 40 else []
    return [Curve(series.step_N, series.value_N, colour, "line", "validation"), *dots]
