"""A small run that has learned something, for whoever needs a trained adapter."""

from __future__ import annotations

import json
from pathlib import Path

from weft.config.settings import Settings
from weft.train.run import train

ANSWERS = {"red": "It is the colour of a tomato.", "green": " 你好 🙂, grass.", "blue": "sky\n\n  sea\n"}
"""Texts that are easily spoilt: a leading space, characters of many bytes, line ends at the end."""


def train_small(base: Path, folder: Path, **sections: object) -> Settings:
    """Train until the answers are known by heart; two tasks, one with a validation row that is also a training row's twin."""
    colours = folder / "colours.jsonl"
    rows = [{"prompt": f"What is {name}?", "answer": answer} for name, answer in ANSWERS.items()]
    colours.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    sums = folder / "sums.jsonl"
    pairs = [(i, j) for i in range(4) for j in range(4)]
    sums.write_text("".join(json.dumps({"question": f"{i}+{j}", "answer": str(i + j)}) + "\n" for i, j in pairs), "utf-8")
    settings = Settings.model_validate(
        {
            "model": {"base": str(base)},
            "adapter": {"kind": "lora", "rank": 16, "alpha": 32},
            "tasks": {"colours": str(colours), "sums": str(sums)},
            "template": "mftcoder",
            "data": {"max_tokens": 128, "validation": 0.2, "cache": str(folder / "cache")},
            "mixture": {"epochs": 60},
            "batch": {"tokens_per_step": 512, "tokens_per_micro_batch": 512},
            "optimizer": {"lr": 0.02, "warmup": 3},
            "validate": {"every": 200},
            "save": {"every": 200, "keep": 1},
            "engine": {"device": "cpu", "threads": 1},
            "output": str(folder / "run"),
            **sections,
        }
    )
    train(settings)
    return settings
