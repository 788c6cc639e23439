"""`weft suggest RUN`: settings for the next run, each change with the numbers that ask for it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.report.suggest import Suggestions

SUMMARY = "turn a run's record into settings for the next one, with reasons"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", type=Path, help="a run's folder")
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="FOLDER",
        help="where `weft compare --train` put the single-task runs (default: RUN-singles, if it is there)",
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE.yaml",
        help="write the settings there (further runs as FILE-2.yaml, …); without it they are printed, and the table goes to standard error",
    )


def run(args: argparse.Namespace) -> int:
    import contextlib
    import sys

    from weft.report.suggest import as_yaml, suggest, write

    found = suggest(args.run, args.baselines)
    if args.output is None:
        with contextlib.redirect_stdout(sys.stderr):
            _print(found)
        print("---\n".join(as_yaml(one, found) for one in found.runs), end="")
        return 0
    files = write(found, args.output)
    _print(found)
    for file, one in zip(files, found.runs, strict=True):
        print(f"{file}: settings of a run of {', '.join(one.tasks)}; next: weft train {file}")
    return 0


def _print(found: Suggestions) -> None:
    from weft.cli.tables import print_table

    for number, one in enumerate(found.runs, 1):
        which = f"run {number} of {len(found.runs)} ({', '.join(one.tasks)})" if len(found.runs) > 1 else "the next run"
        print_table(
            f"suggested for {which}",
            ["setting", "was", "suggested", "because"],
            [[c.setting, _shown(c.was), _shown(c.value), c.reason] for c in one.changes],
            text_columns=4,
        )
    for line in found.kept:
        print(f"nothing suggested for {line}")
    for note in found.notes:
        print(f"note: {note}")


def _shown(value: object) -> str:
    return "–" if value is None or value == {} else f"{value:g}" if isinstance(value, float) else str(value)
