"""The journals: a resumed run's end as if it had never been interrupted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft.training.events import Journal, TensorBoard, read_journal


def lines(*steps: int) -> bytes:
    return b"".join(
        json.dumps({"step": step, "text": "é\u2028"}, ensure_ascii=False).encode() + b"\n" for step in steps
    )


def reopened(file: Path, last_step: int) -> bytes:
    Journal(file, last_step).close()
    return file.read_bytes()


def test_what_is_written_is_read(tmp_path: Path) -> None:
    records = [{"step": 1, "loss": 0.1}, {"step": 2, "tasks": {"é\u2028\x85": {"loss": None}}}]
    journal = Journal(tmp_path / "x", -1)
    for record in records:
        journal.write(record)
    journal.sync()
    journal.close()
    assert read_journal(tmp_path / "x") == records
    assert (tmp_path / "x").read_bytes().count(b"\n") == 2


def test_every_line_is_on_its_way_at_once(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x", -1)
    journal.write({"step": 1})
    assert read_journal(tmp_path / "x") == [{"step": 1}]
    journal.close()


def test_lines_beyond_the_checkpoint_are_cut_off(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(lines(1, 2, 2, 3, 4))
    assert reopened(file, 2) == lines(1, 2, 2)
    assert reopened(file, 99) == lines(1, 2, 2)
    assert reopened(file, 0) == b""


def test_a_new_run_starts_empty(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(lines(0, 1))
    assert reopened(file, -1) == b""


def test_writing_goes_on_behind_the_cut(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(lines(1, 2, 3))
    journal = Journal(file, 1)
    journal.write({"step": 2, "text": "é\u2028"})
    journal.close()
    assert file.read_bytes() == lines(1, 2)


@pytest.mark.parametrize(
    "tail",
    [b'{"step": 2', b'{"step": 2}', b'{"st', b"\xff\xfe\n", b"[]\n", b'{"loss": 1}\n', b'{"step": "x"}\n', b"\0\0\0\n"],
)
def test_a_last_line_that_is_cut_or_damaged_is_left_out(tmp_path: Path, tail: bytes) -> None:
    file = tmp_path / "x"
    file.write_bytes(lines(0, 1) + tail)
    assert reopened(file, 5) == lines(0, 1)


def test_nothing_behind_a_damaged_line_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "x"
    file.write_bytes(lines(1) + b"{oops\n" + lines(2))
    assert reopened(file, 5) == lines(1)


def test_reading_stops_at_a_cut_line(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"step": 1}\n{"step": 2}\n{"step": 3')
    assert read_journal(tmp_path / "x") == [{"step": 1}, {"step": 2}]


def test_numbers_that_are_not_json_are_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "x", -1)
    with pytest.raises(ValueError):
        journal.write({"step": 1, "loss": float("nan")})
    journal.close()
    assert (tmp_path / "x").read_bytes() == b""


def test_tensorboard_has_mftcoders_names(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = TensorBoard(tmp_path, 0)
    task = {"loss": 0.5, "tokens": 3, "weight": 2.0, "share": 1.0}
    board.step({"step": 1, "loss": 0.5, "tasks": {"sql": task, "absent": {**task, "loss": None}}}, 0.25)
    board.step({"step": 2, "loss": None, "tasks": {}}, 0.5)
    board.validation({"step": 2, "validation": {"loss": 1e4, "tasks": {"sql": {"loss": 0.75}}}})
    board.close()
    found = EventAccumulator(str(tmp_path))
    found.Reload()
    scalars = {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert scalars.pop("Perplexity/valid")[0][1] > 1e30
    assert scalars == {
        "Loss/train": [(1, 0.5)],
        "Epochs": [(1, 0.25), (2, 0.5)],
        "sql_loss/train": [(1, 0.5)],
        "sql_coba_weight/train": [(1, 2.0)],
        "absent_coba_weight/train": [(1, 2.0)],
        "Loss/valid": [(2, 1e4)],
        "sql_loss/valid": [(2, 0.75)],
    }
