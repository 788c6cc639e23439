"""A micro-batch as one flat row of tokens: what the model is shown.

    ids        a1 a2 a3 a4 b1 b2 b3         two samples side by side
    labels     a2 a3 a4  0 b2 b3  0         the next token; 0 where there is none, with coefficient 0
    position    0  1  2  3  0  1  2
    lengths    [4, 3]                       attention never crosses a sample

Padding is a way of filling up, not another kind of batch: with `pad_to` every sample is followed by padding that nothing attends
to and nothing trains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from weft.data.plan import Parts
from weft.data.store import Store


@dataclass(frozen=True)
class Batch:
    """Flat arrays over T tokens. coefficient_T is aᵢ, 0 where nothing is trained; weight_T the token's own weight mᵢ."""

    ids_T: npt.NDArray[np.int64]
    labels_T: npt.NDArray[np.int64]
    position_T: npt.NDArray[np.int64]
    task_T: npt.NDArray[np.int64]
    weight_T: npt.NDArray[np.float32]
    coefficient_T: npt.NDArray[np.float32]
    lengths: tuple[int, ...]
    num_tokens: int
    """Tokens of samples, padding not counted."""


def make_batch(
    stores: tuple[Store, ...], parts: Parts, factor_P: npt.NDArray[np.float64], padding_id: int | None = None
) -> Batch:
    """Lay parts into one row. factor_P: each part's c_s (see losses.weighting); padding_id: pad to the longest with this id."""
    lengths = [int(length) for length in parts.length_P]
    widths = [max(lengths)] * len(lengths) if padding_id is not None else lengths
    total = sum(widths)
    ids_T = np.full(total, padding_id or 0, dtype=np.int64)
    labels_T = np.zeros(total, dtype=np.int64)
    weight_T = np.zeros(total, dtype=np.float32)
    coefficient_T = np.zeros(total, dtype=np.float32)
    at = 0
    for i, (length, width) in enumerate(zip(lengths, widths, strict=True)):
        sample = stores[parts.task_P[i]].sample(int(parts.sample_P[i]))
        piece = slice(int(parts.start_P[i]), int(parts.stop_P[i]))
        ids = sample.ids_T[piece]
        ids_T[at : at + length] = ids
        labels_T[at : at + length - 1] = ids[1:]
        weight_T[at : at + length - 1] = sample.weight_T[piece][1:]
        coefficient_T[at : at + length - 1] = weight_T[at : at + length - 1].astype(np.float64) * factor_P[i]
        at += width
    widths_P = np.array(widths, dtype=np.int64)
    starts_P = np.cumsum(widths_P) - widths_P
    return Batch(
        ids_T=ids_T,
        labels_T=labels_T,
        position_T=np.arange(total) - np.repeat(starts_P, widths_P),
        task_T=np.repeat(parts.task_P, widths_P),
        weight_T=weight_T,
        coefficient_T=coefficient_T,
        lengths=tuple(widths),
        num_tokens=sum(lengths),
    )
