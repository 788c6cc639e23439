"""One logger for the package; command verbs decide where it goes."""

from __future__ import annotations

import logging

logger = logging.getLogger("weft")
logger.addHandler(logging.NullHandler())
