"""The recipes that ship load, and copying one never costs a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from weft.config import recipes
from weft.config.load import load
from weft.errors import ConfigError


@pytest.mark.parametrize("name", recipes.names())
def test_a_recipe_loads_and_says_what_it_is_for(tmp_path: Path, name: str) -> None:
    file = recipes.copy(name, tmp_path / "new" / "folder")
    assert file.read_text(encoding="utf-8") == recipes.text(name)
    assert load(file).tasks
    assert recipes.summary(name).endswith(".")


def test_the_promised_recipes_ship() -> None:
    promised = {"minimal", "lora-multi-task", "full-fine-tune", "continue-pretraining", "small-gpu-or-cpu"}
    assert promised <= set(recipes.names())


def test_names_are_found_by_a_part_or_a_pattern() -> None:
    assert recipes.names("lora") == ["lora-multi-task"]
    assert recipes.names("*-fine-*") == ["full-fine-tune"]
    assert recipes.names("LORA*") == ["lora-multi-task"]
    assert recipes.names("zzz") == []


@pytest.mark.parametrize("name", ["minimall", "../settings", "", "minimal.yaml"])
def test_an_unknown_recipe_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="there is no recipe"):
        recipes.text(name)


def test_a_copy_never_overwrites(tmp_path: Path) -> None:
    (tmp_path / "minimal.yaml").write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        recipes.copy("minimal", tmp_path)
    assert (tmp_path / "minimal.yaml").read_text() == "mine"
    with pytest.raises(ConfigError, match="is a file, not a folder"):
        recipes.copy("minimal", tmp_path / "minimal.yaml")
