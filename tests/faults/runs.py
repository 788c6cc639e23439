"""Running a training job in a process that can be killed, and reading what it left behind."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def fork(function: Callable[[], object]) -> int:
    """Run a function in a fork of this process (everything heavy is imported already) and give its pid."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function()
        code = 0
    finally:
        os._exit(code)


def wait(pid: int) -> int:
    """The exit code of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_after(pid: int, seconds: float, which: signal.Signals = signal.SIGKILL) -> int:
    """Kill a child after some time, unless it has ended by itself; gives its exit code."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, which)
    return wait(pid)


def witness(folder: Path) -> dict[str, Any]:
    """All of a finished run that must not depend on how often it was interrupted: bytes, and journals without times."""
    newest = max((folder / "checkpoints").glob("step-*"))
    metrics = [json.loads(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    for record in metrics:
        record.pop("tokens_per_second", None)
        record.pop("seconds", None)
    balance = [json.loads(line) for line in (folder / "balance.jsonl").read_bytes().splitlines()]
    for record in balance:
        record.pop("seconds", None)
    return {
        "checkpoint": newest.name,
        "weights": (newest / "weights.safetensors").read_bytes(),
        "optimizer": (newest / "optimizer.safetensors").read_bytes(),
        "state": (newest / "state.json").read_bytes(),
        "final": {
            p.name: p.read_bytes()
            for p in sorted((folder / "final").iterdir())
            if p.suffix in (".safetensors", ".jinja")
        },
        "ledger": (folder / "ledger.jsonl").read_bytes(),
        "metrics": metrics,
        "balance": balance,
    }
