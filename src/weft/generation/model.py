"""Opening whatever can be spoken to: a run, its `final/`, an adapter, a merged folder, any model in Hugging Face's layout.

The one idea: the folder itself says how it was trained (`weft.json`), so the prompt that it is shown is the prompt that it knows.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeAlias, cast

import torch
from transformers import GenerationConfig

from weft import files
from weft.config.settings import ModelSettings, TemplateSettings
from weft.data import templates
from weft.data.about import read_about
from weft.data.prepare import tokenizer_folder
from weft.data.templates import Template
from weft.data.tokens import TOKENIZER_FILES, Tokenizer
from weft.errors import CheckpointError, ModelError, TemplateError
from weft.models.adapters import load_adapter
from weft.models.load import base_of, compute_dtype, load_model, pick_device

DType: TypeAlias = Literal["auto", "fp32", "bf16"]
ADAPTER_CONFIG = "adapter_config.json"


@dataclass(frozen=True)
class Loaded:
    """A model ready to answer, with all that its prompts and answers need."""

    folder: Path
    """Where the adapter or the model lies."""
    base: str | None
    """The adapter's base model; None for a whole model."""
    model: Any
    """A Transformers or PEFT model in evaluation mode."""
    tokenizer: Tokenizer
    template: Template
    stop_ids: tuple[int, ...]
    """Any of these ids ends an answer."""
    device: torch.device

    @cached_property
    def max_positions(self) -> int | None:
        """The most tokens that prompt and answer may have together; None where the model names no limit."""
        return cast(
            "int | None", getattr(base_of(self.model).config.get_text_config(), "max_position_embeddings", None)
        )

    @cached_property
    def answer_start(self) -> str:
        """What the model writes before an answer's text, by the template."""
        try:
            return self.template.answer_start
        except TemplateError:  # it ends answers without a control token: good enough to read, if not to train
            return ""

    @cached_property
    def answer_end(self) -> str:
        """What the template puts between an answer and its stop token."""
        try:
            return self.template.answer_end
        except TemplateError:  # it ends answers without a control token: good enough to read, if not to train
            return ""


def open_model(
    path: str | Path,
    device: str = "auto",
    dtype: DType = "auto",
    base: str | None = None,
    template: TemplateSettings | None = None,
) -> Loaded:
    """The model in a run's folder, its `final/`, an adapter's folder, a model's, or of a name on the hub.

    `base` replaces the base model that an adapter names. `template` is for folders that don't say which one they were trained
    with. Raises ModelError and CheckpointError where there is no such model, or no whole one.
    """
    on_hub = is_hub_name(str(path))
    folder = tokenizer_folder(str(path)) if on_hub else model_folder(path)
    adapter = is_adapter(folder)
    if base is not None and not adapter:
        raise ModelError(f"--base {base}: {folder} holds a whole model, not an adapter; leave --base out")
    base = base_folder(folder, base) if adapter else None
    where = pick_device(device)
    tokenizer = load_tokenizer(folder, base)
    chosen = load_template(folder, tokenizer, template)
    number_format = compute_dtype(ModelSettings(base=str(path), dtype=dtype), where)
    model: Any = (
        load_base(folder, base, number_format, where)
        if base
        else load_model(str(path if on_hub else folder), number_format, where)
    )
    if adapter:
        model = load_adapter(model, str(folder))
    return Loaded(folder, base, model, tokenizer, chosen, _take_stop_ids(model, tokenizer, chosen), where)


def model_folder(path: str | Path) -> Path:
    """The folder of weights that a path stands for. Raises ModelError, and CheckpointError for a run that isn't finished."""
    folder = Path(path).expanduser()
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else f"does not exist (looked for {folder.absolute()})"
        raise ModelError(f"{path}: {what}; name a run's folder, an adapter's, or a model's")
    if (folder / "run.json").is_file():
        if not (folder / "final").is_dir():
            raise CheckpointError(
                f"{folder}: this run is not finished: it has no final/ yet. Go on with `weft train {folder / 'settings.yaml'}`"
            )
        folder = folder / "final"
    if is_adapter(folder):
        _refuse_broken(folder)
    return folder


def is_adapter(folder: Path) -> bool:
    return (folder / ADAPTER_CONFIG).is_file()


def is_hub_name(path: str) -> bool:
    """Whether a path that is not there can be the name of a model on the hub: `gpt2`, `owner/name`."""
    return (
        not os.path.exists(path)
        and path.count("/") <= 1
        and not path.startswith((".", "~", "/"))
        and not path.endswith("/")
    )


def base_folder(folder: Path, base: str | None) -> str:
    """The base model of an adapter: `base`, or what the adapter names. Raises ModelError where that folder is gone."""
    try:
        config = json.loads((folder / ADAPTER_CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise ModelError(f"{folder / ADAPTER_CONFIG} is not JSON: {error}") from error
    named = base or config.get("base_model_name_or_path")
    if not named:
        raise ModelError(f"{folder}: the adapter names no base model; say which with --base FOLDER")
    named = os.path.expanduser(str(named))
    if not os.path.isdir(named) and not is_hub_name(named):
        whose = "--base" if base else "its base model"
        raise ModelError(
            f"{folder}: {whose} {named} is not there (looked for {os.path.abspath(named)}); say where it is with --base FOLDER"
        )
    return named


def load_base(folder: Path, base: str, dtype: torch.dtype, device: torch.device) -> Any:
    """An adapter's base model. Raises ModelError that says how to name another."""
    try:
        return load_model(base, dtype, device)
    except ModelError as error:
        raise ModelError(
            f"{folder}: the adapter's base can't be loaded: {error}. If it lies elsewhere, pass --base FOLDER"
        ) from error


def load_tokenizer(folder: Path, base: str | None) -> Tokenizer:
    """The folder's own tokenizer, or its base's where an adapter came without one."""
    own = any((folder / name).is_file() for name in TOKENIZER_FILES)
    return Tokenizer.load(folder if own or base is None else tokenizer_folder(base))


def load_template(folder: Path, tokenizer: Tokenizer, otherwise: TemplateSettings | None = None) -> Template:
    """The template that the folder names, else `otherwise`, else the tokenizer's own or MFTCoder's markers."""
    about = read_about(folder)
    return templates.build(about.template if about else otherwise or TemplateSettings(), tokenizer)


def _take_stop_ids(model: Any, tokenizer: Tokenizer, template: Template) -> tuple[int, ...]:
    """Every id that ends an answer. The model's other generation settings are put away: they would change answers silently."""
    own = base_of(model).generation_config
    base_of(model).generation_config = GenerationConfig()
    named = own.eos_token_id if own is not None else None
    ids = set(named if isinstance(named, list) else [] if named is None else [named])
    eos = tokenizer.token("eos_token")
    for token in (eos, _stop_of(template)):
        number = tokenizer.id_of(token) if token is not None else None
        if number is not None:
            ids.add(number)
    if not ids:
        raise ModelError(
            f"{tokenizer.folder}: neither tokenizer, template nor model names a stop token, so no answer could ever end"
        )
    return tuple(sorted(ids))


def _stop_of(template: Template) -> str | None:
    try:
        return template.stop
    except TemplateError:
        return None


def _refuse_broken(folder: Path) -> None:
    """A trained adapter must be as it was written; its README may change."""
    if not (folder / files.MANIFEST).is_file():
        return
    wrong = [fault for fault in files.faults(folder) if not fault.startswith("README.md:")]
    if wrong:
        raise CheckpointError(f"{folder} is broken: {'; '.join(wrong)}. Take it from a backup, or train again")
