"""The weights that another run had, step by step, from its record (`balance.jsonl`).

With the same settings otherwise, the run is repeated to the byte; on a machine whose arithmetic would have led to other weights, with the
recorded ones. Tasks that were frozen there are frozen here at the same steps.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from pydantic import Field

from weft.balance.method import Floats, Look, TaskFacts, Wants
from weft.config.settings import Section
from weft.errors import ConfigError
from weft.log import logger
from weft.types import JsonObject


class Options(Section):
    record: str = Field(min_length=1)
    """The folder of the run, or its balance.jsonl."""


class Replay:
    wants: Wants = "nothing"
    formula = "w as recorded"
    replays = True

    def __init__(self, steps: list[int], weight_NK: Floats) -> None:
        self._steps, self._weight_NK = steps, weight_NK
        self._step = 0

    def weights(self) -> Floats:
        current_K: Floats = self._weight_NK[bisect_right(self._steps, self._step) - 1].copy()
        return current_K

    def see(self, look: Look) -> None:
        return None

    def see_training(self, step: int, loss_K: Floats) -> None:
        self._step = step

    def numbers(self) -> Mapping[str, float | Floats]:
        return {}

    def state(self) -> JsonObject:
        return {"step": self._step}

    def load_state(self, state: JsonObject) -> None:
        self._step = int(str(state.get("step", 0)))


def file_of(record: str) -> Path:
    """The file that `record` names."""
    given = Path(record).expanduser()
    return given / "balance.jsonl" if given.is_dir() else given


def build(tasks: TaskFacts, options: Options) -> Replay:
    """Raises ConfigError where there is no record, or one of other tasks."""
    file = file_of(options.record)
    try:
        lines = [json.loads(line) for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
        found = {int(line["step"]): line["weights"] for line in lines if "weights" in line}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"balance.options.record: {options.record}: no record of a run's weights ({error}); name the run's folder"
        ) from error
    if 0 not in found or any(set(weights) != set(tasks.names) for weights in found.values()):
        theirs = ", ".join(found.get(0, {})) or "none from the first step on"
        raise ConfigError(
            f"balance.options.record: {file} holds weights of {theirs}; this run's tasks are {', '.join(tasks.names)}"
        )
    drawn = any("pass" in line for line in lines)
    if drawn != (tasks.act_on != "loss"):
        raise ConfigError(
            f"balance.act_on: {tasks.act_on}, but in the run of {file} {'sampling' if drawn else 'only the loss'} followed the weights; "
            f"set act_on as it was there ({'sampling or both' if drawn else 'loss'})"
        )
    if tasks.num_steps > 1 and not (file.parent / "final").is_dir():
        logger.warning(
            "the run of %s has not ended (it has no final/): after its last line, its last weights stay", file
        )
    steps = sorted(found)
    return Replay(steps, np.array([[float(found[step][name]) for name in tasks.names] for step in steps]))
