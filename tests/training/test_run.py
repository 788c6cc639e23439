"""The whole job: what happens at its end, and when something is in its way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from weft import files
from weft.config.settings import Settings
from weft.errors import CheckpointError, DataError, TrainingError
from weft.training import loop
from weft.training.events import read_journal
from weft.training.run import train
from weft.types import Progress


def test_a_finished_run_is_found_done_and_a_changed_one_refused(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    first = train(settings)
    before = (first.final / "adapter_model.safetensors").read_bytes()
    assert train(settings) == first
    assert (first.final / "adapter_model.safetensors").read_bytes() == before
    with pytest.raises(CheckpointError, match="seed: was 17, is 18"):
        train(make_settings(seed=18))


def test_metrics_have_the_fields_that_are_promised(make_settings: Callable[..., Settings]) -> None:
    result = train(make_settings(data={"validation": 0.3}, batch={"tokens_per_step": 512}))
    records = read_journal(result.folder / "metrics.jsonl")
    assert records[0]["step"] == 0, "the first validation comes before any training"
    assert set(records[0]["validation"]["tasks"]["sums"]) == {"loss", "tokens"}
    steps = [record for record in records if "tasks" in record]
    assert [record["step"] for record in steps] == list(range(1, len(steps) + 1))
    for record in steps:
        assert set(record) == {"step", "loss", "tasks", "lr", "grad_norm", "tokens_per_second", "seconds"}
        assert sum(task["share"] for task in record["tasks"].values()) == pytest.approx(1.0, abs=1e-6)
        weights = {name: task["weight"] for name, task in record["tasks"].items()}
        by_hand = sum(w * record["tasks"][n]["loss"] for n, w in weights.items()) / sum(weights.values())
        assert record["loss"] == pytest.approx(by_hand, abs=1e-5), "the objective of weighting: task"
    ledger = read_journal(result.folder / "ledger.jsonl")
    assert [record["step"] for record in ledger] == [record["step"] for record in steps]
    assert all(name.count(":") == 2 for record in ledger for name in record["samples"])


def test_the_best_checkpoint_is_checked_before_it_becomes_the_result(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(data={"validation": 0.3}, save={"final": "best"}, batch={"tokens_per_step": 512})
    result = train(settings)
    best = min((result.folder / "checkpoints").glob("step-*"))
    for place in (result.folder / "checkpoints").glob("step-*"):
        best = place if not files.faults(place) else best
        damaged = place / "weights.safetensors"
        data = bytearray(damaged.read_bytes())
        data[-1] ^= 1
        damaged.write_bytes(data)
    (result.final / "adapter_config.json").unlink()
    train(settings)  # nothing whole is left to go on from: it starts anew and ends well
    assert not files.faults(result.final)


def test_a_result_that_is_damaged_twice_is_mended_twice(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings()
    result = train(settings)
    for _ in range(2):
        (result.final / "adapter_config.json").write_text("{}")
        train(settings)
        assert not files.faults(result.final)
    assert len(list(result.folder.glob("broken-final-*"))) == 2


def test_a_gradient_that_is_not_finite_is_never_stepped_on(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, calls = loop.gradients, iter(range(1000))

    def sometimes_nan(run: loop.Run, step: object, weight_K: object) -> object:
        totals = honest(run, step, weight_K)  # type: ignore[arg-type]
        if next(calls) == 1:
            next(p for p in run.objective.parameters() if p.grad is not None).grad.fill_(float("nan"))  # type: ignore[union-attr]
        return totals

    monkeypatch.setattr(loop, "gradients", sometimes_nan)
    result = train(make_settings(batch={"tokens_per_step": 512}))
    steps = [record for record in read_journal(result.folder / "metrics.jsonl") if "tasks" in record]
    assert [record["step"] for record in steps if "skipped" in record] == [2]
    assert steps[1]["grad_norm"] is None
    assert all(record["grad_norm"] is not None for record in steps[2:]), "the next steps are as if nothing had been"


def test_a_run_where_nothing_learns_is_an_error(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loop.gradients

    def zeroed(run: loop.Run, step: object, weight_K: object) -> object:
        totals = honest(run, step, weight_K)  # type: ignore[arg-type]
        for parameter in run.objective.parameters():
            if parameter.grad is not None:
                parameter.grad.zero_()
        return totals

    monkeypatch.setattr(loop, "gradients", zeroed)
    with pytest.raises(TrainingError, match="exactly zero"):
        train(make_settings())


def test_early_stopping_ends_the_run_and_the_best_is_kept(make_settings: Callable[..., Settings]) -> None:
    result = train(
        make_settings(
            data={"validation": 0.3},
            mixture={"epochs": 20},
            batch={"tokens_per_step": 512},
            optimizer={"lr": 2.0, "clip_norm": 0.0},
            validate={"every": 1, "stop_after": 1},
            save={"every": 1000, "keep": 1, "final": "best"},
        )
    )
    records = read_journal(result.folder / "metrics.jsonl")
    losses = {r["step"]: r["validation"]["loss"] for r in records if "validation" in r and r["step"]}
    best = min(losses, key=lambda step: losses[step])
    assert max(losses) == best + 1, "one validation without a better one"
    assert (result.folder / "checkpoints" / f"step-{best:08d}").is_dir()


@pytest.mark.parametrize("what", ["deleted", "changed"])
def test_a_source_that_goes_while_training_does_not_touch_the_run(
    make_settings: Callable[..., Settings], tmp_path: Path, what: str
) -> None:
    """Training reads the store alone; a later start names the file."""
    undisturbed = train(make_settings(output=str(tmp_path / "undisturbed")))
    settings = make_settings(output=str(tmp_path / "disturbed"))
    source = Path(settings.tasks["sums"].paths[0])
    text = source.read_bytes()

    def disturb(progress: Progress) -> None:
        if progress.what == "train" and source.is_file() and what == "deleted":
            source.unlink()
        elif progress.what == "train" and what == "changed":
            source.write_bytes(text.replace(b"1", b"2"))

    disturbed = train(settings, disturb)
    name = "adapter_model.safetensors"
    assert (disturbed.final / name).read_bytes() == (undisturbed.final / name).read_bytes()
    expected = DataError if what == "deleted" else CheckpointError
    with pytest.raises(expected, match=source.name if what == "deleted" else "data of task sums"):
        train(settings)
