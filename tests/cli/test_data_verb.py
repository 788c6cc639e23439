"""`weft data check | stats | report | show`: exit codes, JSON for machines, files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from weft.cli import main as cli

Write = Callable[..., Path]


@pytest.fixture
def settings_file(tmp_path: Path, task_files: dict[str, str], model_folder: Callable[[str], Path]) -> Write:
    def write(**data: Any) -> Path:
        file = tmp_path / "run.yaml"
        values = {
            "model": {"base": str(model_folder("llama"))},
            "tasks": task_files,
            "template": "mftcoder",
            "data": {"max_tokens": 256, "cache": str(tmp_path / "cache"), **data},
            "output": str(tmp_path / "run"),
        }
        file.write_text(yaml.safe_dump(values, sort_keys=False))
        return file

    return write


def spoken(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    code = cli.main(["data", *map(str, arguments)])
    return code, capsys.readouterr().out


def test_check_as_json_is_nothing_else_and_has_the_documented_keys(
    settings_file: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = spoken(capsys, "check", settings_file(), "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found) == ["tasks", "checks"]
    assert list(found["tasks"]) == ["sums", "chat", "one"]
    keys = ["format", "read", "used", "quarantined", "dropped", "trained_tokens"]
    assert all(list(task) == keys for task in found["tasks"].values())
    assert all(list(check) == ["name", "ok", "detail"] for check in found["checks"])
    assert all(check["ok"] for check in found["checks"])


def test_check_exits_with_1_when_one_fails(
    settings_file: Write, task_files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = "Janet's ducks lay sixteen eggs per day; she eats three for breakfast every morning, and sells the rest!"
    rows = [json.dumps({"prompt": question, "answer": "9"}), json.dumps({"prompt": "q", "answer": 3})]
    with Path(task_files["sums"]).open("a", encoding="utf-8") as file:
        file.write("\n".join(rows) + "\n")
    (tmp_path / "benchmark.jsonl").write_text(rows[0] + "\n", "utf-8")
    file = settings_file(contamination=[str(tmp_path / "benchmark.jsonl")], validation=0)
    code, out = spoken(capsys, "check", file)
    assert code == 1
    assert "FAIL no benchmark's text is among the training rows: sums: 1 rows" in out
    assert "look rows that are cut, dropped or quarantined" in out
    code, out = spoken(capsys, "check", file, "--json")
    assert code == 1
    assert json.loads(out)["tasks"]["sums"]["quarantined"] == 1
    assert [check["name"] for check in json.loads(out)["checks"] if not check["ok"]] == [
        "no benchmark's text is among the training rows"
    ]


def test_stats_are_printed_and_as_json(settings_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = spoken(capsys, "stats", settings_file())
    assert code == 0
    assert "samples and their lengths in tokens" in out
    assert "one pass over the mixture" in out
    assert "█" in out
    code, out = spoken(capsys, "stats", settings_file(), "--json")
    found = json.loads(out)
    assert code == 0
    assert list(found["tasks"]) == ["sums", "chat", "one"]
    assert sum(found["tasks"]["sums"]["lengths"]["counts"]) == found["tasks"]["sums"]["used"]


def test_report_writes_one_page(settings_file: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "new" / "page.html"
    code, out = spoken(capsys, "report", settings_file(), "-o", place)
    assert code == 0
    assert str(place) in out
    assert place.read_text("utf-8").startswith("<!doctype html>")


def test_show_as_json_is_a_line_a_sample(settings_file: Write, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = spoken(capsys, "show", settings_file(), "--json", "--task", "chat", "-n", "2")
    assert code == 0
    assert [json.loads(line)["task"] for line in out.splitlines()] == ["chat", "chat"]
