"""What is drawn: scores of each task against parameters, and against pairs of pre-training."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vle_bench.evaluation.record import Record
from vle_bench.leaderboard.published import Model, Pretraining, Published, Score
from vle_bench.leaderboard.scatter import Point
from vle_bench.leaderboard.tables import COMPARED, parts_of

FEWEST = 3  # points that make a picture

TITLES = {
    "vqa": "VQA v2, test-dev",
    "vcr_qa2r": "VCR, question and answer to rationale",
    "vcr_q2a": "VCR, question to answer",
}

SOURCES = {
    "vqa": "vqav2",
    "vcr_qa2r": "vcr",
    "vcr_q2a": "vcr",
}  # the drawn and the embedded data are other tasks

AXES = {"parameters": "parameters", "pretraining": "image-text pairs of the pre-training"}


@dataclass(frozen=True)
class Drawing:
    """One scatter plot; `name` is the stem of its files."""

    name: str
    title: str
    x_label: str
    points: tuple[Point, ...]


def drawings(published: Published, groups: Sequence[tuple[Record, ...]]) -> list[Drawing]:
    """Those with enough points, in a fixed order.

    Args:
        groups: as `experiments` gives them; contaminated ones are not drawn.
    """
    found = []
    for task, split in COMPARED.values():
        for axis, label in AXES.items():
            points = (
                *published_points(published, task, split, axis),
                *measured_points(published, groups, task, split, axis),
            )
            if len(points) >= FEWEST:
                found.append(Drawing(f"{task}-{axis}", TITLES[task], label, points))
    return found


def place(model: Model, axis: str) -> int | None:
    """Where a model stands on the axis; None where nobody has told."""
    if axis == "parameters":
        return model.parameters
    return (
        model.pretraining.image_text_pairs if isinstance(model.pretraining, Pretraining) else None
    )


def published_points(published: Published, task: str, split: str, axis: str) -> Iterator[Point]:
    """Models whose place is known, each figure that differs once."""
    for model in published.models:
        if (x := place(model, axis)) is None:
            continue
        scores = [
            s
            for s in published.scores
            if (s.model, s.task, s.split, s.metric) == (model.name, task, split, "accuracy")
        ]
        shown: dict[tuple[object, ...], Score] = {}
        for score in scores:
            shown.setdefault(
                (round(score.value, 1), score.marks), score
            )  # 77.68 of one document is another's 77.7
        for score in shown.values():
            signs = "".join(published.marks[mark].sign for mark in score.marks)
            yield Point(f"{model.name} {signs}".strip(), x, float(score.value), "published")


def measured_points(
    published: Published, groups: Sequence[tuple[Record, ...]], task: str, split: str, axis: str
) -> Iterator[Point]:
    """Experiments on the split; they stand where the model stands that the recipe fine-tunes, and one of no model at its own size,
    with its head."""
    for group in groups:
        experiment, first = parts_of(group).get(task), group[0]
        names = set(first.recipe["name"].split(" + "))
        own = Model(name=first.recipe["name"], parameters=first.model.get("parameters"))
        owner = next((m for m in published.models if names <= set(m.recipes)), own)
        if (
            experiment is None
            or first.contaminated
            or (first.data["source"], first.split) != (SOURCES[task], split)
        ):
            continue
        if (x := place(owner, axis)) is None:
            continue
        low, high = experiment.interval or (experiment.mean, experiment.mean)
        yield Point(
            first.recipe["name"], x, 100 * experiment.mean, "measured", (100 * low, 100 * high)
        )
