"""The verdict of a run that lost tasks on the way: a loss that is no number is never hidden behind an older one."""

from __future__ import annotations

import math
from collections.abc import Collection
from pathlib import Path

import pytest

from tests.report.folders import Made, balance, loss_of, metrics, write_lines, write_run
from tests.report.html_of import Page
from weft.report import verdict
from weft.report.page import page
from weft.report.read import read_run
from weft.report.side_by_side import compare

TASKS = ("sql", "translate", "chat")
PLAIN = Made()
FORTY = [f"task_{k}" for k in range(40)]


def lose(folder: Path, made: Made, tasks: Collection[str], step: int) -> Path:
    """The run as it would be, had these tasks no finite validation loss from a step on: as training writes it."""
    lines = metrics(made)
    for line in lines:
        if "validation" in line and line["step"] >= step:
            found = line["validation"]
            for task in tasks:
                found["tasks"][task]["loss"] = None
            found |= {"loss": None, "macro": None, "worst": {"task": sorted(tasks)[0], "loss": None}}
    write_lines(folder / "metrics.jsonl", lines)
    return folder


def lost_run(folder: Path, tasks: Collection[str] = TASKS, step: int = 30, made: Made = PLAIN) -> Path:
    return lose(write_run(folder, made), made, tasks, step)


def test_a_run_whose_last_losses_are_not_finite_got_worse(tmp_path: Path) -> None:
    run = read_run(lost_run(tmp_path / "run"))
    told, kind = verdict.headline(run)
    assert kind == "bad"
    assert told == "0 of 3 tasks got better; 3 got worse: no finite loss at the end"
    assert "sql, translate, chat: no finite loss since step 30." in verdict.sentences(run)
    for x in map(verdict.of_task, run.tasks):
        assert (x.kind, x.lost_since) == ("lost", 30)
        assert math.isnan(x.last)
        assert (x.best, x.best_step) == (loss_of(Made(), x.name, 20), 20)


def test_one_task_that_is_lost_is_named_beside_those_that_got_better(tmp_path: Path) -> None:
    run = read_run(lost_run(tmp_path / "run", ["chat"], 20))
    assert verdict.headline(run) == ("2 of 3 tasks got better; chat got worse: no finite loss at the end", "bad")
    assert "chat: no finite loss since step 20." in verdict.sentences(run)
    one = Made(tasks=["chat"])
    alone = read_run(lost_run(tmp_path / "one", ["chat"], 20, one))
    assert verdict.headline(alone) == ("chat got worse: no finite validation loss since step 20", "bad")


def test_a_loss_that_came_back_is_not_lost(tmp_path: Path) -> None:
    folder, made = write_run(tmp_path / "run"), Made()
    lines = metrics(made)
    for line in lines:
        if "validation" in line and line["step"] in (0, 20):
            line["validation"]["tasks"]["sql"]["loss"] = None
    write_lines(folder / "metrics.jsonl", lines)
    sql = verdict.of_task(read_run(folder).tasks[0])
    assert (sql.kind, sql.lost_since) == ("better", None)
    assert sql.last == loss_of(made, "sql", 40)


@pytest.mark.parametrize("tasks", [TASKS, FORTY])
def test_the_page_shows_no_number_for_a_lost_task(tmp_path: Path, tasks: tuple[str, ...]) -> None:
    made = Made(tasks=tasks)
    folder = lost_run(tmp_path / "run", tasks[1:2], 30, made)
    found = Page(page([folder]))
    row = next(row for row in found.table("task") if row[0].startswith(tasks[1]))
    assert row[0] == f"{tasks[1]}no finite loss since step 30"
    assert row[3:5] == ["–", "–"]
    assert f"–largest of the tasks' losses{tasks[1]}" in found.text
    largest = found.table("validation loss")[-2]
    assert (largest[0], largest[-1]) == ("largest", "–")
    progress = found.text[found.text.index("Progress beside one another") :]
    assert f"{tasks[1]}–" in progress or f"{tasks[1]}: – at the end" in progress, "no ratio at the end"
    assert "nan" not in found.text


def test_beside_a_run_that_lost_its_tasks_every_other_one_is_best(tmp_path: Path) -> None:
    found = Page(page([write_run(tmp_path / "a"), lost_run(tmp_path / "b"), lost_run(tmp_path / "c", ["sql"], 0)]))
    assert "a is best: 1.468 in the mean of the tasks; no other has a finite loss" in found.text
    assert "a: lowest last loss in 3 of 3 tasks" in found.text
    assert "b: sql, translate, chat: no finite loss since step 30." in found.text
    table = found.table("task")
    assert [row[2] for row in table[1:]] == ["–"] * 5
    assert table[5][0] == "largest of them"
    assert table[4][3] == table[5][3] == "–", "c lost a task of three: no mean of the other two, and no largest"


def test_compare_takes_the_last_loss_as_it_is(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a"), lost_run(tmp_path / "b", ["chat"])]
    found = compare(folders)
    first, second = found.columns
    assert math.isnan(second.cells["chat"].last)
    assert second.cells["sql"].last == first.cells["sql"].last == loss_of(Made(), "sql", 40)
    assert second.cells["chat"].best == (loss_of(Made(), "chat", 20), 20)
    assert second.worst is not None
    assert second.worst[0] == "chat"
    assert math.isnan(second.worst[1])
    assert "b: chat: no finite loss since step 30" in found.notes


def test_steps_that_had_nothing_to_take_are_not_called_broken(tmp_path: Path) -> None:
    folder, made = write_run(tmp_path / "run"), Made(null_steps=(7, 9))
    lines = metrics(made)
    for line in lines:
        if "tasks" in line and line["step"] in (38, 39, 40):
            why = "all of its rows belong to tasks that are frozen"
            line |= {"loss": None, "tasks": {}, "grad_norm": None, "skipped": why}
    write_lines(folder / "metrics.jsonl", lines)
    run = read_run(folder)
    assert (run.skipped, run.spared) == ((7, 9), (38, 39, 40))
    told = verdict.sentences(run)
    assert "2 steps skipped, for the loss or the gradient was not finite: 7, 9." in told
    assert "3 steps skipped, for all of the rows belong to frozen tasks: 38, 39, 40." in told
    assert "run: steps skipped, for their loss or gradient was not finite: 2" in compare([folder]).notes


def test_a_task_frozen_without_ever_having_had_a_finite_loss_is_told_so(tmp_path: Path) -> None:
    folder, made = write_run(tmp_path / "run"), Made(frozen={"chat": 20})
    lines = balance(made)
    for line in lines:
        if "frozen" in line:
            line["frozen"]["chat"] = {"best_step": 10, "best_loss": None, "loss": None}
    write_lines(folder / "balance.jsonl", lines)
    assert "Frozen: chat at step 20 (it never had a finite loss)." in verdict.sentences(read_run(folder))
