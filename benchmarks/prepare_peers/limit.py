"""The bare limit: a tokenizer library's batch call on text that is rendered already, and nothing else.

`limit` is `encode_batch_fast`, which gives no offsets; `limit-offsets` is `encode_batch`, which a mask by offsets would need;
`limit-gigatoken` is the call of another library. What they return is thrown away; ids are only taken for the comparison.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from protocol import Counts, Document, Job, Meter, hand_in, parse_job

BATCH = 2048


def encoder(job: Job) -> tuple[Callable[[list[str]], Sequence[Any]], Callable[[Any], Any]]:
    """The batch call, and what takes the ids from one of its results."""
    file = job.work / "tokenizer" / "tokenizer.json"
    if job.contender == "limit-gigatoken":
        from gigatoken import Tokenizer as Gigatoken

        other = Gigatoken(file)
        return lambda texts: other.encode_batch(texts, parallel=False), np.asarray
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    call = tokenizer.encode_batch if job.contender == "limit-offsets" else tokenizer.encode_batch_fast
    return lambda texts: call(texts, add_special_tokens=False), lambda encoding: encoding.ids


def main() -> None:
    """Measure the calls, then take the ids in calls that are not measured."""
    job = parse_job()
    texts = json.loads((job.work / "texts.json").read_text("utf-8"))
    encode, ids_of = encoder(job)
    batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
    meter = Meter()
    with meter:
        for batch in batches:
            encode(batch)
    documents = [Document(np.array(ids_of(one)), None) for batch in batches for one in encode(batch)]
    tokens = sum(len(document.ids) for document in documents)
    hand_in(job, meter, Counts(len(documents), tokens, 0, 0), documents)


if __name__ == "__main__":
    main()
