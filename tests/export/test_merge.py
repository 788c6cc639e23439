"""A merged folder must be the adapter's model for whoever opens it, and nothing may be published that is not."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.generation.runs import train_small
from weft import files
from weft.config.settings import Settings
from weft.errors import CheckpointError, ModelError
from weft.export import merge as merging
from weft.export.merge import merge
from weft.generation.batch import generate_ids
from weft.generation.decoding import Decoding
from weft.generation.model import open_model
from weft.generation.text import prompt_ids
from weft.types import Message

CONVERSATIONS = [
    [Message("user", "What is red?")],
    [Message("user", "1+1")],
    [Message("system", "You help."), Message("user", "Grüße, 你好\n\n  x?")],
    [Message("user", "Hello"), Message("assistant", "Hello you."), Message("user", "And now?")],
]

PLAIN = """
import json, sys, torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
folder, conversations = sys.argv[1], json.loads(sys.argv[2])
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
out = []
for messages in conversations:
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    batch = torch.tensor([ids])
    new = model.generate(batch, attention_mask=torch.ones_like(batch), max_new_tokens=16, do_sample=False)
    out.append([ids, new[0, len(ids):].tolist()])
print(json.dumps(out))
"""


def in_plain_transformers(folder: Path) -> list[list[list[int]]]:
    """Prompt ids and greedy tokens by Transformers alone, in a process of its own."""
    rows = [[{"role": m.role, "content": m.content} for m in messages] for messages in CONVERSATIONS]
    command = [sys.executable, "-c", PLAIN, str(folder), json.dumps(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_plain_transformers_gives_the_adapters_prompts_and_tokens(lora_run: Settings, tmp_path: Path) -> None:
    report = merge(lora_run.output, tmp_path / "merged")
    assert report.dtype == "fp32"
    assert report.prompts > 5
    assert report.difference < 1e-4
    loaded = open_model(lora_run.output)
    prompts = [prompt_ids(loaded, messages) for messages in CONVERSATIONS]
    answers = [list(a.ids) for a in generate_ids(loaded, prompts, Decoding(max_new_tokens=16))]
    plain = in_plain_transformers(tmp_path / "merged")
    assert [ids for ids, _ in plain] == prompts
    assert [new for _, new in plain] == answers


def test_the_merged_folder_is_whole_and_says_what_it_is(lora_run: Settings, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "merged"
    merge(lora_run.output, out)
    assert files.faults(out) == []
    expected = {"README.md", "chat_template.jinja", "config.json", "generation_config.json", "manifest.json"}
    assert {p.name for p in out.iterdir()} == expected | {
        "model.safetensors", "tokenizer.json", "tokenizer_config.json", "weft.json",
    }  # fmt: skip
    assert json.loads((out / "generation_config.json").read_text())["eos_token_id"] == [1]
    merged, adapter = open_model(out), open_model(lora_run.output)
    assert merged.template == adapter.template or merged.template.fingerprint == adapter.template.fingerprint
    prompts = [prompt_ids(merged, messages) for messages in CONVERSATIONS]
    decoding = Decoding(max_new_tokens=16)
    assert generate_ids(merged, prompts, decoding) == generate_ids(adapter, prompts, decoding)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2", "llama-tied"])
def test_other_families_merge(kind: str, model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    settings = train_small(model_folder(kind), tmp_path, mixture={"epochs": 1})
    assert merge(settings.output, tmp_path / "merged").difference < 1e-4


def test_an_adapter_on_a_tied_head_is_not_published(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    base = open_model(model_folder("llama-tied")).model
    config = LoraConfig(target_modules=["lm_head"], r=4, init_lora_weights=False, task_type="CAUSAL_LM")
    torch.manual_seed(0)
    adapted = get_peft_model(base, config)
    adapted.peft_config["default"].base_model_name_or_path = str(model_folder("llama-tied"))
    adapted.save_pretrained(str(tmp_path / "adapter"))
    with pytest.raises(ModelError, match=r"the model is another|give.* other greedy tokens"):
        merge(tmp_path / "adapter", tmp_path / "merged")
    assert [p.name for p in tmp_path.iterdir()] == ["adapter"]


def test_a_merge_gone_wrong_is_never_published(
    lora_run: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = merging._merged

    def wrong(loaded: object) -> object:
        model = right(loaded)  # type: ignore[arg-type]
        with torch.no_grad():
            model.model.layers[0].mlp.up_proj.weight.add_(0.05)
        return model

    monkeypatch.setattr(merging, "_merged", wrong)
    with pytest.raises(ModelError, match="nothing was written"):
        merge(lora_run.output, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []


def test_weights_too_coarse_for_the_same_tokens_are_written_in_fp32(
    lora_run: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = tmp_path / "base"
    shutil.copytree(lora_run.model.base, base)
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "dtype": "bfloat16"}))
    right = merging._check_written

    def coarse(folder: Path, probes: object, device: object, chosen: str) -> None:
        if chosen == "bf16":
            raise merging._RoundingError("too coarse")
        right(folder, probes, device, chosen)  # type: ignore[arg-type]

    monkeypatch.setattr(merging, "_check_written", coarse)
    assert merge(lora_run.output, tmp_path / "auto", base=str(base)).dtype == "fp32"
    with pytest.raises(ModelError, match="too coarse"):
        merge(lora_run.output, tmp_path / "bf16", base=str(base), dtype="bf16")
    assert not (tmp_path / "bf16").exists()


def test_what_is_there_or_whole_already_is_left_alone(
    lora_run: Settings, model_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="there already"):
        merge(lora_run.output, tmp_path)
    with pytest.raises(ModelError, match="whole model already"):
        merge(model_folder("llama"), tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []
