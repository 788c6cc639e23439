"""Paths to files: several roots, names, what is left out, and files that are not what their names say."""

from __future__ import annotations

import gzip
import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from weft.config.settings import TaskSettings
from weft.data.read import task_files
from weft.data.sources import SUFFIXES, files, of_task, source_file
from weft.errors import ConfigError, DataError, WeftError


def touch(*paths: Path, data: bytes = b"") -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def names(*paths: Path, **how: object) -> list[str]:
    return [file.name for file in files([str(path) for path in paths], **how)]  # type: ignore[arg-type]


def test_every_suffix_is_found_in_a_folder_whatever_its_case(tmp_path: Path) -> None:
    for suffix in SUFFIXES:
        touch(tmp_path / f"a{suffix}", tmp_path / f"B{suffix.upper()}")
    assert len(names(tmp_path)) == 2 * len(SUFFIXES)
    assert {".jsonl", ".json.gz", ".csv.zst", ".tsv", ".txt", ".parquet", ".arrow"} <= set(SUFFIXES)


def test_of_several_paths_the_folders_names_stand_before_the_files(tmp_path: Path) -> None:
    touch(tmp_path / "b" / "x.jsonl", tmp_path / "a" / "deep" / "x.jsonl", tmp_path / "x.jsonl")
    assert names(tmp_path / "b", tmp_path / "x.jsonl", tmp_path / "a") == ["a/deep/x.jsonl", "b/x.jsonl", "x.jsonl"]
    assert names(tmp_path / "a") == ["deep/x.jsonl"]


def test_a_folder_is_named_by_itself_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a" / "x.jsonl", tmp_path / "b" / "x.jsonl")
    monkeypatch.chdir(tmp_path / "a")
    assert names(Path("."), Path("../b")) == ["a/x.jsonl", "b/x.jsonl"]


def test_two_files_of_one_name_are_refused_with_both_paths(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.jsonl", tmp_path / "b" / "x.jsonl", tmp_path / "c" / "a" / "x.jsonl")
    for pair in (("a/x.jsonl", "b/x.jsonl"), ("a", "c/a")):
        with pytest.raises(DataError, match=r"same name.*x\.jsonl: .*a/x\.jsonl and .*x\.jsonl"):
            names(*(tmp_path / part for part in pair))


def test_a_file_that_is_named_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path / "a" / "x.jsonl")
    (tmp_path / "link.jsonl").symlink_to(tmp_path / "a" / "x.jsonl")
    for other in (tmp_path / "a" / "x.jsonl", tmp_path / "link.jsonl"):
        with pytest.raises(DataError, match="twice"):
            names(tmp_path / "a", other)


def test_what_is_left_out_is_told_by_the_file_and_not_by_its_spelling(tmp_path: Path) -> None:
    touch(tmp_path / "rows.json", tmp_path / "tables.json", tmp_path / "sub" / "tables.json")
    assert names(tmp_path, leave_out=[f"{tmp_path}/sub/../tables.json"]) == ["rows.json", "sub/tables.json"]
    with pytest.raises(DataError, match="no data file"):
        names(tmp_path / "sub", leave_out=[str(tmp_path / "sub" / "tables.json")])


def test_a_task_gives_its_settings_to_its_files(tmp_path: Path) -> None:
    touch(tmp_path / "a.txt", tmp_path / "b.txt")
    task = TaskSettings(path=[str(tmp_path / "a.txt"), str(tmp_path / "b.txt")], sample_by="document")
    assert [(file.name, file.sample_by) for file in of_task(task)] == [("a.txt", "document"), ("b.txt", "document")]
    with pytest.raises(DataError, match="no path"):
        of_task(TaskSettings(path=[]))


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"a": [1]}), buffer)
    return buffer.getvalue()


def arrow() -> bytes:
    buffer = io.BytesIO()
    table = pa.table({"a": [1]})
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("x.json", parquet(), r"x\.json: is named \.json but holds Parquet; name it \*\.parquet"),
        ("x.jsonl.gz", parquet(), "is named .gz but holds Parquet"),
        ("x.csv", gzip.compress(b"a", mtime=0), r"holds gzip; name it \*\.gz"),
        ("x.txt", arrow(), "holds an Arrow stream"),
        ("x.jsonl", b"PK\x03\x04....", "a zip archive; unpack"),
        ("x.parquet", arrow(), "holds an Arrow stream"),
        ("x.parquet", b'{"a": 1}\n', "does not begin as such a file does"),
        ("x.arrow", b"\0" * 100, "does not begin as such a file does"),
        ("x.jsonl.gz", b'{"a": 1}\n', "does not begin as such a file does"),
        ("x.csv.zst", gzip.compress(b"a", mtime=0), "is named .zst but holds gzip"),
    ],
)
def test_a_file_that_is_not_what_its_name_says_is_refused(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    touch(tmp_path / name, data=data)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=told):
            names(path)


@pytest.mark.parametrize("path", ["x" * 300 + ".jsonl", "x\0.jsonl", "../absent.jsonl", "a/" * 3000, "~nobody-here/x"])
def test_impossible_paths_are_refused_with_a_message(tmp_path: Path, path: str) -> None:
    with pytest.raises(WeftError):
        files(f"{tmp_path}/{path}" if not path.startswith("~") else path)


def test_what_is_left_out_need_not_be_there(tmp_path: Path) -> None:
    touch(tmp_path / "a.jsonl")
    assert names(tmp_path, leave_out=[f"{tmp_path}/absent/{'x' * 300}.json"]) == ["a.jsonl"]


def test_a_long_and_odd_but_lawful_name_is_kept_as_it_is(tmp_path: Path) -> None:
    odd = "d" * 150 + "/;$(touch x) ü\u2028&" + "x" * 100 + ".jsonl"
    touch(tmp_path / odd)
    assert names(tmp_path) == [odd]
    assert not (tmp_path / "x").exists()


def test_control_characters_in_parallel_names_are_refused(tmp_path: Path) -> None:
    touch(tmp_path / "all.co\nde", tmp_path / "all.anno", data=b"a\n")
    with pytest.raises(DataError, match="rename"):
        names(tmp_path)


def test_a_single_file_needs_a_suffix_that_is_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\*\.jsonl"):
        source_file(tmp_path / "x.doc")


# settings that say nothing


@pytest.mark.parametrize(
    ("settings", "setting"),
    [
        ({"split": "test"}, "split"),
        ({"subset": "main"}, "subset"),
        ({"sample_by": "document"}, "sample_by"),
        ({"subset": "main", "split": "test"}, "subset"),
        ({"subset": "main", "split": "test"}, "split"),
    ],
)
def test_a_setting_that_no_file_heeds_is_an_error(tmp_path: Path, settings: dict[str, Any], setting: str) -> None:
    touch(tmp_path / "a.jsonl")
    with pytest.raises(ConfigError, match=rf"tasks\.t\.{setting}: .* none of a\.jsonl heeds it"):
        task_files("t", TaskSettings(path=str(tmp_path), **settings))
    assert task_files("t", TaskSettings(path=str(tmp_path), split="train", sample_by="line"))


def test_settings_that_a_file_heeds_are_no_error(tmp_path: Path) -> None:
    touch(tmp_path / "a.jsonl")
    (tmp_path / "b.txt").write_text("x\n\ny\n")
    assert task_files("t", TaskSettings(path=str(tmp_path), sample_by="paragraph"))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_saved_dataset_heeds_its_split_but_no_subset(tmp_path: Path, split: str) -> None:
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    for name in ("train", "test"):
        folder = tmp_path / name
        folder.mkdir()
        table = pa.table({"question": [name], "answer": ["b"]})
        with pa.OSFile(str(folder / "data.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        (folder / "state.json").write_text('{"_data_files": [{"filename": "data.arrow"}]}')
        (folder / "dataset_info.json").write_text("{}")
    (file,) = task_files("t", TaskSettings(path=str(tmp_path), split=split))
    assert file.name == f"{split}/data.arrow"
    assert task_files("t", TaskSettings(path=str(tmp_path / split), split=split))
    with pytest.raises(ConfigError, match=r"tasks\.t\.subset"):
        task_files("t", TaskSettings(path=str(tmp_path), split=split, subset="main"))
