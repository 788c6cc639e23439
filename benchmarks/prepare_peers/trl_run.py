"""TRL: what `SFTTrainer` does with a dataset before it trains: chat template, mask of the assistant's tokens, packing.

Measured: loading the tokenizer, `load_dataset`, and the trainer's own `_prepare_dataset`; not the imports, the tiny model, nor the
rest of the trainer. The tokenizer is loaded once before, for what that imports is an import too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from datasets import Dataset, load_dataset
from protocol import Counts, Document, Job, Meter, hand_in, parse_job
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from trl import SFTConfig, SFTTrainer


def prepare(job: Job, meter: Meter) -> Dataset:
    """The trainer's packed dataset."""
    PreTrainedTokenizerFast.from_pretrained(job.work / "tokenizer")
    with meter:
        tokenizer = PreTrainedTokenizerFast.from_pretrained(job.work / "tokenizer")
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, **sizes))

    class Measured(SFTTrainer):
        def _prepare_dataset(self, *args: Any, **kwargs: Any) -> Any:
            with meter:
                return super()._prepare_dataset(*args, **kwargs)

    config = SFTConfig(
        output_dir=str(job.out / "trainer"),
        max_length=job.max_tokens,
        packing=True,
        packing_strategy="bfd",
        assistant_only_loss=True,
        dataset_num_proc=None,
        use_cpu=True,
        bf16=False,
        report_to="none",
        disable_tqdm=True,
    )
    with meter:
        rows = load_dataset("json", data_files=str(job.work / "rows.jsonl"), split="train")
    trainer = Measured(model=model, args=config, train_dataset=rows, processing_class=tokenizer)
    return trainer.train_dataset


def documents(packed: Dataset) -> Iterator[Document]:
    """The packed rows taken apart again."""
    for row in packed.with_format("numpy", columns=["input_ids", "labels", "seq_lengths"]):
        cuts = np.cumsum(row["seq_lengths"])[:-1]
        trained = row["labels"] != -100
        yield from map(Document, np.split(row["input_ids"], cuts), np.split(trained, cuts))


def main() -> None:
    """Prepare, then count."""
    job, meter = parse_job(), Meter()
    packed = prepare(job, meter)
    found = list(documents(packed))
    counts = Counts(
        documents=len(found),
        tokens=sum(len(d.ids) for d in found),
        trained_tokens=sum(int(d.trained.sum()) for d in found if d.trained is not None),
        packed_rows=len(packed),
    )
    hand_in(job, meter, counts, found)


if __name__ == "__main__":
    main()
