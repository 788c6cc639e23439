"""On what a run was made: versions, machine, device. It is written once beside the run and read by people and reports."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypedDict

import torch

from weft.version import __version__

FILE = "environment.json"
_CPU_INFO = Path("/proc/cpuinfo")


class Environment(TypedDict):
    """What environment.json holds. It names no user, host or folder."""

    weft: str
    python: str
    torch: str
    transformers: str
    peft: str
    numpy: str
    platform: str
    cpu: str
    cores: int
    """CPU cores that this process may use."""
    threads: int
    """CPU threads of each process's arithmetic."""
    processes: int
    device: str
    gpu: str | None
    started: str
    """The time in UTC, ISO 8601."""


def describe(device: torch.device, processes: int) -> Environment:
    """The environment of this process, which computes on `device` beside `processes` - 1 others."""
    return {
        "weft": __version__,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
        "peft": _version("peft"),
        "numpy": _version("numpy"),
        "platform": platform.platform(),
        "cpu": _cpu(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "device": str(device),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:  # it runs from a folder that is only on the path
        return "unknown"


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    """The processor's name: Linux tells it in a file, others through `platform`."""
    try:
        lines = _CPU_INFO.read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return next(filter(None, named), platform.processor() or platform.machine())
