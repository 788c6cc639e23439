"""What all experiments share: tasks of our own making, runs that are kept, statistics over seeds, and the page made from results.

An experiment is one command. Its runs lie in a work folder; a second start finds the finished ones and goes on with the rest.
Its figures are written as JSON first, and the page is made from that, so text and figures can't drift apart.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import importlib.metadata
import json
import math
import os
import platform
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

import weft
from weft.data.plan import PLAN_VERSION

ROOT = Path(__file__).resolve().parents[1]
QUICKSTART = ROOT / "examples" / "quickstart"
BASE = QUICKSTART / "base"
NUM_VALIDATION = 60
PACKAGES = ("weft", "torch", "transformers", "numpy")


@dataclass(frozen=True)
class Options:
    """An experiment's command line."""

    seeds: int
    out: Path
    work: Path
    quick: bool


def parse_options(description: str | None, arguments: Sequence[str] | None, default_seeds: int = 3) -> Options:
    """The words that every experiment knows."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=default_seeds, help=f"repeats (default: {default_seeds})")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "experiments", help="where page and figures go")
    parser.add_argument("--work", type=Path, default=ROOT / ".experiments", help="where runs are kept")
    parser.add_argument("--quick", action="store_true", help="two steps of everything: does it run? Never for figures")
    args = parser.parse_args(arguments)
    if args.seeds < 1:
        parser.error("--seeds is at least 1")
    work = args.work / "quick" if args.quick else args.work
    return Options(args.seeds, args.out, work, args.quick)


# ---------------------------------------------------------------- tasks


def write_tasks(folder: Path, sizes: Mapping[str, int], name: str = "rows") -> dict[str, str]:
    """One JSONL file a task, with all prompts different; gives each task's path. The same sizes give the same bytes.

    Tasks are those of the quickstart (sql, translate, tests, extract, chat), drawn with a seed of their own, and `signed`:
    translations that end in a name drawn at random, of which nothing but the names of the rows it has seen can be learned.
    """
    if str(QUICKSTART) not in sys.path:
        sys.path.append(str(QUICKSTART))
    import make_data
    import world

    def signed(rng: Random) -> list[tuple[str, str]]:
        question, (role, answer) = make_data.translate(rng)
        return [question, (role, f"{answer} {rng.choice(world.NAMES)}")]

    draws = {"signed": signed, **{task: draw for task, (draw, _) in make_data.TASKS.items()}}

    paths = {}
    for task, size in sizes.items():
        rng = Random(f"experiments {task}")
        rows: dict[str, str] = {}
        while len(rows) < size:
            conversation = draws[task](rng)
            prompt = json.dumps(conversation[:-1])
            rows.setdefault(prompt, json.dumps(make_data.as_messages(conversation), ensure_ascii=False))
        text = "".join(row + "\n" for row in rows.values())
        path = folder / f"{name}-{size}" / f"{task}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_text("utf-8") != text:
            raise ValueError(
                f"{path}: the rows are drawn otherwise now than for the runs that are kept; delete {folder.parent}"
            )
        path.write_text(text, "utf-8")
        paths[task] = str(path)
    return paths


def run_settings(tasks: Mapping[str, Any], output: Path, seed: int, **sections: Mapping[str, Any]) -> weft.Settings:
    """Settings of a run on the quickstart's base model, all weights trained; `sections` are laid over them.

    `output` gets the settings' fingerprint: a run that is kept is never taken for another one.
    """
    values: dict[str, Any] = {
        "model": {"base": str(BASE)},
        "adapter": {"kind": "none"},
        "tasks": dict(tasks),
        "data": {"max_tokens": 256, "validation": NUM_VALIDATION, "cache": str(output.parent / ".weft-cache")},
        "batch": {"tokens_per_step": 2048},
        "optimizer": {"lr": 1e-3, "schedule": "cosine", "warmup": 0.05},
        "save": {"every": 10**6, "keep": 1},  # besides, a run is saved wherever its validation loss is the best so far
        "engine": {"device": "cpu", "threads": 1},
        "seed": seed,
    }
    for name, section in sections.items():
        values[name] = {**values.get(name, {}), **section}
    return weft.settings({**values, "output": f"{output}-{fingerprint([PLAN_VERSION, values])}"})


def fingerprint(value: object) -> str:
    """A few digits that stand for a value with a JSON form."""
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode(), digest_size=4).hexdigest()


# ---------------------------------------------------------------- runs


@dataclass(frozen=True)
class Curve:
    """A run's validation losses: at step `steps[i]` task k's was `losses[k][i]`. The first is before any training."""

    steps: tuple[int, ...]
    losses: Mapping[str, tuple[float, ...]]

    @cached_property
    def loss_KN(self) -> np.ndarray:
        """All losses, without the one before training: tasks by validations."""
        return np.array([self.losses[task][1:] for task in self.losses])

    @property
    def last(self) -> dict[str, float]:
        """Each task's loss at the end."""
        return {task: losses[-1] for task, losses in self.losses.items()}

    @property
    def best(self) -> dict[str, float]:
        """Each task's lowest loss, each at its own step."""
        return {task: min(losses[1:]) for task, losses in self.losses.items()}

    @property
    def best_step(self) -> dict[str, int]:
        """The step of each task's lowest loss."""
        return {task: self.steps[1 + int(np.argmin(losses[1:]))] for task, losses in self.losses.items()}

    @property
    def macro(self) -> float:
        """The mean of the tasks' losses at the end."""
        return float(self.loss_KN[:, -1].mean())

    @property
    def best_macro(self) -> float:
        """The lowest mean of the tasks' losses: that of one checkpoint for all tasks."""
        return float(self.loss_KN.mean(axis=0).min())

    @property
    def worst(self) -> float:
        """The largest of the tasks' losses at the end."""
        return float(self.loss_KN[:, -1].max())

    def as_json(self) -> dict[str, Any]:
        """As a result's file holds it."""
        return {"steps": list(self.steps), "losses": {task: list(losses) for task, losses in self.losses.items()}}

    @classmethod
    def of_json(cls, value: Mapping[str, Any]) -> Curve:
        return cls(tuple(value["steps"]), {task: tuple(losses) for task, losses in value["losses"].items()})


def read_curve(metrics: Path) -> Curve:
    """The curve that a run's metrics.jsonl tells. Raises ValueError where a loss is missing."""
    records = [json.loads(line) for line in metrics.read_text("utf-8").splitlines()]
    found = [(r["step"], r["validation"]["tasks"]) for r in records if "validation" in r]
    losses = {task: tuple(at[task]["loss"] for _, at in found) for task in found[0][1]}
    if any(loss is None or not math.isfinite(loss) for values in losses.values() for loss in values):
        raise ValueError(f"{metrics}: a validation loss is not finite")
    return Curve(tuple(step for step, _ in found), losses)


def trained_curve(settings: weft.Settings) -> Curve:
    """Train (or go on, or find it done) and read the curve. A finished run's checkpoints are of no more use and are removed."""
    result = weft.train(settings)
    shutil.rmtree(result.folder / "checkpoints", ignore_errors=True)
    return read_curve(result.folder / "metrics.jsonl")


def kept_curve(settings: weft.Settings, make: Callable[[weft.Settings], Curve] = trained_curve) -> dict[str, Any]:
    """The run's curve as JSON; trained where it isn't there yet. Tells how it came out."""
    curve: dict[str, Any] = kept(
        settings.output.with_name(settings.output.name + ".json"), lambda: make(settings).as_json()
    )
    read = Curve.of_json(curve)
    say(f"{settings.output.name:40} macro {read.macro:.4f}  worst {read.worst:.4f}")
    return curve


def say(text: str) -> None:
    """Progress, at once."""
    print(text, flush=True)


# ---------------------------------------------------------------- statistics

_T975 = (12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281)


def t_quantile(degrees: int) -> float:
    """The 0.975 quantile of Student's t, to four places: a table, then Cornish and Fisher's series."""
    if degrees <= len(_T975):
        return _T975[degrees - 1]
    z = 1.959963985
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / degrees ** (i + 1) for i, term in enumerate(terms))


@dataclass(frozen=True)
class Estimate:
    """A mean and the half-width of its 95 % t-interval; `half` is None for a single value, which has no interval."""

    mean: float
    half: float | None
    num: int

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + (f" ± {self.half:.3f}" if self.half is not None else "")

    @property
    def sign(self) -> int:
        """-1 or 1 where the whole interval lies below or above 0; else 0."""
        if self.half is None or abs(self.mean) <= self.half:
            return 0
        return 1 if self.mean > 0 else -1


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and interval over seeds."""
    mean = math.fsum(values) / len(values)
    if len(values) < 2:
        return Estimate(mean, None, 1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)
    return Estimate(mean, t_quantile(len(values) - 1) * math.sqrt(variance / len(values)), len(values))


def paired(values: Sequence[float], reference: Sequence[float]) -> Estimate:
    """Mean and interval of the differences, seed by seed: what the seeds share falls out."""
    return estimate([value - other for value, other in zip(values, reference, strict=True)])


Runs = Mapping[str, Sequence[Mapping[str, Any]]]
"""Each method's curves as JSON, one a seed."""


def measured(runs: Runs, method: str, measure: Callable[[Curve], float]) -> list[float]:
    """A measure of a method's curves, seed by seed."""
    return [measure(Curve.of_json(curve)) for curve in runs[method]]


def differences(runs: Runs, measure: Callable[[Curve], float], reference: str) -> dict[str, Estimate]:
    """Every other method's paired difference to the reference."""
    base = measured(runs, reference, measure)
    return {method: paired(measured(runs, method, measure), base) for method in runs if method != reference}


# ---------------------------------------------------------------- pages


def about() -> dict[str, Any]:
    """When, on what and with what."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "hardware": f"one thread of {os.cpu_count()} x {names[0] if names else platform.processor()}, {platform.machine()}",
        "versions": {"python": platform.python_version(), **{n: importlib.metadata.version(n) for n in PACKAGES}},
    }


def table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, aligned so that it reads well as plain text too."""
    cells = [[str(cell) for cell in row] for row in (headings, *rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headings))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in cells
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def verdicts(differences: Mapping[str, Estimate], reference: str, measure: str) -> str:
    """Who is better, who worse, and who can't be told apart, in one line each. Lower is better."""
    kinds = {
        -1: f"better than {reference}",
        1: f"worse than {reference}",
        0: f"not to be told apart from {reference}",
    }
    found = {sign: [name for name, difference in differences.items() if difference.sign == sign] for sign in kinds}
    lines = [f"- {measure}, {text}: {', '.join(found[sign]) or 'none'}." for sign, text in kinds.items()]
    return "\n".join(lines)


def said(found: Estimate) -> str:
    """A difference of losses in words."""
    word = {-1: "lower", 0: "not to be told apart", 1: "higher"}[found.sign]
    return f"{word} ({found.mean:+.3f}" + (f" ± {found.half:.3f})" if found.half is not None else ")")


def footer(script: str, facts: Mapping[str, Any]) -> str:
    """Where the figures come from."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    return (
        f"---\nMade by `python experiments/{script}.py` on {facts['date'][:10]}, {facts['hardware']}; {versions}. "
        f"Every figure is in [{script}.json]({script}.json); this page is made from it.\n"
    )


def publish(
    options: Options,
    name: str,
    results: dict[str, Any],
    page: Callable[[dict[str, Any]], str],
    figure: Callable[[dict[str, Any], Path], None],
) -> None:
    """Write NAME.json, then NAME.md and NAME.png from what was written."""
    options.out.mkdir(parents=True, exist_ok=True)
    place = options.out / f"{name}.json"
    place.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")
    read = json.loads(place.read_text("utf-8"))
    text = page(read)
    (options.out / f"{name}.md").write_text(text, "utf-8")
    figure(read, options.out / f"{name}.png")
    say(text)


def kept(place: Path, make: Callable[[], Any]) -> Any:
    """The JSON value in a file; made, and written in one piece, where it isn't there yet."""
    if not place.is_file():
        value = make()
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = place.with_name(place.name + ".part")
        temporary.write_text(json.dumps(value), "utf-8")
        temporary.replace(place)
    return json.loads(place.read_text("utf-8"))
