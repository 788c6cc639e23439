"""What a file is, told by its suffix and proven by its first bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

from weft.data.sources.streams import PACKINGS
from weft.errors import DataError

Kind = Literal["lines", "json", "csv", "tsv", "text", "parquet", "arrow", "parallel", "hub"]
SampleBy = Literal["line", "paragraph", "document"]

_TEXTS: dict[str, Kind] = {".jsonl": "lines", ".json": "json", ".csv": "csv", ".tsv": "tsv", ".txt": "text"}
_BINARIES: dict[str, Kind] = {".parquet": "parquet", ".arrow": "arrow"}
_BY_SUFFIX: dict[str, Kind] = {
    **{suffix + packing: kind for packing in ("", *PACKINGS) for suffix, kind in _TEXTS.items()},
    **_BINARIES,
}
SUFFIXES = tuple(_BY_SUFFIX)
_SHOWN = ", ".join([*(f"*{suffix}" for suffix in (*_TEXTS, *_BINARIES)), "the first five also with .gz or .zst"])
_MARKS: dict[bytes, tuple[str, str]] = {
    b"PAR1": ("Parquet", ".parquet"),
    b"ARROW1": ("Arrow", ".arrow"),
    b"\x1f\x8b": ("gzip", ".gz"),
    b"\x28\xb5\x2f\xfd": ("zstd", ".zst"),
    b"PK\x03\x04": ("a zip archive", ""),
    b"BZh": ("bzip2", ""),
    b"\xfd7zXZ\x00": ("xz", ""),
    b"7z\xbc\xaf": ("a 7z archive", ""),
    b"SQLite format 3\x00": ("an SQLite database", ""),
    b"%PDF-": ("a PDF", ""),
}
_ARROW_STREAM = b"\xff\xff\xff\xff"


class HubSplit(NamedTuple):
    """One split of a dataset, and what it was when it was looked up."""

    dataset: str
    subset: str | None
    split: str
    fingerprint: str
    num_rows: int
    num_bytes: int

    @property
    def name(self) -> str:
        return f"hf:{self.dataset}"


@dataclass(frozen=True, slots=True)
class SourceFile:
    """What rows of a task are read from: a file, parallel files that are read side by side, or a split of a hub's dataset.

    `name` is the path relative to the task's folder, with forward slashes; it stands in every row's id.
    """

    paths: tuple[Path, ...]
    name: str
    kind: Kind
    sample_by: SampleBy = "line"
    hub: HubSplit | None = None

    @property
    def path(self) -> Path:
        """The file; the first of parallel ones."""
        return self.paths[0]

    @property
    def fingerprint(self) -> str:
        """What names the content of a hub's dataset, '' where there are files to hash."""
        return self.hub.fingerprint if self.hub else ""

    @property
    def num_bytes(self) -> int:
        """The size of all its files. Raises OSError."""
        return self.hub.num_bytes if self.hub else sum(path.stat().st_size for path in self.paths)

    @property
    def is_packed(self) -> bool:
        """Whether it must be unpacked."""
        return any(path.name.lower().endswith(PACKINGS) for path in self.paths)

    @property
    def columns(self) -> list[str]:
        """The suffixes of parallel files, which name the columns of their rows."""
        return [path.name.rpartition(".")[2] for path in self.paths]


def kind_of_name(name: str) -> Kind | None:
    """The kind of file that a suffix promises; None for one that is not read."""
    lower = name.lower()
    return next((kind for suffix, kind in _BY_SUFFIX.items() if lower.endswith(suffix)), None)


def suffixes_shown() -> str:
    """All suffixes that are read, in words."""
    return _SHOWN


def verify(file: SourceFile) -> None:
    """Raises DataError where a file's first bytes are those of another kind than its suffix says."""
    if file.kind in ("hub", "parallel"):
        return
    try:
        with file.path.open("rb") as opened:
            head = opened.read(16)
    except OSError as error:
        raise DataError(f"{file.path}: can't be read: {error}") from error
    if not head:
        return
    found, suffix = next((told for mark, told in _MARKS.items() if head.startswith(mark)), ("", ""))
    if head.startswith(_ARROW_STREAM) and not found:
        found, suffix = "an Arrow stream", ".arrow"
    ending = file.path.suffix.lower()
    if found and suffix != ending:
        advice = f"name it *{suffix}" if suffix else "unpack or convert it"
        raise DataError(f"{file.path}: is named {ending} but holds {found}; {advice}")
    needs = ending in (*_BINARIES, *PACKINGS)
    if needs and not found and not (len(head) < 4 and ending in PACKINGS):
        raise DataError(
            f"{file.path}: is named {ending} but does not begin as such a file does: is it damaged, or is the name wrong?"
        )
