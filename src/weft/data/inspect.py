"""Looking at prepared data: samples with their masks, and checks that fail before any training does."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np

from weft.config.settings import Settings
from weft.data.prepare import Prepared
from weft.data.read import read_task
from weft.data.store import Store
from weft.data.templates import message_weights, with_system
from weft.data.tokens import Encoded, Tokenizer
from weft.errors import ConfigError, TemplateError
from weft.types import TEXT_ROLE, Conversation, JsonObject, Reject

CHECKED_ROWS = 2000
"""Rows a task whose masks are proven against the raw conversation; the first ones, so the same every time."""


@dataclass(frozen=True)
class Shown:
    """One sample as `weft data show` gives it."""

    id: str
    task: str
    split: str
    ids: list[int]
    weights: list[float]
    text: str

    def record(self) -> JsonObject:
        return {
            "id": self.id,
            "task": self.task,
            "split": self.split,
            "ids": [*self.ids],
            "weights": [*self.weights],
            "text": self.text,
        }


def show(settings: Settings, prepared: Prepared, task: str | None, number: int) -> Iterator[Shown]:
    """The first `number` samples (0: all) of a task, or of every task. Raises ConfigError for an unknown task."""
    if task is not None and task not in prepared.tasks:
        raise ConfigError(f"--task {task}: there is no such task; the tasks are {', '.join(prepared.tasks)}")
    for store in prepared.stores:
        if task in (None, store.task):
            splits = split_names(settings, store)
            for index in range(len(store) if number == 0 else min(number, len(store))):
                sample = store.sample(index)
                ids = sample.ids_T.tolist()
                yield Shown(
                    store.name(index),
                    store.task,
                    splits[index],
                    ids,
                    sample.weight_T.tolist(),
                    prepared.tokenizer.decode(ids),
                )


def split_names(settings: Settings, store: Store) -> list[str]:
    names = ["train"] * len(store)
    for which in ("validation", "test"):
        for index in store.split(which, settings.data.validation, settings.data.test).tolist():
            names[index] = which
    return names


def coloured_runs(tokenizer: Tokenizer, sample: Shown) -> list[tuple[str, bool]]:
    """A sample's text as runs of (text, trained), cut at the borders of the mask."""
    weights = np.array(sample.weights) > 0
    borders = [0, *(np.flatnonzero(np.diff(weights)) + 1).tolist(), len(sample.ids)]
    runs, done = [], ""
    for start, stop in pairwise(borders):
        text = tokenizer.decode(sample.ids[:stop])
        runs.append((text[len(done) :], bool(weights[start])))
        done = text
    return runs


@dataclass(frozen=True)
class Check:
    """One property of the data and whether it holds."""

    name: str
    ok: bool
    detail: str


def check(settings: Settings, prepared: Prepared) -> list[Check]:
    """Prove the masks of the data against its raw conversations, and the ledger. Nothing is trained or changed."""
    faults: dict[str, dict[str, str]] = {name: {} for name in _MASK_CHECKS}
    checked, unmatched = 0, []
    for store in prepared.stores:
        before = checked
        for name, conversation, encoded in _pairs(settings, prepared, store):
            checked += 1
            for check_name, problem in _sample_faults(settings, prepared, store, conversation, encoded):
                faults[check_name].setdefault(name, problem)
        if checked - before < (len(store) if store.ledger.read <= CHECKED_ROWS else min(1, len(store))):
            unmatched.append(f"{store.task}: only {checked - before} of {len(store)} samples have a row in the source")
    results = [
        Check(
            name,
            not found,
            f"{len(found)} of {checked} samples, first {': '.join(next(iter(found.items())))}"
            if found
            else f"{checked} samples",
        )
        for name, found in faults.items()
    ]
    results.append(Check("every sample has its row", not unmatched, "; ".join(unmatched) or f"{checked} samples"))
    ledgers = [store.ledger for store in prepared.stores]
    wrong = [x.task for x in ledgers if x.read != x.used + x.quarantined + sum(x.dropped.values())]
    results.append(
        Check("the ledger adds up", not wrong, ", ".join(wrong) or "read = used + quarantined + dropped, every task")
    )
    empty = [store.task for store in prepared.stores if not store.trained_S.sum() > 0]
    results.append(Check("every task has trained tokens", not empty, ", ".join(empty) or f"{len(ledgers)} tasks"))
    return results


_MASK_CHECKS = (
    "trained text is the answers and their stop tokens",
    "every trained answer ends with a trained stop token",
    "control tokens stand only where the template put them",
    "a prompt's ids are what training shows before the answer",
)


def _pairs(settings: Settings, prepared: Prepared, store: Store) -> Iterator[tuple[str, Conversation, Encoded]]:
    """Stored samples beside the conversations they came from; both lie in the source's order."""
    index = 0
    for item in islice(read_task(store.task, settings.tasks[store.task]), CHECKED_ROWS):
        if index == len(store):
            return
        if not isinstance(item, Reject) and item.id.of(store.task) == store.name(index):
            yield store.name(index), item.conversation, store.sample(index)
            index += 1


def _sample_faults(
    settings: Settings, prepared: Prepared, store: Store, conversation: Conversation, encoded: Encoded
) -> Iterator[tuple[str, str]]:
    tokenizer, template = prepared.tokenizer, prepared.template
    messages = conversation.messages
    ids = encoded.ids_T.tolist()
    if store.ledger.cut and len(ids) == settings.max_tokens:
        return  # shortened: its borders are not the conversation's
    runs = _trained_runs(encoded)
    if messages[0].role == TEXT_ROLE:
        return
    if settings.template.system is not None:
        messages = tuple(with_system(messages, settings.template.system))
    weights = message_weights(messages, settings.tasks[store.task].train_on)
    answers = [m.content for m, w in zip(messages, weights, strict=True) if w > 0]
    stop_id = tokenizer.id_of(template.stop)
    if len(runs) != len(answers):
        yield _MASK_CHECKS[0], f"{len(answers)} answers are trained, but the mask has {len(runs)} stretches"
    for (start, stop), answer in zip(runs, answers, strict=False):
        text = _plain(tokenizer.decode(ids[:stop])[len(tokenizer.decode(ids[:start])) :])
        expected = _plain(answer + template.answer_end + template.stop)
        if text != expected and not _has_unknown(tokenizer, ids[start:stop]):
            yield _MASK_CHECKS[0], f"trained {text[:60]!r} instead of {expected[:60]!r}"
        if ids[stop - 1] != stop_id:
            yield _MASK_CHECKS[1], f"an answer ends with token {ids[stop - 1]} instead of {stop_id} ({template.stop})"
    written = "".join(piece.text for piece in template.render(messages, "all_answers") if piece.control)
    allowed = sum(written.count(name) for name in tokenizer.control_names)
    found = sum(i in tokenizer.control_ids for i in ids)
    if found != allowed:
        yield _MASK_CHECKS[2], f"{found} control tokens where the template writes {allowed}"
    if messages[-1].role == "assistant":
        try:
            prompt = tokenizer.encode_one(template.prompt(messages[:-1]))
        except TemplateError as error:
            yield _MASK_CHECKS[3], str(error)
            return
        if ids[: len(prompt)] != prompt:
            yield _MASK_CHECKS[3], "the prompt's ids differ"


def _trained_runs(encoded: Encoded) -> list[tuple[int, int]]:
    """Stretches of equal positive weight. Two answers never touch: the template writes something between them."""
    trained = np.concatenate([[0], (encoded.weight_T > 0).astype(np.int8), [0]])
    change = np.diff(trained)
    return list(zip(np.flatnonzero(change == 1).tolist(), np.flatnonzero(change == -1).tolist(), strict=True))


def _has_unknown(tokenizer: Tokenizer, ids: list[int]) -> bool:
    unknown = tokenizer.token("unk_token")
    return unknown is not None and tokenizer.id_of(unknown) in ids


def _plain(text: str) -> str:
    """Text up to what tokenizers legitimately normalise: white space and composed characters."""
    return "".join(unicodedata.normalize("NFC", text).split())
