"""A sample as it is trained on, in colour: what is trained, what is context, and the control tokens as chips."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from weft.data.stretches import Encoded
from weft.data.tokens import Tokenizer
from weft.page.markup import Markup, el, join, text

FIRST_TOKENS, LAST_TOKENS = 500, 300
"""Of a longer sample, so many tokens are shown from its beginning and its end."""

_WHITE = re.compile(r"\n|\t| {2,}| +(?=\n)")
_MOST_CHARS = 8_000


class Run(NamedTuple):
    """A stretch of tokens of one kind: `trained`, `context` or `control` (a single control token), and whether it is trained."""

    text: str
    trained: bool
    control: bool


def runs(tokenizer: Tokenizer, encoded: Encoded) -> Iterator[Run]:
    """A sample's text, cut at the borders of the mask and at control tokens. The runs' texts joined are the text of its ids."""
    ids = encoded.ids_T.tolist()
    trained_T = encoded.weight_T > 0
    control_T = np.isin(encoded.ids_T, np.array(sorted(tokenizer.control_ids), dtype=np.int64))
    changes = (trained_T[1:] != trained_T[:-1]) | control_T[1:] | control_T[:-1]
    borders = [0, *(np.flatnonzero(changes) + 1).tolist(), len(ids)]
    done = ""
    for start, stop in pairwise(borders):
        whole = tokenizer.decode(ids[:stop])
        if whole[len(done) :]:
            yield Run(whole[len(done) :], bool(trained_T[start]), bool(control_T[start]))
        done = whole


def coloured(tokenizer: Tokenizer, encoded: Encoded) -> Markup:
    """The sample as HTML; of a long one its beginning and its end."""
    number = len(encoded.ids_T)
    if number <= FIRST_TOKENS + LAST_TOKENS:
        return el("div", _stretch(tokenizer, encoded), class_="sample", dir="auto", tabindex="0")
    first = Encoded(encoded.ids_T[:FIRST_TOKENS], encoded.weight_T[:FIRST_TOKENS])
    last = Encoded(encoded.ids_T[-LAST_TOKENS:], encoded.weight_T[-LAST_TOKENS:])
    gap = el("div", f"{number - FIRST_TOKENS - LAST_TOKENS:,} tokens are not shown", class_="gap")
    return el(
        "div", _stretch(tokenizer, first), gap, _stretch(tokenizer, last), class_="sample", dir="auto", tabindex="0"
    )


def _stretch(tokenizer: Tokenizer, encoded: Encoded) -> Markup:
    return join(_run(run) for run in runs(tokenizer, encoded))


def _run(run: Run) -> Markup:
    trained = " trained" if run.trained else ""
    if run.control:
        return el("span", run.text, class_=f"chip{trained}")
    shown = run.text if len(run.text) <= _MOST_CHARS else run.text[:_MOST_CHARS] + "…"
    return el("span", with_white(shown), class_=f"run{trained}")


def with_white(value: str) -> Markup:
    """Text with faint marks where white space is more than a single blank; the marks are not copied with the text."""
    parts: list[Markup] = []
    done = 0
    for found in _WHITE.finditer(value):
        parts.append(text(value[done : found.start()]))
        white = found.group()
        kind = {"\n": "line", "\t": "tab"}.get(white[0], "blank")
        parts.append(el("span", Markup(white), class_=f"white {kind}"))
        done = found.end()
    return join([*parts, text(value[done:])])
