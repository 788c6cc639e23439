"""Checkpoints: what a run needs to go on as if nothing had happened.

    checkpoints/step-00000100/weights.safetensors     what is trained, by name
                              optimizer.safetensors   AdamW's moments and step counts
                              state.json              position, balance, validation record
                              manifest.json           sizes and SHA-256 of all of it, written last

No random state is saved: every draw is a function of (seed, step, micro-batch). Only safetensors and JSON, no pickle.
"""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Collection
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from weft import files
from weft.errors import CheckpointError
from weft.log import logger
from weft.training.life import Lives
from weft.types import JsonObject

_COMPONENTS = ("weights.safetensors", "optimizer.safetensors", "state.json")


@dataclass
class Progress:
    """Where a run is: all that moves besides weights and moments."""

    step: int = 0
    validated_step: int = -1
    stalled: int = 0
    """Validations since the objective was best."""
    skipped: int = 0
    skipped_in_a_row: int = 0
    stopped_early: bool = False
    lives: Lives = field(default_factory=Lives)
    balance: JsonObject = field(default_factory=dict)


def trainable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The trained parameters by name, sorted."""
    return {name: p for name, p in sorted(module.named_parameters()) if p.requires_grad}


def save(
    folder: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    keep: int,
    protected: Collection[int] = (),
) -> Path:
    """Commit a checkpoint, read it back, and only then delete older ones that are neither the newest `keep` nor at a protected step."""
    place = folder / f"step-{progress.step:08d}"
    if not (place.exists() and not files.faults(place, _COMPONENTS)):
        with files.building(place) as building:
            _write(building, module, optimizer, progress)
            if place.exists():
                _set_aside(place)
            files.publish(building, place, {"format": 1, "step": progress.step})
        wrong = files.faults(place, _COMPONENTS)
        if wrong:
            raise CheckpointError(
                f"{place}: read back, but {'; '.join(wrong)}: the disk does not keep what is written to it"
            )
    _rotate(folder, keep, protected)
    return place


def _write(folder: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    parameters = trainable(module)
    save_file({name: _plain(p) for name, p in parameters.items()}, folder / "weights.safetensors")
    moments: dict[str, Tensor] = {}
    for name, parameter in parameters.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            moments[f"{key}|{name}"] = _plain(value)
    save_file(moments, folder / "optimizer.safetensors")
    files.write_json(folder / "state.json", asdict(progress))


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach().cpu().contiguous().clone()


def _rotate(folder: Path, keep: int, protected: Collection[int]) -> None:
    steps = sorted(_complete(folder), reverse=True)
    for step in steps[keep:]:
        if step not in protected:
            doomed = folder / f"step-{step:08d}"
            gone = folder / f"{doomed.name}.tmp-{uuid.uuid4().hex[:8]}"
            doomed.rename(gone)  # so that a kill in mid-deletion leaves no half checkpoint behind
            shutil.rmtree(gone)


def _complete(folder: Path) -> list[int]:
    """The steps whose folders look like checkpoints of ours; anything else is ignored."""
    found = []
    for place in folder.glob("step-*"):
        digits = place.name.removeprefix("step-")
        if digits.isascii() and digits.isdigit() and len(digits) == 8 and (place / files.MANIFEST).is_file():
            found.append(int(digits))
    return found


def newest(folder: Path) -> Path | None:
    """The newest checkpoint that is whole. Broken ones are renamed, never deleted, and told."""
    for step in sorted(_complete(folder), reverse=True):
        place = folder / f"step-{step:08d}"
        wrong = files.faults(place, _COMPONENTS)
        if not wrong:
            return place
        logger.warning(
            "checkpoint %s is broken (%s); it is set aside, going on with an older one", place, "; ".join(wrong)
        )
        _set_aside(place)
    return None


def _set_aside(place: Path) -> None:
    place.rename(place.with_name(f"broken-{place.name}-{uuid.uuid4().hex[:8]}"))


def load_weights(place: Path, module: nn.Module) -> None:
    """Put a checkpoint's weights into a module. Raises CheckpointError where names or shapes differ."""
    parameters = trainable(module)
    tensors = load_file(place / "weights.safetensors")
    wrong = sorted(set(parameters) ^ set(tensors)) or [
        name for name, p in parameters.items() if p.shape != tensors[name].shape
    ]
    if wrong:
        raise CheckpointError(f"{place}: its weights don't fit the model: {', '.join(wrong[:5])} (of {len(wrong)})")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def load(place: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> Progress:
    """Bring module and optimizer to the state of a checkpoint (already found whole)."""
    load_weights(place, module)
    parameters = trainable(module)
    state: dict[str, dict[str, Any]] = {}
    for key, tensor in load_file(place / "optimizer.safetensors").items():
        kind, _, name = key.partition("|")
        if name not in parameters:
            raise CheckpointError(f"{place}: the optimizer's state is of another model: {name}")
        state.setdefault(name, {})[kind] = tensor
    kinds = {kind for entries in state.values() for kind in entries}
    wrong = [
        name
        for name, entries in state.items()
        if entries.keys() != kinds or any(t.ndim and t.shape != parameters[name].shape for t in entries.values())
    ]
    if wrong:
        raise CheckpointError(f"{place}: the optimizer's state does not fit {', '.join(wrong[:5])} (of {len(wrong)})")
    for name, entries in state.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            kind: value
            if kind == "step" and value.ndim == 0 and parameter.device.type == "cpu"
            else value.to(parameter.device)
            for kind, value in entries.items()
        }
    return read_progress(place)


def read_progress(place: Path) -> Progress:
    """Where a run was when it wrote a checkpoint."""
    try:
        record = json.loads((place / "state.json").read_text("utf-8"))
        return Progress(**{**record, "lives": Lives(**record["lives"])})
    except (KeyError, TypeError) as error:
        raise CheckpointError(
            f"{place}: was written by another version of weft, and can't be gone on from ({error}); "
            "finish the run with that version, or train again into another output"
        ) from error
