"""What happens between steps: looks leave training alone, weights act, tasks freeze, sampling follows, gradients are compared."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.balance.runs import ACTIVE, QUICK, SAMPLED, records
from tests.faults.runs import witness
from tests.invariants.reference import randomise_adapter
from weft.balance import check
from weft.config.settings import Settings
from weft.data.batches import make_batch
from weft.errors import CheckpointError, ConfigError
from weft.training import between, engines, look
from weft.training.events import read_journal
from weft.training.run import train
from weft.training.setup import build
from weft.types import silent

ALL = ("sums", "chat", "one")


def _steps(folder: Path) -> list[dict[str, Any]]:
    return [record for record in read_journal(folder / "metrics.jsonl") if "grad_norm" in record]


def _spent(folder: Path) -> dict[int, list[str]]:
    return {r["step"]: r["samples"] for r in read_journal(folder / "ledger.jsonl") if "samples" in r}


def test_looks_change_nothing_that_is_trained(make_settings: Callable[..., Settings]) -> None:
    looking = {**ACTIVE, "balance": {**ACTIVE["balance"], "method": "tests.balance.runs:watching"}}
    weights = {"tasks": {name: task.model_dump() | {"weight": 1.0} for name, task in make_settings().tasks.items()}}
    dropout = {"adapter": {"dropout": 0.1}}
    with_looks = make_settings(**looking, **weights, **dropout)
    without = make_settings(**{**ACTIVE, "balance": {}}, **weights, **dropout, output=str(with_looks.output) + "-none")
    train(with_looks)
    train(without)
    assert len(records(with_looks.output, "look")) > 5
    for same in ("weights", "optimizer", "metrics", "final"):
        assert witness(with_looks.output)[same] == witness(without.output)[same], same


def test_looks_are_counted_in_the_ledger_and_have_the_same_rows(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(**{**ACTIVE, "balance": {**ACTIVE["balance"], "method": "coba"}})
    train(settings)
    looked = [r for r in read_journal(settings.output / "ledger.jsonl") if "looked_at" in r]
    looks = records(settings.output, "look")
    assert [r["step"] for r in looked] == [r["step"] for r in looks] == list(range(0, looks[-1]["step"] + 1, 2))
    for name in ALL:
        rows = {tuple(n for n in r["looked_at"] if n.startswith(name)) for r in looked} - {()}
        assert len(rows) == 1, "a task's rows are the same in every look that has it"
    trained = {name for names in _spent(settings.output).values() for name in names}
    assert not trained & set(looked[0]["looked_at"]), "validation rows are never trained on"
    assert all(r["tokens"] > 0 and r["seconds"] >= 0 for r in looks)


def test_a_first_look_is_the_loss_of_the_base_model_on_those_rows(make_settings: Callable[..., Settings]) -> None:
    rows = 1000  # all validation rows, so that the validation itself is the reference
    how = {**ACTIVE, "batch": {"tokens_per_step": 1024}, "mixture": {"epochs": 16}}
    settings = make_settings(**{**how, "balance": {"every": 2, "rows": rows, "method": "coba"}})
    train(settings)
    validations = {
        r["step"]: r["validation"]["tasks"]
        for r in read_journal(settings.output / "metrics.jsonl")
        if "validation" in r
    }
    looks = {r["step"]: r["look"] for r in records(settings.output, "look")}
    for step in (0, 4, 8):
        for name, loss in looks[step].items():
            assert loss == pytest.approx(validations[step][name]["loss"], abs=1e-5), (step, name)


def test_weights_are_in_the_loss_as_recorded(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(**{**ACTIVE, "balance": {**ACTIVE["balance"], "method": "tests.balance.runs:build"}})
    train(settings)
    told = {r["step"]: r["weights"] for r in records(settings.output, "weights")}
    now = told[0]
    shares = set()
    for record in _steps(settings.output):
        weights = {name: task["weight"] for name, task in record["tasks"].items()}
        assert weights == {name: now[name] for name in weights}
        for name, task in record["tasks"].items():
            assert task["share"] == pytest.approx(now[name] / sum(weights.values()), abs=1e-6)
            shares.add(round(task["share"], 3))
        now = told.get(record["step"], now)
    assert len(shares) > 4


@pytest.mark.parametrize("cut", [{"tokens_per_micro_batch": 4096}, {"tokens_per_micro_batch": 300}])
@pytest.mark.parametrize("method", ["coba", "gradnorm"])
def test_weights_do_not_depend_on_how_looks_and_steps_are_cut(
    make_settings: Callable[..., Settings], method: str, cut: dict[str, int]
) -> None:
    balance = {**ACTIVE["balance"], "method": method, "options": QUICK[method]}
    one = make_settings(**{**ACTIVE, "balance": balance})
    other = make_settings(
        **{**ACTIVE, "balance": balance, "batch": {**ACTIVE["batch"], **cut}}, output=str(one.output) + "-other"
    )
    train(one)
    train(other)
    _assert_same_weights(one.output, other.output, 1e-3)


def _assert_same_weights(one: Path, other: Path, tolerance: float) -> None:
    found, expected = ([r["weights"] for r in records(folder, "weights")] for folder in (other, one))
    assert len(found) == len(expected) > 3
    assert len({tuple(weights.values()) for weights in expected}) > 3, "weights that stand still prove nothing"
    for a, b in zip(found, expected, strict=True):
        assert a == pytest.approx(b, rel=tolerance)


@pytest.mark.slow
def test_two_processes_find_the_same_weights_and_cosines(make_settings: Callable[..., Settings]) -> None:
    balance = {**ACTIVE["balance"], "method": "gradnorm", "options": QUICK["gradnorm"]}
    sections = {**ACTIVE, "balance": balance, "validate": {"every": 4, "interference": True}}
    one = make_settings(**sections)
    two = make_settings(**sections, output=str(one.output) + "-two", engine={"processes": 2, "kind": "ddp"})
    train(one)
    train(two)
    _assert_same_weights(one.output, two.output, 1e-3)
    for a, b in zip(records(one.output, "interference"), records(two.output, "interference"), strict=True):
        assert np.allclose(a["interference"]["cosine"], b["interference"]["cosine"], atol=1e-3)


def test_cosines_are_those_of_gradients_taken_one_by_one(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(data={"validation": 0.3})
    settings.output.mkdir()
    run = build(settings, engines.build(settings.engine), silent)
    randomise_adapter(run.objective)
    seen = look.look(run.looks, (0, 1, 2), run.plan, settings, run.engine, run.objective, run.dtype, cosines=True)
    vectors = []
    for parts in run.looks.parts:
        run.objective.zero_grad()
        total = 0.0
        for i in range(len(parts.task_P)):  # one row at a time, summed by hand
            one = parts.take(slice(i, i + 1))
            batch = make_batch(run.plan.stores, one, np.ones(1))
            trained = np.flatnonzero(batch.weight_T)
            weight_N = torch.from_numpy(batch.weight_T[trained])
            tensors = [torch.from_numpy(a) for a in (batch.ids_T, batch.position_T)]
            loss, *_ = run.objective(
                *tensors,
                list(batch.lengths),
                torch.from_numpy(trained),
                torch.from_numpy(batch.labels_T[trained]),
                weight_N,
            )
            loss.backward()
            total += float(weight_N.sum())
        named = sorted((n, p) for n, p in run.objective.named_parameters() if p.requires_grad)
        vectors.append(torch.cat([p.grad.flatten() for _, p in named]).double() / total)  # type: ignore[union-attr]
    run.objective.zero_grad()
    assert seen.cosine_KK is not None
    for i in range(3):
        assert seen.norm_K[i] == pytest.approx(float(vectors[i].norm()), rel=1e-4)
        for j in range(3):
            expected = torch.nn.functional.cosine_similarity(vectors[i], vectors[j], dim=0)
            assert seen.cosine_KK[i, j] == pytest.approx(float(expected), abs=1e-4)
    assert np.abs(seen.cosine_KK - np.eye(3)).max() > 0.01
    assert all(p.grad is None for p in run.objective.parameters()), "looking leaves no gradient behind"


def test_a_sketch_keeps_the_cosines() -> None:
    size = 1 << 20
    generator = torch.Generator().manual_seed(1)
    vectors = torch.randn(3, size, generator=generator)
    vectors[1] += vectors[0]
    sketch = look._Sketch()
    exact, found = look._cosines(list(vectors), (0, 1, 2), 3), look._cosines([sketch(v) for v in vectors], (0, 1, 2), 3)
    assert exact[0, 1] == pytest.approx(0.707, abs=0.01)
    assert np.abs(found - exact).max() < 0.01


def test_tasks_take_turns_where_a_look_would_cost_more_than_a_step(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(look, "_FEW_ROWS", 50)
    settings = make_settings(
        **{**ACTIVE, "batch": {"tokens_per_step": 256}, "balance": {"every": 1, "rows": 50, "method": "coba"}}
    )
    settings.output.mkdir()
    run = build(settings, engines.build(settings.engine), silent)
    assert run.looks.tasks(0) == tuple(task for turn in run.looks.turns for task in turn)
    assert len(run.looks.turns) > 1
    seen = [task for step in range(1, len(run.looks.turns) + 1) for task in run.looks.tasks(step)]
    assert sorted(seen) == [0, 1, 2], "every task once before any comes again"
    assert run.looks.tokens <= max(run.plan.mean_tokens_per_step, *(int(p.length_P.sum()) for p in run.looks.parts))


def test_by_itself_a_run_looks_as_often_as_costs_two_percent(make_settings: Callable[..., Settings]) -> None:
    settings = make_settings(**{**ACTIVE, "balance": {"method": "coba", "rows": 2}})
    settings.output.mkdir()
    run = build(settings, engines.build(settings.engine), silent)
    cost = run.looks.tokens * look._FORWARD / (run.looks.every * run.plan.mean_tokens_per_step)
    assert cost <= look.COST < cost * run.looks.every / max(1, run.looks.every - 1)


def test_a_task_that_does_not_improve_is_frozen_and_its_rows_are_not_spent(
    make_settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    tasks = {name: task.model_dump() for name, task in make_settings().tasks.items()}
    tasks["sums"]["freeze_after"] = 1
    how = {**ACTIVE, "tasks": tasks, "optimizer": {"lr": 0.3}, "validate": {"every": 2}}
    settings = make_settings(**how)
    free = make_settings(**{**how, "tasks": make_settings().tasks}, output=str(settings.output) + "-free")
    with caplog.at_level(logging.INFO, "weft"):
        train(settings)
    train(free)
    (frozen,) = records(settings.output, "frozen")
    assert set(frozen["frozen"]) == {"sums"}
    assert f"step {frozen['step']}: task sums is frozen" in caplog.text
    spent, planned = _spent(settings.output), _spent(free.output)
    assert spent.keys() == planned.keys(), "the others go on to the end"
    for step, names in planned.items():
        kept = [n for n in names if step <= frozen["step"] or not n.startswith("sums:")]
        assert sorted(spent[step]) == sorted(kept)
    after = [r for r in _steps(settings.output) if r["step"] > frozen["step"]]
    assert len(after) > 2
    assert all("sums" not in r["tasks"] for r in after)
    best = frozen["frozen"]["sums"]["best_step"]
    losses = {
        r["step"]: r["validation"]["tasks"]["sums"]["loss"]
        for r in read_journal(settings.output / "metrics.jsonl")
        if "validation" in r
    }
    assert best == min((s for s in losses if 0 < s <= frozen["step"]), key=losses.__getitem__)


def test_a_run_ends_when_every_task_is_frozen(make_settings: Callable[..., Settings]) -> None:
    how = {**ACTIVE, "optimizer": {"lr": 2.0, "clip_norm": 0.0}, "validate": {"every": 1, "freeze_after": 1}}
    settings = make_settings(**how)
    train(settings)
    frozen = {name for r in records(settings.output, "frozen") for name in r["frozen"]}
    assert frozen == set(ALL)
    last = max(r["step"] for r in records(settings.output, "frozen"))
    assert [r["step"] for r in _steps(settings.output)][-1] == last


@pytest.mark.parametrize("final", ["best", "best_macro", "best_worst"])
def test_the_result_is_the_best_by_the_measure_that_was_asked_for(
    make_settings: Callable[..., Settings], final: str
) -> None:
    how = {
        **ACTIVE,
        "mixture": {"epochs": 14},
        "optimizer": {"lr": 0.1, "schedule": "constant"},
        "validate": {"every": 1},
        "save": {"every": 100, "keep": 1, "final": final},
    }
    settings = make_settings(**how)
    result = train(settings)
    validations = {
        r["step"]: r["validation"]
        for r in read_journal(settings.output / "metrics.jsonl")
        if "validation" in r and r["step"]
    }
    measure = {
        "best": lambda v: v["loss"],
        "best_macro": lambda v: np.mean([t["loss"] for t in v["tasks"].values()]),
        "best_worst": lambda v: max(t["loss"] for t in v["tasks"].values()),
    }[final]
    best = min(validations, key=lambda step: measure(validations[step]))
    assert best != max(validations), "a run that is best at its end proves nothing"
    assert json.loads((result.final / "manifest.json").read_text())["step"] == result.final_step == best
    tasks = validations[best]["tasks"]
    assert result.losses_after == {name: task["loss"] for name, task in tasks.items()}
    card = (result.final / "README.md").read_text()
    assert f"of which this is step {best}" in card
    assert all(f"{task['loss']:.4f}" in card for task in tasks.values())


def test_every_tasks_best_checkpoint_is_kept(make_settings: Callable[..., Settings]) -> None:
    how = {**ACTIVE, "optimizer": {"lr": 0.5}, "validate": {"every": 1}}
    settings = make_settings(**{**how, "save": {"every": 100, "keep": 1, "best_of_tasks": True}})
    train(settings)
    validations = [r for r in read_journal(settings.output / "metrics.jsonl") if "validation" in r and r["step"]]
    for name in ALL:
        best = min(validations, key=lambda r: r["validation"]["tasks"][name]["loss"])["step"]
        assert (settings.output / "checkpoints" / f"step-{best:08d}").is_dir()


def test_sampling_follows_the_weights_and_every_sample_has_its_turn(make_settings: Callable[..., Settings]) -> None:
    balance = {**ACTIVE["balance"], "method": "tests.balance.runs:build", "act_on": "sampling", "stage_steps": 4}
    how = {**SAMPLED, "mixture": {**SAMPLED["mixture"], "epochs": 20}, "batch": {"tokens_per_step": 512}}
    settings = make_settings(**{**how, "balance": balance})
    fixed = make_settings(**how, output=str(settings.output) + "-fixed")
    train(settings)
    train(fixed)
    assert len(_steps(settings.output)) == len(_steps(fixed.output)), "the same number of steps, whatever is drawn"
    passes = records(settings.output, "pass")
    assert [r["pass"] for r in passes] == list(range(len(passes)))
    assert len({tuple(r["shares"].values()) for r in passes}) > 2
    wanted = np.mean([[r["shares"][name] for name in ALL] for r in passes[:-1]], axis=0)
    tokens = np.array(
        [sum(r["tasks"].get(name, {"tokens": 0})["tokens"] for r in _steps(settings.output)) for name in ALL]
    )
    assert tokens / tokens.sum() == pytest.approx(wanted, abs=0.06)
    for record in _steps(settings.output):
        assert all(task["weight"] == 1.0 for task in record["tasks"].values())
    seen: dict[str, int] = {}
    for names in _spent(settings.output).values():
        for name in names:
            seen[name] = seen.get(name, 0) + 1
    for task in ALL:
        times = [n for name, n in seen.items() if name.startswith(f"{task}:")]
        assert max(times) - min(times) <= 2, "no sample a third time before all have been seen twice"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"balance": {"method": "coba"}, "loss": {"weighting": "token"}}, "set loss.weighting: task"),
        ({"balance": {"act_on": "sampling"}}, "loss.weighting: task gives every task its share"),
        ({"balance": {"act_on": "both"}}, "mixture.by: trained_tokens"),
        ({"balance": {"stage_steps": 3}}, "balance.stage_steps: has no effect"),
        ({"balance": {"method": "coba", "options": {"tua": 1}}}, "did you mean 'tau'"),
        ({"balance": {"method": "coba", "options": {"tau": -1}}}, "balance.options.tau: -1"),
        ({"balance": {"method": "fixed", "options": {"tau": 1}}}, "fixed has none"),
        ({"balance": {"method": "cobra"}}, "Did you mean 'coba'"),
        ({"balance": {"method": "coba"}}, "data.validation is 0"),
        ({"balance": {"every": 5}}, "balance.every: has no effect"),
        ({"balance": {"rows": 5}}, "balance.rows: has no effect"),
        ({"save": {"final": "best_macro"}}, "save.final: best_macro: needs validation rows"),
        ({"balance": {"method": "uniform"}, "loss": {"weighting": "token"}}, "does not look at"),
        ({"validate": {"freeze_after": 3}}, "validate.freeze_after: needs validation rows"),
        ({"balance": {"method": "replay", "options": {"record": "nowhere"}}}, "no record of a run's weights"),
    ],
)
def test_what_cannot_be_honoured_is_refused_with_a_remedy(
    make_settings: Callable[..., Settings], sections: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        check(make_settings(**sections))


def test_looks_cut_long_rows_as_one_stream_does(make_settings: Callable[..., Settings]) -> None:
    how = {**ACTIVE, "balance": {**ACTIVE["balance"], "method": "gradnorm"}, "batch": {"tokens_per_micro_batch": 32}}
    how |= {"data": {"validation": 0.3, "packing": "concat", "max_tokens": 32}, "validate": {"interference": True}}
    settings = make_settings(**how)
    settings.output.mkdir()
    run = build(settings, engines.build(settings.engine), silent)
    assert max(int(parts.length_P.max()) for parts in run.looks.parts) <= 32
    assert any(len(parts.task_P) > len(set(parts.sample_P.tolist())) for parts in run.looks.parts), "nothing was cut"
    seen = look.look(
        run.looks, (0, 1, 2), run.plan, settings, run.engine, run.objective, run.dtype, gradients=True, cosines=True
    )
    assert np.isfinite(seen.loss_K).all()
    assert np.isfinite(seen.norm_K).all()


def test_recomputed_activations_give_the_same_gradients_in_a_look(make_settings: Callable[..., Settings]) -> None:
    found = []
    for checkpointing in (False, True):
        settings = make_settings(
            data={"validation": 0.3},
            model={"gradient_checkpointing": checkpointing},
            adapter={"dropout": 0.5},
            loss={"focal": 2.0},
            output=str(make_settings().output) + str(checkpointing),
        )
        settings.output.mkdir()
        run = build(settings, engines.build(settings.engine), silent)
        randomise_adapter(run.objective)
        kept: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, kept=kept: kept.append(t.numel()) or t, lambda t: t):
            seen = look.look(
                run.looks, (0, 1, 2), run.plan, settings, run.engine, run.objective, run.dtype, gradients=True
            )
        assert all(m.training for m in run.objective.modules())
        found.append((seen.norm_K, seen.loss_K, sum(kept)))
    for a, b in zip(found[0][:2], found[1][:2], strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    assert found[1][2] < 0.5 * found[0][2], "what is kept for the backward pass"


def test_a_validation_loss_that_is_not_finite_ends_nothing(
    make_settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    honest = between.validate

    def spoiled(*arguments: Any) -> Any:
        totals = honest(*arguments)
        totals.nll_K[1] = np.nan
        return totals

    monkeypatch.setattr(between, "validate", spoiled)
    settings = make_settings(**{**ACTIVE, "validate": {"every": 2, "freeze_after": 3}, "save": {"final": "best_macro"}})
    result = train(settings)
    assert result.losses_after["chat"] is None
    assert result.losses_after["sums"] is not None
    (frozen,) = [r["frozen"]["chat"] for r in records(settings.output, "frozen") if "chat" in r["frozen"]]
    assert frozen["best_loss"] is None
    assert train(settings) == result


def test_a_replay_is_refused_where_its_record_has_changed(make_settings: Callable[..., Settings]) -> None:
    first = make_settings(**{**ACTIVE, "balance": {**ACTIVE["balance"], "method": "tests.balance.runs:build"}})
    train(first)
    again = {"balance": {"method": "replay", "options": {"record": str(first.output)}}}
    second = make_settings(**{**ACTIVE, **again, "output": str(first.output) + "-again"})
    train(second)
    file = first.output / "balance.jsonl"
    file.write_text(file.read_text() + '{"step": 900, "tokens": 1, "look": {}}\n')
    with pytest.raises(CheckpointError, match="the record that is replayed"):
        train(second)
    with pytest.raises(ConfigError, match="only the loss followed"):
        check(make_settings(**{**SAMPLED, "balance": {**again["balance"], "act_on": "sampling"}}))


def test_a_run_in_which_a_method_sees_too_little_is_told(
    make_settings: Callable[..., Settings], caplog: pytest.LogCaptureFixture
) -> None:
    settings = make_settings(**{**ACTIVE, "balance": {"method": "coba"}})
    settings.output.mkdir()
    with caplog.at_level(logging.INFO, "weft"):
        build(settings, engines.build(settings.engine), silent)
    assert "too seldom for coba to act well" in caplog.text
