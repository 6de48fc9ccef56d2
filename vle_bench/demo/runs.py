"""Runs of the demo, and their tables on the terminal and on a page."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from vle_bench.data.pixels import Transform
from vle_bench.data.prepare.pixels import store_name, write_store
from vle_bench.evaluation.record import Record, load_record
from vle_bench.pages.html import Grid, GridCell, GridRow, data_address, write_page
from vle_bench.recipe.schema import Recipe
from vle_bench.training.train import train


def run_once(recipe: Recipe, folder: Path) -> Record:
    """Train and evaluate, unless this very recipe was run to the end in `folder` before."""
    result = result_of(recipe, folder)
    if result.exists() and load_record(result).recipe["hash"] == recipe.hash:
        print(
            f"{folder}: this recipe was run here before, showing its result; "
            "remove the folder to run it again"
        )
        return load_record(result)
    return train(recipe, folder, resume=(folder / "recipe.yaml").exists())


def result_of(recipe: Recipe, folder: Path) -> Path:
    """Return the path of the record that a run of the recipe writes."""
    return folder / "results" / f"{recipe.task}.{recipe.data.report}.json"


def prepare_pixels(recipe: Recipe) -> None:
    """Store the pictures of a recipe's prepared data as its model reads them, unless it is done."""
    size, resize = recipe.model.image_size, recipe.model.resize or "squash"
    transform = Transform.of_squares(size, resize)
    write_store(Path(recipe.data.root), store_name(size, resize), transform)


def print_table(table: Table) -> None:
    """Print a table without cutting off figures.

    A file takes lines of any length. In a narrow terminal the names are folded.
    """
    Console(width=None if sys.stdout.isatty() else 100).print(table)


def ruled_table(title: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]]) -> Table:
    """Return a table of rows keyed by column; the last stands out. Long names are folded."""
    table = Table(title=title)
    for number, column in enumerate(columns):
        table.add_column(column, justify="left" if number == 0 else "right", no_wrap=number > 0)
    for row in rows[:-1]:
        table.add_row(*row.values())
    table.add_section()
    table.add_row(*rows[-1].values(), style="bold")
    return table


def write_demo_page(
    output: Path,
    title: str,
    rows: Sequence[Mapping[str, str]],
    columns: Sequence[str],
    images: Mapping[str, Path],
    recipe: Recipe,
    record: Record,
    notes: Sequence[str],
) -> None:
    """Write a page with the table, pictures and notes, the recipe and the record folded.

    Args:
        rows: keyed by `columns`; the last is the run itself and stands out.
        images: caption -> PNG file, embedded.
    """
    cells = [[GridCell(row[column]) for column in columns] for row in rows]
    grid_rows = [
        *map(GridRow, cells[:-1]),
        *(GridRow(own, {"class": "this"}) for own in cells[-1:]),
    ]
    write_page(
        output,
        "demo/page.html",
        title=title,
        table=Grid(
            [GridCell(name) for name in columns], grid_rows, attributes={"aria-label": "table"}
        ),
        notes=notes,
        images={name: data_address(path.read_bytes(), "png") for name, path in images.items()},
        texts={
            "Recipe": recipe.to_yaml(),
            "Result record": json.dumps(record.model_dump(mode="json"), indent=1),
        },
    )
