"""The sections of the report: what it all comes to, the checks, the tasks side by side, the mixture."""

from __future__ import annotations

from collections.abc import Sequence

from weft.config.settings import Settings
from weft.data.checks.found import Check, Example
from weft.data.checks.stats import Stats, TaskStats
from weft.data.prepare import Prepared
from weft.data.report.charts import spark
from weft.page.bars import bar
from weft.page.markup import Markup, el, join, shortened
from weft.page.words import broken, number, percent

_MOST_DETAIL = 7


def task_id(name: str) -> str:
    """A task's place on the page."""
    return f"task-{name}"


def verdict_of(check: Check) -> tuple[str, str]:
    """The word and the colour of a check's verdict."""
    if not check.ok:
        return "fails", "bad"
    return ("look", "careful") if check.careful else ("ok", "good")


def heading(settings: Settings, prepared: Prepared, stats: Stats, checks: Sequence[Check]) -> Markup:
    """The title, the verdict in one line, and the numbers of the whole."""
    failed = [check for check in checks if not check.ok]
    careful = [check for check in checks if check.ok and check.careful]
    if failed:
        told, kind = f"{len(failed)} of {len(checks)} checks fail", "bad"
    elif careful:
        told, kind = (
            f"All checks pass; {len(careful)} {'deserves' if len(careful) == 1 else 'deserve'} a look",
            "careful",
        )
    else:
        told, kind = "All checks pass", "good"
    read, used = sum(x.read for x in stats.tasks), sum(x.used for x in stats.tasks)
    tokens, trained = sum(x.tokens for x in stats.tasks), sum(x.trained_tokens for x in stats.tasks)
    cards = [
        ("tasks", f"{len(stats.tasks):,}", ""),
        ("rows used", f"{used:,}", f"of {read:,} read"),
        ("tokens", number(tokens), ""),
        ("trained tokens", number(trained), f"{percent(trained / tokens) if tokens else '0 %'} of all"),
        (
            "packing",
            f"{100 * stats.utilisation:.1f} %" if stats.micro_batches else settings.data.packing,
            "full micro-batches" if stats.micro_batches else "",
        ),
    ]
    facts = [
        ("model", settings.model.base),
        ("template", prepared.template.name),
        ("vocabulary", f"{prepared.tokenizer.vocab_size:,} tokens"),
        (
            "max_tokens",
            f"{settings.max_tokens:,}, longer ones are {'cut' if settings.data.too_long == 'cut' else 'dropped'}",
        ),
        ("packing", settings.data.packing),
        ("data", prepared.fingerprint[:16]),
    ]
    return el(
        "header",
        el("p", "weft data report", class_="eyebrow"),
        el("h1", el("a", told, href="#checks"), class_=f"verdict {kind}"),
        el("dl", [el("div", el("dt", k), el("dd", el("code", v))) for k, v in facts], class_="facts"),
        el(
            "ul",
            [
                el("li", el("b", value), el("span", name), el("small", more) if more else None)
                for name, value, more in cards
            ],
            class_="cards",
        ),
        id="top",
    )


def checks_section(checks: Sequence[Check]) -> Markup:
    """Every check with its verdict, faults first; examples unfold."""
    order = {"bad": 0, "careful": 1, "good": 2}
    return el(
        "section",
        el("h2", "Checks"),
        el("ol", [_check(check) for check in sorted(checks, key=lambda c: order[verdict_of(c)[1]])], class_="checks"),
        id="checks",
    )


def _check(check: Check) -> Markup:
    word, kind = verdict_of(check)
    parts = check.detail.split("; ")
    if len(parts) == 1:
        told = el("p", shortened(check.detail, 2000))
    else:
        shown = [el("li", shortened(part, 600)) for part in parts[:_MOST_DETAIL]]
        rest = parts[_MOST_DETAIL:]
        more = (
            el(
                "details",
                el("summary", f"{len(rest)} more"),
                el("ul", [el("li", shortened(part, 600)) for part in rest]),
            )
            if rest
            else None
        )
        told = join([el("ul", shown, class_="parts"), more or Markup("")])
    examples = (
        el("details", el("summary", f"Examples ({len(check.examples)})"), [_example(x) for x in check.examples])
        if check.examples
        else None
    )
    return el("li", el("span", word, class_=f"badge {kind}"), el("h3", check.name), el("div", told, examples))


def _example(example: Example) -> Markup:
    rows = [
        el(
            "div",
            el("code", name),
            el("blockquote", shortened(content, 400), dir="auto") if content else None,
            class_="pair-row",
        )
        for name, content in example.rows
    ]
    return el("div", el("p", shortened(example.what, 400)), rows, class_="example")


def overview(stats: Stats) -> Markup:
    """All tasks side by side: where their rows went, and what is left of them."""
    headings = [
        ("task", "t"), ("read", ""), ("used", ""), ("cut", ""), ("dropped", ""), ("quarantined", ""),
        ("tokens", ""), ("trained", ""), ("median", ""), ("longest", ""), ("lengths", "t"), ("bytes/token", ""),
    ]  # fmt: skip
    rows = [_overview_row(x) for x in stats.tasks]
    total = stats.tasks
    tokens = sum(x.tokens for x in total)
    sums = [
        sum(x.read for x in total), sum(x.used for x in total), sum(x.cut for x in total),
        sum(sum(x.dropped.values()) for x in total), sum(x.quarantined for x in total), tokens,
    ]  # fmt: skip
    trained = sum(x.trained_tokens for x in total) / tokens if tokens else 0.0
    foot = el(
        "tr", el("th", "all", scope="row"), [_num(v) for v in sums], el("td", percent(trained), class_="num"),
        [el("td") for _ in range(4)],
    )  # fmt: skip
    return el(
        "section",
        el("h2", "Tasks"),
        el("p", "read = used + dropped + quarantined. A row that was cut is used, but shortened.", class_="note"),
        el(
            "div",
            el(
                "table",
                el("thead", el("tr", [el("th", name, scope="col", class_=kind or "num") for name, kind in headings])),
                el("tbody", rows),
                el("tfoot", foot) if len(total) > 1 else None,
            ),
            class_="scroll",
            tabindex="0",
        ),
        id="tasks",
    )


def _overview_row(x: TaskStats) -> Markup:
    dropped = sum(x.dropped.values())
    return el(
        "tr",
        el("th", el("a", broken(x.task), href=f"#{task_id(x.task)}"), el("small", x.format), scope="row"),
        _num(x.read),
        _num(x.used),
        _num(x.cut),
        _num(dropped, "careful"),
        _num(x.quarantined, "bad"),
        _num(x.tokens),
        el("td", percent(x.trained_share), class_="num"),
        _num(x.quantiles["median"]),
        _num(x.longest),
        el("td", spark(x.lengths), class_="t"),
        el("td", f"{x.bytes_per_token:.2f}", class_="num"),
    )


def _num(value: int, kind: str = "") -> Markup:
    """A number; nothing is said loudly where it is 0."""
    return el("td", value, class_=f"num {'zero' if not value else kind}".strip())


def mixture(stats: Stats, settings: Settings) -> Markup:
    """What one pass over the mixture holds of each task: samples, tokens, trained tokens."""
    samples = sum(x.pass_samples for x in stats.tasks) or 1
    tokens = sum(x.pass_tokens for x in stats.tasks) or 1
    trained = sum(x.pass_trained_tokens for x in stats.tasks) or 1.0
    rows = [
        el(
            "tr",
            el("th", el("a", broken(x.task), href=f"#{task_id(x.task)}"), scope="row"),
            el("td", bar(x.pass_samples / samples)),
            el("td", bar(x.pass_tokens / tokens)),
            el("td", bar(x.pass_trained_tokens / trained, "strong")),
            el("td", f"{x.pass_samples / x.train:.2f}×" if x.train else "–", class_="num"),
        )
        for x in stats.tasks
    ]
    heads = [("task", "t"), ("samples", "t"), ("tokens", "t"), ("trained tokens", "t"), ("rows seen", "num")]
    packed = (
        f" The micro-batches of the first steps are {100 * stats.utilisation:.1f} % full; what is not full is shorter."
        if stats.micro_batches
        else ""
    )
    return el(
        "section",
        el("h2", "Mixture"),
        el(
            "p",
            f"One pass holds {samples:,} samples, {number(tokens)} tokens, {number(int(trained))} of them trained "
            f"(mixture.by: {settings.mixture.by}).{packed}",
            class_="note",
        ),
        el(
            "div",
            el(
                "table",
                el("thead", el("tr", [el("th", name, scope="col", class_=kind) for name, kind in heads])),
                el("tbody", rows),
                class_="mixture",
            ),
            class_="scroll",
            tabindex="0",
        ),
        id="mixture",
    )


def contents(tasks: Sequence[TaskStats], checks: Sequence[Check]) -> Markup:
    """The table of contents, which stays in sight."""
    kinds = [verdict_of(check)[1] for check in checks]
    worst = next((kind for kind in ("bad", "careful") if kind in kinds), "good")
    top = [
        el("li", el("a", "Overview", href="#top")),
        el("li", el("a", el("i", class_=f"dot {worst}"), "Checks", href="#checks")),
        el("li", el("a", "Tasks", href="#tasks")),
        el("li", el("a", "Mixture", href="#mixture")),
    ]
    each = [el("li", el("a", broken(x.task), href=f"#{task_id(x.task)}")) for x in tasks]
    return el(
        "nav",
        el("ul", top),
        el("p", "Tasks"),
        el("ul", each),
        aria_label="Contents",
    )
