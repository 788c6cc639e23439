"""Several processes, each with the whole model: torch's DistributedDataParallel.

DDP averages gradients over ranks; the loss is multiplied by the number of ranks, so that what remains is the sum. Gradients travel
once a step, at each rank's last micro-batch; a rank with nothing to do computes an empty one, for all must meet.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from weft.training.engines import clip_gradients


class DdpEngine:
    def __init__(self, device: torch.device) -> None:
        local_rank = int(os.environ.get("LOCAL_RANK", "0"))
        self.device = torch.device("cuda", local_rank) if device.type == "cuda" else device
        if self.device.type == "cuda":
            torch.cuda.set_device(self.device)
        if not dist.is_initialized():
            backend = "nccl" if self.device.type == "cuda" else "gloo"
            dist.init_process_group(backend, timeout=timedelta(minutes=30))
        self.rank = dist.get_rank()
        self.ranks = dist.get_world_size()

    def prepare(self, module: nn.Module) -> nn.Module:
        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(module, device_ids=ids, gradient_as_bucket_view=True)

    def micro_batch(self, module: nn.Module, last: bool) -> AbstractContextManager[Any]:
        return nullcontext() if last else module.no_sync()  # type: ignore[operator]

    def backward(self, loss: Tensor) -> None:
        (loss * self.ranks).backward()

    def reduce(self, values: Tensor) -> Tensor:
        dist.all_reduce(values)
        return values

    def clip(self, module: nn.Module, max_norm: float) -> Tensor:
        return clip_gradients(module, max_norm)

    def barrier(self) -> None:
        dist.barrier()

    def close(self) -> None:
        if dist.is_initialized():
            dist.destroy_process_group()


build = DdpEngine
