#!/usr/bin/env python3
"""How long a plan takes, and how full its micro-batches are, beside the algorithm of others.

    python benchmarks/plan.py
    python benchmarks/plan.py --lengths lengths.txt --capacity 2048 8192 --json result.json

The plan of a run over a million samples of four tasks, mixed by trained tokens: what each pass holds and which steps it makes; and each
step cut into micro-batches by best-fit-decreasing. Sample lengths are log-normal, or those of a file, one number a line. Beside it
stand best-fit-decreasing one sample at a time with a segment tree, as TRL does it: over all samples, and in windows of 1000, which is
how TRL calls it.

Before anything is timed, the plan is checked: each sample is there as often as the mixture says, no step and no micro-batch is over its
capacity, and the packing makes no more rows than the reference. Times are CPU seconds, the least of some repeats.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt

from weft.config.settings import Settings
from weft.data.packing import best_fit_decreasing, utilisation
from weft.data.plan import Plan, make_plan
from weft.data.prepare import Prepared
from weft.data.store import Store

Ints = npt.NDArray[np.int64]
Result = TypeVar("Result")

SHARES = {"code": 4.0, "chat": 3.0, "sql": 2.0, "docs": 1.0}
WINDOW = 1000


@dataclass(frozen=True)
class Lengths:
    """The part of a token store that a plan asks for, without tokens."""

    task: str
    length_S: Ints
    trained_S: npt.NDArray[np.float64]

    def split(self, which: str, *_: float) -> Ints:
        return np.arange(len(self.length_S) if which == "train" else 0)


@dataclass(frozen=True)
class Packing:
    """One algorithm's work."""

    seconds: float
    utilisation: float


@dataclass(frozen=True)
class Outcome:
    """What was measured at one capacity."""

    capacity: int
    samples: int
    tokens: int
    micro_batches: int
    """Of 100 steps, each of 16 times the capacity."""
    fewest: int
    """So many would be full to the brim; fewer there can't be."""
    seconds: float
    """The whole plan, until the number of steps is known."""
    step_milliseconds: float
    """One step: its parts and its micro-batches."""
    worst_share_error: float
    """How far a task's share of the trained tokens is from what was asked, as a part of it."""
    packed_samples: int
    """So many samples each algorithm packs."""
    packing: Packing
    one_by_one: Packing
    in_windows: Packing


class SegmentTree:
    """The smallest free room of at least a size, in steps of log2(capacity)."""

    def __init__(self, capacity: int) -> None:
        self.width = 1 << (capacity - 1).bit_length()
        self.largest = [0] * (2 * self.width)

    def put(self, room: int, present: bool) -> None:
        at = self.width + room - 1
        self.largest[at] = room if present else 0
        while at > 1:
            at >>= 1
            left, right = self.largest[2 * at], self.largest[2 * at + 1]
            self.largest[at] = left if left >= right else right

    def smallest(self, room: int) -> int:
        at = 1
        while at < self.width:
            at = 2 * at if self.largest[2 * at] >= room else 2 * at + 1
        return self.largest[at]


def one_by_one(length_S: Ints, capacity: int) -> int:
    """Best-fit-decreasing one sample at a time; gives the number of rows."""
    tree = SegmentTree(capacity)
    tree.put(capacity, True)
    rows_of_room: Counter[int] = Counter()
    num_rows = 0
    for length in np.sort(length_S)[::-1].tolist():
        room = tree.smallest(length)
        if room == capacity:
            num_rows += 1
        else:
            rows_of_room[room] -= 1
            if not rows_of_room[room]:
                tree.put(room, False)
        left = room - length
        if left:
            rows_of_room[left] += 1
            tree.put(left, True)
    return num_rows


def in_windows(length_S: Ints, capacity: int) -> int:
    """The same in windows of 1000 samples; gives the number of rows."""
    return sum(one_by_one(length_S[at : at + WINDOW], capacity) for at in range(0, len(length_S), WINDOW))


def least(repeats: int, work: Callable[[], Result]) -> tuple[float, Result]:
    """The least CPU seconds of some repeats, and what the last one gave."""
    seconds = []
    for _ in range(repeats):
        started = time.process_time()
        result = work()
        seconds.append(time.process_time() - started)
    return min(seconds), result


def plan_of(stores: tuple[Lengths, ...], capacity: int, rows_per_step: int = 16) -> Plan:
    """A fresh plan, worked out until its number of steps is known."""
    settings = Settings.model_validate(
        {
            "model": {"base": "nowhere"},
            "tasks": dict.fromkeys(SHARES, "nowhere"),
            "data": {"max_tokens": capacity, "validation": 0.0},
            "mixture": {"by": "trained_tokens", "weights": SHARES, "epochs": 1},
            "batch": {"tokens_per_step": rows_per_step * capacity, "tokens_per_micro_batch": capacity},
            "output": "nowhere",
        }
    )
    return make_plan(settings, Prepared(cast("tuple[Store, ...]", stores), cast("Any", None), cast("Any", None)))


def check(stores: tuple[Lengths, ...], capacity: int) -> tuple[int, int]:
    """Look at a plan; gives the micro-batches of some of its steps, and their tokens. Ends the program where something is wrong."""
    plan = plan_of(stores, capacity)
    parts, step_P, _ = plan.run
    load_N = np.bincount(step_P, weights=parts.length_P).astype(np.int64)
    wrong = (
        [f"steps of {load_N.min()} to {load_N.max()} tokens"]
        if load_N.max() > 16 * capacity or not load_N.all()
        else []
    )
    for task, store in enumerate(stores):
        mine = parts.take(parts.task_P == task)
        times_S = np.bincount(mine.sample_P, minlength=len(store.length_S))
        if times_S.sum() != plan.mixture.bounds_RK[-1, task] or times_S.max() - times_S.min() > 1:
            wrong.append(f"task {store.task}: samples that are there {times_S.min()} to {times_S.max()} times")
        if (mine.length_P != store.length_S[mine.sample_P]).any():
            wrong.append(f"task {store.task}: samples that are not whole")
    micro_batches = tokens = 0
    for number in np.linspace(0, plan.num_steps - 1, 100).astype(int).tolist():
        step = plan.step(number)
        loads = [int(each.length_P.sum()) for each in step.micro_batches]
        if not np.array_equal(step.parts.sample_P, parts.sample_P[step_P == number]) or sum(loads) != load_N[number]:
            wrong.append(f"step {number} does not hold what the plan says")
        if max(loads) > capacity:
            wrong.append(f"step {number} has a micro-batch of {max(loads)} tokens")
        micro_batches, tokens = micro_batches + len(loads), tokens + sum(loads)
    if wrong:
        sys.exit(f"the plan is wrong: {'; '.join(wrong)}")
    return micro_batches, tokens


def measure(length_S: Ints, capacity: int, args: argparse.Namespace) -> Outcome:
    """All figures at one capacity."""
    rng = np.random.default_rng(1)
    length_S = np.minimum(length_S, capacity)
    trained_S = np.ceil((length_S - 1) * rng.uniform(0.2, 0.9, len(length_S)))
    task_S = rng.integers(0, len(SHARES), len(length_S))
    stores = tuple(Lengths(name, length_S[task_S == k], trained_S[task_S == k]) for k, name in enumerate(SHARES))
    micro_batches, tokens = check(stores, capacity)

    seconds, plan = least(args.repeats, lambda: plan_of(stores, capacity))
    share_K = plan.trained_RK.sum(axis=0) / plan.trained_RK.sum()
    asked_K = np.array(list(SHARES.values())) / sum(SHARES.values())
    some = range(0, plan.num_steps, max(1, plan.num_steps // 200))
    step_seconds, _ = least(args.repeats, lambda: [plan.step(number) for number in some])

    few_S = length_S[: args.reference_samples]
    packing_seconds, row_S = least(args.repeats, lambda: best_fit_decreasing(few_S, capacity))
    reference_seconds, reference_rows = least(1, lambda: one_by_one(few_S, capacity))
    windows_seconds, windows_rows = least(1, lambda: in_windows(few_S, capacity))
    if row_S.max() + 1 > reference_rows or np.bincount(row_S, weights=few_S).max() > capacity:
        sys.exit(f"the packing is wrong: {row_S.max() + 1} rows where the reference makes {reference_rows}")
    return Outcome(
        capacity=capacity,
        samples=int(plan.mixture.bounds_RK[-1].sum()),
        tokens=tokens,
        micro_batches=micro_batches,
        fewest=-(-tokens // capacity),
        seconds=seconds,
        step_milliseconds=1000 * step_seconds / len(some),
        worst_share_error=float(np.abs(share_K / asked_K - 1).max()),
        packed_samples=len(few_S),
        packing=Packing(packing_seconds, utilisation(few_S, row_S, capacity)),
        one_by_one=Packing(reference_seconds, float(few_S.sum() / (capacity * reference_rows))),
        in_windows=Packing(windows_seconds, float(few_S.sum() / (capacity * windows_rows))),
    )


def show(outcome: Outcome) -> None:
    """The figures for people."""
    print(
        f"micro-batches of {outcome.capacity}: {outcome.samples:,} samples; of 100 steps with {outcome.tokens:,} tokens, "
        f"{outcome.micro_batches:,} ({outcome.micro_batches - outcome.fewest} more than would be full to the brim): "
        f"{outcome.tokens / (outcome.micro_batches * outcome.capacity):.3%} full\n"
        f"  the plan {outcome.seconds:.2f} CPU s, a step's micro-batches {outcome.step_milliseconds:.2f} CPU ms; "
        f"shares of the trained tokens are within {outcome.worst_share_error:.4%}\n"
        f"  packing {outcome.packed_samples:,} samples   CPU s    / weft   full"
    )
    for name, packing in (
        ("weft", outcome.packing),
        ("one by one", outcome.one_by_one),
        ("in windows of 1000", outcome.in_windows),
    ):
        ratio = packing.seconds / outcome.packing.seconds
        print(f"    {name:<24}{packing.seconds:9.3f} {ratio:9.1f}   {packing.utilisation:.3%}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000, help="made-up samples")
    parser.add_argument("--lengths", type=Path, help="a file of sample lengths instead, one a line")
    parser.add_argument("--capacity", type=int, nargs="+", default=[2048, 4096, 8192], help="tokens of a row")
    parser.add_argument("--reference-samples", type=int, default=200_000, help="samples that the references pack")
    parser.add_argument("--repeats", type=int, default=3, help="measurements of weft; the least counts")
    parser.add_argument("--json", type=Path, help="write the result here")
    args = parser.parse_args()
    if min(args.samples, args.reference_samples, args.repeats, *args.capacity) < 1:
        parser.error("all numbers are at least 1")
    return args


def main() -> None:
    args = parse_arguments()
    if args.lengths:
        length_S = np.array(args.lengths.read_text("utf-8").split(), dtype=np.int64)
    else:
        length_S = np.random.default_rng(0).lognormal(5.5, 0.9, args.samples).astype(np.int64).clip(2)
    outcomes = []
    for capacity in args.capacity:
        outcomes.append(measure(length_S, capacity, args))
        show(outcomes[-1])
    if args.json:
        args.json.write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
