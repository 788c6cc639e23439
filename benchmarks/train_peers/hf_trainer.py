"""Transformers' Trainer on the same samples in the same steps, padded to the longest sample of each micro-batch."""

from __future__ import annotations

from datasets import Dataset
from protocol import PADDED_BATCH, parse_job
from trainers import as_rows, load, plan_of, run, settings
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments


def main() -> None:
    """Check or time, as the job says."""
    job = parse_job()
    steps = plan_of(job)
    model, tokenizer = load(job.work)
    arguments = settings(job, accumulation=len(steps[0].samples) // PADDED_BATCH)
    trainer = Trainer(
        model=model,
        args=TrainingArguments(per_device_train_batch_size=PADDED_BATCH, **arguments),
        train_dataset=Dataset.from_dict(as_rows([sample for step in steps for sample in step.samples])),
        data_collator=DataCollatorForSeq2Seq(tokenizer),
    )
    run(job, trainer)


if __name__ == "__main__":
    main()
