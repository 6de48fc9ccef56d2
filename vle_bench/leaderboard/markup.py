"""Tables, and their Markdown, CSV and LaTeX."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

NOTHING = "–"
Kind = Literal["published", "baseline", "measured", "external"]


@dataclass(frozen=True)
class Column:
    title: str
    numeric: bool = False  # right-aligned, and sorted by `Cell.order`


@dataclass(frozen=True)
class Cell:
    """A text such as `77.7 (76.8 †‡)`, and the number that its column is sorted by."""

    text: str = NOTHING
    order: float | None = None


@dataclass(frozen=True)
class Row:
    kind: Kind
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Footnote:
    # empty for a line that explains abbreviations
    sign: str
    text: str


@dataclass(frozen=True)
class Citation:
    title: str
    url: str | None = None


@dataclass(frozen=True)
class Table:
    """One table with the texts around it.

    Args:
        name: unique among all tables; the stem of its CSV and LaTeX files.
        lead: a sentence or two above the table, about units and splits.
    """

    name: str
    title: str
    lead: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    footnotes: tuple[Footnote, ...] = ()
    sources: tuple[Citation, ...] = ()


@dataclass(frozen=True)
class Page:
    """The tables of one Markdown file."""

    name: str
    title: str
    tables: tuple[Table, ...]


def markdown(page: Page, note: str) -> str:
    """Return a page with all its tables.

    Args:
        note: says that the file is generated.
    """
    parts = [f"<!-- {note} -->\n\n# {page.title}\n"]
    for table in page.tables:
        heading = f"\n## {table.title}\n" if len(page.tables) > 1 else ""
        parts.append(f"{heading}\n{table.lead}\n\n{markdown_grid(table)}{markdown_notes(table)}")
    return "".join(parts)


def markdown_grid(table: Table) -> str:
    rule = ["---:" if column.numeric else "---" for column in table.columns]
    lines = [
        [column.title for column in table.columns],
        rule,
        *([cell.text for cell in row.cells] for row in table.rows),
    ]
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def markdown_notes(table: Table) -> str:
    """Return footnotes and sources; two blanks at the end of a line break it in Markdown."""
    lines = [f"{note.sign} {note.text}".strip() for note in table.footnotes]
    notes = "\n" + "  \n".join(lines) + "\n" if lines else ""
    titles = [
        f"[{source.title}]({source.url})" if source.url else source.title
        for source in table.sources
    ]
    return notes + (f"\nSources: {'; '.join(titles)}.\n" if titles else "")


def comma_separated(table: Table) -> str:
    """Write header and rows as printed, the kind of each row, and the numbers of the columns.

    The kind is published, baseline, measured or external. A number is the first figure of its cell:
    percent, parameters, image-text pairs, runs. The footnotes are in the Markdown.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    figures = [
        i
        for i in range(len(table.columns))
        if any(row.cells[i].order is not None for row in table.rows)
    ]
    titles = [column.title or "Name" for column in table.columns]
    writer.writerow([*titles, "kind", *(f"{titles[i]}: number" for i in figures)])
    for row in table.rows:
        orders = [row.cells[i].order for i in figures]
        writer.writerow(
            [
                *(cell.text for cell in row.cells),
                row.kind,
                *("" if o is None else f"{o:.12g}" for o in orders),
            ]
        )
    return text.getvalue()


# Characters that LaTeX reads otherwise or does not have
SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "†": r"\textdagger{}",
    "‡": r"\textdaggerdbl{}",
    "§": r"\S{}",
    "±": r"$\pm$",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "→": r"$\rightarrow$",
    "¶": r"\P{}",
    "‖": r"$\|$",
    "⁰": "$^0$",
    "‼": "!!",
    "◊": r"$\diamond$",
    "△": r"$\triangle$",
    "◦": r"$\circ$",
    "⊕": r"$\oplus$",
    "¿": r"\textquestiondown{}",
    "⇄": r"$\rightleftharpoons$",  # plain LaTeX has no other pair of arrows
    # after the end of a line, a bracket would be read as its option
    "[": "{[}",
}


FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex(table: Table, note: str) -> str:
    """Return a `table` environment with footnotes; it needs booktabs and graphicx.

    A table that is wider than the text is made smaller.
    """
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    lines = [
        f"% {note}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex_text(f'{table.title}. {table.lead}')}}}",
        rf"\label{{tab:{table.name.replace('_', '-')}}}",
        FIT,
        rf"\begin{{tabular}}{{{align}}}",
        r"\toprule",
        latex_line([column.title for column in table.columns]),
        r"\midrule",
    ]
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if before is not None and before.kind != row.kind:
            lines.append(r"\midrule")
        lines.append(latex_line([cell.text for cell in row.cells]))
    lines += [r"\bottomrule", r"\end{tabular}}"]
    notes = [f"{footnote.sign} {footnote.text}".strip() for footnote in table.footnotes]
    if table.sources:
        notes.append(f"Sources: {'; '.join(source.title for source in table.sources)}.")
    if notes:
        lines.append(r"\par\smallskip\footnotesize")
    lines += [latex_text(line) + r"\\" for line in notes]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def latex_text(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


def latex_line(cells: Sequence[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"
