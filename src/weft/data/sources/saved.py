"""Folders that `datasets` wrote with save_to_disk: which of their files are data.

A saved dataset lists its data files in state.json; beside them lie its description and caches, which are none. A saved DatasetDict is a
folder of such folders, one a split, of which a task has one.
"""

from __future__ import annotations

import json
from pathlib import Path

from weft.errors import DataError

_STATE, _INFO, _SPLITS = "state.json", "dataset_info.json", "dataset_dict.json"
_MOST_BYTES = 16 * 2**20


class SavedFolders:
    """Which names in a folder may be data."""

    def __init__(self, split: str) -> None:
        self._split = split

    def choose(self, folder: Path, folders: list[str], names: list[str]) -> set[str]:
        """The names that are left, of folders and files. Raises DataError where a saved dataset is not whole."""
        if _SPLITS in names and (splits := _names(folder / _SPLITS, "splits")) is not None:
            if self._split not in splits:
                raise DataError(f"{folder}: has no split {self._split}; its splits are {', '.join(sorted(splits))}")
            if self._split not in folders:
                raise DataError(f"{folder / self._split}: is missing, though {_SPLITS} names it")
            return {self._split}
        if _STATE in names and _INFO in names and (listed := _names(folder / _STATE, "_data_files")) is not None:
            missing = sorted(set(listed) - set(names))
            if missing:
                raise DataError(f"{folder}: {', '.join(missing[:5])} is missing, though {_STATE} names it")
            return set(listed)
        return {*folders, *names}


def _names(path: Path, key: str) -> list[str] | None:
    """The names that a description lists under a key; None if it is something else."""
    if path.stat().st_size > _MOST_BYTES:
        return None
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    listed = value.get(key) if isinstance(value, dict) else None
    if not isinstance(listed, list):
        return None
    names = [item.get("filename") if isinstance(item, dict) else item for item in listed]
    return [str(name) for name in names]
