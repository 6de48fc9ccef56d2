"""Where a record stands among the published and measured scores of its split."""

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from vle_bench.evaluation.record import Record, same_dataset
from vle_bench.leaderboard.experiments import Experiment, experiments
from vle_bench.leaderboard.published import Published, load_published
from vle_bench.leaderboard.records import load_records
from vle_bench.leaderboard.tables import parts_of
from vle_bench.metrics.numbers import percent


def standing(path: Path, root: Path) -> list[str]:
    """Return a line for each task of a record of the folder: its place, and between which scores.

    Other seeds of the same experiment do not count.
    """
    published = load_published(root)
    records = load_records(root, published)
    record = records[path]
    others = experiments(
        other
        for other in records.values()
        if (other.kind, other.identity) != (record.kind, record.identity)
    )
    return [
        line_of(record, task, own, rivals(record, task, published, others))
        for task, own in parts_of((record,)).items()
    ]


def rivals(
    record: Record, task: str, published: Published, groups: Iterable[tuple[Record, ...]]
) -> list[tuple[Decimal, str]]:
    """Return (percent, name) of every ranked score of a task on the same split, best first.

    Of a published model its best figure, and of each experiment its mean over seeds.
    """
    best: dict[str, Decimal] = {}
    for score in published.scores if "name" not in record.data else ():
        place = (record.data["source"], record.split, task, "accuracy")
        if (score.data, score.split, score.task, score.metric) == place:
            best[score.model] = max(score.value, best.get(score.model, score.value))
    scores = [(value, model) for model, value in best.items()]
    for group in groups:
        first, part = group[0], parts_of(group).get(task)
        if part is None or not first.ranked or first.split != record.split:
            continue
        if not same_dataset(first.data, record.data):
            continue
        if "name" in record.data and first.data["manifest_hash"] != record.data["manifest_hash"]:
            continue
        scores.append((100 * part.exact_mean, first.title))
    return sorted(scores, key=lambda score: (-score[0], score[1]))


def line_of(record: Record, task: str, own: Experiment, others: list[tuple[Decimal, str]]) -> str:
    """Describe a place: `vqa on test of easy-vqa: 88.10, place 3 of 6, after A 93.78, before B`."""
    value = 100 * own.exact_mean
    better = [score for score in others if score[0] > value]
    worse = [score for score in others if score[0] <= value]
    place = f"place {len(better) + 1} of {len(others) + 1}"
    sides = [f"after {name} {score:.2f}" for score, name in better[-1:]]
    sides += [f"before {name} {score:.2f}" for score, name in worse[:1]]
    ranked = [] if record.ranked else ["not ranked, it would be at"]
    where = f"{task} on {record.split} of {record.data_name}: {percent(own.mean)}"
    return ", ".join([where, " ".join([*ranked, place]), *sides])
