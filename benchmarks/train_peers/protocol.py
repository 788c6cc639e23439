"""What the benchmark's processes agree on: the job's arguments, the prepared steps, the meter and the result file.

The driver (`benchmarks/train.py`) starts one process per measurement with a `Job`; the process reads the steps that
`prepare.py` wrote, does its work and hands back a JSON file. Nothing here knows how a contender trains.

steps.npz, with T tokens, S samples, M micro-batches, N steps:

    ids_T           the tokens of all samples, one after the other, in the order in which they were drawn
    weight_T        1.0 where the token is trained (an answer's token or its eos), else 0.0; 0.0 for a sample's first
    length_S        tokens of each sample
    step_samples_N  samples of each step: a step's samples are neighbours, and every step has equally many
    packed_S        samples (indices into length_S) in packed order: micro-batch after micro-batch, step after step
    micro_samples_M samples of each micro-batch, in packed order
    step_micros_N   micro-batches of each step
    capacity        tokens that a micro-batch may hold
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

LEARNING_RATE = 2e-4
CLIP_NORM = 1.0
PADDED_BATCH = 8
"""Samples of a padded micro-batch: the default of Transformers' and TRL's trainers."""


@dataclass(frozen=True)
class Job:
    """One measurement."""

    contender: str
    work: Path
    """The folder that `prepare.py` filled: model/, adapter/, tokenizer/, steps.npz."""
    mode: Literal["check", "time"]
    """check: the loss of the first step's samples, no update. time: train, and measure all but the warm-up steps."""
    steps: int
    warmup: int
    out: Path


def parse_job() -> Job:
    """The job that the driver put on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--contender", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mode", choices=("check", "time"), required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--warmup", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    return Job(**vars(parser.parse_args()))


class Sample(NamedTuple):
    """One sample; `weight` is aligned with `ids`: how much the token itself is trained."""

    ids: np.ndarray
    weight: np.ndarray

    @property
    def labels(self) -> list[int]:
        """Labels in Transformers' convention: -100 where nothing is trained, not shifted."""
        return [int(t) if w else -100 for t, w in zip(self.ids, self.weight, strict=True)]


@dataclass(frozen=True)
class Step:
    """One optimizer step, cut in both ways."""

    samples: list[Sample]
    """In the order in which they were drawn."""
    micro_batches: list[list[Sample]]
    """The same samples, packed."""
    capacity: int
    """Tokens that a micro-batch may hold."""

    @property
    def num_tokens(self) -> int:
        """Attended tokens, without padding."""
        return sum(len(sample.ids) for sample in self.samples)

    @property
    def num_trained(self) -> int:
        """Trained tokens: the denominator of the step's loss."""
        return int(sum(sample.weight.sum() for sample in self.samples))


def read_plan(work: Path) -> list[Step]:
    """All steps of steps.npz."""
    with np.load(work / "steps.npz") as file:
        cuts = np.cumsum(file["length_S"])[:-1]
        ids, weights = np.split(file["ids_T"], cuts), np.split(file["weight_T"], cuts)
        samples = [Sample(*pair) for pair in zip(ids, weights, strict=True)]
        by_step = _groups(samples, file["step_samples_N"].tolist())
        packed = _groups([samples[i] for i in file["packed_S"].tolist()], file["micro_samples_M"].tolist())
        micros = _groups(packed, file["step_micros_N"].tolist())
        capacity = int(file["capacity"])
    return [Step(*pair, capacity) for pair in zip(by_step, micros, strict=True)]


def _groups(items: list, sizes: Iterable[int]) -> list[list]:
    remaining = iter(items)
    return [[next(remaining) for _ in range(size)] for size in sizes]


class Meter:
    """CPU seconds of this process, all its threads and its finished children, and the wall clock beside them."""

    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = 0.0
        self._start = (0.0, 0.0)

    @staticmethod
    def _now() -> tuple[float, float]:
        children = os.times()
        return time.process_time() + children.children_user + children.children_system, time.perf_counter()

    def start(self) -> None:
        """Begin to measure."""
        self._start = self._now()

    def stop(self) -> None:
        """What passed since `start`; may be called again, the last call counts."""
        cpu, wall = self._now()
        self.cpu_seconds, self.wall_seconds = cpu - self._start[0], wall - self._start[1]


def report(job: Job, losses: list[float], num_tokens: int, meter: Meter) -> None:
    """Write the result file: losses per step, useful tokens of the measured ones, seconds, peak RSS."""
    result = {
        "contender": job.contender,
        "losses": losses,
        "tokens": num_tokens,
        "cpu_seconds": meter.cpu_seconds,
        "wall_seconds": meter.wall_seconds,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    job.out.write_text(json.dumps(result))
