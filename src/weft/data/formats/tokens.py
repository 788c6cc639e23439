"""Samples that were tokenized elsewhere: `input_ids` with `labels` (-100: context), `loss_mask`, or neither.

`attention_mask` tells padding, which is left out. Labels are the ids themselves at the same places, as in Hugging Face's
library; shifted ones are refused. Without labels and loss mask all tokens are trained.
"""

from __future__ import annotations

from weft.data.formats import Format, RowError, check, fields, keys_of
from weft.data.parse import kind_of
from weft.types import Conversation, JsonObject, JsonValue, Tokens

CONTEXT = -100
"""The label that says that a token is context."""


def fits(row: JsonValue) -> bool:
    return isinstance(row, dict) and "input_ids" in row


def convert(row: JsonValue) -> Conversation:
    row = fields(row)
    if "input_ids" not in row:
        raise RowError("missing_key", f"'input_ids' is missing among {keys_of(row)}")
    ids = _integers(row, "input_ids")
    weights = [1.0] * len(ids)
    if row.get("labels") is not None:
        labels = _integers(row, "labels", len(ids))
        for place, (label, token) in enumerate(zip(labels, ids, strict=True)):
            if label not in (CONTEXT, token):
                raise RowError(
                    "bad_labels", f"label {place} is {label}, its id is {token}; a label is its own id or {CONTEXT}"
                )
        weights = [0.0 if label == CONTEXT else 1.0 for label in labels]
    if row.get("loss_mask") is not None:
        weights = [a * b for a, b in zip(weights, _numbers(row, "loss_mask", len(ids)), strict=True)]
    if row.get("attention_mask") is not None:
        ids, weights = _without_padding(ids, weights, _numbers(row, "attention_mask", len(ids)))
    return check(Conversation((), tokens=Tokens(tuple(ids), tuple(weights))))


def _list(row: JsonObject, key: str, length: int | None) -> list[JsonValue]:
    value = row[key]
    if not isinstance(value, list):
        raise RowError("wrong_type", f"{key!r} is {kind_of(value)}; expected a list of numbers")
    if length is not None and len(value) != length:
        raise RowError("bad_tokens", f"{length} input_ids, but {len(value)} {key}")
    return value


def _integers(row: JsonObject, key: str, length: int | None = None) -> list[int]:
    numbers: list[int] = []
    for value in _list(row, key, length):
        if type(value) is not int or not -(2**31) <= value < 2**31:
            raise RowError("wrong_type", f"{key}[{len(numbers)}] is {kind_of(value)}; expected a token's id")
        numbers.append(value)
    return numbers


def _numbers(row: JsonObject, key: str, length: int) -> list[float]:
    numbers: list[float] = []
    for value in _list(row, key, length):
        if not isinstance(value, bool | int | float) or not 0 <= value <= 1e6:
            raise RowError("wrong_type", f"{key}[{len(numbers)}] is {kind_of(value)}; expected a number at or above 0")
        numbers.append(float(value))
    return numbers


def _without_padding(ids: list[int], weights: list[float], mask: list[float]) -> tuple[list[int], list[float]]:
    kept = [place for place, seen in enumerate(mask) if seen]
    if kept and kept[-1] - kept[0] + 1 != len(kept):
        raise RowError("bad_tokens", "attention_mask has a hole; only padding at the ends can be left out")
    if kept == list(range(len(ids))):
        return ids, weights
    return [ids[place] for place in kept], [weights[place] for place in kept]


FORMAT = Format(
    name="tokens",
    order=2,
    fits=fits,
    convert=convert,
    examples=(
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
        {"input_ids": [5, 6, 7, 0], "loss_mask": [0, 1, 1, 0], "attention_mask": [1, 1, 1, 0]},
        {"input_ids": [5, 6, 7], "num_tokens": 3},
    ),
)
