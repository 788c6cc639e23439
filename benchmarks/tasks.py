#!/usr/bin/env python3
"""What many tasks cost: 500 tasks of 100 rows in one run, beside the same rows as 2 tasks of 25,000.

    python benchmarks/tasks.py
    python benchmarks/tasks.py --balance coba --rounds 3 --json result.json

The same model, the same number of rows, tokens and samples a step; only the number of tasks differs. The model is a random Llama of 2.4 M
parameters with LoRA on all linear layers, in fp32 on one thread, so that a step takes about a second: what is done for each task
weighs more here than beside any model that is worth training. Both runs go on side by side in processes of their own, and in turn: one
trains some steps while the other waits. With a method that moves the weights (`--balance`), looks at validation rows are part of that.

Afterwards the runs' own records are checked: in every step both have the same number of samples and trained tokens, each task has the
tokens of its samples in the ledger, shares add up to 1, and no sample is spent twice. Preparing is not timed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from weft.config.settings import Settings
from weft.data.plan import make_plan
from weft.data.prepare import prepare
from weft.types import Progress

PROMPT, ANSWER = 16, 27
"""Letters, which are tokens here; ChatML makes rows of 64 tokens of them."""
TRAINED = ANSWER + 1
"""The answer and its stop token."""


@dataclass
class Contender:
    """One run, and what was measured of it. Seconds are CPU seconds."""

    tasks: int
    balance: str
    plan_seconds: float = 0.0
    """Opening all stores and planning the whole run."""
    build_seconds: float = 0.0
    """The whole start: that again, the model, the optimizer."""
    begin_seconds: float = 0.0
    """What comes before the second step: a validation of all tasks, with a moving balancer a look at all, and the first step."""
    rounds: list[float] = field(default_factory=list)
    """A step of each round."""
    peak_mb: float = 0.0
    built_mb: float = 0.0

    @property
    def step_seconds(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.rounds)


def make_model(folder: Path) -> None:
    """A tokenizer of bytes and a random Llama."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>", "<|im_start|>", "<|im_end|>"])
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": "</s>", "pad_token": "<pad>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.LlamaConfig(
            vocab_size=4096,
            hidden_size=192,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=6,
            num_key_value_heads=3,
            max_position_embeddings=1024,
            bos_token_id=None,
            eos_token_id=tokenizer.token_to_id("</s>"),
            pad_token_id=tokenizer.token_to_id("<pad>"),
            tie_word_embeddings=True,
        )
    )
    model.save_pretrained(folder)


def make_rows(folder: Path, tasks: int, rows: int) -> dict[str, str]:
    """The same rows whatever the number of tasks; gives each task's file."""
    rng, letters, files = random.Random(0), "abcdefghijklmnopqrstuvwxyz ", {}
    folder.mkdir()
    for task in range(tasks):
        path = folder / f"task{task:03d}.jsonl"
        with path.open("w", encoding="utf-8") as stream:
            for _ in range(rows // tasks):
                text = "x" + "".join(rng.choices(letters, k=PROMPT + ANSWER - 3)) + "x"  # no space at an end
                row = {"prompt": text[:PROMPT].rstrip().ljust(PROMPT, "x"), "answer": "x" + text[PROMPT:]}
                stream.write(json.dumps(row) + "\n")
        files[path.stem] = str(path)
    return files


def settings_of(contender: Contender, args: argparse.Namespace, work: Path) -> Settings:
    """The settings of a run; what is done every so many steps, validations and checkpoints, is left to its begin and end."""
    never = 10**6
    return Settings.model_validate(
        {
            "model": {"base": str(work / "model")},
            "adapter": {"kind": "lora", "rank": 8, "alpha": 16},
            "tasks": {path.stem: str(path) for path in sorted((work / f"rows-{contender.tasks}").iterdir())},
            "template": "chatml",
            "data": {"max_tokens": 1024, "validation": 0.02, "cache": str(work / f"cache-{contender.tasks}")},
            "mixture": {"epochs": 1, "max_steps": num_steps(args)},
            "batch": {"samples_per_step": args.samples_per_step, "tokens_per_micro_batch": 4096},
            "loss": {"weighting": "task"},
            "balance": {"method": contender.balance},
            "validate": {"every": never},
            "save": {"every": never},
            "engine": {"device": "cpu", "threads": 1},
            "output": str(work / f"run-{contender.tasks}-{contender.balance}"),
        }
    )


def num_steps(args: argparse.Namespace) -> int:
    """With the warm-up's, and one last step that validates and saves and is not measured."""
    return args.warmup + args.rounds * args.steps + 1


def memory_mb(which: str) -> float:
    """What this process holds (VmRSS), or has held at most (VmHWM)."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(which))


def work_of(pipe: Connection, contender: Contender, settings: Settings, args: argparse.Namespace) -> None:
    """A process: starts, and trains a round whenever it is told to. Every message is a figure."""
    from weft.training.loop import train
    from weft.training.setup import build, open_engine

    begun = time.process_time()
    plan = make_plan(settings, prepare(settings))
    assert plan.num_steps == num_steps(args), "there are fewer rows than the steps need"
    pipe.send(time.process_time() - begun)
    begun = time.process_time()
    run = build(settings, open_engine(settings), lambda _: None)
    pipe.send(time.process_time() - begun)
    pipe.send(memory_mb("VmRSS"))
    borders = {1: 1, args.warmup: args.warmup - 1}
    borders |= {args.warmup + (i + 1) * args.steps: args.steps for i in range(args.rounds)}
    pipe.recv()
    begun = time.process_time()

    def at(progress: Progress) -> None:
        nonlocal begun
        if progress.done in borders:
            pipe.send((time.process_time() - begun) / borders[progress.done])
            pipe.recv()
            begun = time.process_time()

    train(run, at)
    for journal in (run.metrics, run.ledger):
        journal.close()
    pipe.send(memory_mb("VmHWM"))


def measure(balance: str, args: argparse.Namespace, work: Path) -> list[Contender]:
    """Both runs, in turn."""
    context = multiprocessing.get_context("spawn")
    contenders = [Contender(tasks, balance) for tasks in args.tasks]
    pipes, processes = [], []
    for contender in contenders:
        settings = settings_of(contender, args, work)
        settings.output.mkdir()
        pipe, other = context.Pipe()
        process = context.Process(target=work_of, args=(other, contender, settings, args))
        process.start()
        other.close()
        contender.plan_seconds, contender.build_seconds, contender.built_mb = (pipe.recv() for _ in range(3))
        pipes.append(pipe)
        processes.append(process)
    for stage in range(args.rounds + 2):  # the first step, the other steps of the warm-up, then what counts
        for contender, pipe in zip(contenders, pipes, strict=True):
            pipe.send("go")
            seconds = pipe.recv()
            if stage == 0:
                contender.begin_seconds = seconds
            elif stage > 1:
                contender.rounds.append(seconds)
    for contender, pipe, process in zip(contenders, pipes, processes, strict=True):
        pipe.send("go")
        contender.peak_mb = pipe.recv()
        process.join()
    return contenders


def records(folder: Path) -> tuple[list[dict[str, Any]], list[Counter[str]]]:
    """Each step's line in the metrics, and how many samples of each task its line in the ledger has. Ends the program on a fault."""
    faults = []
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
    ledger = [json.loads(line) for line in (folder / "ledger.jsonl").read_text("utf-8").splitlines()]
    steps = [record for record in metrics if "loss" in record]
    spent = [record["samples"] for record in ledger if "samples" in record]
    if most := Counter(sample for samples in spent for sample in samples).most_common(1):
        faults += [f"{most[0][0]} is spent {most[0][1]} times"] if most[0][1] > 1 else []
    counts = [Counter(sample.partition(":")[0] for sample in samples) for samples in spent]
    for record, count in zip(steps, counts, strict=True):
        tokens = {name: task["tokens"] for name, task in record["tasks"].items()}
        if tokens != {name: TRAINED * number for name, number in count.items()}:
            faults.append(f"step {record['step']}: the tokens of the tasks are not those of the ledger's samples")
        total = sum(task["share"] for task in record["tasks"].values())
        if abs(total - 1) > 1e-6 or record["loss"] is None or not np.isfinite(record["loss"]):
            faults.append(f"step {record['step']}: loss {record['loss']}, shares add up to {total}")
    if faults:
        sys.exit(f"{folder.name} is wrong: {'; '.join(faults[:5])}")
    return steps, counts


def check(contenders: list[Contender], args: argparse.Namespace, work: Path) -> str:
    """Whether both did the same work; gives a line about it. Ends the program where they did not."""
    settings = [settings_of(contender, args, work) for contender in contenders]
    found = [records(s.output) for s in settings]
    for contender, (steps, counts) in zip(contenders, found, strict=True):
        sizes = {sum(count.values()) for count in counts}
        if len(steps) != num_steps(args) or sizes != {args.samples_per_step}:
            sys.exit(f"{contender.tasks} tasks: {len(steps)} steps of {sorted(sizes)} samples")
    present = [statistics.mean(len(count) for count in counts) for _, counts in found]
    return (
        f"checked: {num_steps(args)} steps of {args.samples_per_step} samples, {args.samples_per_step * TRAINED} trained tokens; "
        f"{' and '.join(f'{number:.1f}' for number in present)} tasks in a step"
    )


def show(contenders: list[Contender]) -> None:
    """The figures for people."""
    few, many = contenders
    print(f"balance: {few.balance}\n  tasks   s / step (min-max)    plan    start    first step   MB built   MB peak")
    for c in contenders:
        steps = f"{c.step_seconds:.3f} ({min(c.rounds):.3f}-{max(c.rounds):.3f})"
        print(
            f"  {c.tasks:<7} {steps:<21} {c.plan_seconds:<7.2f} {c.build_seconds:<8.2f} {c.begin_seconds:<12.2f} "
            f"{c.built_mb:<10.0f} {c.peak_mb:.0f}"
        )
    ratios = [b / a for a, b in zip(few.rounds, many.rounds, strict=True)]
    print(
        f"  {many.tasks} tasks take {statistics.median(ratios):.3f}× the time of {few.tasks} "
        f"(by round {', '.join(f'{r:.3f}' for r in ratios)})",
        flush=True,
    )


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, nargs=2, default=[2, 500], help="the two numbers of tasks")
    parser.add_argument("--rows", type=int, default=50_000, help="rows of all tasks together")
    parser.add_argument("--balance", nargs="+", default=["fixed", "coba"], help="balancing methods")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each run, in turn; their median counts")
    parser.add_argument("--steps", type=int, default=20, help="steps of a round")
    parser.add_argument("--warmup", type=int, default=5, help="steps before the first round")
    parser.add_argument("--samples-per-step", type=int, default=64, help="rows of a step, of 64 tokens each")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    if min(args.rounds, args.steps, args.samples_per_step, *args.tasks) < 1 or args.warmup < 2:
        parser.error("numbers are at least 1, and --warmup at least 2")
    if any(args.rows % number for number in args.tasks):
        parser.error("--rows must be divided by both numbers of --tasks")
    return args


def main() -> None:
    args = parse_arguments()
    os.environ |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="weft-benchmark-") as name:
        work = Path(name)
        (work / "model").mkdir()
        make_model(work / "model")
        for number in args.tasks:
            make_rows(work / f"rows-{number}", number, args.rows)
            prepare(settings_of(Contender(number, "fixed"), args, work))
        for balance in args.balance:
            contenders = measure(balance, args, work)
            line = check(contenders, args, work)
            outcomes += contenders
            show(contenders)
            print(f"  {line}", flush=True)
    if args.json:
        args.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
