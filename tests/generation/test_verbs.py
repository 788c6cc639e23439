"""The verbs of after training, through the command line's own entry."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from weft.cli.main import main
from weft.config.settings import Settings


def test_generate_prints_the_answer_to_a_prompt(lora_run: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(lora_run.output)
    assert main(["generate", run, "--prompt", "1+1", "--prompt", "2+2", "--max-new-tokens", "4", "--json"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["prompt"] for record in records] == ["1+1", "2+2"]
    assert all(record["stopped"] in ("stop", "length") for record in records)
    assert main(["generate", lora_run.model.base, "--raw", "--prompt", "Once", "--max-new-tokens", "4"]) == 0


def test_generate_answers_a_file_in_order_and_overwrites_only_by_force(
    lora_run: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows, out = tmp_path / "in.jsonl", tmp_path / "deep" / "out.jsonl"
    texts = ["a " * 30, "b", "c " * 9, "d"]
    rows.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    command = ["generate", str(lora_run.output), "--input", str(rows), "--output", str(out), "--max-new-tokens", "3"]
    assert main(command) == 0
    records = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    assert [record["prompt"] for record in records] == texts
    assert [record["id"] for record in records] == [f"in.jsonl:{i}" for i in range(1, 5)]
    before = out.read_bytes()
    assert main(command) == 2
    assert "--force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert out.read_bytes() == before
    assert [p.name for p in out.parent.iterdir()] == ["out.jsonl"]


def test_generate_refuses_arguments_that_do_not_go_together(lora_run: Settings) -> None:
    run = str(lora_run.output)
    assert main(["generate", run]) == 2
    assert main(["generate", run, "--input", "x"]) == 2
    assert main(["generate", run, "--prompt", "x", "--top-p", "0.5"]) == 2


def test_chat_answers_piped_lines_and_knows_its_commands(
    lora_run: Settings, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = "1+1\n/again\n/system Be brief.\n1+2\n/nonsense\n\n" + "very " * 2000 + "\n/help\n/exit\nnever\n"
    monkeypatch.setattr("sys.stdin", io.StringIO(lines))
    assert main(["chat", str(lora_run.output), "--max-new-tokens", "5"]) == 0
    captured = capsys.readouterr()
    assert "/reset" in captured.out
    assert "no /nonsense" in captured.err
    assert "shorten it" in captured.err


def test_eval_prints_a_json_line_a_task(lora_run: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run = lora_run.output
    assert main(["eval", str(run), str(run / "settings.yaml"), "--json", "--max-prompts", "1"]) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [record["task"] for record in records] == ["colours", "sums"]
    assert all(record["prompts"] == 1 for record in records)
    assert main(["eval", str(run), str(run / "settings.yaml"), "--max-prompts", "0"]) == 0
    assert "validation loss" in capsys.readouterr().out


def test_merge_publishes_and_says_what_it_proved(
    lora_run: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "merged"
    assert main(["merge", str(lora_run.output), str(out)]) == 0
    assert "same greedy tokens" in capsys.readouterr().out
    assert main(["merge", str(lora_run.output), str(out)]) == 5
    assert main(["generate", str(out), "--prompt", "1+1", "--max-new-tokens", "3"]) == 0
