"""The picture of `weft compare`: the runs' losses side by side, transfer, and who pulls against whom; only what there is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from weft.report.side_by_side import Comparison
from weft.report.transfer import Floats, TransferReport

_HELPED, _HURT, _UNKNOWN = "#2a7f62", "#b3442e", "#9a9a9a"
_MOST_NUMBERS = 14
"""A larger matrix is drawn without a number in each cell."""


def draw(comparison: Comparison, report: TransferReport | None, file: Path) -> list[str]:
    """Draw a PNG with a panel for everything that is known, and give the panels' names; without any, no file is written."""
    panels: list[tuple[str, Callable[[Any], None]]] = []
    if len(comparison.columns) > 1 and any(np.isfinite(_changes(comparison)).ravel()):
        panels.append(("best validation losses beside the first run's", lambda axis: _runs(axis, comparison)))
    if report and any(np.isfinite(task.value) for task in report.tasks):
        panels.append(("transfer from training together", lambda axis: _transfer(axis, report)))
    if report and report.effect_KK is not None:
        effects, names = 100 * report.effect_KK, report.names
        panels.append(
            (
                "what each task does to the others",
                lambda axis: _matrix(
                    axis, effects, names, "{:+.1f}", ("on this task's loss, in %", "what this task does")
                ),
            )
        )
    if report and report.gradients:
        found = report.gradients
        panels.append(
            (
                "interference",
                lambda axis: _matrix(
                    axis, found.cosine_KK, found.tasks, "{:+.2f}", ("mean cosine of the gradients", "")
                ),
            )
        )
    if panels:
        _save(panels, file, max(len(comparison.tasks), 6))
    return [name for name, _ in panels]


def _save(panels: Sequence[tuple[str, Callable[[Any], None]]], file: Path, num_tasks: int) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    size = (6.4 * len(panels), min(30.0, max(4.2, 0.36 * num_tasks + 1.4)))
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False)
    for axis, (name, paint) in zip(axes[0], panels, strict=True):
        paint(axis)
        axis.set_title(name[0].upper() + name[1:], loc="left", fontsize=11)
    temporary = file.with_name(file.name + ".part")
    figure.savefig(temporary, dpi=110, format="png")
    plt.close(figure)
    temporary.replace(file)


def _changes(comparison: Comparison) -> Floats:
    """Each run's best loss less the first's, in per cent of it: tasks × the other runs."""
    first = comparison.columns[0]

    def change(task: str, column: Any) -> float:
        cell, own = column.cells.get(task), first.cells.get(task)
        return 100 * cell.change / own.best.loss if cell and own and own.best and own.best.loss > 0 else np.nan

    return np.array([[change(task, column) for column in comparison.columns[1:]] for task in comparison.tasks])


def _runs(axis: Any, comparison: Comparison) -> None:
    change_KR = _changes(comparison)
    places = np.arange(len(comparison.tasks))
    num = change_KR.shape[1]
    for r, column in enumerate(comparison.columns[1:]):
        axis.barh(places + (r - (num - 1) / 2) * 0.8 / num, change_KR[:, r], 0.8 / num, label=column.name)
    _bars(axis, comparison.tasks, f"% of {comparison.columns[0].name}'s best loss; left is better")
    if num <= 12:
        axis.legend(frameon=False, fontsize=8)


def _transfer(axis: Any, report: TransferReport) -> None:
    values = np.array([100 * task.value for task in report.tasks])
    colours = [_UNKNOWN if not np.isfinite(v) else _HELPED if v > 0 else _HURT for v in values]
    axis.barh(np.arange(len(values)), np.nan_to_num(values), 0.7, color=colours)
    for place, value in enumerate(values):
        known = np.isfinite(value)
        axis.annotate(
            f"{value:+.1f}" if known else "not known",
            (value if known else 0.0, place),
            xytext=(3 if not known or value >= 0 else -3, 0),
            textcoords="offset points",
            va="center",
            ha="left" if not known or value >= 0 else "right",
            fontsize=8,
        )
    axis.margins(x=0.18)
    _bars(axis, report.names, "% of the single-task run's best loss; right is helped")


def _bars(axis: Any, names: Sequence[str], label: str) -> None:
    axis.set_yticks(np.arange(len(names)), names, fontsize=8 if len(names) > 12 else 9)
    axis.invert_yaxis()
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel(label)
    axis.grid(alpha=0.25, axis="x")
    axis.spines[["top", "right", "left"]].set_visible(False)


def _matrix(axis: Any, value_KK: Floats, names: Sequence[str], form: str, labels: tuple[str, str]) -> None:
    """Red hurts, green helps; the diagonal says nothing."""
    shown_KK = value_KK.copy()
    np.fill_diagonal(shown_KK, np.nan)
    known = shown_KK[np.isfinite(shown_KK)]
    limit = float(np.abs(known).max()) if len(known) else 1.0
    image = axis.imshow(shown_KK, cmap="RdYlGn", vmin=-(limit or 1.0), vmax=limit or 1.0)
    axis.figure.colorbar(image, ax=axis, shrink=0.8)
    size = 8 if len(names) > 12 else 9
    axis.set_xticks(np.arange(len(names)), names, rotation=45, ha="right", fontsize=size)
    axis.set_yticks(np.arange(len(names)), names, fontsize=size)
    axis.set_xlabel(labels[0])
    axis.set_ylabel(labels[1])
    if len(names) <= _MOST_NUMBERS:
        for (i, j), value in np.ndenumerate(shown_KK):
            if np.isfinite(value):
                colour = "white" if abs(value) > 0.75 * limit else "black"
                axis.text(j, i, form.format(value), ha="center", va="center", fontsize=8, color=colour)
