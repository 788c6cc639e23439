"""One or several runs on one page: HTML that needs nothing else (no script, no font, no picture from elsewhere).

What it shows is read by `report/read.py` from the runs' own journals; this room only draws. Names, paths and settings are never trusted:
see `weft.page.markup`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from weft.errors import ConfigError
from weft.page.document import document
from weft.page.markup import Child, Markup, el
from weft.page.plots import colour
from weft.page.style import PLOTS, STYLE
from weft.page.words import broken
from weft.report.compare import run_names
from weft.report.page import costs, heading, interference, moves, runs, settings, tasks
from weft.report.page.style import RUN
from weft.report.page.view import View
from weft.report.read import read_runs
from weft.report.record import RunRecord

_POINTS = 120_000
"""So many points may all curves of the page have together."""
_LISTED = 60
_STYLE = STYLE + PLOTS + RUN


def page(folders: Sequence[str | Path]) -> str:
    """The page of the runs in these folders. Raises CheckpointError for a folder that is no run or whose journals are damaged."""
    if not folders:
        raise ConfigError("name at least one run's folder, as in `weft report runs/mine`")
    found = read_runs([Path(folder) for folder in folders])
    names = run_names([run.folder for run in found])
    curves = sum(3 * len(run.tasks) for run in found) + sum(len(run.tasks) for run in found if len(found) > 1)
    points = max(20, min(400, _POINTS // max(1, curves)))
    title = f"Report of {', '.join(names)}"
    if len(found) == 1:
        view = View(found[0], points=points)
        parts = _sections(view, names[0])
        return document(title, _STYLE, _contents(view, parts), el("main", parts.values()))
    views = [View(run, f"run{i}-", points) for i, run in enumerate(found)]
    return document(title, _STYLE, _contents_of_many(views, names), el("main", _side_by_side(views, names, points)))


def _sections(view: View, name: str, level: str = "h1") -> dict[str, Markup]:
    """Everything about one run, by what the contents call it; what the run has nothing of is left out."""
    made = {
        "top": heading.heading(view, name, level),
        "tasks": tasks.overview(view),
        "curves": tasks.curves(view) if view.run.steps or view.run.validations else None,
        "ratios": moves.ratios(view),
        "weights": moves.weights(view),
        "shares": moves.shares(view),
        "interference": interference.interference(view),
        "looks": costs.looks(view),
        "rows": costs.ledger(view),
        "settings": settings.settings(view),
        "environment": settings.environment(view),
    }
    return {place: part for place, part in made.items() if part}


def _side_by_side(views: Sequence[View], names: Sequence[str], points: int) -> list[Markup]:
    """What tells the runs apart, then each run by itself, folded."""
    found: list[RunRecord] = [view.run for view in views]
    whole = View(found[0])
    return [
        runs.heading(whole, found, names),
        runs.side_by_side(whole, found, names),
        runs.overlaid(whole, found, names, points),
        runs.otherwise(whole, found, names),
        *(
            el(
                "details",
                el("summary", el("i", class_=f"key {colour(i)}"), broken(name)),
                _sections(view, name, "h2").values(),
                class_="run",
                id=f"run{i}",
            )
            for i, (view, name) in enumerate(zip(views, names, strict=True))
        ),
    ]


def _contents(view: View, parts: Mapping[str, Markup]) -> Markup:
    """The table of contents, which stays in sight."""
    words = {"top": "Overview", "ratios": "Progress"}
    each = [(view.task_place(task), broken(task.name)) for task in view.run.tasks] if "curves" in parts else []
    return _nav(
        [(place, words.get(place, place.capitalize())) for place in parts],
        "Tasks",
        each if len(each) <= _LISTED else [],
    )


def _contents_of_many(views: Sequence[View], names: Sequence[str]) -> Markup:
    places = {
        "top": "Overview",
        "side-by-side": "Side by side",
        "curves": "Curves",
        "otherwise": "Settings that differ",
    }
    each = [(f"run{i}", [el("i", class_=f"key {colour(i)}"), broken(name)]) for i, name in enumerate(names)]
    return _nav(list(places.items()), "Runs", each)


def _nav(places: Sequence[tuple[str, Child]], title: str, each: Sequence[tuple[str, Child]]) -> Markup:
    def links(pairs: Sequence[tuple[str, Child]]) -> Markup:
        return el("ul", [el("li", el("a", name, href=f"#{place}")) for place, name in pairs])

    return el("nav", links(places), [el("p", title), links(each)] if each else None, aria_label="Contents")
