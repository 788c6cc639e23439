"""Break what the gradient invariant protects, one thing at a time, and see it fail: a check that can't fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.invariants.test_gradient import CUTS, WEIGHTINGS, assert_same, gradient_of, reference_of
from weft.config.settings import Settings
from weft.data import batches, plan
from weft.losses import nll, weighting
from weft.models.attention import documents
from weft.training import engines, loop, step
from weft.training.engines import ddp, local
from weft.training.launch import launch


def _differs(make_settings: Callable[..., Settings], tmp_path: Path, how: str, cut: str) -> None:
    """The gradient of a cut is not the reference's any more."""
    _, expected = reference_of(make_settings(loss={"weighting": how}, output=str(tmp_path / "reference")))
    settings = make_settings(loss={"weighting": how}, output=str(tmp_path / "broken"), **CUTS[cut])
    _, found, _ = gradient_of(settings, engines.build(settings.engine))
    with pytest.raises(AssertionError, match="gradients differ"):
        assert_same(found, expected)


@pytest.mark.parametrize("how", WEIGHTINGS)
def test_counts_of_the_micro_batch_instead_of_the_step_are_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """What MFTCoder does: every sum over the local micro-batch."""

    def local_factors(run_plan: Any, settings: Settings, parts: Any, weight_K: Any) -> list[Any]:
        return [
            weighting.coefficients(settings.loss.weighting, run_plan.trained_P(p), p.task_P, weight_K) / len(parts)
            for p in parts
        ]

    monkeypatch.setattr(loop, "part_factors", local_factors)
    _differs(make_settings, tmp_path, how, "packed into rows of 256")


def test_a_leak_between_packed_samples_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaking(*args: Any, document_lengths: list[int], **kwargs: Any) -> Any:
        return honest(*args, document_lengths=[sum(document_lengths)], **kwargs)

    honest = documents.attention
    monkeypatch.setattr("weft.training.setup.self_test", lambda *_, **__: None)  # it would refuse, as it should
    monkeypatch.setattr(documents, "attention", leaking)
    _differs(make_settings, tmp_path, "token", "packed into rows of 256")


def test_the_self_test_refuses_a_leak(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = documents.attention
    monkeypatch.setattr(
        documents,
        "attention",
        lambda *a, document_lengths, **k: honest(*a, document_lengths=[sum(document_lengths)], **k),
    )
    settings = make_settings(output=str(tmp_path / "run"))
    with pytest.raises(ValueError, match="packed samples give another loss than each alone"):
        gradient_of(settings, engines.build(settings.engine))


def test_positions_that_run_on_over_samples_are_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """RoPE is relative, so only a model with learned positions can tell."""
    settings = make_settings("gpt2", adapter={"kind": "none"}, output=str(tmp_path / "broken"))
    _, expected = reference_of(make_settings("gpt2", adapter={"kind": "none"}, output=str(tmp_path / "reference")))
    honest = loop.make_batch

    def running_on(*args: Any, **kwargs: Any) -> Any:
        batch = honest(*args, **kwargs)
        return replace(batch, position_T=np.arange(len(batch.ids_T)))

    monkeypatch.setattr(loop, "make_batch", running_on)
    _, found, _ = gradient_of(settings, engines.build(settings.engine))
    with pytest.raises(AssertionError, match="gradients differ"):
        assert_same(found, expected)


def test_trained_padding_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loop.make_batch

    def padding_trained(*args: Any, **kwargs: Any) -> Any:
        batch = honest(*args, **kwargs)
        smallest = batch.coefficient_T[batch.coefficient_T > 0].min()
        return replace(
            batch,
            weight_T=np.where(batch.weight_T == 0, 1, batch.weight_T).astype(np.float32),
            coefficient_T=np.where(batch.weight_T == 0, smallest, batch.coefficient_T).astype(np.float32),
        )

    monkeypatch.setattr(loop, "make_batch", padding_trained)
    _differs(make_settings, tmp_path, "token", "padded to the longest")


def test_a_label_that_is_not_the_next_token_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = loop.make_batch

    def unshifted(*args: Any, **kwargs: Any) -> Any:
        batch = honest(*args, **kwargs)
        return replace(batch, labels_T=batch.ids_T)

    monkeypatch.setattr(loop, "make_batch", unshifted)
    _differs(make_settings, tmp_path, "sample", "one row of everything")


def test_a_lost_micro_batch_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = plan.Step.of_rank
    monkeypatch.setattr(plan.Step, "of_rank", lambda self, rank, ranks: honest(self, rank, ranks)[1:])
    _differs(make_settings, tmp_path, "task", "packed into rows of 256")


def test_a_sample_cut_in_two_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = plan.concatenated
    monkeypatch.setattr(
        plan, "concatenated", lambda parts, _: (pieces := honest(parts, 50)[0], np.array([len(pieces.task_P)]))
    )
    _differs(make_settings, tmp_path, "token", "one stream")


def test_a_chunk_of_the_loss_that_is_skipped_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = nll.linear_nll

    def only_half(hidden: Any, weight: Any, label: Any, coefficient: Any, bias: Any = None, focal: float = 0) -> Any:
        half = coefficient.clone()
        half[len(half) // 2 :] = 0
        return honest(hidden, weight, label, half, bias, focal)

    monkeypatch.setattr("weft.training.setup.self_test", lambda *_, **__: None)
    monkeypatch.setattr("weft.training.setup.linear_nll", only_half)
    _differs(make_settings, tmp_path, "task_sample", "one row of everything")


def test_a_gradient_that_is_averaged_over_micro_batches_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a loop does that divides by the number of accumulation steps out of habit."""
    monkeypatch.setattr(local.LocalEngine, "backward", lambda self, loss: (loss / 4).backward())
    _differs(make_settings, tmp_path, "token", "packed into rows of 256")


def _unscaled_worker(values: dict[str, Any], folder: str) -> None:
    """A rank whose engine forgets that DDP averages."""
    from tests.invariants.test_gradient import worker

    ddp.DdpEngine.backward = lambda self, loss: loss.backward()  # type: ignore[method-assign]
    worker(values, folder)


def test_an_engine_that_forgets_its_gradient_scale_is_seen(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    from tests.invariants.test_gradient import RANKED, assert_ranks_agree

    settings = make_settings(engine={"kind": "ddp", "processes": 2})
    launch(2, _unscaled_worker, settings.model_dump(mode="json"), str(tmp_path))
    with pytest.raises(AssertionError, match="gradients differ"):
        assert_ranks_agree(make_settings, tmp_path, WEIGHTINGS[0], RANKED[0])


def test_the_mutations_reach_the_code_that_runs() -> None:
    """The names patched above are the ones the loop really uses."""
    assert loop.make_batch is batches.make_batch
    assert loop.part_factors is step.part_factors
