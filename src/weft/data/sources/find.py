"""Paths to files: what belongs to a task, under which name."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from weft.config.settings import HUB, TaskSettings
from weft.data.sources import hub
from weft.data.sources.kinds import SampleBy, SourceFile, kind_of_name, suffixes_shown, verify
from weft.data.sources.parallel import parallel_files
from weft.data.sources.saved import SavedFolders
from weft.errors import ConfigError, DataError

_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


def of_task(task: TaskSettings, leave_out: Sequence[str] = ()) -> list[SourceFile]:
    """All files of a task. Raises DataError."""
    return files(task.paths, sample_by=task.sample_by, split=task.split, subset=task.subset, leave_out=leave_out)


def files(
    paths: str | Sequence[str],
    *,
    sample_by: SampleBy = "line",
    split: str = "train",
    subset: str | None = None,
    leave_out: Sequence[str] = (),
) -> list[SourceFile]:
    """All data files of a task's paths, each a file, a folder or `hf:NAME`, sorted by name.

    Hidden files and folders are left out, and the files that `leave_out` names. With several paths the name of each folder
    stands before the names of its files. Raises DataError: nothing there, no data file, a link that is dangling, is a folder or
    leaves its folder, a name that can't stand in a row's id, a file that is not what its suffix says, a file or a name twice.
    """
    roots = [paths] if isinstance(paths, str) else list(paths)
    if not roots:
        raise DataError("no path is given")
    without = {_real(_path(path)) for path in leave_out}
    found: list[SourceFile] = []
    loose: list[Path] = []  # files that were named one by one and may be parallel
    for path in roots:
        if path.startswith(HUB):
            found_split = hub.find(path.removeprefix(HUB), subset, split)
            found.append(SourceFile((), found_split.name, "hub", hub=found_split))
            continue
        root = _path(path)
        _must_be_there(root)
        if root.is_file() and kind_of_name(root.name) is None:
            loose.append(root)
            continue
        below = [file for file in _of_root(root, split) if not any(_real(path) in without for path in file.paths)]
        if not below:
            raise DataError(f"{root}: no data file; looked for {suffixes_shown()}; there is {_what_is_there(root)}")
        if len(roots) > 1 and root.is_dir():
            below = [replace(file, name=f"{root.resolve().name}/{file.name}") for file in below]
        found += below
    found += _loose(loose)
    found = sorted((replace(file, sample_by=sample_by) for file in found), key=lambda file: file.name)
    _refuse_strange_names(found)
    _refuse_doubles(found, several=len(roots) > 1)
    for file in found:
        verify(file)
    return found


def refuse_idle(name: str, task: TaskSettings, found: Sequence[SourceFile]) -> None:
    """Raises ConfigError for a setting that none of a task's files heeds: whoever set it believes that it does something."""
    from_hub = any(file.kind == "hub" for file in found)
    heeded = (
        ("subset", from_hub, "only a dataset of the hub (hf:NAME) has subsets"),
        (
            "split",
            from_hub or any(_is_saved(file) for file in found),
            "only a dataset of the hub (hf:NAME) and a folder that `datasets` saved have splits; name one split's files instead",
        ),
        ("sample_by", any(file.kind == "text" for file in found), "only plain text (*.txt) is cut into samples"),
    )
    faults = [
        f"tasks.{name}.{setting}: is {getattr(task, setting)!r}, but none of {_shown(found)} heeds it: {why}; leave it out"
        for setting, is_heeded, why in heeded
        if not is_heeded and getattr(task, setting) != TaskSettings.model_fields[setting].default
    ]
    if faults:
        raise ConfigError("\n".join(faults))


def _shown(found: Sequence[SourceFile]) -> str:
    return ", ".join(file.name for file in found[:3]) + (", …" if len(found) > 3 else "")


def _is_saved(file: SourceFile) -> bool:
    """Whether a file lies in a folder that `datasets` saved."""
    return file.kind == "arrow" and (file.path.parent / "state.json").is_file()


def source_file(path: Path, name: str | None = None) -> SourceFile:
    """A single file, whatever lies around it; its content is not looked at. Raises DataError for a suffix that is not read."""
    kind = kind_of_name(path.name)
    if kind is None:
        raise DataError(f"{path}: no data file; looked for {suffixes_shown()}; there is only {path.name!r}")
    return SourceFile((path,), name or path.name, kind)


def _path(text: str) -> Path:
    if "\0" in text:
        raise DataError(f"{text!r}: a path can't hold NUL")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise DataError(f"{text}: {error}") from error


def _must_be_there(root: Path) -> None:
    try:
        is_there, is_useful = root.exists(), root.is_file() or root.is_dir()
    except OSError as error:  # a name that is too long
        raise DataError(f"{root}: can't be listed: {error}") from error
    if not is_there:
        raise DataError(f"{root}: no such file or folder (looked from {Path.cwd()})")
    if not is_useful:
        raise DataError(f"{root}: is neither a file nor a folder")


def _of_root(root: Path, split: str) -> list[SourceFile]:
    if root.is_file():
        return [source_file(root)]
    try:
        below = list(_below(root, split))
    except OSError as error:
        raise DataError(f"{root}: can't be listed: {error}") from error
    return [
        *(SourceFile((path,), path.relative_to(root).as_posix(), kind) for path in below if (kind := kind_of_name(path.name))),
        *parallel_files([path for path in below if kind_of_name(path.name) is None], root),
    ]  # fmt: skip


def _below(root: Path, split: str) -> Iterator[Path]:
    """Every visible regular file below a folder that may be data; checks the links on the way."""
    inside = Path(os.path.realpath(root))
    saved = SavedFolders(split)
    for folder, folders, names in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        chosen = saved.choose(Path(folder), folders, names)
        folders[:] = [name for name in folders if name in chosen]
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise DataError(
                    f"{Path(folder) / name}: is a link to a folder; give its target as a task's path of its own"
                )
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or name not in chosen:
                continue
            if path.is_symlink():
                _check_link(path, inside)
            if path.is_file():
                yield path
            elif kind_of_name(name):
                raise DataError(f"{path}: is not a regular file")


def _check_link(path: Path, inside: Path) -> None:
    target = Path(os.path.realpath(path))  # resolve() raises on a link to itself
    if not target.exists():
        raise DataError(f"{path}: is a dangling link to {os.readlink(path)}")
    if not target.is_relative_to(inside):
        raise DataError(f"{path}: leaves the task's folder as a link to {target}; copy the file or name its folder")


def _raise(error: OSError) -> None:
    raise error


def _loose(paths: list[Path]) -> list[SourceFile]:
    """Files with a suffix of their own that were named one by one: they must be parallel."""
    by_folder: dict[Path, list[Path]] = defaultdict(list)
    for path in paths:
        by_folder[path.parent].append(path)
    found = [file for folder, together in by_folder.items() for file in parallel_files(together, folder)]
    lonely = set(paths) - {path for file in found for path in file.paths}
    if lonely:
        raise DataError(
            f"{min(lonely)}: no data file; looked for {suffixes_shown()}; there is only {min(lonely).name!r}"
        )
    return found


def _refuse_strange_names(found: list[SourceFile]) -> None:
    strange = [file.name for file in found if _CONTROL.search(file.name)]
    if strange:
        raise DataError(f"rename these files, control or broken characters can't stand in a row's id: {strange[:5]}")


def _refuse_doubles(found: list[SourceFile], several: bool) -> None:
    by_name: dict[str, SourceFile] = {}
    by_file: dict[Path, SourceFile] = {}
    for file in found:
        if (other := by_name.setdefault(file.name, file)) is not file:
            where = " and ".join(str(each.path) for each in (other, file) if each.paths)
            raise DataError(
                f"two files have the same name in the ids of their rows, {file.name}: {where or 'a dataset that is named twice'}; "
                "rename one, or name their folders instead"
            )
        for path in file.paths if several else ():
            if (other := by_file.setdefault(_real(path), file)) is not file:
                raise DataError(f"{path}: is named twice, as {other.name} and as {file.name}")


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _what_is_there(root: Path) -> str:
    if root.is_file():
        return f"only {root.name!r}"
    there = sorted(os.listdir(root))
    more = f" and {len(there) - 10} more" if len(there) > 10 else ""
    return ", ".join(map(repr, there[:10])) + more if there else "nothing"
