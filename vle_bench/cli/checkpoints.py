"""Options about checkpoints that were trained elsewhere, and about the data to score."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.errors import RequestError
from vle_bench.tasks.catalogue import SCORED, within

if TYPE_CHECKING:
    from vle_bench.evaluation.published_checkpoint import Asked


class Resize(str, Enum):
    crop = "crop"
    squash = "squash"
    published_vcr = "published-vcr"


Checkpoint = Annotated[
    Path,
    typer.Argument(
        help="a run folder, or a from_pretrained folder, such as that of hfl/vle-base-for-vqa"
    ),
]
RecipeOption = Annotated[
    str | None,
    typer.Option(help="recipe that names the data; the checkpoint's own if not given"),
]
DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="prepared data, instead of the recipe's")
]
TaskOption = Annotated[
    str | None,
    typer.Option(
        metavar="|".join(SCORED),
        help="trained elsewhere: task, if config.json names no architecture",
    ),
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=4,
        max=100_000,
        help="trained elsewhere: most tokens of a text; 50 in VQA, 80 in VCR, or fewer if its "
        "tokenizer says so",
    ),
]
ResizeOption = Annotated[
    Resize | None,
    typer.Option(help="trained elsewhere: resize, if not as preprocessor_config.json says"),
]
TrainedOnOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPLITS",
        help="trained elsewhere: training splits, such as train+val; without it, never ranked",
    ),
]
PublishedOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL",
        help="also print the figures of a model in published.yaml, such as VLE-base",
    ),
]


@dataclass(frozen=True)
class Request:
    """The data and the split that a checkpoint is scored on, and the processes that load it."""

    data_root: Path
    split: str
    num_workers: int


def requested(
    checkpoint: Path, recipe: str | None, data: Path | None, split: str | None
) -> Request:
    """Take data and split from the command line, or from a recipe.

    Args:
        recipe: None: the recipe of the training run, if there is one.

    Raises:
        RequestError: the checkpoint does not exist, or nothing names the data or the split.
    """
    from vle_bench.recipe.load import load_recipe
    from vle_bench.recipe.schema import TrainGroup

    if not checkpoint.is_dir():
        on_hub = len(checkpoint.parts) == 2 and not checkpoint.is_absolute()  # OWNER/MODEL
        target = f"checkpoints/{checkpoint.name}"
        fetch = f"; of the hub: `hf download {checkpoint} --local-dir {target}`"
        raise RequestError(f"{checkpoint}: no such folder{fetch * on_hub}")
    places = (checkpoint / "recipe.yaml", checkpoint.parent / "recipe.yaml")
    source = recipe or next((str(path) for path in places if path.is_file()), None)
    loaded = None if source is None else load_recipe(source, [])
    root = data or (Path(loaded.data.root) if loaded else None)
    chosen = split or (loaded.data.report if loaded else None)
    if root is None or chosen is None:
        options = (("--data DIR", root), ("--split S", chosen))
        missing = " and ".join(name for name, value in options if value is None)
        raise RequestError(f"{checkpoint}: no recipe.yaml beside it: name {missing}, or --recipe")
    workers = TrainGroup.model_fields["num_workers"].default
    return Request(root, chosen, loaded.train.num_workers if loaded else workers)


def asked_of(
    task: str | None, max_text_length: int | None, resize: Resize | None, trained_on: str | None
) -> "Asked":
    """Collect the options about a checkpoint that was trained elsewhere."""
    from vle_bench.evaluation.published_checkpoint import Asked

    return Asked(
        task,
        max_text_length,
        resize.value if resize else None,
        trained_on,
    )


def published_lines(model: str, source: str, task: str) -> list[str]:
    """One line for each figure of a model in published.yaml, on a task of a dataset.

    Raises:
        RequestError: published.yaml has no such model.
    """
    from vle_bench.leaderboard.published import load_published, not_among

    published = load_published(Path("leaderboards"))
    names = [one.name for one in published.models]
    if model not in names:
        raise RequestError(f"--published: {not_among(model, 'models', names)}")
    tasks = within(task) if task else ()  # published tables have no Q2AR of METER and VLE
    lines = []
    for score in published.scores:
        if (score.model, score.data) != (model, source) or score.task not in tasks:
            continue
        document = published.sources[score.source]
        where = f"{document.document}, {document.table}" if document.table else document.document
        notes = "".join(f"; {published.marks[mark].text.rstrip('.')}" for mark in score.marks)
        figure = f"{score.task} on {score.split}, {score.metric}: {score.value}"
        lines.append(f"published  {model}, {figure}   ({where}{notes})")
    return lines or [f"published  {model}: nothing of {task} on {source}"]
