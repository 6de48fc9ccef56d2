"""Self-contained HTML pages: no other file and no network; readable on a phone, light or dark.

Templates lie beside the code that fills them and are named from the package's root. Every value is
escaped, unless it is Markup.
"""

import base64
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vle_bench import atomic
from vle_bench.metrics.numbers import percent, percent_range
from vle_bench.pages.palette import variables

HERE = Path(__file__).parent
MOST_COUNTED = 15  # values of a column that a table of counts names
# Control characters, private use, half a surrogate pair: no font has a glyph for them.
NO_GLYPH = {"Cc", "Co", "Cs"}
# Characters that turn the direction of the text after them.
TURNING = {*range(0x202A, 0x202F), *range(0x2066, 0x206A)}


@dataclass(frozen=True)
class GridCell:
    """A cell of an HTML table.

    Args:
        attributes: of its element, such as class and style.
        sign: a character before the text, and its name for screen readers.
        bar: a fraction and its interval, drawn below the text.
    """

    text: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    sign: tuple[str, str] | None = None
    bar: tuple[float, Sequence[float] | None] | None = None


@dataclass(frozen=True)
class GridRow:
    """A row of an HTML table; its first cell is its heading."""

    cells: Sequence[GridCell]
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Grid:
    """An HTML table that scrolls by itself if it is wider than the page.

    Args:
        attributes: of the scrolling region, which needs a label where there is no caption.
    """

    head: Sequence[GridCell]
    rows: Sequence[GridRow]
    caption: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)


def plain_grid(caption: str, head: Sequence[str], rows: Sequence[Sequence[str | GridCell]]) -> Grid:
    """Return a table of texts, where a cell may bring attributes of its own."""
    grid_rows = [
        GridRow([cell if isinstance(cell, GridCell) else GridCell(cell) for cell in cells])
        for cells in rows
    ]
    return Grid([GridCell(name) for name in head], grid_rows, caption, {"aria-label": caption})


def count_grid(title: str, counted: str, values: Sequence[str], most: int = MOST_COUNTED) -> Grid:
    """Return a table of the most frequent values with counts and shares; all others are one row.

    Args:
        counted: what a value belongs to, in the plural.
    """
    counts = sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))
    rows = counts[:most]
    if rest := counts[most:]:
        rows.append((f"{len(rest):,} others", sum(count for _, count in rest)))
    cells: list[list[str | GridCell]] = [
        [
            GridCell(name, bar=(count / len(values), None)),
            f"{count:,}",
            percent(count / len(values), 1),
        ]
        for name, count in rows
    ]
    return plain_grid(f"{title[:1].upper()}{title[1:]}", [title, counted, "%"], cells)


def visible(value: object) -> object:
    """Put a mark in the place of characters that cannot be seen or that turn their neighbours."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "".join(
        "\ufffd"
        if (unicodedata.category(c) in NO_GLYPH and c not in "\n\t") or ord(c) in TURNING
        else c
        for c in value
    )


def style() -> Markup:
    """Return the style sheet of every page, after the palette's variables."""
    return Markup(variables(":root") + (HERE / "style.css").read_text(encoding="utf-8"))


def data_address(content: bytes, kind: str) -> str:
    """Return the content of an image file as an address; `kind` is png, webp, ..."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


ENVIRONMENT = Environment(
    loader=FileSystemLoader(HERE.parent),
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
ENVIRONMENT.globals["style"] = style
ENVIRONMENT.filters |= {"percent": percent, "percent_range": percent_range}


def render_template(name: str, **values: object) -> str:
    """Fill a template, such as `analysis/report.html`."""
    return ENVIRONMENT.get_template(name).render(values)


def write_page(output: Path, template: str, **values: object) -> None:
    """Write a page to `output`, complete or not at all."""
    atomic.write_text(output, render_template(template, **values))
