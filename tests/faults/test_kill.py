"""A run killed at any moment and resumed ends in the same bytes as one that was not."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.runs import fork, kill_after, wait, witness
from weft.config.load import to_yaml
from weft.config.resolve import resolve
from weft.config.settings import Settings
from weft.training.run import train

KILLS = 20


@pytest.fixture
def settings(make_settings: Callable[..., Settings]) -> Settings:
    return make_settings(
        adapter={"dropout": 0.1},
        data={"validation": 0.2},
        mixture={"epochs": 8},
        batch={"tokens_per_step": 256, "tokens_per_micro_batch": 256},
        validate={"every": 3},
    )


def _at(settings: Settings, output: Path) -> Settings:
    return settings.model_copy(
        update={"output": output, "data": settings.data.model_copy(update={"cache": output.parent / "cache"})}
    )


def test_twenty_seeded_kills_end_in_the_same_bytes(settings: Settings, tmp_path: Path) -> None:
    settings = resolve(settings)
    undisturbed = _at(settings, tmp_path / "undisturbed" / "run")
    started = time.monotonic()
    assert wait(fork(lambda: train(undisturbed))) == 0
    seconds = time.monotonic() - started
    expected = witness(undisturbed.output)
    assert len(expected["metrics"]) > 10, "a run too short to be interrupted proves nothing"

    chance = random.Random(20)
    killed = resumed = 0
    while killed < KILLS:
        disturbed = _at(settings, tmp_path / f"disturbed{killed}" / "run")
        code = kill_after(fork(lambda run=disturbed: train(run)), chance.uniform(0.0, seconds))
        while code == -9:
            killed += 1
            resumed += any((disturbed.output / "checkpoints").glob("step-????????"))
            again = fork(lambda run=disturbed: train(run))
            code = kill_after(again, chance.uniform(0.0, seconds)) if chance.random() < 0.3 else wait(again)
        assert code == 0
        assert witness(disturbed.output) == expected
    assert resumed >= 5, "the kills must fall into the middle of runs"


def test_the_command_killed_for_real_goes_on_where_it_was(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "settings.yaml"
    file.write_text(to_yaml(resolve(_at(settings, tmp_path / "cli" / "run"))))
    command = [sys.executable, "-m", "weft.cli.main", "train", str(file)]
    run = tmp_path / "cli" / "run"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        while process.poll() is None and not list((run / "checkpoints").glob("step-00000004")):
            time.sleep(0.01)
        process.kill()
    assert process.returncode == -9, "the command ended before it could be killed"
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "going on at step" in done.stderr
    undisturbed = _at(settings, tmp_path / "other" / "run")
    assert wait(fork(lambda: train(resolve(undisturbed)))) == 0
    assert witness(run) == witness(undisturbed.output)
