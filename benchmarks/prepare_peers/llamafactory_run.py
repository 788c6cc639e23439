"""LLaMA-Factory: its `get_dataset` with its own `chatml` template, packed ("neat"), saved with `tokenized_path`.

That template trains the line end behind the stop token too; the comparison says so. It imports torchaudio, which it needs for
sound only and whose wheels fit no CPU build of torch: where it is absent an empty module stands in while it imports.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec

import numpy as np
from datasets import Dataset
from protocol import Counts, Document, Job, Meter, hand_in, parse_job
from transformers import Seq2SeqTrainingArguments

NO_SOUND = importlib.util.find_spec("torchaudio") is None
if NO_SOUND:
    sys.modules["torchaudio"] = importlib.util.module_from_spec(ModuleSpec("torchaudio", None))
from llamafactory.data import get_dataset, get_template_and_fix_tokenizer  # noqa: E402
from llamafactory.hparams import DataArguments, ModelArguments  # noqa: E402
from llamafactory.model import load_tokenizer  # noqa: E402

if NO_SOUND:
    del sys.modules["torchaudio"]

ROLES = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


def prepare(job: Job, meter: Meter) -> Dataset:
    """The packed dataset, as its trainer would get it."""
    register = {
        "rows": {
            "file_name": str(job.work / "rows.jsonl"),
            "formatting": "sharegpt",
            "columns": {"messages": "messages"},
            "tags": {**ROLES, "system_tag": "system"},
        }
    }
    (job.out / "dataset_info.json").write_text(json.dumps(register))
    model = ModelArguments(model_name_or_path=str(job.work / "tokenizer"))
    data = DataArguments(
        dataset="rows",
        dataset_dir=str(job.out),
        template="chatml",
        cutoff_len=job.max_tokens,
        packing=True,
        neat_packing=True,
        tokenized_path=str(job.out / "tokenized"),
    )
    training = Seq2SeqTrainingArguments(output_dir=str(job.out / "trainer"), use_cpu=True, report_to="none")
    training.predict_with_generate = False
    load_tokenizer(model)  # what that imports is no preparation
    with meter:
        module = load_tokenizer(model)
        template = get_template_and_fix_tokenizer(module["tokenizer"], data)
        return get_dataset(template, model, data, training, stage="sft", **module)["train_dataset"]


def documents(packed: Dataset) -> Iterator[Document]:
    """The packed rows taken apart again: its attention mask numbers the documents from 1, 0 is padding."""
    for row in packed.with_format("numpy", columns=["input_ids", "labels", "attention_mask"]):
        mask = row["attention_mask"]
        real = np.flatnonzero(mask)
        cuts = np.flatnonzero(np.diff(mask[real])) + 1
        trained = row["labels"][real] != -100
        yield from map(Document, np.split(row["input_ids"][real], cuts), np.split(trained, cuts))


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
