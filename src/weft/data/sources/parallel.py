"""Parallel text files: one stem, a suffix for each column, and line n of one belongs to line n of the others."""

from __future__ import annotations

import io
from collections import defaultdict
from pathlib import Path

from weft.data.sources.kinds import SourceFile
from weft.data.sources.streams import BLOCK_BYTES
from weft.errors import DataError

_HEAD_BYTES = 8192
_NEVER_DATA = frozenset(
    {
        "md",
        "rst",
        "html",
        "htm",
        "yaml",
        "yml",
        "toml",
        "ini",
        "cfg",
        "lock",
        "log",
        "sh",
        "bat",
        "md5",
        "sha1",
        "sha256",
    }
)
"""Suffixes of what lies beside data, so that README.md and README.html are no pair."""


def parallel_files(paths: list[Path], root: Path) -> list[SourceFile]:
    """The sets of parallel files among files whose suffixes say nothing; others are left out.

    Raises DataError where files of one stem are text of different numbers of lines.
    """
    by_stem: dict[Path, list[Path]] = defaultdict(list)
    for path in sorted(paths):
        name, _, suffix = path.name.rpartition(".")
        if name and suffix and suffix.lower() not in _NEVER_DATA:
            by_stem[path.with_name(name)].append(path)
    found = []
    for stem, together in by_stem.items():
        texts = [path for path in together if _is_text(path)]
        if len(texts) < 2:
            continue
        counts = {path: count_lines(path) for path in texts}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{path.name} has {count}" for path, count in counts.items())
            raise DataError(
                f"{stem}.*: parallel files must have the same number of lines: {listed}; mend them, or move what is no data away"
            )
        suffixes = "+".join(path.name.rpartition(".")[2] for path in texts)
        shown = f"{stem.relative_to(root).as_posix()}.{suffixes}"
        found.append(SourceFile(tuple(texts), shown, "parallel"))
    return found


def _is_text(path: Path) -> bool:
    """Whether a file may be text; one with bytes that are not UTF-8 may, and loses rows where it is read."""
    try:
        with io.FileIO(path) as raw:
            return b"\0" not in (raw.read(_HEAD_BYTES) or b"")
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error}") from error


def count_lines(path: Path) -> int:
    """Lines of a file; a last one without a line end counts."""
    count, last = 0, b"\n"
    try:
        with io.FileIO(path) as raw:
            while block := raw.read(BLOCK_BYTES):
                count += block.count(b"\n")
                last = block[-1:]
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error}") from error
    return count + (last != b"\n")
