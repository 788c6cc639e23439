"""What the contenders on Transformers' Trainer share: arguments, the meter's callback, the check of the first loss."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from protocol import CLIP_NORM, LEARNING_RATE, Job, Meter, Sample, Step, read_plan, report
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainerCallback


def settings(job: Job, accumulation: int) -> dict[str, Any]:
    """TrainingArguments that make the trainer do what `bare` does: fp32, no recomputation, constant rate, in order."""
    return {
        "output_dir": str(job.out.parent / f"{job.out.stem}.trainer"),
        "gradient_accumulation_steps": accumulation,
        "num_train_epochs": 1,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "weight_decay": 0.0,
        "max_grad_norm": CLIP_NORM,
        "gradient_checkpointing": False,
        "bf16": False,
        "use_cpu": True,
        "train_sampling_strategy": "sequential",
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def load(work: Path) -> tuple[PeftModel, PreTrainedTokenizerFast]:
    """The base model under its adapter, with the library's own default attention, and the tokenizer."""
    base = LlamaForCausalLM.from_pretrained(work / "model", dtype=torch.float32)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(work / "tokenizer")
    return PeftModel.from_pretrained(base, work / "adapter", is_trainable=True), tokenizer


def as_rows(samples: list[Sample]) -> dict[str, list[list[int]]]:
    """Columns for datasets.Dataset.from_dict."""
    return {"input_ids": [s.ids.tolist() for s in samples], "labels": [s.labels for s in samples]}


def plan_of(job: Job) -> list[Step]:
    """The steps this job needs: the first one for a check, else the warm-up's and the measured ones."""
    torch.set_num_threads(1)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    return read_plan(job.work)[: 1 if job.mode == "check" else job.warmup + job.steps]


class _Measure(TrainerCallback):
    """Starts the meter after the warm-up steps; collects the losses that the trainer logs."""

    def __init__(self, warmup: int) -> None:
        self.warmup = warmup
        self.meter = Meter()
        self.losses: list[float] = []
        self.tokens = 0
        self.measuring = warmup == 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Without warm-up steps all is measured."""
        if self.warmup == 0:
            self.meter.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start after the last warm-up step, and take the time after every later one."""
        if state.global_step == self.warmup:
            self.measuring = True
            self.meter.start()
        elif state.global_step > self.warmup:
            self.meter.stop()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **_: Any) -> None:
        """Keep every step's loss."""
        if logs and "loss" in logs:
            self.losses.append(float(logs["loss"]))


def run(job: Job, trainer: Trainer) -> None:
    """Check or time a trainer that was built on `plan_of(job)`, and report."""
    if job.mode == "check":
        report(job, [_loss_of_all(trainer)], 0, Meter())
        return
    measure = _Measure(job.warmup)
    trainer.add_callback(measure)
    original = trainer.training_step

    def counted(model: Any, inputs: dict[str, Any], *args: Any, **kwargs: Any) -> torch.Tensor:
        if measure.measuring:
            attended = inputs["attention_mask"].sum() if "attention_mask" in inputs else inputs["input_ids"].numel()
            measure.tokens += int(attended)
        return original(model, inputs, *args, **kwargs)

    trainer.training_step = counted  # an attribute of this one object: the class stays as it is
    trainer.train()
    report(job, measure.losses, measure.tokens, measure.meter)


def _loss_of_all(trainer: Trainer) -> float:
    """The trainer's own loss of its whole dataset as if it were one step: each batch divided by all trained tokens."""
    batches = [trainer._prepare_inputs(batch) for batch in trainer.get_train_dataloader()]
    trained = torch.tensor(sum(int((batch["labels"] != -100).sum()) for batch in batches))
    trainer.model.train()
    with torch.no_grad():
        return sum(float(trainer.compute_loss(trainer.model, batch, num_items_in_batch=trained)) for batch in batches)
