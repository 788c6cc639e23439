"""ms-swift: lengths of all rows by its `AddLengthPreprocessor`, packed by its `PackingDataset`, template `chatml`.

It stores lengths only, and makes a row's tokens anew whenever a packed row is read. So that there is a result to compare, every
packed row is read once, and that is measured too; nothing of it is stored.
"""

from __future__ import annotations

import numpy as np
from protocol import Counts, Document, Job, Meter, hand_in, parse_job
from swift.dataset import AddLengthPreprocessor, LazyLLMDataset, PackingDataset, load_dataset
from swift.model import get_processor
from swift.template import get_template

MODEL_TYPE = "llama"


def prepare(job: Job) -> list[list[Document]]:
    """The packed rows, each a list of documents."""
    processor = get_processor(str(job.work / "model"), model_type=MODEL_TYPE)
    template = get_template(processor, max_length=job.max_tokens, template_type="chatml")
    template.set_mode("train")
    rows, _ = load_dataset(str(job.work / "rows.jsonl"), split_dataset_ratio=0.0, num_proc=1)
    rows = AddLengthPreprocessor(template=template)(rows, num_proc=1, strict=True, batch_size=1000)
    lazy = LazyLLMDataset(rows, template.encode, strict=True, random_state=0)
    packed = PackingDataset(template, lazy, num_proc=1, packing_length=job.max_tokens)
    return [
        [Document(np.array(one["input_ids"]), np.array(one["labels"]) != -100) for one in packed[index]]
        for index in range(len(packed))
    ]


def main() -> None:
    """Prepare, then count."""
    job, meter = parse_job(), Meter()
    get_processor(str(job.work / "model"), model_type=MODEL_TYPE)  # what that imports is no preparation
    with meter:
        packed = prepare(job)
    found = [document for row in packed for document in row]
    counts = Counts(
        documents=len(found),
        tokens=sum(len(d.ids) for d in found),
        trained_tokens=sum(int(d.trained.sum()) for d in found if d.trained is not None),
        packed_rows=len(packed),
    )
    hand_in(job, meter, counts, found)


if __name__ == "__main__":
    main()
