"""One process, one device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from weft.training.engines import clip_gradients


class LocalEngine:
    rank = 0
    ranks = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def prepare(self, module: nn.Module) -> nn.Module:
        return module

    def micro_batch(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        loss.backward()

    def reduce(self, values: Tensor) -> Tensor:
        return values

    def clip(self, module: nn.Module, max_norm: float) -> Tensor:
        return clip_gradients(module, max_norm)

    def barrier(self) -> None:
        return None

    def close(self) -> None:
        return None


build = LocalEngine
