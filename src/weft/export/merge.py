"""An adapter and its base into one model, proven to be the same model before anyone can see it.

The adapter's greedy tokens on several prompts are taken first. The merged model must give them, with logits that differ by rounding
alone; then the files as they were written are read back and must give them too. Only then does the folder get its name.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from transformers import AutoConfig, GenerationConfig

from weft import files
from weft.config.settings import TemplateSettings
from weft.data.about import ABOUT, portable, write_tokenizer
from weft.errors import CheckpointError, ConfigError, ModelError
from weft.export.probes import Probe, compare, probe
from weft.generation.model import Loaded, base_folder, is_adapter, model_folder, open_model
from weft.log import logger
from weft.models.load import load_model, no_bars
from weft.types import JsonObject, Progress, ProgressHook, silent
from weft.version import __version__

Format: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
_FORMATS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_TOLERANCE = 1e-3
"""How far logits may differ by the rounding of a merge in fp32, relative to the largest."""


@dataclass(frozen=True, slots=True)
class MergeReport:
    """A merged model and how it was proven: `difference` is the largest between the logits of adapter and merge, relative to them."""

    folder: Path
    base: str
    dtype: str
    prompts: int
    tokens: int
    difference: float


class _RoundingError(ModelError):
    """The written weights are too coarse to give the same tokens."""


def merge(
    path: str | Path,
    out: str | Path,
    base: str | None = None,
    dtype: Format = "auto",
    device: str = "cpu",
    progress: ProgressHook = silent,
) -> MergeReport:
    """Merge the adapter of a run or a folder into its base and publish the whole model as `out`, which must not exist.

    The arithmetic is fp32. `dtype` is the format of the written weights; auto: the base's own, or fp32 where rounding to that would
    change the greedy tokens. Raises CheckpointError (`out` is there, the run isn't finished) and ModelError (nothing to merge, or the
    merged model is not the same).
    """
    path, out = Path(path).expanduser(), Path(out).expanduser()
    if dtype != "auto" and dtype not in _FORMATS:
        raise ConfigError(f"--dtype {dtype}: unknown; write auto, {', '.join(_FORMATS)}")
    refuse_existing(out)
    folder = model_folder(path)
    if not is_adapter(folder):
        raise ModelError(
            f"{folder} is a whole model already: there is no adapter to merge. Use it as it is, or copy it to {out}"
        )
    formats = [dtype] if dtype != "auto" else list(dict.fromkeys([_own_format(base_folder(folder, base)), "fp32"]))
    for chosen in formats:
        try:
            return _merge(path, out, base, chosen, device, progress)
        except _RoundingError as error:
            if chosen == formats[-1]:
                raise
            logger.info("%s; writing fp32 instead", error)
    raise AssertionError("one of the formats returned or raised")


def _merge(path: Path, out: Path, base: str | None, chosen: str, device: str, progress: ProgressHook) -> MergeReport:
    progress(Progress("merge", 0, 4, "the adapter's own answers"))
    loaded = open_model(path, device, "fp32", base)
    probes = probe(loaded, path)
    progress(Progress("merge", 1, 4, "merging"))
    merged = _merged(loaded)
    found = compare(merged, probes, loaded.device)
    if found.tokens or not found.logits <= _TOLERANCE:
        raise ModelError(
            f"{loaded.folder}: merged, the model is another: {found.tokens} of {_tokens(probes)} greedy tokens and its logits "
            f"(by {found.logits:.2g} of the largest) differ from the adapter's; nothing was written. A likely cause is an adapter "
            "on the head or the embedding of a model that ties the two; use the adapter as it is"
        )
    progress(Progress("merge", 2, 4, f"writing {chosen} and reading it back"))
    with files.building(out) as folder:
        _write_model(merged, loaded, folder, chosen)
        del merged
        _check_written(folder, probes, loaded.device, chosen)
        write_tokenizer(loaded.tokenizer, loaded.template, folder)
        files.write_json(folder / ABOUT, _about(loaded))
        report = MergeReport(out, str(loaded.base), chosen, len(probes), _tokens(probes), found.logits)
        (folder / "README.md").write_text(_card(report, loaded), "utf-8")
        progress(Progress("merge", 3, 4, "publishing"))
        refuse_existing(out)
        files.publish(folder, out, {"format": 1, "base": report.base, "merged_from": str(loaded.folder)})
    progress(Progress("merge", 4, 4))
    return report


def refuse_existing(out: Path) -> None:
    if out.exists() or out.is_symlink():
        raise CheckpointError(f"{out} is there already, and nothing is ever overwritten; choose another folder")


def _own_format(base: str) -> str:
    """The number format that a base model's weights are said to have."""
    try:
        own = AutoConfig.from_pretrained(base, trust_remote_code=False).dtype
    except (OSError, ValueError):  # whoever loads the model says it better
        return "fp32"
    return next((name for name, dtype in _FORMATS.items() if dtype == own), "fp32")


def _merged(loaded: Loaded) -> Any:
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of a tied head: the comparison decides
            return loaded.model.merge_and_unload(safe_merge=True)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{loaded.folder}: the adapter can't be merged: {error}") from error


def _write_model(merged: Any, loaded: Loaded, folder: Path, chosen: str) -> None:
    try:
        wanted = GenerationConfig.from_pretrained(str(loaded.base))
    except OSError:  # it has none
        wanted = GenerationConfig()
    wanted.eos_token_id, wanted.pad_token_id = list(loaded.stop_ids), loaded.tokenizer.pad_id
    try:
        wanted.validate(strict=True)
    except ValueError as error:
        logger.info("the base's generation_config.json contradicts itself (%s); only its stop tokens are kept", error)
        wanted = GenerationConfig(eos_token_id=list(loaded.stop_ids), pad_token_id=loaded.tokenizer.pad_id)
    merged.generation_config = wanted
    with no_bars():
        merged.to(_FORMATS[chosen]).save_pretrained(str(folder), safe_serialization=True)


def _check_written(folder: Path, probes: list[Probe], device: torch.device, chosen: str) -> None:
    """The files, read back, give the same tokens (in fp32 arithmetic, whatever they are written in)."""
    found = compare(load_model(str(folder), torch.float32, device), probes, device)
    if found.tokens:
        raise _RoundingError(
            f"the merged model, written as {chosen} and read back, gives {found.tokens} of {_tokens(probes)} other greedy tokens than the "
            "adapter; fp32 keeps them (--dtype fp32)"
        )


def _tokens(probes: list[Probe]) -> int:
    return sum(item.num_new for item in probes)


def _about(loaded: Loaded) -> JsonObject:
    """The adapter's `weft.json`, now of a whole model."""
    file = loaded.folder / ABOUT
    record: JsonObject = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    template = record.get("template", portable(TemplateSettings(), loaded.template).model_dump(mode="json"))
    return {
        **record,
        "weft": __version__,
        "base": loaded.base,
        "template": template,
        "adapter": "none",
        "merged_from": str(loaded.folder),
    }


def _card(report: MergeReport, loaded: Loaded) -> str:
    return f"""---
base_model: {report.base}
tags: [weft, multi-task]
---
# {report.folder.name}

`{report.base}` with the adapter `{loaded.folder}` merged into it by weft {__version__}, weights in {report.dtype}.

Before it was published it gave the adapter's greedy tokens on {report.prompts} prompts ({report.tokens} tokens); its logits differ from
the adapter's by at most {report.difference:.1e} of the largest (fp32).

Use it: `weft chat {report.folder}`, `weft generate {report.folder} --prompt …`, or as any Hugging Face model; `chat_template.jinja` is the
template it was trained with.
"""
