"""The experiments are scripts beside one another; they import each other by their short names."""

from __future__ import annotations

import sys
from pathlib import Path

EXPERIMENTS = Path(__file__).resolve().parents[2] / "experiments"
if str(EXPERIMENTS) not in sys.path:
    sys.path.append(str(EXPERIMENTS))
