"""Adapters: what is refused, and that their start depends on the seed alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from weft.config.settings import AdapterSettings
from weft.errors import ModelError
from weft.losses.nll import linear_nll
from weft.models.adapters import add_adapter, load_adapter
from weft.models.attention.documents import NAME
from weft.models.load import base_of, load_model, register_attention
from weft.models.objective import Objective

Load = Callable[..., Any]


@pytest.fixture
def load(model_folder: Callable[[str], Path]) -> Load:
    def make(kind: str = "llama", attention: str = "sdpa") -> Any:
        return load_model(str(model_folder(kind)), torch.float32, torch.device("cpu"), attention)

    return make


def adapted(model: Any, seed: int = 0, **settings: Any) -> Any:
    return add_adapter(model, AdapterSettings(rank=4, **settings), model.name_or_path, seed)


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


def test_full_fine_tuning_trains_every_parameter(load: Load) -> None:
    model = add_adapter(load(), AdapterSettings(kind="none"), "base", 0)
    assert all(p.requires_grad for p in model.parameters())


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt-neox", "phi3"])
def test_lora_trains_two_matrices_for_every_linear_module_but_the_head(load: Load, kind: str) -> None:
    from transformers.pytorch_utils import Conv1D

    plain = load(kind)
    linear = {n for n, m in plain.named_modules() if isinstance(m, torch.nn.Linear | Conv1D)}
    linear -= {n for n, m in plain.named_modules() if m is plain.get_output_embeddings()}
    assert linear
    names = {name.removeprefix("base_model.model.") for name in trained(adapted(plain))}
    assert names == {f"{n}.lora_{ab}.default.weight" for n in linear for ab in "AB"}


def test_the_start_depends_on_the_seed_alone(load: Load) -> None:
    torch.manual_seed(1)
    first = trained(adapted(load(), seed=5))
    torch.manual_seed(2)
    torch.rand(100)
    again, other = trained(adapted(load(), seed=5)), trained(adapted(load(), seed=6))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


def test_a_new_adapter_changes_nothing(load: Load) -> None:
    ids = torch.randint(0, 400, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(adapted(load()).eval()(input_ids=ids).logits, load()(input_ids=ids).logits)


@pytest.mark.parametrize(("kind", "targets"), [("llama", ["q_proj", "v_proj"]), ("gpt2", ["c_attn"])])
def test_named_targets_are_adapted_and_no_others(load: Load, kind: str, targets: list[str]) -> None:
    names = trained(adapted(load(kind), targets=targets))
    assert {name.split(".lora_")[0].rpartition(".")[2] for name in names} == set(targets)


@pytest.mark.parametrize(
    "targets",
    [["q_projj"], ["q_proj", "nothing"], ["nowhere.q_proj"], ["embed_tokenz"], ["input_layernorm"], ["_proj"], []],
)
def test_targets_that_no_module_has_are_refused(load: Load, targets: list[str]) -> None:
    with pytest.raises(ModelError, match=r"adapter\.targets"):
        adapted(load(), targets=targets)


def test_the_known_names_are_told(load: Load) -> None:
    with pytest.raises(ModelError, match="q_projj; this model has .*k_proj.*q_proj"):
        adapted(load(), targets=["q_projj"])


def test_a_word_that_is_not_all_linear_is_refused(load: Load) -> None:
    with pytest.raises(ModelError, match="write all-linear, or a list"):
        adapted(load(), targets="all_linear")


@pytest.mark.parametrize(
    ("kind", "target"),
    [("llama-tied", "lm_head"), ("llama-tied", "embed_tokens"), ("gpt2", "lm_head"), ("gpt2", "wte")],
)
def test_the_head_or_embedding_of_a_tied_model_is_refused(load: Load, kind: str, target: str) -> None:
    with pytest.raises(ModelError, match=target):
        adapted(load(kind), targets=[target])


@pytest.mark.parametrize(
    ("kind", "targets"),
    [("llama", "all-linear"), ("llama", ["q_proj", "lm_head"]), ("gpt-neox", ["embed_out", "dense"])],
)
def test_whatever_is_adapted_learns_or_is_refused(load: Load, kind: str, targets: str | list[str]) -> None:
    """The loss goes through the head's own weight, so an adapter on the head would be left out without a word."""
    register_attention("auto")
    try:
        model = adapted(load(kind, NAME), targets=targets)
    except ModelError as error:
        assert "lm_head" in str(error) or "embed_out" in str(error)  # noqa: PT017
        return
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    ids = torch.arange(2, 12)
    loss, _, _ = Objective(model, linear_nll)(ids, torch.arange(10), [10], torch.arange(9), ids[1:], torch.ones(9))
    loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name
            assert parameter.grad.abs().max() > 0, name


def test_a_saved_adapter_comes_back_the_same(load: Load, tmp_path: Path) -> None:
    model = adapted(load())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_()
    model.save_pretrained(tmp_path / "adapter")
    again = load_adapter(load(), str(tmp_path / "adapter"))
    assert not again.training
    ids = torch.arange(2, 12)[None]
    with torch.no_grad():
        assert torch.equal(again(input_ids=ids).logits, model.eval()(input_ids=ids).logits)
    assert base_of(again) is again.get_base_model()


@pytest.fixture
def adapter_folder(load: Load, tmp_path: Path) -> Path:
    adapted(load()).save_pretrained(tmp_path / "adapter")
    return tmp_path / "adapter"


def test_an_adapter_of_another_model_is_refused(load: Load, adapter_folder: Path) -> None:
    with pytest.raises(ModelError, match="does not fit the base model"):
        load_adapter(load("gpt2"), str(adapter_folder))


def test_an_adapter_as_a_pickle_is_refused_unread(load: Load, adapter_folder: Path, tmp_path: Path) -> None:
    canary = tmp_path / "canary"

    class Bad:
        def __reduce__(self) -> Any:
            return (Path.touch, (canary,))

    (adapter_folder / "adapter_model.safetensors").unlink()
    torch.save({"x": Bad()}, adapter_folder / "adapter_model.bin")
    with pytest.raises(ModelError, match="safetensors"):
        load_adapter(load(), str(adapter_folder))
    assert not canary.exists()


@pytest.mark.parametrize("damage", ["no config", "config is no JSON", "weights cut", "no weights"])
def test_a_broken_adapter_is_refused(load: Load, adapter_folder: Path, damage: str) -> None:
    config, weights = adapter_folder / "adapter_config.json", adapter_folder / "adapter_model.safetensors"
    if damage == "no config":
        config.unlink()
    elif damage == "config is no JSON":
        config.write_text("{")
    elif damage == "weights cut":
        weights.write_bytes(weights.read_bytes()[:100])
    else:
        weights.unlink()
    with pytest.raises(ModelError, match="adapter"):
        load_adapter(load(), str(adapter_folder))


def test_weights_that_are_missing_from_an_adapter_are_missed(load: Load, adapter_folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    file = adapter_folder / "adapter_model.safetensors"
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file)
    with pytest.raises(ModelError, match="adapter"):
        load_adapter(load(), str(adapter_folder))


def test_the_base_is_written_down_as_it_was_given(load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    add_adapter(load(), AdapterSettings(), "some/base", 0).save_pretrained(tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == "some/base"
