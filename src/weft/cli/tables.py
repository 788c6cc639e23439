"""Tables on a terminal, all in one style; wide where nobody's window sets a width."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def print_table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]], text_columns: int = 1) -> None:
    """The first `text_columns` columns stand left, numbers stand right."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < text_columns else "right", overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
