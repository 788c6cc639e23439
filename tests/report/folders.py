"""Folders of runs that never were, written exactly as training writes them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from weft.config.settings import Settings


@dataclass(frozen=True)
class Made:
    """What a folder is made of; everything in it follows from these numbers."""

    tasks: Sequence[str] = ("sql", "translate", "chat")
    steps: int = 40
    every: int = 10
    look_every: int = 5
    method: str = "coba"
    seed: int = 0
    frozen: Mapping[str, int] = field(default_factory=dict)
    """The step at which a task is frozen."""
    worse: Sequence[str] = ()
    """Tasks whose losses rise."""
    null_steps: Sequence[int] = ()
    """Steps whose losses are not finite."""
    changes: Mapping[str, Any] = field(default_factory=dict)
    """Settings, by section."""
    finished: bool = True
    balance: bool = True
    interference: bool = True
    environment: bool = True
    validated: bool = True


def write_run(folder: Path, made: Made = Made()) -> Path:
    """Write a run's folder and give it back."""
    folder.mkdir(parents=True)
    settings = Settings.model_validate(
        {
            "model": {"base": "models/tiny"},
            "tasks": {f"t{k}": f"data/{k}" for k in range(len(made.tasks))},
            "balance": {"method": made.method},
            "output": str(folder),
            **made.changes,
        }
    ).model_dump(mode="json")
    settings["tasks"] = dict(
        zip(made.tasks, settings["tasks"].values(), strict=True)
    )  # names that settings would refuse
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings, sort_keys=False, allow_unicode=True), "utf-8")
    identity = {"format": 1, "settings": {}, "order": [*made.tasks], "tokenizer": "t", "template": "m", "data": {}}
    (folder / "run.json").write_text(json.dumps(identity), "utf-8")
    if made.environment:
        (folder / "environment.json").write_text(json.dumps({"weft": "0.1", "cores": 2, "gpu": None}), "utf-8")
    write_lines(folder / "metrics.jsonl", metrics(made))
    write_lines(folder / "ledger.jsonl", ledger(made))
    if made.balance:
        write_lines(folder / "balance.jsonl", balance(made))
    if made.finished:
        (folder / "final").mkdir()
        (folder / "final" / "manifest.json").write_text(json.dumps({"format": 1, "step": made.steps, "files": {}}))
    return folder


def write_lines(file: Path, records: Iterable[Mapping[str, Any]]) -> None:
    file.write_text("".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in records), "utf-8")


def loss_of(made: Made, task: str, step: float) -> float:
    """A task's true loss after so many steps: each falls (or rises) at a pace of its own."""
    k = list(made.tasks).index(task)
    pace = (1 + k % 5) / made.steps * (1 + 0.1 * made.seed)
    stop = min(step, made.frozen.get(task, math.inf))
    fallen = math.exp(-pace * stop)
    return (2 + k % 3) * (0.4 + 0.6 * fallen if task not in made.worse else 1.4 - 0.4 * fallen)


def metrics(made: Made) -> list[dict[str, Any]]:
    rng = np.random.default_rng(made.seed)
    records: list[dict[str, Any]] = [_validation(made, 0)] if made.validated else []
    for step in range(1, made.steps + 1):
        present = [t for t in made.tasks if made.frozen.get(t, made.steps) >= step]
        present = [t for t in present if len(present) < 20 or rng.random() < 0.6] or present
        amount = dict(zip(present, rng.uniform(0.5, 1.5, len(present)), strict=True))
        bad = step in made.null_steps
        record: dict[str, Any] = {
            "step": step,
            "loss": None if bad else float(np.mean([loss_of(made, t, step) for t in present])) if present else None,
            "tasks": {
                t: {
                    "loss": None if bad else loss_of(made, t, step) * float(rng.lognormal(0, 0.08)),
                    "tokens": int(rng.integers(50, 400)),
                    "weight": weight_of(made, t, step - 1),
                    "share": float(amount[t] / sum(amount.values())),
                }
                for t in present
            },
            "lr": 1e-3 * (1 - step / made.steps),
            "grad_norm": None if bad else 1.0,
            "tokens_per_second": 5000.0,
        }
        if bad:
            record["skipped"] = "the loss or the gradient is not finite"
        records.append(record)
        if made.validated and (step % made.every == 0 or step == made.steps):
            records.append(_validation(made, step))
    return records


def _validation(made: Made, step: int) -> dict[str, Any]:
    losses = {t: loss_of(made, t, step) for t in made.tasks}
    worst = max(losses, key=losses.__getitem__)
    macro = sum(losses.values()) / len(losses)
    whole = {"loss": macro, "macro": macro, "worst": {"task": worst, "loss": losses[worst]}}
    return {"step": step, "validation": {**whole, "tasks": {t: {"loss": v, "tokens": 500} for t, v in losses.items()}}}


def weight_of(made: Made, task: str, step: int) -> float:
    """The weight in force after so many steps."""
    if step >= made.frozen.get(task, math.inf):
        return 0.0
    if made.method == "fixed":
        return 1.0
    k = list(made.tasks).index(task)
    looked = step - step % made.look_every
    return 1.0 + 0.8 * math.sin(k + 3 * looked / made.steps)


def balance(made: Made) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    moving = made.method != "fixed"
    for step in range(made.steps):
        gone = {t: at for t, at in made.frozen.items() if at == step}
        if gone:
            found = {"best_step": step // 2, "best_loss": 0.9, "loss": 1.2}
            records.append({"step": step, "frozen": dict.fromkeys(gone, found)})
        if moving and step % made.look_every == 0:
            look = {t: loss_of(made, t, step) for t in made.tasks}
            records.append({"step": step, "look": look, "tokens": 100, "seconds": 0.25})
        if step == 0 or (moving and step % made.look_every == 0):
            weights = {t: weight_of(made, t, step) for t in made.tasks}
            numbers = {"RCS": {t: 1 / len(made.tasks) for t in made.tasks}, "DF": 1 - step / (2 * made.steps)}
            records.append({"step": step, "weights": weights, "numbers": numbers if moving else {}})
        if made.interference and step and step % made.every == 0:
            records.append({"step": step, "interference": interference(made, step)})
    return records


def interference(made: Made, step: int) -> dict[str, Any]:
    """Three families of tasks, alike within and apart from one another."""
    rng = np.random.default_rng(made.seed + step)
    size = len(made.tasks)
    family = np.eye(3)[np.arange(size) % 3] * 2 + rng.normal(0, 0.7, (size, 3)) - 0.3
    unit = family / np.linalg.norm(family, axis=1, keepdims=True)
    return {
        "tasks": [*made.tasks],
        "cosine": (unit @ unit.T).tolist(),
        "norms": np.linalg.norm(family, axis=1).tolist(),
    }


def ledger(made: Made) -> list[dict[str, Any]]:
    """Two rows of each task a step, going round its rows; looks hold others."""
    records: list[dict[str, Any]] = []
    for step in range(1, made.steps + 1):
        present = [t for t in made.tasks if made.frozen.get(t, made.steps) >= step]
        rows = [(k, 2 * step + i) for k, t in enumerate(made.tasks) if t in present for i in range(2)]
        names = [f"{made.tasks[k]}:a.jsonl:{1 + n % (10 + 7 * (k % 4))}" for k, n in rows]
        records.append({"step": step, "samples": names})
        if made.balance and made.method != "fixed" and step % made.look_every == 0:
            records.append(
                {"step": step, "looked_at": [f"{t}:a.jsonl:{1000 + i}" for t in made.tasks for i in range(4)]}
            )
    return records
