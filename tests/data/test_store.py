"""The token store: what was written comes back, whole or not at all; and how rows are split."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.data.stores import ledger_of, sample_of, store_of
from weft.data.parts import StoredSample, Writer
from weft.data.store import Store, read_rejects
from weft.errors import DataError
from weft.types import Reject, RowId


def random_samples(number: int, seed: int = 0) -> list[StoredSample]:
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, number, dtype=np.uint64).tolist()
    lengths = rng.integers(1, 9, number).tolist()
    return [
        sample_of(rng.integers(0, 99, n).tolist(), [0.0, *rng.choice([0.0, 0.5, 1.0], n - 1).tolist()], line, row_hash)
        for line, (n, row_hash) in enumerate(zip(lengths, hashes, strict=True), 1)
    ]


def split_of(store: Store, validation: float, test: float = 0.0) -> dict[str, set[int]]:
    return {
        which: set(store.split(which, validation, test).tolist())  # type: ignore[arg-type]
        for which in ("train", "validation", "test")
    }


def hashed(folder: Path, hashes: list[int]) -> Store:
    return store_of(folder, "t", [sample_of([1, 2], [0, 1], i, h) for i, h in enumerate(hashes, 1)])


# round trip


@pytest.mark.parametrize("batch_samples", [1, 3, 10, 4096])
@pytest.mark.parametrize("number", [1, 10])
def test_samples_come_back_as_they_were_written(tmp_path: Path, number: int, batch_samples: int) -> None:
    samples = random_samples(number)
    store_of(tmp_path, "t", samples, batch_samples)
    store = Store.open(tmp_path / "t-key", "t")
    assert len(store) == number
    for index, sample in enumerate(samples):
        ids_T, weight_T = store.sample(index)
        assert (ids_T.tolist(), weight_T.tolist()) == tuple(array.tolist() for array in sample.encoded)
        assert store.name(index) == f"t:rows.jsonl:{index + 1}"
    assert store.length_S.tolist() == [len(s.encoded.ids_T) for s in samples]
    assert store.trained_S == pytest.approx([float(s.encoded.weight_T.sum()) for s in samples])
    assert store.ledger.tokens == sum(len(s.encoded.ids_T) for s in samples)
    assert store.ledger.trained_tokens == sum(int((s.encoded.weight_T > 0).sum()) for s in samples)


def test_samples_are_read_only_views_of_the_mapped_file(tmp_path: Path) -> None:
    store = store_of(tmp_path, "t", random_samples(5))
    for array in store.sample(3):
        assert not array.flags.owndata
        assert not array.flags.writeable


def test_a_store_without_samples_is_empty(tmp_path: Path) -> None:
    store = store_of(tmp_path, "t", [])
    assert len(store) == len(store.length_S) == len(store.trained_S) == len(store.split("train", 0.1, 0.1)) == 0


def test_rows_of_several_files_keep_their_names(tmp_path: Path) -> None:
    encoded = sample_of([1, 2], [0, 1]).encoded
    with Writer(tmp_path / "t-key", "t", ["a.jsonl", "b/c.json"]) as writer:
        writer.add(StoredSample(RowId("b/c.json", 7), encoded, 1))
        writer.add(StoredSample(RowId("a.jsonl", 2**40), encoded, 2))
        store = writer.publish(ledger_of("t", 2))
    assert [store.name(0), store.name(1)] == ["t:b/c.json:7", f"t:a.jsonl:{2**40}"]


def test_rejects_are_kept_with_their_reasons(tmp_path: Path) -> None:
    with Writer(tmp_path / "t-key", "t", ["a.jsonl"]) as writer:
        writer.reject(Reject(RowId("a.jsonl", 3), "bad_json", "an é and a \ud800", {"a": 1}))
        store = writer.publish(ledger_of("t", 1))
    assert list(read_rejects(store)) == [
        {"row": "t:a.jsonl:3", "reason": "bad_json", "detail": "an é and a \ud800", "raw": {"a": 1}}
    ]


# whole or not at all


def test_a_writer_that_is_not_published_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), Writer(tmp_path / "t-key", "t", ["rows.jsonl"], batch_samples=1) as writer:
        writer.add(sample_of([1, 2], [0, 1]))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_leaves_nothing_that_could_be_taken_for_a_store(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        writer = Writer(tmp_path / "t-key", "t", ["rows.jsonl"], batch_samples=1)
        writer.add(sample_of([1, 2], [0, 1]))
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert not (tmp_path / "t-key").exists()
    assert len(store_of(tmp_path, "t", random_samples(3))) == 3


def test_of_two_writers_the_first_wins_and_both_have_a_store(tmp_path: Path) -> None:
    samples = random_samples(4)
    with (
        Writer(tmp_path / "t-key", "t", ["rows.jsonl"]) as slow,
        Writer(tmp_path / "t-key", "t", ["rows.jsonl"]) as fast,
    ):
        for sample in samples:
            slow.add(sample)
            fast.add(sample)
        stores = [fast.publish(ledger_of("t", 4)), slow.publish(ledger_of("t", 4))]
    assert [[s.sample(i).ids_T.tolist() for i in range(4)] for s in stores] == [
        [sample.encoded.ids_T.tolist() for sample in samples]
    ] * 2
    assert [p.name for p in tmp_path.iterdir()] == ["t-key"]


def test_something_else_in_the_stores_place_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "t-key").mkdir()
    (tmp_path / "t-key" / "mine.txt").write_text("mine")
    with pytest.raises(OSError):
        store_of(tmp_path, "t", random_samples(2))
    assert (tmp_path / "t-key" / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("damage", ["remove", b"", b"{", b"[]", b'{"task": "t"}'])
def test_a_store_with_a_broken_ledger_is_refused(tmp_path: Path, damage: str | bytes) -> None:
    file = store_of(tmp_path, "t", random_samples(2)).folder / "ledger.json"
    if isinstance(damage, bytes):
        file.write_bytes(damage)
    else:
        file.unlink()
    with pytest.raises(DataError, match="not a whole token store"):
        Store.open(tmp_path / "t-key", "t")


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
def test_a_store_with_cut_samples_is_refused(tmp_path: Path, part: float) -> None:
    store = store_of(tmp_path, "t", random_samples(2000))
    file = store.folder / "00000.arrow"
    os.truncate(file, int(file.stat().st_size * part))
    with pytest.raises(DataError, match="delete it and prepare again"):
        _ = Store.open(store.folder, "t").length_S


def test_a_store_with_another_number_of_samples_than_its_ledger_says_is_refused(tmp_path: Path) -> None:
    store = store_of(tmp_path, "t", random_samples(5))
    record = json.loads((store.folder / "ledger.json").read_text())
    (store.folder / "ledger.json").write_text(json.dumps({**record, "used": 6}))
    with pytest.raises(DataError, match="holds 5 samples where its ledger says 6"):
        _ = Store.open(store.folder, "t").trained_S


# splits


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    hashes=st.lists(
        st.integers(0, 100).map(lambda n: n * 2**64 // 101) | st.sampled_from([0, 1, 2**64 - 1]),
        min_size=1,
        max_size=12,
    ),
    validation=st.sampled_from([0.0, 0.02, 0.5, 0.97, 1, 3, 10_000]),
    test=st.sampled_from([0.0, 0.02]),
)
@example([2**63, 2**63 + 5], 0.02, 0.0)
@example([2**64 - 1, 2**64 - 2], 0.02, 0.02)
@example([0, 1], 0.02, 0.0)
def test_a_split_is_whole_and_keeps_its_promises(
    tmp_path_factory: pytest.TempPathFactory, hashes: list[int], validation: float, test: float
) -> None:
    split = split_of(hashed(tmp_path_factory.mktemp("s"), hashes), validation, test)
    sides = list(split.values())
    assert set().union(*sides) == set(range(len(hashes)))
    assert sum(map(len, sides)) == len(hashes)
    assert split["train"], "never all"
    assert not split["test"] or test > 0
    assert bool(split["validation"]) == (validation > 0 and len(set(hashes)) > 1), "at least one"
    side_of = {index: name for name, side in split.items() for index in side}
    for row_hash in set(hashes):
        assert len({side_of[index] for index, other in enumerate(hashes) if other == row_hash}) == 1, "doubles together"


def test_the_shares_are_those_asked_for(tmp_path: Path) -> None:
    store = store_of(tmp_path, "t", random_samples(4000))
    split = split_of(store, 0.1, 0.2)
    assert len(split["validation"]) == pytest.approx(400, abs=80)
    assert len(split["test"]) == pytest.approx(800, abs=110)
    assert len(split_of(store, 100)["validation"]) == pytest.approx(100, abs=40)


def test_a_row_stays_on_its_side_when_rows_are_added(tmp_path: Path) -> None:
    samples = random_samples(300)
    before = split_of(store_of(tmp_path / "a", "t", samples[:200]), 0.1, 0.1)
    after = split_of(store_of(tmp_path / "b", "t", samples), 0.1, 0.1)
    for which, side in before.items():
        assert side == {index for index in after[which] if index < 200}


def test_more_validation_keeps_what_was_validation(tmp_path: Path) -> None:
    store = store_of(tmp_path, "t", random_samples(300))
    assert split_of(store, 0.05)["validation"] < split_of(store, 0.2)["validation"]


@pytest.mark.parametrize(("validation", "test"), [(0.6, 0.5), (0.99, 0.01)])
def test_shares_that_leave_nothing_are_refused(tmp_path: Path, validation: float, test: float) -> None:
    with pytest.raises(DataError, match=r"data\.validation .* leave no row for training"):
        store_of(tmp_path, "t", random_samples(3)).split("train", validation, test)
