"""The data on one page: HTML that needs nothing else (no script, no font, no picture from elsewhere), for a browser or a mail.

What it shows is worked out by `data/checks`; this room only draws. The text of rows is never trusted: see `markup`.
"""

from __future__ import annotations

from weft.config.settings import Settings
from weft.data.checks import check
from weft.data.checks.stats import stats as work_out
from weft.data.prepare import Prepared
from weft.data.report.markup import Markup, el, join
from weft.data.report.sections import checks_section, contents, heading, mixture, overview
from weft.data.report.style import STYLE
from weft.data.report.tasks import task_section
from weft.types import ProgressHook, silent

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if a row's text became markup, it could load and run nothing."""


def report(settings: Settings, prepared: Prepared, progress: ProgressHook = silent) -> str:
    """The page. Raises what the checks raise."""
    checks = check(settings, prepared, progress)
    stats = work_out(settings, prepared, progress)
    tasks = [task_section(settings, prepared, *pair) for pair in zip(prepared.stores, stats.tasks, strict=True)]
    main = el(
        "main",
        heading(settings, prepared, stats, checks),
        checks_section(checks),
        overview(stats),
        mixture(stats, settings),
        tasks,
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", f"Data of {', '.join(prepared.tasks)}"[:100]),
        el("style", Markup(STYLE)),
    )
    body = el("body", contents(stats.tasks, checks), main)
    return join([Markup("<!doctype html>\n"), el("html", head, Markup("\n"), body, lang="en"), Markup("\n")])
