"""The naive reference: each sample alone through the Transformers model, full logits, textbook cross-entropy, textbook means."""

from __future__ import annotations

import torch

from weft.config.settings import Settings
from weft.data.plan import Plan
from weft.models.load import base_of
from weft.models.objective import Objective


def randomise_adapter(module: torch.nn.Module) -> None:
    """LoRA starts with B = 0, where half of the gradients vanish; give every trained weight something to do."""
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for _, parameter in sorted(module.named_parameters()):
            if parameter.requires_grad and parameter.ndim >= 2:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)


def named_gradients(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in module.named_parameters() if p.requires_grad and p.grad is not None}


def reference_loss(objective: Objective, plan: Plan, settings: Settings, attention: str) -> torch.Tensor:
    """The step's loss by its definition, one sample at a time; call backward on it."""
    base = base_of(objective.model)
    base.set_attn_implementation("eager")
    per_task: dict[int, list[tuple[torch.Tensor, float]]] = {}
    for number in range(plan.num_steps):
        parts = plan.step(number).parts
        for task, sample in zip(parts.task_P.tolist(), parts.sample_P.tolist(), strict=True):
            stored = plan.stores[task].sample(sample)
            ids = torch.tensor(stored.ids_T.tolist())
            weight = torch.tensor(stored.weight_T.tolist())[1:]
            logits = base(input_ids=ids[None], use_cache=False).logits[0, :-1]
            nll = torch.nn.functional.cross_entropy(logits, ids[1:], reduction="none")
            if settings.loss.focal:
                nll = (1 - torch.softmax(logits, dim=-1)[range(len(nll)), ids[1:]]) ** settings.loss.focal * nll
            per_task.setdefault(task, []).append(((weight * nll).sum(), float(weight.sum())))
    base.set_attn_implementation(attention)
    every = [pair for pairs in per_task.values() for pair in pairs]
    weights = {k: list(settings.tasks.values())[k].weight for k in per_task}
    total = sum(weights.values())
    zero = torch.zeros(())
    if settings.loss.weighting == "token":
        return sum((s for s, _ in every), zero) / sum(n for _, n in every)
    if settings.loss.weighting == "sample":
        return sum((s / n for s, n in every), zero) / len(every)
    if settings.loss.weighting == "task":
        means = {k: sum((s for s, _ in pairs), zero) / sum(n for _, n in pairs) for k, pairs in per_task.items()}
    else:
        means = {k: sum((s / n for s, n in pairs), zero) / len(pairs) for k, pairs in per_task.items()}
    return sum((weights[k] * mean for k, mean in means.items()), zero) / total
