"""The masks, proven against the raw conversations of the first rows of each task, and looked over in all samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from weft.data.checks.found import MAX_EXAMPLES, Check, Example, Ints, Material, Pair, flats, pairs
from weft.data.checks.proof import CONTROL, PROMPT, STOPS, TRAINED, Prover
from weft.data.store import Store
from weft.data.tokens import Tokenizer
from weft.types import Progress

CHECKED_ROWS = 2000
"""Rows a task whose masks are proven against the raw conversation; the first ones, so the same every time."""

MAX_SUSPECTS = 200
"""Samples behind those that are proven too, because they hold a control token that none of the first had."""

MATCHED = "every sample has its row"
EMPTY = "every sample has trained tokens"

_BATCH_PAIRS = 128


def check(material: Material) -> Iterator[Check]:
    """The four properties of a mask, that every sample has its row, and that none is without trained tokens."""
    faults: dict[str, dict[str, str]] = {name: {} for name in (TRAINED, STOPS, CONTROL, PROMPT)}
    prover = Prover(material.settings, material.prepared)
    proven = 0
    unmatched = []
    for store in material.stores:
        foreign = False
        of_task = 0
        for batch in _batches(_to_prove(material, store)):
            for pair, (name, problem) in prover.faults(batch):
                faults[name].setdefault(pair.name, problem)
            foreign |= any(pair.conversation.tokens is not None for pair in batch)
            of_task += len(batch)
            material.progress(Progress("check masks", of_task, min(len(store), CHECKED_ROWS), store.task))
        proven += of_task
        if of_task < (len(store) if store.ledger.read <= CHECKED_ROWS else min(1, len(store))):
            unmatched.append(f"{store.task}: only {of_task} of {len(store)} samples have a row in the source")
        if not foreign:  # how samples end that were tokenized elsewhere is not ours to say
            for index in _unended(store, material).tolist():
                faults[STOPS].setdefault(store.name(index), "a trained stretch doesn't end with a control token")
    looked_at = sum(len(store) for store in material.stores)
    for name, found in faults.items():
        whole = looked_at if name == STOPS else proven
        yield _verdict(name, found, f"{whole:,} samples", whole)
    yield Check(MATCHED, not unmatched, "; ".join(unmatched) or f"{proven:,} samples")
    yield _empty(material)


def _verdict(name: str, found: dict[str, str], good: str, whole: int) -> Check:
    if not found:
        return Check(name, True, good)
    first = ": ".join(next(iter(found.items())))
    examples = tuple(Example(problem, ((row, ""),)) for row, problem in list(found.items())[:MAX_EXAMPLES])
    return Check(name, False, f"{len(found):,} of {whole:,} samples, first {first}", examples=examples)


def _empty(material: Material) -> Check:
    found: dict[str, str] = {}
    for store in material.stores:
        for index in np.flatnonzero(~(store.trained_S > 0)).tolist():
            found.setdefault(store.name(index), "no token is trained")
        if not len(store):
            found.setdefault(store.task, "the task has no sample")
    return _verdict(EMPTY, found, f"{len(material.stores)} tasks", sum(len(store) for store in material.stores))


# -- which samples ------------------------------------------------------------------------------------------------------------


def _to_prove(material: Material, store: Store) -> Iterator[Pair]:
    """The first samples, and those behind them with a control token that none of the first has."""
    yield from pairs(material.settings, store, CHECKED_ROWS)
    tokenizer = material.prepared.tokenizer
    left = _suspects(store, tokenizer, _known_control(store, tokenizer))
    if left:
        for pair in pairs(material.settings, store):
            if pair.number in left:
                yield pair
                left.remove(pair.number)
                if not left:
                    return


def _batches(found: Iterable[Pair]) -> Iterator[list[Pair]]:
    batch: list[Pair] = []
    for pair in found:
        batch.append(pair)
        if len(batch) == _BATCH_PAIRS:
            yield batch
            batch = []
    if batch:
        yield batch


def _known_control(store: Store, tokenizer: Tokenizer) -> Ints:
    """The control ids in the first samples."""
    control = np.array(sorted(tokenizer.control_ids), dtype=np.int64)
    found = [np.zeros(0, dtype=np.int64)]
    for flat in flats(store):
        last = min(len(flat.offsets) - 1, CHECKED_ROWS - flat.first)
        if last <= 0:
            break
        ids_T = flat.ids_T[: flat.offsets[last]]
        found.append(np.unique(ids_T[np.isin(ids_T, control)]).astype(np.int64))
    return np.unique(np.concatenate(found))


def _suspects(store: Store, tokenizer: Tokenizer, known: Ints) -> set[int]:
    """Samples behind the proven ones with a control token that none of those had."""
    unknown = np.array(sorted(tokenizer.control_ids - set(known.tolist())), dtype=np.int64)
    found: set[int] = set()
    for flat in flats(store):
        if len(unknown) and len(found) < MAX_SUSPECTS:
            places = np.flatnonzero(np.isin(flat.ids_T, unknown))
            found.update(flat.sample_of(places).tolist())
    return {index for index in sorted(found)[:MAX_SUSPECTS] if index >= CHECKED_ROWS}


def _unended(store: Store, material: Material) -> Ints:
    """Samples, of all, with a trained stretch whose last token is no control token; a document that was cut may end so."""
    control = np.array(sorted(material.prepared.tokenizer.control_ids), dtype=np.int64)
    found = [np.zeros(0, dtype=np.int64)]
    for flat in flats(store):
        trained_T = flat.weight_T > 0
        goes_on_T = np.append(trained_T[1:], False)
        last_T = flat.offsets[1:] - 1
        goes_on_T[last_T] = False
        if store.ledger.cut:
            full = np.diff(flat.offsets) == material.settings.max_tokens
            goes_on_T[last_T[full]] = True
        ends = np.flatnonzero(trained_T & ~goes_on_T)
        found.append(flat.sample_of(ends[~np.isin(flat.ids_T[ends], control)]))
    return np.concatenate(found)
