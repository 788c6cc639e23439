"""Adapters: what is trained when the base stays as it is (LoRA: arXiv 2106.09685, through PEFT)."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from weft.config.settings import AdapterSettings
from weft.errors import ModelError


def add_adapter(model: PreTrainedModel, settings: AdapterSettings, base: str, seed: int) -> Any:
    """The model with its trainable part: a PEFT model for lora, the model itself for full fine-tuning.

    The adapter's start depends on `seed` alone. Raises ModelError for targets that no module has, or that merge wrongly.
    """
    if settings.kind == "none":
        return model.requires_grad_(True)
    _refuse_bad_targets(model, settings.targets)
    torch.manual_seed(seed)
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        target_modules=settings.targets,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
    )
    with _quiet():
        adapted = get_peft_model(model, config)
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def load_adapter(model: PreTrainedModel, folder: str) -> Any:
    """A trained adapter on its base, ready for use."""
    try:
        with _quiet():
            return PeftModel.from_pretrained(model, folder).eval()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: the adapter does not fit the base model: {error}") from error


def _quiet() -> AbstractContextManager[None]:
    """What PEFT and Transformers say to one another about their next versions is no business of the user's."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)


def _refuse_bad_targets(model: PreTrainedModel, targets: str | list[str]) -> None:
    if isinstance(targets, str):
        if targets != "all-linear":
            raise ModelError(f"adapter.targets: {targets!r}: write all-linear, or a list of module names")
        return
    leaves = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    missing = [name for name in targets if name.rpartition(".")[2] not in leaves and name not in ("embed_tokens",)]
    if missing:
        raise ModelError(
            f"adapter.targets: no linear module is called {', '.join(missing)}; this model has {', '.join(sorted(leaves))}"
        )
    tied = [name for name in targets if name in ("lm_head", "embed_tokens", "embed_out", "wte")]
    if tied and getattr(model.config, "tie_word_embeddings", False):
        raise ModelError(
            f"adapter.targets: {', '.join(tied)}: this model ties its head to its embedding, and an adapter on either merges wrongly; "
            "leave them out"
        )
