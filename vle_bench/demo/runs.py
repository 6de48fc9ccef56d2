"""Runs of the demo, and how their tables are printed."""

import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vle_bench.evaluation.record import Record, load_record
from vle_bench.recipe.schema import Recipe
from vle_bench.training.train import train


def run_once(recipe: Recipe, folder: Path) -> Record:
    """Train and evaluate, unless this very recipe was run here to the end before."""
    result = folder / "results" / f"{recipe.task}.{recipe.data.report}.json"
    if result.exists() and load_record(result).recipe["hash"] == recipe.hash:
        print(
            f"{folder}: this recipe was run here before, showing its result; remove the folder to run it again"
        )
        return load_record(result)
    return train(recipe, folder, resume=(folder / "recipe.yaml").exists())


def print_table(table: Table) -> None:
    """Figures are never cut off: a file takes lines of any length, and in a narrow terminal it is the names that are folded."""
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def ruled_table(title: str, columns: Sequence[str], rows: Sequence[dict[str, str]]) -> Table:
    """Rows keyed by column; the last stands out. Names are folded where there is no room, figures never."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows[:-1]:
        table.add_row(*row.values())
    table.add_section()
    table.add_row(*rows[-1].values(), style="bold")
    return table
