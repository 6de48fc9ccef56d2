"""What VCR's questions give away without a look at the pictures: controls, near 25 % where nothing is given away."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from vle_bench.data.vcr_text import object_names

KINDS = {"q2a": "answer", "qa2r": "rationale"}


def majority_baseline(train_labels: Iterable[int], labels: Sequence[int]) -> float:
    """Accuracy of always choosing what is most often right in training (a tie: the lowest)."""
    counts = Counter(train_labels)
    choice = min(counts, key=lambda label: (-counts[label], label))
    return sum(label == choice for label in labels) / len(labels)


def text_baseline(
    train: Iterable[Mapping[str, Any]], records: Sequence[Mapping[str, Any]], task: str
) -> float:
    """Accuracy of the choice whose words speak most for it, as a naive Bayes model weighs them.

    It sees the words of the choice, each alone and with each word of what stands before it, the names of the tagged people,
    whether a tag was there before, and whether the other choices have the word as well.

    Args:
        train, records: official records with labels.
        task: `q2a`, or `qa2r` with the right answer before the rationales.
    """
    counts: tuple[Counter[str], Counter[str]] = (
        Counter(),
        Counter(),
    )  # of wrong and of right choices
    for record in train:
        for i, features in enumerate(_features(record, task)):
            counts[i == record[f"{KINDS[task]}_label"]].update(features)
    totals = [sum(count.values()) + len(counts[0] | counts[1]) for count in counts]

    def score(features: set[str]) -> float:
        log_odds = (
            math.log((counts[1][f] + 1) / totals[1]) - math.log((counts[0][f] + 1) / totals[0])
            for f in sorted(features)
        )
        return sum(log_odds)

    hits = 0
    for record in records:
        scores = [score(features) for features in _features(record, task)]
        hits += scores.index(max(scores)) == record[f"{KINDS[task]}_label"]
    return hits / len(records)


def _features(record: Mapping[str, Any], task: str) -> list[set[str]]:
    """The features of every choice."""
    names = object_names(record["objects"])
    before = list(record["question"])
    if task == "qa2r":
        before += record["answer_choices"][record["answer_label"]]
    choices = [set(_words(choice, before, names)) for choice in record[f"{KINDS[task]}_choices"]]
    shared = Counter(word for choice in choices for word in choice)
    context = sorted(set(_words(before, (), names)))
    return [
        {f"{word} in {shared[word]}" for word in choice}
        | choice
        | {f"{earlier} > {word}" for word in choice for earlier in context}
        for choice in choices
    ]


def _words(tokens: Sequence[Any], before: Sequence[Any], names: Sequence[str]) -> Iterator[str]:
    """Words, and of a tag its name and whether it was there before."""
    earlier = {tag for token in before if isinstance(token, list) for tag in token}
    for token in tokens:
        if isinstance(token, str):
            yield token
            continue
        for tag in token:
            yield names[tag]
            yield f"tag known: {tag in earlier}"


def question_only_baselines(train: Any, test: Any) -> dict[str, float]:
    """Accuracy on `test` without a look at the pictures: the most frequent answer, and the best answer for each question text.

    Args:
        train, test: questions tables; the rules are learnt on the whole official training set (train and val together).
    """
    frequent = Counter(train["multiple_choice_answer"]).most_common(1)[0][0]
    by_text: dict[str, Counter[str]] = defaultdict(Counter)
    for text, answer in zip(train["question"], train["multiple_choice_answer"], strict=True):
        by_text[text][answer] += 1
    rule = {text: counts.most_common(1)[0][0] for text, counts in by_text.items()}
    rows = list(
        zip(test["question"], test["multiple_choice_answer"], test["answer_type"], strict=True)
    )
    open_rows = [row for row in rows if row[2] != "yes/no"]
    return {
        "most_frequent": sum(answer == frequent for _, answer, _ in rows) / len(rows),
        "question_only": sum(rule.get(text) == answer for text, answer, _ in rows) / len(rows),
        "question_only_not_yes_no": sum(rule.get(text) == answer for text, answer, _ in open_rows)
        / len(open_rows),
    }
