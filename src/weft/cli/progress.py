"""Progress on a terminal: one bar, its line of numbers, and nothing where nobody watches.

A plain picklable object: the bar itself is made in the process that draws it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

from weft.types import Progress

_QUIET_SECONDS = 10.0


class Console:
    """A progress hook. On a terminal a live bar; else a line every ten seconds and at the end of each piece of work."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._what = ""
        self._said = 0.0

    def __getstate__(self) -> dict[str, Any]:
        return Console().__dict__

    def __call__(self, event: Progress) -> None:
        if event.text:
            self._show(event)
        if sys.stderr.isatty():
            self._draw(event)
        elif event.what != self._what or time.monotonic() - self._said > _QUIET_SECONDS or event.done == event.total:
            self._what, self._said = event.what, time.monotonic()
            print(f"{event.what} {_amount(event)} {event.note}", file=sys.stderr, flush=True)

    def _show(self, event: Progress) -> None:
        if self._bar is not None:
            self._bar.console.print(f"{event.what}: {event.text}", markup=False, highlight=False)
        else:
            print(f"{event.what}: {event.text}", file=sys.stderr, flush=True)

    def _draw(self, event: Progress) -> None:
        from rich.console import Console as RichConsole
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (TextColumn("{task.description}"), BarColumn(24), TextColumn("{task.fields[amount]}"))
            more = (TimeElapsedColumn(), TextColumn("{task.fields[note]}"))
            self._bar = Bar(*columns, *more, console=RichConsole(stderr=True))
            self._bar.start()
        if event.what != self._what:
            self._what = event.what
            self._task = self._bar.add_task(event.what, total=event.total or None, note="", amount="")
        self._bar.update(self._task, completed=event.done, note=event.note, amount=_amount(event))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _amount(event: Progress) -> str:
    done, total = (f"{n / 1e6:.1f}" if event.unit == "bytes" else f"{n}" for n in (event.done, event.total))
    return (f"{done}/{total}" if event.total else done) + (" MB" if event.unit == "bytes" else "")
