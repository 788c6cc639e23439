"""Break what each conformance check protects, one thing at a time, and see it fail: a check that can't fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from tests.balance import conformance
from weft.balance.balancers import coba, dwa, famo, gradnorm, selfpaced, uncertainty
from weft.balance.balancers._curves import Curves
from weft.balance.method import Floats, Look, Method, TaskFacts, Wants
from weft.types import JsonObject


class Broken:
    """A method with one thing changed; all else is the method's own."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.wants: Wants = method.wants
        self.formula = method.formula

    def weights(self) -> Floats:
        return self.method.weights()

    def see(self, look: Look) -> None:
        self.method.see(look)

    def see_training(self, step: int, loss_K: Floats) -> None:
        self.method.see_training(step, loss_K)

    def numbers(self) -> Mapping[str, float | Floats]:
        return self.method.numbers()

    def state(self) -> JsonObject:
        return self.method.state()

    def load_state(self, state: JsonObject) -> None:
        self.method.load_state(state)


def make_coba(tasks: TaskFacts) -> Method:
    return coba.build(tasks, coba.Options())


def make_dwa(tasks: TaskFacts) -> Method:
    return dwa.build(tasks, dwa.Options())


class Forgetful(Broken):
    lost = ""

    def state(self) -> JsonObject:
        return conformance.state_without(self.method, self.lost)


WITH_STATE: dict[str, Callable[[TaskFacts], Method]] = {
    "coba": make_coba,
    "dwa": make_dwa,
    "famo": lambda tasks: famo.build(tasks, famo.Options()),
    "gradnorm": lambda tasks: gradnorm.build(tasks, gradnorm.Options()),
    "selfpaced": lambda tasks: selfpaced.build(tasks, selfpaced.Options()),
    "uncertainty": lambda tasks: uncertainty.build(tasks, uncertainty.Options()),
}


@pytest.mark.parametrize(
    ("name", "lost"),
    [(name, key) for name, make in WITH_STATE.items() for key in make(conformance.facts(3)).state()],
)
def test_any_field_lost_from_any_state_is_seen(name: str, lost: str) -> None:
    def forgetful(tasks: TaskFacts) -> Method:
        method = Forgetful(WITH_STATE[name](tasks))
        method.lost = lost
        return method

    with pytest.raises(AssertionError, match="after a resume"):
        conformance.check_resume(forgetful)


def test_a_state_that_loads_nothing_afresh_is_seen() -> None:
    class Absent(Broken):
        def load_state(self, state: JsonObject) -> None:
            self.method.load_state(state or {"ratio": [1.0, 2.0, 3.0]})

    with pytest.raises(AssertionError, match="not a fresh start"):
        conformance.check_resume(lambda tasks: Absent(make_dwa(tasks)))


def test_nan_in_a_state_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coba, "pack", lambda value_K: value_K.tolist())
    with pytest.raises(ValueError, match="not JSON compliant"):
        conformance.check_resume(make_coba)


def test_observations_paired_by_their_number_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What MFTCoder does: the n-th value that a task has is taken for the value of look n."""
    honest = Curves.points

    def by_number(self: Curves, task: int, step: int) -> object:
        points = honest(self, task, step)
        return points and points._replace(
            step_N=step - conformance.EVERY * np.arange(len(points.step_N))[::-1].astype(float)
        )

    monkeypatch.setattr(Curves, "points", by_number)
    with pytest.raises(AssertionError, match="a seldom seen task's weight is off"):
        conformance.check_seldom(make_coba, 0.25, 0.01)


def test_a_bias_against_seldom_seen_tasks_is_seen() -> None:
    class Biased(Broken):
        """Weighs what is not in a look 5 % lower: less than any one weight may be off."""

        def see(self, look: Look) -> None:
            self.absent_K = np.isnan(look.loss_K)
            self.method.see(look)

        def weights(self) -> Floats:
            return self.method.weights() * np.where(self.absent_K, 0.95, 1.0)

    with pytest.raises(AssertionError, match="on the whole"):
        conformance.check_seldom(lambda tasks: Biased(make_dwa(tasks)), 0.25, 0.01)


def test_a_softmax_that_nan_spreads_through_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coba, "softmax", lambda score_K: np.exp(score_K) / np.exp(score_K).sum())
    with pytest.raises(AssertionError, match="RCS is not finite"):
        conformance.check_finite(make_coba, conformance.odd_stories()["a task is never there"])


def test_an_absent_task_s_nan_is_seen() -> None:
    class Raw(Broken):
        def see(self, look: Look) -> None:
            self.loss_K = look.loss_K

        def weights(self) -> Floats:
            return getattr(self, "loss_K", np.ones(3))

    with pytest.raises(AssertionError, match="not finite"):
        conformance.check_finite(lambda tasks: Raw(make_dwa(tasks)), conformance.odd_stories()["a task is never there"])


def test_weights_that_are_all_zero_are_seen() -> None:
    class Nothing(Broken):
        def weights(self) -> Floats:
            return self.method.weights() * 0

    with pytest.raises(AssertionError, match="all weights are 0"):
        conformance.check_finite(lambda tasks: Nothing(make_dwa(tasks)), conformance.smooth())


def test_a_part_of_the_formula_that_is_nan_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coba, "told", lambda value_K: value_K)
    with pytest.raises(AssertionError, match="alpha is not finite"):
        conformance.check_finite(make_coba, conformance.odd_stories()["a task is never there"])


def test_rounding_scaled_up_to_a_slope_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coba, "STILL", 1e-30)
    with pytest.raises(AssertionError, match="rounding moved a weight"):
        conformance.check_cut(make_coba, conformance.odd_stories()["losses stand still"], most=5e-3)


def test_a_threshold_that_rounding_can_cross_is_seen() -> None:
    class Steep(Broken):
        def weights(self) -> Floats:
            return np.exp(1e4 * self.method.weights() - 1e4)

    with pytest.raises(AssertionError, match="rounding moved a weight"):
        conformance.check_cut(lambda tasks: Steep(make_dwa(tasks)), conformance.smooth())


def test_an_order_of_the_tasks_is_seen() -> None:
    class FirstOnly(Broken):
        def weights(self) -> Floats:
            weight_K = self.method.weights()
            return weight_K / weight_K[0]

    with pytest.raises(AssertionError, match="the order of the tasks matters"):
        conformance.check_order(lambda tasks: FirstOnly(make_coba(tasks)))


def test_a_lost_weight_of_the_task_s_own_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = coba.weighted
    monkeypatch.setattr(coba, "weighted", lambda tasks, omega_K: honest(conformance.facts(len(omega_K)), omega_K))
    with pytest.raises(AssertionError, match="is not a factor"):
        conformance.check_own_weight(make_coba)


def test_a_method_that_says_it_wants_less_is_seen() -> None:
    class Modest(Broken):
        def __init__(self, method: Method) -> None:
            super().__init__(method)
            self.wants = "losses"

    with pytest.raises(AssertionError, match="and uses more"):
        conformance.check_wants(lambda tasks: Modest(WITH_STATE["gradnorm"](tasks)))
