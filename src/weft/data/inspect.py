"""Looking at prepared data: samples with their masks, as they are stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from weft.config.settings import Settings
from weft.data.prepare import Prepared
from weft.data.store import Store
from weft.data.tokens import Tokenizer
from weft.errors import ConfigError
from weft.types import JsonObject


@dataclass(frozen=True)
class Shown:
    """One sample as `weft data show` gives it."""

    id: str
    task: str
    split: str
    ids: list[int]
    weights: list[float]
    text: str

    def record(self) -> JsonObject:
        return {
            "id": self.id,
            "task": self.task,
            "split": self.split,
            "ids": [*self.ids],
            "weights": [*self.weights],
            "text": self.text,
        }


def show(settings: Settings, prepared: Prepared, task: str | None, number: int) -> Iterator[Shown]:
    """The first `number` samples (0: all) of a task, or of every task. Raises ConfigError for an unknown task."""
    if task is not None and task not in prepared.tasks:
        raise ConfigError(f"--task {task}: there is no such task; the tasks are {', '.join(prepared.tasks)}")
    for store in prepared.stores:
        if task in (None, store.task):
            splits = split_names(settings, store)
            for index in range(len(store) if number == 0 else min(number, len(store))):
                sample = store.sample(index)
                ids = sample.ids_T.tolist()
                yield Shown(
                    store.name(index),
                    store.task,
                    splits[index],
                    ids,
                    sample.weight_T.tolist(),
                    prepared.tokenizer.decode(ids),
                )


def split_names(settings: Settings, store: Store) -> list[str]:
    names = ["train"] * len(store)
    for which in ("validation", "test"):
        for index in store.split(which, settings.data.validation, settings.data.test).tolist():
            names[index] = which
    return names


def coloured_runs(tokenizer: Tokenizer, sample: Shown) -> list[tuple[str, bool]]:
    """A sample's text as runs of (text, trained), cut at the borders of the mask."""
    weights = np.array(sample.weights) > 0
    borders = [0, *(np.flatnonzero(np.diff(weights)) + 1).tolist(), len(sample.ids)]
    runs, done = [], ""
    for start, stop in pairwise(borders):
        text = tokenizer.decode(sample.ids[:stop])
        runs.append((text[len(done) :], bool(weights[start])))
        done = text
    return runs
