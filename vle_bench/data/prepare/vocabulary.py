"""The label map of prepared VQA data: counted from the annotations, or read from a file."""

from collections import Counter

from vle_bench.data.prepare.targets import normal
from vle_bench.errors import RequestError


def vocabulary(answers: Counter[str], min_count: int, normalised: bool = True) -> list[str]:
    """Count majority answers, normalised or as given; the frequent ones by (count descending,
    answer)."""
    counts: Counter[str] = Counter()
    for answer, number in answers.items():
        counts[normal(answer) if normalised else answer] += number
    labels = [
        label
        for label, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if count >= min_count
    ]
    if not labels:
        raise RequestError(
            f"no answer occurs {min_count} times: there would be no class to predict"
        )
    return labels


def never_given(labels: list[str]) -> list[str]:
    """Return the answers of a label map that no normalised answer equals, such as "Two"."""
    return [label for label in labels if normal(label) != label]
