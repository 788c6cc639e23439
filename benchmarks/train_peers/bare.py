"""The reference limit: a bare PyTorch loop that does what a packed LoRA step needs and nothing else.

Attention runs per document (no mask is built), the head only on trained positions in chunks, and no logits outlive
their chunk. Whatever a full system adds (settings, checkpoints, logs, several tasks) costs against this.
Shapes: T tokens of a micro-batch, N trained positions, D hidden size, V vocabulary, H heads, d head size.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from peft import PeftModel
from protocol import CLIP_NORM, LEARNING_RATE, Job, Meter, Sample, Step, parse_job, read_plan, report
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, LlamaForCausalLM

CHUNK = 256
"""Positions whose logits are held at a time."""


def per_document(
    module: torch.nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **kwargs: Any
) -> tuple[Tensor, None]:
    """Causal attention within each document; query, key, value [1, H, T, d] → [1, T, H, d]."""
    assert attention_mask is None
    lengths: list[int] = kwargs["doc_lengths"]
    pieces = zip(query.split(lengths, 2), key.split(lengths, 2), value.split(lengths, 2), strict=True)
    outs = [scaled_dot_product_attention(q, k, v, is_causal=True) for q, k, v in pieces]
    return torch.cat(outs, dim=2).transpose(1, 2), None


class LinearCrossEntropy(torch.autograd.Function):
    """scale · Σ nll of softmax(hidden Wᵀ) against labels, for a frozen W; hidden's gradient is formed in forward."""

    @staticmethod
    def forward(ctx: Any, hidden_ND: Tensor, weight_VD: Tensor, label_N: Tensor, scale: float) -> Tensor:
        """hidden_ND, label_N: trained positions only."""
        grad_ND = torch.empty_like(hidden_ND)
        total = hidden_ND.new_zeros(())
        for hidden, label, grad in zip(hidden_ND.split(CHUNK), label_N.split(CHUNK), grad_ND.split(CHUNK), strict=True):
            logits = hidden @ weight_VD.T
            highest = logits.amax(-1, keepdim=True)
            chosen = logits.gather(-1, label[:, None]) - highest
            unnormalised = logits.sub_(highest).exp_()
            sums = unnormalised.sum(-1, keepdim=True)
            total += (sums.log() - chosen).sum()
            unnormalised.mul_(scale / sums)
            unnormalised.scatter_add_(-1, label[:, None], torch.full_like(sums, -scale))
            torch.mm(unnormalised, weight_VD, out=grad)
        ctx.save_for_backward(grad_ND)
        return total * scale

    @staticmethod
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        """The gradient was made in forward."""
        return ctx.saved_tensors[0] * upstream, None, None, None


def micro_batch_loss(model: LlamaForCausalLM, samples: list[Sample], num_trained: int) -> Tensor:
    """This micro-batch's share of the step's loss: Σ nll over its trained tokens / trained tokens of the whole step."""
    ids_T = torch.from_numpy(np.concatenate([s.ids for s in samples]).astype(np.int64))
    trained_T = torch.from_numpy(np.concatenate([s.weight for s in samples]) > 0)
    positions_T = torch.cat([torch.arange(len(s.ids)) for s in samples])
    hidden_TD = model.model(
        input_ids=ids_T[None],
        position_ids=positions_T[None],
        use_cache=False,
        doc_lengths=[len(s.ids) for s in samples],
    ).last_hidden_state[0]
    # A sample's first token is never trained, so the position before a target is in the same sample.
    target_N = trained_T.nonzero().squeeze(-1)
    hidden_ND = hidden_TD.index_select(0, target_N - 1)
    return LinearCrossEntropy.apply(hidden_ND, model.lm_head.weight, ids_T[target_N], 1.0 / num_trained)


def load(job: Job) -> tuple[LlamaForCausalLM, list[torch.nn.Parameter]]:
    """The base model with its adapter inside, and the adapter's parameters."""
    AttentionInterface.register("per_document", per_document)
    base = LlamaForCausalLM.from_pretrained(job.work / "model", dtype=torch.float32, attn_implementation="per_document")
    model = PeftModel.from_pretrained(base, job.work / "adapter", is_trainable=True)
    model.train()
    return model.get_base_model(), [p for p in model.parameters() if p.requires_grad]


def train_step(model: LlamaForCausalLM, step: Step) -> float:
    """Backward over all micro-batches of a step; returns its loss."""
    total = 0.0
    for samples in step.micro_batches:
        loss = micro_batch_loss(model, samples, step.num_trained)
        loss.backward()
        total += loss.item()
    return total


def main() -> None:
    """Check or time, as the job says."""
    job = parse_job()
    torch.set_num_threads(1)
    steps, meter = read_plan(job.work), Meter()
    model, parameters = load(job)
    if job.mode == "check":
        report(job, [train_step(model, steps[0])], 0, meter)
        return
    optimizer = torch.optim.AdamW(parameters, lr=LEARNING_RATE, weight_decay=0.0, fused=True)
    losses = []
    for number, step in enumerate(steps[: job.warmup + job.steps]):
        if number == job.warmup:
            meter.start()
        losses.append(train_step(model, step))
        torch.nn.utils.clip_grad_norm_(parameters, CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
    meter.stop()
    report(job, losses, sum(step.num_tokens for step in steps[job.warmup : job.warmup + job.steps]), meter)


if __name__ == "__main__":
    main()
