"""What `evaluate`, `predict` and `report` are told of checkpoints that were trained elsewhere, and the data that is asked about."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer

from vle_bench.errors import RequestError


class Resize(str, Enum):
    crop = "crop"
    squash = "squash"


class Task(str, Enum):
    vqa = "vqa"
    vcr_q2a = "vcr_q2a"
    vcr_qa2r = "vcr_qa2r"
    vcr_joint = "vcr_joint"


Checkpoint = Annotated[
    Path,
    typer.Argument(
        help="a run folder, or a from_pretrained folder, such as that of hfl/vle-base-for-vqa"
    ),
]
RecipeOption = Annotated[
    str | None, typer.Option(help="recipe that names the data; the checkpoint's own if not given")
]
DataOption = Annotated[
    Path | None, typer.Option(metavar="DIR", help="prepared data, instead of a recipe's")
]
TaskOption = Annotated[
    Task | None, typer.Option(help="trained elsewhere: task, if config.json names no architecture")
]
LengthOption = Annotated[
    int | None,
    typer.Option(
        metavar="N",
        min=4,
        max=100_000,
        help="trained elsewhere: most tokens of a text; 50 in VQA, 80 in VCR, or fewer if its tokenizer says so",
    ),
]
ResizeOption = Annotated[
    Resize | None,
    typer.Option(help="trained elsewhere: pictures, if not as preprocessor_config.json says"),
]
TrainedOnOption = Annotated[
    str | None,
    typer.Option(
        metavar="SPLITS",
        help="trained elsewhere: on which splits, such as train+val; else never ranked",
    ),
]
PublishedOption = Annotated[
    str | None,
    typer.Option(
        metavar="MODEL", help="print what published.yaml has of a model, such as VLE-base, beside"
    ),
]
# Scores that a record's own stand beside: published tables have no Q2AR of METER and VLE.
BESIDE = {
    "vcr_q2ar": ("vcr_q2a", "vcr_qa2r", "vcr_q2ar"),
    "vcr_joint": ("vcr_q2a", "vcr_qa2r", "vcr_q2ar"),
}


@dataclass(frozen=True)
class Request:
    """The data and the split that a checkpoint is asked about."""

    data_root: Path
    split: str


def requested(
    checkpoint: Path, recipe: str | None, data: Path | None, split: str | None
) -> Request:
    """Data and split, from the command line or from a recipe.

    Args:
        recipe: None: the one that was trained with, where there is one.

    Raises:
        RequestError: no such checkpoint, or nothing that says which data or split.
    """
    from vle_bench.recipe.load import load_recipe

    if not checkpoint.is_dir():
        on_hub = len(checkpoint.parts) == 2 and not checkpoint.is_absolute()  # OWNER/MODEL
        fetch = (
            f"; of the hub: `hf download {checkpoint} --local-dir checkpoints/{checkpoint.name}`"
        )
        raise RequestError(f"{checkpoint}: no such folder{fetch * on_hub}")
    places = (checkpoint / "recipe.yaml", checkpoint.parent / "recipe.yaml")
    source = recipe or next((str(path) for path in places if path.is_file()), None)
    loaded = None if source is None else load_recipe(source, [])
    root = data or (Path(loaded.data.root) if loaded else None)
    chosen = split or (loaded.data.report if loaded else None)
    if root is None or chosen is None:
        missing = [
            name for name, value in (("--data DIR", root), ("--split S", chosen)) if value is None
        ]
        raise RequestError(
            f"{checkpoint}: no recipe.yaml beside it: name {' and '.join(missing)}, or --recipe"
        )
    return Request(root, chosen)


def asked_of(
    task: Task | None, max_text_length: int | None, resize: Resize | None, trained_on: str | None
) -> Any:
    from vle_bench.evaluation.published_checkpoint import Asked

    return Asked(
        task.value if task else None, max_text_length, resize.value if resize else None, trained_on
    )


def published_lines(model: str, source: str, task: str) -> list[str]:
    """What published.yaml has of a model on a task of a data set, a line each.

    Raises:
        RequestError: no such model there.
    """
    from vle_bench.leaderboard.published import load_published, not_among

    published = load_published(Path("leaderboards"))
    names = [one.name for one in published.models]
    if model not in names:
        raise RequestError(f"--published: {not_among(model, 'models', names)}")
    tasks = BESIDE.get(task, (task,))
    scores = [
        s for s in published.scores if (s.model, s.data) == (model, source) and s.task in tasks
    ]
    lines = []
    for score in scores:
        document = published.sources[score.source]
        where = f"{document.document}, {document.table}" if document.table else document.document
        notes = "".join(f"; {published.marks[mark].text.rstrip('.')}" for mark in score.marks)
        lines.append(
            f"published  {model}, {score.task} on {score.split}, {score.metric}: {score.value}   ({where}{notes})"
        )
    return lines or [f"published  {model}: nothing of {task} on {source}"]
