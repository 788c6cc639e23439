"""The report: one page that needs nothing else, safe whatever the rows hold, and true to the numbers."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weft.config.settings import Settings
from weft.data.checks.stats import Histogram, histogram, stats
from weft.data.prepare import Prepared, prepare
from weft.data.report import charts, report
from weft.data.report.samples import coloured, runs, with_white
from weft.data.stretches import Encoded
from weft.page import bars
from weft.page.markup import Markup, el, join, shortened, text
from weft.page.words import percent

MakeSettings = Callable[..., Settings]
VOID = {"meta", "wbr"}


class Page(HTMLParser):
    """A page's elements, checked to be closed in order, and its text by the class of the element that it stands in."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)


@pytest.fixture
def settings(make_settings: MakeSettings) -> Settings:
    return make_settings(data={"validation": 0.3})


@pytest.fixture
def prepared(settings: Settings) -> Prepared:
    return prepare(settings)


# the page


def test_the_page_needs_nothing_from_elsewhere_and_runs_nothing(settings: Settings, prepared: Prepared) -> None:
    page = report(settings, prepared)
    found = Page(page)
    assert page.startswith("<!doctype html>")
    assert not {"script", "link", "img", "iframe", "object", "form"} & {tag for tag, _ in found.elements}
    assert not re.search(r"url\(|@import|https?://", page)
    links = [attributes["href"] or "" for tag, attributes in found.elements if tag == "a"]
    places = {attributes.get("id") for _, attributes in found.elements}
    assert links
    assert all(link.startswith("#") and link[1:] in places for link in links)
    assert not any(name.startswith("on") or name == "src" for _, attributes in found.elements for name in attributes)


def test_the_page_tells_the_numbers_of_every_task(settings: Settings, prepared: Prepared) -> None:
    found = Page(report(settings, prepared))
    for x in stats(settings, prepared).tasks:
        assert f"{x.tokens:,}" in found.text
        assert ("section", {"id": f"task-{x.task}", "class": "task"}) in found.elements
    assert "All checks pass" in found.text


def test_a_check_that_fails_is_the_first_thing_said(make_settings: MakeSettings, tmp_path: Path) -> None:
    question = "Janet's ducks lay sixteen eggs per day; she eats three for breakfast every morning, and sells the rest!"
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": question, "answer": "9"}) + "\n", "utf-8")
    settings = make_settings(
        tasks={"a": str(tmp_path / "a.jsonl")}, data={"contamination": [str(tmp_path / "a.jsonl")]}
    )
    assert "1 of 17 checks fail" in Page(report(settings, prepare(settings))).text


HOSTILE = [
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\u202eright to left\u2066\u200f",
    "nul\x00 esc\x1b[31m \u200bzero width\ufeff",
    '" onmouseover="alert(1)',
    "&lt;b&gt; &amp;",
    "a" * 200_000,
]


def test_hostile_rows_stay_text(make_settings: MakeSettings, tmp_path: Path) -> None:
    rows = [{"prompt": bad, "answer": bad[:50]} for bad in HOSTILE]
    rejects = [{"prompt": 3, "answer": bad} for bad in HOSTILE] + [{bad: 1} for bad in HOSTILE]
    lines = [json.dumps(row) for row in [*rows, *rejects]] + [
        '{"prompt": "\\ud800", "answer": "<script>"}',
        "<script>bad json",
    ]
    (tmp_path / "bad.jsonl").write_text("\n".join(lines) + "\n", "utf-8")
    settings = make_settings(
        tasks={"bad": str(tmp_path / "bad.jsonl")},
        data={"max_bad_rows": 1.0, "too_long": "cut", "max_tokens": 256},
    )
    page = report(settings, prepare(settings))
    page.encode("utf-8")
    assert len(page) < 400_000
    found = Page(page)
    assert not {"script", "img"} & {tag for tag, _ in found.elements}
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u200b\ufeff\x00\x1b]", page)
    assert "<script>alert(1)</script>" in found.text
    assert "U+202E" in found.text


def test_rows_that_are_not_used_stand_there_as_they_were(make_settings: MakeSettings, tmp_path: Path) -> None:
    rows = [{"prompt": "q", "answer": "a"}] * 9 + [{"prompt": "q", "answer": 77}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    settings = make_settings(tasks={"a": str(tmp_path / "a.jsonl")}, data={"max_bad_rows": 0.5})
    found = Page(report(settings, prepare(settings)))
    assert "a:a.jsonl:10" in found.text
    assert "wrong_type" in found.text
    assert '{"prompt": "q", "answer": 77}' in found.text


# samples


def test_runs_are_the_text_cut_at_masks_and_control_tokens(prepared: Prepared) -> None:
    store = prepared.stores[1]
    for index in range(len(store)):
        encoded = store.sample(index)
        found = list(runs(prepared.tokenizer, encoded))
        assert "".join(run.text for run in found) == prepared.tokenizer.decode(encoded.ids_T.tolist())
    first = list(runs(prepared.tokenizer, store.sample(0)))
    assert [(run.text, run.control) for run in first if run.trained] == [
        ("你好 🙂\n", False), ("</s>", True), ("y\n", False), ("</s>", True),
    ]  # fmt: skip


def test_a_coloured_sample_holds_its_whole_text(prepared: Prepared) -> None:
    encoded = prepared.stores[1].sample(0)
    page = Page(coloured(prepared.tokenizer, encoded))
    assert page.text == prepared.tokenizer.decode(encoded.ids_T.tolist())
    kinds = {attributes.get("class") for _, attributes in page.elements}
    assert {"sample", "run", "run trained", "chip trained"} <= kinds


def test_of_a_long_sample_the_beginning_and_the_end_are_shown(prepared: Prepared) -> None:
    ids = prepared.tokenizer.backend.encode("first" + " and so on" * 1000 + " last").ids
    encoded = Encoded(np.array(ids, dtype=np.int32), np.ones(len(ids), dtype=np.float32))
    page = Page(coloured(prepared.tokenizer, encoded))
    assert page.text.startswith("first")
    assert page.text.endswith("last")
    assert f"{len(ids) - 800:,} tokens are not shown" in page.text


@given(st.text(alphabet=" \n\tab<", max_size=30))
def test_marks_of_white_space_change_no_text(value: str) -> None:
    assert Page(el("div", with_white(value))).text == value


# markup and charts


@given(st.text(max_size=40))
def test_text_never_becomes_markup(value: str) -> None:
    page = Page(el("p", value, title=value))
    assert [tag for tag, _ in page.elements if tag != "span"] == ["p"]
    page.text.encode("utf-8")


def test_children_are_escaped_unless_they_are_markup() -> None:
    assert el("p", "<", ["a", 1234], None, Markup("<b></b>")) == "<p>&lt;a1,234<b></b></p>"
    assert el("td", class_="num", open=True, hidden=False, title=None) == '<td class="num" open></td>'
    assert join(["a", Markup("&amp;")]) == "a&amp;"
    assert text("a\u202eb") == 'a<span class="hidden-char">U+202E</span>b'
    assert shortened("abcdef", 3) == "abc… (3 more characters)"


@given(st.lists(st.integers(1, 9000), min_size=1, max_size=40))
def test_a_histogram_draws_a_bar_for_every_bin_that_is_not_empty(lengths: list[int]) -> None:
    hist = histogram(np.array(lengths, dtype=np.int64))
    drawn = charts.histogram(hist, [charts.Line("median", int(np.median(lengths)), "median")])
    page = Page(drawn)
    bars = [attributes for tag, attributes in page.elements if tag == "rect"]
    assert len(bars) == sum(count > 0 for count in hist.counts)
    assert all(0 < float(bar["height"] or 0) <= 100 for bar in bars)
    assert html.unescape(drawn).count(" samples") == len(bars)


def test_parts_of_a_stacked_bar_fill_it() -> None:
    page = Page(bars.stacked([bars.Part("a", 1, "used"), bars.Part("b", 3, "cut"), bars.Part("c", 0, "bad")]))
    rects = [attributes for tag, attributes in page.elements if tag == "rect"]
    assert [(bar["x"], bar["width"]) for bar in rects] == [("0.000", "25.000"), ("25.000", "75.000")]
    assert page.text == "a125.0 %b375.0 %"


@pytest.mark.parametrize(
    ("share", "expected"), [(0, "0.0 %"), (0.0001, "<0.1 %"), (0.1234, "12.3 %"), (0.9999, "99.9 %"), (1, "100.0 %")]
)
def test_percentages_never_round_to_nothing_or_all(share: float, expected: str) -> None:
    assert percent(share) == expected


def test_an_empty_histogram_is_drawn() -> None:
    Page(charts.histogram(Histogram([0, 1], [0])))
    Page(charts.spark(Histogram([0, 1], [0])))
