"""Experiment 4: padding, dynamic padding, packing and concatenation at rows of 512 to 8192 tokens.

    python experiments/packing.py

A random Llama of half a million parameters; three tasks whose lengths are log-normal. Every way gets the same samples in the same
steps and micro-batches of as many tokens as a row has, which is what memory must hold in any case. Counted: useful tokens (not
padding) per CPU second of forward, backward and update, and the share of tokens that are useful. Compared: the loss of every step.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import (
    BASE,
    Estimate,
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
)

import weft
from weft.data.batches import Batch, make_batch
from weft.data.plan import PLAN_VERSION, Parts, Plan, concatenated, cut, make_plan
from weft.data.prepare import prepare
from weft.models.load import compute_dtype, no_bars
from weft.training.optim import build_optimizer
from weft.training.setup import build_objective, open_engine
from weft.training.step import Accumulator, part_factors

ROWS_OF = (512, 1024, 2048, 4096, 8192)
MEDIANS = {"short": 120, "middle": 250, "long": 600}
SIGMA = 0.9
NUM_ROWS = 200
SAMPLES_PER_STEP = 12
VOCABULARY = 2048
REFERENCE = "pack"
STEPS = {512: 10, 1024: 10, 2048: 8, 4096: 5, 8192: 3}
"""Fewer where plain padding takes half a minute a step."""


def write_model(folder: Path) -> Path:
    """A random model that takes 8192 tokens, with the quickstart's tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    if not (folder / "done").is_file():
        torch.manual_seed(17)
        config = LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=384,
            num_hidden_layers=1,
            num_attention_heads=4,
            num_key_value_heads=4,
            max_position_embeddings=max(ROWS_OF),
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=1,
        )
        with no_bars():
            LlamaForCausalLM(config).save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (folder / name).write_bytes((BASE / name).read_bytes())
        (folder / "done").touch()
    return folder


def write_rows(folder: Path) -> dict[str, str]:
    """Samples of random ids and log-normal lengths, the last third of each trained; one file a task."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = {}
    for task, median in MEDIANS.items():
        rng = np.random.default_rng([17, median])
        lengths = np.clip(rng.lognormal(np.log(median), SIGMA, NUM_ROWS), 8, max(ROWS_OF)).astype(int)
        lines = []
        for length in lengths.tolist():
            ids = rng.integers(2, VOCABULARY, length).tolist()
            context = length - length // 3
            lines.append(json.dumps({"input_ids": ids, "labels": [-100] * context + ids[context:]}) + "\n")
        path = folder / f"{task}.jsonl"
        path.write_text("".join(lines), "utf-8")
        paths[task] = str(path)
    return paths


def settings_of(options: Options, row: int) -> weft.Settings:
    """The same rows for every way: those that fit."""
    return run_settings(
        write_rows(options.work / "packing" / "rows"),
        options.work / "packing" / f"run-{row}",
        seed=17,
        model={"base": str(write_model(options.work / "packing" / "model"))},
        data={"validation": 0, "max_tokens": row},
        mixture={"epochs": 1},
        batch={"samples_per_step": SAMPLES_PER_STEP, "tokens_per_step": None, "tokens_per_micro_batch": row},
        optimizer={"lr": 1e-3, "schedule": "constant", "warmup": 0},
    )


# ---------------------------------------------------------------- the four ways


def padded_to(batch: Batch, width: int, padding_id: int) -> Batch:
    """One sample, filled up to a whole row: what padding is where it isn't dynamic."""
    more = width - len(batch.ids_T)
    filled = {
        name: np.concatenate([array, np.full(more, value, dtype=array.dtype)])
        for name, array, value in (
            ("ids_T", batch.ids_T, padding_id),
            ("labels_T", batch.labels_T, 0),
            ("task_T", batch.task_T, batch.task_T[0]),
            ("weight_T", batch.weight_T, 0),
            ("coefficient_T", batch.coefficient_T, 0),
        )
    }
    return dataclasses.replace(batch, **filled, position_T=np.arange(width), lengths=(width,))


def lay(way: str, plan: Plan, parts: Parts, row: int, padding_id: int) -> list[Batch]:
    """A step's samples as micro-batches of at most `row` tokens."""
    if way == "padding":
        micro_batches = [parts.take(slice(i, i + 1)) for i in range(len(parts.task_P))]
    elif way == "dynamic padding":
        micro_batches = cut(parts, row, "padding")
    elif way == "concat":
        micro_batches = cut(concatenated(parts, row)[0], row, "concat")
    else:
        micro_batches = cut(parts, row, "pack")
    factors = part_factors(plan, plan.settings, micro_batches, np.ones(len(plan.stores)))
    dynamic = padding_id if way == "dynamic padding" else None
    batches = [make_batch(plan.stores, m, f, dynamic) for m, f in zip(micro_batches, factors, strict=True)]
    return [padded_to(batch, row, padding_id) for batch in batches] if way == "padding" else batches


WAYS = ("padding", "dynamic padding", "pack", "concat")


def measure(options: Options, row: int, steps: int) -> dict[str, Any]:
    """Per way and step: CPU seconds, tokens, useful ones, trained ones, pieces and the loss. The ways take turns at every step."""
    settings = settings_of(options, row)
    prepared = prepare(settings)
    plan, engine = make_plan(settings, prepared), open_engine(settings)
    dtype = compute_dtype(settings.model, engine.device)
    models = {way: build_objective(settings, engine.device, dtype, prepared) for way in WAYS}
    optimizers = {way: build_optimizer(models[way], settings.optimizer) for way in WAYS}
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for number in range(steps):
        parts = plan.step(number).parts
        for way in WAYS:
            started = time.process_time()
            batches = lay(way, plan, parts, row, prepared.tokenizer.pad_id)
            accumulator = Accumulator(engine, models[way], dtype, len(plan.stores))
            for batch in batches:
                accumulator.forward(batch).backward()
            optimizers[way].step()
            optimizers[way].zero_grad(set_to_none=True)
            totals = accumulator.totals()
            found[way].append(
                {
                    "seconds": time.process_time() - started,
                    "tokens": sum(len(batch.ids_T) for batch in batches),
                    "useful": sum(batch.num_tokens for batch in batches),
                    "trained": float(totals.tokens_K.sum()),
                    "pieces": sum(len(batch.lengths) for batch in batches),
                    "loss": totals.loss,
                }
            )
    return {"ways": found}


# ---------------------------------------------------------------- the page


def over_steps(results: Mapping[str, Any], way: str, row: int, value: Callable[[dict[str, float]], float]) -> Estimate:
    return estimate([value(record) for record in results["rows"][str(row)]["ways"][way]])


def speed(record: Mapping[str, float]) -> float:
    """Useful tokens per CPU second."""
    return record["useful"] / record["seconds"]


def fill(record: Mapping[str, float]) -> float:
    return record["useful"] / record["tokens"]


def largest_difference(results: Mapping[str, Any], way: str, row: int) -> float:
    """Between a way's losses and packing's, over all steps."""
    ways = results["rows"][str(row)]["ways"]
    return max(abs(a["loss"] - b["loss"]) for a, b in zip(ways[way], ways[REFERENCE], strict=True))


def ratio(results: Mapping[str, Any], way: str, row: int) -> Estimate:
    """How many times as fast packing is, step by step on the same samples."""
    ways = results["rows"][str(row)]["ways"]
    return estimate([speed(p) / speed(other) for p, other in zip(ways[REFERENCE], ways[way], strict=True)])


def times(found: Estimate) -> str:
    return f"{found.mean:.2f}" + (f" ± {found.half:.2f}" if found.half is not None else "")


def speed_table(results: Mapping[str, Any], rows_of: Sequence[int]) -> str:
    def shown(way: str, row: int) -> str:
        found = over_steps(results, way, row, speed)
        return f"{found.mean:.0f}" + (f" ± {found.half:.0f}" if found.half is not None else "")

    others = [way for way in WAYS if way != REFERENCE]
    rows = [
        [row, *(shown(way, row) for way in WAYS), *(times(ratio(results, way, row)) for way in others)]
        for row in rows_of
    ]
    return table(["R", *WAYS, *(f"pack / {way}" for way in others)], rows)


def losses_table(results: Mapping[str, Any], rows_of: Sequence[int]) -> str:
    others, rows = [way for way in WAYS if way != REFERENCE], []
    for row in rows_of:
        ways = results["rows"][str(row)]["ways"]
        pairs = list(zip(ways["concat"], ways[REFERENCE], strict=True))
        more = float(np.mean([c["pieces"] / p["pieces"] - 1 for c, p in pairs]))
        lost = float(np.mean([1 - c["trained"] / p["trained"] for c, p in pairs]))
        differences = [f"{largest_difference(results, way, row):.1e}" for way in others]
        rows.append([row, *differences, f"{more:.1%}", f"{lost:.2%}"])
    return table(["R", *others, "concat: more pieces", "concat: trained tokens lost"], rows)


def page(results: dict[str, Any]) -> str:
    rows_of = [int(row) for row in results["rows"]]
    fills = [[row, *(f"{over_steps(results, way, row, fill).mean:.1%}" for way in WAYS)] for row in rows_of]
    equal = max(largest_difference(results, way, row) for way in ("padding", "dynamic padding") for row in rows_of)
    ratios = {way: [ratio(results, way, row).mean for row in rows_of] for way in WAYS}
    spans = {way: f"{min(found):.2f} to {max(found):.2f}" for way, found in ratios.items()}
    steps = ", ".join(f"{len(results['rows'][str(row)]['ways'][REFERENCE])}" for row in rows_of)
    spread = ", ".join(f"{task} {median}" for task, median in MEDIANS.items())
    return f"""# What packing pays

Three tasks with log-normal lengths (medians: {spread} tokens; σ = {SIGMA}): about as public instruction, code and
plain-text data have them. A row of R tokens takes the samples that fit into it, the same for every way; a step is
{SAMPLES_PER_STEP} of them, a micro-batch at most R tokens. {steps} steps by R, ± half a 95 % t-interval over steps.

*Padding* fills every sample up to R; *dynamic padding* fills up to the longest of the micro-batch, samples of like length together;
*pack* lays whole samples side by side; *concat*
cuts one stream every R tokens. What is left of a micro-batch's R tokens with pack and concat isn't filled up: it is shorter.

## Share of useful tokens

{table(["R", *WAYS], fills)}

## Useful tokens per CPU second, and how many times as fast packing is

{speed_table(results, rows_of)}

The model is small (one layer of width 128), so attention weighs more here than in a large one, and plain padding at long rows looks
worse than it would there; the share of useful tokens is the same for any model.

## Losses

The largest difference to packing's loss in any step (each way trains its own copy, so later steps hold the differences of updates,
too); for concat also how many more pieces than samples there are, and how many trained tokens are lost to cuts.

{losses_table(results, rows_of)}

Padding, dynamic padding and packing train the same: within {equal:.0e} in every step. Concat does not, and can't, where it cuts: a piece
goes on without its sample's beginning in sight, and its first token has nothing that predicts it. Where a row holds all of a step's
samples nothing is cut, and it is packing.

## What follows

- `data.packing: pack` stays the default: {spans["dynamic padding"]} times as fast as dynamic padding, {spans["padding"]} times as
  fast as padding, with the same losses; {spans["concat"]} times as fast as concat, which cuts samples.

![packing](packing.png)

{footer("packing", results["about"])}"""


def figure(results: dict[str, Any], place: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows_of = [int(row) for row in results["rows"]]
    canvas, axes = pyplot.subplots(1, 2, figsize=(9, 3.6))
    for axis, value, title in (
        (axes[0], fill, "share of useful tokens"),
        (axes[1], speed, "useful tokens per CPU second"),
    ):
        for way in WAYS:
            axis.plot(rows_of, [over_steps(results, way, row, value).mean for row in rows_of], marker="o", label=way)
        axis.set(title=title, xlabel="tokens of a row", xscale="log", ylim=(0, None))
        axis.set_xticks(rows_of, [str(row) for row in rows_of])
        axis.minorticks_off()
    axes[0].legend(fontsize=8)
    canvas.tight_layout()
    canvas.savefig(place, dpi=120)
    pyplot.close(canvas)


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse_options(__doc__, arguments, default_seeds=1)
    results: dict[str, Any] = {"about": about(), "rows": {}}
    for row in ROWS_OF[:1] if options.quick else ROWS_OF:
        say(f"rows of {row}")
        steps = 2 if options.quick else STEPS[row]
        mark = fingerprint([PLAN_VERSION, steps, MEDIANS, SIGMA, NUM_ROWS, SAMPLES_PER_STEP])
        place = options.work / "packing" / f"{row}-{mark}.json"
        results["rows"][str(row)] = kept(place, partial(measure, options, row, steps))
    publish(options, "packing", results, page, figure)


if __name__ == "__main__":
    main()
