"""All tables and figures as one HTML page that needs no other file and no network.

A script of the page's own sorts and filters the tables; without JavaScript they can be read all the
same. The browser runs nothing else.
"""

import base64
import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from vle_bench.leaderboard.markup import NOTHING, Cell, Column, Kind, Page, Row, Table
from vle_bench.pages import html

SCRIPT = Path(__file__).parent / "page.js"
# The marks of the figures, which differ without colour too.
SIGNS: dict[Kind, str] = {
    "published": "○",
    "baseline": "△",
    "measured": "◆",
    "external": "□",
}
LONG = 12  # letters; a longer text may be broken into lines, a figure never


def index_page(pages: Sequence[Page], note: str, figures: Mapping[str, Markup]) -> str:
    """Return the page; the same arguments give the same bytes.

    Args:
        note: says that the file is generated.
        figures: name -> SVG, shown in the order of the names.

    Raises:
        ValueError: a figure is no SVG, two tables have the same name, a row has not a cell for each
            column, or a cell would be sorted by NaN.
    """
    tables = [table for page in pages for table in page.tables]
    names = [table.name for table in tables]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two tables of one name: {', '.join(repeated)}")
    for name, svg in figures.items():
        if not (svg.startswith("<svg ") and svg.endswith("</svg>\n") and svg.count("</svg>") == 1):
            raise ValueError(f"figure {name} is no SVG element")
    script = SCRIPT.read_text(encoding="utf-8")
    return html.render_template(
        "leaderboard/index.html",
        title="vle-bench leaderboards",
        note=note,
        pages=pages,
        grids={table.name: grid_of(table) for table in tables},
        signs=SIGNS,
        figures=figures,
        script=Markup(script),
        script_digest=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def grid_of(table: Table) -> html.Grid:
    """Return a table with the attributes by which the script sorts and filters it."""
    for row in table.rows:
        if len(row.cells) != len(table.columns):
            raise ValueError(
                f"{table.name}: a row of {len(row.cells)} cells in a table of "
                f"{len(table.columns)} columns: {row}"
            )
    head = [head_cell(table, index) for index in range(len(table.columns))]
    rows = [grid_row(table, row) for row in table.rows]
    return html.Grid(head, rows, attributes={"aria-labelledby": f"title-{table.name}"})


def head_cell(table: Table, index: int) -> html.GridCell:
    """Return the head of a column, which is sorted by numbers if any of its cells has one."""
    column = table.columns[index]
    numbers = column.numeric or any(row.cells[index].order is not None for row in table.rows)
    attributes = {"class": "number"} if column.numeric else {}
    return html.GridCell(
        column.title or "Name", attributes | ({"data-numbers": ""} if numbers else {})
    )


def grid_row(table: Table, row: Row) -> html.GridRow:
    cells = [
        html.GridCell(
            cell.text,
            cell_attributes(table, column, cell),
            sign=(SIGNS[row.kind], row.kind) if index == 0 else None,
        )
        for index, (column, cell) in enumerate(zip(table.columns, row.cells, strict=True))
    ]
    return html.GridRow(cells, {"class": row.kind})


def cell_attributes(table: Table, column: Column, cell: Cell) -> dict[str, str]:
    """Return the class that aligns and wraps a cell, and the number that it is sorted by."""
    if cell.order is not None and math.isnan(cell.order):
        raise ValueError(
            f"{table.name}: {cell.text} in column {column.title} cannot be sorted: NaN"
        )
    names = ["number"] if column.numeric else []
    if cell.text in ("", NOTHING):
        names.append("none")
    elif len(cell.text) > LONG and not column.numeric:
        names.append("long")
    order = {"data-order": repr(float(cell.order))} if cell.order is not None else {}
    return ({"class": " ".join(names)} if names else {}) | order
