"""What keeps a row from being trained as something that it is not: likings, pictures and sounds, parts that would be left out."""

from __future__ import annotations

from collections.abc import Iterable

from weft.data.formats._core import RowError
from weft.types import JsonObject, JsonValue

_KINDS = ("chosen", "rejected")
_ANSWERS = (
    "answer",
    "completion",
    "conversation",
    "conversations",
    "message",
    "messages",
    "output",
    "response",
    "text",
)
PREFERENCE_KEYS = frozenset(
    {*_KINDS}
    | {f"{kind}_{answer}" for kind in _KINDS for answer in _ANSWERS}
    | {f"{answer}_{kind}" for kind in _KINDS for answer in _ANSWERS}
)
"""Columns that hold a preferred answer or one that is not to be learnt."""

_MEDIA = frozenset({"image", "images", "video", "videos", "audio", "audios"})
_TELLING = PREFERENCE_KEYS | _MEDIA | {"label", "kto_tag"}
_NOTHING = ("", "[]", "{}", "null")
_ASIDE = frozenset({"history", "tools", "functions", "documents"})
"""Parts of a prompt that no template of columns can hold."""


def liking(row: JsonObject) -> bool | None:
    """Whether a row's answer is liked; None where the row doesn't say.

    A `label` or `kto_tag` that is true or false. 0 and 1 mean so in `kto_tag`, and in `label` beside prompt and completion,
    the columns of KTO; any other label is a class.
    """
    for key in ("label", "kto_tag"):
        value = row.get(key)
        if isinstance(value, bool):
            return value
        is_kto = key == "kto_tag" or ("prompt" in row and "completion" in row)
        if is_kto and isinstance(value, int | float) and value in (0, 1):
            return bool(value)
    return None


def is_preference(row: JsonValue) -> bool:
    """Whether a row says which answers are liked."""
    if not isinstance(row, dict) or _TELLING.isdisjoint(row):
        return False
    return not PREFERENCE_KEYS.isdisjoint(row) or liking(row) is not None


def to_imitate(row: JsonValue) -> None:
    """Refuses what can't be imitated as text: preference rows, for learning a rejected answer by heart is the opposite of what
    they are for, and rows with pictures or sounds. Raises RowError."""
    if not isinstance(row, dict) or _TELLING.isdisjoint(row):
        return
    if is_preference(row):
        raise RowError(
            "preference_row",
            "a preference row (chosen and rejected, or a true/false label), not one to imitate; read it as "
            "format: preference, or say by tasks.NAME.columns which column is to be imitated",
        )
    text_alone(row)


def text_alone(holder: JsonObject, where: str = "") -> None:
    """Refuses a row or a turn with pictures or sounds, which nobody would see in its text. Raises RowError."""
    if _MEDIA.isdisjoint(holder):
        return
    found = next((key for key in holder if key in _MEDIA and not is_nothing(holder[key])), None)
    if found is not None:
        raise RowError("unsupported_part", f"{where}{found} holds what is no text; only text is read")


def is_nothing(value: JsonValue) -> bool:
    """Whether a column is empty, however emptiness is written: a column holds something of the kind in rows without one."""
    return not value or (isinstance(value, str) and value.strip() in _NOTHING)


def all_used(row: JsonObject, columns: Iterable[str], prompt: str, answer: str) -> None:
    """Refuses a row where one of these columns, each a part of the prompt, would be left out. Raises RowError `unused_text`."""
    for key in columns:
        if key == prompt or key not in row or is_nothing(row[key]):
            continue
        if key in _ASIDE:
            advice = f"write the row as messages, or leave it out by tasks.NAME.columns: {{user: {prompt}, assistant: {answer}}}"
        else:
            advice = (
                f"say where it belongs by tasks.NAME.user: '{{{key}}}\\n{{{prompt}}}' and assistant: '{{{answer}}}'"
            )
        raise RowError("unused_text", f"{key!r} is beside {prompt}/{answer} and would be left out; {advice}")
