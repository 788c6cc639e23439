"""`weft soup RUN OUT`: the average of a run's checkpoints, measured on its validation rows before it is published."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.export.soup import Score, SoupReport

SUMMARY = "average a run's checkpoints into one model, or take the one that is best at a task"
_MOST_TASKS_IN_A_ROW = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="a run's folder")
    parser.add_argument("out", metavar="OUT", help="the result's folder, which must not exist")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--steps", type=_steps, metavar="N,N,…", help="only the checkpoints of these steps")
    which.add_argument("--last", type=int, metavar="N", help="only the newest N checkpoints that are whole")
    which.add_argument(
        "--best-of", metavar="TASK", help="no average: the checkpoint with the task's lowest validation loss"
    )
    parser.add_argument(
        "--how",
        choices=("greedy", "uniform"),
        help="greedy: best first, one more only if the average is then better (default); uniform: all of them",
    )
    parser.add_argument(
        "--by",
        metavar="macro|loss|worst|TASK",
        help="the validation loss that greedy goes by: mean of the tasks' (default), the objective, the largest, or a task's",
    )
    parser.add_argument("--base", metavar="FOLDER", help="the base model, where it is not where it was")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to measure (default: auto)"
    )
    parser.set_defaults(usage_error=parser.error)


def _steps(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of steps such as 100,200") from None


def run(args: argparse.Namespace) -> int:
    from weft.cli.progress import Console
    from weft.export.soup import Wanted, soup

    if args.best_of and (args.how or args.by):
        args.usage_error("--best-of takes one checkpoint as it is; --how and --by have no effect with it")
    if args.how == "uniform" and args.by:
        args.usage_error("--by has no effect with --how uniform, which takes all checkpoints")
    console = Console()
    try:
        report = soup(
            args.run,
            args.out,
            Wanted(args.steps or (), args.last, args.best_of),
            args.how or "greedy",
            args.by or "macro",
            args.base,
            args.device,
            console,
        )
    finally:
        console.close()
    _print(report)
    return 0


def _print(report: SoupReport) -> None:
    from weft.cli.tables import print_table

    tasks = list(report.score.tasks) if report.score else []
    wide = len(tasks) > _MOST_TASKS_IN_A_ROW
    columns = ["macro", "worst", "loss", *([] if wide else tasks)]
    rows = [[f"step {c.step}", "yes" if c.chosen else "", *_numbers(c.score, columns)] for c in report.candidates]
    rows.append(["the result", "", *_numbers(report.score, columns)])
    print_table(f"{report.folder}: validation losses", ["checkpoint", "in it", *columns], rows, text_columns=2)
    if wide and report.score:
        _print_tasks(report, tasks)
    for line in [*(f"left out, broken: {line}" for line in report.broken), *(f"note: {note}" for note in report.notes)]:
        print(line)
    print(f"next: weft chat {report.folder}, weft merge {report.folder} MERGED")


def _numbers(score: Score | None, columns: list[str]) -> list[str]:
    if score is None:
        return ["–"] * len(columns)
    return [f"{score.by(c):.4f} ({score.worst_task})" if c == "worst" else f"{score.by(c):.4f}" for c in columns]


def _print_tasks(report: SoupReport, tasks: list[str]) -> None:
    """Many tasks stand under one another: the best checkpoint that is in it beside the result."""
    from weft.cli.tables import print_table

    measured = [(c.score.by(report.by), c) for c in report.candidates if c.chosen and c.score]
    best = min(measured, key=lambda pair: pair[0])[1]
    if best.score is None or report.score is None:
        return
    print_table(
        "by task",
        ["task", f"step {best.step}", "the result"],
        [[task, f"{best.score.tasks[task]:.4f}", f"{report.score.tasks[task]:.4f}"] for task in tasks],
    )
