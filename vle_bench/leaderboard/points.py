"""The points of the figures: scores of each task against parameters and pre-training pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from vle_bench.evaluation.record import Record
from vle_bench.leaderboard.published import Model, Pretraining, Published, Score
from vle_bench.leaderboard.tables import COMPARED, Compared, kind_of, parts_of
from vle_bench.pages.scatter import Point

FEWEST = 3  # points that make a figure
AXES = {"parameters": "parameters", "pretraining": "image-text pairs of the pre-training"}


@dataclass(frozen=True)
class Drawing:
    """One scatter plot; `name` is the stem of its file."""

    name: str
    title: str
    x_label: str
    points: tuple[Point, ...]


def drawings(published: Published, groups: Sequence[tuple[Record, ...]]) -> list[Drawing]:
    """Return the figures that have enough points, in a fixed order.

    Args:
        groups: as `experiments` gives them; contaminated ones are not drawn.
    """
    result = []
    for compared in COMPARED:
        for axis, label in AXES.items():
            points = (
                *published_points(published, compared, axis),
                *measured_points(published, groups, compared, axis),
            )
            if len(points) >= FEWEST:
                result.append(Drawing(f"{compared.task}-{axis}", compared.figure, label, points))
    return result


def size_on(axis: str, model: Model) -> int | None:
    """Return the value of a model on an axis; None if it is unknown."""
    if axis == "parameters":
        return model.parameters
    return (
        model.pretraining.image_text_pairs if isinstance(model.pretraining, Pretraining) else None
    )


def published_points(published: Published, compared: Compared, axis: str) -> Iterator[Point]:
    """Yield models whose size is known, each different figure once."""
    task, split = compared.task, compared.split
    for model in published.models:
        if (x := size_on(axis, model)) is None:
            continue
        scores = [
            s
            for s in published.scores
            if (s.model, s.task, s.split, s.metric) == (model.name, task, split, "accuracy")
        ]
        distinct: dict[tuple[object, ...], Score] = {}
        for score in scores:
            # 77.68 in one document is 77.7 in another
            distinct.setdefault((round(score.value, 1), score.marks), score)
        for score in distinct.values():
            signs = "".join(published.marks[mark].sign for mark in score.marks)
            yield Point(f"{model.name} {signs}".strip(), x, float(score.value), "published")


def measured_points(
    published: Published, groups: Sequence[tuple[Record, ...]], compared: Compared, axis: str
) -> Iterator[Point]:
    """Yield experiments on the split, at the size of the published model that they fine-tune.

    An experiment of no published model is at its own size, which counts the head too. A checkpoint
    from elsewhere is not drawn: its published point is there already. Predictions from elsewhere
    have a mark of their own.
    """
    for group in groups:
        experiment, first = parts_of(group).get(compared.task), group[0]
        names = set(first.title.split(" + "))
        own = Model(name=first.title, parameters=first.model.get("parameters"))
        owners = published.models if first.kind == "run" else ()
        owner = next((m for m in owners if names <= set(m.recipes)), own)
        if experiment is None or not first.ranked or first.kind == "elsewhere":
            continue
        if (first.data["source"], first.split) != (compared.data, compared.split):
            continue
        if (x := size_on(axis, owner)) is None:
            continue
        low, high = experiment.interval or (experiment.mean, experiment.mean)
        bounds = (100 * low, 100 * high)
        yield Point(first.title, x, 100 * experiment.mean, kind_of(group), bounds)
