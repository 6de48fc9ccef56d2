"""The pages of `report` and `look`, taken apart."""

from html.parser import HTMLParser
from pathlib import Path


class Page(HTMLParser):
    """Tags with their attributes, texts, and the cells of every table under its caption."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.content = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.cell: str | None = None
        self.feed(self.content)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag == "table":
            self.rows = []
        elif tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td", "caption"):
            self.cell = ""

    def handle_endtag(self, tag):
        if tag == "caption":
            self.tables[self.cell] = self.rows
        elif tag in ("th", "td"):
            self.rows[-1].append(self.cell)

    def handle_data(self, data):
        self.texts.append(data)
        if self.cell is not None:
            self.cell += data

    def of(self, tag, **attributes):
        """Return the attributes of every `tag` that has these."""
        return [
            own
            for name, own in self.tags
            if name == tag and all(own.get(k) == v for k, v in attributes.items())
        ]
