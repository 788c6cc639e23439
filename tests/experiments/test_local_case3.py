"""The comparison does what it says: MFTCoder's procedure, on weft's data and model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from common import read_curve
from local_case3 import groups, local_factors, local_loss, shuffled, train_local

from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.data.plan import Parts, Plan, make_plan
from weft.data.prepare import prepare
from weft.models.load import base_of
from weft.models.objective import Objective
from weft.training.run import train
from weft.training.setup import build_objective, open_engine
from weft.training.step import Accumulator

WEIGHT_K = np.array([2.0, 1.0, 0.5])


def test_one_micro_batch_by_hand() -> None:
    nll_T = torch.tensor([1.0, 3.0, 5.0, 7.0, 11.0])
    mask_T = torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])
    task_T = torch.tensor([0, 0, 0, 2, 2])
    weight_K = torch.tensor([2.0, 1.0, 0.5])
    expected = (2.0 * (1 + 3) / 2 + 0.5 * (7 + 11) / 2) / 2.5  # the absent task's weight doesn't count
    assert local_loss(nll_T, mask_T, task_T, weight_K).item() == pytest.approx(expected)


@pytest.mark.parametrize("size", [1, 2, 3, 8, 50])
def test_factors_are_the_derivatives_of_the_procedure(size: int) -> None:
    rng = np.random.default_rng(size)
    trained_P, task_P = rng.integers(1, 9, 20).astype(np.float64), rng.integers(0, 3, 20)
    nlls = [torch.rand(int(n), dtype=torch.float64, requires_grad=True) for n in trained_P]
    losses = []
    for first in range(0, 20, size):  # a loader's micro-batches
        chosen = range(first, min(20, first + size))
        nll_T = torch.cat([nlls[s] for s in chosen])
        task_T = torch.cat([torch.full((len(nlls[s]),), int(task_P[s])) for s in chosen])
        losses.append(local_loss(nll_T, torch.ones(len(nll_T)), task_T, torch.from_numpy(WEIGHT_K)))
    (sum(losses, torch.zeros(())) / len(losses)).backward()  # accumulation divides by the number of micro-batches
    factor_P = local_factors(trained_P, task_P, WEIGHT_K, size)
    for nll_T, factor in zip(nlls, factor_P, strict=True):
        assert nll_T.grad is not None
        torch.testing.assert_close(nll_T.grad, torch.full_like(nll_T, float(factor)))
    assert (factor_P * trained_P).sum() == pytest.approx(1.0)


def test_in_micro_batches_of_one_sample_the_weights_cancel() -> None:
    trained_P, task_P = np.array([3.0, 5.0, 1.0]), np.array([0, 1, 2])
    factor_P = local_factors(trained_P, task_P, WEIGHT_K, 1)
    np.testing.assert_allclose(factor_P, local_factors(trained_P, task_P, np.ones(3), 1))
    np.testing.assert_allclose(factor_P, 1 / (3 * trained_P), err_msg="it is the mean over samples")


def test_the_last_micro_batch_may_be_smaller() -> None:
    assert [range(7)[g] for g in groups(7, 3)] == [range(3), range(3, 6), range(6, 7)]


def the_only_step(settings: Settings) -> tuple[Plan, Objective, Parts]:
    prepared = prepare(settings)
    plan = make_plan(settings, prepared)
    objective = build_objective(settings, open_engine(settings).device, torch.float32, prepared)
    return plan, objective, shuffled(plan.step(0).parts, 5, 0)


def test_a_model_gets_the_gradient_of_the_procedure(make_settings: Callable[..., Settings]) -> None:
    """Each micro-batch through Transformers, padded and masked, as MFTCoder computes it; against factors on weft's flat rows."""
    settings = make_settings(adapter={"kind": "none"})
    plan, objective, parts = the_only_step(settings)
    base, size = base_of(objective.model), 3
    attention = base.config._attn_implementation
    base.set_attn_implementation("eager")
    loss = torch.zeros(())
    for group in groups(len(parts.task_P), size):
        chosen = parts.take(group)
        samples = [plan.stores[t].sample(int(s)) for t, s in zip(chosen.task_P, chosen.sample_P, strict=True)]
        longest = max(len(sample.ids_T) for sample in samples)
        ids_BT = torch.zeros(len(samples), longest, dtype=torch.long)
        attended_BT, mask_BT = torch.zeros_like(ids_BT), torch.zeros(len(samples), longest)
        for row, sample in enumerate(samples):
            length = len(sample.ids_T)
            ids_BT[row, :length] = torch.tensor(sample.ids_T.tolist())
            attended_BT[row, :length] = 1
            mask_BT[row, :length] = torch.tensor(sample.weight_T.tolist())
        logits_BTV = base(input_ids=ids_BT, attention_mask=attended_BT, use_cache=False).logits[:, :-1]
        nll_BT = torch.nn.functional.cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")
        task_BT = torch.tensor(chosen.task_P)[:, None].expand_as(nll_BT)
        weight_K = torch.from_numpy(WEIGHT_K).float()
        loss = loss + local_loss(nll_BT.flatten(), mask_BT[:, 1:].flatten(), task_BT.flatten(), weight_K)
    (loss / len(groups(len(parts.task_P), size))).backward()
    expected = {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}
    objective.zero_grad()
    base.set_attn_implementation(attention)

    factor_P = local_factors(plan.trained_P(parts), parts.task_P, WEIGHT_K, size)
    accumulator = Accumulator(open_engine(settings), objective, torch.float32, len(plan.stores))
    accumulator.forward(make_batch(plan.stores, parts, factor_P)).backward()
    assert expected
    for name, parameter in objective.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], atol=1e-5, rtol=1e-4, msg=name)


def test_a_run_of_the_comparison_learns_and_is_found_done(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(data={"validation": 0.3}, batch={"tokens_per_step": 512})
    metrics = train_local(settings, 2)
    text = metrics.read_text()
    assert '"step": 0' in text
    assert train_local(settings, 2).read_text() == text


def test_with_a_step_as_one_micro_batch_it_is_wefts_own_run(
    make_settings: Callable[..., Settings], tmp_path: Path
) -> None:
    """The comparison differs from weft in its factors and in nothing else: plan, start, schedule, clipping, validation."""
    sections = {"data": {"validation": 0.3}, "batch": {"tokens_per_step": 512}, "loss": {"weighting": "task"}}
    own = read_curve(train(make_settings(**sections)).folder / "metrics.jsonl")
    local = read_curve(train_local(make_settings(**sections, output=str(tmp_path / "local")), 10**6))
    smaller = read_curve(train_local(make_settings(**sections, output=str(tmp_path / "smaller")), 1))
    assert own.steps == local.steps
    for task, losses in own.losses.items():
        assert local.losses[task] == pytest.approx(losses, abs=1e-4)
    assert abs(smaller.macro - own.macro) > 1e-3
