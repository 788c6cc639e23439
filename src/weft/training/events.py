"""What a run tells: the journals on disk, trackers, and one line for people.

`metrics.jsonl` and `ledger.jsonl` have one line a step. A resumed run cuts them back to its checkpoint first, so that they end as if
the run had never been interrupted.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from weft.errors import MissingExtraError


class Journal:
    """A file of JSON lines, each with a `step`, that can be cut back."""

    def __init__(self, file: Path, last_step: int) -> None:
        """Keep the lines up to `last_step` (below 0: none) and append from there."""
        kept = []
        if file.is_file() and last_step >= 0:
            for line in file.read_bytes().splitlines(keepends=True):
                try:
                    keep = line.endswith(b"\n") and json.loads(line)["step"] <= last_step
                except (ValueError, KeyError, TypeError):
                    keep = False
                if not keep:
                    break
                kept.append(line)
        temporary = file.with_name(file.name + ".part")
        temporary.write_bytes(b"".join(kept))
        temporary.replace(file)
        self._stream = file.open("ab")

    def write(self, record: Mapping[str, object]) -> None:
        self._stream.write(json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n")
        self._stream.flush()

    def sync(self) -> None:
        os.fsync(self._stream.fileno())

    def close(self) -> None:
        self._stream.close()


class TensorBoard:
    """Scalars under the names that MFTCoder gives them."""

    def __init__(self, folder: Path, first_step: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtraError("track: tensorboard needs `pip install 'weft[tensorboard]'`") from error
        self._writer = SummaryWriter(str(folder), purge_step=first_step)

    def step(self, record: Mapping[str, Any], epoch: float) -> None:
        number = record["step"]
        if record["loss"] is not None:
            self._writer.add_scalar("Loss/train", record["loss"], number)
        self._writer.add_scalar("Epochs", epoch, number)
        for name, task in record["tasks"].items():
            if task["loss"] is not None:
                self._writer.add_scalar(f"{name}_loss/train", task["loss"], number)
            self._writer.add_scalar(f"{name}_coba_weight/train", task["weight"], number)

    def validation(self, record: Mapping[str, Any]) -> None:
        number, values = record["step"], record["validation"]
        if values["loss"] is not None:
            self._writer.add_scalar("Loss/valid", values["loss"], number)
            self._writer.add_scalar("Perplexity/valid", math.exp(min(values["loss"], 700)), number)
        for name, task in values["tasks"].items():
            if task["loss"] is not None:
                self._writer.add_scalar(f"{name}_loss/valid", task["loss"], number)

    def close(self) -> None:
        self._writer.close()


def read_journal(file: Path) -> list[dict[str, Any]]:
    """All whole lines of a journal."""
    records: list[dict[str, Any]] = []
    for line in file.read_bytes().splitlines():
        try:
            records.append(json.loads(line))
        except ValueError:
            break
    return records
