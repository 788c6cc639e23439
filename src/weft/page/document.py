"""The frame around a page: what a browser may do with it, how it looks, what it is called."""

from __future__ import annotations

from weft.page.markup import Child, Markup, el, join

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""Even if foreign text became markup, it could load and run nothing."""


def document(title: str, style: str, *body: Child) -> str:
    """A whole HTML page that needs nothing else."""
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("title", title[:100]),
        el("style", Markup(style)),
    )
    page = el("html", head, Markup("\n"), el("body", *body), lang="en")
    return join([Markup("<!doctype html>\n"), page, Markup("\n")])
