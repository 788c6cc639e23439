"""What can be opened, and what is said where it can't."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from weft.config.settings import Settings
from weft.errors import CheckpointError, ModelError
from weft.generation.batch import generate
from weft.generation.decoding import Decoding
from weft.generation.model import open_model
from weft.types import Message

ASKED = [[Message("user", "What is red?")], [Message("user", "1+1")]]
SIX = Decoding(max_new_tokens=6)


def test_a_run_its_final_folder_and_a_bare_adapter_answer_alike(lora_run: Settings, tmp_path: Path) -> None:
    run = lora_run.output
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(run / "final" / name, bare / name)
    answers = [generate(open_model(place), ASKED, SIX) for place in (run, run / "final", bare)]
    assert answers[0] == answers[1] == answers[2]
    base = generate(open_model(lora_run.model.base), ASKED, SIX)
    assert base != answers[0]


def test_the_template_of_training_is_known_to_the_result(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from tests.generation.runs import train_small
    from weft.data.about import read_about

    file = tmp_path / "own.jinja"
    file.write_text(
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant] {% endif %}"
    )
    settings = train_small(model_folder("llama"), tmp_path, template=str(file), mixture={"epochs": 1})
    file.unlink()
    loaded = open_model(settings.output)
    assert loaded.template.jinja().startswith("{% for m in messages %}[")
    about = read_about(settings.output / "final")
    assert about is not None
    assert about.template.name == "tokenizer"


def test_an_auto_template_is_written_down_by_its_name(lora_run: Settings, model_folder: Callable[[str], Path]) -> None:
    assert json.loads((lora_run.output / "final" / "weft.json").read_text())["template"]["name"] == "mftcoder"
    assert open_model(lora_run.output).template.name == "mftcoder"
    assert open_model(model_folder("llama")).template.name == "mftcoder"


def test_a_missing_base_is_asked_for(lora_run: Settings, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    shutil.copytree(lora_run.output / "final", adapter)
    (adapter / "manifest.json").unlink()
    config = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**config, "base_model_name_or_path": "/gone/base"}))
    with pytest.raises(ModelError, match=r"/gone/base is not there.*--base"):
        open_model(adapter)
    with pytest.raises(ModelError, match=r"--base /also/gone is not there"):
        open_model(adapter, base="/also/gone")
    assert generate(open_model(adapter, base=lora_run.model.base), ASKED, SIX) == generate(
        open_model(lora_run.output), ASKED, SIX
    )


def test_an_unfinished_run_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"not finished.*weft train"):
        open_model(tmp_path)


def test_a_damaged_adapter_is_refused_but_its_readme_may_change(lora_run: Settings, tmp_path: Path) -> None:
    copy = tmp_path / "final"
    shutil.copytree(lora_run.output / "final", copy)
    (copy / "README.md").write_text("mine")
    open_model(copy)
    weights = bytearray((copy / "adapter_model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "adapter_model.safetensors").write_bytes(weights)
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors"):
        open_model(copy)


def test_folders_that_are_no_model_are_named(tmp_path: Path, model_folder: Callable[[str], Path]) -> None:
    with pytest.raises(ModelError, match="does not exist"):
        open_model(tmp_path / "nothing")
    with pytest.raises(ModelError, match="not an adapter"):
        open_model(model_folder("llama"), base="x")
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(ModelError, match="is a file"):
        open_model(file)
