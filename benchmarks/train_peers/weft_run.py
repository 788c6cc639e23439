"""weft's own training step on the prepared samples, through its store, plan, objective, engine and journals.

Only two things are put in from outside: the samples of each step (weft packs them itself), and the adapter's start.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from peft import set_peft_model_state_dict
from protocol import CLIP_NORM, LEARNING_RATE, Job, Meter, Step, parse_job, read_plan, report
from safetensors.torch import load_file

from weft import balance
from weft.config.settings import Settings
from weft.data import templates
from weft.data.mixture import plan_mixture
from weft.data.parts import StoredSample, Writer
from weft.data.plan import Parts, Plan, cut
from weft.data.plan import Step as WeftStep
from weft.data.prepare import Prepared
from weft.data.store import Store
from weft.data.stretches import Encoded
from weft.data.tokens import Tokenizer
from weft.models.load import compute_dtype
from weft.training import checkpoint
from weft.training.events import Journal
from weft.training.loop import Run, train_step
from weft.training.optim import build_optimizer
from weft.training.setup import build_objective, open_engine
from weft.types import RowId, TaskLedger

TASK = "rows"


def make_settings(job: Job, steps: list[Step], folder: Path) -> Settings:
    """The user's settings for this job."""
    return Settings.model_validate(
        {
            "model": {"base": str(job.work / "model"), "dtype": "fp32"},
            "adapter": {"kind": "lora", "rank": 16, "alpha": 32, "targets": "all-linear"},
            "tasks": {TASK: str(job.work / "steps.npz")},
            "data": {"max_tokens": steps[0].capacity, "packing": "pack", "validation": 0},
            "batch": {"samples_per_step": len(steps[0].samples), "tokens_per_micro_batch": steps[0].capacity},
            "loss": {"weighting": "token"},
            "optimizer": {"lr": LEARNING_RATE, "schedule": "constant", "warmup": 0, "clip_norm": CLIP_NORM},
            "engine": {"kind": "local", "device": "cpu", "threads": 1},
            "output": str(folder),
        }
    )


def make_store(steps: list[Step], folder: Path) -> Store:
    """The samples as a token store, in the order in which they were drawn."""
    ledger = TaskLedger(TASK, "alpaca", sum(len(step.samples) for step in steps), 0, 0)
    with Writer(folder / "store", TASK, ["steps.npz"]) as writer:
        for line, sample in enumerate((s for step in steps for s in step.samples), start=1):
            digest = int.from_bytes(hashlib.sha256(sample.ids.tobytes()).digest()[:8], "little")
            writer.add(StoredSample(RowId("steps.npz", line), Encoded(sample.ids, sample.weight), digest))
        return writer.publish(ledger)


@dataclass(frozen=True)
class GivenSteps:
    """A plan whose steps are the prepared ones; how each is cut into micro-batches stays weft's business.

    It offers what a training step asks of a plan, and only through public names: where they change, this fails.
    """

    plan: Plan
    parts: list[Parts]

    @property
    def stores(self) -> tuple[Store, ...]:
        """The stores that the parts point into."""
        return self.plan.stores

    @property
    def num_steps(self) -> int:
        """The prepared steps."""
        return len(self.parts)

    def step(self, number: int) -> WeftStep:
        """A prepared step, packed by weft."""
        settings, parts = self.plan.settings, self.parts[number]
        return WeftStep(number, parts, tuple(cut(parts, settings.tokens_per_micro_batch, settings.data.packing)))

    def trained_P(self, parts: Parts) -> np.ndarray:
        """Trained tokens of each part."""
        return self.plan.trained_P(parts)

    def names(self, parts: Parts) -> list[str]:
        """The public ids of the samples."""
        return self.plan.names(parts)


def make_plan(settings: Settings, store: Store, steps: list[Step]) -> GivenSteps:
    """The prepared steps as weft's: sample i of the store is sample i of steps.npz."""
    plan = Plan(settings, (store,), plan_mixture(settings.mixture, {TASK: len(store)}, {TASK: None}, settings.seed))
    sample_S = np.split(np.arange(len(store)), np.cumsum([len(step.samples) for step in steps])[:-1])
    return GivenSteps(plan, [Parts(np.zeros_like(i), i, np.zeros_like(i), store.length_S[i]) for i in sample_S])


def verify(run: Run, steps: list[Step]) -> None:
    """Raise unless weft's ledger says that each step trained exactly the prepared step's samples, each once."""
    lines = [json.loads(line) for line in (run.folder / "ledger.jsonl").read_text().splitlines()]
    first = 1
    for step, line in zip(steps, lines, strict=True):
        expected = {f"{TASK}:steps.npz:{first + i}" for i in range(len(step.samples))}
        if set(line["samples"]) != expected or len(line["samples"]) != len(expected):
            raise RuntimeError(f"step {line['step']}: weft trained other samples than the prepared ones")
        first += len(step.samples)


def make_run(job: Job, steps: list[Step]) -> Run:
    """A run at its start, as `weft.training.setup.build` makes it."""
    folder = job.out.parent / f"{job.out.stem}.run"
    folder.mkdir()
    settings = make_settings(job, steps, folder)
    tokenizer = Tokenizer.load(job.work / "tokenizer")
    store = make_store(steps, folder)
    engine = open_engine(settings)
    dtype = compute_dtype(settings.model, engine.device)
    prepared = Prepared((store,), tokenizer, templates.build(settings.template, tokenizer))
    objective = build_objective(settings, engine.device, dtype, prepared)
    set_peft_model_state_dict(objective.model, load_file(job.work / "adapter" / "adapter_model.safetensors"))
    return Run(
        settings=settings,
        folder=folder,
        tokenizer=tokenizer,
        plan=make_plan(settings, store, steps),
        engine=engine,
        objective=objective,
        module=engine.prepare(objective),
        optimizer=build_optimizer(objective, settings.optimizer),
        balancer=balance.build(settings),
        dtype=dtype,
        state=checkpoint.Progress(),
        metrics=Journal(folder / "metrics.jsonl", -1),
        ledger=Journal(folder / "ledger.jsonl", -1),
        tensorboard=None,
    )


def main() -> None:
    """Check or time, as the job says."""
    job = parse_job()
    steps, meter = read_plan(job.work)[: 1 if job.mode == "check" else job.warmup + job.steps], Meter()
    run = make_run(job, steps)
    losses = []
    for number in range(len(steps)):
        if number == job.warmup:
            meter.start()
        record = train_step(run, number)
        run.metrics.write(record)
        run.state.step += 1
        losses.append(record["loss"])
    meter.stop()
    verify(run, steps)
    report(job, losses, sum(step.num_tokens for step in steps[job.warmup :]), meter)


if __name__ == "__main__":
    main()
