"""The command `look`: a page that shows a model's input."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.errors import RequestError
from vle_bench.model_families import FAMILIES, VLE
from vle_bench.progress import quiet_libraries

if TYPE_CHECKING:
    from vle_bench.data.prepared import PreparedData
    from vle_bench.recipe.schema import Recipe
    from vle_bench.training.feed import Feed

MOST_EXAMPLES = 1000

Target = Annotated[
    str,
    typer.Argument(
        metavar="DATA|RECIPE|RUN", help="prepared data, a recipe (file or name), or a run folder"
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value]...", help="recipe keys to change")
]
Ids = Annotated[
    list[str] | None,
    typer.Option(metavar="ID[,ID...]", help="examples to show, instead of drawing some"),
]


@dataclass(frozen=True)
class Asked:
    """The arguments of the command line: data, a recipe with its keys, a run; None: not named."""

    data: Path | None
    recipe: "Recipe | None"
    run: Path | None


def look(
    target: Target,
    overrides: Overrides = None,
    split: Annotated[
        str | None, typer.Option(help="split to look at; the one that is trained on if not given")
    ] = None,
    ids: Ids = None,
    examples: Annotated[
        int, typer.Option(min=1, max=MOST_EXAMPLES, help="number of examples to draw")
    ] = 24,
    seed: Annotated[
        int, typer.Option(min=0, max=2**32 - 1, help="draws the examples; the same page each time")
    ] = 0,
    recipe: Annotated[
        str | None,
        typer.Option(metavar="RECIPE|RUN", help="with DATA: recipe or run that reads them"),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="page to write; RUN/look.<split>.html, or look.<name>.<split>.html here"),
    ] = None,
) -> None:
    """Write one HTML page of what a model gets of its data.

    Shows pictures before and after the transform and augmented, the patches that objects pool,
    texts as tokens with what is cut off, targets, the first batches of training, and histograms.
    All of it comes from the code that trains.
    """
    from vle_bench.evaluation.request import refuse_existing

    if output is not None:
        refuse_existing(output)
    asked = asked_for(target, recipe, overrides or [])
    quiet_libraries()
    from vle_bench.analysis.look import chosen_examples, open_look, write_look

    data, feed = opened(asked)
    page = open_look(data, split, feed)
    wanted = [one.strip() for part in ids or [] for one in part.split(",") if one.strip()]
    if ids and not wanted:
        raise RequestError("--ids: names no example; ids are separated by commas")
    rows = chosen_examples(page, wanted, examples, seed)
    named = asked.recipe.name if asked.recipe and not asked.data else data.root.name
    place = asked.run if asked.run and not asked.data else None
    default = place / f"look.{page.split}.html" if place else f"look.{named}.{page.split}.html"
    written = output or Path(default)
    write_look(page, written, rows, seed)
    print(f"written: {written}")


def asked_for(target: str, recipe: str | None, overrides: list[str]) -> Asked:
    """Tell prepared data, a recipe and a run apart.

    Raises:
        RequestError: it is none of them, or the options do not go together.
    """
    from vle_bench.recipe.load import load_recipe, shipped_recipes

    folder = Path(target)
    if (folder / "manifest.json").is_file():
        if recipe is None and overrides:
            raise RequestError(f"{overrides[0]}: a key of a recipe; name one with --recipe")
        return Asked(folder, *read_by(recipe, overrides)) if recipe else Asked(folder, None, None)
    if recipe is not None:
        raise RequestError(
            f"{target}: no prepared data there (no manifest.json); --recipe goes with prepared data"
        )
    if folder.is_dir():
        return Asked(None, *read_by(target, overrides))
    kinds = {"recipes", *(name.partition("/")[0] for name in shipped_recipes())}
    if not (folder.exists() or folder.suffix == ".yaml" or target.partition("/")[0] in kinds):
        raise RequestError(f"{target}: no such folder of prepared data or of a run, nor a recipe")
    return Asked(None, load_recipe(target, overrides), None)


def read_by(name: str, overrides: list[str]) -> "tuple[Recipe, Path | None]":
    """Read a recipe or the recipe of a run; the run folder if it is one."""
    from vle_bench.recipe.load import load_recipe

    folder = Path(name)
    if not folder.is_dir():
        return load_recipe(name, overrides), None
    run = next((one for one in (folder, folder.parent) if (one / "recipe.yaml").is_file()), None)
    if run is None:
        raise RequestError(
            f"{folder}: neither prepared data (manifest.json) nor a run (recipe.yaml); `vle-bench "
            "prepare` writes data, and a checkpoint from elsewhere is read by a recipe: look DATA "
            "--recipe RECIPE model.checkpoint=FOLDER"
        )
    if overrides:
        raise RequestError(
            f"{overrides[0]}: a run has its recipe; name a recipe to change its keys"
        )
    return load_recipe(str(run / "recipe.yaml"), []), run


def opened(asked: Asked) -> "tuple[PreparedData, Feed | None]":
    """Open the data, and what the recipe or the run makes of them."""
    from vle_bench.data.prepared import open_prepared
    from vle_bench.recipe.preflight import missing_files
    from vle_bench.tasks import load_task
    from vle_bench.training import feed

    recipe = asked.recipe
    if recipe is None:
        assert asked.data is not None  # `asked_for` names one of them
        return open_prepared(asked.data), None
    if recipe.model.family != VLE:
        title = FAMILIES[recipe.model.family].title
        raise RequestError(
            f"look: shows the squares that VLE and METER read, and {title} keeps the shape of a "
            "picture; look DATA shows the data alone"
        )
    if asked.data is not None:
        moved = recipe.data.model_copy(update={"root": str(asked.data)})
        recipe = recipe.model_copy(update={"data": moved})
    trained = asked.run is not None and feed.has_checkpoint(asked.run)
    if asked.run is None and (missing := missing_files(recipe)):
        problem = missing[0].partition("; it comes with")[0]
        raise RequestError(f"{problem}; `vle-bench validate` prints the commands that bring it")
    task = load_task(recipe.task)
    data = feed.open_data(recipe, task)
    if trained:
        assert asked.run is not None
        return data, feed.of_run(recipe, task, data, asked.run)
    return data, feed.of_recipe(recipe, task, data)
