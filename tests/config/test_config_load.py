"""Settings files: what is read, and that every fault of one is told at once, in place and in plain words."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.config.load import from_mapping, load, to_yaml
from weft.config.settings import Settings
from weft.errors import ConfigError

MINIMAL = "model: {base: ./m}\nadapter: {kind: lora}\ntasks: {sql: ./sql, chat: ./chat.jsonl}\noutput: runs/x\n"


def write(folder: Path, text: str | bytes, name: str = "run.yaml") -> Path:
    file = folder / name
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def faults(folder: Path, text: str | bytes, *overrides: str, name: str = "run.yaml") -> list[str]:
    """The lines of the error, with the folder left out."""
    with pytest.raises(ConfigError) as caught:
        load(write(folder, text, name), overrides)
    return str(caught.value).replace(f"{folder}/", "").splitlines()


def test_five_lines_are_enough(tmp_path: Path) -> None:
    settings = load(write(tmp_path, MINIMAL))
    assert settings.tasks["chat"].path == "./chat.jsonl"
    assert settings.adapter.rank == 16


def test_the_design_s_full_example_of_sections_loads(tmp_path: Path) -> None:
    text = MINIMAL.replace(
        "adapter: {kind: lora}", "adapter: {kind: lora, rank: 16, alpha: 32, targets: [q_proj, v_proj]}"
    )
    text += (
        "template: mftcoder\ndata: {max_tokens: 4096, too_long: drop, packing: pack, validation: 0.02}\n"
        "mixture: {by: weight, epochs: 3, weights: {sql: 1, chat: 2}}\n"
        "batch: {tokens_per_step: 65536, tokens_per_micro_batch: 8192}\nloss: {weighting: task}\n"
        "optimizer: {kind: adamw, lr: 2e-4, schedule: cosine, warmup: 0.03, min_lr: 2e-5, clip_norm: 1.0}\n"
        "validate: {every: 100, stop_after: 5}\nsave: {every: 100, keep: 3}\nengine: {kind: auto, processes: 1}\n"
        "track: [tensorboard]\nseed: 17\n"
    )
    settings = load(write(tmp_path, text))
    assert (settings.optimizer.lr, settings.optimizer.min_lr) == (2e-4, 2e-5)
    assert settings.template.name == "mftcoder"
    assert settings.adapter.targets == ["q_proj", "v_proj"]


def test_every_fault_is_told_at_once_with_its_line(tmp_path: Path) -> None:
    text = """\
model: {base: ./m, dtyp: bf16}
adapter:
  kind: lroa
  rank: 0
  lr: 3
tasks:
  sql: {path: ./sql, weight: -1, epoch: 2}
data: {packing: Pack}
batch: {tokens_per_step: 1024, samples_per_step: 8}
engine: {kind: local, processes: 2}
loss:
"""
    assert faults(tmp_path, text, "optimzer.lr=3", "foo") == [
        "run.yaml:1: model.dtyp: there is no such setting; did you mean 'dtype'?",
        "run.yaml:1: output: is required, a path; write 'output: runs/first'",
        "run.yaml:3: adapter.kind: 'lroa' is not one of none, lora; did you mean 'lora'?",
        "run.yaml:4: adapter.rank: 0 is not a whole number (at least 1)",
        "run.yaml:5: adapter.lr: there is no such setting; there is optimizer.lr",
        "run.yaml:7: tasks.sql.epoch: there is no such setting; did you mean 'epochs'?",
        "run.yaml:7: tasks.sql.weight: -1 is not a number (above 0)",
        "run.yaml:8: data.packing: 'Pack' is not one of padding, pack, concat; did you mean 'pack'?",
        "run.yaml:9: batch.samples_per_step: is set beside tokens_per_step; keep one of the two",
        "run.yaml:10: engine.kind: local runs one process, not engine.processes 2; use ddp or auto",
        "run.yaml:11: loss: is empty; give it a section, or leave the line out",
        "override 'foo': is not of the form section.setting=value, such as seed=3",
        "override 'optimzer.lr=3': optimzer: there is no such setting; did you mean 'optimizer'?",
    ]


def test_a_conflict_that_follows_from_another_fault_is_not_told(tmp_path: Path) -> None:
    told = faults(tmp_path, MINIMAL + "mixture: {by: wieght, weights: {sql: 1, chat: 2}}\n")
    assert told == [
        "run.yaml:5: mixture.by: 'wieght' is not one of rows, weight, temperature, trained_tokens; did you mean 'weight'?"
    ]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("seed: [1]", "seed: [1] is not a whole number"),
        ("seed: true", "seed: true is not a whole number"),
        ("seed:", "seed: is empty"),
        ("optimizer: {lr: .nan}", "optimizer.lr: nan is not a number"),
        ("optimizer: {betas: [1]}", "optimizer.betas: [1] is not 2 numbers"),
        ("optimizer: {learning_rate: 1}", "there is optimizer.lr"),
        ("optimizer: 3", "optimizer: 3 is not a section"),
        ("track: tensorboard", "write [tensorboard]"),
        ("template: {markers: {human: x}}", "template.markers.human: 'human' is not a name"),
        ("validate_: {every: 3}", "did you mean 'validate'?"),
        ("output: runs/y", "output: is written twice (first on line 4)"),
        ("data: {cache: ' '}", "data.cache: is blank"),
        ("? [a, b]\n: 3", "a list or a mapping can't be a setting's name"),
        ("seed: !!python/object:os.system x", "is not allowed in settings"),
        ("seed: " + "9" * 5000, "is not a number that can be read"),
        ("tasks2: {a: {path: x}}", "did you mean 'tasks'?"),
    ],
)
def test_a_fault_is_told_in_plain_words(tmp_path: Path, line: str, expected: str) -> None:
    told = faults(tmp_path, MINIMAL + line + "\n")
    assert len(told) == 1
    assert told[0].startswith("run.yaml:5: ")
    assert expected in told[0]
    assert "pydantic" not in told[0]


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        ("{}", "there is no task"),
        ("", "is empty"),
        ("./sql", "tasks: './sql' is not"),
        ("{a: 5}", "tasks.a: 5 is not a path or a section"),
        ("{a: ''}", "tasks.a: is blank"),
        ("{a: {weight: 2}}", "tasks.a.path: is required"),
        ("{a/b: x}", "tasks.a/b: a task's name is"),
    ],
)
def test_a_fault_of_tasks_is_told(tmp_path: Path, tasks: str, expected: str) -> None:
    told = faults(tmp_path, f"model: {{base: ./m}}\noutput: x\ntasks: {tasks}\n")
    assert len(told) == 1
    assert told[0].startswith("run.yaml:3: ")
    assert expected in told[0]


def test_keys_are_text_and_only_true_and_false_are_booleans(tmp_path: Path) -> None:
    settings = load(
        write(tmp_path, "model: {base: on}\noutput: 2024-01-01\nseed: 017\ntasks: {no: yes, 1: x, null: y}\n")
    )
    assert list(settings.tasks) == ["no", "1", "null"]
    assert (settings.model.base, settings.tasks["no"].path, settings.seed) == ("on", "yes", 17)
    assert settings.output == Path("2024-01-01")


def test_anchors_and_merges_are_understood(tmp_path: Path) -> None:
    text = "model: {base: ./m}\noutput: x\ntasks:\n  a: &a {path: p, weight: 2}\n  b: {weight: 3, <<: *a}\n"
    settings = load(write(tmp_path, text))
    assert (settings.tasks["b"].path, settings.tasks["b"].weight) == ("p", 3)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "run.yaml:1: is empty"),
        ("# nothing\n", "run.yaml:1: is empty"),
        ("[1, 2]", "run.yaml:1: holds [1, 2]"),
        ("just words", "run.yaml:1: holds 'just words'"),
        ("a: 1\n---\nb: 2\n", "run.yaml:2: is not valid YAML"),
        ("a: 1\nb: [1\nc: 3\n", "run.yaml:3: is not valid YAML"),
        ("a:\n\t- 1\n", "run.yaml:2: is not valid YAML"),
        (b"a: 1\nb: \xff\n", "run.yaml:2: is not UTF-8 (byte 0xff)"),
        ("a: 1\nb: \x00\n", "run.yaml:2: holds a character that YAML does not allow"),
        ("[" * 5000, "run.yaml: is nested too deeply"),
        ("a: &a [*a]\n", "run.yaml: is nested too deeply"),
        ("a: b\n" * 300_000, "run.yaml: has 1500000 bytes"),
        (
            "a0: &a0 [x,x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1},*a{i - 1}]\n" for i in range(1, 40)),
            "more than 20000 values",
        ),
    ],
)
def test_a_file_that_is_no_settings_file_is_refused(tmp_path: Path, content: str | bytes, expected: str) -> None:
    told = faults(tmp_path, content)
    assert expected in told[0]


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such file"):
        load(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="is a folder"):
        load(tmp_path)
    with pytest.raises(ConfigError, match="can't be read"):
        load("a\0b")


def test_a_byte_order_mark_and_windows_lines_do_no_harm(tmp_path: Path) -> None:
    assert load(write(tmp_path, "\ufeff" + MINIMAL.replace("\n", "\r\n"))).output == Path("runs/x")


def test_settings_may_be_written_as_json(tmp_path: Path) -> None:
    text = json.dumps({"model": {"base": "./m"}, "tasks": {"a": "\U0001f600"}, "output": "x"}, indent="\t")
    assert load(write(tmp_path, text, "run.json")).tasks["a"].path == "\U0001f600"
    assert faults(tmp_path, text.replace('"output"', '"outptu"'), name="run.json")[-1].startswith("run.json:8: outptu")
    assert faults(tmp_path, text[:-3], name="run.json")[0].startswith("run.json:8: is not valid JSON")


def test_overrides_go_on_top(tmp_path: Path) -> None:
    overrides = [
        *(
            "tasks.sql.weight=2",
            "validate.every=5",
            "template.system=Be brief",
            "adapter={kind: none}",
            "data.cache=null",
        ),
        *("tasks.new.one=./new", "optimizer.betas=[0.8, 0.9]", "optimizer.lr=1e-5", "output=runs/y=z"),
    ]
    settings = load(write(tmp_path, MINIMAL + "template: chatml\n"), overrides)
    assert (settings.tasks["sql"].path, settings.tasks["sql"].weight) == ("./sql", 2)
    assert settings.tasks["new.one"].path == "./new"
    assert settings.validate_.every == 5
    assert (settings.template.name, settings.template.system) == ("chatml", "Be brief")
    assert settings.adapter.kind == "none"
    assert settings.optimizer.betas == (0.8, 0.9)
    assert settings.output == Path("runs/y=z")


def test_an_override_reaches_a_task_whose_name_holds_dots(tmp_path: Path) -> None:
    text = "model: {base: ./m}\noutput: x\ntasks: {a: p, a.b: q}\nmixture: {by: weight, weights: {a: 1, a.b: 1}}\n"
    settings = load(write(tmp_path, text), ["tasks.a.b.weight=3", "mixture.weights.a.b=4"])
    assert (settings.tasks["a"].weight, settings.tasks["a.b"].weight) == (1, 3)
    assert settings.mixture.weights["a.b"] == 4


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("=3", "is not of the form"),
        ("a..b=3", "is not of the form"),
        ("seed.x=3", "seed is a setting, not a section"),
        ("seed=", "override 'seed=': seed: is empty"),
        ("seed=x", "override 'seed=x': seed: 'x' is not a whole number"),
        ("output=[1", "is not valid YAML"),
        ("adapter.rnk=8", "override 'adapter.rnk=8': adapter.rnk: there is no such setting; did you mean 'rank'?"),
        ("tasks.sql={weight: 2}", "tasks.sql.path: is required"),
    ],
)
def test_a_fault_of_an_override_names_it(tmp_path: Path, override: str, expected: str) -> None:
    told = faults(tmp_path, MINIMAL + "seed: 3\n", override)
    assert len(told) == 1
    assert told[0].startswith(f"override '{override}'")
    assert expected in told[0]


def test_to_yaml_gives_the_same_settings_back(tmp_path: Path) -> None:
    settings = from_mapping(
        {
            "model": {"base": "1e5"},
            "tasks": {"no": "yes", "1": Path("017"), "09": "0o17", "ü": "~", "x": "\t a: 'b' \"c\" #\x85\x00"},
            "output": Path("null"),
            "template": {"name": "mftcoder", "markers": {"user": "### Q:\n\n", "assistant": ""}},
            "optimizer": {"lr": 1e-7, "eps": 1e-12, "betas": (0.9, 0.95)},
            "adapter": {"targets": ["true", "q_proj"]},
            "seed": 2**63 - 1,
        }
    )
    text = to_yaml(settings)
    assert load(write(tmp_path, text)) == settings
    assert to_yaml(load(write(tmp_path, text))) == text


def test_from_mapping_has_the_same_errors_without_a_place() -> None:
    with pytest.raises(ConfigError) as caught:
        from_mapping({"model": {"base": "m", "dtyp": 1}, "tasks": {"a": "p"}, "output": "x", 5: 3})  # type: ignore[dict-item]
    assert str(caught.value).splitlines()[0] == "model.dtyp: there is no such setting; did you mean 'dtype'?"
    assert "5: there is no such setting" in str(caught.value)


NAMES = st.sampled_from(
    [
        *Settings.model_fields,
        "validate",
        "base",
        "path",
        "weights",
        "sql",
        "rank",
        "betas",
        "markers",
        "user",
        "a.b",
        "",
    ]
)
LEAVES = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.binary(max_size=3), st.dates()),
    *(st.just(10**400), st.just(Path("x")), st.sampled_from(["lora", "none", "task", "weight"])),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers() | st.none(), inner, max_size=4),
    max_leaves=12,
)


def settings_or_message(make: Callable[[], Settings]) -> Settings | str:
    """What `make` returns, or the ConfigError's message; any other exception is let through."""
    try:
        return make()
    except ConfigError as error:
        return str(error)


@given(st.dictionaries(NAMES, TREES, max_size=8))
def test_any_mapping_gives_settings_or_a_config_error(mapping: dict[str, object]) -> None:
    base: dict[str, object] = {"model": {"base": "m"}, "tasks": {"sql": "p"}, "output": "x"}
    for tried in (mapping, base | mapping):
        found = settings_or_message(partial(from_mapping, tried))
        if isinstance(found, Settings):
            assert from_mapping(found.model_dump(by_alias=True)) == found
        else:
            assert found.strip()


@given(text=st.text(alphabet="ab:{}[]&*<>!|-'\"#,\n\t .1e%@é", max_size=40), override=st.text(max_size=12))
def test_any_text_gives_settings_or_a_config_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, override: str
) -> None:
    file = tmp_path_factory.getbasetemp() / "fuzz.yaml"
    for content in (text, MINIMAL + text):
        file.write_text(content, encoding="utf-8")
        assert settings_or_message(partial(load, file, [override, f"tasks.{override}", f"seed={override}"]))


def test_a_value_that_can_hardly_be_printed_is_still_told() -> None:
    for value in (10**5000, float("inf"), object(), {"a": {"b": []}}, [[]], b"\xff", "\ud800"):
        with pytest.raises(ConfigError, match=r"seed: .* is not a whole number"):
            from_mapping({"model": {"base": "m"}, "tasks": {"sql": "p"}, "output": "x", "seed": value})
