"""Small token stores made by hand, for tests of what comes after tokenizing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weft.config.settings import Settings
from weft.data.parts import StoredSample, Writer
from weft.data.prepare import Prepared
from weft.data.store import Store
from weft.data.stretches import Encoded
from weft.types import RowId, TaskLedger


def ledger_of(task: str, read: int) -> TaskLedger:
    return TaskLedger(task=task, format="text", read=read, used=0, quarantined=0)


def sample_of(ids: Sequence[int], weights: Sequence[float], line: int = 1, row_hash: int = 0) -> StoredSample:
    encoded = Encoded(np.array(ids, dtype=np.int32), np.array(weights, dtype=np.float32))
    return StoredSample(RowId("rows.jsonl", line), encoded, row_hash)


def store_of(folder: Path, task: str, samples: Sequence[StoredSample], batch_samples: int = 4096) -> Store:
    with Writer(folder / f"{task}-key", task, ["rows.jsonl"], batch_samples) as writer:
        for sample in samples:
            writer.add(sample)
        return writer.publish(ledger_of(task, len(samples)))


def stores_of_lengths(folder: Path, lengths: Mapping[str, Sequence[int]]) -> tuple[Store, ...]:
    """One store a task; a sample's ids count on from the task's last one, so that every token is one of a kind."""
    stores = []
    for task, of_task in lengths.items():
        at, samples = 0, []
        for line, length in enumerate(of_task, 1):
            weights = [0.0, *[1.0] * (length - 1)]
            samples.append(sample_of(range(at, at + length), weights, line, row_hash=line * 0x9E3779B97F4A7C15 % 2**64))
            at += length
        stores.append(store_of(folder, task, samples))
    return tuple(stores)


def stores_of_weights(folder: Path, weights: Mapping[str, Sequence[Sequence[float]]]) -> tuple[Store, ...]:
    """One store a task; each sample is given by the weights of its tokens."""
    return tuple(
        store_of(
            folder,
            task,
            [
                sample_of(range(len(of_sample)), of_sample, line, row_hash=line * 0x9E3779B97F4A7C15 % 2**64)
                for line, of_sample in enumerate(of_task, 1)
            ],
        )
        for task, of_task in weights.items()
    )


def prepared_of(stores: tuple[Store, ...]) -> Prepared:
    """Stores as `prepare` gives them, without a tokenizer or template, which a plan does not ask for."""
    return Prepared(stores, None, None)  # type: ignore[arg-type]


def plain_settings(tasks: Sequence[str], **sections: Any) -> Settings:
    """Settings of a plan that stands for itself: no model is there."""
    values: dict[str, Any] = {
        "model": {"base": "nowhere"},
        "tasks": dict.fromkeys(tasks, "nowhere"),
        "data": {"max_tokens": 32, "validation": 0.0},
        "mixture": {"epochs": 1},
        "batch": {"tokens_per_step": 64, "tokens_per_micro_batch": 32},
        "output": "nowhere",
    }
    for name, section in sections.items():
        values[name] = {**values[name], **section} if name in values and name != "tasks" else section
    return Settings.model_validate(values)
