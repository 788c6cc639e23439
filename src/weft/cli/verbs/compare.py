"""`weft compare RUN…`: runs side by side, and what training together did to each task."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from weft.report.side_by_side import Cell, Column, Comparison
    from weft.report.transfer import TransferReport

SUMMARY = "set runs side by side; with single-task baselines, say which tasks training together helps or hurts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="runs' folders; the first is measured against"
    )
    parser.add_argument(
        "--baselines",
        type=Path,
        metavar="FOLDER",
        help="where the first run's single-task runs are, or are to be (default: RUN-singles beside it, if it is there)",
    )
    parser.add_argument(
        "--train", action="store_true", help="train the single-task runs that are missing, or go on with them"
    )
    parser.add_argument(
        "--pairs", action="store_true", help="with --train: the runs of all tasks but one, too; they say who helps whom"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.png", help="draw a picture")
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    from weft.cli.progress import Console
    from weft.errors import ConfigError
    from weft.report.baselines import default_folder, train_baselines
    from weft.report.picture import draw
    from weft.report.read import read_runs
    from weft.report.side_by_side import of_records
    from weft.report.transfer import gradients, transfer

    if args.pairs and not args.train:
        args.usage_error("--pairs goes with --train; pairs that are trained already are read without it")
    if args.output and not args.output.absolute().parent.is_dir():
        raise ConfigError(f"--output {args.output}: there is no folder {args.output.absolute().parent}")
    records = read_runs(args.runs)
    folder = args.baselines or default_folder(records[0].folder)
    if args.train:
        console = Console()
        try:
            train_baselines(records[0], folder, args.pairs, console)
        finally:
            console.close()
    comparison = of_records(records)
    wanted = args.baselines or args.train or folder.is_dir() or gradients(records[0])
    report = transfer(records[0], folder) if wanted else None
    if args.baselines and report and not report.any_baseline:
        raise ConfigError(f"--baselines {folder}: holds no single-task run of {records[0].folder}; --train makes them")
    drawn = draw(comparison, report, args.output) if args.output else []
    if args.json:
        _print_json(comparison, report)
    else:
        _print_runs(comparison)
        if report:
            _print_transfer(report)
    if args.output and not args.json:
        print(f"picture: {args.output} ({', '.join(drawn)})" if drawn else "no picture: there is nothing to compare")
    return 0


def _print_runs(comparison: Comparison) -> None:
    from weft.cli.tables import print_table

    columns = comparison.columns
    first = columns[0]
    headings = ["task"]
    for column in columns:
        headings += [f"{column.name}: last", "best (step)"] + ([] if column is first else ["of the best"])
    rows = [
        [
            task,
            *(
                text
                for column in columns
                for text in _cell(column.cells.get(task), first.cells.get(task), column is first)
            ),
        ]
        for task in comparison.tasks
    ]
    rows.append(["macro mean", *(text for column in columns for text in _macro(column, first))])
    worst = [
        [_loss(c.worst[1]) if c.worst else "–", c.worst[0] if c.worst else "", *([] if c is first else [""])]
        for c in columns
    ]
    rows.append(["worst task", *(text for texts in worst for text in texts)])
    print_table("validation losses (nll per trained token)", headings, rows)
    if comparison.settings:
        print_table(
            "settings that differ",
            ["setting", *(column.name for column in columns)],
            [[name, *(_short(value) for value in values)] for name, values in comparison.settings.items()],
            text_columns=1 + len(columns),
        )
    elif len(columns) > 1:
        print("no setting differs")
    for note in comparison.notes:
        print(f"note: {note}")


def _cell(cell: Cell | None, own: Cell | None, is_first: bool) -> list[str]:
    if cell is None:
        return ["–", "–"] + ([] if is_first else ["–"])
    against = own.best.loss if own and own.best else 0.0
    texts = [_loss(cell.last), f"{cell.best.loss:.4f} ({cell.best.step})" if cell.best else "–"]
    return texts + ([] if is_first else [_share(cell.change, against)])


def _macro(column: Column, first: Column) -> list[str]:
    best = column.macro_best
    texts = [_loss(column.macro_last), f"{best.loss:.4f} ({best.step})" if best else "–"]
    against = first.macro_best.loss if first.macro_best else 0.0
    return texts + ([] if column is first else [_share(column.macro_change, against)])


def _loss(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "–"


def _share(change: float, against: float) -> str:
    return f"{change / against:+.1%}" if against > 0 and math.isfinite(change) else "–"


def _short(value: object) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:18]}…{text[-18:]}"


def _print_transfer(report: TransferReport) -> None:
    from weft.cli.tables import print_table
    from weft.report.transfer import sentences, verdict

    if report.any_baseline:
        print_table(
            f"transfer: against single-task runs in {report.folder}",
            [
                "task",
                "alone: best (step)",
                "steps",
                "trained tokens",
                "together: best (step)",
                "trained tokens",
                "transfer",
                "",
            ],
            [
                [
                    t.task,
                    f"{t.single.loss:.4f} ({t.single.step})" if t.single else "–",
                    str(t.single_steps) if t.single_steps else "–",
                    f"{t.single_tokens:,.0f}" if t.single_tokens else "–",
                    f"{t.multi.loss:.4f} ({t.multi.step})" if t.multi else "–",
                    f"{t.multi_tokens:,.0f}",
                    f"{t.value:+.1%}" if math.isfinite(t.value) else "–",
                    t.why_not or verdict(t.value),
                ]
                for t in report.tasks
            ],
        )
    for sentence in sentences(report):
        print(sentence)
    for note in report.notes:
        print(f"note: {note}")


def _print_json(comparison: Comparison, report: TransferReport | None) -> None:
    import dataclasses
    import json

    found = {
        "comparison": dataclasses.asdict(comparison),
        "transfer": dataclasses.asdict(report) if report else None,
    }
    print(json.dumps(_plain(found), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """As JSON has it: NaN is null, a best is an object, an array a list."""
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if hasattr(value, "_asdict"):
        return _plain(value._asdict())
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    return str(value) if isinstance(value, Path) else value
