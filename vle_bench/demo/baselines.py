"""Baselines that never see a picture: the accuracy that questions and choices alone allow."""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from vle_bench.data.vcr_text import object_names
from vle_bench.json_files import Row
from vle_bench.metrics.numbers import add

KINDS = {"q2a": "answer", "qa2r": "rationale"}


def majority_baseline(train_labels: Iterable[int], labels: Sequence[int]) -> float:
    """Return the accuracy of the most frequent training label; of equal ones the lowest."""
    counts = Counter(train_labels)
    choice = min(counts, key=lambda label: (-counts[label], label))
    return sum(label == choice for label in labels) / len(labels)


def text_baseline(train: Iterable[Row], records: Sequence[Row], task: str) -> float:
    """Return the accuracy of a naive Bayes model on the words of questions and choices.

    Its features are the words of the choice, each alone and with each word before the choice, the
    names of the tagged people, whether a tag was mentioned before, and how many choices share a
    word.

    Args:
        train, records: official records with labels.
        task: `q2a`, or `qa2r` with the right answer before the rationales.
    """
    label = f"{KINDS[task]}_label"
    wrong, right = Counter[str](), Counter[str]()
    for record in train:
        for i, features in enumerate(choice_features(record, task)):
            (right if i == record[label] else wrong).update(features)
    vocabulary = len(wrong | right)
    totals = sum(wrong.values()) + vocabulary, sum(right.values()) + vocabulary

    def log_odds(features: set[str]) -> float:
        # in a fixed order, since the sum of floats depends on it
        return add(
            math.log((right[f] + 1) / totals[1]) - math.log((wrong[f] + 1) / totals[0])
            for f in sorted(features)
        )

    hits = 0
    for record in records:
        scores = [log_odds(features) for features in choice_features(record, task)]
        hits += scores.index(max(scores)) == record[label]
    return hits / len(records)


def choice_features(record: Row, task: str) -> list[set[str]]:
    """Return the features of every choice."""
    names = object_names(record["objects"])
    before = list(record["question"])
    if task == "qa2r":
        before += record["answer_choices"][record["answer_label"]]
    choices = [set(words(choice, before, names)) for choice in record[f"{KINDS[task]}_choices"]]
    shared = Counter(word for choice in choices for word in choice)
    context = sorted(set(words(before, (), names)))
    return [
        {f"{word} in {shared[word]}" for word in choice}
        | choice
        | {f"{earlier} > {word}" for word in choice for earlier in context}
        for choice in choices
    ]


def words(
    tokens: Sequence[str | list[int]], before: Sequence[str | list[int]], names: Sequence[str]
) -> Iterator[str]:
    """Yield the words of a text; of a tag its name and whether it was mentioned before."""
    earlier = {tag for token in before if isinstance(token, list) for tag in token}
    for token in tokens:
        if isinstance(token, str):
            yield token
            continue
        for tag in token:
            yield names[tag]
            yield f"tag known: {tag in earlier}"
