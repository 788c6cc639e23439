"""A real small run of three tasks, and what it would have written had it gone otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from weft.config.settings import Settings
from weft.training.run import train

TASKS = ("sums", "words", "noise")


def three_tasks(base: Path, folder: Path, **sections: Any) -> Settings:
    """Train some twenty steps with a validation every other one."""
    settings = settings_of_three(base, folder, **sections)
    train(settings)
    return settings


def settings_of_three(base: Path, folder: Path, **sections: Any) -> Settings:
    """The rows and settings of that run."""
    rows: dict[str, list[dict[str, str]]] = {
        "sums": [{"prompt": f"{i}+{j}", "answer": f"It is {i + j}."} for i in range(6) for j in range(6)],
        "words": [{"prompt": f"Say {i}.", "answer": "word " * (1 + i % 4)} for i in range(24)],
        "noise": [{"prompt": f"What {i}?", "answer": f"{i * 7919 % 1009} x"} for i in range(18)],
    }
    for name, content in rows.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in content), "utf-8")
    values: dict[str, Any] = {
        "model": {"base": str(base)},
        "adapter": {"kind": "lora", "rank": 4, "alpha": 8},
        "tasks": {name: str(folder / f"{name}.jsonl") for name in TASKS},
        "template": "mftcoder",
        "data": {"max_tokens": 64, "validation": 0.25, "cache": str(folder / "cache")},
        "mixture": {"epochs": 4},
        "batch": {"samples_per_step": 10, "tokens_per_micro_batch": 512},
        "optimizer": {"lr": 0.01, "warmup": 2},
        "validate": {"every": 2},
        "save": {"every": 100, "keep": 1},
        "engine": {"device": "cpu", "threads": 1},
        "output": str(folder / "run"),
    }
    return Settings.model_validate(values | sections)


def rewrite(run: Path, losses: Mapping[str, Sequence[float | None]]) -> None:
    """Other validation losses: those of each task in turn, evenly over the run (the first before it); shorter lists end earlier."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "validation" not in line]
    tokens = next(line for line in lines if "validation" in line)["validation"]["tasks"]
    last = steps[-1]["step"]
    number = max(map(len, losses.values()), default=0)
    found = []
    for place in range(number):
        tasks = {n: {"loss": v[place], "tokens": tokens[n]["tokens"]} for n, v in losses.items() if place < len(v)}
        known = {n: t["loss"] for n, t in tasks.items() if t["loss"] is not None}
        macro = sum(known.values()) / len(known) if len(known) == len(tasks) else None
        worst = max(known, key=lambda n: known[n], default="")
        record = {"loss": macro, "macro": macro, "worst": {"task": worst, "loss": known.get(worst)}, "tasks": tasks}
        found.append({"step": round(last * place / max(1, number - 1)), "validation": record})
    merged = sorted([*steps, *found], key=lambda line: (line["step"], "validation" in line))
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in merged))


def interfere(
    run: Path, cosines: Mapping[tuple[str, str], float], times: int = 3, tasks: Sequence[str] = TASKS
) -> None:
    """Measurements of interference; pairs that are not named are at right angles."""
    matrix = [[1.0 if a == b else cosines.get((a, b), cosines.get((b, a), 0.0)) for b in tasks] for a in tasks]
    record = {"tasks": list(tasks), "cosine": matrix, "norms": [1.0] * len(tasks)}
    lines = [json.dumps({"step": 2 * number, "interference": record}) + "\n" for number in range(times)]
    (run / "balance.jsonl").write_text("".join(lines))
