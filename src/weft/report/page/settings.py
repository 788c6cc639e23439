"""With what it was made: settings that are not as they come, all others, and the machine."""

from __future__ import annotations

import json
from collections.abc import Sequence

from weft.page.markup import Child, Markup, el, shortened
from weft.page.tables import Head, table
from weft.report.compare import defaults, is_default
from weft.report.page.view import View, section
from weft.types import JsonValue

_MOST_SHOWN = 30
_LONGEST = 300


def settings(view: View) -> Markup:
    """All settings; first those that differ from the defaults."""
    known = defaults()
    own = [(path, value) for path, value in view.run.settings.items() if not is_default(path, value, known)]
    rest = {_of_any_task(path): value for path, value in view.run.settings.items() if is_default(path, value, known)}
    listed = _listed(own) if own else None
    return section(
        view,
        "settings",
        "Settings",
        "" if own else "The folder holds no settings.",
        el(
            "details",
            el("summary", f"{len(own):,} settings that are not the default"),
            listed,
            open=len(own) <= _MOST_SHOWN,
        )
        if own
        else None,
        el("details", el("summary", f"{len(rest):,} settings that are the default"), _listed([*rest.items()]))
        if rest
        else None,
    )


def _of_any_task(path: tuple[str, ...]) -> tuple[str, ...]:
    """A task's default stands for that of all tasks that are not listed with a value of their own."""
    return ("tasks", "*", *path[2:]) if path[0] == "tasks" else path


def environment(view: View) -> Markup:
    """The machine and the libraries."""
    found = view.run.environment
    rows: list[list[Child]] = [[name, written(value)] for name, value in found.items()]
    note = (
        "" if found else "The folder has no environment.json: the run was made before weft wrote one, or has not begun."
    )
    heads = [Head("what", False), Head("value", False)]
    return section(view, "environment", "Environment", note, table(heads, rows, kind="plain values") if rows else None)


def _listed(pairs: Sequence[tuple[tuple[str, ...], JsonValue]]) -> Markup:
    rows: list[list[Child]] = [[el("code", ".".join(path)), written(value)] for path, value in pairs]
    return table([Head("setting", False), Head("value", False)], rows, kind="plain values")


def written(value: JsonValue) -> Markup:
    """A value as it stands in a settings file."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return el("code", shortened(text, _LONGEST))
