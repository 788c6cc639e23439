"""Texts of benchmarks among the training rows: 13-grams of words, as GPT-3's authors looked for them (arXiv 2005.14165, appendix C).

A text is words in small letters, without punctuation; of Chinese and Japanese each character is a word. A training row is
contaminated if 13 words in a row of a benchmark's text stand in it. Texts of 8 to 12 words must stand in it whole, and those of 4
to 7 must be a whole message of it; shorter ones prove nothing. 13-grams that more than ten texts of one benchmark file share are
its instructions, and are not looked for.

The words are those of the raw rows, so the tokenizer has no say; the sources of all tasks are read once more.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from weft.data import sources
from weft.data.checks.found import MAX_EXAMPLES, Check, Example, Material, Pair, pairs
from weft.types import Conversation, JsonValue, Progress, Reject

CONTAMINATION = "no benchmark's text is among the training rows"

NGRAM_WORDS = 13
SHORTEST_NGRAM = 8
SHORTEST_TEXT = 4
_COMMON_TEXTS = 10

_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]|[^\W_\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\uf900-\ufaff]+"
)

Hashes = npt.NDArray[np.uint64]


class Text(NamedTuple):
    """A text of a benchmark."""

    row: str
    file: str
    words: tuple[str, ...]


class Hit(NamedTuple):
    """A benchmark's text in a training row; `overlap` is the share of the text's n-grams that stand there."""

    text: Text
    row: str
    task: str
    overlap: float
    words: str


@dataclass
class Index:
    """All n-grams of the benchmarks by their hashes, for each n that is needed, and the short texts as they are."""

    texts: list[Text]
    ngrams: dict[int, dict[int, list[int]]] = field(default_factory=dict)
    hashes: dict[int, Hashes] = field(default_factory=dict)
    whole: dict[tuple[str, ...], int] = field(default_factory=dict)
    untold: int = 0
    """Texts that are too short, or nothing but what the benchmark's texts share."""


def check(material: Material) -> Iterator[Check]:
    """Look for every given benchmark in every training row. Raises DataError where a benchmark can't be read."""
    given = material.settings.data.contamination
    if not given:
        yield Check(CONTAMINATION, True, "not looked for: no benchmark is given; data.contamination takes their files")
        return
    index = index_of(texts(given))
    found: list[Hit] = []
    for store in material.stores:
        trained = set(material.split(store, "train").tolist())
        for number, pair in enumerate(pairs(material.settings, store)):
            if number % 500 == 0:
                material.progress(Progress("check contamination", number, len(store), store.task))
            if pair.number in trained:
                found.extend(_hits(material, index, pair))
    yield _told(index, found)


def _told(index: Index, found: Sequence[Hit]) -> Check:
    files = Counter(text.file for text in index.texts)
    searched = ", ".join(f"{number:,} texts of {file}" for file, number in files.items())
    if index.untold:
        searched += f" ({index.untold:,} of them too short or too common to tell)"
    if not found:
        return Check(CONTAMINATION, True, f"none of {searched}")
    parts = []
    for task, of_task in sorted(_by(found, "task").items(), key=lambda item: -len(item[1])):
        rows, texts_hit = len({hit.row for hit in of_task}), len({hit.text.row for hit in of_task})
        parts.append(f"{task}: {rows:,} rows hold something of {texts_hit:,} benchmark rows")
    closest: dict[tuple[str, str], Hit] = {}
    for hit in sorted(found, key=lambda hit: (-hit.overlap, hit.row)):
        closest.setdefault((hit.row, hit.text.row), hit)
    worst = list(closest.values())
    first = ", ".join(f"{hit.row} has {hit.overlap:.0%} of {hit.text.row}" for hit in worst[:3])
    examples = tuple(
        Example(f"{hit.overlap:.0%} of the text's n-grams", ((hit.row, hit.words), (hit.text.row, _start(hit.text))))
        for hit in worst[:MAX_EXAMPLES]
    )
    return Check(
        CONTAMINATION, False, f"{'; '.join(parts)}; the closest: {first}; searched: {searched}", examples=examples
    )


def _by(found: Sequence[Hit], name: str) -> dict[str, list[Hit]]:
    groups: dict[str, list[Hit]] = defaultdict(list)
    for hit in found:
        groups[getattr(hit, name)].append(hit)
    return groups


def _start(text: Text) -> str:
    return " ".join(text.words[:40])


# -- benchmarks ---------------------------------------------------------------------------------------------------------------


def texts(paths: Sequence[str]) -> list[Text]:
    """Every text of every row of the benchmarks' files, whatever its key. Raises DataError."""
    found = []
    for path in paths:
        for file in sources.files(path):
            shown = file.name if Path(path).is_dir() else Path(path).name
            for item in sources.rows(file):
                if not isinstance(item, Reject):
                    for text in strings(item.value):
                        found.append(Text(f"{shown}:{item.id.line}", shown, words_of(text)))
    return found


def strings(value: JsonValue) -> Iterator[str]:
    """All texts in a JSON value, but keys."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, list):
            waiting.extend(reversed(item))
        elif isinstance(item, dict):
            waiting.extend(reversed(item.values()))


def index_of(found: list[Text]) -> Index:
    """The n-grams to look for. Equal texts of one row count once."""
    index = Index(list(dict.fromkeys(text for text in found if text.words)))
    frequent: dict[str, Counter[int]] = defaultdict(Counter)
    grams_of: list[tuple[int, list[int]]] = []
    for text in index.texts:
        size = min(NGRAM_WORDS, len(text.words))
        grams = list(dict.fromkeys(ngram_hashes(text.words, size).tolist())) if size >= SHORTEST_NGRAM else []
        frequent[text.file].update(grams)
        grams_of.append((size, grams))
    for number, (text, (size, grams)) in enumerate(zip(index.texts, grams_of, strict=True)):
        telling = [gram for gram in grams if frequent[text.file][gram] <= _COMMON_TEXTS]
        for gram in telling:
            index.ngrams.setdefault(size, {}).setdefault(gram, []).append(number)
        if SHORTEST_TEXT <= len(text.words) < SHORTEST_NGRAM:
            index.whole.setdefault(text.words, number)
        elif not telling:
            index.untold += 1
    index.hashes = {n: np.array(sorted(grams), dtype=np.uint64) for n, grams in index.ngrams.items()}
    return index


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text in small letters, without punctuation; each Chinese or Japanese character is one."""
    return tuple(_WORD.findall(text.lower()))


def ngram_hashes(words: Sequence[str], size: int) -> Hashes:
    """A hash for every `size` words in a row. Only equal within one process."""
    word_W = np.array([hash(word) & 0xFFFFFFFFFFFFFFFF for word in words], dtype=np.uint64)
    number = len(words) - size + 1
    if number < 1:
        return np.zeros(0, dtype=np.uint64)
    mixed = np.zeros(number, dtype=np.uint64)
    for place in range(size):
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + word_W[place : place + number]
    return mixed


# -- training rows ------------------------------------------------------------------------------------------------------------


def _hits(material: Material, index: Index, pair: Pair) -> Iterator[Hit]:
    """The benchmark texts that stand in a training row. A hash only proposes: the words themselves decide."""
    shared: dict[int, set[int]] = defaultdict(set)
    shown: dict[int, str] = {}
    for message in _messages(material, pair):
        words = words_of(message)
        if words in index.whole:
            number = index.whole[words]
            shared[number].add(0)
            shown[number] = " ".join(words)
        for size, wanted in index.hashes.items():
            hashes = ngram_hashes(words, size)
            place = np.minimum(np.searchsorted(wanted, hashes), len(wanted) - 1)
            for at in np.flatnonzero(wanted[place] == hashes).tolist():
                gram = words[at : at + size]
                for number in index.ngrams[size][int(hashes[at])]:
                    if _stands_in(gram, index.texts[number].words):
                        shared[number].add(int(hashes[at]))
                        shown.setdefault(number, " ".join(gram))
    for number, grams in shared.items():
        text = index.texts[number]
        size = min(NGRAM_WORDS, len(text.words))
        whole = len(set(ngram_hashes(text.words, size).tolist())) if size >= SHORTEST_NGRAM else 1
        yield Hit(text, pair.name, pair.store.task, min(1.0, len(grams) / whole), shown[number])


def _messages(material: Material, pair: Pair) -> list[str]:
    conversation: Conversation = pair.conversation
    if conversation.tokens is not None:
        return [material.prepared.tokenizer.decode(conversation.tokens.ids, skip_control=True)]
    return [message.content for message in conversation.messages]


def _stands_in(gram: tuple[str, ...], words: tuple[str, ...]) -> bool:
    size = len(gram)
    return any(words[at : at + size] == gram for at in range(len(words) - size + 1) if words[at] == gram[0])
