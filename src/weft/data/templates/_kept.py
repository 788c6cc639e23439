"""What was worked out once and is kept for later rows: many small things, and the few large ones used last."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

_SMALL_CHARS = 4096
_SMALL, _LARGE = 1000, 8

Value = TypeVar("Value")


class Kept(Generic[Value]):
    """Values by key; beyond its number the one goes that was not used for longest."""

    def __init__(self) -> None:
        self._small: dict[Hashable, Value] = {}
        self._large: dict[Hashable, Value] = {}

    def get(self, key: Hashable) -> Value | None:
        for values in (self._small, self._large):
            found = values.get(key)
            if found is not None:
                del values[key]
                values[key] = found  # the last one used is the last one in order
                return found
        return None

    def put(self, key: Hashable, value: Value, num_chars: int) -> None:
        """`num_chars`: how much text the key and the value hold."""
        values, most = (self._small, _SMALL) if num_chars <= _SMALL_CHARS else (self._large, _LARGE)
        values[key] = value
        if len(values) > most:
            del values[next(iter(values))]
