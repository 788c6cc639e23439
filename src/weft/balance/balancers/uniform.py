"""Every task weighs 1, whatever the settings' task weights are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from weft.balance import Floats
from weft.balance.balancers.fixed import Fixed


def build(tasks: Sequence[str], weight_K: Floats) -> Fixed:
    return Fixed(np.ones(len(tasks)))
