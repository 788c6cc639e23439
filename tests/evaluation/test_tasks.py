"""Scores against the run's own record, and against answers that are known by heart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.generation.runs import ANSWERS
from weft.config.settings import Settings
from weft.errors import ConfigError, DataError
from weft.evaluation.held_out import held_out_questions
from weft.evaluation.tasks import evaluate
from weft.generation.batch import generate
from weft.generation.model import open_model
from weft.types import Message


def validations(settings: Settings) -> list[dict[str, dict[str, float]]]:
    lines = (settings.output / "metrics.jsonl").read_text().splitlines()
    return [record["validation"]["tasks"] for line in lines if "validation" in (record := json.loads(line))]


def test_the_losses_of_a_run_are_those_of_its_last_validation(lora_run: Settings, by_heart: Settings) -> None:
    for settings in (lora_run, by_heart):
        last = validations(settings)[-1]
        scores = evaluate(settings.output, settings, max_prompts=0)
        assert {s.task: s.loss for s in scores} == pytest.approx({n: t["loss"] for n, t in last.items()}, abs=1e-5)
        assert {s.task: s.trained_tokens for s in scores} == {n: t["tokens"] for n, t in last.items()}


def test_the_losses_of_the_base_are_those_of_the_first_validation(lora_run: Settings) -> None:
    scores = evaluate(lora_run.model.base, lora_run, max_prompts=0)
    first = validations(lora_run)[0]
    assert {s.task: s.loss for s in scores} == pytest.approx({n: t["loss"] for n, t in first.items()}, abs=1e-5)
    assert all(s.exact_match is None and s.prompts == 0 for s in scores)


def test_the_loss_is_that_of_full_logits_of_each_row_alone(lora_run: Settings) -> None:
    import torch

    from weft.data.prepare import prepare

    loaded = open_model(lora_run.output)
    for store, score in zip(prepare(lora_run).stores, evaluate(lora_run.output, lora_run, 0), strict=True):
        total, tokens = 0.0, 0
        for number in store.split("validation", lora_run.data.validation, 0.0):
            sample = store.sample(int(number))
            ids, weight = torch.tensor(sample.ids_T[None].astype("int64")), torch.tensor(sample.weight_T[1:].copy())
            with torch.no_grad():
                logits = loaded.model(input_ids=ids, use_cache=False).logits[0, :-1].float()
            nll = torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="none")
            total, tokens = total + float((nll * weight).sum()), tokens + int(weight.sum())
        assert score.loss == pytest.approx(total / tokens, abs=1e-5)


def test_answers_known_by_heart_match_and_others_do_not(by_heart: Settings, tmp_path: Path) -> None:
    scores = {s.task: s for s in evaluate(by_heart.output, by_heart, max_prompts=3)}
    assert scores["colours"].exact_match == 1.0
    assert scores["colours"].prompts == 3
    rows = [{"prompt": "What is red?", "answer": "wrong"}, {"prompt": "What is red?", "answer": ANSWERS["red"] + "\n "}]
    (tmp_path / "colours.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    scores = {s.task: s for s in evaluate(by_heart.output, by_heart, held_out=tmp_path)}
    assert (scores["colours"].exact_match, scores["colours"].prompts) == (0.5, 2)
    assert (scores["sums"].exact_match, scores["sums"].prompts) == (None, 0)


def test_what_is_known_by_heart_is_said_to_the_letter(by_heart: Settings) -> None:
    asked = [[Message("user", f"What is {name}?")] for name in ANSWERS]
    assert [answer.text for answer in generate(open_model(by_heart.output), asked)] == list(ANSWERS.values())


def test_the_same_prompts_are_chosen_each_time(tmp_path: Path) -> None:
    file = tmp_path / "t.jsonl"
    file.write_text("".join(json.dumps({"prompt": str(i), "answer": "x"}) + "\n" for i in range(50)))
    chosen = held_out_questions(tmp_path, ["t"], 7)["t"]
    assert len(chosen) == 7
    assert held_out_questions(tmp_path, ["t"], 7)["t"] == chosen
    with file.open("a") as stream:
        stream.write(json.dumps({"prompt": "new", "answer": "x"}) + "\n")
    assert len({q.row for q in held_out_questions(tmp_path, ["t"], 7)["t"]} - {q.row for q in chosen}) <= 1


def test_strange_held_out_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no folder"):
        held_out_questions(tmp_path / "gone", ["t"], 1)
    with pytest.raises(ConfigError, match=r"holds no \*\.jsonl"):
        held_out_questions(tmp_path, ["t"], 1)
    (tmp_path / "u.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"u\.jsonl; the tasks are t"):
        held_out_questions(tmp_path, ["t"], 1)
    (tmp_path / "u.jsonl").rename(tmp_path / "t.jsonl")
    (tmp_path / "t.jsonl").write_text('{"prompt": "a", "answer": "b"}\nnonsense\n')
    with pytest.raises(DataError, match=r"t\.jsonl:2: bad_json"):
        held_out_questions(tmp_path, ["t"], 1)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_a_plain_folder_of_another_family_is_scored(
    kind: str, lora_run: Settings, model_folder: Callable[[str], Path]
) -> None:
    scores = evaluate(model_folder(kind), lora_run, max_prompts=1)
    assert all(s.loss is not None and s.prompts == 1 for s in scores)
