"""Everything that a run is made of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from weft.balance import Balance
from weft.config.settings import Settings
from weft.data.plan import Plan
from weft.data.tokens import Tokenizer
from weft.models.objective import Objective
from weft.training import checkpoint
from weft.training.engines import Engine
from weft.training.events import Journal, TensorBoard
from weft.training.look import Looks
from weft.types import JsonValue


@dataclass
class Run:
    """A run at some step; `setup.build` makes it."""

    settings: Settings
    folder: Path
    tokenizer: Tokenizer
    plan: Plan
    engine: Engine
    objective: Objective
    module: torch.nn.Module
    """The objective as the engine wraps it."""
    optimizer: torch.optim.Optimizer
    balance: Balance
    looks: Looks
    dtype: torch.dtype
    state: checkpoint.Progress
    metrics: Journal | None
    ledger: Journal | None
    balance_record: Journal | None
    tensorboard: TensorBoard | None
    """Journals and trackers are rank 0's alone."""
    look_seconds: float = 0.0
    """Spent on looks by this process, for the log alone."""
    told_weights: JsonValue = None
    """The weights that stand in the record last."""

    @property
    def tasks(self) -> list[str]:
        return [store.task for store in self.plan.stores]
