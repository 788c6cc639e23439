"""Engines: where a step is computed. The loop doesn't know which one it has; one file each, with `build(...)`."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from weft import plugins
from weft.config.settings import EngineSettings
from weft.errors import ConfigError
from weft.models.load import pick_device


class Engine(Protocol):
    """What the loop asks for. Losses of all ranks add up to the step's loss; so do their gradients after `backward`."""

    rank: int
    ranks: int
    device: torch.device

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module to call; its gradients are reduced at the last micro-batch of a step."""
        ...

    def micro_batch(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        """Around forward and backward of one micro-batch; every rank has exactly one `last` a step."""
        ...

    def backward(self, loss: Tensor) -> None: ...

    def reduce(self, values: Tensor) -> Tensor:
        """The sum over all ranks."""
        ...

    def clip(self, module: nn.Module, max_norm: float) -> Tensor:
        """Scale the gradients down to `max_norm` (0: never); gives their norm before."""
        ...

    def barrier(self) -> None: ...

    def close(self) -> None: ...


def launched() -> bool:
    """Whether a launcher (torchrun, accelerate, weft itself) started this process as one of several."""
    return "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1


def build(settings: EngineSettings) -> Engine:
    """The engine of this process."""
    kind = settings.kind
    if kind == "auto":
        kind = "ddp" if launched() else "local"
    if kind == "local" and launched():
        raise ConfigError(
            f"engine.kind: local, but a launcher started {os.environ['WORLD_SIZE']} processes; use ddp or auto"
        )
    if settings.threads:
        torch.set_num_threads(settings.threads)
    engine: Engine = plugins.find("weft.training.engines", kind, "build", "engine.kind")(pick_device(settings.device))
    return engine


def clip_gradients(module: nn.Module, max_norm: float) -> Tensor:
    """Clip by the norm of the whole gradient; `max_norm` 0 only measures."""
    gradients = [p.grad for p in module.parameters() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if max_norm > 0:
        torch.nn.utils.clip_grads_with_norm_([p for p in module.parameters() if p.grad is not None], max_norm, norm)
    return norm
