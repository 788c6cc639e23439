"""Whatever moves the weights, a run that was killed and resumed ends in the same bytes; and a run is replayed from its record."""

from __future__ import annotations

import itertools
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.balance.runs import ACTIVE, QUICK, SAMPLED, records
from tests.faults.runs import fork, wait, witness
from weft import plugins
from weft.balance import PACKAGE
from weft.config.settings import Settings
from weft.training.events import Journal
from weft.training.run import train
from weft.types import Progress

METHODS = [name for name in plugins.names(PACKAGE) if name != "replay"]
FREEZING: dict[str, Any] = {"optimizer": {"lr": 0.3}, "validate": {"every": 2, "freeze_after": 1}}


def _killed_and_resumed(settings: Settings, make: Callable[..., Settings], **sections: Any) -> None:
    """Run undisturbed, and killed twice after a step; compare all that is left."""
    undisturbed = make(output=str(settings.output / "a" / "run"), **sections)
    train(undisturbed)
    expected = witness(undisturbed.output)
    steps = int(expected["checkpoint"].rpartition("-")[2])
    assert steps >= 6, "a run too short to be interrupted proves nothing"
    disturbed = make(output=str(settings.output / "b" / "run"), **sections)
    for last in (steps // 2, steps - 1):
        assert wait(fork(lambda last=last: train(disturbed, _killer(last)))) == -signal.SIGKILL
    assert wait(fork(lambda: train(disturbed))) == 0
    assert witness(disturbed.output) == expected


def _killer(last: int) -> Callable[[Progress], None]:
    """A hook that kills its process once step `last` is done."""

    def hook(progress: Progress) -> None:
        if progress.what == "train" and progress.done >= last:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


@pytest.mark.parametrize("method", METHODS)
def test_killed_and_resumed_with_every_method(make_settings: Callable[..., Settings], method: str) -> None:
    balance = {**ACTIVE["balance"], "method": method, "options": QUICK.get(method, {})}
    if method not in QUICK:
        balance = {"method": method}
    _killed_and_resumed(make_settings(), make_settings, **{**ACTIVE, "balance": balance})


@pytest.mark.parametrize("act_on", ["sampling", "both"])
def test_killed_and_resumed_where_sampling_follows(make_settings: Callable[..., Settings], act_on: str) -> None:
    balance = {**ACTIVE["balance"], "method": "tests.balance.runs:build", "act_on": act_on, "stage_steps": 2}
    weighting = {"loss": {"weighting": "token" if act_on == "sampling" else "task"}}
    _killed_and_resumed(make_settings(), make_settings, **{**SAMPLED, **weighting, "balance": balance})


def test_killed_between_any_two_lines_of_its_journals(make_settings: Callable[..., Settings]) -> None:
    balance = {**ACTIVE["balance"], "method": "tests.balance.runs:build", "act_on": "sampling", "stage_steps": 2}
    sections = {**SAMPLED, "balance": balance, "save": {"every": 2}}
    root = make_settings().output
    undisturbed = make_settings(output=str(root / "a" / "run"), **sections)
    train(undisturbed)
    expected = witness(undisturbed.output)
    lines = sum(len((undisturbed.output / name).read_bytes().splitlines()) for name in JOURNALS)
    chance = random.Random(4)
    for kill in range(6):
        disturbed = make_settings(output=str(root / f"b{kill}" / "run"), **sections)
        last = chance.randrange(4, lines - 1)
        assert wait(fork(lambda run=disturbed, last=last: _train_killed_at_line(run, last))) == -signal.SIGKILL
        assert wait(fork(lambda run=disturbed: train(run))) == 0
        assert witness(disturbed.output) == expected, f"killed after line {last} of {lines}"


JOURNALS = ("metrics.jsonl", "ledger.jsonl", "balance.jsonl")


def _train_killed_at_line(settings: Settings, last: int) -> None:
    honest, count = Journal.write, itertools.count(1)

    def write(journal: Journal, record: Any) -> None:
        honest(journal, record)
        if next(count) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    Journal.write = write  # type: ignore[method-assign]  # in a fork of its own
    train(settings)


def test_killed_and_resumed_where_tasks_freeze(make_settings: Callable[..., Settings]) -> None:
    how = {**ACTIVE, **FREEZING}
    _killed_and_resumed(make_settings(), make_settings, **how)
    assert records(make_settings().output / "a" / "run", "frozen"), "a run in which nothing freezes proves nothing"


REPLAYED: dict[str, dict[str, Any]] = {
    "coba": {**ACTIVE, "balance": {**ACTIVE["balance"], "method": "coba", "options": QUICK["coba"]}},
    "weights that move with every step": {
        **ACTIVE,
        "balance": {"method": "uncertainty", "options": QUICK["uncertainty"]},
    },
    "sampling": {
        **SAMPLED,
        "balance": {
            **ACTIVE["balance"],
            "method": "tests.balance.runs:build",
            "act_on": "sampling",
            "stage_steps": 2,
        },
    },
    "frozen tasks": {
        **ACTIVE,
        **FREEZING,
        "balance": {**ACTIVE["balance"], "method": "famo", "options": QUICK["famo"]},
    },
}


@pytest.mark.parametrize("how", REPLAYED, ids=lambda name: name.replace(" ", "-"))
def test_a_run_is_replayed_from_its_record_to_the_byte(make_settings: Callable[..., Settings], how: str) -> None:
    sections = REPLAYED[how]
    first = make_settings(**sections)
    train(first)
    record = {"method": "replay", "options": {"record": str(first.output)}}
    kept = {k: v for k, v in sections["balance"].items() if k in ("act_on", "stage_steps")}
    validate = {"every": sections["validate"]["every"]}  # the record says who was frozen
    again = {"balance": {**record, **kept}, "validate": validate, "output": str(first.output) + "-again"}
    second = make_settings(**{**sections, **again})
    train(second)
    moved = {tuple(line["weights"].values()) for line in records(first.output, "weights")}
    assert len(moved) > 3, "weights that stand still prove nothing"
    before, after = witness(first.output), witness(second.output)
    for same in ("checkpoint", "weights", "optimizer", "final", "metrics"):
        assert after[same] == before[same], same
    samples = [line for line in before["ledger"].splitlines() if b'"samples"' in line]
    assert after["ledger"].splitlines() == samples, "the same rows in the same steps, without the looks"
    assert _in_force(second.output) == _in_force(first.output)


def _in_force(folder: Path) -> dict[int, Any]:
    """The weights of the steps that came after each change."""
    found = {line["step"]: line["weights"] for line in records(folder, "weights")}
    return {step: weights for step, weights in found.items() if step < len(list(_steps(folder)))}


def _steps(folder: Path) -> Iterator[str]:
    return (line for line in (folder / "metrics.jsonl").read_text().splitlines() if '"grad_norm"' in line)
