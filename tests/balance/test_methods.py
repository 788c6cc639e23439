"""Every file of the balancers' folder keeps to what a method must do: one that lies there is tested."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.balance import conformance
from tests.balance.conformance import Make
from weft import plugins
from weft.balance.method import Method, TaskFacts
from weft.types import JsonObject

PACKAGE = "weft.balance.balancers"
NAMES = plugins.names(PACKAGE)
ODD = conformance.odd_stories()


def _a_record(tasks: TaskFacts, folder: Path) -> JsonObject:
    """A run of these tasks whose weights moved twice."""
    lines = [
        {"step": step, "weights": {name: float(1 + (step + 7 * k) % 3) for k, name in enumerate(sorted(tasks.names))}}
        for step in (0, 150, 400)
    ]
    (folder / "balance.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return {"record": str(folder)}


EXAMPLES: dict[str, Callable[[TaskFacts, Path], JsonObject]] = {"replay": _a_record}
"""Options of a method that can't do without."""

IGNORES_OWN_WEIGHT = ("uniform", "replay")

SELDOM = {"coba": (0.25, 0.01), "famo": (0.17, 0.03), "selfpaced": (1.8, 0.02)}
"""How far off a seldom seen task's weight may be (as a logarithm), and how far on the whole. coba is off while a curve bends, selfpaced
spreads its scores by 50, famo is late by the looks that it lacks."""

STANDING = {"selfpaced": 0.1}
"""How far rounding of losses that stand still may move a weight."""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(name: str, tmp_path: Path) -> Make:
    def make(tasks: TaskFacts) -> Method:
        options = EXAMPLES[name](tasks, tmp_path) if name in EXAMPLES else {}
        kind = plugins.find(PACKAGE, name, "Options", "balance.method")
        method: Method = plugins.find(PACKAGE, name, "build", "balance.method")(tasks, kind.model_validate(options))
        return method

    return make


@pytest.mark.parametrize("story", ODD)
def test_every_number_is_finite_whatever_is_shown(make: Make, story: str) -> None:
    conformance.check_finite(make, ODD[story])


def test_a_resumed_method_goes_on_bit_by_bit(make: Make) -> None:
    conformance.check_resume(make)


def test_a_seldom_seen_task_is_acted_on_as_one_that_is_always_seen(name: str, make: Make) -> None:
    conformance.check_seldom(make, *SELDOM.get(name, (0.05, 0.01)))


def test_rounding_of_the_losses_moves_no_weight(make: Make) -> None:
    conformance.check_cut(make, conformance.smooth())
    conformance.check_cut(make, conformance.with_holes(conformance.smooth(), 0.3))


def test_rounding_is_not_taken_for_a_trend(name: str, make: Make) -> None:
    conformance.check_cut(make, ODD["losses stand still"], STANDING.get(name, 5e-3))


def test_the_order_of_the_tasks_does_not_matter(make: Make) -> None:
    conformance.check_order(make)


def test_a_task_s_own_weight_is_a_factor(name: str, make: Make) -> None:
    if name in IGNORES_OWN_WEIGHT:
        with pytest.raises(AssertionError, match="is not a factor"):
            conformance.check_own_weight(make)
    else:
        conformance.check_own_weight(make)


def test_what_a_method_does_not_want_it_does_not_use(make: Make) -> None:
    conformance.check_wants(make)


def test_one_task_keeps_its_weight(make: Make) -> None:
    story = ODD["one task"]
    weights = np.array(list(conformance.run(make(conformance.facts(1)), story)))
    assert np.allclose(weights, weights[0])


def test_a_method_says_what_it_does(make: Make) -> None:
    method = make(conformance.facts(3))
    assert 0 < len(method.formula) <= 80
    assert method.wants in ("nothing", "losses", "gradients")
