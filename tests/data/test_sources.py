"""Files to rows: what is found, how it is cut into rows, what a fault in the bytes becomes (FAULTS.md 31, 32, 36)."""

from __future__ import annotations

import gzip
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from weft.data.parse import MAX_DEPTH, MAX_ROW_BYTES, Row
from weft.data.sources import FILE_REASONS, files, rows, source_file
from weft.errors import DataError
from weft.types import JsonValue, Reject

GOOD = b'{"a": "b"}'


def read(tmp_path: Path, data: bytes, name: str = "rows.jsonl") -> list[Row | Reject]:
    path = tmp_path / name
    path.write_bytes(data)
    return list(rows(source_file(path)))


def outline(entries: list[Row | Reject]) -> list[tuple[int, JsonValue]]:
    """The line of each entry, and what was read or why not."""
    return [(e.id.line, e.value) if isinstance(e, Row) else (e.row.line, e.reason) for e in entries]


def values(entries: list[Row | Reject]) -> list[JsonValue]:
    return [entry.value for entry in entries if isinstance(entry, Row)]


# files


def test_a_folder_gives_all_its_data_files_by_relative_name(tmp_path: Path) -> None:
    for name in (
        "b.jsonl",
        "a/z.json",
        "a/y.jsonl.gz",
        "a.json.gz",
        "notes.md",
        ".hidden.jsonl",
        ".git/x.jsonl",
        "C.JSONL",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in files(str(tmp_path))] == [
        "C.JSONL",
        "a.json.gz",
        "a/y.jsonl.gz",
        "a/z.json",
        "b.jsonl",
    ]


def test_a_single_file_is_named_by_its_file_name(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b"[]")
    assert files(str(tmp_path / "x.json")) == [source_file(tmp_path / "x.json")]


@pytest.mark.parametrize(
    ("there", "asked", "expected"),
    [
        (["a.doc", "b.xls"], "", r"\*\.jsonl.*'a\.doc', 'b\.xls'"),
        ([], "", "there is nothing"),
        (["a.doc"], "a.doc", r"only 'a\.doc'"),
        ([], "absent", "no such file or folder"),
        (["bad\nname.jsonl"], "", "rename"),
        ([os.fsdecode(b"bad\xff.jsonl")], "", "rename"),
    ],
)
def test_no_usable_file_is_told_with_what_is_there(tmp_path: Path, there: list[str], asked: str, expected: str) -> None:
    for name in there:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(DataError, match=expected):
        files(str(tmp_path / asked))


def test_links_may_stay_inside_the_folder_but_not_leave_it_dangle_or_be_folders(tmp_path: Path) -> None:
    task, outside = tmp_path / "task", tmp_path / "outside.jsonl"
    task.mkdir()
    outside.write_bytes(GOOD)
    (task / "a.jsonl").write_bytes(GOOD)
    (task / "inside.jsonl").symlink_to("a.jsonl")
    assert [file.name for file in files(str(task))] == ["a.jsonl", "inside.jsonl"]
    for target, told in (
        ("../outside.jsonl", "leaves"),
        ("gone.jsonl", "dangling"),
        ("..", "link to a folder"),
        ("bad.jsonl", "dangling"),
    ):
        (task / "bad.jsonl").symlink_to(target)
        with pytest.raises(DataError, match=told):
            files(str(task))
        (task / "bad.jsonl").unlink()


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.jsonl")
    with pytest.raises(DataError, match="regular"):
        files(str(tmp_path))


def test_a_file_that_can_not_be_opened_is_an_error_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl"):
        list(rows(source_file(tmp_path / "gone.jsonl")))


# lines


def test_rows_have_one_based_lines_and_blank_lines_are_none(tmp_path: Path) -> None:
    assert outline(read(tmp_path, b'\n{"a":1}\n  \t\n[1]\r\n\r\n{"a":2}')) == [(2, {"a": 1}), (4, [1]), (6, {"a": 2})]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": ', "bad_json"),
        (b'{"a": "b"} {"a": "b"}', "bad_json"),
        (b"{'a': 1}", "bad_json"),
        (b"\0\0\0\0", "bad_json"),
        (b'{"a": "\0"}', "bad_json"),
        (b'{"a": NaN}', "bad_json"),
        (b'{"a": [-Infinity]}', "bad_json"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
        (b'{"a": "\xff"}', "bad_utf8"),
        ("{'a': 'ü'}".encode("latin-1"), "bad_utf8"),
        ('{"a": "\ud800"}'.encode("utf-8", "surrogatepass"), "bad_utf8"),
        (b'{"a": "\\ud800"}', "lone_surrogate"),
        (b'{"\\udc00x": 1}', "lone_surrogate"),
        (b'{"a": 1, "a": 1}', "duplicate_key"),
        (b'{"x": [{"a": 1, "a": 2}]}', "duplicate_key"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep"),
        (b"[" * 10**5 + b"]" * 10**5, "too_deep"),
        (b'{"a":' * 10**5, "too_deep"),
        (b"3", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"true", "not_an_object"),
    ],
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_bad_line_costs_itself_only(tmp_path: Path, line: bytes, reason: str, place: int) -> None:
    lines = [GOOD, GOOD]
    lines.insert(place, line)
    got = outline(read(tmp_path, b"\n".join(lines)))
    assert got == [(n, reason if n == place + 1 else {"a": "b"}) for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ('{"a": "x\u2028y\x85z\u2029"}'.encode(), "x\u2028y\x85z\u2029"),
        (b'{"a": "\\u0000"}', "\0"),
        (b'{"a": "\\ud83d\\ude00"}', "😀"),
        (b'{"a": "x\\r\\ny"}\r', "x\r\ny"),
        (b'{"a": "' + b"{[" * 500 + b'"}', "{[" * 500),
    ],
)
def test_odd_but_sound_text_is_kept_as_it_is(tmp_path: Path, line: bytes, value: str) -> None:
    assert values(read(tmp_path, line + b"\n" + GOOD)) == [{"a": value}, {"a": "b"}]


@pytest.mark.parametrize("name", ["x.jsonl", "x.json"])
def test_a_utf8_mark_is_read_over(tmp_path: Path, name: str) -> None:
    assert values(read(tmp_path, b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD, name)) == [{"a": "b"}] * 2


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_gives_no_row_and_no_traceback(tmp_path: Path, encoding: str) -> None:
    entries = read(tmp_path, '{"a": "b"}\n{"a": "c"}\n'.encode(encoding))
    assert entries
    assert not values(entries)
    if encoding == "utf-16":
        assert outline(entries) == [(1, "not_utf8_file")]


def test_a_cut_last_line_is_told_to_be_cut(tmp_path: Path) -> None:
    entries = read(tmp_path, GOOD + b"\n" + GOOD[:-3])
    assert isinstance(entries[1], Reject)
    assert "cut" in entries[1].detail


def test_a_huge_line_is_rejected_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    with path.open("wb") as file:
        file.write(GOOD + b'\n{"a": "')
        for _ in range(200):
            file.write(b"x" * 2**20)
        file.write(b'"}\n' + GOOD)
    tracemalloc.start()
    entries = list(rows(source_file(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert outline(entries) == [(1, {"a": "b"}), (2, "too_large"), (3, {"a": "b"})]
    assert peak < 2.5 * MAX_ROW_BYTES


def test_nesting_is_judged_alike_whatever_the_depth_of_the_caller(tmp_path: Path) -> None:
    line = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH

    def deep(calls: int) -> list[Row | Reject]:
        return deep(calls - 1) if calls else read(tmp_path, line)

    assert len(values(deep(0))) == len(values(deep(sys.getrecursionlimit() // 2))) == 1


# arrays and other .json


def test_an_array_has_one_based_items(tmp_path: Path) -> None:
    assert outline(read(tmp_path, b' \n[ {"a":1},\n[2] , {"a":3} ] \n', "x.json")) == [
        (1, {"a": 1}),
        (2, [2]),
        (3, {"a": 3}),
    ]


@pytest.mark.parametrize("data", [b"", b" \n", b"[]", b" [ ] \n"])
def test_an_empty_json_file_has_no_rows(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data, "x.json") == []


@pytest.mark.parametrize(
    ("item", "reason"),
    [
        (b'{"a": NaN}', "bad_json"),
        (b'{"a": "\xff"}', "bad_utf8"),
        (b'{"a": "\\ud800"}', "lone_surrogate"),
        (b'{"a": 1, "a": 1}', "duplicate_key"),
        (b'{"a": ' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "too_deep"),
        (b"3", "not_an_object"),
        (b'{"a": ' + b"9" * 5000 + b"}", "bad_json"),
    ],
)
def test_a_bad_item_costs_itself_only(tmp_path: Path, item: bytes, reason: str) -> None:
    got = outline(read(tmp_path, b"[" + b",".join([GOOD, item, GOOD]) + b"]", "x.json"))
    assert got == [(1, {"a": "b"}), (2, reason), (3, {"a": "b"})]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b'[{"a":1},{"a":', "truncated_file"),
        (b'[{"a":1},{"a":"b', "truncated_file"),
        (b'[{"a":1},', "truncated_file"),
        (b'[{"a":1}', "truncated_file"),
        (b'[{"a":1} {"a":2}]', "broken_array"),
        (b'[{"a":1},{a:2},{"a":3}]', "broken_array"),
        (b'[{"a":1}] [{"a":2}]', "broken_array"),
        (b'[{"a":1},' + b"[" * 10**5 + b"]" * 10**5 + b"]", "broken_array"),
    ],
)
def test_where_an_array_breaks_is_told_as_a_loss_of_the_rest(tmp_path: Path, data: bytes, reason: str) -> None:
    assert outline(read(tmp_path, data, "x.json")) == [(1, {"a": 1}), (2, reason)]
    assert reason in FILE_REASONS


def test_json_lines_under_the_name_json_are_lines(tmp_path: Path) -> None:
    assert outline(read(tmp_path, b'{"a":1}\n{"a":\n{"a":3}\n', "x.json")) == [
        (1, {"a": 1}),
        (2, "bad_json"),
        (3, {"a": 3}),
    ]
    assert outline(read(tmp_path, b'{"a":\n{"a":2}\n', "x.json")) == [(1, "bad_json"), (2, {"a": 2})]
    assert outline(read(tmp_path, b'[{"a":1}]\n\n[{"a":2}]\n', "x.json")) == [(1, [{"a": 1}]), (3, [{"a": 2}])]


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    assert outline(read(tmp_path, b'{\n "a": {\n  "b": 1\n }\n}\n', "x.json")) == [(1, {"a": {"b": 1}})]


def test_an_array_larger_than_the_window_is_read_in_bounded_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    item = json.dumps({"a": "ü" * 1000, "n": 12}).encode()
    with path.open("wb") as file:
        file.write(b"[" + item)
        for _ in range(8000):
            file.write(b",\n" + item)
        file.write(b"]")
    tracemalloc.start()
    count = sum(isinstance(entry, Row) for entry in rows(source_file(path)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 8001
    assert peak < path.stat().st_size / 3


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_window_may_end_anywhere(tmp_path: Path, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("weft.data.sources.json_array.WINDOW_BYTES", size)
    data = json.dumps([1234567, {"a": "ü😀\\"}, [12, 34.5e6, True], {"b": {}}], ensure_ascii=False).encode()
    first, *others = read(tmp_path, b"\xef\xbb\xbf" + data, "x.json")
    assert outline([first]) == [(1, "not_an_object")]
    assert values(others) == json.loads(data)[1:]


# gzip


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz"])
def test_a_gzip_is_read_like_the_file_in_it(tmp_path: Path, name: str) -> None:
    assert outline(read(tmp_path, gzip.compress(GOOD + b"\n" + GOOD, mtime=0), name)) == [
        (1, {"a": "b"}),
        (2, {"a": "b"}),
    ]
    assert read(tmp_path, gzip.compress(b"", mtime=0), name) == read(tmp_path, b"", name) == []


def noise(count: int) -> Iterator[bytes]:
    """Rows that hardly compress."""
    return (json.dumps({"n": n, "a": os.urandom(200).hex()}).encode() for n in range(count))


@pytest.mark.parametrize("array", [False, True])
def test_a_cut_gzip_keeps_the_rows_before_the_cut(tmp_path: Path, array: bool) -> None:
    whole = b"[" + b",".join(noise(5000)) + b"]" if array else b"\n".join(noise(5000))
    packed = gzip.compress(whole, mtime=0)
    for share, least in ((0.5, 2300), (0.9, 4300)):
        entries = read(tmp_path, packed[: int(len(packed) * share)], "x.json.gz" if array else "x.jsonl.gz")
        assert isinstance(entries[-1], Reject)
        assert entries[-1].reason == "truncated_file"
        assert entries[-1].row.line == len(entries)
        assert least < len(values(entries)) == len(entries) - 1
    for size in (5, 12, 40):
        assert outline(read(tmp_path, packed[:size], "x.json.gz" if array else "x.jsonl.gz")) == [(1, "truncated_file")]


@pytest.mark.parametrize("name", ["x.jsonl.gz", "x.json.gz"])
def test_a_damaged_gzip_is_told(tmp_path: Path, name: str) -> None:
    assert outline(read(tmp_path, GOOD, name)) == [(1, "damaged_gzip")]
    packed = bytearray(gzip.compress(b"\n".join(noise(2000)) + b"\n"))
    packed[-6] ^= 1  # the checksum at the end
    entries = read(tmp_path, bytes(packed), name)
    assert len(values(entries)) == 2000
    assert outline(entries)[-1] == (2001, "damaged_gzip")


# everything at once


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=300),
        st.lists(
            st.sampled_from(
                [b"{", b"}", b"[", b"]", b'"', b"a", b":", b",", b"\n", b"\\u", b"d800", b"\xff", b" ", b"1", GOOD]
            )
        ).map(b"".join),
    ),
    name=st.sampled_from(["x.jsonl", "x.json", "x.jsonl.gz", "x.json.gz"]),
    packed=st.booleans(),
    cut=st.integers(0, 400),
)
def test_any_bytes_give_rows_and_rejects_and_nothing_else(
    tmp_path: Path, data: bytes, name: str, packed: bool, cut: int
) -> None:
    entries = read(tmp_path, gzip.compress(data, mtime=0)[:cut] if packed and name.endswith("gz") else data, name)
    numbers = [entry[0] for entry in outline(entries)]
    assert numbers == sorted(set(numbers))
    if name == "x.jsonl" and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
        not_blank = [line for line in data.split(b"\n") if line.removeprefix(b"\xef\xbb\xbf").strip(b" \t\r\n")]
        assert len(entries) == len(not_blank)
    for entry in entries:
        if isinstance(entry, Row):
            json.dumps(entry.value, ensure_ascii=False).encode()
        else:
            assert entry.detail.encode()
