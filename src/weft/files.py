"""Writing folders that are there whole or not at all.

Write beside the place, make it durable, list every file with its checksum, rename, make the rename durable. Whoever reads a
published folder can prove that nothing of it was lost or changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from weft.types import JsonObject

MANIFEST = "manifest.json"


def sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Make a file or folder durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(file: Path, value: object) -> None:
    file.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")


@contextlib.contextmanager
def building(place: Path) -> Iterator[Path]:
    """A temporary folder beside `place` to write into; gone at the end if it was not published."""
    place.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f"{place.name}.tmp-", dir=place.parent))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(folder: Path, place: Path, about: JsonObject) -> None:
    """Seal a folder with a manifest and rename it to `place`, which must not exist. `about` goes into the manifest."""
    files = {}
    for file in sorted(p for p in folder.rglob("*") if p.is_file()):
        file.chmod(0o644)
        sync(file)
        files[file.relative_to(folder).as_posix()] = {"bytes": file.stat().st_size, "sha256": sha256(file)}
    manifest = folder / MANIFEST
    write_json(manifest, {**about, "files": files})
    sync(manifest)
    sync(folder)
    folder.rename(place)
    sync(place.parent)


def faults(folder: Path, needed: Iterable[str] = ()) -> list[str]:
    """What is wrong with a published folder; an empty list where every byte is as it was written, and all of `needed` is there."""
    try:
        listed = {
            str(name): (entry["bytes"], entry["sha256"])
            for name, entry in json.loads((folder / MANIFEST).read_text("utf-8"))["files"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return [f"{MANIFEST}: {error}"]
    found = [f"{name}: not listed in {MANIFEST}" for name in needed if name not in listed]
    for name, (size, checksum) in listed.items():
        file = folder / name
        if not file.is_file():
            found.append(f"{name}: missing")
        elif file.stat().st_size != size:
            found.append(f"{name}: {file.stat().st_size} bytes, {size} were written")
        elif sha256(file) != checksum:
            found.append(f"{name}: its content is not what was written")
    return found


def remove_leftovers(parent: Path) -> None:
    """Delete what a killed process was still writing in a folder that this process has locked."""
    for leftover in parent.glob("*.tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
