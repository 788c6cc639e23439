"""A page taken apart: its elements, its text, its tables."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "wbr"}


class Page(HTMLParser):
    """A page's elements, checked to be closed in order; its text; each table as rows of cells' texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[str]]] = []
        self.texts: list[str] = []
        self.marked: list[str] = []
        """The texts of cells that are marked as the lowest of their row."""
        self._lowest = False
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag in _VOID:
            return
        self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append("")
            self._lowest = "lowest" in (attributes.get("class") or "").split()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] == "style":
            return
        self.texts.append(data)
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data
            if self._lowest:
                self.marked.append(data)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def table(self, first: str) -> list[list[str]]:
        """The table whose first heading is `first`."""
        return next(table for table in self.tables if table[0][0] == first)

    def places(self) -> list[str]:
        return [name for _, attributes in self.elements if (name := attributes.get("id"))]
