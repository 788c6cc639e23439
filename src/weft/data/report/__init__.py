"""The data on one page: HTML that needs nothing else (no script, no font, no picture from elsewhere), for a browser or a mail.

What it shows is worked out by `data/checks`; this room only draws. The text of rows is never trusted: see `weft.page.markup`.
"""

from __future__ import annotations

from weft.config.settings import Settings
from weft.data.checks import check
from weft.data.checks.stats import stats as work_out
from weft.data.prepare import Prepared
from weft.data.report.sections import checks_section, contents, heading, mixture, overview
from weft.data.report.tasks import task_section
from weft.page.document import document
from weft.page.markup import el
from weft.page.style import STYLE
from weft.types import ProgressHook, silent


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
    title = f"Data of {', '.join(prepared.tasks)}"
    return document(title, STYLE, contents(stats.tasks, checks), main)
