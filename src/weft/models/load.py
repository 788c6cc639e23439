"""Loading a base model for training or for use: always through Transformers, never with code from the model's folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AttentionInterface, AutoModelForCausalLM, PreTrainedModel

from weft import plugins
from weft.config.settings import ModelSettings
from weft.errors import ConfigError, ModelError

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def pick_device(wanted: str) -> torch.device:
    """The device of `engine.device`. Raises ConfigError where there is none of that kind."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "engine.device: cuda: torch sees no GPU here; use cpu, or install a CUDA build of torch (see README)"
        )
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")


def compute_dtype(settings: ModelSettings, device: torch.device) -> torch.dtype:
    """What `model.dtype` means on this device."""
    if settings.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return DTYPES[settings.dtype]


def register_attention(name: str) -> str:
    """Make a backend of ours known to Transformers and return its registered name; auto is per-document attention."""
    backend = "documents" if name == "auto" else name
    package = "weft.models.attention"
    registered: str = plugins.find(package, backend, "NAME", "model.attention")
    AttentionInterface.register(registered, plugins.find(package, backend, "attention", "model.attention"))
    return registered


def load_model(base: str, dtype: torch.dtype, device: torch.device, attention: str = "sdpa") -> PreTrainedModel:
    """A causal language model in evaluation mode. `attention` is a name that Transformers knows.

    Raises ModelError where the folder holds no model, wants code of its own, or has weights that are not safetensors.
    """
    folder = Path(base)
    if folder.is_dir():
        _refuse_unloadable(folder)
    try:
        with no_bars():
            model, loaded = AutoModelForCausalLM.from_pretrained(
                base,
                dtype=dtype,
                attn_implementation=attention,
                use_safetensors=True,
                trust_remote_code=False,
                output_loading_info=True,
            )
    except Exception as error:
        if isinstance(error, KeyError) and error.args == (attention,):
            raise ModelError(
                f"model.base: {base}: models of this kind have an attention of their own that can't be exchanged, so weft can't keep "
                "packed samples apart in them"
            ) from error
        if attention == "sdpa" and "scaled_dot_product_attention" in str(error):
            return load_model(base, dtype, device, "eager")
        raise ModelError(f"model.base: {base}: {error}") from error
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise ModelError(
            f"model.base: {base}: its files lack {len(missing)} of the model's weights ({', '.join(missing[:5])}), which would be random "
            "numbers; fetch the model again"
        )
    return model.to(device).eval()


@contextmanager
def no_bars() -> Iterator[None]:
    """Transformers' own progress bars, which don't know of ours, stay away for a while."""
    shown = transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers.utils.logging.enable_progress_bar()


def _refuse_unloadable(folder: Path) -> None:
    config_file = folder / "config.json"
    if not config_file.is_file():
        inside = ", ".join(sorted(p.name for p in folder.iterdir())[:8]) or "nothing"
        raise ModelError(f"model.base: {folder} is no model folder: there is no config.json (it holds {inside})")
    try:
        config: dict[str, Any] = json.loads(config_file.read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"model.base: {config_file} is not JSON: {error}") from error
    if not isinstance(config, dict):
        raise ModelError(f"model.base: {config_file} holds no JSON object")
    if "auto_map" in config:
        raise ModelError(
            f"model.base: {folder} wants to run code of its own (auto_map in config.json); weft never runs code from a model's folder. "
            "Use a conversion of the model to an architecture that Transformers has"
        )
    if not list(folder.glob("*.safetensors")):
        raise ModelError(
            f"model.base: {folder} has no *.safetensors; weft does not read pickled weights. Convert them once in a place you trust with "
            "model.save_pretrained"
        )


def base_of(model: Any) -> PreTrainedModel:
    """The Transformers model inside a PEFT wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def enable_checkpointing(model: PreTrainedModel) -> None:
    """Recompute activations in the backward pass (Transformers renamed the call in 5.2x)."""
    enable = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})
