"""Each experiment runs from its command to its page, and finds its runs again."""

from __future__ import annotations

import json
from pathlib import Path

import even_convergence
import gradient_share
import packing
import pytest
import weighting

import weft


@pytest.fixture
def work(tmp_path: Path) -> list[str]:
    return ["--quick", "--seeds", "1", "--out", str(tmp_path / "out"), "--work", str(tmp_path / "work")]


def published(tmp_path: Path, name: str) -> tuple[dict[str, object], str]:
    assert (tmp_path / "out" / f"{name}.png").stat().st_size > 1000
    return json.loads((tmp_path / "out" / f"{name}.json").read_text()), (tmp_path / "out" / f"{name}.md").read_text()


@pytest.mark.slow
def test_packing_gives_equal_losses_and_a_page(tmp_path: Path, work: list[str]) -> None:
    packing.main(work)
    results, page = published(tmp_path, "packing")
    assert {"date", "hardware", "versions"} <= set(results["about"])
    for row in results["rows"]:
        assert packing.largest_difference(results, "padding", row) < 1e-5
        assert packing.largest_difference(results, "dynamic padding", row) < 1e-5
        ways = results["rows"][row]["ways"]
        assert packing.fill(ways["pack"][0]) == 1.0 > packing.fill(ways["padding"][0])
    assert "| padding" in page


@pytest.mark.slow
def test_wefts_share_is_half_and_the_local_one_is_not(tmp_path: Path, work: list[str]) -> None:
    gradient_share.main(work)
    results, page = published(tmp_path, "gradient_share")
    for samples in results["shares"].values():
        for size in gradient_share.MICRO_BATCHES:
            for who in ("exact", "weft"):
                shares = gradient_share.shares_of(samples, who, size, present_only=True)
                assert shares == pytest.approx([0.5] * len(shares), abs=1e-6)
        assert max(gradient_share.shares_of(samples, "local", 1, present_only=True)) < 0.4
    assert all(record["weft"][str(size)]["apart"] < 1e-5 for record in results["model"] for size in (1, 16))
    assert "0.500" in page


@pytest.mark.slow
def test_weighting_runs_every_method_and_is_resumed(
    tmp_path: Path, work: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("token mean", "task mean", "sample mean", "local 1")
    monkeypatch.setattr(weighting, "METHODS", {name: weighting.METHODS[name] for name in chosen})
    monkeypatch.setattr(weighting, "PLAIN", chosen)
    monkeypatch.setattr(weighting, "SIZES", {"extract": 12, "translate": 12})
    drawn = {"by": "trained_tokens", "weights": {"extract": 1.0, "translate": 1.0}}
    monkeypatch.setattr(weighting, "EVENLY", {"loss": {"weighting": "token"}, "mixture": drawn})
    monkeypatch.setattr(weighting, "VALIDATION", 6)
    weighting.main(work)
    results, page = published(tmp_path, "weighting")
    assert set(results["runs"]) == set(chosen)
    assert "| task mean" in page
    same = [results["runs"][name][0]["losses"] for name in ("sample mean", "local 1")]
    assert same[0]["translate"] == pytest.approx(same[1]["translate"], abs=1e-5)
    monkeypatch.setattr(weft, "train", lambda *_: pytest.fail("it is there already"))
    weighting.main(work)
    assert published(tmp_path, "weighting")[0]["runs"] == results["runs"]


@pytest.mark.slow
def test_even_convergence_runs(tmp_path: Path, work: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = ("task mean", "coba", "freezing coba")
    monkeypatch.setattr(even_convergence, "METHODS", {name: even_convergence.METHODS[name] for name in chosen})
    even_convergence.main(work)
    results, page = published(tmp_path, "even_convergence")
    assert set(results["runs"]) == set(chosen)
    assert "spread" in page
