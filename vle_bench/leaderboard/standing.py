"""The place of a record among the published and measured scores of its split."""

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from vle_bench.data.splits import same_dataset
from vle_bench.evaluation.record import Record
from vle_bench.leaderboard.experiments import Experiment, experiments
from vle_bench.leaderboard.published import Published, load_published
from vle_bench.leaderboard.records import load_records
from vle_bench.leaderboard.tables import parts_of
from vle_bench.metrics.numbers import rounded


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
        scores.append((100 * part.exact_mean, first.title))
    return sorted(scores, key=lambda score: (-score[0], score[1]))


def line_of(record: Record, task: str, own: Experiment, others: list[tuple[Decimal, str]]) -> str:
    """Describe a place: `vqa on test of easy-vqa: 88.10, place 3 of 6, after A 93.78, before B 87`.

    Figures that are the same to two decimals share their places: `place 3 to 4 of 6, level with C`.
    """
    value = 100 * own.exact_mean
    shown = Decimal(rounded(value, 2))  # two figures that read the same are level
    rounded_others = [(Decimal(rounded(score, 2)), name) for score, name in others]
    better = [score for score in rounded_others if score[0] > shown]
    level = [name for score, name in rounded_others if score == shown]
    worse = [score for score in rounded_others if score[0] < shown]
    first = len(better) + 1
    last = f" to {first + len(level)}" if level else ""
    sides = [f"after {name} {score}" for score, name in better[-1:]]
    sides += [f"level with {' and '.join(level)}"] if level else []
    sides += [f"before {name} {score}" for score, name in worse[:1]]
    place = f"place {first}{last} of {len(others) + 1}"
    ranked = [] if record.ranked else ["not ranked, it would be at"]
    name = record.other_data or record.data_name
    where = f"{task} on {record.split} of {name}: {rounded(value, 2)}"
    return ", ".join([where, " ".join([*ranked, place]), *sides])
