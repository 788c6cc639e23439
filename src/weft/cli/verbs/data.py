"""`weft data prepare | show | check FILE`: the data, before any training. Needs no torch."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.data.prepare import Prepared

SUMMARY = "prepare, show or check the data of a settings file"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="prepare|show|check")
    for name, text in (
        ("prepare", "fill the token store, so that training starts at once"),
        ("show", "print samples with their trained tokens coloured"),
        ("check", "prove the masks and print the ledger; exit code 1 when a check fails"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("file", metavar="FILE", help="settings in YAML, or an MFTCoder training JSON")
        action.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that go before the file's")
        if name == "show":
            action.add_argument("--task", metavar="T", help="only this task")
            action.add_argument("-n", type=int, default=3, metavar="N", help="samples a task; 0 means all (default: 3)")
        if name != "prepare":
            action.add_argument("--json", action="store_true", help="for machines")


def run(args: argparse.Namespace) -> int:
    return {"prepare": _prepare, "show": _show, "check": _check}[args.action](args)


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
            print(f"{'ok  ' if c.ok else 'FAIL'} {c.name}: {c.detail}")
    return 0 if checked.ok else 1


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
