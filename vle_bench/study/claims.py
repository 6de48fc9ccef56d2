"""Compare models of the study on the same examples, for what VLE's authors claim."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vle_bench.analysis.compare import example_scores
from vle_bench.analysis.read import Evaluation, read_evaluation
from vle_bench.leaderboard.study import StudyDifference, row_name
from vle_bench.metrics.paired import differences
from vle_bench.progress import Bar
from vle_bench.study.models import StudyModel
from vle_bench.study.rows import Row

ALL = ("mlm", "itm", "pbc", "mpc")
METERS = ("mlm", "itm")  # METER's objectives
VCR_SCORES = {"q2a": "Q2A", "qa2r": "QA2R"}
SCORES = {"easy_vqa": "easy-VQA", **VCR_SCORES}


@dataclass(frozen=True)
class Claim:
    """A claim, the two rows that differ in nothing else, and the scores that it is about."""

    text: str
    a: Row
    b: Row
    trainings: tuple[str, ...]


CLAIMS = (
    Claim("Pre-training pays", Row("vle", ()), Row("vle", ALL), tuple(SCORES)),
    Claim("A better text encoder", Row("meter", METERS), Row("vle", METERS), ("easy_vqa",)),
    Claim(
        "PBC and MPC make pre-training more efficient",
        Row("vle", METERS),
        Row("vle", ALL),
        tuple(SCORES),
    ),
    Claim(
        "Reasoning through token types", Row("meter", METERS), Row("vle", METERS), tuple(VCR_SCORES)
    ),
    Claim(
        "Reasoning through PBC",
        Row("vle", METERS),
        Row("vle", (*METERS, "pbc")),
        tuple(VCR_SCORES),
    ),
    Claim(
        "Reasoning through MPC",
        Row("vle", METERS),
        Row("vle", (*METERS, "mpc")),
        tuple(VCR_SCORES),
    ),
)
Scored = tuple[NDArray[np.float64], NDArray[np.generic]]  # of each example: its score, its picture


def compare_claims(models: Sequence[StudyModel]) -> list[StudyDifference]:
    """Measure every claim of which both rows have been trained, with all seeds that both have."""
    by_row: dict[Row, dict[int, StudyModel]] = {}
    for model in models:
        by_row.setdefault(model.row, {})[model.seed] = model
    known: dict[tuple[Row, int, str], Scored] = {}
    results = []
    for claim in CLAIMS:
        a, b = by_row.get(claim.a, {}), by_row.get(claim.b, {})
        seeds = sorted(a.keys() & b.keys())
        for training in claim.trainings if seeds else ():
            scored = []
            for own in (a, b):
                for seed in seeds:
                    key = own[seed].row, seed, training
                    if key not in known:
                        known[key] = read_scores(own[seed], training)
                scored.append([known[own[seed].row, seed, training] for seed in seeds])
            results.append(difference(claim, SCORES[training], scored[0], scored[1]))
    return results


def read_scores(model: StudyModel, training: str) -> Scored:
    """Read the score of every example of what a training reports, in the order of their ids."""
    with Bar(f"score {model.name}, {training} again", 2) as bar:
        evaluation: Evaluation = read_evaluation(
            model.trainings[training].folder, None, None, None, bar
        )
    images = np.array([question["image_id"] for question in evaluation.questions])
    return example_scores(evaluation, None), images


def difference(
    claim: Claim, metric: str, a: Sequence[Scored], b: Sequence[Scored]
) -> StudyDifference:
    """Average each example's score over the seeds, and compare both averages.

    Args:
        a, b: of each seed, all about the same examples.
    """
    images = a[0][1]
    for _, others in (*a, *b):
        if not np.array_equal(others, images):
            raise ValueError(f"{claim.text}, {metric}: the seeds were scored on other examples")
    mean_a, mean_b = (np.mean([scores for scores, _ in one], axis=0) for one in (a, b))
    every = np.ones(len(images), bool)
    result = differences(mean_a, mean_b, images, [every])[0]
    by_seed = [
        float(scores_b.mean() - scores_a.mean())
        for (scores_a, _), (scores_b, _) in zip(a, b, strict=True)
    ]
    return StudyDifference(
        claim=claim.text,
        metric=metric,
        a=row_name(claim.a.family, claim.a.objectives),
        b=row_name(claim.b.family, claim.b.objectives),
        n=result.n,
        difference=result.value,
        by_seed=by_seed,
        interval=result.interval,
        p=result.p,
    )


def as_values(comparisons: Sequence[StudyDifference]) -> list[Mapping[str, object]]:
    return [one.model_dump(mode="json") for one in comparisons]
