"""`weft eval MODEL|RUN FILE [a.b=c …]`: each task's validation loss, and how often the greedy answer is the expected one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from weft.cli.verbs._decoding import add_model

if TYPE_CHECKING:
    from weft.evaluation.tasks import TaskScore

SUMMARY = "score a model on the validation rows of a settings file's tasks"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument(
        "file", metavar="FILE", help="settings in YAML (a run's settings.yaml), or an MFTCoder training JSON"
    )
    parser.add_argument("overrides", nargs="*", metavar="a.b=c", help="settings that go before the file's")
    parser.add_argument(
        "--max-prompts",
        type=int,
        default=100,
        metavar="N",
        help="answer at most N prompts a task; 0: losses alone (default: 100)",
    )
    parser.add_argument(
        "--held-out",
        type=Path,
        metavar="DIR",
        help="a folder of TASK.jsonl files, to answer instead of the validation rows",
    )
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="prompts at a time (default: 16)")
    parser.add_argument("--json", action="store_true", help="print a JSON line a task")
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    from weft import api
    from weft.cli.progress import Console
    from weft.evaluation.tasks import evaluate

    if args.max_prompts < 0:
        args.usage_error("--max-prompts is 0 or more")
    console = Console()
    try:
        scores = evaluate(
            args.model,
            api.settings(args.file, *args.overrides),
            max_prompts=args.max_prompts,
            held_out=args.held_out,
            base=args.base,
            batch_size=args.batch_size,
            progress=console,
        )
    finally:
        console.close()
    _print(scores, args.model, args.json)
    return 0


def _print(scores: list[TaskScore], model: str, as_json: bool) -> None:
    import json
    from dataclasses import asdict

    from weft.cli.tables import print_table

    if as_json:
        for score in scores:
            print(json.dumps(asdict(score), ensure_ascii=False))
        return
    print_table(
        model,
        ["task", "validation rows", "trained tokens", "validation loss", "exact match", "prompts"],
        [
            [
                score.task,
                str(score.rows),
                f"{score.trained_tokens:g}" if isinstance(score.trained_tokens, float) else str(score.trained_tokens),
                "–" if score.loss is None else f"{score.loss:.4f}",
                "–" if score.exact_match is None else f"{score.exact_match:.1%}",
                str(score.prompts),
            ]
            for score in scores
        ],
    )
