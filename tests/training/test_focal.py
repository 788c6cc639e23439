"""What a run with focal loss writes down: shares as they were really used, and losses that are the plain nll."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.invariants.reference import randomise_adapter
from weft.config.settings import Settings
from weft.models.load import base_of
from weft.training import engines
from weft.training.evaluate import validate
from weft.training.loop import gradients
from weft.training.setup import build
from weft.training.step import shares
from weft.types import silent

Make = Callable[..., Settings]


def run_of(make_settings: Make, folder: Path, focal: float, **sections: Any) -> Any:
    settings = make_settings(
        loss={"weighting": "token", "focal": focal}, output=str(folder / f"focal-{focal}"), **sections
    )
    settings.output.mkdir()
    run = build(settings, engines.build(settings.engine), silent)
    randomise_adapter(run.objective)
    return run


def test_shares_and_losses_are_those_of_the_definition(make_settings: Make, tmp_path: Path) -> None:
    run = run_of(make_settings, tmp_path, 10.0)
    step = run.plan.step(0)
    totals = gradients(run, step, np.ones(3))
    used_K, nll_K, tokens_K = np.zeros(3), np.zeros(3), np.zeros(3)
    run.objective.eval()
    base_of(run.objective.model).set_attn_implementation("eager")
    for task, sample in zip(step.parts.task_P.tolist(), step.parts.sample_P.tolist(), strict=True):
        stored = run.plan.stores[task].sample(sample)
        ids, weight = torch.tensor(stored.ids_T.tolist()), torch.tensor(stored.weight_T.tolist())[1:]
        with torch.no_grad():
            logits = base_of(run.objective.model)(input_ids=ids[None], use_cache=False).logits[0, :-1]
        p = torch.softmax(logits.double(), dim=-1)[range(len(weight)), ids[1:]]
        used_K[task] += float((weight * (1 - p) ** 10).sum())
        nll_K[task] += float((weight * -p.log()).sum())
        tokens_K[task] += float(weight.sum())
    np.testing.assert_allclose(totals.share_K, used_K / used_K.sum(), atol=1e-6)
    np.testing.assert_allclose(totals.nll_K, nll_K, rtol=1e-5)
    np.testing.assert_allclose(totals.tokens_K, tokens_K)
    assert np.abs(totals.share_K - tokens_K / tokens_K.sum()).max() > 1e-3, "the focal loss moved no share"


def test_validation_is_plain_nll_whatever_is_trained(make_settings: Make, tmp_path: Path) -> None:
    found = []
    for focal in (0.0, 2.0):
        run = run_of(make_settings, tmp_path, focal, data={"validation": 0.3})
        assert run.objective.training
        found.append(validate(run.plan, run.settings, run.engine, run.objective, run.dtype, np.ones(3)))
        assert run.objective.training
    plain, focal_run = found
    assert plain.loss == focal_run.loss
    np.testing.assert_array_equal(plain.nll_K, focal_run.nll_K)
    np.testing.assert_array_equal(plain.share_K, focal_run.share_K)


def test_shares_keep_the_sum_of_the_coefficients() -> None:
    """So a sum that is not 1 still gives away coefficients that were wrong before the focal loss."""
    np.testing.assert_allclose(shares(np.array([0.5, 0.25]), np.array([0.1, 0.2])), [0.25, 0.5])


@pytest.mark.parametrize("used", [[0.0, 0.0], [np.nan, 0.2], [np.inf, 0.2]])
def test_shares_are_numbers_where_the_losses_are_not(used: list[float]) -> None:
    np.testing.assert_array_equal(shares(np.array([0.75, 0.25]), np.array(used)), [0.75, 0.25])
