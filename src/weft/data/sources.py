"""Files to rows: every row of a task with a stable id, or the reason why it can't be read.

One idea: a fault costs the row it is in, never the run and never silently the rows after it. Lines are cut at the
byte b"\\n" alone (U+2028 and CR belong to the text); a JSON array is read through a sliding window, so memory follows
the longest row and not the file. Only where a file gives no next row to go on with (a cut gzip, a broken array) is
the rest of it lost, and then the one Reject has a reason in FILE_REASONS: it stands for an unknown number of rows,
and a budget must not count it as one.
"""

from __future__ import annotations

import codecs
import gzip
import io
import os
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from weft.data.parse import GZIP_FAULTS, MAX_ROW_BYTES, WINDOW_BYTES, Parser, Row, Stream, Window
from weft.errors import DataError
from weft.types import Reject, RowId

SUFFIXES = (".jsonl", ".json", ".jsonl.gz", ".json.gz")
FILE_REASONS = frozenset({"truncated_file", "damaged_gzip", "broken_array", "not_utf8_file"})
"""Reasons that end a file: one such Reject stands for an unknown number of rows."""

_BLANK = b" \t\r\n"
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file of a task; `name` is its path relative to the task's folder, with forward slashes."""

    path: Path
    name: str


def files(path: str) -> list[SourceFile]:
    """All data files of a task's path, a file or a folder, sorted by name; hidden files and folders are left out.

    Raises DataError: nothing there, no data file, a link that is dangling, is a folder or leaves the task's folder, a
    name that can't stand in a row's id.
    """
    root = Path(path).expanduser()
    try:
        if root.is_file():
            found = [SourceFile(root, root.name)]
        elif root.is_dir():
            found = sorted(_below(root), key=lambda file: file.name)
        elif root.exists():
            raise DataError(f"{root}: is neither a file nor a folder")
        else:
            raise DataError(f"{root}: no such file or folder (looked from {Path.cwd()})")
    except OSError as error:
        raise DataError(f"{root}: can't be listed: {error}") from error
    found = [file for file in found if file.name.lower().endswith(SUFFIXES)]
    if not found:
        raise DataError(f"{root}: no data file; looked for *{', *'.join(SUFFIXES)}; there is {_what_is_there(root)}")
    strange = [file.name for file in found if _CONTROL.search(file.name)]
    if strange:
        raise DataError(
            f"{root}: rename these files, control or broken characters can't stand in a row's id: {strange[:5]}"
        )
    return found


def _below(root: Path) -> Iterator[SourceFile]:
    """Every visible regular file below a folder; checks the links on the way."""
    inside = root.resolve()
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise DataError(
                    f"{Path(folder) / name}: is a link to a folder; give its target as a task's path of its own"
                )
        for name in names:
            path = Path(folder) / name
            if name.startswith("."):
                continue
            if path.is_symlink():
                target = Path(os.path.realpath(path))  # resolve() raises on a link to itself
                if not target.exists():
                    raise DataError(f"{path}: is a dangling link to {os.readlink(path)}")
                if not target.is_relative_to(inside):
                    raise DataError(
                        f"{path}: leaves the task's folder as a link to {target}; copy the file or name its folder"
                    )
            if path.is_file():
                yield SourceFile(path, path.relative_to(root).as_posix())
            elif name.lower().endswith(SUFFIXES):
                raise DataError(f"{path}: is not a regular file")


def _raise(error: OSError) -> None:
    raise error


def _what_is_there(root: Path) -> str:
    if root.is_file():
        return f"only {root.name!r}"
    there = sorted(os.listdir(root))
    return (
        "nothing"
        if not there
        else ", ".join(map(repr, there[:10])) + (f" and {len(there) - 10} more" if len(there) > 10 else "")
    )


def rows(file: SourceFile) -> Iterator[Row | Reject]:
    """The rows of a file in order, each parsed or rejected; holds one row and a window of the file at a time.

    A .jsonl file has one value a line. A .json file is an array of rows, or one object over several lines, or lines
    all the same. `RowId.line` counts lines from 1, and items from 1 in an array. Blank lines are not rows.

    Raises DataError if the file can't be opened or read at all (permissions, a failing disk).
    """
    last = 0
    try:
        with _open(file.path) as stream:
            for entry in _entries(stream, file):
                last = (entry.id if isinstance(entry, Row) else entry.row).line
                yield entry
    except EOFError:
        yield Reject(
            RowId(file.name, last + 1),
            "truncated_file",
            "the gzip file ends too early; all after the row before is lost",
        )
    except (zlib.error, gzip.BadGzipFile) as error:
        yield Reject(RowId(file.name, last + 1), "damaged_gzip", f"all after the row before is lost: {error}")
    except OSError as error:
        raise DataError(f"{file.path}: can't be read: {error}") from error


def _open(path: Path) -> Stream:
    # GzipFile is not wrapped in a second buffer: that would swallow the good lines before a cut
    if path.name.lower().endswith(".gz"):
        return gzip.GzipFile(path)
    return io.BufferedReader(io.FileIO(path), WINDOW_BYTES)


def _entries(stream: Stream, file: SourceFile) -> Iterator[Row | Reject]:
    head = stream.read(len(codecs.BOM_UTF8))
    stream.seek(0)
    if head.startswith(_UTF16_MARKS):
        yield Reject(RowId(file.name, 1), "not_utf8_file", "the whole file is UTF-16; convert it to UTF-8")
        return
    shape = "lines" if file.name.lower().endswith((".jsonl", ".jsonl.gz")) else _shape(stream)
    stream.seek(0)
    if shape == "array":
        yield from _array(stream, file.name)
        return
    if shape == "object":
        whole = _object(stream, file.name)
        if whole is not None:
            yield whole
            return
        stream.seek(0)
    yield from _lines(stream, file.name)


def _shape(stream: Stream) -> Literal["array", "object", "lines"]:
    """What a .json file holds, told from its first line and the byte after it."""
    first, first_byte = b"", b""
    try:
        while not first and (line := stream.readline(MAX_ROW_BYTES + 1)):
            first = line.removeprefix(codecs.BOM_UTF8).strip(_BLANK)
            first_byte = first[:1]
        if first_byte == b"{":
            return "lines" if first.endswith(b"}") else "object"
        if first_byte == b"[" and first.endswith(
            b"]"
        ):  # a whole list in one line: an array of rows, or the first of many lists?
            while line := stream.readline(64):
                if following := line.strip(_BLANK):
                    return "lines" if following.startswith(b"[") else "array"
    except GZIP_FAULTS:  # whoever reads on meets it again and reports it
        stream.seek(0)
        first_byte = first_byte or stream.read1(64).removeprefix(codecs.BOM_UTF8).strip(_BLANK)[:1]
    return "array" if first_byte == b"[" else "lines"


# Lines


def _lines(stream: Stream, name: str) -> Iterator[Row | Reject]:
    parser = Parser()
    number = 0
    while line := stream.readline(MAX_ROW_BYTES + 1):
        number += 1
        if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(WINDOW_BYTES)
            yield Reject(RowId(name, number), "too_large", f"the line is longer than {MAX_ROW_BYTES} bytes")
            continue
        line = line.removeprefix(codecs.BOM_UTF8)
        if line.strip(_BLANK):
            yield parser.line(RowId(name, number), line)


def _object(stream: Stream, name: str) -> Row | Reject | None:
    """A file that is one object over several lines; None if it is not."""
    try:
        data = stream.read(MAX_ROW_BYTES + 1)
    except GZIP_FAULTS:
        return None
    if len(data) > MAX_ROW_BYTES:
        return None
    entry = Parser().line(RowId(name, 1), data.removeprefix(codecs.BOM_UTF8))
    return None if isinstance(entry, Reject) and entry.reason in ("bad_json", "bad_utf8") else entry


# Arrays


def _array(stream: Stream, name: str) -> Iterator[Row | Reject]:
    parser, window, number = Parser(), Window(stream), 0
    if window.peek() == "\ufeff":
        window.pos += 1
    window.peek()
    window.pos += 1  # the bracket that _shape saw
    while (character := window.peek()) not in ("", "]"):
        number += 1
        row = RowId(name, number)
        entry = parser.item(row, window)
        yield entry
        if isinstance(entry, Reject) and entry.reason in FILE_REASONS:
            return
        character = window.peek()
        if character == ",":
            window.pos += 1
        elif character not in ("", "]"):
            yield Reject(
                RowId(name, number + 1),
                "broken_array",
                f"expected ',' or ']' after item {number}; all after it is lost",
            )
            return
    if not character:
        yield Reject(
            RowId(name, number + 1), "truncated_file", "the array is not closed: all after the item before is lost"
        )
        return
    window.pos += 1
    if window.peek():
        yield Reject(RowId(name, number + 1), "broken_array", "there is more after the array's end, which is lost")
