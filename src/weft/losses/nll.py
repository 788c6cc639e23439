"""Linear cross-entropy that never holds the logits of more than a chunk of positions.

Shapes: N trained positions, D hidden size, V vocabulary. The gradients of hidden states and head are formed in the forward pass,
chunk by chunk, while the chunk's logits are at hand; the backward pass only scales them. (The idea: Wijmans et al. 2024,
arXiv 2411.09009; here in plain PyTorch.)

The focal loss (Lin et al. 2017, arXiv 1708.02002) weighs each position's nll by how hard it is: by (1 - p)^γ, with p the label's
probability. Its gradient goes through p too; with u = 1 - p and logits z,

    d(u^γ · nll) / dz_j = f · (p_j - δ_jy),    f = u^γ - γ · u^(γ-1) · p · log p = u^γ · (1 + γ · nll / (e^nll - 1))

so it is the plain gradient, scaled. The last form holds nothing that overflows, nor a negative power of u.
"""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_LOGITS = 1 << 22
"""Logits held at a time: 16 MiB in fp32."""


class _LinearNll(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_ND: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        label_N: Tensor,
        coefficient_N: Tensor,
        focal: float,
    ) -> tuple[Tensor, Tensor]:
        wants_hidden, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        nll_N = torch.empty(len(label_N), dtype=torch.float32, device=hidden_ND.device)
        grad_hidden_ND = torch.empty_like(hidden_ND) if wants_hidden else None
        grad_weight_VD = torch.zeros_like(weight_VD, dtype=torch.float32) if wants_weight else None
        grad_bias_V = torch.zeros(len(weight_VD), dtype=torch.float32, device=hidden_ND.device) if wants_bias else None
        rows = max(1, CHUNK_LOGITS // len(weight_VD))
        plain = bias_V is None and hidden_ND.dtype == weight_VD.dtype == torch.float32
        plain = plain and not torch.is_autocast_enabled(hidden_ND.device.type)
        buffer = hidden_ND.new_empty(min(rows, len(label_N)), len(weight_VD)) if plain else None
        for start in range(0, len(label_N), rows):
            piece = slice(start, start + rows)
            hidden, label = hidden_ND[piece], label_N[piece, None]
            if buffer is None:
                logits = torch.nn.functional.linear(hidden, weight_VD, bias_V).float()
            else:  # one piece of memory for all chunks
                logits = torch.mm(hidden, weight_VD.T, out=buffer[: len(label)])
            highest = logits.amax(-1, keepdim=True)
            chosen = logits.gather(-1, label) - highest
            probabilities = logits.sub_(highest).exp_()
            total = probabilities.sum(-1, keepdim=True)
            nll_N[piece] = (total.log() - chosen).squeeze(-1)
            if not (wants_hidden or wants_weight or wants_bias):
                continue
            factor = coefficient_N[piece, None]
            if focal:
                factor = factor * _steepness(nll_N[piece, None], focal)
            grad = probabilities.mul_(factor / total)
            grad.scatter_add_(-1, label, -factor)
            grad = grad.to(hidden.dtype)
            if grad_hidden_ND is not None:
                torch.mm(grad, weight_VD.to(grad.dtype), out=grad_hidden_ND[piece])
            if grad_weight_VD is not None:
                grad_weight_VD.addmm_(grad.T.float(), hidden.float())
            if grad_bias_V is not None:
                grad_bias_V += grad.float().sum(0)
        ctx.save_for_backward(grad_hidden_ND, grad_weight_VD, grad_bias_V)
        ctx.dtypes = (weight_VD.dtype, None if bias_V is None else bias_V.dtype)
        ctx.mark_non_differentiable(nll_N)
        return torch.dot(_used(coefficient_N, nll_N, focal), nll_N), nll_N

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scale = grads[0]
        hidden, weight, bias = ctx.saved_tensors
        weight_dtype, bias_dtype = ctx.dtypes
        return (
            None if hidden is None else hidden * scale.to(hidden.dtype),
            None if weight is None else (weight * scale).to(weight_dtype),
            None if bias is None else (bias * scale).to(bias_dtype),
            None,
            None,
            None,
        )


def _difficulty(nll_N: Tensor, focal: float) -> Tensor:
    """(1 - p)^γ."""
    return torch.expm1(-nll_N).neg().pow(focal)


def _steepness(nll_N: Tensor, focal: float) -> Tensor:
    """f (above): 0 where p is 1, 1 where p is 0."""
    bounded_N = nll_N.clamp(1e-30, 80.0)  # nll / (e^nll - 1) is 1 below it and 0 above, to the last bit of fp32
    return _difficulty(nll_N, focal) * (1 + focal * bounded_N / torch.expm1(bounded_N))


def _used(coefficient_N: Tensor, nll_N: Tensor, focal: float) -> Tensor:
    """The coefficients with the difficulty in them."""
    return coefficient_N * _difficulty(nll_N, focal) if focal else coefficient_N


def linear_nll(
    hidden_ND: Tensor,
    weight_VD: Tensor,
    label_N: Tensor,
    coefficient_N: Tensor,
    bias_V: Tensor | None = None,
    focal: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Σ coefficient·(1 - p)^focal·nll, a scalar with gradient; and each position's plain nll and coefficient·(1 - p)^focal without.

    Give it trained positions only. N may be 0: the loss is then 0 with zero gradients. Labels must lie in [0, V). All three are fp32;
    with focal 0 the loss is Σ coefficient·nll and the coefficients are as they were.
    """
    if not torch.is_grad_enabled():
        hidden_ND, weight_VD, bias_V = (
            hidden_ND.detach(),
            weight_VD.detach(),
            None if bias_V is None else bias_V.detach(),
        )
    result = _LinearNll.apply(hidden_ND, weight_VD, bias_V, label_N, coefficient_N, focal)  # type: ignore[no-untyped-call]
    loss, nll_N = cast(tuple[Tensor, Tensor], result)
    return loss, nll_N, _used(coefficient_N, nll_N, focal)
