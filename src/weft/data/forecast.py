"""What a run would do, before it does it: rows, tokens and steps of each task, memory, files. Loads no weights and no torch."""

from __future__ import annotations

import json
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from weft.config.settings import Settings
from weft.data.mixture import stages_of
from weft.data.plan import Plan, make_plan
from weft.data.prepare import Prepared, tokenizer_folder

FILES = (
    *("settings.yaml", "run.json", "environment.json", "metrics.jsonl", "ledger.jsonl", "balance.jsonl"),
    *("checkpoints/", "final/", "curves.png"),
)
DRAWN_LATER = (
    "balance.act_on: what is drawn follows the weights as they move, stage by stage; rows, shares and times seen are those of the weights "
    "that the run starts with"
)
SHARE_TOLERANCE = 0.005
"""How far a share of the trained tokens may be from what was asked, as a part of it."""


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
    """How often each training row is seen, on average."""
    rows_by_times_seen: dict[int, int]
    """How many training rows are seen how often: {0: 12, 1: 300} are 12 that are never seen and 300 that are seen once."""
    share: float
    """The task's share of all trained tokens of the run, every time counted that a row is seen."""
    steps: int
    """In how many steps the task has a sample."""


@dataclass(frozen=True)
class StageForecast:
    """One stage of a curriculum; a mixture without stages is one."""

    by: str
    epochs: float
    steps: int
    """Steps that begin in this stage."""
    shares: dict[str, float]
    """Each task's share of the stage's trained tokens; empty where the run ends before the stage."""


@dataclass(frozen=True)
class Forecast:
    """A run that has not happened yet. Memory is an estimate in bytes of the largest parts."""

    tasks: list[TaskForecast]
    stages: list[StageForecast]
    warnings: list[str]
    """What the run can't do as it was told, in words."""
    steps: int
    tokens_per_step: float
    micro_batches_per_step: float
    parameters: int
    trained_parameters: int
    memory: dict[str, int]
    files: list[str]


def forecast(settings: Settings, prepared: Prepared) -> Forecast:
    """Work out a run from its plan. The numbers of rows, tokens and steps are exact."""
    prepared.refuse_preferences()
    plan = make_plan(settings, prepared)
    tasks = []
    trained_K = plan.trained_RK.sum(axis=0)
    for k, store in enumerate(prepared.stores):
        times_S = plan.times_seen[k]
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
                float(times_S.mean()),
                {times: int(rows) for times, rows in enumerate(np.bincount(times_S)) if rows},
                float(trained_K[k] / (trained_K.sum() or 1.0)),
                int(plan.steps_with_task_K[k]),
            )
        )
    first = [plan.step(n) for n in range(min(plan.num_steps, 50))]
    shapes = weight_shapes(tokenizer_folder(settings.model.base))
    parameters = sum(int(np.prod(shape)) for shape in shapes.values())
    trained = parameters if settings.adapter.kind == "none" else _adapter_parameters(settings, shapes)
    return Forecast(
        tasks=tasks,
        stages=_stages(plan),
        warnings=missed_shares(plan) if settings.balance.act_on == "loss" else [DRAWN_LATER],
        steps=plan.num_steps,
        tokens_per_step=float(np.mean([step.parts.length_P.sum() for step in first])),
        micro_batches_per_step=float(np.mean([len(step.micro_batches) for step in first])),
        parameters=parameters,
        trained_parameters=trained,
        memory=_memory(settings, parameters, trained),
        files=[str(settings.output / name) for name in FILES],
    )


def _stages(plan: Plan) -> list[StageForecast]:
    begun = Counter(plan.stage_of_step(n) for n in range(plan.num_steps))
    found = []
    for number, stage in enumerate(stages_of(plan.settings.mixture)):
        trained_K = plan.trained_RK[plan.mixture.stage_R == number].sum(axis=0)
        shares = {
            store.task: float(trained_K[k] / trained_K.sum()) for k, store in enumerate(plan.stores) if trained_K[k]
        }
        found.append(StageForecast(stage.by, stage.epochs, begun[number], shares))
    return found


def missed_shares(plan: Plan) -> list[str]:
    """The shares of the trained tokens that a pass was promised and, after packing, has not: a sentence for each task.

    A share is missed when it is more than `SHARE_TOLERANCE` of itself away. Samples are whole, so a pass can come no nearer than
    about one sample; a pass that max_steps cuts short has what its rows happen to hold.
    """
    told = []
    trained_RK, share_RK = plan.trained_RK, plan.mixture.share_RK
    total_RK = np.broadcast_to(trained_RK.sum(axis=1, keepdims=True), trained_RK.shape)
    true_RK = np.divide(trained_RK, total_RK, out=np.zeros_like(trained_RK), where=total_RK > 0)
    asked_RK = (share_RK > 0) & (total_RK > 0)
    off_RK = np.divide(np.abs(true_RK - share_RK), share_RK, out=np.zeros_like(trained_RK), where=asked_RK)
    for k, store in enumerate(plan.stores):
        missed = np.flatnonzero(off_RK[:, k] > SHARE_TOLERANCE)
        if len(missed):
            worst = int(off_RK[:, k].argmax())
            largest = float(store.trained_S[plan.train_samples[k]].max())
            told.append(
                f"task {store.task} is to have {share_RK[worst, k]:.2%} of the trained tokens of every epoch, but has "
                f"{true_RK[worst, k]:.2%} in epoch {worst + 1} of {len(share_RK)} (missed by more than {SHARE_TOLERANCE:.1%} of itself in "
                f"{len(missed)}): that epoch's {total_RK[worst, k]:.0f} trained tokens are too few for whole samples of up to {largest:.0f}"
                + ("" if plan.num_steps == plan.steps_of_mixture else ", or mixture.max_steps ends it early")
            )
    return told


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
