"""`weft merge RUN OUT`: an adapter and its base as one model, checked before it is published."""

from __future__ import annotations

import argparse

from weft.cli.verbs._decoding import add_model

SUMMARY = "merge a run's adapter into its base model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    parser.add_argument("out", metavar="OUT", help="the merged model's folder, which must not exist")
    parser.add_argument(
        "--dtype",
        choices=("auto", "fp32", "bf16", "fp16"),
        default="auto",
        help="format of the weights; auto: the base's own, or fp32 where rounding to it would change answers (default)",
    )
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="cpu", help="where to compute (default: cpu)"
    )


def run(args: argparse.Namespace) -> int:
    from weft.cli.progress import Console
    from weft.export.merge import merge

    console = Console()
    try:
        report = merge(args.model, args.out, args.base, args.dtype, args.device, console)
    finally:
        console.close()
    print(
        f"{report.folder}: {report.base} with the adapter merged, in {report.dtype}. The same greedy tokens as the adapter's on "
        f"{report.prompts} prompts ({report.tokens} tokens); logits differ by at most {report.difference:.1e} of the largest"
    )
    print(f"next: weft chat {report.folder}, weft generate {report.folder} --prompt …")
    return 0
