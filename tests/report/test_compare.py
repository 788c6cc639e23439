"""Runs side by side: differences only of the same rows, and baselines that differ in nothing but the other tasks."""

from __future__ import annotations

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.report._runs import TASKS, interfere, rewrite, settings_of_three, three_tasks
from weft.cli import main as cli
from weft.config.settings import Settings
from weft.data.prepare import prepare
from weft.errors import CheckpointError
from weft.report.baselines import baselines, default_folder, train_baselines
from weft.report.picture import draw
from weft.report.read import read_run
from weft.report.side_by_side import compare
from weft.report.transfer import gradients, sentences, transfer
from weft.training.run import train
from weft.types import Progress

DOWN = [6.0, 3.0, 2.0, 1.0, 1.5]


@pytest.fixture(scope="module")
def trained(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return three_tasks(model_folder("llama"), tmp_path_factory.mktemp("compare"))


@pytest.fixture(scope="module")
def singles(trained: Settings) -> Path:
    """The run's baselines, with those of all tasks but one."""
    folder = default_folder(trained.output)
    train_baselines(read_run(trained.output), folder, pairs=True)
    return folder


@pytest.fixture
def run(trained: Settings, tmp_path: Path) -> Path:
    shutil.copytree(trained.output, tmp_path / "run")
    return tmp_path / "run"


def samples(run: Path, task: str) -> Counter[str]:
    """How often each row of a task was trained on."""
    lines = [json.loads(line) for line in (run / "ledger.jsonl").read_text().splitlines()]
    return Counter(name for line in lines for name in line.get("samples", []) if name.startswith(f"{task}:"))


def trained_on(run: Path, task: str) -> float:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return sum(line["tasks"][task]["tokens"] for line in lines if task in line.get("tasks", {}))


def steps_of(run: Path) -> int:
    return max(json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines())


def test_a_baseline_sees_the_same_rows_as_often_in_about_as_many_steps(trained: Settings, singles: Path) -> None:
    for task in TASKS:
        alone, together = singles / task, trained.output
        assert samples(alone, task) == samples(together, task)
        assert trained_on(alone, task) == trained_on(together, task)
        assert steps_of(alone) == pytest.approx(steps_of(together), rel=0.3)
        without = singles / f"without-{task}"
        for other in TASKS:
            assert samples(without, other) == (Counter() if other == task else samples(together, other))


def test_a_baseline_differs_in_nothing_but_what_it_must(trained: Settings, singles: Path) -> None:
    settings = trained.model_dump(by_alias=True)
    for baseline in baselines(read_run(trained.output), trained, prepare(trained), singles, pairs=True):
        found = baseline.settings.model_dump(by_alias=True)
        for section in ("model", "adapter", "template", "data", "loss", "balance", "engine", "seed"):
            assert found[section] == settings[section]
        assert found["optimizer"] | {"warmup": 0} == settings["optimizer"] | {"warmup": 0}
        assert set(found["tasks"]) == set(baseline.tasks)


def test_other_mixtures_and_packings_have_baselines_of_as_many_tokens(
    model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    sections: list[dict[str, object]] = [
        {
            "mixture": {
                "stages": [{"by": "temperature", "epochs": 1.3}, {"by": "weight", "weights": {"sums": 1}, "epochs": 1}]
            },
            "batch": {"tokens_per_step": 256, "tokens_per_micro_batch": 256},
        },
        {
            "data": {"max_tokens": 64, "validation": 0.25, "cache": str(tmp_path / "cache"), "packing": "concat"},
            "mixture": {"epochs": 3, "max_steps": 9},
            "batch": {"tokens_per_step": 320, "tokens_per_micro_batch": 128},
        },
    ]
    for number, section in enumerate(sections):
        settings = three_tasks(model_folder("llama"), tmp_path, output=str(tmp_path / f"run{number}"), **section)
        record = read_run(settings.output)
        for baseline in baselines(record, settings, prepare(settings), tmp_path / f"singles{number}"):
            train(baseline.settings)
            (task,) = baseline.tasks
            if settings.data.packing == "concat":
                assert (baseline.settings.batch.tokens_per_step or 0) % 64 == 0, "whole rows, as in the run"
            assert trained_on(baseline.settings.output, task) == pytest.approx(
                trained_on(settings.output, task), abs=14
            )


def test_baselines_are_gone_on_with_and_found_done(
    trained: Settings, singles: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.stat().st_mtime_ns for p in singles.glob("*/final/adapter_model.safetensors")}
    told: list[Progress] = []
    train_baselines(read_run(trained.output), singles, progress=told.append)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    assert not any(event.what.endswith("train") for event in told)


def test_transfer_is_the_share_by_which_alone_is_worse(run: Path, singles: Path, tmp_path: Path) -> None:
    shutil.copytree(singles, tmp_path / "own")
    rewrite(run, {"sums": DOWN, "words": DOWN, "noise": DOWN})
    for task, factor in zip(TASKS, (1.25, 0.8, 1.004), strict=True):
        rewrite(tmp_path / "own" / task, {task: [factor * loss for loss in DOWN]})
        rewrite(tmp_path / "own" / f"without-{task}", {n: [1.1 * loss for loss in DOWN] for n in TASKS if n != task})
    found = transfer(read_run(run), tmp_path / "own")
    values = {item.task: item.value for item in found.tasks}
    assert values == {
        "sums": pytest.approx(0.2),
        "words": pytest.approx(-0.25),
        "noise": pytest.approx(0.004 / 1.004),
    }
    assert found.notes == ()
    assert found.effect_KK is not None
    off = ~np.eye(3, dtype=bool)
    assert found.effect_KK[off] == pytest.approx(0.1 / 1.1)
    told = "\n".join(sentences(found))
    assert "helped by training together: sums (+20.0%)" in told
    assert "hurt by training together: words (-25.0%)" in told
    assert "about the same (within 1%): noise" in told
    assert "noise helps sums: its loss is 9.1% lower with it" in told


def test_pairs_that_pull_against_each_other_are_named(run: Path, tmp_path: Path) -> None:
    interfere(run, {("sums", "noise"): -0.21, ("sums", "words"): 0.4})
    found = gradients(read_run(run))
    assert found is not None
    assert found.cosine_KK[0, 2] == pytest.approx(-0.21)
    told = sentences(transfer(read_run(run), tmp_path / "nothing"))
    assert told == [
        "sums and noise pull against each other: mean cosine -0.21, below 0 in 100% of 3 measurements",
        "sums and words pull together: mean cosine +0.40",
    ]


def test_tasks_that_take_turns_in_measurements_are_averaged_where_they_were_measured(run: Path) -> None:
    lines = [
        {"step": 0, "interference": {"tasks": ["sums", "words"], "cosine": [[1, 0.2], [0.2, 1]], "norms": [1, 1]}},
        {"step": 2, "interference": {"tasks": ["noise", "words"], "cosine": [[1, None], [None, 1]], "norms": [1, 1]}},
        {"step": 4, "interference": {"tasks": ["words", "sums"], "cosine": [[1, -0.4], [-0.4, 1]], "norms": [1, 1]}},
    ]
    (run / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = gradients(read_run(run))
    assert found is not None
    at = {name: k for k, name in enumerate(found.tasks)}
    assert found.cosine_KK[at["sums"], at["words"]] == pytest.approx(-0.1)
    assert math.isnan(found.cosine_KK[at["noise"], at["words"]])


def test_other_rows_are_told_and_never_compared(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    rewrite(run, {"sums": DOWN, "words": DOWN, "noise": DOWN})
    rewrite(other, {"sums": [0.5 * x for x in DOWN], "words": DOWN, "noise": DOWN})
    same = compare([run, other]).columns[1]
    assert same.cells["sums"].change == pytest.approx(-0.5)
    assert same.macro_change == pytest.approx(-0.5 / 3)
    record = json.loads((other / "run.json").read_text())
    record["data"]["sums"] = "another"
    (other / "run.json").write_text(json.dumps(record))
    found = compare([run, other])
    column = found.columns[1]
    assert not column.cells["sums"].same_rows
    assert math.isnan(column.cells["sums"].change)
    assert math.isnan(column.macro_change)
    assert column.cells["words"].change == 0.0
    assert any("the data or the split of sums is not that of run" in note for note in found.notes)


def test_another_split_or_other_tasks_are_told(run: Path, singles: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    text = (other / "settings.yaml").read_text()
    (other / "settings.yaml").write_text(text.replace("validation: 0.25", "validation: 0.3"))
    found = compare([run, other, singles / "sums"])
    assert not any(cell.same_rows for cell in found.columns[1].cells.values())
    assert found.settings["data.validation"] == (0.25, 0.3, 0.25)
    assert set(found.columns[2].cells) == {"sums"}
    assert any("has no task words, noise" in note for note in found.notes)


def test_a_run_that_is_going_on_with_nothing_finite_is_shown_as_far_as_it_is(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run, other)
    rewrite(other, {"sums": [6.0, None, None], "words": [6.0]})
    shutil.rmtree(other / "final")
    found = compare([run, other])
    column = found.columns[1]
    assert not column.finished
    assert column.cells["sums"].best is None
    assert math.isnan(column.cells["sums"].last)
    assert column.cells["words"].last == 6.0
    assert column.macro_best is None
    told = "\n".join(found.notes)
    assert "has not come to its end" in told
    assert "no finite validation loss after the start for sums, words, noise" in told


def test_an_unfinished_run_and_foreign_baselines_are_refused_or_left_out(
    run: Path, singles: Path, tmp_path: Path
) -> None:
    shutil.copytree(singles / "words", tmp_path / "own" / "sums")
    found = transfer(read_run(run), tmp_path / "own")
    assert not found.any_baseline
    assert any("is a run of words, not of sums" in note for note in found.notes)
    assert {item.why_not for item in found.tasks} == {"no single-task run is there"}
    shutil.rmtree(run / "final")
    with pytest.raises(CheckpointError, match="not finished"):
        train_baselines(read_run(run), tmp_path / "own")


def test_a_baseline_of_other_rows_or_settings_gives_no_silent_transfer(
    run: Path, singles: Path, tmp_path: Path
) -> None:
    shutil.copytree(singles, tmp_path / "own")
    record = json.loads((tmp_path / "own" / "sums" / "run.json").read_text())
    record["data"]["sums"] = "another"
    (tmp_path / "own" / "sums" / "run.json").write_text(json.dumps(record))
    text = (tmp_path / "own" / "words" / "settings.yaml").read_text()
    (tmp_path / "own" / "words" / "settings.yaml").write_text(text.replace("lr: 0.01", "lr: 0.02"))
    found = transfer(read_run(run), tmp_path / "own")
    by_task = {item.task: item for item in found.tasks}
    assert math.isnan(by_task["sums"].value)
    assert "other rows" in by_task["sums"].why_not
    assert any("words: the single-task run differs" in n and "optimizer.lr: 0.02 alone" in n for n in found.notes)


def test_the_picture_has_a_panel_for_all_that_is_known(run: Path, singles: Path, tmp_path: Path) -> None:
    interfere(run, {("sums", "noise"): -0.2})
    other = tmp_path / "other"
    shutil.copytree(run, other)
    panels = draw(compare([run, other]), transfer(read_run(run), singles), tmp_path / "all.png")
    assert len(panels) == 4
    assert (tmp_path / "all.png").read_bytes().startswith(b"\x89PNG")
    (run / "balance.jsonl").unlink()
    assert draw(compare([run]), transfer(read_run(run), tmp_path / "nothing"), tmp_path / "none.png") == []
    assert not (tmp_path / "none.png").exists()


def test_the_verb_prints_a_table_or_one_object(
    run: Path, trained: Settings, singles: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "c.png"
    assert cli.main(["compare", str(run), str(trained.output), "--baselines", str(singles), "-o", str(picture)]) == 0
    out = capsys.readouterr().out
    assert "macro mean" in out
    assert "transfer: against single-task runs" in out
    assert picture.is_file()
    rewrite(run, {"sums": [6.0, None], "words": [6.0, 3.0], "noise": [6.0, 2.0]})
    assert cli.main(["compare", str(run), str(trained.output), "--baselines", str(singles), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["comparison"]["columns"][0]["cells"]["sums"]["best"] is None
    assert [item["task"] for item in found["transfer"]["tasks"]] == list(TASKS)
    assert cli.main(["compare", str(run), "--baselines", str(tmp_path)]) == 2
    assert "--train makes them" in capsys.readouterr().err
    assert cli.main(["compare", str(tmp_path / "nothing"), str(tmp_path)]) == 5


def test_one_task_is_its_own_baseline(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    settings = settings_of_three(model_folder("llama"), tmp_path)
    single = settings.model_copy(update={"tasks": {"sums": settings.tasks["sums"]}, "output": tmp_path / "single"})
    train(single)
    folder = default_folder(single.output)
    assert train_baselines(read_run(single.output), folder, pairs=True) == [folder / "sums"]
    (item,) = transfer(read_run(single.output), folder).tasks
    assert abs(item.value) < 0.1
