"""Resolving fills every default that depends on the model's folder, and names all that is missing at once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from weft.config.load import from_mapping, load, to_yaml
from weft.config.resolve import resolve
from weft.config.settings import Settings
from weft.errors import ConfigError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model of 512 positions and two tasks, as the working folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text(json.dumps({"max_position_embeddings": 512}))
    (tmp_path / "sql").mkdir()
    (tmp_path / "chat.jsonl").write_text("")
    return tmp_path


def settings(**sections: object) -> Settings:
    base: dict[str, object] = {
        "model": {"base": "./m"},
        "tasks": {"sql": "sql", "chat": "chat.jsonl"},
        "output": "runs/x",
    }
    return from_mapping(base | sections)


def refused(**sections: object) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        resolve(settings(**sections))
    return str(caught.value).splitlines()


def test_nothing_is_left_open(here: Path) -> None:
    found = resolve(settings())
    assert found.data.max_tokens == 512
    assert (found.batch.tokens_per_step, found.batch.samples_per_step) == (65536, None)
    assert found.batch.tokens_per_micro_batch == 8192
    assert found.data.cache == Path("runs/.weft-cache")
    assert resolve(found) == found
    (here / "run.yaml").write_text(to_yaml(found))
    assert load("run.yaml") == found


def test_samples_per_step_leaves_tokens_per_step_unset(here: Path) -> None:
    found = resolve(settings(batch={"samples_per_step": 3}))
    assert (found.batch.tokens_per_step, found.batch.samples_per_step) == (None, 3)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"n_positions": 128}, 128),
        ({"max_position_embeddings": 100_000}, 4096),
        ({"text_config": {"max_position_embeddings": 64}}, 64),
        ({"max_position_embeddings": None}, 4096),
        ({}, 4096),
    ],
)
def test_the_longest_sample_is_4096_or_the_model_s_limit(here: Path, config: dict[str, object], expected: int) -> None:
    (here / "m" / "config.json").write_text(json.dumps(config))
    assert resolve(settings()).data.max_tokens == expected


def test_a_longer_sample_than_the_model_allows_is_refused_with_both_numbers(here: Path) -> None:
    assert resolve(settings(data={"max_tokens": 512})).data.max_tokens == 512
    (line,) = refused(data={"max_tokens": 513})
    assert "513" in line
    assert "512" in line


def test_a_batch_that_the_filled_in_default_does_not_fit_is_refused(here: Path) -> None:
    (line,) = refused(batch={"tokens_per_step": 100})
    assert line.startswith("batch.tokens_per_step: 100 is less than data.max_tokens 512")


def test_all_that_is_missing_is_told_at_once_with_close_names(here: Path) -> None:
    told = refused(model={"base": "./mm"}, tasks={"a": "sqll", "b": "far/away/x", "c": "sql"})
    assert told == [
        f"model.base: there is no ./mm (looked for {here}/mm); did you mean './m'?",
        f"tasks.a.path: there is no sqll (looked for {here}/sqll); did you mean 'sql'?",
        f"tasks.b.path: there is no far/away/x (looked for {here}/far/away/x); the path exists as far as {here}",
    ]


@pytest.mark.parametrize("base", ["/nowhere", "../none", "~/no-such-model-here", "a/b/c", "~"])
def test_what_looks_like_a_path_must_be_a_model(here: Path, base: str) -> None:
    assert refused(model={"base": base})[0].startswith("model.base: ")


@pytest.mark.parametrize("base", ["org/name", "gpt2"])
def test_a_name_on_the_hub_is_left_alone(here: Path, base: str) -> None:
    found = resolve(settings(model={"base": base}))
    assert (found.model.base, found.data.max_tokens) == (base, 4096)


@pytest.mark.parametrize(
    ("content", "expected"), [("{", "can't be read"), ("[]", "holds no JSON object"), (None, "holds no config.json")]
)
def test_a_broken_model_folder_is_refused(here: Path, content: str | None, expected: str) -> None:
    config = here / "m" / "config.json"
    config.unlink() if content is None else config.write_text(content)
    assert expected in refused()[0]


def test_a_model_that_is_a_file_is_refused(here: Path) -> None:
    assert "is a file" in refused(model={"base": "chat.jsonl"})[0]


def test_the_home_folder_is_expanded(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    found = resolve(settings(model={"base": "~/m"}, tasks={"a": "~/sql"}, output="~/runs/x"))
    assert (found.model.base, found.tasks["a"].path) == (f"{here}/m", f"{here}/sql")
    assert found.data.cache == here / "runs" / ".weft-cache"
