"""A table as LaTeX."""

from collections.abc import Sequence

from vle_bench.leaderboard.markup import Table

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
    "¿": r"\textquestiondown{}",
    # after the end of a line, a bracket would be read as its option
    "[": "{[}",
}


def latex_text(text: str) -> str:
    return "".join(SPECIAL.get(character, character) for character in text)


FIT = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"


def latex(table: Table, note: str) -> str:
    """A `table` environment with footnotes; it needs booktabs and graphicx.

    A table that is wider than the text is made smaller.
    """
    align = "".join("r" if column.numeric else "l" for column in table.columns)
    body: list[str] = []
    for before, row in zip((None, *table.rows), table.rows, strict=False):
        if before is not None and before.kind != row.kind:
            body.append(r"\midrule")
        body.append(latex_line([cell.text for cell in row.cells]))
    notes = [f"{note.sign} {note.text}".strip() for note in table.footnotes]
    notes += (
        [f"Sources: {'; '.join(source.title for source in table.sources)}."]
        if table.sources
        else []
    )
    return (
        "\n".join(
            [
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
                *body,
                r"\bottomrule",
                r"\end{tabular}}",
                *(
                    [r"\par\smallskip\footnotesize", *(latex_text(line) + r"\\" for line in notes)]
                    if notes
                    else []
                ),
                r"\end{table}",
            ]
        )
        + "\n"
    )


def latex_line(cells: Sequence[str]) -> str:
    return " & ".join(latex_text(cell) for cell in cells) + r" \\"
