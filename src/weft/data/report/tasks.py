"""One task's section: its lengths, where its rows went, coloured samples, and the first rows that are not used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice

from weft.config.settings import Settings
from weft.data.checks.stats import TaskStats
from weft.data.inspect import split_names
from weft.data.prepare import Prepared
from weft.data.report.charts import Line, histogram
from weft.data.report.samples import coloured
from weft.data.report.sections import task_id
from weft.data.store import Store, read_rejects
from weft.page.bars import Part, stacked
from weft.page.markup import Markup, el, shortened
from weft.page.words import broken, percent
from weft.types import JsonValue

NUM_SAMPLES = 3
NUM_REJECTS = 8
_MOST_RAW = 300
_MANY_TASKS = 6


def task_section(settings: Settings, prepared: Prepared, store: Store, x: TaskStats) -> Markup:
    """Everything about one task. With many tasks, samples are folded."""
    return el(
        "section",
        el("h2", broken(x.task), el("small", f"{x.format} · {', '.join(settings.tasks[x.task].paths)}")),
        el(
            "div",
            el("figure", el("figcaption", "Length of samples in tokens"), _lengths(settings, x)),
            el(
                "figure",
                el("figcaption", "Where the rows went"),
                stacked(_rows(x)),
                el("figcaption", "What is trained"),
                stacked(_tokens(x)),
            ),
            class_="charts",
        ),
        _facts(x),
        _samples(settings, prepared, store, open_=len(prepared.stores) <= _MANY_TASKS),
        _rejects(store, x),
        id=task_id(x.task),
        class_="task",
    )


def _lengths(settings: Settings, x: TaskStats) -> Markup:
    lines = [Line("median", x.quantiles["median"], "median")]
    if x.quantiles["p95"] > 1.5 * x.quantiles["median"]:
        lines.append(Line("95 %", x.quantiles["p95"], "p95"))
    return histogram(x.lengths, lines)


def _rows(x: TaskStats) -> Sequence[Part]:
    unused = dict(x.reasons)
    dropped = [Part(f"dropped: {reason}", number, "dropped") for reason, number in x.dropped.items()]
    bad = [Part(f"quarantined: {r}", n, "quarantined") for r, n in unused.items() if r not in x.dropped]
    return [Part("used whole", x.used - x.cut, "used"), Part("used, but cut", x.cut, "cut"), *dropped, *bad]


def _tokens(x: TaskStats) -> Sequence[Part]:
    return [Part("trained", x.trained_tokens, "used"), Part("context", x.tokens - x.trained_tokens, "context")]


def _facts(x: TaskStats) -> Markup:
    facts = [
        ("training rows", f"{x.train:,}"),
        ("validation rows", f"{x.validation:,}"),
        ("test rows", f"{x.test:,}"),
        ("tokens", f"{x.tokens:,}"),
        ("mean length", f"{x.mean_length:,.1f}"),
        ("5 % – 95 %", f"{x.quantiles['p5']:,} – {x.quantiles['p95']:,}"),
        ("longest", f"{x.longest:,}"),
        ("bytes per token", f"{x.bytes_per_token:.2f}"),
        ("unknown tokens", f"{x.unknown_tokens:,}"),
    ]
    absent = {"test rows", "unknown tokens"}
    shown = [(k, v) for k, v in facts if not (k in absent and v == "0")]
    return el("dl", [el("div", el("dt", k), el("dd", v)) for k, v in shown], class_="numbers")


def _samples(settings: Settings, prepared: Prepared, store: Store, open_: bool) -> Markup:
    names = split_names(settings, store)
    shown = []
    for index in _picked(store):
        encoded = store.sample(index)
        trained = int((encoded.weight_T > 0).sum())
        number = len(encoded.ids_T)
        told = f"{names[index]} · {number:,} tokens, {trained:,} trained ({percent(trained / max(1, number))})"
        shown.append(
            el(
                "article",
                el("p", el("code", store.name(index)), el("span", told), class_="of"),
                coloured(prepared.tokenizer, encoded),
            )
        )
    key = el(
        "p",
        el("span", "trained", class_="run trained"),
        el("span", "context", class_="run"),
        el("span", "control token", class_="chip"),
        el("span", "trained control token", class_="chip trained"),
        class_="key-line",
    )
    summary = el("summary", f"Samples ({len(shown)} of {len(store):,})")
    return el("details", summary, key, shown, class_="samples", open=open_)


def _picked(store: Store) -> list[int]:
    """The first sample, the one of middle length, and a long one: what a look at the beginning alone would not show."""
    if not len(store):
        return []
    order = store.length_S.argsort(kind="stable").tolist()
    wanted = [0, order[len(order) // 2], order[int(0.95 * (len(order) - 1))], *range(len(store))]
    return list(dict.fromkeys(islice(wanted, 50)))[:NUM_SAMPLES]


def _rejects(store: Store, x: TaskStats) -> Markup | None:
    unused = sum(x.reasons.values())
    if not unused:
        return None
    rows = [
        el(
            "tr",
            el("td", el("code", str(record["row"]))),
            el("td", str(record["reason"]), class_="t reason"),
            el("td", shortened(str(record["detail"]), _MOST_RAW)),
            el("td", el("code", shortened(_raw(record.get("raw", "")), _MOST_RAW), dir="auto"), class_="raw"),
        )
        for record in islice(read_rejects(store), NUM_REJECTS)
    ]
    heads = ["row", "reason", "detail", "as it stood"]
    return el(
        "details",
        el("summary", f"Rows that are not used ({len(rows)} of {unused:,})"),
        el("p", "All of them: ", el("code", str(store.folder / "rejects.jsonl")), class_="note"),
        el(
            "div",
            el(
                "table",
                el("thead", el("tr", [el("th", h, scope="col", class_="t") for h in heads])),
                el("tbody", rows),
                class_="rejects",
            ),
            class_="scroll",
            tabindex="0",
        ),
    )


def _raw(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
