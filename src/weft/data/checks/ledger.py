"""Where the rows went: the ledger adds up, and how many were shortened, left out or unreadable, for which reasons."""

from __future__ import annotations

from collections.abc import Iterator

from weft.data.checks.found import Check, Material, share
from weft.data.checks.stats import reasons

LEDGER = "the ledger adds up"
UNUSED = "rows that are cut, dropped or quarantined"

NOTABLE_SHARE = 0.02
"""Above this share of a task's rows, what is not used deserves a look."""


def check(material: Material) -> Iterator[Check]:
    """read = used + quarantined + dropped for every task; and the shares, with their reasons."""
    ledgers = [store.ledger for store in material.stores]
    wrong = [
        f"{x.task}: {x.read} read, but {x.used} used + {x.quarantined} quarantined + {sum(x.dropped.values())} dropped"
        for x in ledgers
        if x.read != x.used + x.quarantined + sum(x.dropped.values())
    ]
    for store in material.stores:
        listed = sum(reasons(store).values())
        if listed != store.ledger.quarantined + sum(store.ledger.dropped.values()):
            wrong.append(f"{store.task}: {listed} rows are listed in {store.folder / 'rejects.jsonl'}")
    yield Check(LEDGER, not wrong, "; ".join(wrong) or "read = used + quarantined + dropped, every task")
    parts, careful = [], False
    for store in material.stores:
        x = store.ledger
        found = reasons(store) | ({"cut": x.cut} if x.cut else {})
        if found:
            told = ", ".join(f"{reason} {share(number, x.read)}" for reason, number in found.items())
            parts.append(f"{x.task}: {told}")
            careful |= sum(found.values()) > NOTABLE_SHARE * x.read
    yield Check(UNUSED, True, "; ".join(parts) or "every row is used whole", careful)
