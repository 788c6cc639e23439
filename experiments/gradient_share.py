"""Experiment 2: how much of the gradient a 10 % minority gets that is meant to get half, by the size of the micro-batch.

    python experiments/gradient_share.py

Two tasks of equal weight, nine rows of one to one of the other, so each is meant to have half of the gradient. Many random steps
of 16 and of 64 samples are computed in micro-batches of 1, 2, 4, 8, 16 samples: by weft, and with every sum taken over the
micro-batch (local_case3.py). Measured through autograd: the share Σ ∂loss/∂nllᵢ over the minority's tokens; and for all
parameters of the quickstart's base model the share ⟨g_minority, g⟩ / ⟨g, g⟩, and how far gradients are apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from common import (
    Options,
    about,
    estimate,
    fingerprint,
    footer,
    kept,
    parse_options,
    publish,
    run_settings,
    say,
    table,
    write_tasks,
)
from local_case3 import groups, local_factors, local_loss, shuffled
from torch import Tensor

import weft
from weft.data.batches import Batch, make_batch
from weft.data.mixture import stable_seed
from weft.data.plan import PLAN_VERSION, Parts, Plan, cut, make_plan
from weft.data.prepare import Prepared, prepare
from weft.models.load import compute_dtype
from weft.models.objective import Objective
from weft.training.setup import build_objective, open_engine
from weft.training.step import Accumulator, part_factors

SIZES = {"translate": 1800, "extract": 200}
MINORITY = 1
MICRO_BATCHES = (1, 2, 4, 8, 16)
STEPS = {16: 1000, 64: 400}
"""Samples of a step, and over how many steps the share is measured."""
MODEL_STEPS = 24
PUBLISHED = {1: 0.10, 2: 0.10, 4: 0.17, 8: 0.29, 16: 0.41}
"""The minority's expected share of the gradient in MFTCoder, as it follows from its formula."""
WEIGHT_K = np.ones(2)
WHO = ("local", "exact", "weft")
"""Sums within micro-batches; weft's sums on the same random draws; weft's sums on the steps that weft plans."""


class Steps:
    """Random steps of so many samples, from weft's own plan."""

    def __init__(self, options: Options, samples: int, steps: int) -> None:
        self.settings: weft.Settings = run_settings(
            write_tasks(options.work / "tasks", SIZES, "share"),
            options.work / "share",
            seed=17,
            data={"validation": 0},
            mixture={"epochs": samples * steps / sum(SIZES.values()) + 1, "max_steps": steps},
            batch={"samples_per_step": samples, "tokens_per_step": None},
        )
        self.prepared: Prepared = prepare(self.settings)
        self.plan: Plan = make_plan(self.settings, self.prepared)

    def own(self, number: int) -> Parts:
        """A step as weft plans it, its samples in random order."""
        return shuffled(self.plan.step(number).parts, self.settings.seed, number)

    def drawn(self, number: int) -> Parts:
        """As many samples, each drawn at random from all rows, as MFTCoder's loader gives them."""
        rng = np.random.default_rng(stable_seed("drawn", number))
        sizes_K = np.array([len(store) for store in self.plan.stores])
        task_P = rng.choice(len(sizes_K), len(self.plan.step(number).parts.task_P), p=sizes_K / sizes_K.sum())
        return self.of(task_P, rng)

    def of(self, task_P: npt.NDArray[np.int64], rng: np.random.Generator) -> Parts:
        """Random samples of the given tasks."""
        stores = self.plan.stores
        sample_P = np.array([rng.integers(len(stores[task])) for task in task_P])
        length_P = np.array([stores[t].length_S[i] for t, i in zip(task_P, sample_P, strict=True)], dtype=np.int64)
        return Parts(task_P, sample_P, np.zeros_like(sample_P), length_P)

    def weft_batches(self, parts: Parts, size: int) -> list[Batch]:
        """The step as weft computes it where a micro-batch has room for the tokens of `size` samples."""
        capacity = max(int(parts.length_P.max()), round(size * float(parts.length_P.mean())))
        micro_batches = cut(parts, capacity, "pack")
        factors = part_factors(self.plan, self.settings, micro_batches, WEIGHT_K)
        return [make_batch(self.plan.stores, m, f) for m, f in zip(micro_batches, factors, strict=True)]


def weft_share(batches: Sequence[Batch]) -> float:
    """Σ ∂loss/∂nllᵢ over the minority's tokens, where the loss is weft's."""
    task_T = torch.from_numpy(np.concatenate([batch.task_T for batch in batches]))
    nll_T = torch.rand(len(task_T), dtype=torch.float64, requires_grad=True)
    nlls = nll_T.split([len(batch.task_T) for batch in batches])
    losses = [(torch.from_numpy(b.coefficient_T) * nll).sum() for b, nll in zip(batches, nlls, strict=True)]
    return share_of(nll_T, task_T, torch.stack(losses).sum())


def local_share(steps: Steps, parts: Parts, size: int) -> float:
    """The same where each micro-batch has its own sums and the step is their mean."""
    batches = [make_batch(steps.plan.stores, parts.take(g), np.ones(size)) for g in groups(len(parts.task_P), size)]
    task_T = torch.from_numpy(np.concatenate([batch.task_T for batch in batches]))
    nll_T = torch.rand(len(task_T), dtype=torch.float64, requires_grad=True)
    nlls = nll_T.split([len(batch.task_T) for batch in batches])
    losses = [
        local_loss(nll, torch.from_numpy(b.weight_T).double(), torch.from_numpy(b.task_T), torch.ones(2))
        for b, nll in zip(batches, nlls, strict=True)
    ]
    return share_of(nll_T, task_T, torch.stack(losses).mean())


def share_of(nll_T: Tensor, task_T: Tensor, loss: Tensor) -> float:
    """The minority's part of Σ ∂loss/∂nllᵢ."""
    (gradient_T,) = torch.autograd.grad(loss, nll_T)
    return float(gradient_T[task_T == MINORITY].sum() / gradient_T.sum())


def measure_shares(options: Options, samples: int) -> dict[str, Any]:
    """Every step's share for every micro-batch; and in which steps the minority is present at all."""
    num_steps = 4 if options.quick else STEPS[samples]
    steps = Steps(options, samples, num_steps)
    result: dict[str, Any] = {"present": {}, **{who: {} for who in WHO}}
    for number in range(num_steps):
        drawn, own = steps.drawn(number), steps.own(number)
        for who in WHO:
            parts = own if who == "weft" else drawn
            result["present"].setdefault(who, []).append(bool((parts.task_P == MINORITY).any()))
            for size in MICRO_BATCHES:
                local = who == "local"
                share = local_share(steps, parts, size) if local else weft_share(steps.weft_batches(parts, size))
                result[who].setdefault(str(size), []).append(share)
    return result


# ---------------------------------------------------------------- on a model's parameters


def flat_gradient(objective: Objective) -> Tensor:
    """The gradient of all parameters as one vector; leaves none behind."""
    gradient_D = torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None])
    objective.zero_grad(set_to_none=True)
    return gradient_D


class Model:
    """The quickstart's base model and its gradients. D: all parameters, P: samples of a step."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.engine = open_engine(steps.settings)
        self.dtype = compute_dtype(steps.settings.model, self.engine.device)
        self.objective = build_objective(steps.settings, self.engine.device, self.dtype, steps.prepared)

    def of_batches(self, batches: Sequence[Batch]) -> Tensor:
        """The gradient as weft accumulates it."""
        accumulator = Accumulator(self.engine, self.objective, self.dtype, len(WEIGHT_K))
        for batch in batches:
            accumulator.forward(batch).backward()
        return flat_gradient(self.objective)

    def of_samples(self, parts: Parts) -> Tensor:
        """The gradient of each sample's Σ mᵢ·nllᵢ, alone: [P, D]."""
        each = range(len(parts.task_P))
        batches = [make_batch(self.steps.plan.stores, parts.take(slice(i, i + 1)), np.ones(1)) for i in each]
        return torch.stack([self.of_batches([batch]) for batch in batches])

    def local_factors(self, parts: Parts, size: int) -> Tensor:
        """Each sample's factor in the micro-batch-local loss."""
        return torch.from_numpy(local_factors(self.steps.plan.trained_P(parts), parts.task_P, WEIGHT_K, size)).float()


def apart(gradient_D: Tensor, reference_D: Tensor) -> float:
    """‖a - b‖ / ‖b‖."""
    return float((gradient_D - reference_D).norm() / reference_D.norm())


def measure_model(options: Options) -> list[dict[str, Any]]:
    """For each step that holds both tasks, by micro-batch: the share on the parameters, and the distance to the step as one batch."""
    steps = Steps(options, 16, 2 * MODEL_STEPS)
    model, records = Model(steps), []
    for number in range(2 * MODEL_STEPS):
        parts = steps.drawn(number)
        if len(records) == (1 if options.quick else MODEL_STEPS) or not (parts.task_P == MINORITY).any():
            continue
        each_PD = model.of_samples(parts)
        minority_P = torch.from_numpy(parts.task_P == MINORITY).float()
        whole_P = model.local_factors(parts, len(parts.task_P))  # one micro-batch: local and exact are the same
        whole_D = whole_P @ each_PD
        record: dict[str, Any] = {"weft": {}, "local": {}}
        for size in MICRO_BATCHES:
            local_P = model.local_factors(parts, size)
            local_D = local_P @ each_PD
            weft_D = model.of_batches(steps.weft_batches(parts, size))
            for name, factor_P, gradient_D in (("local", local_P, local_D), ("weft", whole_P, weft_D)):
                part_D = (factor_P * minority_P) @ each_PD
                record[name][str(size)] = {
                    "share": float(part_D @ gradient_D / (gradient_D @ gradient_D)),
                    "apart": apart(gradient_D, whole_D),
                }
        records.append(record)
    return records


def measure_cuts(options: Options) -> list[dict[str, Any]]:
    """The same 8 samples as one batch and as 4 micro-batches of 2: how far the two gradients are apart."""
    steps = Steps(options, 16, 2 * MODEL_STEPS)
    model, records = Model(steps), []
    rng = np.random.default_rng(17)
    for number in range(2 if options.quick else 2 * MODEL_STEPS):
        halves = number % 2 == 0  # half of each task, or drawn at random, nine to one
        parts = steps.of(rng.permutation(np.repeat([0, 1], 4)) if halves else rng.choice(2, 8, p=[0.9, 0.1]), rng)
        each_PD = model.of_samples(parts)
        local = apart(model.local_factors(parts, 2) @ each_PD, model.local_factors(parts, 8) @ each_PD)
        one_D, four_D = (model.of_batches(steps.weft_batches(parts, size)) for size in (8, 2))
        kind = (
            "4 of each task"
            if halves
            else "9 to 1, both tasks"
            if len(set(parts.task_P.tolist())) > 1
            else "9 to 1, one task"
        )
        records.append({"drawn": kind, "local": local, "weft": apart(four_D, one_D)})
    return records


# ---------------------------------------------------------------- the page


def shares_of(result: dict[str, Any], who: str, size: int, present_only: bool) -> list[float]:
    """The shares of all steps, or of those that hold the minority."""
    pairs = zip(result[who][str(size)], result["present"][who], strict=True)
    return [share for share, present in pairs if present or not present_only]


def summary(results: dict[str, Any]) -> dict[str, Any]:
    """Mean and interval over steps of every case."""
    found: dict[str, Any] = {}
    for samples, result in results["shares"].items():
        for who in WHO:
            for size in MICRO_BATCHES:
                for present_only in (True, False):
                    key = f"{samples}/{who}/{size}/{'present' if present_only else 'all'}"
                    found[key] = estimate(shares_of(result, who, size, present_only))
    return found


def shares_table(results: dict[str, Any], which: str) -> str:
    found = summary(results)
    cases = [(samples, who) for who in WHO for samples in results["shares"]]
    rows = [
        [size, f"{PUBLISHED[size]:.2f}"] + [found[f"{samples}/{who}/{size}/{which}"] for samples, who in cases]
        for size in MICRO_BATCHES
    ]
    return table(["micro-batch", "published", *(f"{who}, {samples}" for samples, who in cases)], rows)


def model_table(records: Sequence[dict[str, Any]]) -> str:
    rows = []
    for size in MICRO_BATCHES:
        row: list[object] = [size]
        for who in ("local", "weft"):
            cases = [record[who][str(size)] for record in records]
            distances = [case["apart"] for case in cases]
            far = f"{np.mean(distances):.0%}" if who == "local" else f"{max(distances):.0e} at most"
            row += [estimate([case["share"] for case in cases]), far]
        rows.append(row)
    return table(["micro-batch", "local: share", "local: apart", "weft: share", "weft: apart"], rows)


def cuts_table(records: Sequence[dict[str, Any]]) -> str:
    rows = []
    for kind in sorted({record["drawn"] for record in records}):
        local = [record["local"] for record in records if record["drawn"] == kind]
        weft = [record["weft"] for record in records if record["drawn"] == kind]
        far = f"{np.mean(local):.1%} ({min(local):.1%} to {max(local):.1%})"
        rows.append([kind, len(local), far, f"{max(weft):.0e} at most"])
    return table(["8 samples", "draws", "local", "weft"], rows)


def page(results: dict[str, Any]) -> str:
    present = {
        f"{who}, {samples}": float(np.mean(result["present"][who]))
        for samples, result in results["shares"].items()
        for who in ("exact", "weft")
    }
    exact = [(r, who, size) for r in results["shares"].values() for who in ("exact", "weft") for size in MICRO_BATCHES]
    shares = [share for case in exact for share in shares_of(*case, present_only=True)]
    return f"""# The minority's share of the gradient

A task with 10 % of the rows and the same weight as the other is meant to have half of the gradient: 0.50. It has it, or not, depending
on over what the sums of the loss are taken.

## Shares, measured through autograd

Σ ∂loss/∂nllᵢ over the minority's tokens, mean over all steps of 16 or of 64 samples, with 95 % intervals over steps. *Published* is what
follows from MFTCoder's formula. *Local* takes sums within micro-batches, on samples drawn at random, as MFTCoder draws them; *exact* is
weft's loss on the same draws; *weft* is weft's loss on the steps that weft plans.

{shares_table(results, "all")}

The local share depends on the micro-batch and on nothing else: a step of 64 samples (more accumulation, or more ranks) helps it not at
all. weft's share doesn't depend on the micro-batch.

Where exact sums give less than 0.50, the reason is that a step without a sample of a task can't train it: of the random draws
{present["exact, 16"]:.1%} of 16 samples and {present["exact, 64"]:.1%} of 64 hold the minority. weft's plan spreads every task
evenly over a pass: {present["weft, 16"]:.1%} and {present["weft, 64"]:.1%} of its steps hold it. In the steps that do:

{shares_table(results, "present")}

There, the exact share lies between {min(shares):.6f} and {max(shares):.6f} in every single step, drawn or planned.

## On a model's parameters

The quickstart's base model (1.1 M parameters, all trained), {len(results["model"])} random draws of 16 samples that hold both tasks. Share:
⟨g_minority, g⟩ / ⟨g, g⟩, mean and interval over steps; it needs not be 0.50, for one task's gradient may be the longer one. Apart:
‖g - g₁‖ / ‖g₁‖, where g₁ is the gradient of the step as one batch.

{model_table(results["model"])}

## The same 8 samples as one batch, and as 4 micro-batches of 2

How far the two gradients are apart, mean (smallest to largest) over draws; published: 51 % for a draw that isn't described.

{cuts_table(results["cuts"])}

weft's differences are fp32's rounding.

## What follows

- Weights in the loss do what they say only if the sums are taken over the whole step. weft always does that; there is no setting for it.
- What is left is absence. Weights in the loss can't reach a task that a step doesn't hold, and a rare task's weight falls on few
  samples. A step should have room for several samples of the rarest task; or the mixture draws it more often
  (`mixture.by: trained_tokens`, `balance.act_on: sampling`). What that is worth: [weighting](weighting.md).

![shares](gradient_share.png)

{footer("gradient_share", results["about"])}"""


def figure(results: dict[str, Any], place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    found = summary(results)
    canvas, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    for axis, samples in zip(axes, results["shares"], strict=True):
        lines = (("weft", "weft's steps", "tab:blue"), ("exact", "exact, random draws", "tab:cyan"),
                 ("local", "local, random draws", "tab:red"))  # fmt: skip
        for who, label, colour in lines:
            values = [found[f"{samples}/{who}/{size}/all"].mean for size in MICRO_BATCHES]
            axis.plot(MICRO_BATCHES, values, marker="o", color=colour, label=label)
        axis.plot(MICRO_BATCHES, list(PUBLISHED.values()), "kx", label="published for MFTCoder")
        axis.axhline(0.5, color="grey", linewidth=0.8)
        axis.set(title=f"steps of {samples} samples", xlabel="samples in a micro-batch", xscale="log", ylim=(0, 0.6))
        axis.set_xticks(MICRO_BATCHES, [str(size) for size in MICRO_BATCHES])
    axes[0].set_ylabel("minority's share of the gradient (meant: 0.5)")
    axes[1].legend(fontsize=7, loc="lower right")
    canvas.tight_layout()
    canvas.savefig(place, dpi=120)
    pyplot.close(canvas)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(__doc__, arguments, default_seeds=1)
    torch.manual_seed(17)
    mark = fingerprint([PLAN_VERSION, SIZES, STEPS, MICRO_BATCHES, MODEL_STEPS])
    folder = options.work / f"gradient_share-{mark}"
    results: dict[str, Any] = {"about": about(), "shares": {}}
    for samples in STEPS:
        say(f"shares, steps of {samples} samples")
        place = folder / f"shares-{samples}.json"
        results["shares"][str(samples)] = kept(place, partial(measure_shares, options, samples))
    say("gradients of a model")
    results["model"] = kept(folder / "model.json", partial(measure_model, options))
    results["cuts"] = kept(folder / "cuts.json", partial(measure_cuts, options))
    publish(options, "gradient_share", results, page, figure)


if __name__ == "__main__":
    main()
