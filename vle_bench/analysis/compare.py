"""Compare two runs on the same examples: overall, by kind of question, and example by example."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vle_bench.analysis.read import Evaluation, read_evaluation, task_and_split
from vle_bench.analysis.vcr import LABELS, TEXTS, object_labels
from vle_bench.data.tagged_text import words_of
from vle_bench.data.vcr_text import spoken
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Record
from vle_bench.json_files import Row
from vle_bench.metrics.numbers import percent, percent_range, signed
from vle_bench.metrics.paired import METHOD, RESAMPLES, Difference, McNemar, differences, mcnemar
from vle_bench.progress import Bar
from vle_bench.tasks import load_task
from vle_bench.tasks.catalogue import CATALOGUE, REPORTED
from vle_bench.tasks.predictions import Prediction

MOST_CHANGED = 20
READING_STEPS = 2  # that `read_evaluation` counts on its bar
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Comparison:
    """B against A; fractions, unrounded. The first of `metrics` is the task's primary one.

    Args:
        mcnemar: by metric, for tasks in which an example is right or wrong.
        kinds: kind -> group -> difference of the primary metric.
        changed: the examples that changed most.
    """

    runs: tuple[Path, Path]
    records: tuple[Record, Record]
    images: int
    metrics: dict[str, Difference]
    mcnemar: dict[str, McNemar]
    kinds: dict[str, dict[str, Difference]]
    changed: list[Row]

    def as_json(self) -> Row:
        a, b = (
            {
                "run": str(run),
                "recipe": record.recipe,
                "seed": record.seed,
                "contaminated": record.contaminated,
                "metrics": {name: record.metrics[name].model_dump() for name in self.metrics},
            }
            for run, record in zip(self.runs, self.records, strict=True)
        )
        return {
            "task": self.records[0].task,
            "split": self.records[0].split,
            "n": self.records[0].n,
            "images": self.images,
            "a": a,
            "b": b,
            "metrics": {name: difference.as_json() for name, difference in self.metrics.items()},
            "mcnemar": {name: asdict(test) for name, test in self.mcnemar.items()},
            "kinds": {
                kind: {name: difference.as_json() for name, difference in groups.items()}
                for kind, groups in self.kinds.items()
            },
            "changed": self.changed,
        }


def compare_runs(
    a: Path, b: Path, split: str | None = None, data: Path | None = None
) -> Comparison:
    """Score the predictions of both runs again and compare them; no model is loaded.

    Args:
        split: what both recipes report if not given.
        data: the prepared data if they have moved.

    Raises:
        RequestError: the two cannot be compared, or predictions are not those of their record.
    """
    task, chosen = common_task_and_split(a, b, split)
    facts = CATALOGUE[task]
    metrics: dict[str, str | None] = {load_task(task).primary_metric: None}
    if len(facts.parts) > 1:
        metrics |= {part: part for part in facts.parts}
    with Bar(f"score {chosen} again", 2 * READING_STEPS) as bar:
        one, other = (read_evaluation(run, chosen, None, data, bar) for run in (a, b))
    check_same_examples(a, b, one, other)
    images = np.array([question["image_id"] for question in one.questions])
    scores = {
        name: (example_scores(one, part), example_scores(other, part))
        for name, part in metrics.items()
    }
    primary, masks = next(iter(scores)), group_masks(one)
    results: dict[str, list[Difference]] = {}
    with Bar("draw images", RESAMPLES * len(scores)) as bar:
        for name, pair in scores.items():
            groups = [np.ones(len(images), bool), *(masks.values() if name == primary else ())]
            results[name] = differences(*pair, images, groups, advance=bar.advance)
    kinds: dict[str, dict[str, Difference]] = {}
    for (kind, group), difference in zip(masks, results[primary][1:], strict=True):
        kinds.setdefault(kind, {})[group] = difference
    return Comparison(
        (a, b),
        (one.record, other.record),
        len(np.unique(images)),
        {name: rows[0] for name, rows in results.items()},
        {name: mcnemar(*pair) for name, pair in scores.items()} if facts.form != "vqa" else {},
        kinds,
        most_changed(one, other, *scores[primary]),
    )


def common_task_and_split(a: Path, b: Path, split: str | None) -> tuple[str, str]:
    """Return the task and the split of both runs."""
    pairs = [task_and_split(run, split) for run in (a, b)]
    if a.resolve() == b.resolve():
        raise RequestError(f"{a}: the same run twice; name another to compare it with")
    tasks = [task for task, _ in pairs]
    if tasks[0] != tasks[1]:
        raise RequestError(
            f"{a} and {b}: of different tasks, {tasks[0]} and {tasks[1]}; "
            "their scores have no difference"
        )
    if tasks[0] not in REPORTED:
        raise RequestError(
            f"{a}: {tasks[0]} answers no question; runs of {', '.join(REPORTED)} can be compared"
        )
    splits = [name for _, name in pairs]
    if splits[0] != splits[1]:
        raise RequestError(
            f"{a} and {b}: report different splits, {splits[0]} and {splits[1]}; "
            "--split names one for both"
        )
    return tasks[0], splits[0]


def check_same_examples(a: Path, b: Path, one: Evaluation, other: Evaluation) -> None:
    """Refuse evaluations by different versions, of different questions or on different data."""
    if one.record.task_version != other.record.task_version:
        versions = f"{one.record.task_version} and {other.record.task_version}"
        raise RequestError(
            f"{a} and {b}: scored by versions {versions} of {one.record.task}; evaluate again"
        )
    ids = [{row.id for row in evaluation.rows} for evaluation in (one, other)]
    if ids[0] != ids[1]:
        only = "; ".join(
            f"{len(rest):,} only in {run}, such as {min(rest)!r}"
            for run, rest in ((a, ids[0] - ids[1]), (b, ids[1] - ids[0]))
            if rest
        )
        raise RequestError(
            f"{a} and {b}: scored on different questions: {only}; evaluate both on the same data"
        )
    hashes = [evaluation.record.data["manifest_hash"] for evaluation in (one, other)]
    if hashes[0] != hashes[1]:
        raise RequestError(
            f"{a} and {b}: evaluated on different data, manifest hashes {hashes[0]} and "
            f"{hashes[1]}; evaluate both on the same"
        )


def example_scores(evaluation: Evaluation, part: str | None) -> NDArray[np.float64]:
    """Return scores (examples,) by the task or one part of it, in the order of the questions."""
    if part is None:
        return np.array(list(evaluation.scores.per_example.values()))
    chosen = {row.id: row[part] for row in evaluation.rows}
    right = [(question["annot_id"], question[LABELS[part]]) for question in evaluation.questions]
    return np.array([float(chosen[i] == label) for i, label in right])


def group_masks(evaluation: Evaluation) -> dict[tuple[str, str], Mask]:
    """Map (kind, group) to a mask of the examples, in the record's order."""
    kinds = {kind: np.array(groups) for kind, groups in evaluation.scores.kinds.items()}
    return {
        (kind, group): kinds[kind] == group
        for kind, groups in evaluation.scores.breakdown.items()
        for group in groups
    }


def most_changed(
    one: Evaluation, other: Evaluation, before: NDArray[np.float64], after: NDArray[np.float64]
) -> list[Row]:
    """Return the examples whose score changed most, up or down; equal changes by id."""
    ids = list(one.scores.per_example)
    rows = [{row.id: row for row in evaluation.rows} for evaluation in (one, other)]
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
            **example_texts(one.record.task, one.questions[k], rows[0][ids[k]], rows[1][ids[k]]),
        }
        for k in order[:MOST_CHANGED]
    ]


def example_texts(task: str, question: Row, a: Prediction, b: Prediction) -> dict[str, str]:
    """Return the question, its truth and both predictions as people read them."""
    if CATALOGUE[task].form == "vqa":
        return {
            "question": question["question"],
            "truth": question["multiple_choice_answer"],
            "prediction_a": a["answer"],
            "prediction_b": b["answer"],
        }
    if CATALOGUE[task].form == "choice":
        words, choices_of = words_of(question)
        return {
            "question": words,
            "truth": choices_of[question["right_choice"]],
            "prediction_a": choices_of[a["chosen"]],
            "prediction_b": choices_of[b["chosen"]],
        }
    record = json.loads(question["record"])
    names = object_labels(record)
    text = spoken(record["question"], names)
    parts = CATALOGUE[task].parts
    if parts == ("qa2r",):
        text += f" — {spoken(record['answer_choices'][record['answer_label']], names)} Why?"

    def choices(chosen: Mapping[str, int]) -> str:
        return " / ".join(
            f"{chosen[part] + 1}: {spoken(record[TEXTS[part]][chosen[part]], names)}"
            for part in parts
        )

    return {
        "question": text,
        "truth": choices({part: record[LABELS[part]] for part in parts}),
        "prediction_a": choices(a.values),
        "prediction_b": choices(b.values),
    }


def comparison_lines(comparison: Comparison) -> list[str]:
    """Return the comparison as the command prints it."""
    first = comparison.records[0]
    lines = [
        f"{first.task} on {first.split} of {first.data_name}: {first.n:,} questions on "
        f"{comparison.images:,} images, percent",
        *run_lines(comparison),
        "",
        f"{'':28} {'n':>9} {'A':>7} {'B':>7} {'B − A':>8}   95 % interval     p",
        *(difference_line(name, difference) for name, difference in comparison.metrics.items()),
    ]
    for kind, groups in comparison.kinds.items():
        lines.append(f"by {kind}")
        lines += [difference_line(f"  {name}", difference) for name, difference in groups.items()]
    for name, test in comparison.mcnemar.items():
        lines.append(
            f"McNemar, exact, {name}: only A right {test.only_a:,}, only B right {test.only_b:,}, "
            f"p {test.p:.2g}"
        )
    lines += ["", METHOD[0].upper() + METHOD[1:] + "."]
    if comparison.kinds:
        lines.append("The p of a kind is not corrected for there being several.")
    count = len(comparison.changed)
    lines += ["", f"The {count} that changed most:" if count else "No example's score changed."]
    for row in comparison.changed:
        scores = f"{percent(row['score_a'])} → {percent(row['score_b'])}"
        lines.append(f"{row['id']}: {scores}   {row['question']}")
        lines.append(
            f"    truth: {row['truth']}   A: {row['prediction_a']}   B: {row['prediction_b']}"
        )
    return lines


def run_lines(comparison: Comparison) -> Iterator[str]:
    """Yield a line for each run: folder, recipe, seed, scores with intervals."""
    for letter, run, record in zip("AB", comparison.runs, comparison.records, strict=True):
        metrics = {name: record.metrics[name] for name in comparison.metrics}
        scores = ", ".join(
            f"{name} {percent(metric.value)}"
            + (f" ({percent_range(metric.interval)})" if metric.interval else "")
            for name, metric in metrics.items()
        )
        yield f"{letter}: {run}, {origin_of(record)}: {scores}"


def origin_of(record: Record) -> str:
    """Return the recipe and the seed of a run, or the checkpoint that was trained elsewhere."""
    if record.kind == "elsewhere":
        return f"checkpoint {record.title} {record.digests}, trained elsewhere"
    return f"recipe {record.recipe['name']} {record.recipe['hash']}, seed {record.seed}"


def difference_line(name: str, difference: Difference) -> str:
    """Return a line of the table: n, both scores, and their difference with interval and p."""
    between = (
        " to ".join(signed_points(0, end) for end in difference.interval)
        if difference.interval
        else "one image"
    )
    p = f"{difference.p:.2g}" if difference.p is not None else ""
    scores = f"{percent(difference.a):>7} {percent(difference.b):>7}"
    change = signed_points(difference.a, difference.b)
    return f"{name:28} {difference.n:9,} {scores} {change:>8}   {between:16}  {p}".rstrip()


def signed_points(a: float, b: float) -> str:
    """Return the difference of two fractions in percentage points, with two decimals and a sign."""
    return signed(100 * (Decimal(repr(b)) - Decimal(repr(a))), 2)
