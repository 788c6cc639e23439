"""`weft generate MODEL|RUN --prompt … | --input FILE --output FILE`: answers to one prompt, or to a file of them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from weft.cli.verbs._decoding import add_decoding, add_device, add_model, decoding_from, open_from

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from weft.generation.batch import Answer
    from weft.generation.decoding import Decoding
    from weft.types import JsonObject, Message

SUMMARY = "answer a prompt, or a file of prompts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--prompt", action="append", metavar="TEXT", help="what to answer; may be given several times")
    what.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help='rows in any format that training reads, or {"prompt": …}, {"messages": […]}',
    )
    parser.add_argument(
        "--output", type=Path, metavar="FILE", help="where the answers go, a JSON line a row, in the rows' order"
    )
    parser.add_argument("--force", action="store_true", help="replace the output file if it is there")
    parser.add_argument("--system", metavar="TEXT", help="a system message for prompts that have none")
    parser.add_argument(
        "--raw", action="store_true", help="show --prompt as it is, without a template, to be gone on with"
    )
    parser.add_argument("--json", action="store_true", help="print the answers to --prompt as JSON lines")
    add_decoding(parser)
    parser.add_argument("--num-beams", type=int, default=1, metavar="N", help="search with so many beams (default: 1)")
    parser.add_argument("--batch-size", type=int, default=16, metavar="N", help="prompts at a time (default: 16)")
    add_device(parser)
    parser.set_defaults(usage_error=parser.error)


def run(args: argparse.Namespace) -> int:
    if bool(args.input) != bool(args.output):
        args.usage_error("--input FILE and --output FILE go together")
    if args.raw and (args.input or args.system):
        args.usage_error("--raw goes with --prompt alone")
    decoding = decoding_from(args)
    return _answer_file(args, decoding) if args.input else _answer_prompts(args, decoding)


def _answer_prompts(args: argparse.Namespace, decoding: Decoding) -> int:
    import json

    from weft.data.templates import with_system
    from weft.generation.batch import generate
    from weft.types import TEXT_ROLE, Message

    role = TEXT_ROLE if args.raw else "user"
    asked = [with_system([Message(role, prompt)], args.system) for prompt in args.prompt]
    answers = generate(open_from(args), asked, decoding)
    for prompt, answer in zip(args.prompt, answers, strict=True):
        record = {"prompt": prompt, "answer": answer.text, "stopped": answer.stopped}
        print(json.dumps(record, ensure_ascii=False) if args.json else answer.text)
    return 0


def _answer_file(args: argparse.Namespace, decoding: Decoding) -> int:
    from weft.cli.progress import Console
    from weft.data.templates import with_system
    from weft.errors import ConfigError
    from weft.generation.batch import generate
    from weft.generation.rows import read_prompts

    if args.output.exists() and not args.force:
        raise ConfigError(f"--output {args.output} is there already; choose another file, or replace it with --force")
    asked = read_prompts(args.input)
    conversations: list[Sequence[Message]] = [with_system(row.messages, args.system) for row in asked]
    console = Console()
    try:
        answers = generate(open_from(args), conversations, decoding, console)
    finally:
        console.close()
    rows = zip(asked, conversations, answers, strict=True)
    _write(args.output, (_record(f"{row.id.file}:{row.id.line}", c, row.expected, answer) for row, c, answer in rows))
    print(f"{args.output}: {len(answers)} answers")
    return 0


def _record(row: str, messages: Sequence[Message], expected: str | None, answer: Answer) -> JsonObject:
    prompt: JsonObject = (
        {"prompt": messages[0].content}
        if len(messages) == 1
        else {"messages": [{"role": m.role, "content": m.content} for m in messages]}
    )
    known: JsonObject = {} if expected is None else {"expected": expected}
    return {"id": row, **prompt, "answer": answer.text, "stopped": answer.stopped, **known}


def _write(file: Path, records: Iterable[JsonObject]) -> None:
    """All lines, or the file stays as it was."""
    import json
    import os

    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("w", encoding="utf-8") as stream:
            for record in records:
                stream.write(json.dumps(record, ensure_ascii=False) + "\n")
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
