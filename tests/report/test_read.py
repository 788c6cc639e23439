"""Reading a run's folder: every number is the journals', and what is not a run's is an error that says what to do."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.report.folders import Made, balance, ledger, loss_of, metrics, write_lines, write_run
from weft.errors import CheckpointError
from weft.report.read import read_run, read_runs
from weft.report.record import Freeze, RunRecord


@pytest.fixture
def made() -> Made:
    return Made(frozen={"chat": 20}, null_steps=(3, 4))


@pytest.fixture
def run(made: Made, tmp_path: Path) -> RunRecord:
    return read_run(write_run(tmp_path / "run", made))


def test_steps_are_those_of_the_journal(run: RunRecord, made: Made) -> None:
    lines = [line for line in metrics(made) if "tasks" in line]
    assert run.steps == made.steps
    assert run.skipped == (3, 4)
    for task in run.tasks:
        mine = [line for line in lines if task.name in line["tasks"]]
        assert task.loss.step_N.tolist() == [line["step"] for line in mine]
        expected = [line["tasks"][task.name]["loss"] for line in mine]
        np.testing.assert_array_equal(task.loss.value_N, np.array(expected, dtype=float))
        assert task.share.value_N.tolist() == [line["tasks"][task.name]["share"] for line in mine]
        assert task.tokens.value_N.sum() == sum(line["tasks"][task.name]["tokens"] for line in mine)


def test_validations_are_those_of_the_journal(run: RunRecord, made: Made) -> None:
    assert [v.step for v in run.validations] == [0, 10, 20, 30, 40]
    assert [task.name for task in run.tasks] == list(made.tasks)
    for task in run.tasks:
        assert task.validation.value_N.tolist() == [loss_of(made, task.name, step) for step in (0, 10, 20, 30, 40)]
    last = {task: loss_of(made, task, 40) for task in made.tasks}
    assert run.validations[-1].macro == sum(last.values()) / 3
    assert run.validations[-1].worst_task == max(last, key=last.__getitem__)


def test_the_mean_and_the_worst_are_worked_out_where_an_older_journal_lacks_them(tmp_path: Path, made: Made) -> None:
    folder = write_run(tmp_path / "run", made)
    lines = metrics(made)
    for line in lines:
        for name in ("macro", "worst"):
            line.get("validation", {}).pop(name, None)
    write_lines(folder / "metrics.jsonl", lines)
    other = read_run(folder).validations
    assert [v.macro for v in other] == pytest.approx(
        [sum(loss_of(made, t, v.step) for t in made.tasks) / 3 for v in other]
    )
    assert all(v.worst_loss == max(loss_of(made, t, v.step) for t in made.tasks) for v in other)


def test_the_worst_task_is_one_whose_loss_is_not_finite(tmp_path: Path, made: Made) -> None:
    folder = write_run(tmp_path / "run", made)
    lines = metrics(made)
    for line in lines:
        if "validation" in line and line["step"] == 20:
            line["validation"]["tasks"]["translate"]["loss"] = None
    write_lines(folder / "metrics.jsonl", lines)
    found = {v.step: v for v in read_run(folder).validations}
    assert found[20].worst_task == "translate"
    assert math.isnan(found[20].worst_loss)
    assert found[30].worst_loss == max(loss_of(made, task, 30) for task in made.tasks)


def test_shares_are_in_force_from_the_step_before_the_first_that_takes_of_them(tmp_path: Path) -> None:
    """The lines name the first step of each pass; of passes that begin in one step, the last is what the next steps take from."""
    folder = write_run(tmp_path / "run")
    lines = [
        {"step": step, "pass": number, "shares": {"sql": share, "chat": 1 - share}}
        for number, (step, share) in enumerate([(1, 0.1), (9, 0.2), (9, 0.3), (9, 0.4), (17, 0.5)])
    ]
    write_lines(folder / "balance.jsonl", lines)
    found = read_run(folder).shares
    assert [(x.step, x.number, x.shares["sql"]) for x in found] == [(0, 0, 0.1), (8, 3, 0.4), (16, 4, 0.5)]


def test_weights_looks_and_freezes_are_those_of_the_journal(run: RunRecord, made: Made) -> None:
    lines = balance(made)
    for task in run.tasks:
        told = {line["step"]: line["weights"][task.name] for line in lines if "weights" in line}
        if task.name == "chat":
            told = {step: 0.0 if step >= 20 else weight for step, weight in told.items()}
        assert dict(zip(task.weight.step_N.tolist(), task.weight.value_N.tolist(), strict=True)) == told
    assert [task.frozen for task in run.tasks] == [None, None, Freeze(20, 10, 0.9)]
    assert sum(look.seconds for look in run.looks) == sum(line["seconds"] for line in lines if "look" in line)
    assert [x.step for x in run.interference] == [10, 20, 30]
    expected = next(line["interference"] for line in lines if line["step"] == 30 and "interference" in line)
    assert run.interference[-1].cosine_KK.tolist() == expected["cosine"]
    assert set(run.numbers) == {"RCS", "DF"}


def test_a_weight_after_a_freeze_is_0_whatever_the_journal_goes_on_to_say(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    found = {"best_step": 1, "best_loss": 1.0, "loss": 2.0}
    lines = [
        {"step": 0, "weights": {"sql": 2.0}},
        {"step": 5, "frozen": {"sql": found}},
        {"step": 9, "weights": {"sql": 3.0}},
    ]
    write_lines(folder / "balance.jsonl", lines)
    weight = read_run(folder).tasks[0].weight
    assert (weight.step_N.tolist(), weight.value_N.tolist()) == ([0, 5, 9], [2, 0, 0])


def test_a_task_that_was_frozen_without_weights_told_has_weight_0_from_then_on(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", Made(method="fixed", frozen={"sql": 20}))
    lines = [line for line in balance(Made(method="fixed", frozen={"sql": 20})) if "frozen" in line]
    write_lines(folder / "balance.jsonl", lines)
    weight = read_run(folder).tasks[0].weight
    assert weight.step_N.tolist() == [*range(20), 20]
    assert weight.value_N.tolist() == [1.0] * 20 + [0.0]


def test_rows_are_counted_from_the_ledger(run: RunRecord, made: Made) -> None:
    lines = ledger(made)
    used = [name for line in lines for name in line.get("samples", [])]
    looked = [name for line in lines for name in line.get("looked_at", [])]
    for task in run.tasks:
        mine = [name for name in used if name.startswith(f"{task.name}:")]
        seen = [name for name in looked if name.startswith(f"{task.name}:")]
        assert task.rows.used == len(mine)
        assert task.rows.distinct == len(set(mine))
        assert task.rows.most == max(map(mine.count, mine))
        assert (task.rows.looked_at, task.rows.distinct_looked_at) == (len(seen), len(set(seen)))
        assert task.rows.both == 0


def test_a_row_that_was_trained_on_and_looked_at_is_found(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_lines(folder / "ledger.jsonl", [{"step": 1, "samples": ["sql:a:1"]}, {"step": 1, "looked_at": ["sql:a:1"]}])
    assert [task.rows.both for task in read_run(folder).tasks] == [1, 0, 0]


@pytest.mark.parametrize("ending", [b'{"step": 41, "lo', b"\x00\x00\x00", b'{"step": 41, "loss": 1.0, "tasks": {}}'])
def test_half_a_last_line_is_left_out(run: RunRecord, ending: bytes) -> None:
    with (run.folder / "metrics.jsonl").open("ab") as file:
        file.write(ending)
    again = read_run(run.folder)
    assert again.steps == run.steps
    assert again.loss.value_N.tolist()[5:] == run.loss.value_N.tolist()[5:]


@pytest.mark.parametrize(
    "line", ["{", "[]", '{"step": "x"}', '{"step": 1, "tasks": {"a": 3}}', '{"step": 1, "validation": 7}']
)
def test_a_broken_line_within_a_journal_is_an_error_with_its_place(run: RunRecord, line: str) -> None:
    file = run.folder / "metrics.jsonl"
    lines = file.read_text("utf-8").splitlines()
    file.write_text("\n".join([*lines[:2], line, *lines[2:]]) + "\n", "utf-8")
    with pytest.raises(CheckpointError, match=r"metrics\.jsonl:3: .*start the run again"):
        read_run(run.folder)


def test_steps_that_go_back_are_an_error(run: RunRecord) -> None:
    with (run.folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "loss": 1.0, "tasks": {}}\n')
    with pytest.raises(CheckpointError, match="step 3 after step 40"):
        read_run(run.folder)


@pytest.mark.parametrize(
    "missing", ["balance.jsonl", "environment.json", "metrics.jsonl", "ledger.jsonl", "settings.yaml", "final"]
)
def test_a_run_is_read_without_the_files_that_it_may_lack(run: RunRecord, missing: str) -> None:
    (run.folder / missing).rename(run.folder.parent / "elsewhere")
    found = read_run(run.folder)
    assert [task.name for task in found.tasks] == ["sql", "translate", "chat"]
    assert (found.final_step is None) == (missing == "final")
    assert (not found.environment) == (missing == "environment.json")
    assert (found.steps == 0) == (missing == "metrics.jsonl")
    if missing == "balance.jsonl":  # then the steps themselves tell the weights
        line = json.loads((run.folder / "metrics.jsonl").read_text().splitlines()[7])
        weight = found.tasks[0].weight
        assert weight.value_N[weight.step_N == line["step"] - 1] == [line["tasks"]["sql"]["weight"]]


def test_a_folder_that_is_no_run_is_an_error_that_names_the_run_nearby(run: RunRecord, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        read_runs([run.folder / "final", tmp_path, tmp_path / "none"])
    told = str(caught.value).splitlines()
    assert told[0].endswith(f"name its run instead: {run.folder}")
    assert told[1].endswith("the runs below it are run")
    assert "is no folder" in told[2]
    assert len(told) == 3


def test_a_run_named_twice_is_read_once(run: RunRecord, tmp_path: Path) -> None:
    assert len(read_runs([run.folder, tmp_path / "." / "run"])) == 1


def test_seconds_are_known_only_where_every_step_tells_them(run: RunRecord, made: Made) -> None:
    assert run.seconds is None
    lines = [{**line, "seconds": 0.5} if "tasks" in line else line for line in metrics(made)]
    write_lines(run.folder / "metrics.jsonl", lines)
    assert math.isclose(read_run(run.folder).seconds or 0, 0.5 * made.steps)
