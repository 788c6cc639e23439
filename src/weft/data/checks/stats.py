"""The numbers of prepared data: lengths, trained shares, how well the tokenizer fits, what a pass over the mixture holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from weft.config.settings import Settings
from weft.data.checks.found import Ints, flats
from weft.data.plan import Plan, make_plan
from weft.data.prepare import Prepared
from weft.data.store import Store, read_rejects
from weft.errors import DataError
from weft.types import JsonObject, Progress, ProgressHook, silent

NUM_BINS = 24
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


@dataclass(frozen=True)
class Histogram:
    """`counts[i]` samples have edges[i] ≤ tokens < edges[i + 1]; the edges are whole numbers."""

    edges: list[int]
    counts: list[int]


_STEPS = 50
"""So many steps are cut into micro-batches, to see how full they are."""


@dataclass(frozen=True)
class TaskStats:
    """The numbers of one task. Lengths are in tokens, over all of its samples."""

    task: str
    format: str
    read: int
    used: int
    quarantined: int
    dropped: dict[str, int]
    reasons: dict[str, int]
    """Rows that are not used, per reason: those of `dropped` and those of the quarantine."""
    cut: int
    train: int
    validation: int
    test: int
    tokens: int
    trained_tokens: int
    mean_length: float
    quantiles: dict[str, int]
    """min, p5, p25, median, p75, p95, max."""
    lengths: Histogram
    bytes_per_token: float
    unknown_tokens: int
    pass_samples: int
    """Samples of the task in one pass over the mixture."""
    pass_tokens: int
    pass_trained_tokens: float

    @property
    def trained_share(self) -> float:
        return self.trained_tokens / self.tokens if self.tokens else 0.0

    @property
    def longest(self) -> int:
        return self.quantiles["max"]


@dataclass(frozen=True)
class Stats:
    """The numbers of all tasks, and of a pass over their mixture."""

    tasks: list[TaskStats]
    max_tokens: int
    micro_batches: int
    """Micro-batches of the first steps; 0 where samples are not packed."""
    utilisation: float
    """How full they are, on average. A micro-batch that isn't full is shorter: nothing is filled up."""
    padding_share: float
    """The share of slots that padding would take, were each sample laid into a row of the pass's longest."""

    def record(self) -> JsonObject:
        """For machines."""
        found: JsonObject = {"max_tokens": self.max_tokens, "micro_batches": self.micro_batches}
        found |= {"utilisation": self.utilisation, "padding_share": self.padding_share}
        found["tasks"] = {task.task: {**asdict(task), "trained_share": task.trained_share} for task in self.tasks}
        return found


def stats(settings: Settings, prepared: Prepared, progress: ProgressHook = silent) -> Stats:
    """Work out the numbers. Reads all tokens once; nothing is trained or changed."""
    plan = _plan(settings, prepared)
    num_tasks = len(prepared.stores)
    task_S, sample_S = _first_pass(plan) if plan else (np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    length_S = np.zeros(len(task_S), dtype=np.int64)
    tasks = []
    for number, store in enumerate(prepared.stores):
        progress(Progress("stats", number, num_tasks, store.task))
        mine = task_S == number
        samples = sample_S[mine]
        length_S[mine] = store.length_S[samples]
        tasks.append(_task(settings, prepared, store, samples))
    progress(Progress("stats", num_tasks, num_tasks))
    packed = _packed(plan) if plan and settings.data.packing == "pack" else np.zeros(0, dtype=np.int64)
    rectangle = int(length_S.max()) * len(length_S) if len(length_S) else 0
    return Stats(
        tasks,
        settings.max_tokens,
        len(packed),
        float(packed.sum()) / (len(packed) * settings.tokens_per_micro_batch) if len(packed) else 1.0,
        1 - float(length_S.sum()) / rectangle if rectangle else 0.0,
    )


def _plan(settings: Settings, prepared: Prepared) -> Plan | None:
    try:
        return make_plan(settings, prepared)
    except DataError:  # there is nothing to train on, which others report
        return None


def _packed(plan: Plan) -> Ints:
    """The tokens of each micro-batch of the first steps."""
    steps = (plan.step(number) for number in range(min(plan.num_steps, _STEPS)))
    return np.array([int(parts.length_P.sum()) for step in steps for parts in step.micro_batches])


def _first_pass(plan: Plan) -> tuple[Ints, Ints]:
    """The task and the store's sample of everything in the first pass."""
    task_S, index_S = plan.mixture.samples(0)
    sample_S = np.empty_like(index_S)
    for task, samples in enumerate(plan.train_samples):
        mine = task_S == task
        sample_S[mine] = samples[index_S[mine]]
    return task_S, sample_S


def _task(settings: Settings, prepared: Prepared, store: Store, samples: Ints) -> TaskStats:
    data, x, length_S = settings.data, store.ledger, store.length_S
    unknown = prepared.tokenizer.token("unk_token")
    unknown_id = prepared.tokenizer.id_of(unknown) if unknown is not None else None
    points = np.quantile(length_S, QUANTILES, method="nearest").astype(np.int64) if len(store) else np.zeros(7, int)
    names = ("min", "p5", "p25", "median", "p75", "p95", "max")
    splits = [len(store.split(which, data.validation, data.test)) for which in ("train", "validation", "test")]
    return TaskStats(
        task=x.task,
        format=x.format,
        read=x.read,
        used=x.used,
        quarantined=x.quarantined,
        dropped=dict(x.dropped),
        reasons=reasons(store),
        cut=x.cut,
        train=splits[0],
        validation=splits[1],
        test=splits[2],
        tokens=x.tokens,
        trained_tokens=x.trained_tokens,
        mean_length=float(length_S.mean()) if len(store) else 0.0,
        quantiles=dict(zip(names, points.tolist(), strict=True)),
        lengths=histogram(length_S),
        bytes_per_token=bytes_per_token(settings, prepared, store),
        unknown_tokens=0 if unknown_id is None else _count(store, unknown_id),
        pass_samples=len(samples),
        pass_tokens=int(length_S[samples].sum()),
        pass_trained_tokens=float(store.trained_S[samples].sum()),
    )


def reasons(store: Store) -> dict[str, int]:
    """Rows that are not used, per reason, most frequent first."""
    counts: dict[str, int] = {}
    for record in read_rejects(store):
        reason = str(record["reason"])
        counts[reason] = counts.get(reason, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1]))


def histogram(length_S: Ints, bins: int = NUM_BINS) -> Histogram:
    """Bins of equal width on a logarithmic scale, for lengths go over orders of magnitude; narrow ranges are linear."""
    if not len(length_S):
        return Histogram([0, 1], [0])
    low, high = int(length_S.min()), int(length_S.max()) + 1
    spread = np.geomspace(max(1, low), high, bins + 1) if high > 8 * max(1, low) else np.linspace(low, high, bins + 1)
    edges = np.unique(np.round(spread).astype(np.int64))
    edges[0], edges[-1] = low, high
    counts, _ = np.histogram(length_S, bins=edges)
    return Histogram(edges.tolist(), counts.tolist())


def bytes_per_token(settings: Settings, prepared: Prepared, store: Store) -> float:
    """UTF-8 bytes of text that a token stands for, on average; control tokens count on neither side, nor do samples that were cut."""
    control = np.array(sorted(prepared.tokenizer.control_ids), dtype=np.int64)
    whole_S = store.length_S < settings.max_tokens if store.ledger.cut else np.ones(len(store), dtype=np.bool_)
    tokens = 0
    for flat in flats(store):
        others_S = np.add.reduceat(~np.isin(flat.ids_T, control), flat.offsets[:-1], dtype=np.int64)
        tokens += int(others_S[whole_S[flat.first : flat.first + len(others_S)]].sum())
    return float(store.num_bytes_S[whole_S].sum()) / tokens if tokens else 0.0


def _count(store: Store, token_id: int) -> int:
    return sum(int((flat.ids_T == token_id).sum()) for flat in flats(store))


def sparkline(counts: Sequence[int]) -> str:
    """A histogram in one line of text; what is not empty is never blank."""
    top = max(counts, default=0)
    return "".join(" " if not c else "▁▂▃▄▅▆▇█"[max(0, -(-c * 8 // top) - 1)] for c in counts)
