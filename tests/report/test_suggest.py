"""What is suggested follows from the record, each with its reason; what the record does not show is left alone and said."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.report._runs import TASKS, interfere, rewrite, settings_of_three, three_tasks
from weft.cli import main as cli
from weft.config.load import load
from weft.config.resolve import resolve
from weft.config.settings import Settings
from weft.data.plan import make_plan
from weft.data.prepare import prepare
from weft.errors import CheckpointError, ConfigError
from weft.report.suggest import Suggested, Suggestions, as_yaml, suggest, write
from weft.training.run import train

FALLING = [6.0, 5.0, 4.0, 3.5, 3.0, 2.5, 2.2, 1.9, 1.6]
FLAT = [6.0, 3.0, 2.1, 2.0, 2.0, 2.0, 1.999, 1.999, 1.999]
OVERFITS = [6.0, 4.0, 3.0, 3.1, 3.05, 2.8, 3.3, 3.6, 4.0]


@pytest.fixture(scope="module")
def trained(model_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return three_tasks(model_folder("llama"), tmp_path_factory.mktemp("suggest"))


@pytest.fixture
def run(trained: Settings, tmp_path: Path) -> Path:
    shutil.copytree(trained.output, tmp_path / "run")
    return tmp_path / "run"


def only(found: Suggestions) -> Suggested:
    assert len(found.runs) == 1
    return found.runs[0]


def by_name(found: Suggested) -> dict[str, object]:
    return {change.setting: change.value for change in found.changes if change.setting != "output"}


def reason(found: Suggested, setting: str) -> str:
    return next(change.reason for change in found.changes if change.setting == setting)


def test_a_task_that_still_falls_gets_more_and_one_that_is_flat_less(run: Path) -> None:
    rewrite(run, {"sums": FALLING, "words": FLAT, "noise": FLAT})
    found = only(suggest(run))
    changes = by_name(found)
    late = (2.2 - 1.6) / (6.0 - 1.6)
    assert changes.pop("tasks.sums.weight") == pytest.approx(1 + late, abs=0.005)
    assert changes.pop("tasks.words.weight") == changes.pop("tasks.noise.weight") == 0.8
    assert changes.pop("tasks.sums.epochs") == 6.0, "half as much again of the 4 that it saw"
    assert changes == {}
    assert "from 2.2000 to 1.6000, 14% of its whole fall" in reason(found, "tasks.sums.weight")


def test_an_overfitted_task_gets_the_epochs_of_its_best_and_is_frozen_in_time(run: Path) -> None:
    rewrite(run, {"sums": OVERFITS, "words": FLAT, "noise": FLAT})
    found = only(suggest(run))
    changes = by_name(found)
    assert changes["tasks.sums.epochs"] == pytest.approx(2.5, abs=0.3), "it was best after five eighths of four epochs"
    assert changes["tasks.sums.freeze_after"] == 3, "twice in a row it had no better one, and a better one came after"
    assert set(changes) == {"tasks.sums.epochs", "tasks.sums.freeze_after"}
    assert "rose to 4.0000" in reason(found, "tasks.sums.epochs")


def test_tasks_that_converge_at_different_times_ask_for_weights_that_move(run: Path) -> None:
    rewrite(run, {"sums": OVERFITS, "words": FALLING, "noise": FLAT})
    found = only(suggest(run))
    assert found.settings.balance.method == "coba"
    assert found.settings.tasks["sums"].weight < found.settings.tasks["noise"].weight < 1.0
    assert found.settings.tasks["words"].weight > 1.0


def test_conflicting_tasks_are_parted_into_runs_of_their_own(run: Path, tmp_path: Path) -> None:
    rewrite(run, {"sums": FALLING, "words": FLAT, "noise": FLAT})
    interfere(run, {("sums", "words"): 0.3, ("sums", "noise"): -0.25, ("words", "noise"): -0.15})
    found = suggest(run)
    assert [one.tasks for one in found.runs] == [("sums", "words"), ("noise",)]
    assert "mean cosine of the gradients -0.20" in reason(found.runs[0], "tasks")
    files = write(found, tmp_path / "next.yaml")
    assert [file.name for file in files] == ["next.yaml", "next-2.yaml"]
    for file, one in zip(files, found.runs, strict=True):
        assert resolve(load(file)) == resolve(one.settings)
        assert tuple(load(file).tasks) == one.tasks
    assert len({load(file).output for file in files}) == 2


def test_one_measurement_of_gradients_or_friendly_tasks_part_nobody(run: Path) -> None:
    interfere(run, {("sums", "noise"): -0.5}, times=1)
    assert any("one measurement" in line for line in suggest(run).kept)
    only(suggest(run))
    interfere(run, {("sums", "noise"): 0.2}, times=4)
    assert any("no tasks were seen to be in each other's way" in line for line in suggest(run).kept)


def test_a_task_that_its_own_run_beats_is_taken_out(run: Path, trained: Settings) -> None:
    rewrite(run, dict.fromkeys(TASKS, FLAT))
    alone = run.with_name("run-singles") / "noise"
    train(trained.model_copy(update={"tasks": {"noise": trained.tasks["noise"]}, "output": alone}))
    rewrite(alone, {"noise": [0.9 * loss for loss in FLAT]})
    found = suggest(run)
    assert [one.tasks for one in found.runs] == [("sums", "words"), ("noise",)]
    assert "1.9990 together and 1.7991 alone (-11.1%)" in reason(found.runs[1], "tasks")


@pytest.mark.parametrize(
    "mixture",
    [
        {"by": "weight", "weights": {"sums": 1, "words": 2, "noise": 1}},
        {"by": "temperature", "temperature": 3.0},
        {"by": "rows", "epochs": 4, "max_steps": 20},
    ],
)
def test_epochs_are_said_whatever_measured_the_mixture(
    model_folder: Callable[[str], Path], tmp_path: Path, mixture: dict[str, object]
) -> None:
    """The others keep the epochs that they saw: a run of the suggested settings sees as much of them."""
    settings = three_tasks(model_folder("llama"), tmp_path, mixture=mixture)
    rewrite(settings.output, {"sums": FALLING, "words": FLAT, "noise": FLAT})
    found = only(suggest(settings.output))
    assert found.settings.mixture.by == "rows"
    assert found.settings.mixture.max_steps is None
    seen: dict[str, int] = dict.fromkeys(TASKS, 0)
    for line in (settings.output / "ledger.jsonl").read_text().splitlines():
        for name in json.loads(line).get("samples", []):
            seen[name.partition(":")[0]] += 1
    train(resolve(found.settings))
    again: dict[str, int] = dict.fromkeys(TASKS, 0)
    for line in (found.settings.output / "ledger.jsonl").read_text().splitlines():
        for name in json.loads(line).get("samples", []):
            again[name.partition(":")[0]] += 1
    for name in ("words", "noise"):
        assert again[name] == pytest.approx(seen[name], abs=2)
    assert again["sums"] == pytest.approx(1.5 * seen["sums"], rel=0.08)


def test_stages_and_sampling_by_weights_are_left_alone(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    stages = [{"by": "weight", "weights": {"noise": 1.0}}, {"by": "weight", "weights": {"sums": 1.0, "words": 1.0}}]
    settings = three_tasks(model_folder("llama"), tmp_path, mixture={"stages": stages})
    rewrite(settings.output, {"sums": FALLING, "words": FALLING, "noise": OVERFITS})
    interfere(settings.output, {("noise", "sums"): -0.4, ("noise", "words"): -0.4, ("sums", "words"): 0.4})
    found = suggest(settings.output)
    assert not any(change.setting.endswith(".epochs") for one in found.runs for change in one.changes)
    assert any("mixture.stages say" in line for line in found.kept)
    apart = {one.tasks: one.settings.mixture.stages for one in found.runs}
    assert [stage.weights for stage in apart["noise",]] == [{"noise": 1.0}], "a stage without any of its tasks goes"
    assert len(apart["sums", "words"]) == 1


SWEEPING: dict[str, dict[str, object]] = {
    "weights of the tasks have no effect": {"loss": {"weighting": "token"}},
    "a stage gives tasks the weight 0": {
        "mixture": {
            "stages": [
                {"by": "weight", "weights": {"noise": 1.0, "sums": 0.0, "words": 0.0}},
                {"by": "weight", "weights": {"sums": 1.0, "words": 1.0}},
            ]
        }
    },
    "a record is replayed": {"balance": {"method": "replay"}},
}


@pytest.mark.parametrize("parted", [False, True])
@pytest.mark.parametrize("case", SWEEPING)
def test_what_is_suggested_can_be_honoured(
    model_folder: Callable[[str], Path], tmp_path: Path, case: str, parted: bool
) -> None:
    sections = dict(SWEEPING[case])
    if "balance" in sections:
        recorded = three_tasks(model_folder("llama"), tmp_path, mixture={"epochs": 1})
        sections = {
            "balance": {"method": "replay", "options": {"record": str(recorded.output)}},
            "mixture": {"epochs": 1},
            "output": str(tmp_path / "again"),
        }
    settings = three_tasks(model_folder("llama"), tmp_path, **sections)
    rewrite(settings.output, {"sums": OVERFITS, "words": FALLING, "noise": FLAT})
    if parted:
        interfere(settings.output, {("sums", "noise"): -0.5, ("words", "noise"): -0.5, ("sums", "words"): 0.5})
    found = suggest(settings.output)
    assert [one.tasks for one in found.runs] == ([("sums", "words"), ("noise",)] if parted else [TASKS])
    for file, one in zip(write(found, tmp_path / "next.yaml"), found.runs, strict=True):
        again = resolve(load(file))
        make_plan(again, prepare(again))
        assert ("balance.method" in by_name(one)) == (parted and "balance" in sections), "fixed, in place of replay"
        if "balance" in sections:
            assert again.balance.method == ("fixed" if parted else "replay")
            assert bool(again.balance.options) == (not parted)
    told = "\n".join(found.kept)
    if "balance" in sections:
        assert "freeze_after: balance.method: replay freezes the tasks that its record says were frozen" in told
    if "loss" in sections:
        assert "balance.method: loss.weighting: token does not look at the tasks' weights" in told
    if "mixture" in SWEEPING[case] and parted:
        assert [len(one.settings.mixture.stages) for one in found.runs] == [1, 1]


def test_nothing_more_is_suggested_of_a_task_that_was_lost(run: Path) -> None:
    rewrite(run, {"sums": [6.0, 5.0, 4.0, 3.0, 2.0, None, None, None], "words": FLAT[:8], "noise": FLAT[:8]})
    found = suggest(run)
    assert by_name(only(found)) == {}
    told = "\n".join(found.notes)
    assert "nothing can be said of sums (it has no finite loss since step " in told
    assert "a lower optimizer.lr may be needed" in told


def test_a_frozen_task_that_did_not_get_worse_has_not_overfitted(run: Path) -> None:
    rewrite(run, {"sums": [6.0, 5.0, 4.0, 4.0, 4.0, 3.5, 3.2, 3.0], "words": FLAT[:8], "noise": FLAT[:8]})
    step = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines() if "macro" in line][4]
    frozen = {"step": step, "frozen": {"sums": {"best_step": 6, "best_loss": 4.0, "loss": 4.0}}}
    (run / "balance.jsonl").write_text(json.dumps(frozen) + "\n")
    assert by_name(only(suggest(run))) == {}


def test_tasks_whose_names_begin_alike_keep_what_is_theirs(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    """Task a.weight: its own line and that of a's weight have one dotted name; a.b's settings begin as those of a."""
    tasks = settings_of_three(model_folder("llama"), tmp_path).tasks
    named = {"a": tasks["sums"], "a.b": tasks["words"], "a.weight": tasks["noise"]}
    settings = three_tasks(model_folder("llama"), tmp_path, tasks=named)
    rewrite(settings.output, {"a": OVERFITS, "a.b": OVERFITS, "a.weight": FALLING})
    found = suggest(settings.output)
    lines = as_yaml(only(found), found).splitlines()
    at = {line.split(":")[0].strip(): number for number, line in enumerate(lines)}
    assert "# was" not in lines[at["a.weight"]]
    assert "weight: 0.67  # was 1" in "\n".join(lines[at["a"] : at["a.b"]])
    interfere(settings.output, {("a", "a.b"): -0.5, ("a", "a.weight"): -0.5, ("a.b", "a.weight"): 0.5}, tasks=[*named])
    changed = {one.tasks: set(by_name(one)) for one in suggest(settings.output).runs}
    assert {f"tasks.a.b.{name}" for name in ("weight", "epochs", "freeze_after")} <= changed["a.b", "a.weight"]
    assert {"tasks.a.epochs", "tasks.a.freeze_after"} <= changed["a",]
    assert not any(name.startswith(("tasks.a.b.", "tasks.a.weight.")) for name in changed["a",])


def test_the_yaml_loads_and_every_changed_line_has_its_reason(run: Path, tmp_path: Path) -> None:
    rewrite(run, {"sums": OVERFITS, "words": FALLING, "noise": FLAT})
    found = suggest(run)
    (file,) = write(found, tmp_path / "next.yaml")
    assert load(file) == only(found).settings
    changed = [line for line in file.read_text().splitlines() if "  # was " in line]
    assert len(changed) == len(only(found).changes)
    assert any("weight: 0.67" in line and "rose to 4.0000" in line for line in changed)
    assert load(file).output != load(run / "settings.yaml").output
    with pytest.raises(ConfigError, match="there already"):
        write(found, file)


def test_where_nothing_is_known_nothing_is_suggested(run: Path) -> None:
    rewrite(run, {})
    found = suggest(run)
    assert by_name(only(found)) == {}
    assert any("no validation at all" in note for note in found.notes)
    assert len(found.kept) >= 4
    assert as_yaml(only(found), found).count("# was ") == 1, "the output alone"


def test_a_single_validation_is_too_rare_and_asks_for_more_of_them(run: Path) -> None:
    rewrite(run, {name: [6.0, 3.0] for name in TASKS})
    found = suggest(run)
    assert set(by_name(only(found))) == {"validate.every"}
    assert any("too rare" in note for note in found.notes)


def test_losses_that_are_not_finite_and_absent_tasks_are_no_evidence(run: Path) -> None:
    rewrite(run, {"sums": [6.0, None, None, 3.0, None, None, 2.0, None, 1.0], "words": [6.0, 3.0, 2.0]})
    found = suggest(run)
    assert by_name(only(found)) == {}
    told = "\n".join(found.notes)
    assert "sums (3 validations after the start, and 5 with a loss that is not finite" in told
    assert "noise (it has no validation rows)" in told


def test_an_unfinished_run_is_not_said_to_fall_at_its_end(run: Path) -> None:
    rewrite(run, {"sums": FALLING, "words": FLAT, "noise": OVERFITS})
    shutil.rmtree(run / "final")
    found = suggest(run)
    assert {name.partition(".")[2] for name in by_name(only(found))} == {"noise.epochs", "noise.freeze_after"}
    assert any("not come to its end" in note for note in found.notes)


def test_a_task_that_was_never_better_than_the_base_is_told_and_left(run: Path) -> None:
    rewrite(run, {"sums": [2.0, *FLAT[1:]][:1] + [3.0] * 8, "words": FLAT, "noise": FLAT})
    found = suggest(run)
    assert by_name(only(found)) == {}
    assert any("never below the base model's 2.0000" in note for note in found.notes)


def test_gone_stores_say_nothing_of_epochs(run: Path) -> None:
    text = (run / "settings.yaml").read_text()
    (run / "settings.yaml").write_text(text.replace(str(load(run / "settings.yaml").data.cache), str(run / "gone")))
    rewrite(run, {"sums": OVERFITS, "words": FLAT, "noise": FLAT})
    found = suggest(run)
    assert set(by_name(only(found))) == {"tasks.sums.freeze_after"}
    assert any("token stores of sums, words, noise are gone" in line for line in found.kept)


def test_one_task_alone(model_folder: Callable[[str], Path], tmp_path: Path) -> None:
    settings = settings_of_three(model_folder("llama"), tmp_path, mixture={"epochs": 8})
    single = settings.model_copy(update={"tasks": {"a.b": settings.tasks["sums"]}, "output": tmp_path / "single"})
    train(single)
    rewrite(single.output, {"a.b": OVERFITS})
    found = only(suggest(single.output))
    assert set(by_name(found)) == {"tasks.a.b.epochs", "tasks.a.b.freeze_after"}
    assert found.settings.tasks["a.b"].freeze_after == 3


def test_the_verb_prints_yaml_alone_on_standard_output(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rewrite(run, {"sums": OVERFITS, "words": FALLING, "noise": FLAT})
    assert cli.main(["suggest", str(run)]) == 0
    printed = capsys.readouterr()
    assert yaml.safe_load(printed.out)["balance"]["method"] == "coba"
    assert "because" in printed.err
    assert cli.main(["suggest", str(run), "-o", str(run.parent / "next.yaml")]) == 0
    assert "weft train" in capsys.readouterr().out
    with pytest.raises(CheckpointError, match="no run"):
        suggest(run.parent)
