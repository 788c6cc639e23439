"""The main job on real data: a pretrained model, six tasks in their native formats, from YAML and from an MFTCoder JSON."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.conftest import need_shared
from weft import api
from weft.cli.main import main
from weft.training.events import read_journal

TASKS = {
    "code": ("code_instruct/code_alpaca_2k.json", "alpaca"),
    "chat": ("general_en/openai_sft.jsonl", "messages"),
    "maths": ("math/gsm8k_test.jsonl", "pairs"),
    "topics": ("t0_tasks/common_gen_topics_from_the_sentence.jsonl", "pairs"),
    "dialogue": ("multiturn/dummy_conversation.json", "sharegpt"),
    "web": ("pretrain/c4_demo.jsonl", "text"),
}


@pytest.mark.shared
@pytest.mark.slow
def test_six_tasks_in_five_formats_all_get_better_with_yaml(tmp_path: Path) -> None:
    settings = {
        "model": {"base": str(need_shared("models", "stories260K"))},
        "tasks": {name: str(need_shared("data", *file.split("/"))) for name, (file, _) in TASKS.items()},
        "data": {"max_tokens": 256, "too_long": "cut", "validation": 10},
        "mixture": {"max_steps": 12},
        "batch": {"tokens_per_step": 4096},
        "optimizer": {"lr": 5e-3},
        "validate": {"every": 12},
        "engine": {"device": "cpu"},
        "output": str(tmp_path / "run"),
    }
    checked = api.check(settings)
    assert checked.ok, [c for c in checked.checks if not c.ok]
    assert {store.task: store.ledger.format for store in checked.prepared.stores} == {
        n: f for n, (_, f) in TASKS.items()
    }
    result = api.train(settings)
    assert result.losses_before.keys() == TASKS.keys()
    for name, before in result.losses_before.items():
        assert result.losses_after[name] < before, name


@pytest.mark.shared
@pytest.mark.slow
def test_six_tasks_all_get_better_with_an_mftcoder_json(tmp_path: Path) -> None:
    for name, (file, _) in TASKS.items():
        (tmp_path / "data" / name).mkdir(parents=True)
        shutil.copy(need_shared("data", *file.split("/")), tmp_path / "data" / name)
    mftcoder = {
        "data_paths": "[" + ",".join(str(tmp_path / "data" / name) for name in TASKS) + "]",
        "output_dir": str(tmp_path / "run"),
        "pretrained_model_path": str(need_shared("models", "stories260K")),
        "model_type": "llama",
        "peft_type": "lora",
        "quantization": None,
        "lora_rank": 16,
        "seq_length": 256,
        "data_split": "98,2,0",
        "padding_mode": "padding",
        "weighted_loss_mode": "case3",
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 4,
        "learning_rate": 5e-3,
        "max_train_steps": 10,
        "evaluation_steps": 10,
        "num_train_epochs": 1,
    }
    file = tmp_path / "train.json"
    file.write_text(json.dumps(mftcoder))
    assert main(["train", str(file)]) == 0
    records = read_journal(tmp_path / "run" / "metrics.jsonl")
    validations = [record["validation"]["tasks"] for record in records if "validation" in record]
    assert validations[0].keys() == TASKS.keys()
    for name in TASKS:
        assert validations[-1][name]["loss"] < validations[0][name]["loss"], name
    ledger = read_journal(tmp_path / "run" / "ledger.jsonl")
    assert [len(record["samples"]) for record in ledger] == [16] * 10
