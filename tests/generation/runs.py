"""A small run that has learned something, for whoever needs a trained adapter."""

from __future__ import annotations

import json
from pathlib import Path

from weft.config.settings import Settings
from weft.training.run import train

ANSWERS = {"red": "It is the colour of a tomato.", "green": " 你好 🙂, grass.", "blue": "sky\n\n  sea\n"}
"""Texts that are easily spoilt: a leading space, characters of many bytes, line ends at the end."""


BY_HEART: dict[str, object] = {"adapter": {"kind": "none"}, "loss": {"weighting": "token"}, "mixture": {"epochs": 45}}
"""Sections with which the answers are known by heart afterwards."""


def train_small(base: Path, folder: Path, **sections: object) -> Settings:
    """Two tasks, few steps; every colour's row has twins on both sides of the split."""
    colours = folder / "colours.jsonl"
    rows = [{"prompt": f"What is {k}?" + " " * i, "answer": v} for k, v in ANSWERS.items() for i in range(8)]
    colours.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sums = folder / "sums.jsonl"
    pairs = [(i, j) for i in range(3) for j in range(3)]
    sums.write_text(
        "".join(json.dumps({"question": f"{i}+{j}", "answer": str(i + j)}) + "\n" for i, j in pairs), "utf-8"
    )
    settings = Settings.model_validate(
        {
            "model": {"base": str(base)},
            "adapter": {"kind": "lora", "rank": 16, "alpha": 32},
            "tasks": {"colours": str(colours), "sums": str(sums)},
            "template": "mftcoder",
            "data": {"max_tokens": 128, "validation": 0.2, "cache": str(folder / "cache")},
            "mixture": {"epochs": 3},
            "batch": {"tokens_per_step": 512, "tokens_per_micro_batch": 512},
            "optimizer": {"lr": 0.01, "warmup": 3},
            "validate": {"every": 200},
            "save": {"every": 200, "keep": 1},
            "engine": {"device": "cpu", "threads": 1},
            "output": str(folder / "run"),
            **sections,
        }
    )
    train(settings)
    return settings
