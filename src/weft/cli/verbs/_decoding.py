"""The arguments that `generate` and `chat` share: which model, where, and how the next token is chosen."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from weft.generation.decoding import Decoding
    from weft.generation.model import Loaded


def add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model", metavar="MODEL|RUN", help="a run's folder, an adapter's, or any model's in Hugging Face's layout"
    )
    parser.add_argument("--base", metavar="FOLDER", help="the adapter's base model, where it is not where it was")


def add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where to compute (default: auto)"
    )
    parser.add_argument(
        "--dtype", choices=("auto", "fp32", "bf16"), default="auto", help="auto: bf16 on a GPU, fp32 on a CPU (default)"
    )


def add_decoding(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("decoding")
    group.add_argument("--max-new-tokens", type=int, default=256, metavar="N", help="longest answer (default: 256)")
    group.add_argument("--temperature", type=float, default=0.0, metavar="T", help="0 is greedy (default)")
    group.add_argument(
        "--top-p", type=float, default=1.0, metavar="P", help="sample from the most likely tokens of together P"
    )
    group.add_argument(
        "--top-k", type=int, default=0, metavar="K", help="sample from the K most likely tokens (0: all)"
    )
    group.add_argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="above 1: repeat less")
    group.add_argument("--seed", type=int, default=0, metavar="N", help="for sampling (default: 0)")


def open_from(args: argparse.Namespace) -> Loaded:
    from weft.generation.model import open_model

    return open_model(args.model, args.device, args.dtype, args.base)


def decoding_from(args: argparse.Namespace) -> Decoding:
    """Also reads --batch-size and --num-beams where the verb has them."""
    from weft.generation.decoding import Decoding

    return Decoding(
        max_new_tokens=args.max_new_tokens,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        repetition_penalty=args.repetition_penalty,
        seed=args.seed,
        batch_size=getattr(args, "batch_size", 1),
        num_beams=getattr(args, "num_beams", 1),
    )
