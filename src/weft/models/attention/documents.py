"""Per-document attention: in a flat row of packed samples no token sees another sample, and no mask is built.

    row       |a a a a|b b|c c c|        document_lengths = [4, 2, 3]
    attention  causal within a, within b, within c; cost Σ Lᵢ² instead of (Σ Lᵢ)²

Registered with Transformers' `AttentionInterface` without a mask function, so models build no mask at all. The lengths travel as
an extra keyword of the forward call: a plain list, so nothing is read back from a device. Rows are cut with `split`, whose
backward is one concatenation; slicing would cost a full-length gradient per document.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

NAME = "weft_documents"
"""The name to give to `set_attn_implementation`."""


def attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    document_lengths: list[int] | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each document. query [1, H, T, d], key and value [1, H_kv, T, d] → [1, T, H, d].

    Knows grouped heads, sliding windows, soft-capped scores (Gemma 2) and attention sinks (gpt-oss). Raises ValueError when called
    without document lengths: then something else than weft's training or evaluation calls the model.
    """
    if document_lengths is None or attention_mask is not None:
        raise ValueError(
            f"{NAME} attention needs document_lengths and no attention mask; for generation load the model with attention 'sdpa'"
        )
    if sum(document_lengths) != query.shape[2]:
        raise ValueError(f"document_lengths add up to {sum(document_lengths)}, but the row has {query.shape[2]} tokens")
    plain = softcap is None and s_aux is None
    if plain and len(set(document_lengths)) == 1 and (sliding_window is None or document_lengths[0] <= sliding_window):
        out = _equal_documents(query, key, value, len(document_lengths), scaling, dropout)
        return out.transpose(1, 2), None
    outs = []
    for q, k, v in zip(
        query.split(document_lengths, dim=2),
        key.split(document_lengths, dim=2),
        value.split(document_lengths, dim=2),
        strict=True,
    ):
        length = q.shape[2]
        window = sliding_window if sliding_window is not None and length > sliding_window else None
        if plain:
            mask = None if window is None else _band(length, window, q.device)
            outs.append(
                scaled_dot_product_attention(
                    q,
                    k,
                    v,
                    attn_mask=mask,
                    dropout_p=dropout,
                    is_causal=mask is None,
                    scale=scaling,
                    enable_gqa=_grouped(q, k),
                )
            )
        else:
            outs.append(_explicit(q, k, v, _band(length, window or length, q.device), scaling, dropout, softcap, s_aux))
    return torch.cat([out.transpose(1, 2) for out in outs], dim=1), None  # laid out as the model reads it next: no copy


def _grouped(query: Tensor, key: Tensor) -> bool:
    return query.shape[1] != key.shape[1]


def _equal_documents(
    query: Tensor, key: Tensor, value: Tensor, number: int, scaling: float | None, dropout: float
) -> Tensor:
    """All documents are of one length, so they are a batch."""

    def fold(x: Tensor) -> Tensor:
        return x.unflatten(2, (number, -1)).squeeze(0).transpose(0, 1)

    out = scaled_dot_product_attention(
        fold(query),
        fold(key),
        fold(value),
        dropout_p=dropout,
        is_causal=True,
        scale=scaling,
        enable_gqa=_grouped(query, key),
    )
    return out.transpose(0, 1).flatten(1, 2).unsqueeze(0)


def _band(length: int, window: int, device: torch.device) -> Tensor:
    """True where token i may look at token j: i - window < j ≤ i."""
    position = torch.arange(length, device=device)
    distance = position[:, None] - position[None, :]
    return (distance >= 0) & (distance < window)


def _explicit(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor,
    scaling: float | None,
    dropout: float,
    softcap: float | None,
    sinks: Tensor | None,
) -> Tensor:
    """Attention written out, for what the fused kernels lack: soft-capped scores and sinks."""
    groups = q.shape[1] // k.shape[1]
    k, v = k.repeat_interleave(groups, dim=1), v.repeat_interleave(groups, dim=1)
    scores = (q @ k.transpose(-1, -2)) * (q.shape[-1] ** -0.5 if scaling is None else scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores.masked_fill(~mask, float("-inf")).float()
    if sinks is not None:
        scores = torch.cat([scores, sinks.float().reshape(1, -1, 1, 1).expand(*scores.shape[:3], 1)], dim=-1)
    probabilities = scores.softmax(-1)[..., : k.shape[2]].to(v.dtype)
    return torch.nn.functional.dropout(probabilities, dropout) @ v
