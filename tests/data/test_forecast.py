"""The forecast of a run: how often rows are seen, what shares come of it, and what can't be had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROWS
from tests.data.stores import plain_settings, prepared_of, stores_of_weights
from weft.cli.main import main
from weft.config.load import to_yaml
from weft.config.settings import Settings
from weft.data.forecast import forecast, missed_shares
from weft.data.plan import make_plan
from weft.data.prepare import prepare

WEIGHTS = {"sums": 3, "chat": 5, "one": 2}


def test_repeats_and_shares_are_those_of_the_run_s_steps(make_settings: Callable[..., Settings]) -> None:
    for max_steps in (None, 3):
        settings = make_settings(
            mixture={"by": "temperature", "temperature": 4, "epochs": 3, "max_steps": max_steps},
            batch={"tokens_per_step": 300},
        )
        prepared = prepare(settings)
        plan, found = make_plan(settings, prepared), forecast(settings, prepared)
        rows = Counter(row for n in range(plan.num_steps) for row in plan.names(plan.step(n).parts))
        trained: Counter[int] = Counter()
        for number in range(plan.num_steps):
            parts = plan.step(number).parts
            for task, sample in zip(parts.task_P.tolist(), parts.sample_P.tolist(), strict=True):
                trained[task] += float(plan.stores[task].sample(sample).weight_T.sum())  # type: ignore[assignment]
        for k, task in enumerate(found.tasks):
            mine = [rows[plan.stores[k].name(index)] for index in range(len(ROWS[task.task]))]
            assert task.rows_by_times_seen == dict(sorted(Counter(mine).items()))
            assert task.times_seen == pytest.approx(np.mean(mine))
            assert task.share == pytest.approx(trained[k] / sum(trained.values()))
        assert sum(task.share for task in found.tasks) == pytest.approx(1)
        assert (found.steps, found.warnings) == (plan.num_steps, [])


def test_stages_are_told_with_their_steps_and_shares(make_settings: Callable[..., Settings]) -> None:
    stages = [
        {"by": "weight", "weights": {"one": 1}, "epochs": 4},
        {"by": "trained_tokens", "weights": WEIGHTS, "epochs": 2.5},
        {"by": "rows", "epochs": 1},
    ]
    settings = make_settings(mixture={"stages": stages, "epochs": 3.0}, batch={"tokens_per_step": 256})
    found = forecast(settings, prepare(settings)).stages
    assert [(stage.by, stage.epochs) for stage in found] == [("weight", 4), ("trained_tokens", 2.5), ("rows", 1)]
    assert all(stage.steps for stage in found)
    assert found[0].shares == {"one": 1.0}
    assert found[1].shares == pytest.approx({"sums": 0.3, "chat": 0.5, "one": 0.2}, abs=0.05)
    sections = {"mixture": {"stages": stages, "epochs": 3.0, "max_steps": 1}, "batch": {"samples_per_step": 8}}
    sections["batch"]["tokens_per_step"] = None
    ends_early = make_settings(**sections)
    found = forecast(ends_early, prepare(ends_early)).stages
    assert [(stage.steps, set(stage.shares)) for stage in found] == [(1, {"one"}), (0, set()), (0, set())]


def test_a_share_that_whole_samples_can_not_make_is_told_with_the_true_one(tmp_path: Path) -> None:
    weights = {"small": [[0.0, 1.0]] * 500, "huge": [[0.0, *[1.0] * 30]] * 8}
    stores = stores_of_weights(tmp_path, weights)

    def told(share: float, **mixture: Any) -> list[str]:
        mixture = {"by": "trained_tokens", "weights": {"small": 1 - share, "huge": share}, "epochs": 2, **mixture}
        plan = make_plan(plain_settings(list(weights), mixture=mixture), prepared_of(stores))
        return missed_shares(plan)

    assert told(300 / 740) == []
    assert len(told(0.4)) == 2
    line = next(line for line in told(0.1) if line.startswith("task huge"))
    assert line.startswith("task huge is to have 10.00% of the trained tokens of every epoch, but has ")
    assert "too few for whole samples of up to 30" in line
    assert "max_steps" not in line
    assert "max_steps ends it early" in told(0.1, max_steps=1)[0]


def test_no_share_is_promised_but_by_trained_tokens(tmp_path: Path) -> None:
    weights = {"small": [[0.0, 1.0]] * 50, "huge": [[0.0, *[1.0] * 30]] * 8}
    stores = stores_of_weights(tmp_path, weights)
    mixture = {"by": "weight", "weights": {"small": 1, "huge": 1}}
    assert missed_shares(make_plan(plain_settings(list(weights), mixture=mixture), prepared_of(stores))) == []


def test_a_dry_run_shows_repeats_shares_stages_and_warnings(
    make_settings: Callable[..., Settings], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = [{"by": "trained_tokens", "weights": WEIGHTS, "epochs": 1}, {"by": "rows", "epochs": 1}]
    settings = make_settings(mixture={"stages": stages, "epochs": 3.0})
    file = tmp_path / "run.yaml"
    file.write_text(to_yaml(settings), "utf-8")
    assert main(["train", str(file), "--dry-run"]) == 0
    shown = capsys.readouterr().out
    found = forecast(settings, prepare(settings))
    assert found.warnings, "three small tasks can't have exact shares"
    for task in found.tasks:
        assert f"{task.times_seen:.2f}" in shown
        assert f"{task.share:.2%}" in shown
        for times, rows in task.rows_by_times_seen.items():
            assert f"{rows}×{times}" in shown
    for warning in found.warnings:
        assert f"warning: {warning}" in shown
    assert f"stage 1 (by trained_tokens, epochs 1): {found.stages[0].steps} steps; of the trained tokens sums" in shown
    assert "stage 2 (by rows, epochs 1)" in shown
