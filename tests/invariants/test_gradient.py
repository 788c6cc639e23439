"""The same step gives the same gradient however it is cut: micro-batches, packing, ranks; in all four weightings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.invariants.reference import named_gradients, randomise_adapter, reference_loss
from weft.config.settings import Settings
from weft.models.attention.documents import NAME
from weft.training import engines
from weft.training.engines import Engine
from weft.training.launch import launch
from weft.training.loop import gradients
from weft.training.setup import build
from weft.types import silent

WEIGHTINGS = ("token", "sample", "task", "task_sample")

CUTS: dict[str, dict[str, Any]] = {
    "one row of everything": {"batch": {"tokens_per_micro_batch": 4096}},
    "packed into rows of 256": {},
    "packed into rows of 300": {"batch": {"tokens_per_micro_batch": 300}},
    "one sample a micro-batch": {"data": {"max_tokens": 128}, "batch": {"tokens_per_micro_batch": 128}},
    "padded to the longest": {"data": {"packing": "padding"}, "batch": {"tokens_per_micro_batch": 4096}},
    "padded, few at a time": {"data": {"packing": "padding"}},
    "one stream": {"data": {"packing": "concat", "max_tokens": 4096}, "batch": {"tokens_per_micro_batch": 4096}},
    "by number of samples": {"batch": {"tokens_per_step": None, "samples_per_step": 1000}},
    "activations recomputed": {"model": {"gradient_checkpointing": True}},
}


def _run(settings: Settings, engine: Engine) -> Any:
    settings.output.mkdir(parents=True, exist_ok=True)
    run = build(settings, engine, silent)
    assert run.plan.num_steps == 1, "the comparison is of one step"
    randomise_adapter(run.objective)
    return run


def gradient_of(settings: Settings, engine: Engine) -> tuple[float, dict[str, torch.Tensor], float]:
    run = _run(settings, engine)
    totals = gradients(run, run.plan.step(0), run.balance.loss_weights())
    return totals.loss, named_gradients(run.objective), float(totals.share_K.sum())


def reference_of(settings: Settings) -> tuple[float, dict[str, torch.Tensor]]:
    run = _run(settings, engines.build(settings.engine))
    run.objective.eval()
    loss = reference_loss(run.objective, run.plan, settings, NAME)
    loss.backward()
    return float(loss.detach()), named_gradients(run.objective)


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert any(g.abs().max() > 1e-3 for g in expected.values()), "a gradient of nothing proves nothing"
    worst = max((found[name] - expected[name]).abs().max().item() for name in expected)
    assert worst <= 1e-5, f"gradients differ by {worst:.2e}"


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_cut_gives_the_gradient_of_the_naive_reference(
    make_settings: Callable[..., Settings], tmp_path: Path, weighting: str
) -> None:
    loss, expected = reference_of(make_settings(loss={"weighting": weighting}, output=str(tmp_path / "reference")))
    for number, (name, cut) in enumerate(CUTS.items()):
        settings = make_settings(loss={"weighting": weighting}, output=str(tmp_path / f"cut{number}"), **cut)
        found_loss, found, share = gradient_of(settings, engines.build(settings.engine))
        assert found_loss == pytest.approx(loss, abs=1e-5), name
        assert share == pytest.approx(1.0, abs=1e-6), name
        assert_same(found, expected)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_cut_gives_the_focal_loss_of_the_naive_reference(
    make_settings: Callable[..., Settings], tmp_path: Path, weighting: str
) -> None:
    """Difficulty is a token's own, so it is weighed on top of coefficients that know the whole step."""
    how = {"weighting": weighting, "focal": 2.0}
    loss, expected = reference_of(make_settings(loss=how, output=str(tmp_path / "reference")))
    plain, _ = reference_of(make_settings(loss={"weighting": weighting}, output=str(tmp_path / "plain")))
    assert abs(loss - plain) > 1e-3, "a focal loss that changes nothing proves nothing"
    for number, (name, cut) in enumerate(CUTS.items()):
        settings = make_settings(loss=how, output=str(tmp_path / f"cut{number}"), **cut)
        found_loss, found, share = gradient_of(settings, engines.build(settings.engine))
        assert found_loss == pytest.approx(loss, abs=1e-5), name
        assert share == pytest.approx(1.0, abs=1e-6), name
        assert_same(found, expected)


@pytest.mark.parametrize("kind", ["llama-tied", "qwen2", "gpt2", "mistral-sliding"])
def test_other_models_fully_trained_agree_too(
    make_settings: Callable[..., Settings], tmp_path: Path, kind: str
) -> None:
    settings = make_settings(
        kind, adapter={"kind": "none"}, output=str(tmp_path / "a"), batch={"tokens_per_micro_batch": 300}
    )
    _, expected = reference_of(make_settings(kind, adapter={"kind": "none"}, output=str(tmp_path / "b")))
    _, found, _ = gradient_of(settings, engines.build(settings.engine))
    assert_same(found, expected)


RANKED = (("pack", 330), ("padding", 256), ("pack", 4096))
"""Cuts for several processes: an odd number of micro-batches, padded ones, and one for a single rank."""


def worker(values: dict[str, Any], folder: str) -> None:
    """One rank: the gradient in every weighting and three cuts, written to a file of its own."""
    engine = engines.build(Settings.model_validate(values).engine)
    try:
        for weighting in WEIGHTINGS:
            for packing, tokens in RANKED:
                name = f"{folder}/{weighting}-{packing}-{tokens}"
                settings = Settings.model_validate(
                    {
                        **values,
                        "loss": {"weighting": weighting},
                        "data": {**values["data"], "packing": packing},
                        "batch": {**values["batch"], "tokens_per_micro_batch": tokens},
                        "output": name,
                    }
                )
                torch.save(gradient_of(settings, engine), f"{name}.{engine.rank}.pt")
    finally:
        engine.close()


def assert_ranks_agree(
    make_settings: Callable[..., Settings], folder: Path, weighting: str, cut: tuple[str, int]
) -> None:
    loss, expected = reference_of(make_settings(loss={"weighting": weighting}, output=str(folder / f"one-{weighting}")))
    for rank in (0, 1):
        found_loss, found, share = torch.load(folder / f"{weighting}-{cut[0]}-{cut[1]}.{rank}.pt")
        assert_same({name.removeprefix("module."): g for name, g in found.items()}, expected)
        assert found_loss == pytest.approx(loss, abs=1e-5)
        assert share == pytest.approx(1.0, abs=1e-6)


def test_two_processes_with_uneven_micro_batches_agree(make_settings: Callable[..., Settings], tmp_path: Path) -> None:
    settings = make_settings(engine={"kind": "ddp", "processes": 2})
    launch(2, worker, settings.model_dump(mode="json"), str(tmp_path))
    for weighting in WEIGHTINGS:
        for cut in RANKED:
            assert_ranks_agree(make_settings, tmp_path, weighting, cut)


def test_the_ranks_really_had_uneven_work(make_settings: Callable[..., Settings]) -> None:
    """Guards the test above."""
    settings = make_settings(batch={"tokens_per_micro_batch": RANKED[0][1]})
    settings.output.mkdir(parents=True)
    step = build(settings, engines.build(settings.engine), silent).plan.step(0)
    assert len(step.micro_batches) % 2 == 1
    assert len(step.of_rank(0, 2)) != len(step.of_rank(1, 2))
