"""An MFTCoder training JSON means in weft what it means there, and what can't be honoured is named."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from weft import plugins
from weft.config.load import load, to_yaml
from weft.config.mftcoder import from_mftcoder
from weft.errors import ConfigError

REQUIRED: dict[str, object] = {
    "data_paths": "[data/sql,data/chat]",
    "output_dir": "out",
    "pretrained_model_path": "./m",
    "peft_type": "lora",
}
FULL: dict[str, object] = REQUIRED | {
    "tb_dir": "tb",
    "model_type": "llama",
    "load_raw_dataset": True,
    "task_weights": "[1.0, 2.5]",
    "data_weights": None,
    "low_cpu_mem_usage": True,
    "data_split": "95,4,1",
    "padding_mode": "pack",
    "tokenize_mode": "sft",
    "tokenizer_type": "AutoTokenizer",
    "weighted_loss_mode": "case4",
    "quantization": None,
    "lora_rank": 8,
    "lora_alpha": 16,
    "lora_dropout": 0.1,
    "target_modules": ["q_proj", "v_proj"],
    "per_device_train_batch_size": 2,
    "per_device_eval_batch_size": 4,
    "gradient_accumulation_steps": 3,
    "learning_rate": 1e-4,
    "min_lr": 1e-5,
    "weight_decay": 0.1,
    "lr_scheduler_type": "linear",
    "num_warmup_steps": 300,
    "num_train_epochs": 2,
    "max_train_steps": 50,
    "seed": 7,
    "seq_length": 512,
    "resume_from_checkpoint": None,
    "auto_resume": True,
    "log_interval": 10,
    "checkpointing_steps": 20,
    "evaluation_steps": 30,
    "epoch_checkpointing": False,
    "shuffle_before_split": True,
    "early_stopping": True,
    "early_stopping_stall_num": 3,
    "saving_limit": 4,
    "use_dynamic_padding": True,
    "attn_implementation": "flash_attention_2",
    "role_markers": {"system": "### System:\n", "user": "### Instruction:\n", "assistant": "### Response:\n"},
    "distributed_type": "deepspeed",
    "coba_tau": 5,
}


def refused(mapping: dict[str, object]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        from_mftcoder(mapping, "t.json")
    return str(caught.value).splitlines()


def test_every_key_keeps_its_meaning() -> None:
    settings = from_mftcoder(FULL, "t.json", processes=4)
    assert {name: (task.path, task.weight) for name, task in settings.tasks.items()} == {
        "sql": ("data/sql", 1.0),
        "chat": ("data/chat", 2.5),
    }
    assert settings.batch.samples_per_step == 2 * 3 * 4
    assert settings.batch.tokens_per_step is None
    assert (settings.data.validation, settings.data.test) == (0.04, 0.01)
    assert (settings.data.max_tokens, settings.data.packing, settings.data.too_long) == (512, "pack", "drop")
    assert settings.loss.weighting == "task_sample"
    adapter = settings.adapter
    assert (adapter.kind, adapter.rank, adapter.alpha, adapter.dropout) == ("lora", 8, 16, 0.1)
    assert adapter.targets == ["q_proj", "v_proj"]
    optimizer = settings.optimizer
    assert (optimizer.lr, optimizer.min_lr, optimizer.weight_decay) == (1e-4, 1e-5, 0.1)
    assert (optimizer.schedule, optimizer.warmup) == ("linear", 300)
    assert (settings.mixture.epochs, settings.mixture.max_steps, settings.seed) == (2, 50, 7)
    assert (settings.save.every, settings.save.keep) == (20, 4)
    assert (settings.validate_.every, settings.validate_.stop_after) == (30, 3)
    assert settings.template.name == "mftcoder"
    assert settings.template.markers["user"] == "### Instruction:\n"
    assert settings.track == ["tensorboard"]
    assert (settings.model.base, settings.output) == ("./m", Path("out"))


def test_keys_left_out_take_mftcoder_s_defaults() -> None:
    settings = from_mftcoder(REQUIRED, "t.json")
    adapter, optimizer = settings.adapter, settings.optimizer
    assert (adapter.rank, adapter.alpha, adapter.dropout, adapter.targets) == (96, 32, 0.05, "all-linear")
    assert settings.batch.samples_per_step == 8
    assert (optimizer.lr, optimizer.min_lr, optimizer.weight_decay, optimizer.warmup) == (5e-5, 5e-6, 0.01, 0.05)
    assert (settings.data.validation, settings.data.test, settings.data.packing) == (0.02, 0.0, "padding")
    assert (settings.mixture.epochs, settings.seed, settings.validate_.stop_after) == (4, 1234, 5)
    assert settings.loss.weighting == "task"
    assert settings.save.keep > 10_000
    assert settings.track == []
    assert settings.data.max_tokens is None  # 4096, or the model's own limit


@pytest.mark.parametrize(
    ("keys", "setting", "expected"),
    [
        ({"weighted_loss_mode": "case1"}, "loss.weighting", "token"),
        ({"weighted_loss_mode": "case2"}, "loss.weighting", "sample"),
        ({"weighted_loss_mode": "case3"}, "loss.weighting", "task"),
        ({"peft_type": None}, "adapter.kind", "none"),
        ({"peft_type": None}, "save.keep", 2),
        ({"early_stopping": False}, "validate_.stop_after", None),
        ({"data_split": "98/2"}, "data.validation", 0.02),
        ({"data_split": "8,1,1"}, "data.test", 0.1),
        ({"data_split": "100,0,0"}, "data.validation", 0.0),
        ({"learning_rate": 1e-6}, "optimizer.min_lr", 1e-6),
        ({"lr_scheduler_type": "constant", "num_warmup_steps": 10}, "optimizer.warmup", 0),
        ({"lr_scheduler_type": "constant_with_warmup", "num_warmup_steps": 10}, "optimizer.warmup", 10),
        ({"num_warmup_steps": 0}, "optimizer.warmup", 0),
        ({"padding_mode": "concat", "seq_length": 256}, "batch.tokens_per_step", 8 * 256),
        ({"per_device_train_batch_size": 1, "seq_length": 16}, "batch.tokens_per_micro_batch", 16),
        ({"seq_length": 10_000}, "batch.tokens_per_micro_batch", 10_000),
        ({"target_modules": "[q_proj, v_proj]"}, "adapter.targets", ["q_proj", "v_proj"]),
    ],
)
def test_a_key_is_translated(keys: dict[str, object], setting: str, expected: object) -> None:
    section, name = setting.split(".")
    assert getattr(getattr(from_mftcoder(REQUIRED | keys, "t.json"), section), name) == expected


BALANCING = [
    ({"weighted_loss_mode": "coba"}, {"warmup": 100, "window": 200, "tau": 5}, 1, 1),
    (
        {
            "weighted_loss_mode": "coba",
            "coba_warmup_steps": 0,
            "coba_history_length": 30,
            "coba_tau": 2.5,
            "coba_update_interval": 10,
            "coba_sample_valid_num": 4,
        },
        {"warmup": 0, "window": 300, "tau": 2.5},
        10,
        4,
    ),
    ({"weighted_loss_mode": "selfpaced"}, {"warmup": 100, "window": 100, "scale": 50}, 1, 1),
    (
        {
            "weighted_loss_mode": "selfpaced",
            "selfpaced_scale_factor": 20,
            "selfpaced_interval": 5,
            "selfpaced_history_length": 40,
            "selfpaced_sample_valid_num": 2,
        },
        {"warmup": 40, "window": 200, "scale": 20},
        5,
        2,
    ),
]


@pytest.mark.parametrize(("keys", "options", "every", "rows"), BALANCING)
def test_weights_that_move_are_translated(
    keys: dict[str, object], options: dict[str, float], every: int, rows: int
) -> None:
    settings = from_mftcoder(REQUIRED | keys, "t.json")
    assert (settings.loss.weighting, settings.balance.method) == ("task", keys["weighted_loss_mode"])
    assert (settings.balance.options, settings.balance.every, settings.balance.rows) == (options, every, rows)


@pytest.mark.parametrize(("keys", "options", "every", "rows"), BALANCING)
def test_the_translated_options_are_the_method_s(
    keys: dict[str, object], options: dict[str, float], every: int, rows: int
) -> None:
    kind = plugins.find("weft.balance.balancers", str(keys["weighted_loss_mode"]), "Options", "balance.method")
    assert options.items() <= kind.model_validate(options).model_dump().items()


def test_a_key_of_another_mode_is_noted(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="weft"):
        settings = from_mftcoder(REQUIRED | {"coba_tau": 5, "selfpaced_interval": 3}, "t.json")
    assert settings.balance.method == "fixed"
    assert "coba_tau (it has a meaning for weighted_loss_mode coba only)" in caplog.text
    assert "selfpaced_interval (it has a meaning for weighted_loss_mode selfpaced only)" in caplog.text


@pytest.mark.parametrize("paths", ["[/a/sql/, 'b/chat']", ["/a/sql/", "b/chat"], "[/a/sql/,b/chat]"])
def test_the_ways_to_write_data_paths_mean_the_same(paths: object) -> None:
    tasks = from_mftcoder(REQUIRED | {"data_paths": paths}, "t.json").tasks
    assert {name: task.path for name, task in tasks.items()} == {"sql": "/a/sql/", "chat": "b/chat"}


def test_pretrain_reads_rows_as_text() -> None:
    settings = from_mftcoder(REQUIRED | {"tokenize_mode": "pretrain", "padding_mode": "concat"}, "t.json")
    assert {task.format for task in settings.tasks.values()} == {"text"}


def test_how_the_batch_is_split_does_not_matter() -> None:
    one = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    two = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    texts = [
        to_yaml(from_mftcoder(REQUIRED | one, "t.json")),
        to_yaml(from_mftcoder(REQUIRED | two, "t.json", processes=2)),
    ]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"weighted_loss_mode": "cobra"}, "weighted_loss_mode: 'cobra' is not supported"),
        ({"weighted_loss_mode": "cobra"}, "did you mean 'coba'?"),
        (
            {"weighted_loss_mode": "coba", "coba_update_interval": 0},
            "coba_update_interval: 0 is not a whole number (at least 1)",
        ),
        (
            {"weighted_loss_mode": "coba", "coba_warmup_steps": -1},
            "coba_warmup_steps: -1 is not a whole number (at least 0)",
        ),
        ({"weighted_loss_mode": "coba", "coba_tau": 0}, "coba_tau: 0 is not a number (above 0)"),
        (
            {"weighted_loss_mode": "coba", "coba_sample_valid_num": None},
            "coba_sample_valid_num: null is not a whole number",
        ),
        (
            {"weighted_loss_mode": "selfpaced", "selfpaced_scale_factor": "x"},
            "selfpaced_scale_factor: 'x' is not a number",
        ),
        ({"peft_type": "qlora"}, "peft_type: 'qlora' is not supported"),
        ({"quantization": "4bit"}, "quantization: '4bit' is not supported"),
        ({"tokenize_mode": "dpo"}, "tokenize_mode: 'dpo' is not supported"),
        ({"xxpo": "dpo"}, "xxpo: preference training"),
        ({"epoch_checkpointing": True}, "epoch_checkpointing: true is not supported"),
        ({"auto_resume": False}, "auto_resume: false is not supported"),
        ({"resume_from_checkpoint": "x"}, "resume_from_checkpoint: 'x' is not supported"),
        ({"attn_implementation": "magic"}, "attn_implementation: 'magic'"),
        ({"lr_scheduler_type": "cosin"}, "did you mean 'cosine'?"),
        ({"learning_rat": 1}, "learning_rat: MFTCoder has no such key; did you mean 'learning_rate'?"),
        ({"learning_rate": "x"}, "learning_rate: 'x' is not a number"),
        ({"lora_rank": 0}, "lora_rank: 0 is not a whole number (at least 1)"),
        ({"seq_length": 1}, "seq_length: 1 is not a whole number"),
        ({"seq_length": True}, "seq_length: true is not a whole number"),
        ({"per_device_train_batch_size": 0}, "per_device_train_batch_size: 0 is not a whole number"),
        ({"gradient_accumulation_steps": None}, "gradient_accumulation_steps: null is not a whole number"),
        ({"task_weights": "[1]"}, "task_weights: '[1]' gives 1 weights for the 2 tasks sql, chat"),
        ({"task_weights": [1, -1]}, "task_weights: -1 is not a number (above 0)"),
        ({"task_weights": 3}, "task_weights: 3 gives 1 weights for the 2 tasks"),
        ({"data_paths": "$DATA_PATHS"}, "data_paths: '$DATA_PATHS' is not a list of folders"),
        ({"data_paths": "[a,]"}, "data_paths: '[a,]' is not a list of folders"),
        ({"data_paths": []}, "data_paths: [] is not a list of folders"),
        ({"data_paths": "[x/sql,y/sql]"}, "two folders are named sql"),
        ({"data_paths": "[x/s q l]"}, "data_paths: a task's name is"),
        ({"data_split": "0,100,0"}, "data_split: '0,100,0' is not"),
        ({"data_split": "1,2,3,4"}, "data_split: '1,2,3,4' is not"),
        ({"early_stopping": "yes"}, "early_stopping: 'yes' is not true or false"),
        ({"saving_limit": 0}, "saving_limit: 0 is not a whole number"),
        ({"role_markers": "x"}, "role_markers: 'x' is not a mapping"),
        ({"target_modules": ".*q_proj"}, "target_modules: '.*q_proj' is a pattern"),
        ({"pretrained_model_path": None}, "pretrained_model_path: is empty"),
    ],
)
def test_what_can_not_be_honoured_is_named(keys: dict[str, object], expected: str) -> None:
    told = refused(REQUIRED | keys)
    assert len(told) == 1
    assert expected in told[0]


def test_all_faults_are_named_at_once_and_a_missing_peft_type_is_qlora(tmp_path: Path) -> None:
    file = tmp_path / "t.json"
    file.write_text('{\n\t"data_paths": "[a]",\n\t"lora_rank": 0,\n\t"xxpo": "dpo",\n\t"seed": 1, "seed": 2\n}')
    with pytest.raises(ConfigError) as caught:
        load(file, ["optimizer.lr=x"])
    places = [line.replace(str(file), "t.json").split(": ")[:2] for line in str(caught.value).splitlines()]
    assert places == [
        ["t.json:1", "pretrained_model_path"],
        ["t.json:1", "output_dir"],
        ["t.json:1", "peft_type"],
        ["t.json:3", "lora_rank"],
        ["t.json:4", "xxpo"],
        ["t.json:5", "seed"],
        ["override 'optimizer.lr=x'", "optimizer.lr"],
    ]


def test_processes_multiply_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "t.json"
    file.write_text(json.dumps(REQUIRED))
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    settings = load(file, ["engine.processes=3", "optimizer.lr=1e-3"])
    assert (settings.batch.samples_per_step, settings.engine.processes) == (24, 3)
    assert settings.optimizer.lr == 1e-3
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    settings = load(file)
    assert (settings.batch.samples_per_step, settings.engine.processes) == (16, 1)
    assert load(file, ["engine.processes=3"]).batch.samples_per_step == 24
    assert load(file, ["batch.samples_per_step=5"]).batch.samples_per_step == 5


def test_a_needless_key_is_noted_not_refused(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="weft"):
        from_mftcoder(FULL, "t.json")
    assert "distributed_type (the result does not depend on the engine)" in caplog.text
    assert "log_interval" in caplog.text


def test_a_json_with_a_yaml_name_is_recognised_by_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(json.dumps(REQUIRED))
    assert load(file).adapter.rank == 96
