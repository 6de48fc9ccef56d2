"""All tables and figures as one HTML page that needs nothing else: no network, no other file, and no JavaScript to be read.

With JavaScript its tables are sorted by their headers and filtered. The browser itself refuses whatever is not in the page.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from vle_bench.leaderboard.markup import (
    NOTHING,
    Cell,
    Column,
    Footnote,
    Kind,
    Page,
    Row,
    Source,
    Table,
)

TITLE = "vle-bench leaderboards"

HERE = Path(__file__).parent

SIGNS: dict[Kind, str] = {
    "published": "○",
    "baseline": "△",
    "measured": "◆",
}  # as in the figures: not told by colour alone

LONG = 12  # letters: a longer text may be broken into lines, figures never


def index_page(pages: Sequence[Page], note: str, figures: Mapping[str, str]) -> str:
    """The page, the same bytes for the same arguments.

    Args:
        note: says that the file is generated.
        figures: name → SVG of `board_figures.scatter`, taken in as it is and shown in the order of the names.

    Raises:
        ValueError: a figure is no SVG; two tables of one name; a row without a cell for each column; a NaN to sort by.
    """
    names = [table.name for page in pages for table in page.tables]
    if len(set(names)) < len(names):
        raise ValueError(
            f"two tables of one name: {', '.join(sorted(n for n in set(names) if names.count(n) > 1))}"
        )
    style, script = ((HERE / name).read_text("utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; base-uri 'none'; "
        "form-action 'none'"
    )
    parts = [
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
        f'<meta name="generator" content="{escape(note)}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">',
        f"<title>{TITLE}</title>\n<style>\n{style}</style></head>\n<body><main>\n<h1>{TITLE}</h1>",
        navigation(pages, bool(figures)),
        filter_form(),
        *map(page_section, pages),
        figures_section(figures),
        f'<footer class="small"><p>{escape(note.replace("`", ""))}</p></footer>',
        f"</main>\n<script>{script}</script></body></html>\n",
    ]
    return "\n".join(part for part in parts if part)


def navigation(pages: Sequence[Page], figures: bool) -> str:
    items = []
    for page in pages:
        links = "".join(f"<li>{link(table)}</li>" for table in page.tables)
        items.append(
            f"<li>{escape(page.title)}:<ul>{links}</ul></li>" if len(page.tables) > 1 else links
        )
    items += ['<li><a href="#figures">Figures</a></li>'] if figures else []
    return f'<nav aria-label="Tables"><ul>{"".join(items)}</ul></nav>'


def link(table: Table) -> str:
    return f'<a href="#table-{escape(table.name)}">{escape(table.title)}</a>'


def filter_form() -> str:
    """Hidden until the script runs; the boxes are the legend of the rows as well."""
    boxes = "".join(
        f'<label><input type="checkbox" value="{kind}" checked autocomplete="off"><span class="{kind}">'
        f'<span class="kind" aria-hidden="true">{sign}</span>{kind}</span></label>'
        for kind, sign in SIGNS.items()
    )
    says = 'placeholder="Filter rows: model, data, …" aria-label="Filter the rows of all tables"'
    field = f'<input type="search" {says} autocomplete="off">'
    return f'<form id="filter" role="search" hidden>{field}{boxes}<output aria-live="polite"></output></form>'


def page_section(page: Page) -> str:
    several = len(page.tables) > 1
    tables = "\n".join(table_section(table, 3 if several else 2) for table in page.tables)
    return f"<section>\n<h2>{escape(page.title)}</h2>\n{tables}\n</section>" if several else tables


def table_section(table: Table, level: int) -> str:
    name = escape(table.name)
    for row in table.rows:
        if len(row.cells) != len(table.columns):
            raise ValueError(
                f"{table.name}: a row of {len(row.cells)} cells in a table of {len(table.columns)} columns: {row}"
            )
    head = "".join(column_head(table, i) for i in range(len(table.columns)))
    rows = "\n".join(table_row(table, row) for row in table.rows)
    return "\n".join(
        [
            f'<section id="table-{name}">',
            f'<h{level} id="title-{name}">{escape(table.title)}</h{level}>',
            f"<p>{escape(table.lead)}</p>",
            '<p class="small count" hidden></p>',
            f'<div class="scroll" tabindex="0" role="region" aria-labelledby="title-{name}">',
            f"<table><thead><tr>{head}</tr></thead><tbody>",
            rows,
            "</tbody></table></div>",
            notes(table.footnotes, table.sources),
            "</section>",
        ]
    )


def column_head(table: Table, index: int) -> str:
    """A column that holds anything to sort by is sorted by that, be it right-aligned or not: 2.1 B, 345M."""
    column = table.columns[index]
    numbers = column.numeric or any(row.cells[index].order is not None for row in table.rows)
    return f'<th scope="col"{class_of(column, None)}{" data-numbers" if numbers else ""}>{escape(column.title) or "Name"}</th>'


def table_row(table: Table, row: Row) -> str:
    (head, name), *others = (
        (attributes(table, column, cell), cell)
        for column, cell in zip(table.columns, row.cells, strict=True)
    )
    sign = f'<span class="kind" role="img" aria-label="{row.kind}">{SIGNS[row.kind]}</span>'
    cells = "".join(f"<td{given}>{escape(cell.text)}</td>" for given, cell in others)
    return f'<tr class="{row.kind}"><th scope="row"{head}>{sign}<span>{escape(name.text)}</span></th>{cells}</tr>'


def attributes(table: Table, column: Column, cell: Cell) -> str:
    if cell.order is not None and math.isnan(cell.order):
        raise ValueError(
            f"{table.name}: {cell.text} in column {column.title} cannot be sorted: NaN"
        )
    order = f' data-order="{float(cell.order)!r}"' if cell.order is not None else ""
    return class_of(column, cell) + order


def class_of(column: Column, cell: Cell | None) -> str:
    names = ["number"] if column.numeric else []
    if cell is not None:
        names += (
            ["none"]
            if cell.text in ("", NOTHING)
            else ["long"]
            if len(cell.text) > LONG and not column.numeric
            else []
        )
    return f' class="{" ".join(names)}"' if names else ""


def notes(footnotes: Sequence[Footnote], sources: Sequence[Source]) -> str:
    lines = [f"{note.sign} {note.text}".strip() for note in footnotes]
    parts = [f"<p>{escape(line)}</p>" for line in lines]
    parts += [f"<p>Sources: {'; '.join(map(source_link, sources))}.</p>"] if sources else []
    return f'<div class="small">{"".join(parts)}</div>' if parts else ""


def source_link(source: Source) -> str:
    """A link where the address is one of the web; any other is text."""
    title = escape(source.title)
    if source.url is None:
        return title
    address = escape(source.url)
    return (
        f'<a href="{address}">{title}</a>'
        if source.url.startswith(("https://", "http://"))
        else f"{title} ({address})"
    )


def figures_section(figures: Mapping[str, str]) -> str:
    if not figures:
        return ""
    for name, svg in figures.items():
        if not (svg.startswith("<svg ") and svg.endswith("</svg>\n")):
            raise ValueError(f"figure {name} is no SVG element")
    cards = "\n".join(
        f'<div class="scroll" id="figure-{escape(name)}" tabindex="0">\n{figures[name]}</div>'
        for name in sorted(figures)
    )
    return f'<section id="figures">\n<h2>Figures</h2>\n<div class="figures">\n{cards}\n</div>\n</section>'
