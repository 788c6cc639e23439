"""Mixtures and their stages: what can't be honoured together is told, all of it at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.config.load import from_mapping, load, to_yaml
from weft.config.settings import MixtureSettings, Settings
from weft.errors import ConfigError

Mapping = dict[str, Any]
WEIGHTS = {"sql": 1, "chat": 3}


def settings_of(mixture: Mapping, tasks: Mapping | None = None) -> Settings:
    return from_mapping(
        {"model": {"base": "m"}, "tasks": tasks or {"sql": "a", "chat": "b"}, "output": "o", "mixture": mixture}
    )


def faults(mixture: Mapping, tasks: Mapping | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings_of(mixture, tasks)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    "mixture",
    [
        {},
        {"by": "temperature", "temperature": 5},
        {"by": "weight", "weights": WEIGHTS},
        {"by": "trained_tokens", "weights": WEIGHTS, "epochs": 0.5},
        {"stages": [{}]},
        {
            "stages": [
                {"by": "trained_tokens", "weights": {"sql": 1}},
                {"by": "weight", "weights": {"chat": 1, "sql": 0}},
            ]
        },
        {"stages": [{"by": "temperature", "temperature": 3}, {"by": "weight", "weights": {"sql": 1}}], "max_steps": 7},
    ],
)
def test_a_mixture_that_can_be_honoured_is_taken_and_survives_being_written(mixture: Mapping, tmp_path: Path) -> None:
    settings = settings_of(mixture)
    file = tmp_path / "written.yaml"
    file.write_text(to_yaml(settings), "utf-8")
    assert load(file) == settings


@pytest.mark.parametrize("by", ["weight", "trained_tokens"])
def test_shares_need_a_weight_for_every_task(by: str) -> None:
    told = "mixture.weights: no weight for chat; by: " + by + " needs one above 0 for every task"
    assert faults({"by": by, "weights": {"sql": 1}}) == [told]
    assert faults({"by": by, "weights": {"sql": 1, "chat": 0}}) == [told]


@pytest.mark.parametrize("by", ["rows", "temperature"])
def test_weights_without_an_effect_are_refused(by: str) -> None:
    told = f"weights: has no effect with by: {by}; set by: weight or by: trained_tokens"
    assert faults({"by": by, "weights": WEIGHTS}) == [f"mixture.{told}"]
    assert faults({"stages": [{}, {"by": by, "weights": WEIGHTS}]}) == [f"mixture.stages: stage 2: {told}"]


@pytest.mark.parametrize("by", ["rows", "weight", "trained_tokens"])
def test_a_temperature_without_an_effect_is_refused(by: str) -> None:
    mixture = {"by": by, "temperature": 5, **({"weights": WEIGHTS} if by != "rows" else {})}
    told = f"temperature: has no effect with by: {by}; set by: temperature"
    assert faults(mixture) == [f"mixture.{told}"]
    assert faults({"stages": [mixture]}) == [f"mixture.stages: stage 1: {told}"]


@pytest.mark.parametrize("name", ["a", "not-a-task"])
@pytest.mark.parametrize("by", ["weight", "trained_tokens"])
def test_a_weight_of_no_task_is_refused(name: str, by: str) -> None:
    mixture = {"by": by, "weights": {**WEIGHTS, name: 2}}
    told = f"weights.{name}: there is no such task; the tasks are sql, chat"
    assert faults(mixture) == [f"mixture.{told}"]
    assert faults({"stages": [{}, {}, mixture]}) == [f"mixture.stages: stage 3: {told}"]


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan")])
def test_a_weight_that_is_no_share_is_refused(weight: float) -> None:
    mixture = {"by": "weight", "weights": {"sql": weight, "chat": 1}}
    assert f"mixture.weights.sql: {weight} is not a positive number" in faults(mixture)
    assert f"mixture.stages: stage 1: weights.sql: {weight} is not a positive number" in faults({"stages": [mixture]})


def test_a_stage_that_draws_nothing_is_refused() -> None:
    stages = [{}, {"by": "weight"}, {"by": "trained_tokens", "weights": {"sql": 0}}]
    assert faults({"stages": stages}) == [
        "mixture.stages: stage 2: weights: by: weight needs a positive one",
        "mixture.stages: stage 3: weights: by: trained_tokens needs a positive one",
    ]


def test_a_task_that_no_stage_draws_is_named() -> None:
    by_weight = {"by": "weight", "weights": {"sql": 1, "chat": 0}}
    stages = [by_weight, {"by": "trained_tokens", "weights": {"sql": 1}}]
    told = (
        "tasks.chat: has no weight in any of mixture.stages, so it would never be seen; give it one, or remove the task"
    )
    assert faults({"stages": stages}) == [told]
    settings_of({"stages": [*stages, {"by": "rows"}]})


@pytest.mark.parametrize(
    ("name", "value"), [("by", "temperature"), ("epochs", 2.0), ("temperature", 3.0), ("weights", WEIGHTS)]
)
def test_what_each_stage_says_is_not_said_for_all_too(name: str, value: object) -> None:
    assert faults({"stages": [{}], name: value}) == [
        f"mixture.{name}: is set beside mixture.stages; set it in each stage instead"
    ]


@pytest.mark.parametrize(
    ("mixture", "now"),
    [
        ({"stages": [{}]}, "mixture.stages"),
        ({"by": "temperature"}, "mixture.by: temperature"),
        ({"by": "trained_tokens", "weights": WEIGHTS}, "mixture.by: trained_tokens"),
    ],
)
def test_a_tasks_own_epochs_need_a_mixture_by_rows(mixture: Mapping, now: str) -> None:
    tasks = {"sql": {"path": "a", "epochs": 2}, "chat": "b"}
    assert faults(mixture, tasks) == [f"tasks.sql.epochs: has no effect with {now}; use mixture.by: rows"]
    settings_of({}, tasks)


@given(
    stages=st.lists(
        st.fixed_dictionaries(
            {"by": st.sampled_from(["rows", "weight", "temperature", "trained_tokens"])},
            optional={
                "weights": st.dictionaries(st.sampled_from(["sql", "chat", "x"]), st.floats(-1, 3)),
                "epochs": st.floats(0.1, 3),
                "temperature": st.floats(1, 4),
            },
        ),
        max_size=3,
    )
)
def test_any_stages_are_taken_or_refused_in_words(stages: list[Mapping]) -> None:
    told, mixture = "", MixtureSettings()
    try:
        mixture = settings_of({"stages": stages}).mixture
    except ConfigError as error:
        told = str(error)
    assert all(line.startswith(("mixture.stages: stage ", "tasks.")) for line in told.splitlines())
    assert told or len(mixture.stages) == len(stages)
    assert all(stage.by in ("rows", "temperature") or any(stage.weights.values()) for stage in mixture.stages)


def test_what_is_wrong_inside_a_stage_is_told_at_its_place() -> None:
    told = faults({"stages": [{"by": "weight", "wieghts": WEIGHTS}, {"epochs": -1}]})
    assert told == [
        "mixture.stages.0.wieghts: there is no such setting; did you mean 'weights'?",
        "mixture.stages.1.epochs: -1 is not a number (above 0)",
    ]
