"""The end of a run: `final/` with everything needed to use the result, and a picture of the curves."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from weft import files
from weft.config.settings import Settings
from weft.data.about import ABOUT, about, write_tokenizer
from weft.data.templates import build
from weft.errors import CheckpointError
from weft.models.load import base_of, no_bars
from weft.training import checkpoint
from weft.training.curves import draw_curves
from weft.training.events import read_journal
from weft.training.life import MEASURE_OF
from weft.training.state import Run
from weft.version import __version__


def finish(run: Run) -> Path:
    """Publish `final/` from the last or the best checkpoint and draw the curves; only rank 0 calls this."""
    place = run.folder / "final"
    draw_curves(read_journal(run.folder / "metrics.jsonl"), run.folder / "curves.png")
    if place.is_dir() and not files.faults(place):
        return place
    if place.is_dir():
        place.rename(place.with_name(f"broken-final-{uuid.uuid4().hex[:8]}"))
    step = run.state.step
    best = run.state.lives.best.get(MEASURE_OF.get(run.settings.save.final, ""))
    if best:
        step = best["step"]
        _load_best(run.folder / "checkpoints" / f"step-{step:08d}", run)
    template = build(run.settings.template, run.tokenizer)
    with files.building(place) as folder:
        save_model(run.objective.model, folder)
        write_tokenizer(run.tokenizer, template, folder)
        files.write_json(folder / ABOUT, about(run.settings, template))
        (folder / "README.md").write_text(_card(run, step), "utf-8")
        files.publish(folder, place, {"format": 1, "step": step})
    return place


def _load_best(place: Path, run: Run) -> None:
    wrong = files.faults(place)
    if wrong:
        raise CheckpointError(
            f"save.final: {run.settings.save.final}: the checkpoint that was best can't be used: {place}: {'; '.join(wrong)}. "
            "Train again into another output, with save.final: last if need be"
        )
    checkpoint.load_weights(place, run.objective)


def save_model(model: Any, folder: Path) -> None:
    """Write a model, or an adapter alone, into a folder."""
    options = {} if base_of(model) is model else {"save_embedding_layers": False}
    with no_bars():
        model.save_pretrained(str(folder), safe_serialization=True, **options)


def _card(run: Run, step: int) -> str:
    """A short model card: what it is, what it learned, how to use it."""
    journal = read_journal(run.folder / "metrics.jsonl")
    records = [r["validation"] for r in journal if "validation" in r and r["step"] <= step]
    lines = []
    for name in run.tasks:
        values = [record["tasks"][name]["loss"] for record in records if name in record["tasks"]]
        before_after = (
            " | ".join("–" if v is None else f"{v:.4f}" for v in (values[0], values[-1])) if values else "– | –"
        )
        lines.append(f"| {name} | {before_after} |")
    kind = "LoRA adapter" if run.settings.adapter.kind == "lora" else "model"
    table = "\n".join(lines)
    return f"""---
base_model: {run.settings.model.base}
tags: [weft, multi-task]
---
# {run.folder.name}

A {kind} trained with weft {__version__} on {len(run.tasks)} tasks from `{run.settings.model.base}`: {run.state.step} steps,
of which this is step {step}.

| task | validation loss before | after |
|---|---:|---:|
{table}

Use it: `weft chat {run.folder}`, `weft generate {run.folder} --prompt …`, `weft merge {run.folder} OUT`.
"""


def load_settings_of(run_folder: Path) -> Settings:
    """The resolved settings of a run's folder."""
    import yaml

    return Settings.model_validate(yaml.safe_load((run_folder / "settings.yaml").read_text("utf-8")))
