"""`weft data prepare | show | check | stats | report FILE`: the data, before any training. Needs no torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.data.checks.stats import Stats
    from weft.data.prepare import Prepared

SUMMARY = "prepare, show, check, count or report the data of a settings file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="prepare|show|check|stats|report")
    for name, text in (
        ("prepare", "fill the token store, so that training starts at once"),
        ("show", "print samples with their trained tokens coloured"),
        ("check", "prove the masks, look for duplicates and contamination; exit code 1 when a check fails"),
        ("stats", "print lengths, trained shares, bytes per token and what a pass over the mixture holds"),
        ("report", "write checks, numbers, plots and coloured samples into one HTML file"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("file", metavar="FILE", help="settings in YAML, or an MFTCoder training JSON")
        action.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that go before the file's")
        if name == "show":
            action.add_argument("--task", metavar="T", help="only this task")
            action.add_argument("-n", type=int, default=3, metavar="N", help="samples a task; 0 means all (default: 3)")
        if name == "report":
            action.add_argument("-o", "--output", metavar="HTML", help="the file to write (default: report.html)")
        if name not in ("prepare", "report"):
            action.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> int:
    verbs = {"prepare": _prepare, "show": _show, "check": _check, "stats": _stats, "report": _report}
    return verbs[args.action](args)


def _prepare(args: argparse.Namespace) -> int:
    from weft import api
    from weft.cli.progress import Console

    console = Console()
    try:
        prepared = api.prepare(args.file, *args.overrides, progress=console)
    finally:
        console.close()
    _print_ledger(prepared)
    return 0


def _show(args: argparse.Namespace) -> int:
    import json

    from weft import api
    from weft.data import inspect

    settings = api.settings(args.file, *args.overrides)
    prepared = api.prepare(settings)
    samples = inspect.show(settings, prepared, args.task, args.n)
    if args.json:
        for sample in samples:
            print(json.dumps(sample.record(), ensure_ascii=False))
        return 0
    from rich.console import Console as Terminal
    from rich.text import Text

    terminal = Terminal(highlight=False)
    terminal.print(Text.assemble(("trained", "bold green"), " and ", ("context", "dim"), " tokens"))
    for sample in samples:
        trained = sum(weight > 0 for weight in sample.weights)
        terminal.print(
            Text(f"\n{sample.id} ({sample.split}): {len(sample.ids)} tokens, {trained} trained", style="bold")
        )
        runs = inspect.coloured_runs(prepared.tokenizer, sample)
        terminal.print(Text.assemble(*((text, "bold green" if is_trained else "dim") for text, is_trained in runs)))
    return 0


def _check(args: argparse.Namespace) -> int:
    import json

    from weft import api
    from weft.cli.progress import Console

    console = Console()
    try:
        checked = api.check(args.file, *args.overrides, progress=console)
    finally:
        console.close()
    if args.json:
        tasks = {
            store.task: {
                "format": store.ledger.format,
                "read": store.ledger.read,
                "used": store.ledger.used,
                "quarantined": store.ledger.quarantined,
                "dropped": dict(store.ledger.dropped),
                "trained_tokens": store.ledger.trained_tokens,
            }
            for store in checked.prepared.stores
        }
        checks = [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in checked.checks]
        print(json.dumps({"tasks": tasks, "checks": checks}, ensure_ascii=False))
    else:
        _print_ledger(checked.prepared)
        for c in checked.checks:
            print(f"{('look' if c.careful else 'ok  ') if c.ok else 'FAIL'} {c.name}: {c.detail}")
    return 0 if checked.ok else 1


def _stats(args: argparse.Namespace) -> int:
    import json

    from weft import api
    from weft.cli.progress import Console

    console = Console()
    try:
        found = api.stats(args.file, *args.overrides, progress=console)
    finally:
        console.close()
    if args.json:
        print(json.dumps(found.record(), ensure_ascii=False))
    else:
        _print_stats(found)
    return 0


def _report(args: argparse.Namespace) -> int:
    from pathlib import Path

    from weft import api
    from weft.cli.progress import Console

    place = Path(args.output or "report.html")
    console = Console()
    try:
        page = api.data_report(args.file, *args.overrides, progress=console)
    finally:
        console.close()
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(page, "utf-8")
    print(f"{place}: {len(page.encode()) / 2**20:.1f} MiB; open it in a browser")
    return 0


def _print_stats(found: Stats) -> None:
    from weft.cli.tables import print_table
    from weft.data.checks.stats import sparkline

    samples = sum(x.pass_samples for x in found.tasks) or 1
    trained = sum(x.pass_trained_tokens for x in found.tasks) or 1.0
    lengths = [
        [
            x.task,
            f"{sparkline(x.lengths.counts)}",
            f"{x.used:,}",
            *(f"{x.quantiles[name]:,}" for name in ("min", "median", "p95", "max")),
            f"{x.tokens:,}",
            f"{100 * x.trained_share:.1f} %",
            f"{x.bytes_per_token:.2f}",
        ]
        for x in found.tasks
    ]
    headings = ["task", "lengths", "samples", "min", "median", "95 %", "max", "tokens", "trained", "bytes/token"]
    print_table("samples and their lengths in tokens", headings, lengths, text_columns=2)
    mixture = [
        [
            x.task,
            *(f"{number:,}" for number in (x.train, x.validation, x.test)),
            f"{x.pass_samples:,}",
            f"{100 * x.pass_samples / samples:.1f} %",
            f"{x.pass_tokens:,}",
            f"{100 * x.pass_trained_tokens / trained:.1f} %",
        ]
        for x in found.tasks
    ]
    headings = ["task", "training", "validation", "test", "a pass takes", "of samples", "tokens", "of trained tokens"]
    print_table("splits, and one pass over the mixture", headings, mixture)
    if found.micro_batches:
        print(f"the micro-batches of the first steps are {100 * found.utilisation:.1f} % full, and no slot is empty")


def _print_ledger(prepared: Prepared) -> None:
    from weft.cli.tables import print_table

    rows = []
    for store in prepared.stores:
        x = store.ledger
        dropped = ", ".join(f"{number} {reason}" for reason, number in x.dropped.items()) or "0"
        rows.append(
            [
                x.task,
                x.format,
                f"{x.read}",
                f"{x.used}",
                f"{x.quarantined}",
                dropped,
                *map(str, (x.cut, x.tokens, x.trained_tokens)),
            ]
        )
    headings = ["task", "format", "read", "used", "quarantined", "dropped", "cut", "tokens", "trained tokens"]
    print_table("ledger: read = used + quarantined + dropped", headings, rows, text_columns=2)
    for store in prepared.stores:
        if store.ledger.read != store.ledger.used:
            print(f"rows of {store.task} that are not used: {store.folder / 'rejects.jsonl'}")
