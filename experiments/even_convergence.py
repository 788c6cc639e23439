"""Experiment 3: do an easy, a hard and a tiny task come to their best at the same time? And if not, does freezing help?

    python experiments/even_convergence.py

An easy task (extract), a slower one (sql) and a tiny one of about a dozen rows that is seen again and again (signed). Part of its answers
is drawn at random, as in real data something always can't be known: so it overfits.
Every method has the same samples in the same steps, but for those that freeze: a frozen task's rows are not spent, so the others
have more. Measured: the step at which each task's validation loss is lowest, how far it rises afterwards, and the macro mean.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import (
    Curve,
    Estimate,
    Options,
    Runs,
    about,
    differences,
    estimate,
    footer,
    kept_curve,
    measured,
    paired,
    parse_options,
    publish,
    run_settings,
    said,
    table,
    verdicts,
    write_tasks,
)

VALIDATION = 40
SIZES = {"extract": 200, "sql": 200, "signed": 12}
EPOCHS = {"extract": 2, "sql": 2, "signed": 40}
TINY = "signed"
NUM_STEPS = 60
VALIDATE_EVERY = 5
PATIENCE = 2
REFERENCE = "task mean"


def balanced(name: str) -> dict[str, Any]:
    return {"balance": {"method": name, "every": 2, "rows": 4}}


FREEZES = {"validate": {"every": VALIDATE_EVERY, "freeze_after": PATIENCE}}
METHODS: dict[str, dict[str, Any]] = {
    "token mean": {"loss": {"weighting": "token"}},
    "task mean": {},
    "freezing task mean": FREEZES,
    "coba": balanced("coba"),
    "freezing coba": {**balanced("coba"), **FREEZES},
    "selfpaced": balanced("selfpaced"),
    "famo": balanced("famo"),
    "dwa": balanced("dwa"),
}


def run(options: Options, name: str, seed: int) -> dict[str, Any]:
    """A method's curve."""
    paths = write_tasks(options.work / "tasks", {task: rows + VALIDATION for task, rows in SIZES.items()}, "even")
    tasks = {task: {"path": path, "epochs": EPOCHS[task]} for task, path in paths.items()}
    sections = {
        "data": {"validation": VALIDATION},
        "loss": {"weighting": "task"},
        "validate": {"every": VALIDATE_EVERY},
        **METHODS[name],
    }
    settings = run_settings(
        tasks,
        options.work / "even_convergence" / f"{name.replace(' ', '-')}-{seed}",
        seed,
        mixture={"epochs": 2, "max_steps": 2 if options.quick else NUM_STEPS},
        batch={"tokens_per_step": 1024},
        **sections,
    )
    return {**kept_curve(settings), "frozen": frozen_at(settings.output / "balance.jsonl")}


def frozen_at(record: Path) -> dict[str, int]:
    """The step at which each frozen task was frozen, as the run's record tells."""
    lines = [json.loads(line) for line in record.read_text("utf-8").splitlines()]
    return {task: line["step"] for line in lines for task in line.get("frozen", {})}


# ---------------------------------------------------------------- the page


def spread(curve: Curve) -> float:
    """Steps between the first and the last task's best."""
    return float(max(curve.best_step.values()) - min(curve.best_step.values()))


def rise(curve: Curve) -> float:
    """How far the tiny task's loss is above its lowest at the end."""
    return curve.last[TINY] - curve.best[TINY]


def own_bests(curve: Curve) -> float:
    """The macro mean if each task had its own best checkpoint: no single checkpoint can be better."""
    return sum(curve.best.values()) / len(curve.best)


MEASURES: dict[str, Callable[[Curve], float]] = {
    "spread": spread,
    "rise": rise,
    "macro": lambda curve: curve.macro,
    "best macro": lambda curve: curve.best_macro,
}


def shown(measure: str, found: Estimate) -> str:
    """Steps with one decimal, losses with three."""
    if measure != "spread":
        return str(found)
    return f"{found.mean:.1f}" + (f" ± {found.half:.1f}" if found.half is not None else "")


def outcome_table(runs: Runs) -> str:
    more = {**MEASURES, TINY: lambda curve: curve.last[TINY], "own bests": own_bests}
    rows = [[name, *(shown(m, estimate(measured(runs, name, more[m]))) for m in more)] for name in runs]
    heads = ["spread, steps", f"rise of {TINY}", "macro at the end", "best macro", f"{TINY} at the end", "own bests"]
    return table(["method", *heads], rows)


def steps_table(runs: Runs) -> str:
    def at(name: str, task: str) -> str:
        return shown("spread", estimate(measured(runs, name, lambda curve: float(curve.best_step[task]))))

    tasks = Curve.of_json(runs[REFERENCE][0]).losses
    return table(["method", *tasks], [[name, *(at(name, task) for task in tasks)] for name in runs])


def frozen_list(runs: Runs) -> str:
    """Which tasks were frozen, and at which step of each seed's run."""
    lines = []
    for name in runs:
        steps: dict[str, list[int]] = {}
        for curve in runs[name]:
            for task, step in curve["frozen"].items():
                steps.setdefault(task, []).append(step)
        told = "; ".join(f"{task} after step {', '.join(map(str, at))}" for task, at in steps.items())
        lines += [f"- {name} froze {told}."] if told else []
    return "\n".join(lines)


def page(results: dict[str, Any]) -> str:
    runs = results["runs"]
    found = {m: differences(runs, MEASURES[m], REFERENCE) for m in MEASURES}
    rows = [[name, *(shown(m, found[m][name]) for m in MEASURES)] for name in found["macro"]]
    gain = {m: paired(measured(runs, m, MEASURES["best macro"]), measured(runs, m, MEASURES["macro"])) for m in runs}
    says = ", ".join(f"{task} {rows} rows" for task, rows in SIZES.items())
    return f"""# Even convergence: an easy, a hard and a tiny task

{says}; about {VALIDATION} validation rows each; {len(runs[REFERENCE])} seeds, {NUM_STEPS} steps of 1024 tokens, AdamW at 1e-3 with a
cosine, validated every {VALIDATE_EVERY} steps. The tiny task, seen about {EPOCHS[TINY]} times over, is translations that end in a name
drawn at random, so that there is something to overfit to. *Freezing*: a task stops when {PATIENCE}
validations in a row brought nothing better (`validate.freeze_after: {PATIENCE}`).
Mean ± half a 95 % t-interval over seeds; losses are nats per trained token.

## What came out

Spread: steps between the first and the last task's best. Rise: how far {TINY} is above its lowest at the end. Best macro: the lowest
macro mean of any single checkpoint, which is what `save.final: best_macro` keeps. Own bests: the mean of each task's lowest, each from
a checkpoint of its own (`save.best_of_tasks`).

{outcome_table(runs)}

The step of each task's lowest loss:

{steps_table(runs)}

{frozen_list(runs)}

## Paired differences to the exact task mean, seed by seed

{table(["method", "spread", "rise", "macro at the end", "best macro"], rows)}

{verdicts(found["spread"], "the task mean", "Spread (smaller is better)")}
{verdicts(found["rise"], "the task mean", f"Rise of {TINY}")}
{verdicts(found["macro"], "the task mean", "Macro mean at the end")}
{verdicts(found["best macro"], "the task mean", "Best macro mean")}

## Keeping the best checkpoint

What `save.final: best_macro` changes in the macro mean, against the last step:

{table(["method", "best macro − macro at the end"], [[name, gain[name]] for name in runs])}

{conclusion(runs)}

![curves](even_convergence.png)

{footer("even_convergence", results["about"])}"""


def conclusion(runs: Runs) -> str:
    """What the figures say of the balancing methods' promise, and of freezing."""
    base = estimate(measured(runs, REFERENCE, spread)).mean
    narrower = [m for m, d in differences(runs, spread, REFERENCE).items() if d.sign < 0]
    shown_of = f"shown of {', '.join(narrower)}" if narrower else "not shown of any method here"
    frozen = []
    for without in ("task mean", "coba"):
        name = f"freezing {without}"
        if name in runs:
            found = {
                m: differences({k: runs[k] for k in (name, without)}, MEASURES[m], without)[name] for m in MEASURES
            }
            words = f"rise {said(found['rise'])}, macro at the end {said(found['macro'])}"
            frozen.append(f"  - {name} against {without}: {words}.")
    ends, one, own = (measured(runs, REFERENCE, m) for m in (MEASURES["macro"], MEASURES["best macro"], own_bests))
    lines = "\n".join(frozen)
    return f"""## What follows

- That a balancing method makes tasks converge together (a spread smaller than the task mean's {base:.1f} steps) is {shown_of}.
- Freezing, with a patience of {PATIENCE} validations. A frozen task is spared further overfitting, but it is also no longer held in
  place while the others go on moving the weights that it shares with them:
{lines}
- Keeping checkpoints, with the task mean: the best single one (`save.final: best_macro`) is {said(paired(one, ends))} in macro mean
  against the last step; each task's own best (`save.best_of_tasks`) is {said(paired(own, ends))}. Both are measured on the rows
  that chose them, which flatters them a little."""


def figure(results: dict[str, Any], place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    names = list(results["runs"])
    width = (len(names) + 1) // 2
    canvas, axes = pyplot.subplots(2, width, figsize=(3 * width, 5.4), sharex=True, sharey=True, squeeze=False)
    for axis, name in zip(axes.flat, names, strict=False):
        curves = [Curve.of_json(curve) for curve in results["runs"][name]]
        for number, task in enumerate(curves[0].losses):
            for i, curve in enumerate(curves):
                label = task if i == 0 else None
                axis.plot(curve.steps[1:], curve.losses[task][1:], color=f"C{number}", linewidth=1, label=label)
                best = curve.best_step[task]
                axis.plot(best, curve.losses[task][curve.steps.index(best)], "o", color=f"C{number}", markersize=4)
        axis.set_title(name, fontsize=9)
        axis.set_yscale("log")
    axes[0, 0].legend(fontsize=7)
    canvas.supxlabel("step (a dot: the lowest)", fontsize=9)
    canvas.supylabel("validation loss, every seed", fontsize=9)
    canvas.tight_layout()
    canvas.savefig(place, dpi=110)
    pyplot.close(canvas)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(__doc__, arguments)
    results: dict[str, Any] = {"about": about(), "runs": {}}
    for seed in range(1, options.seeds + 1):
        for name in METHODS:
            results["runs"].setdefault(name, []).append(run(options, name, seed))
    publish(options, "even_convergence", results, page, figure)


if __name__ == "__main__":
    main()
