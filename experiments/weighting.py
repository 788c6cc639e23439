"""Experiment 1: what exact balancing is worth. Five tasks, ten to one in rows, an equal budget of tokens for every method.

    python experiments/weighting.py

A run is a few dozen steps of 2048 tokens on the quickstart's base model, all weights trained. Every method has the same number of
steps and of tokens in each, the same start, the same learning rate and, but for those that draw otherwise, the same samples in the
same order. The rarest task has the shortest answers: about 2 % of the trained tokens. Lower losses are better everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from common import (
    Options,
    about,
    kept_curve,
    parse_options,
    publish,
    read_curve,
    run_settings,
    write_tasks,
)
from local_case3 import train_local
from weighting_page import REFERENCE, figure, page

import weft
from weft.data.plan import make_plan
from weft.data.prepare import prepare

VALIDATION = 40
SIZES = {"extract": 800, "chat": 400, "sql": 240, "tests": 140, "translate": 80}
RARE = "translate"
NUM_STEPS = 40
VALIDATE_EVERY = 20
TOKENS_PER_STEP = 2048
LARGE = 4
"""How many times as many tokens a step the larger steps have."""
IN_LARGE = ("token mean", "task mean", "even drawing", "local 1", "local 8")


@dataclass(frozen=True)
class Method:
    """How the tasks are balanced: settings, or the micro-batch of the local comparison."""

    says: str
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    local: int = 0


def balanced(name: str, **looks: int) -> dict[str, Any]:
    return {"loss": {"weighting": "task"}, "balance": {"method": name, **looks}}


LOOKS = {"every": 2, "rows": 4}


DRAWN = {"by": "trained_tokens", "weights": dict.fromkeys(SIZES, 1.0)}
EVENLY: dict[str, Any] = {"loss": {"weighting": "token"}, "mixture": DRAWN}
METHODS: dict[str, Method] = {
    "token mean": Method("every trained token counts the same", {"loss": {"weighting": "token"}}),
    "sample mean": Method("every sample counts the same", {"loss": {"weighting": "sample"}}),
    "task mean": Method("every task counts the same, over the whole step", {"loss": {"weighting": "task"}}),
    "even drawing": Method("every task is drawn for as many trained tokens; token mean", EVENLY),
    "by size": Method("task mean, weights the square root of the tasks' trained tokens", balanced("by_size")),
    "coba": Method("CoBa on the loss", balanced("coba", **LOOKS)),
    "coba drawing": Method(
        "CoBa on how often a task is drawn; token mean",
        {
            "loss": {"weighting": "token"},
            "mixture": DRAWN,
            "balance": {"method": "coba", "act_on": "sampling", **LOOKS},
        },
    ),
    "famo": Method("FAMO on the loss", balanced("famo", **LOOKS)),
    "dwa": Method("dynamic weight average on the loss", balanced("dwa", **LOOKS)),
    "uncertainty": Method("uncertainty weighting on the loss", balanced("uncertainty")),
    "gradnorm": Method("GradNorm on the loss", balanced("gradnorm", **LOOKS)),
    "selfpaced": Method("MFTCoder's self-paced weights on the loss", balanced("selfpaced", **LOOKS)),
    "local 1": Method("task mean within micro-batches of 1 sample", local=1),
    "local 2": Method("task mean within micro-batches of 2 samples", local=2),
    "local 8": Method("task mean within micro-batches of 8 samples", local=8),
}
PLAIN = (
    "token mean",
    "task mean",
    "even drawing",
    "coba",
    "coba drawing",
    "sample mean",
    "local 1",
    "local 2",
    "local 8",
)
"""What is run first: without these there is nothing to compare."""


def num_steps(options: Options) -> int:
    return 2 if options.quick else NUM_STEPS


def task_files(options: Options) -> dict[str, str]:
    return write_tasks(options.work / "tasks", {name: rows + VALIDATION for name, rows in SIZES.items()}, "weighting")


def settings_of(options: Options, name: str, seed: int, sections: Mapping[str, Mapping[str, Any]]) -> weft.Settings:
    """A run's settings: those of all, and a method's own."""
    mixture = {"epochs": 4, "max_steps": num_steps(options), **sections.get("mixture", {})}
    shared = {"data": {"validation": VALIDATION}, "validate": {"every": VALIDATE_EVERY}}
    output = options.work / "weighting" / f"{name.replace(' ', '-')}-{seed}"
    return run_settings(task_files(options), output, seed, **{**shared, **sections, "mixture": mixture})


def run(options: Options, name: str, seed: int, large: bool = False) -> dict[str, Any]:
    """A method's curve; `large`: in as many steps of LARGE times as many tokens."""
    method = METHODS[name]
    sections = {**method.sections, "batch": {"tokens_per_step": TOKENS_PER_STEP * (LARGE if large else 1)}}
    settings = settings_of(options, f"large {name}" if large else name, seed, sections)
    if method.local:
        return kept_curve(settings, lambda settings: read_curve(train_local(settings, method.local)))
    return kept_curve(settings)


def run_alone(options: Options, task: str, seed: int, tokens_per_step: int) -> dict[str, Any]:
    """The curve of a model for one task, in as many steps."""
    settings = run_settings(
        {task: task_files(options)[task]},
        options.work / "weighting" / f"alone-{task}-{seed}",
        seed,
        data={"validation": VALIDATION, "max_tokens": min(256, tokens_per_step)},
        validate={"every": VALIDATE_EVERY},
        mixture={"epochs": 100, "max_steps": num_steps(options)},
        batch={"tokens_per_step": tokens_per_step},
    )
    return kept_curve(settings)


def token_shares(options: Options) -> dict[str, dict[str, float]]:
    """What each task is in the mixture: rows, shares of tokens, in how many steps it is, how often a row is seen."""
    settings = settings_of(options, REFERENCE, 1, {})
    prepared = prepare(settings)
    plan = make_plan(settings, prepared)
    samples = {s.task: s.split("train", VALIDATION, 0.0) for s in prepared.stores}
    tokens = {s.task: int(s.length_S[samples[s.task]].sum()) for s in prepared.stores}
    trained = {s.task: float(s.trained_S[samples[s.task]].sum()) for s in prepared.stores}
    present_K = plan.steps_with_task_K / plan.num_steps
    evenly = make_plan(settings_of(options, "even drawing", 1, EVENLY), prepared)
    return {
        s.task: {
            "rows": len(samples[s.task]),
            "validation": len(s.split("validation", VALIDATION, 0.0)),
            "tokens": tokens[s.task] / sum(tokens.values()),
            "trained": trained[s.task] / sum(trained.values()),
            "steps": float(present_K[k]),
            "seen": float(plan.times_seen[k].mean()),
            "seen_evenly": float(evenly.times_seen[k].mean()),
        }
        for k, s in enumerate(prepared.stores)
    }


def measure(options: Options) -> Iterator[dict[str, Any]]:
    """All runs, the plain methods first; gives what is there after each group of them."""
    seeds = range(1, options.seeds + 1)
    results: dict[str, Any] = {
        "about": about(),
        "rare": RARE,
        "steps": num_steps(options),
        "tokens_per_step": TOKENS_PER_STEP,
        "methods": {name: method.says for name, method in METHODS.items()},
        "tasks": token_shares(options),
        "runs": {},
        "alone": {},
        "large": {},
    }
    for group in (PLAIN, tuple(name for name in METHODS if name not in PLAIN)):
        for seed in seeds:
            for name in group:
                results["runs"].setdefault(name, []).append(run(options, name, seed))
        yield results
    for way in ("own share",) if options.quick else ("own share", "whole budget"):
        results["alone"][way] = {}
        for task, facts in results["tasks"].items():
            share = 1.0 if way == "whole budget" else facts["tokens"]
            tokens = max(64, round(TOKENS_PER_STEP * share))
            results["alone"][way][task] = [run_alone(options, task, seed, tokens) for seed in seeds]
    yield results
    for seed in seeds:
        for name in () if options.quick else IN_LARGE:
            results["large"].setdefault(name, []).append(run(options, name, seed, large=True))
    yield results


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(__doc__, arguments)
    for results in measure(options):
        publish(options, "weighting", results, page, figure)


if __name__ == "__main__":
    main()
