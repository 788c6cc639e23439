"""What each method does, with values reckoned by hand. Suffixes: K tasks, N looks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.balance.conformance import facts
from weft.balance.balancers import by_size, coba, dwa, famo, fixed, gradnorm, selfpaced, uncertainty, uniform
from weft.balance.method import Floats, Look, Method, NoOptions, TaskFacts


def show(
    method: Method, every: int, loss_NK: Iterable[Iterable[float]], norm_K: Iterable[float] | None = None
) -> Floats:
    """The weights after looks every so many steps, from step 0."""
    for n, loss_K in enumerate(loss_NK):
        found_K = np.array(list(loss_K))
        method.see(
            Look(n * every, found_K, np.full(len(found_K), np.nan) if norm_K is None else np.array(list(norm_K)))
        )
    return method.weights()


def even(values: Iterable[float]) -> Floats:
    """Values with mean 1."""
    array = np.array(list(values))
    return array / array.mean()


class TestThoseThatStay:
    OWN_K = np.array([1.0, 3.0, 0.5])

    def test_fixed_is_as_set(self) -> None:
        assert fixed.build(facts(3, self.OWN_K), NoOptions()).weights().tolist() == [1, 3, 0.5]

    def test_uniform_is_one(self) -> None:
        assert uniform.build(facts(3, self.OWN_K), NoOptions()).weights().tolist() == [1, 1, 1]

    def test_by_size_goes_with_the_root_of_the_trained_tokens(self) -> None:
        method = by_size.build(facts(3), by_size.Options())  # 1000, 2000, 3000 tokens
        np.testing.assert_allclose(method.weights(), even([1, 2**0.5, 3**0.5]))

    def test_by_size_at_temperature_one_goes_with_the_tokens_and_the_own_weight(self) -> None:
        method = by_size.build(facts(3, self.OWN_K), by_size.Options(temperature=1))
        np.testing.assert_allclose(method.weights(), np.array([0.5, 1.0, 1.5]) * self.OWN_K)

    def test_a_task_without_a_trained_token_weighs_little_and_something(self) -> None:
        tasks = facts(2)
        tasks.trained_K[0] = 0
        np.testing.assert_allclose(by_size.build(tasks, by_size.Options()).weights(), even([1, 2000**0.5]))


class TestCoba:
    OPTIONS = coba.Options(warmup=20, window=40)

    def test_two_tasks_by_hand(self) -> None:
        """α = -0.01 and -0.002 a step from the first look on: RCS = softmax(-10/6, -2/6), ACS even, DF 1."""
        method = coba.build(facts(2), self.OPTIONS)
        omega_K = show(method, 10, ([2 - 0.02 * s, 1 - 0.002 * s] for s in range(0, 30, 10)))
        fast, slow = math.exp(-10 / 6), math.exp(-2 / 6)
        np.testing.assert_allclose(omega_K, even([fast, slow]), rtol=2e-3)
        numbers = method.numbers()
        np.testing.assert_allclose(numbers["alpha"], [-0.01, -0.002])
        np.testing.assert_allclose(numbers["RCS"], np.array([fast, slow]) / (fast + slow), rtol=2e-3)
        np.testing.assert_allclose(numbers["ACS"], [0.5, 0.5], rtol=2e-3)
        assert numbers["DF"] == 1.0

    def test_the_divergence_factor_by_hand(self) -> None:
        """α_max -0.01 at the first look after the warm-up, -0.004 at the next: logits 5 and 5 · 4/7."""
        method = coba.build(facts(1), coba.Options(warmup=10, window=10))
        show(method, 10, [[1.0], [0.9], [0.86]])
        first, second = math.exp(5.0), math.exp(5 * 4 / 7)
        assert method.numbers()["DF"] == pytest.approx(2 * second / (first + second), rel=1e-2)

    def test_weights_are_even_until_the_warm_up_ends(self) -> None:
        method = coba.build(facts(2), coba.Options(warmup=50, window=40))
        weights = [show(method, 10, [[3 - 0.02 * s, 2.0]]) for s in range(0, 50, 10)]
        assert all(w.tolist() == [1, 1] for w in weights)

    def test_below_one_is_a_share_of_the_run(self) -> None:
        losses = [[3 - 0.1 * n, 2 - 0.01 * n] for n in range(30)]
        share = show(coba.build(facts(2), coba.Options(warmup=0.1, window=0.2)), 10, losses)
        steps = show(coba.build(facts(2), coba.Options(warmup=100, window=200)), 10, losses)
        assert share.tolist() == steps.tolist()
        assert share[0] < share[1]

    def test_a_slow_task_gets_more(self) -> None:
        losses = [[1 + math.exp(-n / 10), 1 + math.exp(-n / 10), 1.9 - n / 200] for n in range(12)]
        weight_K = show(coba.build(facts(3), self.OPTIONS), 10, losses)
        assert weight_K[2] > 1.5 * weight_K[0]

    def test_a_task_that_diverges_gets_less_and_with_rcs_alone_would_get_more(self) -> None:
        losses = [[2 - n / 50, 2 - n / 60, 1.5 - n / 50 if n < 15 else 1.2 + (n - 15) / 15] for n in range(25)]
        all_K = show(coba.build(facts(3), self.OPTIONS), 10, losses)
        without = show(coba.build(facts(3), coba.Options(warmup=20, window=40, acs=False)), 10, losses)
        only = show(coba.build(facts(3), coba.Options(warmup=20, window=40, rcs=False)), 10, losses)
        half = show(coba.build(facts(3), coba.Options(warmup=20, window=40, df=False)), 10, losses)
        assert all_K[2] < 0.5 * all_K[:2].min()
        assert without[2] > 2 * without[:2].max()
        assert only[2] < 0.5 * only[:2].min()
        np.testing.assert_allclose(half, (without + only) / 2)

    def test_the_divergence_factor_never_leaves_0_to_1(self) -> None:
        """Where it was not bounded, 9.8 was seen: α_max all at once falls much faster than before."""
        rng = np.random.default_rng(5)
        for seed in range(20):
            method = coba.build(facts(2), coba.Options(warmup=10, window=20))
            losses = 5 + np.cumsum(rng.normal(0, 0.05, (40, 2)), axis=0)
            losses[30:] *= np.linspace(1, 0.1 if seed % 2 else 3, 10)[:, None]
            for n, loss_K in enumerate(losses):
                method.see(Look(10 * n, loss_K, loss_K * np.nan))
                assert 0 <= float(np.asarray(method.numbers().get("DF", 0.0))) <= 1

    def test_losses_that_stand_still_give_even_weights(self) -> None:
        assert show(coba.build(facts(3), self.OPTIONS), 10, [[1.0, 2.0, 3.0]] * 12).tolist() == [1, 1, 1]

    def test_a_task_never_looked_at_weighs_as_the_mean(self) -> None:
        losses = [[2 - n / 50, 2 - n / 500, math.nan] for n in range(12)]
        weight_K = show(coba.build(facts(3), self.OPTIONS), 10, losses)
        assert weight_K[2] == 1
        assert weight_K[:2].mean() == pytest.approx(1)
        assert weight_K[0] < 1 < weight_K[1]

    def test_a_task_that_stays_away_is_forgotten_after_a_window(self) -> None:
        """A frozen task that was rising must not hold the others' divergence factor down for ever."""
        losses = [[2 - n / 50, 2 - n / 60, 1.0 + n / 20 if n < 8 else math.nan] for n in range(20)]
        weight_K = show(coba.build(facts(3), self.OPTIONS), 10, losses)
        assert weight_K[2] == 1

    def test_parts_that_leave_nothing_are_refused(self) -> None:
        for options in ({"rcs": False, "acs": False}, {"rcs": False, "df": False}, {"acs": False, "df": False}):
            with pytest.raises(ValidationError, match="off"):
                coba.Options(**options)


class TestSelfPaced:
    def test_by_hand(self) -> None:
        """Slopes -4, -1, -1: s = -2, -1/2, -1/2."""
        method = selfpaced.build(facts(3), selfpaced.Options(warmup=10, window=20))
        omega_K = show(method, 10, ([5 - 4e-2 * s, 2 - 1e-2 * s, 2 - 1e-2 * s] for s in (0, 10, 20)))
        part_K = np.exp([-2, -0.5, -0.5]) / np.exp([-2, -0.5, -0.5]).sum()
        score_K = part_K * np.array([2, 0.5, 0.5])
        np.testing.assert_allclose(omega_K, even(np.exp(50 * score_K)), rtol=1e-2)
        np.testing.assert_allclose(method.numbers()["score"], score_K, rtol=1e-2)

    def test_a_task_slower_than_a_fast_one_gets_more_and_one_that_rises_least(self) -> None:
        method = selfpaced.build(facts(3), selfpaced.Options(warmup=10, window=20))
        weight_K = show(method, 10, ([5 - 3e-2 * s, 3 - 1e-2 * s, 2 + 1e-2 * s] for s in (0, 10, 20)))
        assert weight_K[1] > weight_K[0] > weight_K[2]


class TestDwa:
    OPTIONS = dwa.Options(window=20)

    def test_by_hand(self) -> None:
        """Looks every 10 steps, two a window: means of losses at steps 10, 20 and 30, 40."""
        method = dwa.build(facts(2), self.OPTIONS)
        omega_K = show(method, 10, [[9, 9], [4, 2], [2, 2], [1, 2], [1, 1]])
        np.testing.assert_allclose(method.numbers()["ratio"], [1 / 3, 1.5 / 2])
        np.testing.assert_allclose(omega_K, even(np.exp([1 / 6, 0.75 / 2])))

    def test_a_task_seen_every_third_look_has_the_same_ratio(self) -> None:
        """Both fall by 1 % a step; the seldom one's means lie a window and a half apart."""
        method = dwa.build(facts(2), self.OPTIONS)
        show(method, 10, ([0.99 ** (10 * n), 0.99 ** (10 * n) if n % 3 == 0 else math.nan] for n in range(7)))
        ratio_K = np.asarray(method.numbers()["ratio"])
        assert ratio_K[1] == pytest.approx(0.99**20)
        assert ratio_K[0] == pytest.approx(0.99**20)

    def test_even_until_there_are_two_windows(self) -> None:
        assert show(dwa.build(facts(2), self.OPTIONS), 10, [[9, 9], [4, 2], [2, 2], [1, 2]]).tolist() == [1, 1]


class TestFamo:
    def test_the_first_look_gives_one_over_the_loss(self) -> None:
        np.testing.assert_allclose(show(famo.build(facts(2), famo.Options()), 10, [[1.0, 4.0]]), even([1, 1 / 4]))

    def test_the_second_look_by_hand(self) -> None:
        """log losses fall by log 2 and 0: Jᵀd = ±log(2) / 4, and Adam's first step is lr."""
        method = famo.build(facts(2), famo.Options(gamma=0))
        omega_K = show(method, 10, [[4.0, 4.0], [2.0, 4.0]])
        np.testing.assert_allclose(method.numbers()["xi"], [-0.025, 0.025], rtol=1e-3)
        np.testing.assert_allclose(omega_K, even([math.exp(-0.025) / 2, math.exp(0.025) / 4]), rtol=1e-4)

    def test_a_task_that_lags_gains(self) -> None:
        method = famo.build(facts(2), famo.Options())
        show(method, 10, [[3 * 0.9**n, 3 * 0.99**n] for n in range(30)])
        z_K = np.asarray(method.numbers()["z"])
        assert z_K[1] > 2 * z_K[0]

    def test_a_task_that_was_away_falls_by_the_look(self) -> None:
        method = famo.build(facts(2), famo.Options())
        show(method, 10, [[8.0, 8.0], [4.0, math.nan], [2.0, math.nan], [1.0, 1.0]])
        np.testing.assert_allclose(method.numbers()["fell"], [math.log(2)] * 2)

    def test_decay_draws_back_to_even(self) -> None:
        losses = [[3 * 0.9 ** min(n, 20), 3.0] for n in range(60)]
        kept, drawn = (famo.build(facts(2), famo.Options(gamma=gamma)) for gamma in (0, 0.1))
        show(kept, 10, losses)
        show(drawn, 10, losses)
        assert np.ptp(np.asarray(drawn.numbers()["z"])) < np.ptp(np.asarray(kept.numbers()["z"]))


class TestGradNorm:
    def test_by_hand(self) -> None:
        """G = 3, 1, mean 2, both targets 2: w1 falls and w2 rises by lr · norm over the norms' mean."""
        method = gradnorm.build(facts(2), gradnorm.Options(lr=0.1))
        omega_K = show(method, 10, [[2.0, 1.0]], [3.0, 1.0])
        np.testing.assert_allclose(omega_K, even([1 - 0.1 * 1.5, 1 + 0.1 * 0.5]))

    def test_at_rest_every_task_pulls_the_same(self) -> None:
        method = gradnorm.build(facts(2), gradnorm.Options())
        weight_K = show(method, 10, [[2.0, 1.0]] * 400, [3.0, 1.0])
        np.testing.assert_allclose(weight_K * [3, 1], [1.5, 1.5], rtol=1e-6)

    def test_at_rest_a_task_that_lags_pulls_harder(self) -> None:
        """r = 0.5 and 1: targets as (2/3) ** 1.5 to (4/3) ** 1.5, which together are more than w may be: 3 % are left."""
        method = gradnorm.build(facts(2), gradnorm.Options())
        weight_K = show(method, 10, [[2.0, 1.0], *[[1.0, 1.0]] * 400], [1.0, 1.0])
        assert weight_K[1] / weight_K[0] == pytest.approx(2**1.5, rel=0.05)

    def test_it_does_not_depend_on_the_scale_of_the_gradients(self) -> None:
        losses = [[2 - n / 50, 2 - n / 500] for n in range(30)]
        small = show(gradnorm.build(facts(2), gradnorm.Options()), 10, losses, [1e-3, 3e-3])
        large = show(gradnorm.build(facts(2), gradnorm.Options()), 10, losses, [1e2, 3e2])
        np.testing.assert_allclose(small, large)

    def test_weights_stay_positive(self) -> None:
        weight_K = show(gradnorm.build(facts(3), gradnorm.Options(lr=5)), 10, [[1.0, 1.0, 1.0]] * 20, [1e4, 1.0, 1e-4])
        assert (weight_K > 0).all()


class TestUncertainty:
    def test_by_hand(self) -> None:
        """exp(s) starts at 1 and goes to 2 and 4 by 1 - exp(-lr · 5 steps) of the way."""
        method = uncertainty.build(facts(2), uncertainty.Options(lr=0.1))
        method.see_training(5, np.array([2.0, 4.0]))
        way = 1 - math.exp(-0.5)
        np.testing.assert_allclose(method.numbers()["s"], np.log([1 + way, 1 + 3 * way]))
        np.testing.assert_allclose(method.weights(), even([1 / (1 + way), 1 / (1 + 3 * way)]))

    def test_it_is_the_gradient_flow_of_its_objective(self) -> None:
        """Many small steps of descent on exp(-s) · loss + s lead to the same s."""
        method, s = uncertainty.build(facts(1), uncertainty.Options(lr=0.02)), 0.0
        for step, loss in enumerate([3.0, 2.5, 2.0, 2.2] * 20, 1):
            method.see_training(step, np.array([loss]))
            for _ in range(1000):
                s -= 0.02 / 1000 * (1 - math.exp(-s) * loss)
        assert np.asarray(method.numbers()["s"])[0] == pytest.approx(s, abs=1e-4)

    def test_at_rest_it_is_one_over_the_loss(self) -> None:
        method = uncertainty.build(facts(3), uncertainty.Options())
        for step in range(1, 1001):
            method.see_training(step, np.array([1.0, 2.0, 4.0 if step % 4 == 0 else math.nan]))
        np.testing.assert_allclose(method.weights(), even([1, 1 / 2, 1 / 4]), rtol=1e-6)


@pytest.mark.parametrize("room", [famo, gradnorm])
def test_a_frozen_task_no_longer_steers_the_others(room: Any) -> None:
    """A task that rose before it was frozen must not decide for ever what the others get."""
    tasks = TaskFacts(("slow", "fast", "gone"), np.ones(3), np.ones(3), 1000)
    free, frozen = (room.build(tasks, room.Options()) for _ in range(2))
    for n in range(120):
        loss_K = np.array([0.999**n, 0.996**n, np.nan])
        norm_K = np.array([1.0, 1.0, np.nan])
        free.see(Look(10 * n, loss_K, norm_K))
        if n < 20:
            loss_K, norm_K = np.array([*loss_K[:2], 1.05**n]), np.array([1.0, 1.0, 5.0])
            frozen.see(Look(10 * n, loss_K, norm_K))
        else:
            frozen.see(Look(10 * n, loss_K, norm_K, np.array([False, False, True])))
    gives = [method.numbers().get("z", method.weights()) for method in (free, frozen)]
    ratio = [float(give_K[0] / give_K[1]) for give_K in gives]
    assert ratio[0] > 1.3
    assert ratio[1] > 1.3, "the slow one has more, whatever the frozen one was like"
