"""Batches: a drawn example checked by hand, then every token of random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.data.stores import sample_of, store_of
from weft.data.batches import make_batch
from weft.data.plan import Parts
from weft.data.store import Store


@pytest.fixture
def stores(tmp_path: Path) -> tuple[Store, ...]:
    a = [
        sample_of([11, 12, 13, 14], [0, 0, 1, 0.5], 1, row_hash=1),
        sample_of([21, 22], [0, 1], 2, row_hash=2),
    ]
    b = [sample_of([31, 32, 33], [0, 1, 1], 1, row_hash=3)]
    return store_of(tmp_path, "a", a), store_of(tmp_path, "b", b)


def parts_of(*rows: tuple[int, int, int, int]) -> Parts:
    return Parts(*(np.array(column, dtype=np.int64) for column in zip(*rows, strict=True)))


def test_the_drawn_example(stores: tuple[Store, ...]) -> None:
    batch = make_batch(stores, parts_of((0, 0, 0, 4), (1, 0, 0, 3)), np.array([0.25, 0.125]))
    assert batch.ids_T.tolist() == [11, 12, 13, 14, 31, 32, 33]
    assert batch.labels_T.tolist() == [12, 13, 14, 0, 32, 33, 0]
    assert batch.position_T.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert batch.task_T.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert batch.weight_T.tolist() == [0, 1, 0.5, 0, 1, 1, 0]
    assert batch.coefficient_T.tolist() == [0, 0.25, 0.125, 0, 0.125, 0.125, 0]
    assert (batch.lengths, batch.num_tokens) == ((4, 3), 7)


def test_padding_is_neither_trained_nor_counted(stores: tuple[Store, ...]) -> None:
    parts = parts_of((0, 0, 0, 4), (0, 1, 0, 2), (1, 0, 0, 3))
    batch = make_batch(stores, parts, np.array([1.0, 1.0, 1.0]), padding_id=99)
    assert batch.ids_T.tolist() == [11, 12, 13, 14, 21, 22, 99, 99, 31, 32, 33, 99]
    assert batch.labels_T.tolist() == [12, 13, 14, 0, 22, 0, 0, 0, 32, 33, 0, 0]
    assert batch.position_T.tolist() == [0, 1, 2, 3] * 3
    assert batch.weight_T.tolist() == [0, 1, 0.5, 0, 1, 0, 0, 0, 1, 1, 0, 0]
    assert batch.task_T.tolist() == [0] * 8 + [1] * 4
    assert (batch.lengths, batch.num_tokens) == ((4, 4, 4), 9)


def test_padding_with_token_zero_is_padding_too(stores: tuple[Store, ...]) -> None:
    batch = make_batch(stores, parts_of((0, 0, 0, 4), (0, 1, 0, 2)), np.array([1.0, 1.0]), padding_id=0)
    assert batch.ids_T.tolist() == [11, 12, 13, 14, 21, 22, 0, 0]


def test_a_piece_of_a_sample_starts_anew_and_its_first_token_is_no_label(stores: tuple[Store, ...]) -> None:
    parts = parts_of((0, 0, 2, 4), (0, 0, 0, 2), (0, 0, 3, 4))
    batch = make_batch(stores, parts, np.array([0.5, 1.0, 1.0]))
    assert batch.ids_T.tolist() == [13, 14, 11, 12, 14]
    assert batch.labels_T.tolist() == [14, 0, 12, 0, 0]
    assert batch.position_T.tolist() == [0, 1, 0, 1, 0]
    assert batch.weight_T.tolist() == [0.5, 0, 0, 0, 0]
    assert batch.coefficient_T.tolist() == [0.25, 0, 0, 0, 0]


def test_a_batch_can_be_written_to(stores: tuple[Store, ...]) -> None:
    """Torch makes tensors of its arrays; views of a mapped file would be read-only."""
    batch = make_batch(stores, parts_of((0, 1, 0, 2)), np.array([1.0]))
    assert all(array.flags.writeable for array in (batch.ids_T, batch.labels_T, batch.weight_T, batch.coefficient_T))


@pytest.mark.parametrize("padding_id", [None, 7])
def test_every_trained_token_is_there_once_with_its_factor(tmp_path: Path, padding_id: int | None) -> None:
    rng = np.random.default_rng(3)
    lengths = [2, 9, 3, 31, 2]
    samples = []
    for line, length in enumerate(lengths, 1):
        weights = rng.choice([0.0, 1.0, 0.3], size=length)
        weights[0] = 0
        samples.append(sample_of(rng.integers(0, 50, length).tolist(), weights.tolist(), line, row_hash=line))
    stores = (store_of(tmp_path, "t", samples),)
    factors = rng.random(len(lengths))
    batch = make_batch(stores, parts_of(*((0, i, 0, n) for i, n in enumerate(lengths))), factors, padding_id)
    width = max(lengths)
    at = 0
    for sample, factor, length in zip(samples, factors, lengths, strict=True):
        ids, weights = sample.encoded
        here = slice(at, at + length - 1)
        assert batch.ids_T[at : at + length].tolist() == ids.tolist()
        assert batch.labels_T[here].tolist() == ids[1:].tolist()
        assert batch.weight_T[here].tolist() == weights[1:].tolist()
        assert batch.coefficient_T[here] == pytest.approx(weights[1:].astype(float) * factor)
        at += length if padding_id is None else width
    assert len(batch.ids_T) == at == sum(batch.lengths)
    assert batch.weight_T.sum() == pytest.approx(sum(s.encoded.weight_T.sum() for s in samples))
