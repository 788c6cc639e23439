"""A picture of a run: each task's training and validation loss, and its share of the gradient, by step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def draw_curves(records: Sequence[dict[str, Any]], file: Path) -> None:
    """Draw metrics.jsonl's records into a PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    steps = [r for r in records if "tasks" in r]
    validations = [r for r in records if "validation" in r]
    tasks = list(dict.fromkeys(name for r in steps for name in r["tasks"]))
    tasks += [n for r in validations for n in r["validation"]["tasks"] if n not in tasks]
    tasks = list(dict.fromkeys(tasks))
    figure, axes = plt.subplots(1, 3, figsize=(15, 4.2), layout="constrained")
    colours = plt.get_cmap("tab10" if len(tasks) <= 10 else "turbo")
    for k, name in enumerate(tasks):
        colour = colours(k if len(tasks) <= 10 else k / len(tasks))
        train = [(r["step"], r["tasks"][name]["loss"]) for r in steps if name in r["tasks"]]
        share = [(r["step"], r["tasks"][name]["share"]) for r in steps if name in r["tasks"]]
        held_out = [(r["step"], v["loss"]) for r in validations if (v := r["validation"]["tasks"].get(name))]
        for axis, points, marker in ((axes[0], train, ""), (axes[1], held_out, "o"), (axes[2], share, "")):
            xs, ys = [x for x, y in points if y is not None], [y for _, y in points if y is not None]
            axis.plot(xs, ys, color=colour, label=name, linewidth=1.4, marker=marker, markersize=3)
    for axis, title, unit in (
        (axes[0], "Training loss", "nll per trained token"),
        (axes[1], "Validation loss", "nll per trained token"),
        (axes[2], "Share of the loss", "Σ of the task's coefficients"),
    ):
        axis.set_title(title)
        axis.set_xlabel("optimizer step")
        axis.set_ylabel(unit)
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    axes[2].set_ylim(0, 1)
    if 0 < len(tasks) <= 20:
        axes[1].legend(frameon=False, fontsize=8)
    temporary = file.with_name(file.name + ".part")
    figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
    temporary.replace(file)
