"""`weft train FILE [a.b=c …]`: the main job."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.cli.progress import Console
    from weft.data.forecast import Forecast

SUMMARY = "train (or go on training) the run that a settings file describes"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="settings in YAML, or an MFTCoder training JSON")
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that go before the file's")
    parser.add_argument("--dry-run", action="store_true", help="say what would happen, without loading weights")


def run(args: argparse.Namespace) -> int:
    from weft import api
    from weft.cli.progress import Console

    console = Console()
    try:
        if args.dry_run:
            _print_forecast(api.forecast(args.file, *args.overrides, progress=console), console)
            return 0
        result = api.train(args.file, *args.overrides, progress=console)
    finally:
        console.close()
    from weft.cli.tables import print_table

    print_table(
        f"{result.folder}: {result.steps} steps",
        ["task", "validation loss before", f"of the result (step {result.final_step})"],
        [[name, _loss(before), _loss(result.losses_after.get(name))] for name, before in result.losses_before.items()],
    )
    merge = f", weft merge {result.folder} OUT" if (result.final / "adapter_config.json").is_file() else ""
    print(f"curves: {result.folder / 'curves.png'}\nnext: weft chat {result.folder}{merge}")
    return 0


def _loss(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _print_forecast(forecast: Forecast, console: Console) -> None:
    from weft.cli.tables import print_table

    console.close()
    print_table(
        "what this run would do",
        [
            *("task", "format", "rows", "train", "validation", "tokens", "trained tokens"),
            *("times seen", "rows × times", "share of trained tokens", "in steps"),
        ],
        [
            [
                t.task,
                t.format,
                *map(str, (t.rows, t.train_rows, t.validation_rows, t.tokens, t.trained_tokens)),
                f"{t.times_seen:.2f}",
                ", ".join(f"{rows}×{times}" for times, rows in t.rows_by_times_seen.items()),
                f"{t.share:.2%}",
                str(t.steps),
            ]
            for t in forecast.tasks
        ],
        text_columns=2,
    )
    for warning in forecast.warnings:
        print(f"warning: {warning}")
    for number, stage in enumerate(forecast.stages, 1):
        if len(forecast.stages) > 1:
            shares = ", ".join(f"{name} {share:.2%}" for name, share in stage.shares.items())
            about = f"stage {number} (by {stage.by}, epochs {stage.epochs:g}): {stage.steps} steps"
            print(f"{about}; of the trained tokens {shares}" if shares else f"{about}; the run ends before it")
    print(
        f"steps: {forecast.steps}, each about {forecast.tokens_per_step:.0f} tokens in {forecast.micro_batches_per_step:.1f} micro-batches"
    )
    print(f"parameters: {forecast.parameters:,}, of which {forecast.trained_parameters:,} are trained")
    parts = ", ".join(f"{name} {size / 2**20:.1f}" for name, size in forecast.memory.items())
    print(f"memory, estimated, MiB: {parts}; together {sum(forecast.memory.values()) / 2**20:.1f}")
    print(f"files: {', '.join(forecast.files)}")
