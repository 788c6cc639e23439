"""What a run would do, before it does it: rows, tokens and steps of each task, memory, files. Loads no weights and no torch."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weft.config.settings import Settings
from weft.data.plan import make_plan
from weft.data.prepare import Prepared, tokenizer_folder


@dataclass(frozen=True)
class TaskForecast:
    """One task's part in a run."""

    task: str
    format: str
    rows: int
    train_rows: int
    validation_rows: int
    tokens: int
    trained_tokens: int
    times_seen: float
    """How often each training row is seen."""
    steps: int
    """In how many steps the task has a sample."""


@dataclass(frozen=True)
class Forecast:
    """A run that has not happened yet. Memory is an estimate in bytes of the largest parts."""

    tasks: list[TaskForecast]
    steps: int
    tokens_per_step: float
    micro_batches_per_step: float
    parameters: int
    trained_parameters: int
    memory: dict[str, int]
    files: list[str]


def forecast(settings: Settings, prepared: Prepared) -> Forecast:
    """Work out a run from its plan. The numbers of rows, tokens and steps are exact."""
    plan = make_plan(settings, prepared)
    tasks = []
    for k, store in enumerate(prepared.stores):
        train, validation = (
            store.split(w, settings.data.validation, settings.data.test) for w in ("train", "validation")
        )
        tasks.append(
            TaskForecast(
                store.task,
                store.ledger.format,
                len(store),
                len(train),
                len(validation),
                int(store.length_S.sum()),
                int(store.trained_S.sum()),
                float(plan.mixture.times_seen_K[k]),
                int(plan.steps_with_task_K[k]),
            )
        )
    first = [plan.step(n) for n in range(min(plan.num_steps, 50))]
    shapes = weight_shapes(tokenizer_folder(settings.model.base))
    parameters = sum(int(np.prod(shape)) for shape in shapes.values())
    trained = parameters if settings.adapter.kind == "none" else _adapter_parameters(settings, shapes)
    return Forecast(
        tasks=tasks,
        steps=plan.num_steps,
        tokens_per_step=float(np.mean([step.parts.length_P.sum() for step in first])),
        micro_batches_per_step=float(np.mean([len(step.micro_batches) for step in first])),
        parameters=parameters,
        trained_parameters=trained,
        memory=_memory(settings, parameters, trained),
        files=[
            str(settings.output / name)
            for name in ("settings.yaml", "metrics.jsonl", "ledger.jsonl", "checkpoints/", "final/", "curves.png")
        ],
    )


def weight_shapes(folder: Path) -> dict[str, list[int]]:
    """The shapes in a model folder's safetensors, read from their headers alone (8 bytes of length, then JSON)."""
    shapes: dict[str, list[int]] = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(100_000_000, file.stat().st_size):
                continue
            header = json.loads(stream.read(length))
        shapes |= {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    return shapes


def _adapter_parameters(settings: Settings, shapes: dict[str, list[int]]) -> int:
    """rank · (in + out) for every adapted matrix."""
    targets = settings.adapter.targets
    total = 0
    for name, shape in shapes.items():
        module = name.removesuffix(".weight").rpartition(".")[2]
        head = any(word in name for word in ("embed", "lm_head", "wte", "wpe", "norm"))
        if len(shape) == 2 and (module in targets if isinstance(targets, list) else not head):
            total += settings.adapter.rank * sum(shape)
    return total


def _memory(settings: Settings, parameters: int, trained: int) -> dict[str, int]:
    """Bytes: weights, gradients, AdamW's two moments, and activations as a rough multiple of tokens × width × depth."""
    config_file = tokenizer_folder(settings.model.base) / "config.json"
    config = json.loads(config_file.read_text("utf-8")) if config_file.is_file() else {}
    width = int(config.get("hidden_size") or config.get("n_embd") or 0)
    depth = int(config.get("num_hidden_layers") or config.get("n_layer") or 0)
    small = settings.model.dtype == "bf16"
    weights = parameters * (2 if small and settings.adapter.kind == "lora" else 4)
    per_layer = 2 if settings.model.gradient_checkpointing else 34
    return {
        "weights": weights + (trained * 4 if settings.adapter.kind == "lora" else 0),
        "gradients": trained * 4,
        "optimizer": trained * 8,
        "activations": settings.tokens_per_micro_batch * width * depth * per_layer * (2 if small else 4) // 2,
    }
