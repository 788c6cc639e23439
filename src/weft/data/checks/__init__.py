"""Checks of prepared data, before any training: one file an idea, each with `check(material)` that yields its verdicts.

Faults fail (a wrong mask, a ledger that doesn't add up, a held-out row that is trained on, a benchmark among the rows). What may be meant
(duplicates, long tails, small shares) only informs, with `careful` where it deserves a look.
"""

from __future__ import annotations

from weft.config.settings import Settings
from weft.data.checks import contamination, duplicates, ledger, masks, near, shares
from weft.data.checks.found import Check, Example, Material
from weft.data.prepare import Prepared
from weft.types import ProgressHook, silent

__all__ = ["Check", "Example", "Material", "check"]

CHECKS = (masks, ledger, duplicates, near, contamination, shares)


def check(settings: Settings, prepared: Prepared, progress: ProgressHook = silent) -> list[Check]:
    """Every check's verdict, faults and numbers alike. Nothing is trained or changed."""
    material = Material(settings, prepared, progress)
    return [verdict for module in CHECKS for verdict in module.check(material)]
