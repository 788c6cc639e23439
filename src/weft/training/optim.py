"""The optimizer and its schedule, both pure functions of the settings and the step."""

from __future__ import annotations

import math

import torch
from torch import nn

from weft.config.settings import OptimizerSettings


def build_optimizer(module: nn.Module, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over the trainable parameters; weight decay acts on matrices only, not on norms and biases."""
    trainable = [p for _, p in sorted(module.named_parameters()) if p.requires_grad]
    groups = [
        {"params": [p for p in trainable if p.ndim >= 2], "weight_decay": settings.weight_decay},
        {"params": [p for p in trainable if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        [group for group in groups if group["params"]],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )


def warmup_steps(settings: OptimizerSettings, num_steps: int) -> int:
    """`warmup` in steps: below 1 it is a share of all steps."""
    return math.ceil(settings.warmup * num_steps) if settings.warmup < 1 else int(settings.warmup)


def learning_rate(settings: OptimizerSettings, step: int, num_steps: int) -> float:
    """The learning rate of step 0 … num_steps - 1: a linear rise over the warm-up, then the schedule down to min_lr, which
    the step after the last would have."""
    warmup = warmup_steps(settings, num_steps)
    if step < warmup:
        return settings.lr * (step + 1) / warmup
    if settings.schedule == "constant":
        return settings.lr
    progress = (step - warmup) / max(1, num_steps - warmup)
    shape = 1 - progress if settings.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return settings.min_lr + (settings.lr - settings.min_lr) * max(0.0, shape)
