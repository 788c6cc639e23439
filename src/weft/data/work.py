"""One part of a store, from rows to tokens: read, render, encode, check the length, write. A pure function of a stretch of the
source, so it can run here, in another process, or in another engine.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np

from weft.config.settings import Settings, TaskSettings
from weft.data.encoders import Encoder
from weft.data.parts import PartWriter, Side
from weft.data.read import CHOSEN_AWAY, ReadRow, TaskReader
from weft.data.sources import FILE_REASONS, Chunk
from weft.data.stretches import Encoded, EncodedBatch
from weft.data.templates import Template
from weft.data.tokens import Tokenizer
from weft.errors import TemplateError
from weft.types import FIM_ROLES, TEXT_ROLE, Message, Piece, Reject, Tokens

_BATCH_ROWS = 2048
_BATCH_CHARS = 1 << 19
_SHOWN_TOKENS = 200

Rendered: TypeAlias = "Sequence[Piece] | Tokens"


class Done(NamedTuple):
    """How far a part has come: rows and tokens since the last report, and bytes of its chunks since the last report."""

    rows: int
    tokens: int
    num_bytes: int
    first: str = ""
    """The first sample's text, once."""


Tell: TypeAlias = Callable[[Done], None]


@dataclass(frozen=True)
class Job:
    """One task to prepare, and all that decides what comes of it."""

    task: TaskSettings
    settings: Settings
    reader: TaskReader
    tokenizer: Tokenizer
    template: Template
    encoder: Encoder
    folder: Path

    def opening(self) -> int:
        """Tokens of the shortest prompt: what must be left before an answer that is still trained."""
        if self.settings.data.too_long == "drop":
            return 1
        for messages in ([Message("user", "x")], [Message("system", "x"), Message("user", "x")]):
            with suppress(TemplateError):  # some can't do without a system message
                return len(self.tokenizer.encode_one(self.template.prompt(messages)))
        return 1


def prepare_part(job: Job, number: int, chunks: Sequence[Chunk], tell: Tell) -> None:
    """Write part `number`. Raises IdsDifferError where a fast encoder failed its watch."""
    with _no_collections():
        _prepare_part(job, number, chunks, tell)


def made_of(chunks: Sequence[Chunk]) -> list[tuple[str, int, int, int]]:
    """What names a part's stretch of the source."""
    return [(chunk.file.name, chunk.start, chunk.stop, chunk.first_line) for chunk in chunks]


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without Python's search for reference cycles, which takes a sixth of the time and finds none: rows hold no cycles."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def _prepare_part(job: Job, number: int, chunks: Sequence[Chunk], tell: Tell) -> None:
    opening = job.opening()
    told_first = number > 0
    with PartWriter(job.folder, number, job.reader.name, [file.name for file in job.reader.files]) as writer:
        for chunk in chunks:
            before = 0
            for rows, position in _batches(job, chunk):
                tokens_before = writer.counts["tokens"]
                batch = _write(job, writer, rows, opening)
                first = _shown(job, batch) if batch is not None and not told_first else ""
                tell(Done(len(rows), writer.counts["tokens"] - tokens_before, position - before, first))
                before, told_first = position, told_first or bool(first)
            if left := chunk.stop - chunk.start - before:
                tell(Done(0, 0, left))
        writer.finish(made_of(chunks))


def _batches(job: Job, chunk: Chunk) -> Iterator[tuple[list[ReadRow | Reject], int]]:
    reading = job.reader.rows(chunk)
    batch: list[ReadRow | Reject] = []
    chars = 0
    for item in reading:
        batch.append(item)
        chars += _size(item)
        if len(batch) == _BATCH_ROWS or chars > _BATCH_CHARS:
            yield batch, reading.position
            batch, chars = [], 0
    if batch:
        yield batch, reading.position


def _size(item: ReadRow | Reject) -> int:
    """About how many characters a row holds; ids count for as many as they are likely to stand for."""
    if isinstance(item, Reject):
        return len(item.raw) if isinstance(item.raw, str) else len(str(item.raw))
    messages, tokens = item.conversation.messages, item.conversation.tokens
    size = 4 * len(tokens.ids) if tokens is not None else 0
    for message in messages:
        size += len(message.content) + (len(str(message[3:])) if message.reasoning or message.tool_calls else 0)
    if item.conversation.tools or item.conversation.rejected or item.conversation.documents:
        size += len(str(item.conversation[1:4]))
    return size


def _shown(job: Job, batch: EncodedBatch) -> str:
    """The first sample of a batch as people read it, what is trained of it in brackets."""
    if len(batch.begin_S) < 2:
        return ""
    ids_T, weight_T = (array[:_SHOWN_TOKENS] for array in batch.sample(0))
    borders = [0, *(np.flatnonzero(np.diff(weight_T > 0)) + 1).tolist(), len(ids_T)]
    text = ""
    for start, stop in pairwise(borders):
        part = job.tokenizer.decode(ids_T[start:stop].tolist())
        text += f"⟦{part}⟧" if weight_T[start] > 0 else part
    return text + ("…" if int(batch.begin_S[1]) > _SHOWN_TOKENS else "")


def _write(job: Job, writer: PartWriter, items: Sequence[ReadRow | Reject], opening: int) -> EncodedBatch | None:
    """One batch of rows into the store; gives what was written of it."""
    lot = _Lot()
    for place, item in enumerate(items):
        if isinstance(item, Reject):
            (lot.drop if item.reason in CHOSEN_AWAY else lot.quarantine)(place, item)
            continue
        try:
            pieces, other = _rendered(job, item)
        except TemplateError as error:
            lot.quarantine(place, _reject(item, "template", str(error)))
            continue
        if isinstance(pieces, Tokens) and (bad := _out_of_range(pieces, job.tokenizer.vocab_size)):
            lot.quarantine(place, _reject(item, "bad_ids", bad))
            continue
        lot.places.append(place)
        lot.rows.append(item)
        lot.rendered.append(pieces)
        lot.others.append(other)
    batch = _encoded(job, writer, lot, opening) if lot.rows else None
    writer.counts["read"] += len(items)
    writer.counts["quarantined"] += lot.num_quarantined
    writer.counts["cut"] += lot.num_cut
    writer.dropped.update(lot.dropped)
    for _, reject in sorted(lot.rejects, key=itemgetter(0)):
        writer.reject(reject)
        if reject.reason in FILE_REASONS:
            writer.lost.append(f"{reject.row.file}: {reject.reason}: {reject.detail}")
    return batch


@dataclass
class _Lot:
    """A batch on its way: the rows that are still in it with their places in the batch, and those that fell out."""

    places: list[int] = field(default_factory=list)
    rows: list[ReadRow] = field(default_factory=list)
    rendered: list[Rendered] = field(default_factory=list)
    others: list[Rendered] = field(default_factory=list)
    rejects: list[tuple[int, Reject]] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    num_quarantined: int = 0
    num_cut: int = 0

    def quarantine(self, place: int, reject: Reject) -> None:
        self.num_quarantined += 1
        self.rejects.append((place, reject))

    def drop(self, place: int, reject: Reject) -> None:
        self.dropped[reject.reason] += 1
        self.rejects.append((place, reject))


def _encoded(job: Job, writer: PartWriter, lot: _Lot, opening: int) -> EncodedBatch:
    batch = job.tokenizer.encode_batch(lot.rendered, job.encoder)
    paired = any(row.conversation.rejected or row.conversation.desirable is not None for row in lot.rows)
    side = job.tokenizer.encode_batch(lot.others, job.encoder) if paired else None
    kept, batch = _fitted(job, lot, batch, side, opening)
    rows = [lot.rows[index] for index in kept]
    stored_side = None
    if side is not None:
        keep_S = np.zeros(len(lot.rows), dtype=bool)
        keep_S[kept] = True
        stored_side = Side(_take(side, keep_S), [row.conversation.desirable is not False for row in rows])
    writer.add(batch, [row.id for row in rows], [row.hash for row in rows], stored_side)
    return batch


def _rendered(job: Job, row: ReadRow) -> tuple[Rendered, Rendered]:
    conversation = row.conversation
    if conversation.tokens is not None:
        return conversation.tokens, ()
    tools, documents, rejected = conversation.tools, conversation.documents, conversation.rejected
    if not rejected:
        return job.template.render(conversation.messages, job.task.train_on, tools, documents), ()
    # what a pair has in common counts on neither side
    sides = [job.template.render(side, "last_answer", tools, documents) for side in (conversation.messages, rejected)]
    return sides[0], sides[1]


def _out_of_range(tokens: Tokens, vocab_size: int) -> str:
    wrong = [number for number in tokens.ids if not 0 <= number < vocab_size]
    return f"id {wrong[0]} is not in the vocabulary of {vocab_size}" if wrong else ""


def _reject(row: ReadRow, reason: str, detail: str) -> Reject:
    return Reject(row.id, reason, detail, row.raw())


def _fitted(
    job: Job, lot: _Lot, batch: EncodedBatch, side: EncodedBatch | None, opening: int
) -> tuple[list[int], EncodedBatch]:
    """Which samples of a batch are used, and as they are used: within the limit, with something to train."""
    limit = None if job.settings.data.packing == "concat" else job.settings.max_tokens
    length_S = np.diff(batch.begin_S)
    batch.weight_T[batch.begin_S[:-1][length_S > 0]] = 0.0  # nothing predicts the first token
    trained = np.concatenate([[0], np.cumsum(batch.weight_T > 0)])
    fine_S = np.diff(trained[batch.begin_S]) > 0
    if limit is not None:
        fine_S &= length_S <= limit
        if side is not None:
            fine_S &= np.diff(side.begin_S) <= limit
    faults = {**(side.faults if side else {}), **batch.faults}
    fine_S[list(faults)] = False
    shortened: dict[int, Encoded] = {}
    for index in np.flatnonzero(~fine_S).tolist():
        row, place = lot.rows[index], lot.places[index]
        if index in faults:
            lot.quarantine(place, _reject(row, "tokenizer", faults[index]))
            continue
        role = row.conversation.messages[0].role if row.conversation.messages else ""
        head = _leading(batch.sample(index), job.tokenizer.control_ids) if role in FIM_ROLES else 1
        too_long = "drop" if side is not None else job.settings.data.too_long
        fitted, reason = fit(
            batch.sample(index), limit, too_long, role == TEXT_ROLE, job.tokenizer.control_ids, opening, head
        )
        if side is not None and fitted is not None:
            fitted, reason = None, "too_long"  # its other side is
        if fitted is None:
            lot.drop(place, _reject(row, reason, f"{length_S[index]} tokens, data.max_tokens is {limit}"))
            continue
        lot.num_cut += reason == "cut"
        shortened[index] = fitted
        fine_S[index] = True
    kept: list[int] = np.flatnonzero(fine_S).tolist()
    if shortened:
        return kept, _rebuilt(batch, kept, shortened)
    return kept, batch if len(kept) == len(lot.rows) else _take(batch, fine_S)


def _take(batch: EncodedBatch, keep_S: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> EncodedBatch:
    length_S = np.diff(batch.begin_S)
    keep_T = np.repeat(keep_S, length_S)
    begin_S = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(length_S[keep_S])])
    return EncodedBatch(batch.ids_T[keep_T], batch.weight_T[keep_T], begin_S, batch.num_bytes_S[keep_S], {})


def _rebuilt(batch: EncodedBatch, kept: Sequence[int], shortened: dict[int, Encoded]) -> EncodedBatch:
    samples = [shortened.get(index) or batch.sample(index) for index in kept]
    begin_S = np.cumsum([0, *(len(sample.ids_T) for sample in samples)], dtype=np.int64)
    ids_T, weight_T = (np.concatenate(arrays) for arrays in zip(*samples, strict=True))
    return EncodedBatch(ids_T, weight_T, begin_S, batch.num_bytes_S[list(kept)], {})


def _leading(encoded: Encoded, control_ids: frozenset[int]) -> int:
    """How many control tokens a sample begins with."""
    return next((n for n, number in enumerate(encoded.ids_T.tolist()) if number not in control_ids), len(encoded.ids_T))


def fit(
    encoded: Encoded,
    limit: int | None,
    too_long: str,
    is_text: bool,
    control_ids: frozenset[int],
    opening: int = 1,
    most_head: int = 1,
) -> tuple[Encoded | None, str]:
    """A sample within the limit, or None and the reason: `too_long` or `nothing_trained`; ("cut" where it was shortened).

    A cut takes the front of the prompt away (but at most `most_head` leading control tokens such as BOS). An answer that is not left
    whole, with at least `opening` tokens of what leads to it, is no longer trained. A plain document loses its end, and with it the
    stop token.
    """
    ids_T, weight_T = encoded.ids_T, encoded.weight_T.copy()
    weight_T[:1] = 0.0  # nothing predicts the first token
    reason = ""
    if limit is not None and len(ids_T) > limit:
        if too_long == "drop":
            return None, "too_long"
        reason = "cut"
        if is_text:
            ids_T, weight_T = ids_T[:limit], weight_T[:limit]
        else:
            head = min(most_head, _leading(encoded, control_ids))
            start = len(ids_T) - limit + head
            rest = weight_T[start:].copy()
            while rest.any() and (first := int(np.argmax(rest > 0))) < opening:
                ends = np.flatnonzero(rest[first:] == 0)
                rest[first : first + int(ends[0]) if len(ends) else len(rest)] = 0.0
            ids_T = np.concatenate([ids_T[:head], ids_T[start:]])
            weight_T = np.concatenate([np.zeros(head, dtype=np.float32), rest])
            if not weight_T.any():
                return None, "too_long"
    if not weight_T.any():
        return None, "nothing_trained"
    return Encoded(ids_T, weight_T), reason
