"""One table as Markdown, CSV and LaTeX, with everything in it that the formats treat as their own."""

import csv
import io

import pytest

from vle_bench.leaderboard.markup import (
    Cell,
    Citation,
    Column,
    Footnote,
    Page,
    Row,
    Table,
    comma_separated,
    latex,
    latex_text,
    markdown,
)
from vle_bench.leaderboard.tables import MARKS

TABLE = Table(
    "small_one",
    "A & B",
    "Percent; 50 % is half.",
    (Column("Model"), Column("VQA | test", numeric=True)),
    (
        Row("published", (Cell("M_1"), Cell("77.7 (76.8 †‡)", 77.7))),
        Row("published", (Cell("K, L"), Cell())),
        Row("measured", (Cell("run~1 #2"), Cell("−0.5 ± 0.2", -0.5))),
    ),
    (Footnote("†", "reproduced by {others}."), Footnote("", "I: images.")),
    (Citation("A README", "https://example.org/a_b"), Citation("nowhere")),
)


def test_markdown() -> None:
    assert markdown(Page("small", "Small", (TABLE,)), "Generated.") == (
        "<!-- Generated. -->\n\n# Small\n\nPercent; 50 % is half.\n\n"
        "| Model | VQA \\| test |\n| --- | ---: |\n| M_1 | 77.7 (76.8 †‡) |\n| K, L | – |\n| run~1 #2 | −0.5 ± 0.2 |\n"
        "\n† reproduced by {others}.  \nI: images.\n\nSources: [A README](https://example.org/a_b); nowhere.\n"
    )


def test_a_page_of_several_tables_has_headings() -> None:
    text = markdown(Page("small", "Small", (TABLE, TABLE)), "Generated.")
    assert [line for line in text.splitlines() if line.startswith("#")] == [
        "# Small",
        "## A & B",
        "## A & B",
    ]


def test_csv_reads_back() -> None:
    rows = list(csv.reader(io.StringIO(comma_separated(TABLE))))
    assert rows == [
        ["Model", "VQA | test", "kind", "VQA | test: number"],
        ["M_1", "77.7 (76.8 †‡)", "published", "77.7"],
        ["K, L", "–", "published", ""],
        ["run~1 #2", "−0.5 ± 0.2", "measured", "-0.5"],
    ]


@pytest.mark.parametrize("mark", MARKS, ids=lambda mark: mark.sign)
def test_latex_has_a_symbol_for_every_mark(mark) -> None:
    """A character that LaTeX does not have vanishes from the page, and the mark with it."""
    assert latex_text(mark.sign).isascii() and latex_text(mark.text).isascii()


def test_latex() -> None:
    assert (
        latex(TABLE, "Generated.")
        == r"""% Generated.
\begin{table}
\centering
\caption{A \& B. Percent; 50 \% is half.}
\label{tab:small-one}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%
\begin{tabular}{lr}
\toprule
Model & VQA | test \\
\midrule
M\_1 & 77.7 (76.8 \textdagger{}\textdaggerdbl{}) \\
K, L & -- \\
\midrule
run\textasciitilde{}1 \#2 & $-$0.5 $\pm$ 0.2 \\
\bottomrule
\end{tabular}}
\par\smallskip\footnotesize
\textdagger{} reproduced by \{others\}.\\
I: images.\\
Sources: A README; nowhere.\\
\end{table}
"""
    )
