"""How numbers and names are written on a page."""

from __future__ import annotations

import math
import re

from weft.page.markup import Markup, el, join

_WORDS = re.compile(r"[^_.-]+[_.-]*|[_.-]+")


def broken(name: str) -> Markup:
    """A name that may be broken into lines behind its words."""
    return join([el("span", part, Markup("<wbr>")) for part in _WORDS.findall(name)])


def number(value: int) -> str:
    """A large number to be read at a glance."""
    for size, unit in ((10**12, "T"), (10**9, "B"), (10**6, "M")):
        if value >= size:
            return f"{value / size:.2f} {unit}"
    return f"{value:,}"


def percent(share: float) -> str:
    """A share as a percentage with as many digits as tell something."""
    value = 100 * share
    if 0 < value < 0.1:
        return "<0.1 %"
    return f"{value:.1f} %" if value < 99.95 or value == 100 else "99.9 %"


def short(value: float) -> str:
    """A number of any size with three digits that tell something."""
    if not math.isfinite(value):
        return "–"
    if value == 0 or 1e-3 <= abs(value) < 1e4:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def fixed(value: float) -> str:
    """A number for a column of numbers: three digits behind the point, unless it is too large or too small for that."""
    return f"{value:.3f}" if value == 0 or 1e-3 <= abs(value) < 1e4 else short(value)
