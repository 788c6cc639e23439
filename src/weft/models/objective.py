"""The one root module of training: the decoder, then the head with the loss inside it.

Everything goes through this module's forward, so the hooks of whatever wraps it (DDP, FSDP, ZeRO) fire; and the head never
computes logits that are not trained on. The loss function is handed in, so this room knows nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn

from weft.errors import ModelError
from weft.models.load import base_of

LossFunction = Callable[[Tensor, Tensor, Tensor, Tensor, "Tensor | None"], tuple[Tensor, Tensor, Tensor]]
"""(hidden_ND, weight_VD, label_N, coefficient_N, bias_V or None) → (loss, nll_N, each coefficient as it was really used)."""


class LossHead(nn.Module):
    """The model's own head as a module that gives the loss; N trained positions, D hidden size."""

    def __init__(self, head: nn.Module, scale: float, loss: LossFunction, training_loss: LossFunction) -> None:
        super().__init__()
        self.head, self.scale, self.loss, self.training_loss = head, scale, loss, training_loss

    def forward(self, hidden_ND: Tensor, label_N: Tensor, coefficient_N: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.scale != 1.0:
            hidden_ND = hidden_ND * self.scale
        weight_VD = cast(Tensor, self.head.weight)
        loss = self.training_loss if self.training else self.loss
        return loss(hidden_ND, weight_VD, label_N, coefficient_N, getattr(self.head, "bias", None))


class Objective(nn.Module):
    """A causal language model whose forward gives Σ aᵢ·nllᵢ of a flat row.

    In training mode it may follow another loss, as it may have dropout; whatever is validated or looked at is always `loss`.
    """

    def __init__(self, model: Any, loss: LossFunction, training_loss: LossFunction | None = None) -> None:
        super().__init__()
        self.model = model
        base = base_of(model)
        head = base.get_output_embeddings()
        if head is None or not hasattr(head, "weight"):
            raise ModelError(f"model.base: {base.config.model_type} has no linear head that weft can train through")
        self.loss_head = LossHead(head, _scale(base.config), loss, training_loss or loss)

    def hidden(self, ids_T: Tensor, position_T: Tensor, lengths: list[int]) -> Tensor:
        """The last hidden states of a flat row, [T, D]."""
        out = base_of(self.model).get_decoder()(
            input_ids=ids_T[None], position_ids=position_T[None], use_cache=False, document_lengths=lengths
        )
        return out.last_hidden_state[0]

    def forward(
        self,
        ids_T: Tensor,
        position_T: Tensor,
        lengths: list[int],
        trained_N: Tensor,
        label_N: Tensor,
        coefficient_N: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """trained_N: the positions whose next token is trained. Gives the loss (a scalar), nll_N and the coefficients as they were used."""
        hidden_TD = self.hidden(ids_T, position_T, lengths)
        return self.loss_head(hidden_TD[trained_N], label_N, coefficient_N)


def _scale(config: Any) -> float:
    """The factor between head output and logits (Granite divides by logits_scaling, Cohere multiplies by logit_scale)."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    scale = float(getattr(text, "logit_scale", None) or 1.0)
    return scale / float(getattr(text, "logits_scaling", None) or 1.0)


@torch.no_grad()
def self_test(objective: Objective, attention: str, tolerance: float) -> None:
    """Prove on this very model that packed samples don't see one another and that the loss is that of its own logits.

    Compares two short samples in one row with each alone through Transformers' own attention and full logits. Raises ModelError.
    """
    base = base_of(objective.model)
    training = objective.training
    objective.eval()
    device = next(objective.parameters()).device
    generator = torch.Generator().manual_seed(0)
    vocab = base.get_input_embeddings().weight.shape[0]
    lengths = [5, 9, 1]
    ids_T = torch.randint(0, min(vocab, 30_000), (sum(lengths),), generator=generator).to(device)
    position_T = torch.cat([torch.arange(n) for n in lengths]).to(device)
    labels_T = ids_T.roll(-1)
    everywhere_T = torch.arange(len(ids_T), device=device)
    _, nll_T, _ = objective(ids_T, position_T, lengths, everywhere_T, labels_T, torch.ones(len(ids_T), device=device))
    base.set_attn_implementation("eager")
    try:
        alone = [base(input_ids=ids[None], use_cache=False).logits[0].float() for ids in ids_T.split(lengths)]
    finally:
        base.set_attn_implementation(attention)
        objective.train(training)
    reference_T = torch.nn.functional.cross_entropy(torch.cat(alone), labels_T, reduction="none")
    difference = (reference_T - nll_T).abs().max().item()
    if not difference <= tolerance:
        raise ModelError(
            f"model.base: {base.config.model_type}: packed samples give another loss than each alone (difference {difference:.3g}, "
            f"allowed {tolerance:.3g}); its attention or its head is of a kind that weft can't yet train exactly"
        )
