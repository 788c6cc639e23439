"""What a task's validations say of it, judged by numbers that are written down here."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest

from weft.report.evidence import trend
from weft.report.record import Freeze, Rows, Series, TaskRecord

EMPTY = Series(np.zeros(0), np.zeros(0))


def task(losses: Sequence[float], frozen: Freeze | None = None) -> TaskRecord:
    """A task with a validation every ten steps, the first before the run."""
    validation = Series(10.0 * np.arange(len(losses)), np.array(losses, dtype=np.float64))
    return TaskRecord("sums", EMPTY, EMPTY, EMPTY, validation, 100.0, EMPTY, EMPTY, frozen, Rows(0, 0, 0, 0, 0, 0))


@pytest.mark.parametrize("frozen", [None, Freeze(40, 40, 2.0)])
def test_nothing_is_said_of_a_task_whose_last_loss_is_not_finite(frozen: Freeze | None) -> None:
    found = trend(task([6, 5, 4, 3, 2, math.nan, math.nan], frozen))
    assert found.kind == "unknown"
    assert found.why == "it has no finite loss since step 50; the last one was 2.0000 at step 40"
    assert trend(task([math.nan] * 6)).why == "it has no finite loss since step 0"
    assert trend(task([6, 5, 4, 3, math.nan, 2])).kind == "falling"


def test_a_frozen_task_is_judged_up_to_the_step_at_which_it_was_frozen() -> None:
    found = trend(task([6, 5, 4, 4, 4, 3.5, 3.2, 3.0], Freeze(40, 20, 4.0)))
    assert (found.kind, found.best_step) == ("flat", 20)
    assert found.why == (
        "it was frozen at step 40 with a loss of 4.0000, its best being 4.0000 at step 20; "
        "from then on, without training, it went to 3.0000 at step 70"
    )
    at_the_end = trend(task([6, 5, 4, 4, 4.03], Freeze(40, 20, 4.0)))
    assert at_the_end.kind == "flat"
    assert "without training" not in at_the_end.why


def test_a_frozen_task_has_overfitted_only_where_its_loss_had_risen() -> None:
    found = trend(task([6, 5, 4, 4.2, 4.3, 3.5, 3.2], Freeze(40, 20, 4.0)))
    assert (found.kind, found.best_step) == ("overfits", 20)
    assert found.why == "its loss was best at step 20 (4.0000) and rose to 4.3000 at step 40; it was frozen"


def test_a_task_that_was_frozen_before_it_had_a_finite_loss_is_not_judged() -> None:
    found = trend(task([6, math.nan, math.nan, 5, 4, 3, 2], Freeze(20, 10, math.nan)))
    assert (found.kind, found.why) == ("unknown", "it had no finite loss until it was frozen")
