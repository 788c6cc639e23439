"""TRL's SFTTrainer: `trl-pack` packs with its default strategy, `trl-padded` pads; both in fp32, nothing recomputed.

TRL packs the whole dataset itself, so `trl-pack` sees the same samples over the run, but not in the same steps.
"""

from __future__ import annotations

from datasets import Dataset
from protocol import PADDED_BATCH, parse_job
from trainers import as_rows, load, plan_of, run, settings
from trl import SFTConfig, SFTTrainer


def main() -> None:
    """Check or time, as the job says."""
    job = parse_job()
    packing = job.contender == "trl-pack"
    steps = plan_of(job)
    model, tokenizer = load(job.work)
    if packing:
        batch, accumulation = 1, max(len(step.micro_batches) for step in steps)
    else:
        batch, accumulation = PADDED_BATCH, len(steps[0].samples) // PADDED_BATCH
    arguments = settings(job, accumulation)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(per_device_train_batch_size=batch, packing=packing, max_length=steps[0].capacity, **arguments),
        train_dataset=Dataset.from_dict(as_rows([sample for step in steps for sample in step.samples])),
        processing_class=tokenizer,
    )
    run(job, trainer)


if __name__ == "__main__":
    main()
