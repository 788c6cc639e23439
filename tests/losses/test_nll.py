"""The chunked loss against torch's own cross-entropy over full logits."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, linear

from weft.losses import nll
from weft.losses.nll import linear_nll


def problem(n: int, vocab: int, width: int = 6, dtype: torch.dtype = torch.float32, seed: int = 0) -> list[Tensor]:
    """hidden, weight, bias (all asking for gradients), label, coefficient."""
    g = torch.Generator().manual_seed(seed)
    made = [
        torch.randn(shape, generator=g).to(dtype).requires_grad_() for shape in ((n, width), (vocab, width), (vocab,))
    ]
    return [*made, torch.randint(0, vocab, (n,), generator=g), torch.rand(n, generator=g)]


def reference(
    hidden: Tensor, weight: Tensor, label: Tensor, coefficient: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor]:
    each = cross_entropy(linear(hidden, weight, bias).float(), label, reduction="none")
    return (each * coefficient).sum(), each


def gradients(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [g.clone() for g in torch.autograd.grad(loss, leaves)]


@pytest.fixture(params=[7, 64, 10**6])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Logits held at a time, so that vocabularies of 5 and 37 are divided by none, one or many chunks."""
    monkeypatch.setattr(nll, "CHUNK_LOGITS", request.param)
    size: int = request.param
    return size


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("vocab", [1, 5, 37])
@pytest.mark.parametrize("n", [0, 1, 2, 11])
def test_loss_nll_and_gradients_are_those_of_torch(chunk: int, n: int, vocab: int, with_bias: bool) -> None:
    hidden, weight, bias, label, coefficient = problem(n, vocab)
    used = bias if with_bias else None
    leaves = [hidden, weight, bias] if with_bias else [hidden, weight]
    expected_loss, expected_nll = reference(hidden, weight, label, coefficient, used)
    found_loss, found_nll, _ = linear_nll(hidden, weight, label, coefficient, used)
    torch.testing.assert_close(found_loss, expected_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found_nll, expected_nll, rtol=1e-5, atol=1e-5)
    assert found_loss.shape == ()
    # scaled, as gradient accumulation or an engine might
    for found, expected in zip(gradients(3 * found_loss, *leaves), gradients(3 * expected_loss, *leaves), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_nothing_to_train_gives_zero_loss_and_zero_gradients() -> None:
    hidden, weight, bias, label, coefficient = problem(0, 5)
    loss, each, _ = linear_nll(hidden, weight, label, coefficient, bias)
    assert (loss.item(), each.shape) == (0.0, (0,))
    assert all((g == 0).all() for g in gradients(loss, hidden, weight, bias))


def test_a_frozen_head_gets_no_gradient() -> None:
    hidden, weight, bias, label, coefficient = problem(4, 5)
    expected = gradients(reference(hidden, weight, label, coefficient, bias)[0], hidden)[0]
    weight.requires_grad_(False)
    bias.requires_grad_(False)
    loss, _, _ = linear_nll(hidden, weight, label, coefficient, bias)
    loss.backward()
    assert weight.grad is None
    assert bias.grad is None
    torch.testing.assert_close(hidden.grad, expected)


def test_a_head_alone_is_trained_where_the_rest_is_frozen() -> None:
    hidden, weight, bias, label, coefficient = problem(4, 5)
    expected = gradients(reference(hidden, weight, label, coefficient, None)[0], weight)[0]
    loss, _, _ = linear_nll(hidden.detach(), weight, label, coefficient)
    torch.testing.assert_close(gradients(loss, weight)[0], expected)


def test_without_gradients_the_loss_is_the_same() -> None:
    hidden, weight, bias, label, coefficient = problem(9, 37)
    expected, _, _ = linear_nll(hidden, weight, label, coefficient, bias)
    with torch.no_grad():
        found, _, _ = linear_nll(hidden, weight, label, coefficient, bias)
    assert not found.requires_grad
    assert float(found) == pytest.approx(float(expected.detach()))


def test_each_positions_nll_carries_no_gradient() -> None:
    assert not linear_nll(*problem(3, 5)[:2], *problem(3, 5)[3:])[1].requires_grad


@pytest.mark.parametrize("size", [1e3, 1e4])
def test_large_logits_overflow_nowhere(size: float) -> None:
    hidden, weight, _, label, coefficient = problem(8, 37)
    big = (hidden.detach() * size).requires_grad_()
    expected_loss, _ = reference(big.double(), weight.double(), label, coefficient.double(), None)
    loss, each, _ = linear_nll(big, weight, label, coefficient)
    assert torch.isfinite(each).all()
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-5, atol=1e-3)
    for found, expected in zip(gradients(loss, big, weight), gradients(expected_loss, big, weight), strict=True):
        assert torch.isfinite(found).all()
        torch.testing.assert_close(found, expected.float(), rtol=1e-3, atol=1e-3 * size)


def test_a_coefficient_of_zero_takes_no_part() -> None:
    hidden, weight, bias, label, coefficient = problem(6, 5)
    coefficient[2:] = 0
    whole = gradients(linear_nll(hidden, weight, label, coefficient, bias)[0], weight)[0]
    part = gradients(linear_nll(hidden[:2], weight, label[:2], coefficient[:2], bias)[0], weight)[0]
    torch.testing.assert_close(whole, part)


def test_half_precision_is_as_good_as_its_numbers(chunk: int) -> None:
    hidden, weight, bias, label, coefficient = problem(11, 37, dtype=torch.bfloat16)
    expected_loss, expected_nll = reference(hidden.float(), weight.float(), label, coefficient, bias.float())
    loss, each, _ = linear_nll(hidden, weight, label, coefficient, bias)
    assert (loss.dtype, each.dtype) == (torch.float32, torch.float32)
    torch.testing.assert_close(each, expected_nll, rtol=0.03, atol=0.05)
    for leaf, found, expected in zip(
        (hidden, weight, bias),
        gradients(loss, hidden, weight, bias),
        gradients(expected_loss, hidden, weight, bias),
        strict=True,
    ):
        assert found.dtype == leaf.dtype
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.05, atol=0.05)


def test_a_frozen_half_precision_head_under_autocast_works() -> None:
    """LoRA in bf16 on a GPU: fp32 hidden states may meet a bf16 head."""
    hidden, weight, _, label, coefficient = problem(5, 37)
    head = weight.detach().to(torch.bfloat16)
    expected = gradients(reference(hidden, head.float(), label, coefficient, None)[0], hidden)[0]
    with torch.autocast("cpu", torch.bfloat16):
        loss, _, _ = linear_nll(hidden, head, label, coefficient)
    torch.testing.assert_close(gradients(loss, hidden)[0], expected, rtol=0.05, atol=0.05)


def test_no_more_logits_than_a_chunk_are_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = torch.nn.functional.linear

    def watched(*args: Any) -> Tensor:
        out = real(*args)
        sizes.append(out.numel())
        return out

    monkeypatch.setattr(nll, "CHUNK_LOGITS", 100)
    monkeypatch.setattr(torch.nn.functional, "linear", watched)
    hidden, weight, bias, label, coefficient = problem(20, 37)
    linear_nll(hidden, weight, label, coefficient, bias)[0].backward()
    assert sum(sizes) == 20 * 37
    assert max(sizes) <= 100


def focal_reference(
    hidden: Tensor, weight: Tensor, label: Tensor, coefficient: Tensor, bias: Tensor | None, focal: float
) -> tuple[Tensor, Tensor]:
    """The focal loss as its paper writes it, in double precision; its gradient is autograd's. Also what the coefficients become."""
    logits = linear(hidden.double(), weight.double(), None if bias is None else bias.double())
    p = torch.softmax(logits, dim=-1).gather(-1, label[:, None]).squeeze(-1)
    used = coefficient.double() * (1 - p) ** focal
    return -(used * torch.log(p)).sum(), used


@pytest.mark.parametrize("focal", [0.5, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("vocab", [2, 5, 37])
@pytest.mark.parametrize("n", [0, 1, 11])
def test_focal_loss_and_gradients_are_those_of_autograd(
    chunk: int, n: int, vocab: int, with_bias: bool, focal: float
) -> None:
    hidden, weight, bias, label, coefficient = problem(n, vocab)
    used_bias = bias if with_bias else None
    leaves = [hidden, weight, bias] if with_bias else [hidden, weight]
    expected_loss, expected_used = focal_reference(hidden, weight, label, coefficient, used_bias, focal)
    loss, each, used = linear_nll(hidden, weight, label, coefficient, used_bias, focal=focal)
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(used.double(), expected_used.detach(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(each, reference(hidden, weight, label, coefficient, used_bias)[1])  # the plain nll
    assert not used.requires_grad
    for found, expected in zip(gradients(3 * loss, *leaves), gradients(3 * expected_loss, *leaves), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("focal", [0.1, 1.0, 2.0, 10.0])
@pytest.mark.parametrize("margin", [-1e30, -1e4, -100.0, -80.0, -3.0, 3.0, 10.0, 80.0, 100.0, 1e4, 1e30])
def test_focal_loss_is_finite_and_right_however_sure_the_model_is(margin: float, focal: float) -> None:
    """Two logits, the label's higher by `margin`: nll = log(1 + e^-margin), 1 - p = 1 / (1 + e^margin)."""
    logits = torch.tensor([[margin, 0.0]], requires_grad=True)
    loss, each, used = linear_nll(logits, torch.eye(2), torch.tensor([0]), torch.ones(1), focal=focal)
    (found,) = gradients(loss, logits)
    x = torch.tensor(margin, dtype=torch.float64)
    nll_, u = torch.nn.functional.softplus(-x), torch.sigmoid(-x)
    factor = u**focal + focal * torch.exp((focal - 1) * torch.log(u.clamp(min=1e-300))) * torch.sigmoid(x) * nll_
    expected = factor * u * torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    assert torch.isfinite(loss)
    assert torch.isfinite(found).all()
    torch.testing.assert_close(loss.double(), u**focal * nll_, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(each[0].double(), nll_, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-6)
    assert 0 <= float(used) <= 1


@pytest.mark.parametrize("focal", [0.1, 2.0])
def test_a_vocabulary_of_one_leaves_the_focal_loss_nothing_to_learn(focal: float) -> None:
    hidden, weight, bias, label, coefficient = problem(3, 1)
    loss, _, used = linear_nll(hidden, weight, label, coefficient, bias, focal=focal)
    assert (float(loss.detach()), float(used.sum())) == (0.0, 0.0)
    assert all((g == 0).all() for g in gradients(loss, hidden, weight, bias))


def test_focal_zero_is_the_plain_loss_to_the_last_bit(chunk: int) -> None:
    """Beside it, a γ so small that (1 - p)^γ rounds to 1 takes the focal path to the same numbers."""
    hidden, weight, bias, label, coefficient = problem(11, 37)
    loss, each, used = linear_nll(hidden, weight, label, coefficient, bias)
    plain = gradients(loss, hidden, weight, bias)
    assert torch.equal(used, coefficient)
    for focal in (0.0, 1e-12):
        found_loss, found_each, found_used = linear_nll(hidden, weight, label, coefficient, bias, focal=focal)
        assert torch.equal(found_loss, loss)
        assert torch.equal(found_each, each)
        assert torch.equal(found_used, used)
        for gradient, expected in zip(gradients(found_loss, hidden, weight, bias), plain, strict=True):
            assert torch.equal(gradient, expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_focal_loss_in_half_precision_is_as_good_as_its_numbers(dtype: torch.dtype) -> None:
    hidden, weight, bias, label, coefficient = problem(11, 37, dtype=dtype)
    expected_loss, _ = focal_reference(hidden, weight, label, coefficient, bias, 2.0)
    loss, _, _ = linear_nll(hidden, weight, label, coefficient, bias, focal=2.0)
    for leaf, found, expected in zip(
        (hidden, weight, bias),
        gradients(loss, hidden, weight, bias),
        gradients(expected_loss, hidden, weight, bias),
        strict=True,
    ):
        assert found.dtype == leaf.dtype
        torch.testing.assert_close(found.float(), expected.float(), rtol=0.05, atol=0.05)
