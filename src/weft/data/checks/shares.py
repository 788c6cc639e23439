"""What is no fault, but good to know before training: lengths, how much of them is trained, how the tokenizer fits, how it packs."""

from __future__ import annotations

from collections.abc import Iterator

from weft.data.checks.found import Check, Material
from weft.data.checks.stats import Stats, TaskStats, stats

LENGTHS = "lengths"
LABELS = "share of trained tokens"
TOKENIZER = "how the tokenizer fits the text"
PACKING = "how a pass over the mixture is packed"

FEW_TRAINED = 0.02
"""Below this share of trained tokens, most of the computation goes into reading."""

POOR_FIT = 0.6
"""A task whose tokens stand for less than this part of the median task's bytes fits the tokenizer poorly."""


def check(material: Material) -> Iterator[Check]:
    """Four lines of numbers; all of them inform only."""
    found = stats(material.settings, material.prepared, material.progress)
    yield _lengths(found)
    yield _labels(found)
    yield _tokenizer(found)
    yield _packing(found, material)


def _lengths(found: Stats) -> Check:
    parts = [
        f"{x.task}: median {x.quantiles['median']:,} tokens, 95 % up to {x.quantiles['p95']:,}, longest {x.longest:,}"
        for x in found.tasks
    ]
    return Check(LENGTHS, True, "; ".join(parts))


def _labels(found: Stats) -> Check:
    parts = [f"{x.task}: {100 * x.trained_share:.3g} %" for x in found.tasks]
    few = [x.task for x in found.tasks if x.trained_share < FEW_TRAINED]
    told = [f"less than {100 * FEW_TRAINED:g} % in {', '.join(few)}"] if few else []
    return Check(LABELS, True, "; ".join([*told, *parts]), careful=bool(few))


def _tokenizer(found: Stats) -> Check:
    parts = [f"{x.task}: {x.bytes_per_token:.2f} bytes a token" for x in found.tasks]
    poor = poor_fits(found.tasks)
    unknown = [f"{x.task} {x.unknown_tokens:,}" for x in found.tasks if x.unknown_tokens]
    told = []
    if poor:
        told.append(
            f"far fewer in {', '.join(poor)} than in the other tasks: another tokenizer may need fewer tokens there"
        )
    if unknown:
        told.append(f"tokens that stand for unknown text: {', '.join(unknown)}")
    return Check(TOKENIZER, True, "; ".join([*told, *parts]), careful=bool(poor or unknown))


def poor_fits(tasks: list[TaskStats]) -> list[str]:
    """The tasks whose tokens stand for much less text than those of the median task."""
    middle = sorted(x.bytes_per_token for x in tasks)[len(tasks) // 2] if tasks else 0.0
    return [x.task for x in tasks if x.bytes_per_token < POOR_FIT * middle]


def _packing(found: Stats, material: Material) -> Check:
    packing = material.settings.data.packing
    if packing == "pack":
        told = (
            f"whole samples side by side; micro-batches are {100 * found.utilisation:.1f} % full, and no slot is empty"
        )
        return Check(PACKING, True, told)
    if packing == "concat":
        return Check(PACKING, True, f"one stream, cut every {found.max_tokens:,} tokens; no slot is empty")
    return Check(
        PACKING, True, f"one sample a row; padded to the longest, {100 * found.padding_share:.1f} % would be padding"
    )
