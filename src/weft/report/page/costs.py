"""What was spent: looks at validation rows, and how often each training row was used."""

from __future__ import annotations

import numpy as np

from weft.page.bars import bar
from weft.page.markup import Child, Markup, el
from weft.page.tables import Cell, Head, table
from weft.page.words import broken, percent, short
from weft.report.page.view import View, section


def looks(view: View) -> Markup | None:
    """What the balancing cost."""
    run = view.run
    if not run.looks:
        return None
    seconds = float(np.nansum([look.seconds for look in run.looks]))
    tokens = float(np.nansum([look.tokens for look in run.looks]))
    trained = sum(float(task.tokens.value_N.sum()) for task in run.tasks)
    facts: list[tuple[str, str]] = [
        ("looks", f"{len(run.looks):,}"),
        ("seconds", f"{seconds:,.1f}"),
        ("seconds a look", short(seconds / len(run.looks))),
        ("tokens looked at", f"{tokens:,.0f}"),
    ]
    if run.seconds:
        facts.append(("share of steps and looks", percent(seconds / (seconds + run.seconds))))
    if trained:
        facts.append(("per trained token", percent(tokens / trained)))
    note = "Looks at validation rows are what the balancing method sees. Nothing is trained on them."
    numbers = el("dl", [el("div", el("dt", name), el("dd", value)) for name, value in facts], class_="numbers")
    return section(view, "looks", "Looks", note, numbers)


def ledger(view: View) -> Markup | None:
    """How often each task's rows were used, from the ledger."""
    run = view.run
    if not any(task.rows.used or task.rows.looked_at for task in run.tasks):
        return None
    looked = any(task.rows.looked_at for task in run.tasks)
    heads = [
        Head("task", False),
        Head("share of the rows", False),
        Head("rows used"),
        Head("different rows"),
        Head("times seen"),
        Head("most often"),
    ]
    heads += [Head("looked at"), Head("different rows"), Head("in both")] if looked else []
    total = sum(task.rows.used for task in run.tasks) or 1
    body: list[list[Child | Cell]] = []
    for task in run.tasks:
        x = task.rows
        row: list[Child | Cell] = [
            broken(task.name),
            bar(x.used / total),
            x.used,
            x.distinct,
            f"{x.used / x.distinct:.2f}×" if x.distinct else "–",
            f"{x.most}×" if x.most else "–",
        ]
        if looked:
            row += [x.looked_at, x.distinct_looked_at, Cell(x.both, "bad" if x.both else "zero")]
        body.append(row)
    sums: list[Child | Cell] = [
        "all",
        "",
        *(sum(getattr(t.rows, name) for t in run.tasks) for name in ("used", "distinct")),
        "",
        "",
    ]
    if looked:
        sums += [sum(getattr(t.rows, name) for t in run.tasks) for name in ("looked_at", "distinct_looked_at", "both")]
    several = len(run.tasks) > 1
    note = "Counted from the ledger, row by row."
    if looked:
        note += " A row in both was trained on and looked at; in a sound run there is none."
    return section(
        view, "rows", "Rows", note, table(heads, [*body, sums] if several else body, foot=int(several), kind="ledger")
    )
