"""The page of runs: one file that needs nothing else, safe whatever the names, and true to the journals."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from tests.report.folders import Made, balance, ledger, loss_of, metrics, write_lines, write_run
from tests.report.html_of import Page
from weft.cli import main as cli
from weft.errors import CheckpointError, ConfigError
from weft.page.scale import thinned
from weft.report.page import page

FORTY = [f"task_{k}" for k in range(40)]
LETTERS = Made(tasks=["a", "b", "c"], seed=1)


def page_of(tmp_path: Path, *made: Made) -> Page:
    return Page(page([write_run(tmp_path / f"run{i}", x) for i, x in enumerate(made)]))


MANY_KINDS = [
    Made(),
    Made(tasks=["one"]),
    Made(steps=1, every=1),
    Made(tasks=FORTY, frozen={"task_3": 10}, worse=["task_4"]),
    Made(tasks=[f"t{k}" for k in range(70)], steps=12, look_every=2, every=3),
    Made(null_steps=range(1, 41)),
    Made(null_steps=(3, 4), finished=False, balance=False, environment=False),
    Made(validated=False),
    Made(method="fixed", interference=False),
]


@pytest.mark.parametrize("made", MANY_KINDS)
def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(made: Made, tmp_path: Path) -> None:
    written = page([write_run(tmp_path / "run", made)])
    found = Page(written)
    assert written.startswith("<!doctype html>")
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in found.elements}
    assert not re.search(r"url\(|@import|https?://", written)
    assert not any(name.startswith("on") or name == "src" for _, attributes in found.elements for name in attributes)
    assert not re.search(r"\bnan\b|\binf\b|None", found.text)
    assert not re.search(r'="[^"]*\b(nan|inf|None)\b[^"]*"', written)
    places = found.places()
    assert len(places) == len(set(places))
    links = [attributes["href"] or "" for tag, attributes in found.elements if tag == "a"]
    assert links
    assert all(link.startswith("#") and link[1:] in places for link in links)


def test_several_runs_have_no_place_twice(tmp_path: Path) -> None:
    found = page_of(tmp_path, Made(), Made(seed=1), Made(tasks=["other"]))
    places = found.places()
    assert len(places) == len(set(places))
    assert {"side-by-side", "otherwise", "run0", "run2-weights"} <= set(places)


def test_the_same_runs_give_the_same_bytes(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / "a", Made(tasks=FORTY)), write_run(tmp_path / "b", Made(tasks=FORTY, seed=1))]
    assert page(folders) == page(folders)


# numbers


def test_the_tables_hold_the_journals_numbers(tmp_path: Path) -> None:
    made = Made(frozen={"chat": 20}, worse=["translate"])
    found = page_of(tmp_path, made)
    lines = [line for line in metrics(made) if "tasks" in line]
    states = {"sql": "better", "translate": "worse", "chat": "frozen at 20"}
    rows = dict(zip(states, found.table("task")[1:], strict=True))
    assert [row[0] for row in rows.values()] == [name + state for name, state in states.items()]
    for name, row in rows.items():
        values = [loss_of(made, name, step) for step in (0, 10, 20, 30, 40)]
        assert row[2:4] == [f"{values[0]:.4f}", f"{values[-1]:.4f}"]
        assert row[4] == f"{values[-1] / values[0]:.3f}"
        assert row[5] == f"{min(values):.4f}"
        assert int(row[6]) == 10 * values.index(min(values))
        mine = [line["tasks"][name] for line in lines if name in line["tasks"]]
        assert float(row[8].removesuffix(" %")) == pytest.approx(100 * sum(t["share"] for t in mine) / 40, abs=0.051)
        assert int(row[9].replace(",", "")) == sum(t["tokens"] for t in mine)
    assert rows["chat"][7] == "0.000"
    last = [line["weights"]["sql"] for line in balance(made) if "weights" in line][-1]
    assert rows["sql"][7] == f"{last:.3f}"


def test_every_validation_is_there_in_numbers(tmp_path: Path) -> None:
    made = Made()
    table = page_of(tmp_path, made).table("validation loss")
    assert table[0][1:] == [f"step {step}" for step in (0, 10, 20, 30, 40)]
    for row in table[1:4]:
        assert row[1:] == [f"{loss_of(made, row[0], step):.4f}" for step in (0, 10, 20, 30, 40)]
    means = [np.mean([loss_of(made, task, step) for task in made.tasks]) for step in (0, 10, 20, 30, 40)]
    assert table[4] == ["mean of the tasks", *(f"{mean:.4f}" for mean in means)]


def test_of_many_validations_the_first_and_the_last_are_in_numbers(tmp_path: Path) -> None:
    table = page_of(tmp_path, Made(steps=100, every=2)).table("validation loss")
    assert len(table[0]) == 13
    assert (table[0][1], table[0][-1]) == ("step 0", "step 100")


def test_rows_are_the_ledgers(tmp_path: Path) -> None:
    made = Made()
    found = page_of(tmp_path, made)
    table = next(t for t in found.tables if "rows used" in t[0])
    used = [name for line in ledger(made) for name in line.get("samples", [])]
    for row in table[1:-1]:
        mine = [name for name in used if name.startswith(f"{row[0]}:")]
        assert row[2:4] == [f"{len(mine)}", f"{len(set(mine))}"]
        assert row[4] == f"{len(mine) / len(set(mine)):.2f}×"
    assert table[-1][2] == f"{len(used):,}"


def test_looks_are_told_with_what_they_cost(tmp_path: Path) -> None:
    made = Made()
    folder = write_run(tmp_path / "run", made)
    lines = metrics(made)
    trained = sum(task["tokens"] for line in lines if "tasks" in line for task in line["tasks"].values())
    text = Page(page([folder])).text
    assert "looks8seconds2.0seconds a look0.25tokens looked at800" in text
    assert f"per trained token{100 * 800 / trained:.1f} %" in text
    assert "share of steps and looks" not in text
    write_lines(folder / "metrics.jsonl", [{**line, "seconds": 0.45} if "tasks" in line else line for line in lines])
    assert "share of steps and looks10.0 %" in Page(page([folder])).text


def test_shares_asked_for_are_drawn_from_the_first_step_on(tmp_path: Path) -> None:
    made = Made(tasks=FORTY, steps=40)
    folder = write_run(tmp_path / "run", made)
    lines = [{"step": 1, "pass": 0, "shares": dict.fromkeys(FORTY, 1 / 40)}]
    write_lines(folder / "balance.jsonl", lines)
    written = page([folder])
    strip = written[written.index("Shares asked for by task and step") :]
    assert [kind for kind, _ in zip(re.findall(r'<path d="[^"]*" class="([^"]*)"', strip), FORTY, strict=False)] == [
        "u8"
    ] * 40, "no cell of which nothing is known"


def test_a_small_square_of_cosines_holds_the_numbers_and_a_large_one_the_neighbours(tmp_path: Path) -> None:
    made = Made()
    last = [line["interference"] for line in balance(made) if "interference" in line][-1]
    found = page_of(tmp_path / "a", made)
    square = next(table for table in found.tables if table[0] == ["", "1", "2", "3"])
    assert square[2][1] == f"{last['cosine'][1][0]:.2f}".replace("-", "−")
    large = page_of(tmp_path / "b", Made(tasks=FORTY))
    assert not any(table[0][0] == "" for table in large.tables)
    start = large.text.index("Mean of 3 measurements")
    order = [int(n) for n in re.findall(r"\d+ task_(\d+)task_", large.text[start:])]  # a row's name, then its title
    families = [n % 3 for n in order]
    assert sorted(order) == list(range(40))
    assert sum(a != b for a, b in pairwise(families)) == 2  # three families, each in one piece


def test_what_a_run_has_nothing_of_is_left_out(tmp_path: Path) -> None:
    found = page_of(tmp_path, Made(tasks=["one"], balance=False, validated=False))
    assert not {"interference", "looks", "ratios", "shares"} & set(found.places())
    assert {"top", "tasks", "curves", "weights", "rows", "settings", "environment"} <= set(found.places())


# words


def test_the_verdict_says_who_got_better_and_who_worse(tmp_path: Path) -> None:
    text = page_of(tmp_path, Made(worse=["translate"], frozen={"chat": 20}, null_steps=(7,), finished=False)).text
    assert "2 of 3 tasks got better; translate got worse" in text
    assert "Frozen: chat at step 20 (best at 10)." in text
    assert "The run has not come to its end" in text
    assert "1 step skipped, for the loss or the gradient was not finite: 7." in text


def test_a_task_that_was_better_earlier_is_named_with_its_step(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    validations = [{"loss": 1.0, "tasks": {"sql": {"loss": loss, "tokens": 9}}} for loss in (2.0, 1.0, 1.5)]
    write_lines(folder / "metrics.jsonl", [{"step": 10 * i, "validation": v} for i, v in enumerate(validations)])
    text = Page(page([folder])).text
    assert "Better earlier: sql by 50.0 % at step 10." in text
    assert "1 of 3 tasks got better; translate and chat were not measured" in text


def test_rows_on_both_sides_are_the_first_thing_to_know(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run")
    write_lines(folder / "ledger.jsonl", [{"step": 1, "samples": ["sql:a:1"]}, {"step": 1, "looked_at": ["sql:a:1"]}])
    assert "Rows of sql were both trained on and looked at" in Page(page([folder])).text


def test_settings_that_are_not_the_default_stand_apart(tmp_path: Path) -> None:
    found = page_of(tmp_path, Made(changes={"optimizer": {"lr": 0.5}}))
    own, rest = (dict(row for row in table[1:]) for table in found.tables if table[0] == ["setting", "value"])
    assert own["optimizer.lr"] == "0.5"
    assert own["balance.method"] == "coba"
    assert rest["optimizer.kind"] == "adamw"
    assert not own.keys() & rest.keys()


# several runs


def test_the_lowest_loss_of_each_task_is_marked(tmp_path: Path) -> None:
    runs = [Made(), Made(seed=1, worse=["sql"]), Made(seed=2, frozen={"chat": 10})]
    found = page_of(tmp_path, *runs)
    table = found.table("task")
    expected = []
    for row in table[1:4]:
        last = [loss_of(made, row[0], 40) for made in runs]
        best = [min(loss_of(made, row[0], step) for step in (0, 10, 20, 30, 40)) for made in runs]
        assert row[1:] == [f"{value:.4f}" for value in [*last, *best]]
        expected += [f"{min(last):.4f}", f"{min(best):.4f}"]
    means = [sum(loss_of(made, task, 40) for task in made.tasks) / 3 for made in runs]
    assert table[4][:4] == ["mean of 3 tasks", *(f"{mean:.4f}" for mean in means)]
    assert table[5][1] == f"{max(loss_of(runs[0], task, 40) for task in runs[0].tasks):.4f}"
    assert found.marked[:6] == expected
    assert f"run{means.index(min(means))} is best: {min(means):.3f} in the mean of the tasks" in found.text


def test_settings_that_differ_are_listed_and_no_others(tmp_path: Path) -> None:
    found = page_of(tmp_path, Made(), Made(changes={"optimizer": {"lr": 0.5}}))
    assert found.table("setting") == [["setting", "run0", "run1"], ["optimizer.lr", "0.0002", "0.5"]]
    assert "There are none but the places" in page_of(tmp_path / "same", Made(), Made(seed=1)).text


def test_runs_whose_validation_rows_differ_are_doubted(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name) for name in ("a", "b")]
    assert "Careful." not in Page(page(folders)).text
    lines = metrics(Made())
    for line in lines:
        if "validation" in line:
            line["validation"]["tasks"]["sql"]["tokens"] = 7
    write_lines(folders[1] / "metrics.jsonl", lines)
    assert "The validation rows differ (their trained tokens are not as many) for sql." in Page(page(folders)).text


def test_runs_of_one_name_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    folders = [write_run(tmp_path / name / "run") for name in ("a", "b")]
    assert Page(page(folders)).table("task")[0][1:3] == ["lasta/run", "lastb/run"]


def test_runs_without_a_common_task_are_set_side_by_side_all_the_same(tmp_path: Path) -> None:
    found = page_of(tmp_path, Made(), LETTERS)
    assert "The runs have no task in common." in found.text
    assert found.table("task")[1][0] == "sql"
    assert found.table("task")[1][2] == "–"
    assert not found.marked


# hostile names


HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "\u202eright to left\u2066",
    "&lt;b&gt; &amp;",
    "a" * 300,
    "]]>--><!--",
]


@pytest.mark.parametrize("size", [1, 2])
def test_hostile_names_and_paths_stay_text(tmp_path: Path, size: int) -> None:
    folders = [
        write_run(tmp_path / f"<b onclick=x>{i}", Made(tasks=HOSTILE, changes={"seed": i}, worse=HOSTILE[:4]))
        for i in range(size)
    ]
    written = page(folders)
    written.encode("utf-8")
    found = Page(written)
    assert not {"script", "img", "b onclick=x"} & {tag for tag, _ in found.elements}
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert not re.search("[\u202a-\u202e\u2066-\u2069]", re.sub(r'aria-label="[^"]*"|<title>.*?</title>', "", written))
    assert "<script>alert(1)</script>" in found.text
    assert "U+202E" in found.text


# size


def test_curves_are_thinned_but_keep_their_ends_and_peaks() -> None:
    x_N = np.arange(100_000.0)
    y_N = np.sin(x_N / 5000)
    y_N[[777, 55_555]] = 9.0, -9.0
    few_x, few_y = thinned(x_N, y_N, 400)
    assert len(few_x) <= 402
    assert (few_x[0], few_x[-1], few_y.max(), few_y.min()) == (0.0, 99_999.0, 9.0, -9.0)
    assert (np.diff(few_x) > 0).all()
    assert all(y_N[int(x)] == y for x, y in zip(few_x, few_y, strict=True))


def test_a_page_of_hundreds_of_tasks_stays_small(tmp_path: Path) -> None:
    made = Made(tasks=[f"task_{k:03d}" for k in range(200)], steps=60, every=4, look_every=6)
    written = page([write_run(tmp_path / "run", made)])
    assert len(written.encode()) < 3_000_000
    assert all(len(path) < 8_000 for path in re.findall(r' d="([^"]*)"', written))
    found = Page(written)
    assert len(found.table("task")) == len(found.table("validation loss")) - 3 == 201


# the command


def test_the_verb_writes_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_run(tmp_path / "run")
    place = tmp_path / "new" / "page.html"
    assert cli.main(["report", str(folder), "-o", str(place)]) == 0
    assert place.read_text("utf-8") == page([folder])
    assert capsys.readouterr().out.startswith(f"{place}: 0.")


def test_the_verb_says_which_folder_is_no_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["report", str(tmp_path)]) == CheckpointError.exit_code
    assert "is no run of weft" in capsys.readouterr().err
    with pytest.raises(ConfigError):
        page([])
