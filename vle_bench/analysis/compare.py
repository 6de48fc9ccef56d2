"""Two runs on the same examples: how far apart, how sure that is, on what kinds of question, and on which."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vle_bench.analysis.read import Evaluation, read_evaluation, task_and_split
from vle_bench.analysis.vcr import LABELS, TEXTS
from vle_bench.data.vcr_text import spoken
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Record
from vle_bench.metrics.paired import RESAMPLES, Difference, McNemar, differences, mcnemar
from vle_bench.metrics.rounding import percent, signed
from vle_bench.progress import Bar
from vle_bench.tasks import load_task
from vle_bench.tasks.catalogue import CATALOGUE, REPORTED
from vle_bench.tasks.predictions import Prediction

MOST_CHANGED = 20
STEPS = 2  # of reading an evaluation


@dataclass(frozen=True)
class Comparison:
    """B against A; fractions, unrounded. The first of `metrics` is the task's primary one."""

    runs: tuple[Path, Path]
    records: tuple[Record, Record]
    images: int
    metrics: dict[str, Difference]
    mcnemar: dict[str, McNemar]  # by metric, where an example is right or wrong
    kinds: dict[str, dict[str, Difference]]  # kind → group → the primary metric
    changed: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        a, b = (
            {
                "run": str(run),
                "recipe": r.recipe,
                "seed": r.seed,
                "contaminated": r.contaminated,
                "metrics": {name: r.metrics[name].model_dump() for name in self.metrics},
            }
            for run, r in zip(self.runs, self.records, strict=True)
        )
        return {
            "task": self.records[0].task,
            "split": self.records[0].split,
            "n": self.records[0].n,
            "images": self.images,
            "a": a,
            "b": b,
            "metrics": {name: found.as_json() for name, found in self.metrics.items()},
            "mcnemar": {name: asdict(found) for name, found in self.mcnemar.items()},
            "kinds": {
                kind: {name: d.as_json() for name, d in groups.items()}
                for kind, groups in self.kinds.items()
            },
            "changed": self.changed,
        }


def compare_runs(
    a: Path, b: Path, split: str | None = None, data: Path | None = None
) -> Comparison:
    """Both runs' predictions for a split, scored again and held against each other; no model is loaded.

    Args:
        split: the one that both recipes report, if not given.
        data: the prepared data, where it has moved.

    Raises:
        RequestError: the two cannot be compared, or a run's predictions are not those of its record; says why.
    """
    task, chosen = what_to_compare(a, b, split)
    parts = CATALOGUE[task].parts
    metrics: dict[str, str | None] = {load_task(task).primary_metric: None}
    if len(parts) > 1:
        metrics |= {part: part for part in parts}
    with Bar(f"score {chosen} again", 2 * STEPS) as bar:
        one, other = (read_evaluation(run, chosen, None, data, bar) for run in (a, b))
    check_same_examples(a, b, one, other)
    images = np.array([question["image_id"] for question in one.questions])
    scores = {
        name: (example_scores(one, part), example_scores(other, part))
        for name, part in metrics.items()
    }
    primary, groups = next(iter(scores)), groups_of(one)
    found: dict[str, list[Difference]] = {}
    with Bar("draw images", RESAMPLES * len(scores)) as bar:
        for name, pair in scores.items():
            masks = [np.ones(len(images), bool), *(groups.values() if name == primary else ())]
            found[name] = differences(*pair, images, masks, advance=bar.advance)
    kinds: dict[str, dict[str, Difference]] = {}
    for (kind, group), difference in zip(groups, found[primary][1:], strict=True):
        kinds.setdefault(kind, {})[group] = difference
    return Comparison(
        (a, b),
        (one.record, other.record),
        len(np.unique(images)),
        {name: rows[0] for name, rows in found.items()},
        {name: mcnemar(*pair) for name, pair in scores.items()}
        if CATALOGUE[task].form == "vcr"
        else {},
        kinds,
        most_changed(one, other, *scores[primary]),
    )


def what_to_compare(a: Path, b: Path, split: str | None) -> tuple[str, str]:
    """The task and the split of both runs."""
    found = [task_and_split(run, split) for run in (a, b)]
    if a.resolve() == b.resolve():
        raise RequestError(f"{a}: the same run twice; name another to compare it with")
    tasks = [task for task, _ in found]
    if tasks[0] != tasks[1]:
        raise RequestError(
            f"{a} and {b}: of different tasks, {tasks[0]} and {tasks[1]}; their scores have no difference"
        )
    if tasks[0] not in REPORTED:
        raise RequestError(
            f"{a}: {tasks[0]} answers no question; runs of {', '.join(REPORTED)} can be compared"
        )
    splits = [name for _, name in found]
    if splits[0] != splits[1]:
        raise RequestError(
            f"{a} and {b}: report different splits, {splits[0]} and {splits[1]}; --split names one for both"
        )
    return tasks[0], splits[0]


def check_same_examples(a: Path, b: Path, one: Evaluation, other: Evaluation) -> None:
    if one.record.task_version != other.record.task_version:
        versions = f"{one.record.task_version} and {other.record.task_version}"
        raise RequestError(
            f"{a} and {b}: scored by versions {versions} of {one.record.task}; evaluate again"
        )
    ids = [{row.id for row in found.rows} for found in (one, other)]
    if ids[0] != ids[1]:
        only = [
            f"{len(left):,} only in {run}, such as {min(left)!r}"
            for run, left in ((a, ids[0] - ids[1]), (b, ids[1] - ids[0]))
            if left
        ]
        raise RequestError(
            f"{a} and {b}: scored on different questions: {'; '.join(only)}; evaluate both on the same data"
        )
    hashes = [found.record.data["manifest_hash"] for found in (one, other)]
    if hashes[0] != hashes[1]:
        raise RequestError(
            f"{a} and {b}: evaluated on different data, manifest hashes {hashes[0]} and {hashes[1]}; evaluate both on the same"
        )


def example_scores(found: Evaluation, part: str | None) -> NDArray[np.float64]:
    """Return the task's score of each example, or that of one part, (examples,)."""
    if part is None:
        return np.array(list(found.scores.per_example.values()))
    chosen = {row.id: row[part] for row in found.rows}
    return np.array([float(chosen[q["annot_id"]] == q[LABELS[part]]) for q in found.questions])


def groups_of(found: Evaluation) -> dict[tuple[str, str], NDArray[np.bool_]]:
    """(kind, group) → a mask of the examples, in the record's order."""
    kinds = {kind: np.array(groups) for kind, groups in found.scores.kinds.items()}
    return {
        (kind, group): kinds[kind] == group
        for kind, groups in found.scores.breakdown.items()
        for group in groups
    }


def most_changed(
    one: Evaluation, other: Evaluation, before: NDArray[np.float64], after: NDArray[np.float64]
) -> list[dict[str, Any]]:
    """The examples whose score changed most, up or down; those that changed as much in the order of their ids."""
    ids = list(one.scores.per_example)
    rows = [{row.id: row for row in found.rows} for found in (one, other)]
    # rounded, so that 0.6 − 0.3 and 0.9 − 0.6 are the same change
    order = sorted(
        np.flatnonzero(before != after),
        key=lambda k: (-round(float(abs(after[k] - before[k])), 9), ids[k]),
    )
    return [
        {
            "id": ids[k],
            "score_a": float(before[k]),
            "score_b": float(after[k]),
            **shown(one.record.task, one.questions[k], rows[0][ids[k]], rows[1][ids[k]]),
        }
        for k in order[:MOST_CHANGED]
    ]


def shown(task: str, question: dict[str, Any], a: Prediction, b: Prediction) -> dict[str, str]:
    """The question, its truth and both predictions, to be read."""
    if CATALOGUE[task].form == "vqa":
        truth = question["multiple_choice_answer"]
        return {
            "question": question["question"],
            "truth": truth,
            "prediction_a": a["answer"],
            "prediction_b": b["answer"],
        }
    record = json.loads(question["record"])
    names = [f"{name}{number}" for number, name in enumerate(record["objects"], 1)]
    asked = spoken(record["question"], names)
    parts = CATALOGUE[task].parts
    if parts == ("qa2r",):
        asked += f" — {spoken(record['answer_choices'][record['answer_label']], names)} Why?"

    def choices(chosen: Mapping[str, int]) -> str:
        return " / ".join(
            f"{chosen[part] + 1}: {spoken(record[TEXTS[part]][chosen[part]], names)}"
            for part in parts
        )

    right = {part: record[LABELS[part]] for part in parts}
    return {
        "question": asked,
        "truth": choices(right),
        "prediction_a": choices(a.values),
        "prediction_b": choices(b.values),
    }


def comparison_lines(found: "Comparison") -> list[str]:
    from vle_bench.metrics.paired import METHOD

    first = found.records[0]
    lines = [
        f"{first.task} on {first.split} of {first.data['source']}: {first.n:,} questions on {found.images:,} images, percent"
    ]
    for letter, run, record in zip("AB", found.runs, found.records, strict=True):
        scores = []
        for name in found.metrics:
            low, high = record.metrics[name].interval or (None, None)
            between = (
                f" ({percent(low)} to {percent(high)})"
                if low is not None and high is not None
                else ""
            )
            scores.append(f"{name} {percent(record.metrics[name].value)}{between}")
        lines.append(f"{letter}: {run}, {made_by(record)}: {', '.join(scores)}")
    lines += ["", f"{'':28} {'n':>9} {'A':>7} {'B':>7} {'B − A':>8}   95 % interval     p"]
    lines += [difference_line(name, difference) for name, difference in found.metrics.items()]
    for kind, groups in found.kinds.items():
        lines += [
            f"by {kind}",
            *(difference_line(f"  {name}", difference) for name, difference in groups.items()),
        ]
    for name, test in found.mcnemar.items():
        lines.append(
            f"McNemar, exact, {name}: only A right {test.only_a:,}, only B right {test.only_b:,}, p {test.p:.2g}"
        )
    lines += ["", METHOD[0].upper() + METHOD[1:] + "."]
    if len(found.kinds):
        lines.append("The p of a kind is not corrected for there being several.")
    lines += [
        "",
        "No example's score changed."
        if not found.changed
        else f"The {len(found.changed)} that changed most:",
    ]
    for row in found.changed:
        lines.append(
            f"{row['id']}: {percent(row['score_a'])} → {percent(row['score_b'])}   {row['question']}"
        )
        lines.append(
            f"    truth: {row['truth']}   A: {row['prediction_a']}   B: {row['prediction_b']}"
        )
    return lines


def made_by(record: "Record") -> str:
    if record.kind == "elsewhere":
        return (
            f"checkpoint {record.title} {record.model['checkpoint_sha256'][:8]}, trained elsewhere"
        )
    return f"recipe {record.recipe['name']} {record.recipe['hash']}, seed {record.seed}"


def difference_line(name: str, found: "Difference") -> str:
    between = (
        f"{points(0, found.interval[0])} to {points(0, found.interval[1])}"
        if found.interval
        else "one image"
    )
    p = f"{found.p:.2g}" if found.p is not None else ""
    line = f"{name:28} {found.n:9,} {percent(found.a):>7} {percent(found.b):>7} {points(found.a, found.b):>8}   {between:16}  {p}"
    return line.rstrip()


def points(a: float, b: float) -> str:
    """The difference of two fractions as they are printed, with two decimals."""
    return signed(100 * (Decimal(repr(b)) - Decimal(repr(a))), 2)
