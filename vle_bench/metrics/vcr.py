"""VCR: accuracy of question to answer, of answer to rationale, and of both together."""

from collections.abc import Mapping
from typing import TypedDict

from vle_bench.errors import RequestError, plural

Labels = Mapping[str, tuple[int, int]]  # annot_id → right answer, right rationale


class VCRAccuracy(TypedDict):
    """Fractions in 0..1, and the hits of each record: annot_id → {"q2a", "qa2r", "q2ar"}."""

    q2a: float
    qa2r: float
    q2ar: float
    n: int
    per_record: dict[str, dict[str, bool]]


def vcr_accuracy(
    answers: Mapping[str, int], rationales: Mapping[str, int], labels: Labels
) -> VCRAccuracy:
    """Score a split.

    A record counts for Q2AR if both its answer and its rationale are right.

    Args:
        answers: annot_id → the answer chosen.
        rationales: annot_id → the rationale chosen after the **right** answer.
        labels: annot_id → (right answer, right rationale).

    Raises:
        RequestError: the three do not have the same annot_ids.
    """
    for name, given in (("answers", answers), ("rationales", rationales)):
        check_ids(name, given, labels)
    per_record = {}
    for annot_id, (answer, rationale) in labels.items():
        hits = {"q2a": answers[annot_id] == answer, "qa2r": rationales[annot_id] == rationale}
        per_record[annot_id] = {**hits, "q2ar": all(hits.values())}

    def accuracy(name: str) -> float:
        return sum(hits[name] for hits in per_record.values()) / len(per_record)

    return {
        "q2a": accuracy("q2a"),
        "qa2r": accuracy("qa2r"),
        "q2ar": accuracy("q2ar"),
        "n": len(per_record),
        "per_record": per_record,
    }


def check_ids(name: str, given: Mapping[str, object], labels: Labels) -> None:
    """Refuse ids that are missing or unknown."""
    if not labels:
        raise RequestError("there are no annotations to score against")
    problems = [
        f"{plural(len(ids), 'annot_id')} {what} ({', '.join(map(repr, ids[:3]))}"
        f"{', ...' if len(ids) > 3 else ''})"
        for ids, what in (
            (sorted(labels.keys() - given.keys()), "missing"),
            (sorted(given.keys() - labels.keys()), "unknown"),
        )
        if ids
    ]
    if problems:
        raise RequestError(f"{name}: {'; '.join(problems)}")
