"""Preparation beyond one machine: the same parts, as a map over them in Ray Data.

Each actor works the job out once and writes its parts into the store's folder, which all machines must see. A part is a function of its
stretch of the source, so the store's bytes are those of a single process.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from weft.data.sources import Chunk
from weft.data.work import Done, Job, Tell
from weft.data.workers import FAILURES, Part, describe, job_of, kind_of
from weft.errors import ConfigError
from weft.types import JsonObject


class _Preparer:
    """What Ray runs: one a worker, called with one part after another."""

    def __init__(self, described: JsonObject) -> None:
        self._job = job_of(described)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        total: dict[str, Any] = {"rows": 0, "tokens": 0, "num_bytes": 0, "first": "", "kind": "", "error": ""}

        def tell(done: Done) -> None:
            total["rows"] += done.rows
            total["tokens"] += done.tokens
            total["num_bytes"] += done.num_bytes
            total["first"] = total["first"] or done.first

        try:
            chunks = [
                (str(name), int(start), int(stop), int(line)) for name, start, stop, line in json.loads(row["chunks"])
            ]
            Part(int(row["number"]), chunks).prepare(self._job, tell)
        except tuple(FAILURES.values()) as error:
            total |= {"kind": kind_of(error), "error": str(error)}
        return total


def run(job: Job, parts: Sequence[Sequence[Chunk]], waiting: Sequence[int], processes: int, tell: Tell) -> None:
    """Do the parts that wait on a Ray cluster: the one that RAY_ADDRESS names, or one that Ray starts here.

    Raises ConfigError without Ray, DataError and IdsDifferError as a worker does.
    """
    try:
        import ray.data
    except ImportError as error:
        raise ConfigError(f"data.engine: ray: {error}; pip install 'weft[ray]'") from error
    ray.data.DataContext.get_current().enable_progress_bars = False
    items = [{"number": n, "chunks": json.dumps(Part.of(n, parts[n]).chunks)} for n in waiting]
    rows = ray.data.from_items(items, override_num_blocks=len(items)).map(
        _Preparer,
        fn_constructor_args=(describe(job),),
        compute=ray.data.ActorPoolStrategy(size=min(processes, len(items))),
    )
    for done in rows.iter_rows():
        if done["kind"]:
            raise FAILURES[done["kind"]](done["error"])
        tell(Done(done["rows"], done["tokens"], done["num_bytes"], done["first"]))
