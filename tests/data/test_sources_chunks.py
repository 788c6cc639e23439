"""Chunks of a file: wherever it is cut, the rows are the same; and memory stays bounded whatever a file holds."""

from __future__ import annotations

import gzip
import json
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.data.parse import Row
from weft.data.sources import Chunk, chunks, files, read, rows, source_file
from weft.types import JsonValue, Reject

PARTS = [
    b"\n",
    b"\r\n",
    b"\n\n",
    b'{"a": "b"}',
    b'{"a": 1, "a": 2}',
    b"{",
    b"}",
    b"[",
    b"]",
    b'"',
    b"\xff",
    b" ",
    b"\xef\xbb\xbf",
    b"x",
    b"\0",
]


def outline(entries: list[Row | Reject]) -> list[tuple[str, int, JsonValue, str]]:
    return [(*e.id, e.value, "") if isinstance(e, Row) else (*e.row, e.raw, f"{e.reason}: {e.detail}") for e in entries]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join) | st.binary(max_size=80),
    chunk_bytes=st.integers(1, 60),
    block_bytes=st.integers(1, 30),
    name=st.sampled_from(["x.jsonl", "x.json", "x.txt"]),
)
def test_wherever_a_file_is_cut_its_rows_are_the_same(
    tmp_path: Path, data: bytes, chunk_bytes: int, block_bytes: int, name: str
) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    file = source_file(path)
    whole = outline(list(rows(file)))
    with pytest.MonkeyPatch.context() as patch:
        for module in ("streams", "cutting", "json_lines"):
            patch.setattr(f"weft.data.sources.{module}.BLOCK_BYTES", block_bytes)
        pieces = chunks(file, chunk_bytes)
        assert [(piece.start, piece.stop) for piece in pieces] == [
            (start, stop) for start, stop in zip([0, *(p.stop for p in pieces)], [p.stop for p in pieces], strict=False)
        ]
        assert pieces[-1].stop == len(data)
        for piece in pieces:
            assert piece.first_line == data.count(b"\n", 0, piece.start) + 1
            assert piece.stop == len(data) or data[piece.stop - 1 : piece.stop] == b"\n"
        apart = [entry for piece in pieces for entry in outline(list(read(piece)))]
    assert apart == whole


def test_chunks_are_at_least_as_long_as_asked_and_end_at_the_next_line_end(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n' * 10)  # 9 bytes each
    file = source_file(path)
    assert [tuple(chunk[1:]) for chunk in chunks(file, 27)] == [(0, 27, 1), (27, 54, 4), (54, 81, 7), (81, 90, 10)]
    assert [tuple(chunk[1:]) for chunk in chunks(file, 28)] == [(0, 36, 1), (36, 72, 5), (72, 90, 9)]
    assert chunks(file) == [Chunk(file, 0, 90, 1)]


@pytest.mark.parametrize(
    ("name", "data", "sample_by"),
    [
        ("x.json", b'[{"a": 1},\n{"a": 2}]\n', "line"),
        ("x.json", b'{\n"a": 1\n}\n', "line"),
        ("x.csv", b'a,b\n"1\n2",3\n', "line"),
        ("x.txt", b"a\nb\nc\n\nd\n", "paragraph"),
        ("x.txt", b"a\nb\nc\n\nd\n", "document"),
        ("x.jsonl", '{"a": 1}\n{"a": 2}\n'.encode("utf-16"), "line"),
    ],
)
def test_what_can_not_be_cut_at_line_ends_is_one_chunk(tmp_path: Path, name: str, data: bytes, sample_by: str) -> None:
    (tmp_path / name).write_bytes(data)
    (file,) = files(str(tmp_path), sample_by=sample_by)  # type: ignore[arg-type]
    assert chunks(file, 3) == [Chunk(file, 0, len(data), 1)]


def test_the_position_is_how_far_a_chunk_was_read(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n\n{"a": 22}\n{"a": 3}')
    first, second = chunks(source_file(path), 20)
    reading = read(first)
    assert reading.position == 0
    assert [reading.position for _ in reading] == [9, 20]
    reading = read(second)
    assert isinstance(next(reading), Row)
    assert list(reading) == []
    assert reading.position == second.stop - second.start == 8


def test_a_chunk_survives_the_way_to_another_process(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    pieces = chunks(source_file(path), 1)
    assert [outline(list(read(piece))) for piece in pickle.loads(pickle.dumps(pieces))] == [
        outline(list(read(piece))) for piece in pieces
    ]


# memory

MEASURED = """
import resource, sys, json
from pathlib import Path
import pyarrow, zstandard
from weft.data.parse import Row
from weft.data.sources import files, rows
megabytes, sample_by = int(sys.argv[2]), sys.argv[3]
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
before = peak()
if megabytes:
    used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + megabytes * 2**20,) * 2)
out = []
for file in files(sys.argv[1], sample_by=sample_by):
    for entry in rows(file):
        out.append([entry.id.line, "row"] if isinstance(entry, Row) else [entry.row.line, entry.reason])
print(json.dumps([out if len(out) < 20 else len(out), peak() - before]))
"""
needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")


def read_apart(path: Path, cap: int, sample_by: str = "line") -> tuple[list[list[object]] | int, int]:
    """What a process of its own reads, which may take `cap` more megabytes of addresses; and how many it took of memory."""
    command = [sys.executable, "-c", MEASURED, str(path), str(cap), sample_by]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found, megabytes = json.loads(done.stdout)
    return found, megabytes


def sparse(path: Path, before: bytes, after: bytes, megabytes: int = 200) -> Path:
    """A file with a hole of NUL bytes, which takes no room on the disk."""
    with path.open("wb") as file:
        file.write(before)
        file.seek(megabytes * 2**20, 1)
        file.write(after)
    return path


@needs_proc
@pytest.mark.parametrize(
    ("name", "before", "after", "sample_by", "expected"),
    [
        ("x.jsonl", b'{"a": 1}\n{"a": "', b'"}\n{"a": 2}\n', "line", [[1, "row"], [2, "too_large"], [3, "row"]]),
        ("x.csv", b"a,b\n1,2\n1,", b"\n3,4\n", "line", [[2, "row"], [3, "too_large"], [4, "row"]]),
        ("x.csv", b'a,b\n1,2\n1,"', b"\n3,4\n", "line", [[2, "row"], [3, "too_large"], [4, "row"]]),
        ("x.txt", b"one\n\n", b"\n\ntwo\n", "paragraph", [[1, "row"], [3, "too_large"], [5, "row"]]),
        ("x.txt", b"one\n\n", b"\n\ntwo\n", "document", [[1, "too_large"]]),
    ],
)
def test_a_row_of_200_megabytes_is_refused_under_a_memory_cap(
    tmp_path: Path, name: str, before: bytes, after: bytes, sample_by: str, expected: list[list[object]]
) -> None:
    path = sparse(tmp_path / name, before, after)
    assert path.stat().st_size > 200 * 2**20
    assert read_apart(path, 150, sample_by)[0] == expected


@needs_proc
def test_an_open_quote_before_much_text_does_not_hold_it(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b'a,b\n1,2\n1,"' + b"x,y and some more text\n" * 2**20)
    assert read_apart(path, 200)[0] == [[2, "row"], [3, "unclosed_quote"]]


@needs_proc
@pytest.mark.parametrize("packing", ["gz", "zst"])
@pytest.mark.parametrize("shape", ["one line", "many lines", "array"])
def test_what_unpacks_to_much_more_is_read_in_bounded_memory(tmp_path: Path, packing: str, shape: str) -> None:
    zstandard = pytest.importorskip("zstandard", reason="needs the extra zstd")
    row = b'{"a": "' + b"x" * 2**16 + b'"}'
    line = {"one line": b"x" * 2**16, "many lines": row + b"\n", "array": b"," + row}[shape]
    path = tmp_path / f"x.{'json' if shape == 'array' else 'jsonl'}.{packing}"
    with path.open("wb") as raw:
        packer = (
            gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=1)
            if packing == "gz"
            else zstandard.ZstdCompressor(level=1).stream_writer(raw, closefd=False)
        )
        with packer:
            packer.write(b"[1" if shape == "array" else b"")
            for _ in range(200):
                packer.write(line * 16)
            packer.write(b"]" if shape == "array" else b"")
    assert path.stat().st_size < 2 * 2**20
    expected = {"one line": [[1, "too_large"]], "many lines": 3200, "array": 3201}[shape]
    assert read_apart(path, 170 if packing == "gz" else 250)[0] == expected


@needs_proc
@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_a_table_is_read_in_less_memory_than_it_unpacks_to(tmp_path: Path, name: str) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    texts = pa.table({"a": [f"{n:08d}" * 2**13 for n in range(300)]})
    writer = (
        pq.ParquetWriter(tmp_path / name, texts.schema, use_dictionary=False, compression="zstd")
        if name == "x.parquet"
        else pa.ipc.new_file(str(tmp_path / name), texts.schema, options=pa.ipc.IpcWriteOptions(compression="zstd"))
    )
    with writer:
        for _ in range(12):
            writer.write_table(texts)
    found, megabytes = read_apart(tmp_path / name, 0)
    assert found == 3600
    assert megabytes < 100  # of 225
