"""A run's identity: each change that would mix two runs is named, and what never changes the result is free."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from weft.config.settings import Settings
from weft.data.prepare import prepare
from weft.errors import CheckpointError
from weft.training import identity
from weft.types import JsonObject


@pytest.fixture
def make(
    make_settings: Callable[..., Settings], model_folder: Callable[[str], Path], tmp_path: Path
) -> Callable[..., Settings]:
    """Settings whose base model is a copy that a test may change."""
    base = tmp_path / "base"
    shutil.copytree(model_folder("llama"), base)

    def build(**sections: Any) -> Settings:
        sections["model"] = {"base": str(base), **sections.get("model", {})}
        return make_settings(**sections)

    return build


def described(settings: Settings) -> JsonObject:
    return identity.describe(settings, prepare(settings))


def differences(folder: Path, before: Settings, after: JsonObject) -> list[str]:
    """The lines that name what changed; empty where the run may go on."""
    folder.mkdir(exist_ok=True)
    (folder / identity.FILE).unlink(missing_ok=True)
    identity.check(folder, described(before))
    try:
        identity.check(folder, after)
    except CheckpointError as error:
        text = str(error)
        assert text.startswith(f"{folder} holds a run that was made otherwise")
        assert text.endswith("Undo the change, or set output to another folder.")
        return [line.strip() for line in text.splitlines() if line.startswith("  ")]
    return []


def test_the_same_run_goes_on(make: Callable[..., Settings], tmp_path: Path) -> None:
    assert differences(tmp_path / "run", make(), described(make())) == []
    assert differences(tmp_path / "run", make(), described(make())) == []


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "seed": ({"seed": 18}, "seed: was 17, is 18"),
    "lr": ({"optimizer": {"lr": 0.5}}, "optimizer.lr: was 0.01, is 0.5"),
    "rank": ({"adapter": {"rank": 5}}, "adapter.rank: was 4, is 5"),
    "epochs": ({"mixture": {"epochs": 2}}, "mixture.epochs: was 1.0, is 2.0"),
    "tokens per step": ({"batch": {"tokens_per_step": 4097}}, "batch.tokens_per_step: was 4096, is 4097"),
    "weighting": ({"loss": {"weighting": "token"}}, 'loss.weighting: was "task", is "token"'),
    "validation split": ({"data": {"validation": 0.5}}, "data.validation: was 0.0, is 0.5"),
    "packing": ({"data": {"packing": "padding"}}, 'data.packing: was "pack", is "padding"'),
    "precision": ({"model": {"dtype": "bf16"}}, 'dtype: was "torch.float32", is "torch.bfloat16"'),
    "validation period": ({"validate": {"every": 3}}, "validate.every: was 2, is 3"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_changed_setting_is_named_with_both_values(make: Callable[..., Settings], tmp_path: Path, what: str) -> None:
    sections, line = CHANGES[what]
    assert differences(tmp_path / "run", make(), described(make(**sections))) == [line]


def test_several_changes_are_told_at_once(make: Callable[..., Settings], tmp_path: Path) -> None:
    after = described(make(seed=1, optimizer={"lr": 0.5, "schedule": "linear"}))
    assert [line.partition(":")[0] for line in differences(tmp_path / "run", make(), after)] == [
        "optimizer.lr",
        "optimizer.schedule",
        "seed",
    ]


FREE: dict[str, dict[str, Any]] = {
    "where it is written": {"output": "elsewhere"},
    "how often it is saved": {"save": {"every": 7, "keep": 9}},
    "trackers": {"track": ["tensorboard"]},
    "processes": {"engine": {"processes": 2, "kind": "ddp"}},
    "recomputation": {"model": {"gradient_checkpointing": True}},
    "how a step is cut": {"batch": {"tokens_per_micro_batch": 4096}},
    "bad rows": {"data": {"max_bad_rows": 0.9}},
}


@pytest.mark.parametrize("what", FREE)
def test_what_never_changes_the_result_is_free(make: Callable[..., Settings], tmp_path: Path, what: str) -> None:
    assert differences(tmp_path / "run", make(), described(make(**FREE[what]))) == []


def test_another_cache_is_free(make: Callable[..., Settings], tmp_path: Path) -> None:
    after = described(make(data={"cache": str(tmp_path / "other")}))
    assert differences(tmp_path / "run", make(), after) == []


def test_changed_data_are_named_by_their_task(
    make: Callable[..., Settings], task_files: dict[str, str], tmp_path: Path
) -> None:
    before = make()
    found = described(before)
    file = Path(task_files["chat"])
    file.write_bytes(file.read_bytes().replace(b"Hello 0", b"Hello 9"))
    after = described(make())
    (tmp_path / "run").mkdir()
    identity.check(tmp_path / "run", found)
    with pytest.raises(CheckpointError, match=r"data of task chat: was") as raised:
        identity.check(tmp_path / "run", after)
    assert str(raised.value).count("\n  ") == 1


def test_another_task_is_named(make: Callable[..., Settings], task_files: dict[str, str], tmp_path: Path) -> None:
    after = described(make(tasks={"sums": {"path": task_files["sums"], "weight": 2.0}, "chat": task_files["chat"]}))
    found = differences(tmp_path / "run", make(), after)
    assert any(line.startswith("data of task one: was") and line.endswith("is null") for line in found)
    assert any(line.startswith("tasks.one.path: was") for line in found)


def test_another_order_of_tasks_is_another_run(
    make: Callable[..., Settings], task_files: dict[str, str], tmp_path: Path
) -> None:
    """Tasks are numbered in their order, and the order of a step's samples follows the numbers."""
    tasks = {name: {"path": path} for name, path in task_files.items()}
    after = described(make(tasks=dict(reversed(tasks.items()))))
    assert differences(tmp_path / "run", make(tasks=tasks), after) == [
        'order of the tasks: was ["sums", "chat", "one"], is ["one", "chat", "sums"]'
    ]


def test_another_template_is_named(make: Callable[..., Settings], tmp_path: Path) -> None:
    found = differences(tmp_path / "run", make(), described(make(template={"name": "chatml"})))
    assert 'template.name: was "mftcoder", is "chatml"' in found
    assert any(line.startswith("template: was") for line in found)
    assert not any(line.startswith("data of task") for line in found), (
        "every store has another name then: that is not news"
    )


def test_an_edited_template_file_is_named(make: Callable[..., Settings], tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    source = (
        "{% for m in messages %}<|im_start|>{{ m.role + '\n' + m.content }}<|im_end|>{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>{{ 'assistant\n' }}{% endif %}"
    )
    file.write_text(source)
    settings = make(template={"name": str(file)})
    before = described(settings)
    file.write_text("Hi " + source)
    (tmp_path / "run").mkdir()
    identity.check(tmp_path / "run", before)
    with pytest.raises(CheckpointError, match="template: was"):
        identity.check(tmp_path / "run", described(settings))


def _one_weight(base: Path) -> None:
    data = bytearray((base / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (base / "model.safetensors").write_bytes(data)


def _config(base: Path) -> None:
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps({**config, "rms_norm_eps": 0.5}))


def _stop(base: Path) -> None:
    config = json.loads((base / "tokenizer_config.json").read_text())
    (base / "tokenizer_config.json").write_text(json.dumps({**config, "pad_token": "</s>"}))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_one_weight, "base model file model.safetensors"),
        (_config, "base model file config.json"),
        (_stop, "tokenizer"),
    ],
)
def test_a_changed_base_is_named(
    make: Callable[..., Settings], tmp_path: Path, change: Callable[[Path], None], name: str
) -> None:
    settings = make()
    before = described(settings)
    change(Path(settings.model.base))
    (tmp_path / "run").mkdir()
    identity.check(tmp_path / "run", before)
    with pytest.raises(CheckpointError, match=f"  {name}: was"):
        identity.check(tmp_path / "run", described(settings))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\udcff"])
def test_an_identity_that_can_not_be_read_is_refused(make: Callable[..., Settings], tmp_path: Path, text: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / identity.FILE).write_text(text, errors="surrogateescape")
    with pytest.raises(CheckpointError, match=r"run\.json|made otherwise"):
        identity.check(tmp_path / "run", described(make()))


def test_a_first_identity_is_written_whole(make: Callable[..., Settings], tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    found = described(make())
    identity.check(tmp_path / "run", found)
    assert json.loads((tmp_path / "run" / identity.FILE).read_text("utf-8")) == json.loads(json.dumps(found))
    assert [p.name for p in (tmp_path / "run").iterdir()] == [identity.FILE]


def test_a_setting_that_an_older_weft_did_not_have_counts_as_its_default(
    make: Callable[..., Settings], tmp_path: Path
) -> None:
    settings = make()
    prepared = prepare(settings)
    mine = identity.describe(settings, prepared)
    older = json.loads(json.dumps(mine))
    del older["plan"], older["record"]
    for key in [key for key in older["settings"] if key.startswith("balance.") and key != "balance.method"]:
        del older["settings"][key]
    (tmp_path / identity.FILE).write_text(json.dumps(older))
    identity.check(tmp_path, mine, done=True)
    with pytest.raises(CheckpointError, match="how steps are planned") as caught:
        identity.check(tmp_path, mine)
    assert "balance" not in str(caught.value)
    changed = make(balance={"rows": 5})
    with pytest.raises(CheckpointError, match="balance.rows: was 8, is 5"):
        identity.check(tmp_path, identity.describe(changed, prepared), done=True)
