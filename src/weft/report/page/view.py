"""What every section of the page is given, and the frame that it stands in."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from weft.page.markup import Child, Markup, el
from weft.page.plots import NUM_COLOURS
from weft.report.record import RunRecord, TaskRecord


@dataclass(frozen=True)
class View:
    """A run on the page."""

    run: RunRecord
    prefix: str = ""
    """What its places' names begin with, so that they are the only ones of their name on a page with several runs."""
    points: int = 400
    """How many points a curve may have."""

    @property
    def few(self) -> bool:
        """Whether every task can have a colour of its own."""
        return len(self.run.tasks) <= NUM_COLOURS

    @property
    def end(self) -> float:
        """The last step, where drawings end."""
        return float(max(self.run.steps, 1))

    def place(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def task_place(self, task: TaskRecord) -> str:
        return self.place(f"task-{self._numbers[task.name]}")

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {task.name: number for number, task in enumerate(self.run.tasks)}


def section(view: View, place: str, title: str, note: str, *children: Child) -> Markup:
    """A section with its heading and a sentence on how to read it."""
    return el(
        "section", el("h2", title), el("p", note, class_="note") if note else None, children, id=view.place(place)
    )
