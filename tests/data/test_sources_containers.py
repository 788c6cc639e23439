"""Every container to rows: tables, text, parallel text, Parquet, Arrow, saved datasets, the hub, packed files."""

from __future__ import annotations

import datetime
import decimal
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.data.parse import Row
from weft.data.sources import FILE_REASONS, SampleBy, files, rows
from weft.errors import DataError
from weft.types import JsonValue, Reject

zstandard = pytest.importorskip("zstandard", reason="needs the extra zstd")


def read(path: Path, sample_by: SampleBy = "line", **how: Any) -> list[Row | Reject]:
    return [entry for file in files(str(path), sample_by=sample_by, **how) for entry in rows(file)]


def written(tmp_path: Path, name: str, data: bytes | str) -> Path:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def outline(entries: list[Row | Reject]) -> list[tuple[int, JsonValue]]:
    return [(e.id.line, e.value) if isinstance(e, Row) else (e.row.line, e.reason) for e in entries]


def zstd(data: bytes) -> bytes:
    packed: bytes = zstandard.ZstdCompressor().compress(data)
    return packed


# tables


def test_a_table_gives_objects_of_strings_by_the_line_they_begin_in(tmp_path: Path) -> None:
    text = 'a,"b ""x"""\r\n1,2\r\n\r\n"multi\nline, with ""quotes""\r\n",é\n,\n'
    assert outline(read(written(tmp_path, "x.csv", text))) == [
        (2, {"a": "1", 'b "x"': "2"}),
        (4, {"a": 'multi\nline, with "quotes"\r\n', 'b "x"': "é"}),
        (7, {"a": "", 'b "x"': ""}),
    ]


def test_a_tsv_is_cut_at_tabs(tmp_path: Path) -> None:
    assert outline(read(written(tmp_path, "x.tsv", "a\tb\n1,2\tx y\n"))) == [(2, {"a": "1,2", "b": "x y"})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1", "wrong_number_of_cells"),
        (b"1,2,3", "wrong_number_of_cells"),
        (b'"1"x,2', "bad_csv"),
        (b"1\rx,2", "bad_csv"),
        (b"1,\xff", "bad_utf8"),
        (b"1,\x002", "nul_bytes"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_of_a_table_costs_itself_only(tmp_path: Path, line: bytes, reason: str, place: int) -> None:
    lines = [b"5,6", b"5,6"]
    lines.insert(place, line)
    entries = read(written(tmp_path, "x.csv", b"a,b\n" + b"\n".join(lines)))
    assert outline(entries) == [(n + 2, reason if n == place else {"a": "5", "b": "6"}) for n in range(3)]
    (rejected,) = (entry for entry in entries if isinstance(entry, Reject))
    assert rejected.raw == line.decode("utf-8", "surrogateescape")


@pytest.mark.parametrize("rest", ["", '5,"6"\n', "5,6\n" * 1000])
def test_a_quote_that_is_not_closed_loses_the_rest_and_says_so(tmp_path: Path, rest: str) -> None:
    entries = read(written(tmp_path, "x.csv", 'a,b\n1,2\n3,"4\n5,6\n' + rest))
    assert outline(entries) == [(2, {"a": "1", "b": "2"}), (3, "unclosed_quote")]
    assert "unclosed_quote" in FILE_REASONS


@pytest.mark.parametrize("header", [b"a,a", b"a,\xff", b'a,"b', b"\xff\xfea\0,\0b\0"])
def test_a_header_that_names_no_columns_is_a_fault_of_the_file(tmp_path: Path, header: bytes) -> None:
    entries = read(written(tmp_path, "x.csv", header + b"\n1,2\n3,4\n"))
    assert len(entries) == 1
    assert isinstance(entries[0], Reject)
    assert entries[0].reason in FILE_REASONS


@pytest.mark.parametrize("text", ["", "\n\n", "a,b\n", "\ufeffa,b"])
def test_a_table_without_rows_has_none(tmp_path: Path, text: str) -> None:
    assert read(written(tmp_path, "x.csv", text)) == []


def test_a_mark_is_not_part_of_the_first_column(tmp_path: Path) -> None:
    assert outline(read(written(tmp_path, "x.csv", "\ufeffa,b\n1,2"))) == [(2, {"a": "1", "b": "2"})]


def test_a_cell_may_be_longer_than_the_csv_reader_allows_by_itself(tmp_path: Path) -> None:
    cell = "x" * 2**20
    assert outline(read(written(tmp_path, "x.csv", f'a\n{cell}\n"{cell}\n"'))) == [
        (2, {"a": cell}),
        (3, {"a": cell + "\n"}),
    ]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=st.lists(
        st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), min_size=2, max_size=2), min_size=1
    )
)
def test_whatever_a_csv_writer_writes_is_read_back(tmp_path: Path, table: list[list[str]]) -> None:
    import csv

    with (tmp_path / "x.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerows([["a", "b"], *table])
    assert [e.value for e in read(tmp_path / "x.csv") if isinstance(e, Row)] == [{"a": a, "b": b} for a, b in table]


# text


TEXT = "\ufeff  one\u2028still one\r\n\n \t\ntwo  \nthree\r\n\r\nfour"


def test_text_by_line_keeps_everything_but_line_ends_and_blank_lines(tmp_path: Path) -> None:
    assert outline(read(written(tmp_path, "x.txt", TEXT))) == [
        (1, {"text": "  one\u2028still one"}),
        (4, {"text": "two  "}),
        (5, {"text": "three"}),
        (7, {"text": "four"}),
    ]


def test_text_by_paragraph_is_cut_at_blank_lines(tmp_path: Path) -> None:
    assert outline(read(written(tmp_path, "x.txt", TEXT), "paragraph")) == [
        (1, {"text": "  one\u2028still one"}),
        (4, {"text": "two  \nthree"}),
        (7, {"text": "four"}),
    ]


def test_text_by_document_is_the_whole_file_as_it_stands(tmp_path: Path) -> None:
    assert outline(read(written(tmp_path, "x.txt", TEXT), "document")) == [(1, {"text": TEXT[1:]})]


@pytest.mark.parametrize("sample_by", ["line", "paragraph", "document"])
@pytest.mark.parametrize("text", ["", "\n", " \r\n\t\n", "\ufeff"])
def test_blank_text_has_no_rows(tmp_path: Path, sample_by: SampleBy, text: str) -> None:
    assert read(written(tmp_path, "x.txt", text), sample_by) == []


@pytest.mark.parametrize(("bad", "reason"), [(b"\xff", "bad_utf8"), (b"a\0b", "nul_bytes")])
def test_bytes_that_are_no_text_cost_their_row(tmp_path: Path, bad: bytes, reason: str) -> None:
    path = written(tmp_path, "x.txt", b"one\n\n" + bad + b"\n\ntwo\n")
    whole = [(1, {"text": "one"}), (3, reason), (5, {"text": "two"})]
    assert outline(read(path)) == outline(read(path, "paragraph")) == whole
    assert outline(read(path, "document")) == [(1, reason)]


@pytest.mark.parametrize("sample_by", ["line", "paragraph", "document"])
def test_text_that_is_too_long_is_refused_and_what_follows_is_read(
    tmp_path: Path, sample_by: SampleBy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("streams", "text", "json_lines"):
        monkeypatch.setattr(f"weft.data.sources.{module}.MAX_ROW_BYTES", 10)
    path = written(tmp_path, "x.txt", "0123456789\n\n01234567890\n\nx\ny\n")
    expected = {
        "line": [(1, {"text": "0123456789"}), (3, "too_large"), (5, {"text": "x"}), (6, {"text": "y"})],
        "paragraph": [(1, {"text": "0123456789"}), (3, "too_large"), (5, {"text": "x\ny"})],
        "document": [(1, "too_large")],
    }
    assert outline(read(path, sample_by)) == expected[sample_by]


# parallel text


def test_parallel_files_are_one_row_a_line(tmp_path: Path) -> None:
    written(tmp_path, "all.code", "  x = 1\r\n\n\ny\n")
    written(tmp_path, "all.anno", "Set x.\n\nonly here\n\u2028Say y.")
    (file,) = files(str(tmp_path))
    assert file.name == "all.anno+code"
    assert outline(list(rows(file))) == [
        (1, {"anno": "Set x.", "code": "  x = 1"}),
        (3, {"anno": "only here", "code": ""}),
        (4, {"anno": "\u2028Say y.", "code": "y"}),
    ]


def test_a_last_line_without_its_end_is_a_line_and_an_end_is_none(tmp_path: Path) -> None:
    for code, anno in (("a\nb", "c\nd\n"), ("a\nb\n", "c\nd"), ("a\nb\n", "c\nd\n")):
        written(tmp_path, "all.code", code)
        written(tmp_path, "all.anno", anno)
        assert len(read(tmp_path)) == 2


def test_parallel_files_of_different_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    written(tmp_path, "all.code", "a\nb\n")
    written(tmp_path, "all.anno", "a\nb\nc")
    with pytest.raises(DataError, match=r"all\.anno has 3, all\.code has 2"):
        files(str(tmp_path))


def test_a_parallel_file_that_shrank_since_is_refused(tmp_path: Path) -> None:
    written(tmp_path, "all.code", "a\nb\n")
    written(tmp_path, "all.anno", "a\nb\n")
    (file,) = files(str(tmp_path))
    written(tmp_path, "all.anno", "a\n")
    with pytest.raises(DataError, match=r"\.anno ends before line 2"):
        list(rows(file))


def test_a_bad_line_of_a_parallel_file_costs_its_row_and_keeps_both(tmp_path: Path) -> None:
    written(tmp_path, "all.code", b"a\n\xff\nc\n")
    written(tmp_path, "all.anno", b"a\nb\nc\n")
    entries = read(tmp_path)
    assert outline(entries)[1] == (2, "bad_utf8")
    assert isinstance(entries[1], Reject)
    assert entries[1].raw == {"anno": "b", "code": "\udcff"}


def test_what_is_no_parallel_text_is_left_alone(tmp_path: Path) -> None:
    written(tmp_path, "rows.jsonl", "{}")
    for name in ("README.md", "README.html", "x.alone", "LICENSE", "m.bin", "m.idx"):
        written(tmp_path, name, b"\0\1" * len(name) if name.startswith("m.") else "x\n" * len(name))
    assert [file.name for file in files(str(tmp_path))] == ["rows.jsonl"]


def test_parallel_files_may_be_named_one_by_one(tmp_path: Path) -> None:
    paths = [str(written(tmp_path, f"all.{suffix}", "a\nb\n")) for suffix in ("en", "de", "fr")]
    (file,) = files(paths)
    assert outline(list(rows(file)))[1] == (2, {"de": "b", "en": "b", "fr": "b"})
    with pytest.raises(DataError, match="no data file"):
        files(paths[:1])


# Parquet and Arrow

CELLS: dict[str, list[Any]] = {
    "text": ["a", "é\u2028", None],
    "number": [1, None, -(2**62)],
    "share": [0.5, 1e300, None],
    "flag": [True, None, False],
    "turns": [[{"role": "user", "content": "x"}], [], None],
    "map": [[("a", 1)], [], None],
}
VALUES: list[JsonValue] = [
    {
        "text": "a",
        "number": 1,
        "share": 0.5,
        "flag": True,
        "turns": [{"role": "user", "content": "x"}],
        "map": {"a": 1},
    },
    {"text": "é\u2028", "number": None, "share": 1e300, "flag": None, "turns": [], "map": {}},
    {"text": None, "number": -(2**62), "share": None, "flag": False, "turns": None, "map": None},
]
TABLE = pa.table({**CELLS, "map": pa.array(CELLS["map"], pa.map_(pa.string(), pa.int64()))})


def write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, row_group_size=2)


def write_arrow_file(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_file(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def write_arrow_stream(table: pa.Table, path: Path) -> None:
    with pa.ipc.new_stream(str(path), table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


Write = Callable[[pa.Table, Path], None]
WRITERS = pytest.mark.parametrize(
    ("write", "name"),
    [(write_parquet, "x.parquet"), (write_arrow_file, "x.arrow"), (write_arrow_stream, "x.arrow")],
    ids=["parquet", "arrow-file", "arrow-stream"],
)


@WRITERS
def test_columns_become_json_as_it_would_be_written(tmp_path: Path, write: Write, name: str) -> None:
    write(TABLE, tmp_path / name)
    assert outline(read(tmp_path)) == [(n + 1, value) for n, value in enumerate(VALUES)]


@WRITERS
def test_dates_times_and_decimals_become_strings(tmp_path: Path, write: Write, name: str) -> None:
    moment = datetime.datetime(2024, 2, 29, 12, 30, 1, 5)
    table = pa.table(
        {
            "day": [moment.date()],
            "time": [moment.time()],
            "moment": [moment],
            "nano": pa.array([1], pa.timestamp("ns")),
            "far": pa.array([10**11], pa.timestamp("s")),
            "exact": [decimal.Decimal("1.10")],
            "inside": [[{"day": moment.date()}]],
        }
    )
    write(table, tmp_path / name)
    assert outline(read(tmp_path)) == [
        (
            1,
            {
                "day": "2024-02-29",
                "time": "12:30:01.000005",
                "moment": "2024-02-29 12:30:01.000005",
                "nano": "1970-01-01 00:00:00.000000001",
                "far": "5138-11-16 09:46:40" + (".000" if name == "x.parquet" else ""),
                "exact": "1.10",
                "inside": [{"day": "2024-02-29"}],
            },
        )
    ]


@pytest.mark.parametrize(
    ("column", "told"),
    [
        (pa.array([b"x", None]), "binary"),
        (pa.array([float("nan"), None]), "nan"),
        (pa.array([[1.0, float("inf")], None]), "inf"),
        (pa.array([{"a": [b"x"]}, {"a": [None]}]), "binary"),
        (pa.array([datetime.timedelta(1), None]), "duration"),
        (pa.array([[("a", 1), ("a", 2)], None], pa.map_(pa.string(), pa.int64())), "more than once"),
    ],
)
def test_a_cell_that_json_can_not_hold_costs_its_row_and_is_named(tmp_path: Path, column: pa.Array, told: str) -> None:
    write_parquet(pa.table({"a": ["x", "y"], "odd": column}), tmp_path / "x.parquet")
    bad, good = read(tmp_path)
    assert isinstance(bad, Reject)
    assert bad.reason == "not_json"
    assert "'odd'" in bad.detail
    assert told in bad.detail
    assert isinstance(good, Row)


@WRITERS
def test_strings_that_are_not_utf8_cost_their_rows(tmp_path: Path, write: Write, name: str) -> None:
    broken = pa.array([b"a", b"\xff", b"c"]).view(pa.string())
    nested = pa.ListArray.from_arrays([0, 1, 2, 3], pa.array([b"a", b"b", b"\xed\xa0\x80"]).view(pa.string()))
    write(pa.table({"a": broken, "b": [1, 2, 3]}), tmp_path / name)
    assert outline(read(tmp_path)) == [(1, {"a": "a", "b": 1}), (2, "bad_utf8"), (3, {"a": "c", "b": 3})]
    write(pa.table({"a": nested}), tmp_path / name)
    assert "bad_utf8" in dict(outline(read(tmp_path))).values()
    assert len(read(tmp_path)) == 3


def test_a_batch_that_points_outside_itself_is_damaged(tmp_path: Path) -> None:
    good = pa.record_batch({"a": pa.array(["x"])})
    with pa.ipc.new_stream(str(tmp_path / "x.arrow"), good.schema) as writer:
        writer.write_batch(good)
    sound = (tmp_path / "x.arrow").read_bytes()
    assert outline(read(tmp_path)) == [(1, {"a": "x"})]
    place = sound.rindex(bytes([0, 0, 0, 0, 1, 0, 0, 0]))  # the offsets 0 and 1
    (tmp_path / "x.arrow").write_bytes(sound[: place + 4] + (2**30).to_bytes(4, "little") + sound[place + 8 :])
    assert outline(read(tmp_path)) == [(1, "damaged_arrow")]


@WRITERS
def test_a_cut_or_damaged_file_keeps_what_was_before_or_is_refused(tmp_path: Path, write: Write, name: str) -> None:
    import random

    draw = random.Random(5)
    table = pa.table({"a": [f"row {n} {draw.random()}" for n in range(200)], "n": list(range(200))})
    write(table, tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    expected = outline(read(tmp_path))
    for trial in range(60):
        data = bytearray(whole)
        if trial % 2:
            data = data[: draw.randrange(1, len(data))]
        else:
            at = draw.randrange(len(data))
            data[at : at + 8] = draw.randbytes(8)
        (tmp_path / name).write_bytes(bytes(data))
        try:
            entries = read(tmp_path)
        except DataError:  # the file's first bytes tell already
            continue
        assert all(isinstance(entry, Row) or entry.reason in {*FILE_REASONS, "bad_utf8"} for entry in entries)
        if trial % 2 and name == "x.parquet":
            assert outline(entries)[-1][1] == "damaged_parquet"
        assert len(entries) <= len(expected) + 1


def test_doubled_columns_are_a_fault_of_the_file(tmp_path: Path) -> None:
    write_parquet(pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]), tmp_path / "x.parquet")
    assert outline(read(tmp_path)) == [(1, "bad_header")]


def test_a_large_batch_is_turned_to_rows_a_piece_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.data.sources.columnar._PIECE_BYTES", 100)
    monkeypatch.setattr("weft.data.sources.columnar.MAX_ROW_BYTES", 1000)
    texts = ["x" * (3000 if n == 5 else n) for n in range(50)]
    write_arrow_stream(pa.table({"a": texts}), tmp_path / "x.arrow")
    assert outline(read(tmp_path)) == [(n + 1, "too_large" if n == 5 else {"a": text}) for n, text in enumerate(texts)]


# folders of datasets, and the hub


@pytest.fixture
def hub() -> Any:
    return pytest.importorskip("datasets", reason="needs the extra hub")


def test_a_saved_dataset_is_its_data_files_alone(tmp_path: Path, hub: Any) -> None:
    hub.Dataset.from_dict({"a": list(range(5))}).save_to_disk(tmp_path / "set", num_shards=2)
    written(tmp_path / "set", "cache-1234.arrow", b"what map() left")
    found = files(str(tmp_path))
    assert [file.name for file in found] == ["set/data-00000-of-00002.arrow", "set/data-00001-of-00002.arrow"]
    assert [entry.value for file in found for entry in rows(file) if isinstance(entry, Row)] == [
        {"a": n} for n in range(5)
    ]
    (tmp_path / "set" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(DataError, match=r"data-00001-of-00002\.arrow is missing"):
        files(str(tmp_path))


def test_of_a_saved_dataset_dict_only_the_split_is_read(tmp_path: Path, hub: Any) -> None:
    splits = {name: hub.Dataset.from_dict({"a": [name]}) for name in ("train", "test")}
    hub.DatasetDict(splits).save_to_disk(tmp_path)
    assert outline(read(tmp_path)) == [(1, {"a": "train"})]
    assert outline(read(tmp_path, split="test")) == [(1, {"a": "test"})]
    with pytest.raises(DataError, match="no split dev; its splits are test, train"):
        files(str(tmp_path), split="dev")


def test_a_hostile_description_names_no_file_outside(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    folder.mkdir()
    written(tmp_path, "secret.arrow", b"ARROW1")
    written(folder, "dataset_info.json", "{}")
    written(folder, "state.json", json.dumps({"_data_files": [{"filename": "../secret.arrow"}]}))
    with pytest.raises(DataError, match=r"\.\./secret\.arrow is missing"):
        files(str(folder))


def test_files_that_are_only_called_like_a_description_are_data(tmp_path: Path) -> None:
    for name in ("state.json", "dataset_info.json", "dataset_dict.json"):
        written(tmp_path, name, '[{"a": 1}]')
    assert len(read(tmp_path)) == 3


def test_a_dataset_is_read_by_its_name(tmp_path: Path, hub: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "folder"
    folder.mkdir()
    for split in ("train", "test"):
        written(folder, f"{split}.jsonl", "".join(json.dumps({"a": f"{split} {n}"}) + "\n" for n in range(3)))
    monkeypatch.chdir(tmp_path)
    (file,) = files("hf:./folder")
    assert (file.name, file.kind, bool(file.fingerprint), file.num_bytes > 0) == ("hf:./folder", "hub", True, True)
    assert outline(list(rows(file))) == [(n + 1, {"a": f"train {n}"}) for n in range(3)]
    (test,) = files(["hf:./folder"], split="test")
    assert outline(list(rows(test)))[0] == (1, {"a": "test 0"})
    assert test.fingerprint != file.fingerprint
    with pytest.raises(DataError, match=r"hf:\./folder, split dev"):
        files("hf:./folder", split="dev")
    with pytest.raises(DataError, match=r"hf:\./absent"):
        files("hf:./absent")


# packed files


@pytest.mark.parametrize("pack", [gzip.compress, zstd], ids=["gz", "zst"])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.jsonl", b'{"a": "1"}\n\n{"a": "2"}'),
        ("x.json", b'[{"a": "1"},\n{"a": "2"}]'),
        ("x.csv", b"a\n1\n2\n"),
        ("x.tsv", b"a\tb\n1\t2\n"),
        ("x.txt", b"1\n2"),
    ],
)
def test_a_packed_file_is_read_like_the_file_in_it(
    tmp_path: Path, name: str, data: bytes, pack: Callable[[bytes], bytes]
) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "packed").mkdir()
    plain = outline(read(written(tmp_path / "plain", name, data)))
    suffix = ".gz" if pack is gzip.compress else ".zst"
    assert outline(read(written(tmp_path / "packed", name + suffix, pack(data)))) == plain
    two = pack(data[:5]) + pack(b"") + pack(data[5:])
    assert outline(read(written(tmp_path / "packed", name + suffix, two))) == plain


def test_a_cut_zstd_keeps_the_rows_before_the_cut(tmp_path: Path) -> None:
    import random

    draw = random.Random(1)
    lines = [json.dumps({"n": n, "a": draw.randbytes(200).hex()}).encode() for n in range(5000)]
    packed = zstd(b"\n".join(lines))
    for share in (0.3, 0.9, 0.9999):
        entries = read(written(tmp_path, "x.jsonl.zst", packed[: int(len(packed) * share)]))
        good = [entry for entry in entries if isinstance(entry, Row)]
        assert outline(entries)[-1] == (len(good) + 1, "truncated_file")
        assert len(good) > 5000 * share - 700
    assert outline(read(written(tmp_path, "x.jsonl.zst", packed[:4]))) == [(1, "truncated_file")]


def test_a_damaged_zstd_is_told(tmp_path: Path) -> None:
    packed = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(b'{"a": "b"}\n' * 2000))
    packed[-2] ^= 1
    entries = read(written(tmp_path, "x.jsonl.zst", bytes(packed)))
    assert outline(entries)[-1][1] == "damaged_zstd"
    assert {"damaged_zstd", "truncated_file"} <= FILE_REASONS


def test_without_zstandard_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from weft.errors import MissingExtraError

    path = written(tmp_path, "x.jsonl.zst", zstd(b"{}"))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'weft\[zstd\]'"):
        read(path)
