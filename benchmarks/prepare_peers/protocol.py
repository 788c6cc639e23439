"""What the processes of `benchmarks/prepare.py` agree on: the job, the meter, and the result.

Every contender is a script that takes a `Job`, prepares the rows of `work/rows.jsonl` as its system does, and hands in a
`Result`. What it made is compared with the others' afterwards: documents (one a row) as ids and which of them are trained.

The work folder, as `corpus.py` fills it:

    rows.jsonl   {"messages": [{"role", "content"}, …]} a row
    texts.json   the same rows, rendered as ChatML
    tokenizer/   tokenizer.json, tokenizer_config.json with the chat template
    model/       the same, and a config.json beside it
    about.json   counts
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

CHATML = (
    "{%- for message in messages -%}{{- '<|im_start|>' + message['role'] + '\\n' -}}"
    "{%- if message['role'] == 'assistant' -%}"
    "{% generation %}{{- message['content'] + '<|im_end|>' -}}{% endgeneration %}"
    "{%- else -%}{{- message['content'] + '<|im_end|>' -}}{%- endif -%}{{- '\\n' -}}{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}"
)
"""The template of all contenders: answers and their stop token are trained, the line end behind is not."""
IM_START, IM_END = "<|im_start|>", "<|im_end|>"


@dataclass(frozen=True)
class Job:
    """One measurement."""

    contender: str
    work: Path
    """What `corpus.py` made."""
    out: Path
    """The contender's own folder: what it stores, and its result.json."""
    max_tokens: int
    documents: bool
    """Whether to hand in the documents too, after the measurement, for the comparison."""


def parse_job() -> Job:
    """The job that the driver put on the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--contender", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--max-tokens", type=int, required=True)
    parser.add_argument("--documents", action="store_true")
    return Job(**vars(parser.parse_args()))


class Meter:
    """CPU seconds (this process, its threads, its finished children) and wall seconds; `with meter:` adds to them."""

    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = 0.0
        self.whole_cpu_seconds = 0.0
        """Since the process began, imports and all, until the last `with` ended."""
        self.start_mb = memory_mb("VmRSS")
        self.peak_mb = 0.0
        """Of this process without its children, until the last `with` ended."""
        self._start = (0.0, 0.0)

    @staticmethod
    def _now() -> tuple[float, float]:
        times = os.times()
        return time.process_time() + times.children_user + times.children_system, time.perf_counter()

    def __enter__(self) -> Meter:
        self._start = self._now()
        return self

    def __exit__(self, *_: object) -> None:
        cpu, wall = self._now()
        self.cpu_seconds += cpu - self._start[0]
        self.wall_seconds += wall - self._start[1]
        self.whole_cpu_seconds = cpu
        self.peak_mb = memory_mb("VmHWM")


def memory_mb(field: str) -> float:
    """This process's resident memory now (VmRSS) or at most so far (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return 0.0


class Document(NamedTuple):
    """One row's tokens; `trained` is None where the contender makes no mask."""

    ids: np.ndarray
    trained: np.ndarray | None


@dataclass(frozen=True)
class Counts:
    """What came out, so that a table can't hide that less was done."""

    documents: int
    tokens: int
    trained_tokens: int
    packed_rows: int


def hand_in(job: Job, meter: Meter, counts: Counts, documents: Iterable[Document]) -> None:
    """Write result.json, and documents.npz where the job asks for it."""
    measured = {name: value for name, value in vars(meter).items() if not name.startswith("_")}
    result = {**measured, **vars(counts)}
    (job.out / "result.json").write_text(json.dumps(result))
    if not job.documents:
        return
    found = list(documents)
    masks = [d.trained for d in found if d.trained is not None]
    np.savez(
        job.out / "documents.npz",
        ids_T=np.concatenate([d.ids for d in found]).astype(np.int32),
        trained_T=np.concatenate(masks).astype(bool) if masks else np.zeros(0, bool),
        length_D=np.array([len(d.ids) for d in found]),
    )
