"""What every balancing method must keep to, each as a check that takes how to make one. Suffixes: K tasks, N looks."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from weft.balance.method import Floats, Look, Method, TaskFacts
from weft.types import JsonObject

Make = Callable[[TaskFacts], Method]

NUM_STEPS = 1000
EVERY = 10
START = 200
"""From this step on, a seldom seen task is compared: methods that wait for a history have one."""


class Story(NamedTuple):
    """What a run shows: a look every EVERY steps, from step 0."""

    loss_NK: Floats
    norm_NK: Floats


def facts(num_tasks: int, weight_K: Floats | None = None) -> TaskFacts:
    return TaskFacts(
        names=tuple(f"task{k}" for k in range(num_tasks)),
        weight_K=np.ones(num_tasks) if weight_K is None else weight_K,
        trained_K=1000.0 * (1 + np.arange(num_tasks) % 5),
        num_steps=NUM_STEPS,
    )


def smooth(num_looks: int = 101, shapes: str = "fast slow late") -> Story:
    """Losses and gradient norms on smooth curves, one task a word."""
    part_N = np.arange(num_looks) * EVERY / NUM_STEPS
    curves = {
        "fast": 0.8 + 2.2 * np.exp(-5 * part_N),
        "slow": 1.5 + 1.0 * np.exp(-1.2 * part_N),
        "line": 2.4 - 0.9 * part_N,
        "late": 2.0 - 1.2 / (1 + np.exp(-12 * (part_N - 0.5))),
        "over": 1.2 + 1.3 * np.exp(-6 * part_N) + 0.5 * part_N**2,
        "wave": 1.8 - 0.8 * part_N + 0.05 * np.sin(9 * part_N),
    }
    loss_NK = np.stack([curves[word] for word in shapes.split()], axis=1)
    return Story(loss_NK, 0.3 + 0.5 * loss_NK)


def run(method: Method, story: Story, first: int = 0, seen_NK: Floats | None = None) -> Iterator[Floats]:
    """The weights after each look from number `first` on; between two looks every step is seen, with the losses of the look that follows.

    `seen_NK` 1: the task is in the look, and in the training step of the same number.
    """
    for n in range(first, len(story.loss_NK)):
        if n:
            for step in range((n - 1) * EVERY + 1, n * EVERY + 1):
                seen_K = np.ones(story.loss_NK.shape[1]) if seen_NK is None else seen_NK[step % len(seen_NK)]
                method.see_training(step, np.where(seen_K > 0, story.loss_NK[n], np.nan))
        seen_K = np.ones(story.loss_NK.shape[1]) if seen_NK is None or not n else seen_NK[n]
        method.see(
            Look(
                n * EVERY,
                np.where(seen_K > 0, story.loss_NK[n], np.nan),
                np.where(seen_K > 0, story.norm_NK[n], np.nan),
            )
        )
        yield method.weights()


def with_holes(story: Story, share: float, seed: int = 3) -> Story:
    """As `story`, but each entry of each look is missing with that chance."""
    holes_NK = np.random.default_rng(seed).random(story.loss_NK.shape) < share
    return Story(np.where(holes_NK, np.nan, story.loss_NK), np.where(holes_NK, np.nan, story.norm_NK))


def odd_stories() -> dict[str, Story]:
    """What no method may stumble over."""
    rng = np.random.default_rng(7)
    plain = smooth(40)
    absent_K = np.array([1.0, np.nan, 1.0])
    broken_NK = np.where(rng.random((40, 3)) < 0.3, rng.choice([np.nan, np.inf, -np.inf, 1e300, -1.0], (40, 3)), 1.0)
    jumps_NK = np.exp(rng.normal(0, 3, (40, 3)))
    many_NK = 1 + rng.random((20, 500)) + np.linspace(1, 0, 20)[:, None]
    empty_N = np.where(np.arange(40) % 3 == 1, np.nan, 1.0)[:, None]
    return {
        "a task is never there": Story(plain.loss_NK * absent_K, plain.norm_NK * absent_K),
        "no task is ever there": Story(plain.loss_NK * np.nan, plain.norm_NK * np.nan),
        "numbers that are none": Story(plain.loss_NK * broken_NK, plain.norm_NK * broken_NK),
        "zero from the start": Story(np.zeros((40, 3)), plain.norm_NK),
        "zero in the end": Story(np.maximum(plain.loss_NK - 2, 0), plain.norm_NK),
        "losses stand still": Story(np.full((40, 3), 1.7), np.full((40, 3), 0.4)),
        "losses jump": Story(jumps_NK, jumps_NK[::-1]),
        "losses explode": Story(plain.loss_NK * np.exp(np.arange(40.0))[:, None], plain.norm_NK),
        "one task": Story(plain.loss_NK[:, :1], plain.norm_NK[:, :1]),
        "500 tasks": Story(many_NK, many_NK),
        "500 tasks in turns": with_holes(Story(many_NK, many_NK), 0.9),
        "empty looks": Story(plain.loss_NK * empty_N, plain.norm_NK * empty_N),
        "no gradient": Story(plain.loss_NK, np.zeros((40, 3))),
        "gradients but no losses": Story(plain.loss_NK * np.nan, plain.norm_NK),
    }


def check_finite(make: Make, story: Story) -> None:
    """Weights are finite, at least 0 and not all 0; the formula's parts are finite; the state is JSON without NaN."""
    num_tasks = story.loss_NK.shape[1]
    method = make(facts(num_tasks))
    _assert_sound(method, method.weights(), num_tasks)
    for weight_K in run(method, story):
        _assert_sound(method, weight_K, num_tasks)
    json.dumps(method.state(), allow_nan=False)


def _assert_sound(method: Method, weight_K: Floats, num_tasks: int) -> None:
    assert weight_K.shape == (num_tasks,)
    assert np.isfinite(weight_K).all(), "a weight is not finite"
    assert (weight_K >= 0).all()
    assert (weight_K > 0).any(), "all weights are 0"
    numbers: Mapping[str, float | Floats] = method.numbers()
    for name, value in numbers.items():
        assert isinstance(value, float) or value.shape == (num_tasks,), name
        assert np.isfinite(value).all(), f"{name} is not finite"


def check_resume(make: Make) -> None:
    """State taken at any point and loaded in a fresh method goes on with the same weights, bit by bit."""
    story = with_holes(smooth(40), 0.4)
    whole, states = make(facts(3)), []
    expected = []
    for weight_K in run(whole, story):
        expected.append(weight_K.copy())
        states.append(json.dumps(whole.state(), allow_nan=False))
    for n, state in enumerate(states):
        resumed = make(facts(3))
        resumed.load_state(json.loads(state))
        found = [resumed.weights().copy(), *(weight_K.copy() for weight_K in run(resumed, story, n + 1))]
        np.testing.assert_array_equal(found, expected[n:], f"not the same after a resume at look {n}")
        assert _same(resumed.numbers(), whole.numbers()), f"other numbers after a resume at look {n}"
    fresh = make(facts(3))
    fresh.load_state({})
    np.testing.assert_array_equal(list(run(fresh, story)), expected, "an empty state is not a fresh start")


def _same(one: Mapping[str, float | Floats], other: Mapping[str, float | Floats]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def check_seldom(make: Make, most: float, bias: float) -> None:
    """A task in a quarter of the looks is acted on as one in all: never further off than `most`, and on the whole not below or above.

    Both are logarithms of its share of the weights over the share that it has where it is seen always; the other tasks are seen always.
    """
    log_N: list[float] = []
    for shapes in ("fast slow late", "line over wave", "slow slow slow"):
        story = smooth(101, shapes)
        always_NK = _shares(make, story, np.ones(story.loss_NK.shape))
        for task in range(3):
            for phase in range(4):
                seen_NK = np.ones(story.loss_NK.shape)
                seen_NK[:, task] = np.arange(len(seen_NK)) % 4 == phase
                share_N = _shares(make, story, seen_NK)[:, task]
                log_N += np.log(np.maximum(share_N / always_NK[:, task], 1e-30)).tolist()
    furthest, mean = float(np.abs(log_N).max()), float(np.mean(log_N))
    assert furthest <= most, f"a seldom seen task's weight is off by a factor of e^{furthest:.3f}"
    assert abs(mean) <= bias, f"a seldom seen task's weight is off by {mean:+.2%} on the whole"


def _shares(make: Make, story: Story, seen_NK: Floats) -> Floats:
    """The tasks' shares of the weights after each look from START on."""
    weight_NK = np.array(list(run(make(facts(3)), story, seen_NK=seen_NK)))[START // EVERY :]
    share_NK: Floats = weight_NK / weight_NK.sum(axis=1, keepdims=True)
    return share_NK


def check_cut(make: Make, story: Story, most: float = 1e-4) -> None:
    """Losses that differ by rounding, as those of another cut of the batch do, give the same weights but for rounding."""
    rng = np.random.default_rng(11)
    noise_NK = 1 + 1e-7 * rng.uniform(-1, 1, story.loss_NK.shape)
    num_tasks = story.loss_NK.shape[1]
    plain = list(run(make(facts(num_tasks)), story))
    rounded = list(run(make(facts(num_tasks)), Story(story.loss_NK * noise_NK, story.norm_NK * noise_NK)))
    furthest = float(np.abs(np.array(plain) - np.array(rounded)).max())
    assert furthest <= most, f"rounding moved a weight by {furthest:.1e}"


def check_order(make: Make) -> None:
    """The order of the tasks doesn't matter."""
    order = np.array([2, 0, 1])
    tasks, story = facts(3), with_holes(smooth(), 0.3)
    turned = replace(
        tasks,
        names=tuple(tasks.names[k] for k in order),
        weight_K=tasks.weight_K[order],
        trained_K=tasks.trained_K[order],
    )
    there = list(run(make(turned), Story(story.loss_NK[:, order], story.norm_NK[:, order])))
    here = [weight_K[order] for weight_K in run(make(tasks), story)]
    np.testing.assert_allclose(there, here, rtol=1e-7, err_msg="the order of the tasks matters")


def check_own_weight(make: Make) -> None:
    """A task's own weight is a factor of what the method gives it."""
    own_K = np.array([1.0, 3.0, 0.5])
    even = list(run(make(facts(3)), smooth()))
    own = list(run(make(facts(3, own_K)), smooth()))
    np.testing.assert_allclose(own, np.array(even) * own_K, rtol=1e-9, err_msg="tasks.NAME.weight is not a factor")


def check_wants(make: Make) -> None:
    """What a method doesn't want, it doesn't look at: it is not there."""
    story = smooth()
    method = make(facts(3))
    nothing_NK = np.full(story.loss_NK.shape, np.nan)
    shown = {"nothing": Story(nothing_NK, nothing_NK), "losses": Story(story.loss_NK, nothing_NK), "gradients": story}
    full, wanted = make(facts(3)), make(facts(3))
    for n in range(len(story.loss_NK)):
        for each, told in ((full, story), (wanted, shown[method.wants])):
            each.see_training(n, story.loss_NK[n])
            each.see(Look(n * EVERY, told.loss_NK[n], told.norm_NK[n]))
        np.testing.assert_array_equal(full.weights(), wanted.weights(), f"it wants {method.wants}, and uses more")


def state_without(method: Method, key: str) -> JsonObject:
    """A method's state with one field lost."""
    return {name: value for name, value in method.state().items() if name != key}
