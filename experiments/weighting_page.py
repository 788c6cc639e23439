"""The page and the picture of weighting.py, made from its results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from common import Curve, Estimate, Runs, differences, estimate, footer, measured, said, table, verdicts

REFERENCE = "token mean"
ADAPTIVE = ("coba", "famo", "dwa", "uncertainty", "gradnorm", "selfpaced")
MEASURES = ("macro", "worst", "rare")


def measure_of(results: Mapping[str, Any], name: str) -> Callable[[Curve], float]:
    """A measure by its name: the mean of the tasks' losses at the end, the largest, that of the rarest task."""
    of: dict[str, Callable[[Curve], float]] = {
        "macro": lambda curve: curve.macro,
        "worst": lambda curve: curve.worst,
        "rare": lambda curve: curve.last[results["rare"]],
    }
    return of[name]


def value(results: Mapping[str, Any], method: str, measure: str) -> Estimate:
    return estimate(measured(results["runs"], method, measure_of(results, measure)))


def against(results: Mapping[str, Any], method: str, reference: str, measure: str = "macro", runs: str = "runs") -> str:
    """A method's paired difference to another, in words."""
    if method not in results[runs]:
        return "not measured"
    return said(differences(results[runs], measure_of(results, measure), reference)[method])


def task_table(tasks: Mapping[str, Any]) -> str:
    rows = [
        [name, f["rows"], f["validation"]]
        + [f"{f[share]:.1%}" for share in ("tokens", "trained", "steps")]
        + [f"{f[times]:.1f}" for times in ("seen", "seen_evenly")]
        for name, f in tasks.items()
    ]
    shares = ["of the tokens", "of the trained tokens", "in so many steps"]
    return table(["task", "rows", "validation rows", *shares, "each row seen", "with even drawing"], rows)


def losses_table(results: Mapping[str, Any], key: str = "runs") -> str:
    """Every method's losses at the end, the lowest macro mean first."""
    runs: Runs = results[key]
    found = {n: [estimate(measured(runs, n, measure_of(results, m))) for m in ("macro", "worst")] for n in runs}
    rows = [
        [name, *found[name]]
        + [estimate(measured(runs, name, lambda curve, task=task: curve.last[task])) for task in results["tasks"]]
        for name in sorted(runs, key=lambda name: found[name][0].mean)
    ]
    return table(["method", "macro mean", "worst task", *results["tasks"]], rows)


def differences_table(results: Mapping[str, Any]) -> str:
    """Every method against the token mean and against the exact task mean."""
    runs: Runs = results["runs"]
    pairs = [(m, reference) for m in MEASURES for reference in (REFERENCE, "task mean")]
    found = {(m, other): differences(runs, measure_of(results, m), other) for m, other in pairs}
    rows = [[name, *(found[pair].get(name, "–") for pair in pairs)] for name in runs]
    return table(["method", *(f"{m} − {reference}" for m, reference in pairs)], rows)


def all_verdicts(results: Mapping[str, Any]) -> str:
    titles = {"macro": "Macro mean", "worst": "Worst task", "rare": f"Rarest task ({results['rare']})"}
    return "\n".join(
        verdicts(differences(results["runs"], measure_of(results, m), reference), f"the {reference}", title)
        for reference in (REFERENCE, "task mean")
        for m, title in titles.items()
    )


def alone(results: Mapping[str, Any]) -> str:
    """The section on models for one task, once there are some."""
    ways = results["alone"]
    if not ways:
        return ""
    of_mixture = [m for m in (REFERENCE, "task mean", "even drawing") if m in results["runs"]]

    def losses(curves: Sequence[Mapping[str, Any]], task: str) -> Estimate:
        return estimate([Curve.of_json(curve).last[task] for curve in curves])

    rows = [
        [task]
        + [losses(results["runs"][m], task) for m in of_mixture]
        + [losses(found[task], task) for found in ways.values()]
        for task in results["tasks"]
    ]
    return f"""## One model for each task

*Own share*: as many steps, with the tokens a step that the task has in the mixture (64 at least, so that its longest sample fits; only
{results["rare"]} has fewer). *Whole budget*: all {results["tokens_per_step"]} tokens of a step for this
task alone, so five times the compute.

{table(["task", *of_mixture, *(f"alone, {way}" for way in ways)], rows)}
"""


def page(results: dict[str, Any]) -> str:
    runs, tasks = results["runs"], results["tasks"]
    pairs = zip(runs["local 1"], runs["sample mean"], strict=True)
    local = max(abs(a["losses"][task][-1] - b["losses"][task][-1]) for a, b in pairs for task in tasks)
    legend = "\n".join(f"- **{name}**: {results['methods'][name]}." for name in runs)
    return f"""# What exact balancing is worth

Five tasks, {len(runs[REFERENCE])} seeds, {results["steps"]} steps of {results["tokens_per_step"]} tokens;
the base model of the quickstart (1.1 M parameters), all weights trained, AdamW at 1e-3 with a cosine. Every method has the same
budget, start and learning rate.
Losses are nats per trained token on validation rows that no method is trained on; the methods that move weights look
at 4 of each task's, as they do in use. Mean ± half a 95 % t-interval over seeds.

{task_table(tasks)}

{legend}

## Losses at the end, the lowest macro mean first

{losses_table(results)}

## Paired differences, seed by seed

Negative is better. "Rare" is {results["rare"]}.

{differences_table(results)}

What the intervals say, each at 95 % by itself; of so many comparisons one in twenty errs:

{all_verdicts(results)}

## Balancing within micro-batches

At micro-batch 1 the task mean is nothing but the sample mean, whatever the weights: the largest difference between "local 1" and "sample
mean" in any task's loss at the end, over all seeds, is {local:.1e}. The more samples a micro-batch has, the closer it comes to the exact
task mean.

{alone(results)}
{large(results)}
{conclusion(results)}

![methods](weighting.png)

{footer("weighting", results["about"])}"""


def large(results: Mapping[str, Any]) -> str:
    """The section on larger steps, once there are some."""
    runs: Runs = results["large"]
    if not runs:
        return ""
    pairs = (("task mean", REFERENCE), ("even drawing", REFERENCE), ("even drawing", "task mean"))
    pairs += (("local 1", "task mean"), ("local 8", "task mean"))
    lines = [
        f"- {m} against {other}: macro mean {against(results, m, other, runs='large')}, "
        f"worst task {against(results, m, other, 'worst', 'large')}, rarest {against(results, m, other, 'rare', 'large')}."
        for m, other in pairs
        if m in runs
    ]
    told = "\n".join(lines)
    return f"""## Larger steps

As many steps of four times as many tokens, so about a hundred samples each: does what is said above hold where no task is absent and
none is there with a sample or two?

{losses_table(results, "large")}

{told}
"""


def conclusion(results: Mapping[str, Any]) -> str:
    """What to make of it, every comparison with its figures."""
    rare, runs = results["rare"], results["runs"]

    def vs(method: str, reference: str, measure: str = "macro") -> str:
        return against(results, method, reference, measure)

    def large_vs(method: str, reference: str, measure: str = "macro") -> str:
        return against(results, method, reference, measure, "large")

    adaptive = "\n".join(f"  - {m}: {vs(m, 'task mean')}." for m in runs if m in ADAPTIVE)
    return f"""## What follows

- **Weighting the loss by task, exactly.** Against the token mean the exact task mean's macro mean is
  {vs("task mean", REFERENCE)}, its worst task {vs("task mean", REFERENCE, "worst")}, the rarest
  {vs("task mean", REFERENCE, "rare")}. What it does to the gradient is exact ([gradient_share](gradient_share.md)), but in small
  steps a rare task's whole weight falls on the one or two samples that are there, or on none: {rare} is in
  {results["tasks"][rare]["steps"]:.0%} of the steps. In steps four times as large the macro mean is {large_vs("task mean", REFERENCE)}.
- **Drawing evenly.** With every task drawn for as many trained tokens the macro mean is {vs("even drawing", REFERENCE)} against
  the token mean, and {vs("even drawing", "task mean")} against the exact task mean. The rows of {rare} are then seen
  {results["tasks"][rare]["seen_evenly"]:.1f} times instead of {results["tasks"][rare]["seen"]:.1f}; a longer run would come to overfit
  them. On resampling against reweighting under stochastic gradients see arXiv 2009.13447. In steps four times
  as large: {large_vs("even drawing", REFERENCE)} and {large_vs("even drawing", "task mean")}.
- **Milder weights in the loss.** By size (the square root of trained tokens): macro mean {vs("by size", REFERENCE)} against the
  token mean, {vs("by size", "task mean")} against the task mean; rarest task {vs("by size", REFERENCE, "rare")} and
  {vs("by size", "task mean", "rare")}.
- **CoBa** on the loss is {vs("coba", "task mean")} against the task mean; on drawing it is
  {vs("coba drawing", "even drawing")} against even drawing.
- **Balancing within micro-batches** of 1, 2 and 8 samples against the exact task mean: macro {vs("local 1", "task mean")},
  {vs("local 2", "task mean")}, {vs("local 8", "task mean")}; rarest task {vs("local 1", "task mean", "rare")},
  {vs("local 2", "task mean", "rare")}, {vs("local 8", "task mean", "rare")}. What is lower there is no merit of balancing: it is the
  sample mean or near it, whatever weights are set. In steps four times as large: macro {large_vs("local 1", "task mean")} for
  micro-batches of 1, {large_vs("local 8", "task mean")} for those of 8; rarest task {large_vs("local 1", "task mean", "rare")} and
  {large_vs("local 8", "task mean", "rare")}.
- The methods that move weights on the loss, macro mean against the exact task mean that they start from:
{adaptive}

What this can't show: one small model, one mixture, a short run, one learning rate for all methods."""


def figure(results: dict[str, Any], place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = sorted(results["runs"], key=lambda name: value(results, name, "macro").mean, reverse=True)
    titles = ("mean of the tasks", "worst task", f"rarest task ({results['rare']})")
    canvas, axes = pyplot.subplots(1, 3, figsize=(11, 4.4), sharey=True)
    for axis, measure, title in zip(axes, MEASURES, titles, strict=True):
        found = [value(results, name, measure) for name in names]
        colours = [
            "tab:red" if n.startswith("local") else "tab:grey" if n.endswith("mean") else "tab:blue" for n in names
        ]
        for place_y, (loss, colour) in enumerate(zip(found, colours, strict=True)):
            axis.errorbar(loss.mean, place_y, xerr=loss.half, fmt="o", color=colour, capsize=3)
        axis.set_title(title)
        axis.set_xlabel("validation loss at the end")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(names)), names)
    canvas.tight_layout()
    canvas.savefig(place, dpi=120)
    pyplot.close(canvas)
