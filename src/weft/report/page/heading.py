"""The top of the page: the verdict in plain words, the facts, the numbers of the whole."""

from __future__ import annotations

from collections.abc import Sequence

from weft.page.markup import Markup, el
from weft.page.words import number, short
from weft.report import verdict
from weft.report.page.view import View
from weft.report.record import RunRecord
from weft.report.verdict import loss
from weft.types import JsonValue


def heading(view: View, name: str, level: str = "h1") -> Markup:
    """What a run came to."""
    told, kind = verdict.headline(view.run)
    return el(
        "header",
        el("p", f"weft run report · {name}", class_="eyebrow") if level == "h1" else None,
        el(level, told, class_=f"verdict {kind}".strip()),
        el("ul", [el("li", line) for line in verdict.sentences(view.run)], class_="told"),
        facts(view.run),
        el(
            "ul",
            [
                el("li", el("b", value), el("span", what), el("small", more) if more else None)
                for what, value, more in _cards(view.run)
            ],
            class_="cards",
        ),
        id=view.place("top"),
    )


def facts(run: RunRecord) -> Markup:
    """What the run was made of."""
    about = run.environment
    shown: Sequence[tuple[str, JsonValue]] = [
        ("folder", str(run.folder)),
        ("model", run.setting("model", "base")),
        ("adapter", run.setting("adapter", "kind")),
        ("loss.weighting", run.setting("loss", "weighting")),
        ("balance.method", run.setting("balance", "method")),
        ("mixture.by", run.setting("mixture", "by")),
        ("device", about.get("gpu") or about.get("device")),
        ("started", about.get("started")),
    ]
    pairs = [el("div", el("dt", name), el("dd", el("code", str(value)))) for name, value in shown if value is not None]
    return el("dl", pairs, class_="facts")


def _cards(run: RunRecord) -> list[tuple[str, str, str]]:
    tokens = sum(float(task.tokens.value_N.sum()) for task in run.tasks)
    speed = run.speed.finite.value_N
    cards = [
        ("tasks", f"{len(run.tasks):,}", ""),
        ("steps", f"{run.steps:,}", "" if run.final_step is not None else "not at its end"),
        ("trained tokens", number(round(tokens)), ""),
        ("tokens a second", short(float(sorted(speed)[len(speed) // 2])) if len(speed) else "–", "median"),
    ]
    if run.validations:
        first, last = run.validations[0], run.validations[-1]
        best = verdict.best_validation(run, "macro")
        more = f"best {loss(best.macro)} at step {best.step:,}" if best else ""
        cards.append(("mean of the tasks' losses", loss(last.macro), more or f"{loss(first.macro)} at the start"))
        if last.worst_task and len(run.tasks) > 1:
            cards.append(("largest of the tasks' losses", loss(last.worst_loss), last.worst_task))
    return cards
