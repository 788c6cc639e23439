"""The optimizer against AdamW by the paper, and the schedule against its closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from weft.config.settings import OptimizerSettings
from weft.training.optim import build_optimizer, learning_rate, warmup_steps


def rates(num_steps: int, **settings: object) -> list[float]:
    made = OptimizerSettings.model_validate({"lr": 2.0, "warmup": 0, **settings})
    return [learning_rate(made, step, num_steps) for step in range(num_steps)]


def test_constant_is_constant() -> None:
    assert rates(5, schedule="constant") == [2.0] * 5


@pytest.mark.parametrize("warmup", [0, 1, 3, 10])
@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_the_warm_up_is_a_straight_line_to_the_peak(schedule: str, warmup: int) -> None:
    found = rates(20, schedule=schedule, warmup=warmup)
    assert found[:warmup] == pytest.approx([2.0 * (step + 1) / warmup for step in range(warmup)])
    assert all(rate > 0 for rate in found[:warmup])
    assert max(found) <= 2.0


def test_linear_falls_in_even_steps_to_the_minimum() -> None:
    assert rates(4, schedule="linear", min_lr=0.4) == pytest.approx([2.0, 1.6, 1.2, 0.8])
    assert rates(5, schedule="linear", warmup=1) == pytest.approx([2.0, 2.0, 1.5, 1.0, 0.5])


@pytest.mark.parametrize(("num_steps", "warmup"), [(1, 0), (2, 1), (10, 0), (10, 4), (1000, 30)])
def test_cosine_is_the_closed_form(num_steps: int, warmup: int) -> None:
    found = rates(num_steps, warmup=warmup, min_lr=0.5)
    after = num_steps - warmup
    expected = [0.5 + 1.5 * math.cos(math.pi * n / after / 2) ** 2 for n in range(after)]
    assert found[warmup:] == pytest.approx(expected)
    assert found[-1] > 0.5, "the last step still learns; the one after it would have the minimum"


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
def test_after_the_warm_up_the_rate_never_rises_and_stays_between_its_bounds(schedule: str) -> None:
    found = rates(50, schedule=schedule, warmup=7, min_lr=0.25)
    assert all(a >= b for a, b in zip(found[6:], found[7:], strict=False))
    assert all(0.25 <= rate <= 2.0 for rate in found[6:])


@pytest.mark.parametrize(
    ("warmup", "num_steps", "expected"),
    [(0, 100, 0), (0.03, 100, 3), (0.03, 10, 1), (0.5, 3, 2), (1, 100, 1), (30, 10, 30)],
)
def test_a_warm_up_below_one_is_a_share(warmup: float, num_steps: int, expected: int) -> None:
    assert warmup_steps(OptimizerSettings(warmup=warmup), num_steps) == expected


def test_a_warm_up_longer_than_the_run_never_gets_to_the_peak() -> None:
    assert rates(4, warmup=8) == pytest.approx([0.25, 0.5, 0.75, 1.0])


class Module(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.matrix = nn.Parameter(torch.randn(3, 2))
        self.vector = nn.Parameter(torch.randn(3))
        self.frozen = nn.Parameter(torch.randn(2, 2), requires_grad=False)


def test_steps_are_those_of_the_paper_with_decay_on_matrices_only() -> None:
    """arXiv 1711.05101, algorithm 2."""
    module = Module()
    settings = OptimizerSettings(lr=0.1, weight_decay=0.3, betas=(0.8, 0.95), eps=1e-6)
    optimizer = build_optimizer(module, settings)
    start = {name: p.detach().double().clone() for name, p in module.named_parameters()}
    expected = dict(start)
    moments = {name: (torch.zeros_like(p), torch.zeros_like(p)) for name, p in expected.items()}
    for step in range(1, 6):
        g = torch.Generator().manual_seed(step)
        for name in ("matrix", "vector"):
            parameter = getattr(module, name)
            gradient = torch.randn(parameter.shape, generator=g)
            parameter.grad = gradient.clone()
            m, v = moments[name]
            m = 0.8 * m + 0.2 * gradient
            v = 0.95 * v + 0.05 * gradient.double() ** 2
            moments[name] = (m, v)
            update = (m / (1 - 0.8**step)) / ((v / (1 - 0.95**step)).sqrt() + 1e-6)
            decay = 0.3 if name == "matrix" else 0.0
            expected[name] = expected[name] - 0.1 * (update + decay * expected[name])
        optimizer.step()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(parameter.detach().double(), expected[name], rtol=1e-5, atol=1e-6)


def test_frozen_parameters_are_not_the_optimizers() -> None:
    module = Module()
    held = [p for group in build_optimizer(module, OptimizerSettings()).param_groups for p in group["params"]]
    assert len(held) == 2
    assert not any(p is module.frozen for p in held)


def test_a_module_with_matrices_alone_has_one_group() -> None:
    module = nn.Linear(2, 2, bias=False)
    assert len(build_optimizer(module, OptimizerSettings()).param_groups) == 1
