"""A soup is the plain mean of checkpoints, is never worse than the best of them, and opens like a run's own result."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.faults.runs import fork, wait
from tests.generation.runs import train_small
from weft import files
from weft.cli import main as cli
from weft.config.load import from_mapping
from weft.config.settings import Settings
from weft.errors import CheckpointError, ConfigError
from weft.evaluation.tasks import evaluate
from weft.export import soup as souping
from weft.export.merge import merge
from weft.export.soup import SoupReport, Wanted, soup
from weft.generation.batch import generate_ids
from weft.generation.decoding import Decoding
from weft.generation.model import open_model
from weft.generation.text import prompt_ids
from weft.training.run import train
from weft.types import Message

STEPS = [3, 6, 9]
MANY: dict[str, object] = {
    "mixture": {"epochs": 9, "max_steps": 9},
    "batch": {"tokens_per_step": 128, "tokens_per_micro_batch": 512},
    "validate": {"every": 3},
    "save": {"every": 3, "keep": 9},
}
CONVERSATIONS = [[Message("user", "What is red?")], [Message("user", "1+1")], [Message("user", "Grüße")]]


@pytest.fixture(scope="module")
def run(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return train_small(model_folder("llama"), tmp_path_factory.mktemp("soup"), **MANY)


@pytest.fixture
def own(run: Settings, tmp_path: Path) -> Path:
    """A copy of the run to do harm to."""
    shutil.copytree(run.output, tmp_path / "own")
    return tmp_path / "own"


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """An adapter's weights under the names that checkpoints have."""
    found = load_file(folder / "adapter_model.safetensors")
    return {f"model.{name.replace('.weight', '.default.weight')}": tensor for name, tensor in found.items()}


def at(run: Path, step: int) -> dict[str, torch.Tensor]:
    return load_file(run / "checkpoints" / f"step-{step:08d}" / "weights.safetensors")


def harm(place: Path) -> None:
    data = bytearray((place / "weights.safetensors").read_bytes())
    data[-1] ^= 1
    (place / "weights.safetensors").write_bytes(data)


def best_single(report: SoupReport) -> float:
    return min(c.score.by(report.by) for c in report.candidates if c.score)


def test_a_uniform_soup_is_the_naive_mean(run: Settings, tmp_path: Path) -> None:
    report = soup(run.output, tmp_path / "out", how="uniform")
    assert report.steps == STEPS
    made = weights(tmp_path / "out")
    each = [at(run.output, step) for step in STEPS]
    assert set(made) == set(each[0])
    for name, tensor in made.items():
        naive = sum(w[name].double() for w in each) / 3
        assert tensor.dtype == torch.float32
        assert torch.equal(tensor, naive.float())
        assert not torch.equal(tensor, each[0][name]) or not tensor.any(), "a mean of one thing proves nothing"


@pytest.mark.parametrize("by", ["macro", "loss", "worst", "sums"])
def test_a_greedy_soup_is_never_worse_than_the_best_checkpoint(run: Settings, tmp_path: Path, by: str) -> None:
    report = soup(run.output, tmp_path / "out", by=by)
    assert report.score is not None
    assert report.score.by(by) <= best_single(report)
    if len(report.steps) == 1:
        assert report.score.by(by) == best_single(report)


def test_greedy_leaves_out_what_makes_the_average_worse(own: Path, tmp_path: Path) -> None:
    place = own / "checkpoints" / "step-00000006"
    spoilt = {name: torch.randn_like(tensor) for name, tensor in at(own, 6).items()}
    save_file(spoilt, place / "weights.safetensors")
    (place / files.MANIFEST).unlink()
    content = {p.name: p.read_bytes() for p in place.iterdir()}
    shutil.rmtree(place)
    with files.building(place) as folder:
        for name, data in content.items():
            (folder / name).write_bytes(data)
        files.publish(folder, place, {"format": 1, "step": 6})
    greedy = soup(own, tmp_path / "greedy")
    uniform = soup(own, tmp_path / "uniform", how="uniform")
    assert 6 not in greedy.steps
    assert 6 in uniform.steps
    assert greedy.score
    assert uniform.score
    assert greedy.score.by("macro") <= best_single(greedy) < uniform.score.by("macro")


def test_the_scores_are_those_that_training_and_eval_give(run: Settings, tmp_path: Path) -> None:
    report = soup(run.output, tmp_path / "out")
    records = [json.loads(line) for line in (run.output / "metrics.jsonl").read_text().splitlines()]
    told = {r["step"]: r["validation"] for r in records if "validation" in r}
    for candidate in report.candidates:
        assert candidate.score
        for task, loss in candidate.score.tasks.items():
            assert loss == pytest.approx(told[candidate.step]["tasks"][task]["loss"], abs=1e-5)
        assert candidate.score.by("loss") == pytest.approx(told[candidate.step]["loss"], abs=1e-5)
    assert report.score
    for score in evaluate(tmp_path / "out", run, max_prompts=0):
        assert score.loss == pytest.approx(report.score.tasks[score.task], abs=1e-5), "the files are what was measured"


def test_the_result_opens_like_a_runs_own_and_gives_the_averages_tokens(run: Settings, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    soup(run.output, out, how="uniform")
    assert files.faults(out) == []
    assert {p.name for p in out.iterdir()} == {p.name for p in (run.output / "final").iterdir()}
    made = open_model(out)
    reference = open_model(run.output)
    parameters = {f"model.{name}": p for name, p in reference.model.named_parameters()}
    with torch.no_grad():
        for name in at(run.output, 3):
            parameters[name].copy_(torch.stack([at(run.output, step)[name] for step in STEPS]).double().mean(0))
    prompts = [prompt_ids(made, messages) for messages in CONVERSATIONS]
    decoding = Decoding(max_new_tokens=16)
    assert made.template.fingerprint == reference.template.fingerprint
    assert generate_ids(made, prompts, decoding) == generate_ids(reference, prompts, decoding)
    assert merge(out, tmp_path / "merged").difference < 1e-4


def test_full_fine_tuning_makes_soup_too(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    settings = train_small(model_folder("llama-tied"), tmp_path, adapter={"kind": "none"}, **MANY)
    soup(settings.output, tmp_path / "out", Wanted(steps=(9, 3)), how="uniform")
    made = load_file(tmp_path / "out" / "model.safetensors")
    first, last = at(settings.output, 3), at(settings.output, 9)
    for name, tensor in made.items():
        assert torch.equal(tensor, ((first[f"model.{name}"].double() + last[f"model.{name}"].double()) / 2).float())
    assert open_model(tmp_path / "out").base is None


def test_best_of_takes_the_tasks_best_checkpoint_as_it_is(own: Path, tmp_path: Path) -> None:
    report = soup(own, tmp_path / "out", Wanted(best_of="sums"))
    values = {c.step: c.score.tasks["sums"] for c in report.candidates if c.score}
    (step,) = report.steps
    assert values[step] == min(values.values())
    assert all(torch.equal(tensor, at(own, step)[name]) for name, tensor in weights(tmp_path / "out").items())
    assert report.notes == []
    shutil.rmtree(own / "checkpoints" / f"step-{step:08d}")
    again = soup(own, tmp_path / "again", Wanted(best_of="sums"))
    assert again.steps != [step]
    assert f"after step {step} was better" in again.notes[0]


def test_broken_checkpoints_are_named_and_left_out_and_all_broken_is_an_error(own: Path, tmp_path: Path) -> None:
    harm(own / "checkpoints" / "step-00000009")
    report = soup(own, tmp_path / "out", Wanted(last=1))
    assert [c.step for c in report.candidates] == [6], "the newest that is whole"
    assert "step-00000009: weights.safetensors" in report.broken[0]
    for step in (3, 6):
        harm(own / "checkpoints" / f"step-{step:08d}")
    with pytest.raises(CheckpointError, match=r"(?s)no whole checkpoint.*step-00000009.*step-00000003"):
        soup(own, tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_what_can_not_be_is_refused_before_anything_is_written(own: Path, run: Settings, tmp_path: Path) -> None:
    faults: list[tuple[type[Exception], str, Callable[[], object]]] = [
        (CheckpointError, "there already", lambda: soup(own, own)),
        (CheckpointError, "is not there", lambda: soup(tmp_path / "nowhere", tmp_path / "out")),
        (CheckpointError, "is no run", lambda: soup(own / "final", tmp_path / "out")),
        (
            CheckpointError,
            "no checkpoint of step 4, 5; there are 3, 6, 9",
            lambda: soup(own, tmp_path / "out", Wanted((4, 5))),
        ),
        (ConfigError, "--by sql: unknown; write one of macro", lambda: soup(own, tmp_path / "out", by="sql")),
        (ConfigError, "--best-of macro: unknown", lambda: soup(own, tmp_path / "out", Wanted(best_of="macro"))),
        (ConfigError, "--last 0", lambda: soup(own, tmp_path / "out", Wanted(last=0))),
    ]
    for kind, message, call in faults:
        with pytest.raises(kind, match=message):
            call()
    record = json.loads((own / "run.json").read_text())
    record["data"]["sums"] = "another"
    (own / "run.json").write_text(json.dumps(record))
    with pytest.raises(CheckpointError, match="data of task sums"):
        soup(own, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["own"]


def test_without_validation_rows_only_a_uniform_soup_can_be(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make_settings(save={"every": 1, "keep": 9}, batch={"tokens_per_step": 512})
    train(settings)
    with pytest.raises(ConfigError, match="--how uniform"):
        soup(settings.output, tmp_path / "out")
    report = soup(settings.output, tmp_path / "out", how="uniform")
    assert report.score is None
    assert len(report.steps) > 1
    assert open_model(tmp_path / "out").base


def test_losses_that_are_not_finite_never_win(run: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, calls = souping.validate, iter(range(100))

    def sometimes_nan(*args: object) -> object:
        totals = honest(*args)  # type: ignore[arg-type]
        return dataclasses.replace(totals, loss=math.nan, nll_K=totals.nll_K * math.nan) if next(calls) == 2 else totals

    monkeypatch.setattr(souping, "validate", sometimes_nan)
    report = soup(run.output, tmp_path / "out")
    assert report.candidates[2].score
    assert report.candidates[2].score.by("macro") == math.inf
    assert report.score
    assert math.isfinite(report.score.by("macro"))


def test_killed_in_the_middle_there_is_no_half_result(
    run: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import os
    import signal

    def killed(*args: object) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    for moment in ("save_model", "write_tokenizer", "_card"):
        with monkeypatch.context() as patch:
            patch.setattr(souping, moment, killed)
            assert wait(fork(lambda: soup(run.output, tmp_path / "out"))) == -signal.SIGKILL
        assert not (tmp_path / "out").exists()
    soup(run.output, tmp_path / "out")
    assert files.faults(tmp_path / "out") == []


def test_the_verb_prints_each_checkpoint_and_what_became_of_it(
    run: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["soup", str(run.output), str(tmp_path / "out"), "--steps", "3,9", "--by", "worst"]) == 0
    out = capsys.readouterr().out
    assert "step 3" in out
    assert "step 9" in out
    assert "step 6" not in out
    assert "the result" in out
    assert "colours" in out
    assert cli.main(["soup", str(run.output), str(tmp_path / "x"), "--best-of", "sums", "--by", "macro"]) == 2
    assert "no effect" in capsys.readouterr().err


def test_a_tasks_folder_moved_base_can_be_named(run: Settings, own: Path, tmp_path: Path) -> None:
    settings = from_mapping(run.model_dump(by_alias=True))
    moved = tmp_path / "base"
    shutil.copytree(settings.model.base, moved)
    text = (own / "settings.yaml").read_text().replace(settings.model.base, str(tmp_path / "gone"))
    (own / "settings.yaml").write_text(text)
    soup(own, tmp_path / "out", base=str(moved))
    assert open_model(tmp_path / "out").base == str(moved)
