"""The statistics of the experiments, against textbooks and against sampling."""

from __future__ import annotations

import math
from pathlib import Path

import common
import numpy as np
import pytest


@pytest.mark.parametrize(
    ("degrees", "quantile"),
    [(1, 12.706), (2, 4.303), (5, 2.571), (10, 2.228), (11, 2.201), (15, 2.131), (30, 2.042), (120, 1.980)],
)
def test_quantiles_of_t_are_those_of_the_tables(degrees: int, quantile: float) -> None:
    assert common.t_quantile(degrees) == pytest.approx(quantile, abs=6e-4)


def test_an_interval_by_hand() -> None:
    found = common.estimate([1.0, 2.0, 6.0])
    assert found.mean == pytest.approx(3.0)
    assert found.half == pytest.approx(4.3027 * math.sqrt(7.0 / 3.0), rel=1e-4)
    assert found.sign == 0
    assert common.estimate([2.0]).half is None
    assert common.estimate([2.0]).sign == 0, "one value shows nothing"


def test_intervals_cover_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(3)
    found = [common.estimate(rng.normal(5, 2, 3).tolist()) for _ in range(4000)]
    covered = np.mean([abs(f.mean - 5) <= (f.half or 0) for f in found])
    assert covered == pytest.approx(0.95, abs=0.012)


def test_pairing_takes_out_what_the_seeds_share() -> None:
    reference = [1.0, 5.0, 9.0]
    found = common.paired([v - 0.5 + e for v, e in zip(reference, (0.01, 0.0, -0.01), strict=True)], reference)
    assert found.mean == pytest.approx(-0.5)
    assert found.sign == -1
    with pytest.raises(ValueError, match="zip"):
        common.paired([1.0], reference)


def test_verdicts_name_everyone_once() -> None:
    values = {"a": [-1.0, -1.01], "b": [1.0, 1.01], "c": [-1.0, 1.0], "d": [2.0]}
    found = {name: common.estimate(few) for name, few in values.items()}
    assert common.verdicts(found, "x", "Loss").splitlines() == [
        "- Loss, better than x: a.",
        "- Loss, worse than x: b.",
        "- Loss, not to be told apart from x: c, d.",
    ]


def test_rows_that_changed_are_never_taken_for_those_of_kept_runs(tmp_path: Path) -> None:
    paths = common.write_tasks(tmp_path / "tasks", {"signed": 3, "sql": 2})
    texts = {task: Path(path).read_text() for task, path in paths.items()}
    assert [text.count("\n") for text in texts.values()] == [3, 2]
    assert common.write_tasks(tmp_path / "tasks", {"signed": 3, "sql": 2}) == paths
    Path(paths["sql"]).write_text("{}\n")
    with pytest.raises(ValueError, match=r"sql.jsonl: the rows are drawn otherwise"):
        common.write_tasks(tmp_path / "tasks", {"sql": 2})


def test_kept_values_are_made_once(tmp_path: Path) -> None:
    place = tmp_path / "x" / "y.json"
    assert common.kept(place, lambda: [1]) == [1]
    assert common.kept(place, lambda: pytest.fail("it is there")) == [1]


def test_a_curve_knows_last_best_and_worst() -> None:
    curve = common.Curve((0, 5, 10), {"a": (9.0, 1.0, 2.0), "b": (0.1, 4.0, 3.0)})
    assert curve.last == {"a": 2.0, "b": 3.0}
    assert curve.best == {"a": 1.0, "b": 3.0}, "the base model is no result of a run"
    assert curve.best_step == {"a": 5, "b": 10}
    assert (curve.macro, curve.best_macro, curve.worst) == (2.5, 2.5, 3.0)
    assert common.Curve.of_json(curve.as_json()) == curve
