"""Adapters: what is trained when the base stays as it is (LoRA: arXiv 2106.09685, through PEFT)."""

from __future__ import annotations

import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors import SafetensorError, safe_open
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

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
    try:
        with _quiet():
            adapted = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"adapter.targets: {settings.targets}: {error}") from error
    adapted.peft_config["default"].base_model_name_or_path = base
    return adapted


def load_adapter(model: PreTrainedModel, folder: str) -> Any:
    """A trained adapter on its base, ready for use."""
    file = Path(folder, SAFETENSORS_WEIGHTS_NAME)
    if not file.is_file():
        raise ModelError(
            f"{folder}: holds no {file.name}, so it is no adapter that weft reads (pickled weights are never read)"
        )
    try:
        with _quiet():
            adapted = PeftModel.from_pretrained(model, folder).eval()
        with safe_open(file, "pt") as stored:
            differing = {name for name in stored.keys() if "lora_" in name}  # noqa: SIM118
        differing ^= set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: the adapter does not fit the base model: {error}") from error
    if differing:
        raise ModelError(
            f"{folder}: the adapter does not fit the base model: {len(differing)} weights are missing or too many, "
            f"{', '.join(sorted(differing)[:5])}"
        )
    return adapted


def _quiet() -> AbstractContextManager[None]:
    """What PEFT and Transformers say to one another about their next versions is no business of the user's."""
    return warnings.catch_warnings(action="ignore", category=FutureWarning)


def _refuse_bad_targets(model: PreTrainedModel, targets: str | list[str]) -> None:
    if isinstance(targets, str):
        if targets != "all-linear":
            raise ModelError(f"adapter.targets: {targets!r}: write all-linear, or a list of module names")
        return
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    kinds = (torch.nn.Linear, Conv1D, torch.nn.Embedding)
    adaptable = {name: module for name, module in model.named_modules() if isinstance(module, kinds)}
    known = sorted({name.rpartition(".")[2] for name, m in adaptable.items() if m is not head and m is not embedding})
    faults = [] if targets else ["names no module"]
    for target in targets:
        found = [module for name, module in adaptable.items() if name == target or name.endswith(f".{target}")]
        if not found:
            faults.append(f"no linear module is called {target}; this model has {', '.join(known)}")
        elif tied and any(module is head or module is embedding for module in found):
            faults.append(
                f"{target}: this model ties its head to its embedding, and an adapter on either merges wrongly; leave it out"
            )
        elif any(module is head for module in found):
            faults.append(
                f"{target}: the loss is computed from the head's own weight, so an adapter on it would not be trained; leave it out"
            )
    if faults:
        raise ModelError("\n".join(f"adapter.targets: {fault}" for fault in faults))
