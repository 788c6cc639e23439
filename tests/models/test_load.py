"""Loading a base model: what is refused, how quickly, and that nothing of a folder is run."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from weft.config.settings import ModelSettings
from weft.errors import ConfigError, ModelError
from weft.models.load import compute_dtype, load_model, pick_device, register_attention

CPU = torch.device("cpu")


@pytest.fixture
def folder(model_folder: Callable[[str], Path], tmp_path: Path) -> Path:
    """A copy that a test may break."""
    copy = tmp_path / "model"
    shutil.copytree(model_folder("llama"), copy)
    return copy


def refusal(base: Path | str) -> str:
    with pytest.raises(ModelError) as raised:
        load_model(str(base), torch.float32, CPU)
    assert str(raised.value).startswith("model.base: ")
    return str(raised.value)


def change_config(folder: Path, **values: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


def test_a_model_is_loaded_whole_and_in_evaluation_mode(folder: Path) -> None:
    from safetensors.torch import load_file

    model = load_model(str(folder), torch.float32, CPU)
    assert not model.training
    stored = load_file(folder / "model.safetensors")
    found = model.state_dict()
    assert all(torch.equal(found[name], tensor) for name, tensor in stored.items())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_asked_for_precision_goes_before_the_stored_one(folder: Path, dtype: torch.dtype) -> None:
    change_config(folder, dtype="float16", torch_dtype="float16")
    assert {p.dtype for p in load_model(str(folder), dtype, CPU).parameters()} == {dtype}


def test_a_folder_without_a_config_is_no_model(folder: Path, tmp_path: Path) -> None:
    (folder / "config.json").unlink()
    assert "there is no config.json (it holds model.safetensors, " in refusal(folder).replace(
        "generation_config.json, ", ""
    )
    (tmp_path / "empty").mkdir()
    assert "it holds nothing" in refusal(tmp_path / "empty")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_a_config_that_is_no_json_object_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, "utf-8", errors="surrogateescape")
    assert "config.json" in refusal(folder)


def test_code_in_a_models_folder_is_never_run(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    (folder / "modeling_evil.py").write_text(f"open({str(canary)!r}, 'w')\nclass Evil: pass\n")
    change_config(
        folder,
        model_type="evil",
        auto_map={"AutoConfig": "modeling_evil.Evil", "AutoModelForCausalLM": "modeling_evil.Evil"},
    )
    assert "auto_map" in refusal(folder)
    assert not canary.exists()


def test_pickled_weights_are_refused_unread(folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bad:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    (folder / "model.safetensors").unlink()
    torch.save({"x": Bad()}, folder / "pytorch_model.bin")
    assert "does not read pickled weights" in refusal(folder)
    (folder / "model.safetensors").write_bytes((folder / "pytorch_model.bin").read_bytes())
    refusal(folder)
    assert not canary.exists()


@pytest.mark.parametrize("damage", ["cut", "empty", "bomb"])
def test_broken_weights_are_refused(folder: Path, damage: str) -> None:
    file = folder / "model.safetensors"
    data = file.read_bytes()
    file.write_bytes({"cut": data[:-100], "empty": b"", "bomb": (2**62).to_bytes(8, "little") + b"{}"}[damage])
    refusal(folder)


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    """Transformers fills missing weights with random numbers and a warning."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    tensors = load_file(file)
    missing = next(name for name in tensors if "q_proj" in name)
    tensors.pop(missing)
    save_file(tensors, file, metadata={"format": "pt"})
    assert missing in refusal(folder)


def test_weights_of_another_shape_are_refused(folder: Path) -> None:
    change_config(folder, intermediate_size=40)
    refusal(folder)


def test_an_unknown_architecture_is_named(folder: Path) -> None:
    change_config(folder, model_type="nonesuch", architectures=["NonesuchForCausalLM"])
    assert "nonesuch" in refusal(folder)


def test_a_name_that_the_hub_can_not_be_asked_for_is_told_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    started = time.monotonic()
    assert "no-such/model" in refusal("no-such/model")
    assert time.monotonic() - started < 5


def test_transformers_own_bars_are_left_as_they_were(folder: Path) -> None:
    transformers.utils.logging.enable_progress_bar()
    load_model(str(folder), torch.float32, CPU)
    assert transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.disable_progress_bar()
    with pytest.raises(ModelError):
        load_model(str(folder / "nowhere"), torch.float32, CPU)
    assert not transformers.utils.logging.is_progress_bar_enabled()
    transformers.utils.logging.enable_progress_bar()


def test_an_unknown_attention_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"model\.attention: unknown 'document'\. Did you mean 'documents'"):
        register_attention("document")


def test_dtypes_mean_what_they_say() -> None:
    cases = {("auto", "cpu"): torch.float32, ("auto", "cuda"): torch.bfloat16, ("bf16", "cpu"): torch.bfloat16}
    for (name, device), expected in cases.items():
        assert compute_dtype(ModelSettings(base="x", dtype=name), torch.device(device)) == expected


def test_a_gpu_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=r"engine\.device: cuda"):
        pick_device("cuda")
    assert pick_device("auto") == pick_device("cpu") == CPU
