"""A dataset of the Hugging Face hub, or of a folder that `datasets` can read: downloaded and cached by `datasets`, read as Arrow."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from weft.data.parse import Row
from weft.data.sources.columnar import batches_to_rows
from weft.data.sources.kinds import HubSplit
from weft.data.sources.streams import Cursor
from weft.errors import DataError, MissingExtraError
from weft.types import Reject

_BATCH_ROWS = 512


def find(dataset: str, subset: str | None, split: str) -> HubSplit:
    """Look a split up, fetching it where it is not cached. Raises DataError, MissingExtraError."""
    loaded = _load(dataset, subset, split)
    return HubSplit(dataset, subset, split, loaded._fingerprint, len(loaded), int(loaded.data.nbytes))


def hub_rows(found: HubSplit, cursor: Cursor) -> Iterator[Row | Reject]:
    """The rows of a split, numbered from 1. Raises DataError where it is no longer what was found."""
    loaded = _load(found.dataset, found.subset, found.split)
    if loaded._fingerprint != found.fingerprint:
        raise DataError(f"{found.name}: changed since it was looked up; prepare again")
    yield from batches_to_rows(_batches(loaded, found, cursor), found.name)


def _batches(loaded: Any, found: HubSplit, cursor: Cursor) -> Iterator[Any]:
    done = 0
    for table in loaded.with_format("arrow").iter(_BATCH_ROWS):
        for batch in table.to_batches():
            yield batch
            done += batch.num_rows
            cursor.position = found.num_bytes * done // max(1, found.num_rows)


@lru_cache(maxsize=16)
def _load(dataset: str, subset: str | None, split: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"hf:{dataset}: datasets of the hub need datasets: pip install 'weft[hub]'") from error
    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(dataset, subset, split=split)
    except Exception as error:  # whatever the hub, the network or a broken file raises
        where = f"hf:{dataset}" + (f", subset {subset}" if subset else "") + f", split {split}"
        message = re.sub(r"\s+", " ", str(error))[:500]
        raise DataError(f"{where}: can't be loaded: {type(error).__name__}: {message}") from error
