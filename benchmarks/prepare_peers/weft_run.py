"""weft: `weft.prepare` and the plan with its packed rows, as a training run begins."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from protocol import Counts, Document, Job, Meter, hand_in, parse_job

import weft
from weft.config.settings import Settings
from weft.data.plan import make_plan
from weft.data.prepare import Prepared


def settings(job: Job) -> dict[str, Any]:
    """What a user would write; all rows are trained on, in one pass."""
    kind = job.contender.removesuffix("-again")
    return {
        "model": {"base": str(job.work / "model")},
        "tasks": {"rows": str(job.work / "rows.jsonl")},
        "template": "auto" if kind == "weft-jinja" else "chatml",
        "data": {
            "max_tokens": job.max_tokens,
            "packing": "pack",
            "validation": 0,
            "tokenizer": "tokenizers" if kind == "weft-tokenizers" else "auto",
            "processes": 2 if kind == "weft-2" else 1,
        },
        "mixture": {"epochs": 1},
        "batch": {"tokens_per_step": job.max_tokens},  # a step is a packed row
        "output": str(job.out / "run"),
    }


def prepare(job: Job) -> tuple[Settings, Prepared, int]:
    """The stores, and the number of packed rows."""
    resolved = weft.settings(settings(job))
    prepared = weft.prepare(resolved)
    return resolved, prepared, make_plan(resolved, prepared).num_steps


def documents(prepared: Prepared) -> Iterator[Document]:
    """All samples in the order of the rows."""
    (store,) = prepared.stores
    for index in range(len(store)):
        sample = store.sample(index)
        yield Document(sample.ids_T, sample.weight_T > 0)


def main() -> None:
    """Prepare, as the contender's name says."""
    job, meter = parse_job(), Meter()
    with meter:
        _, prepared, packed_rows = prepare(job)
    (store,) = prepared.stores
    ledger = store.ledger
    counts = Counts(len(store), ledger.tokens, ledger.trained_tokens, packed_rows)
    hand_in(job, meter, counts, documents(prepared))


if __name__ == "__main__":
    main()
