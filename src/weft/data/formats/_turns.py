"""What the formats with a list of turns share."""

from __future__ import annotations

from collections.abc import Iterator

from weft.data.formats import MAX_TURNS, RowError, fields
from weft.data.parse import kind_of
from weft.types import JsonObject, JsonValue

_PREFERENCE_KEYS = ("chosen", "rejected", "rejected_response", "chosen_messages", "rejected_messages")


def turns(row: JsonValue, key: str) -> Iterator[tuple[str, JsonObject]]:
    """Each turn of a row with where it stands, in words; a bare list is the turns themselves. Raises RowError.

    Preference rows are refused: learning a rejected answer by heart is the opposite of what they are for. So are rows
    that offer tools, until templates can say so.
    """
    if isinstance(row, list):
        holder, listed = "the row", row
    else:
        listed, holder = _listed(fields(row), key), key
    if len(listed) > MAX_TURNS:
        raise RowError("too_many_turns", f"{holder} has {len(listed)} turns; at most {MAX_TURNS} are read")
    for number, turn in enumerate(listed, 1):
        if not isinstance(turn, dict):
            raise RowError("wrong_type", f"{key}[{number}] is {kind_of(turn)}; expected an object")
        yield f"{key}[{number}].", turn


def _listed(row: JsonObject, key: str) -> list[JsonValue]:
    if key not in row:
        raise RowError("missing_key", f"{key!r} is missing")
    if any(name in row for name in _PREFERENCE_KEYS) or isinstance(row.get("label"), bool):
        raise RowError(
            "preference_row", "a preference row (chosen and rejected, or a true/false label), not one to imitate"
        )
    if row.get("tools") not in (None, "", "[]", [], {}):
        raise RowError("tools_unsupported", "the row offers tools, which can't be rendered yet")
    listed = row[key]
    if not isinstance(listed, list):
        raise RowError("wrong_type", f"{key!r} is {kind_of(listed)}; expected a list")
    return listed
