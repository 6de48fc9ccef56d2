"""Predictions and scores of tasks, in memory and in files. Imports no torch."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vle_bench import atomic
from vle_bench.errors import RequestError, RunFailed
from vle_bench.json_files import Row, jsonl_records
from vle_bench.metrics.numbers import Figure

Id = int | str  # question_id of VQA, annot_id of VCR


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one example.

    Args:
        id: the id of the question.
        values: the values that the task predicts, by name, in the order of the predictions file.
    """

    id: Id
    values: Row

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @classmethod
    def from_row(cls, row: Row) -> "Prediction":
        """Read the JSON object of a predictions file, `{"id": ..., ...}`."""
        return cls(row["id"], {name: value for name, value in row.items() if name != "id"})

    def as_row(self) -> Row:
        """Return the JSON object of a predictions file."""
        return {"id": self.id, **self.values}

    def with_values_of(self, other: "Prediction") -> "Prediction":
        """Join two predictions of one example, such as the answer and the rationale of VCR."""
        if other.id != self.id:
            raise ValueError(f"predictions of two examples, {self.id!r} and {other.id!r}")
        return Prediction(self.id, {**self.values, **other.values})


@dataclass(frozen=True)
class Scores:
    """The scores that a task computes from the predictions of a whole split.

    Args:
        n: number of examples.
        metrics: name -> {"value", "interval", "n"}, fractions in 0..1.
        breakdown: kind -> group -> the primary metric of the examples in it.
        per_example: id -> score, in the order of the questions; their mean is the primary metric.
        kinds: kind -> the group of each example, in the order of the questions.
        per_answer_type, per_question_type: VQA's official accuracies by type.
        losses: name -> mean loss, for the log of a training; losses are in no record.
    """

    n: int
    metrics: Mapping[str, Figure]
    breakdown: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    per_example: Mapping[Id, float] = field(default_factory=dict)
    kinds: Mapping[str, Sequence[str]] = field(default_factory=dict)
    per_answer_type: Mapping[str, float] = field(default_factory=dict)
    per_question_type: Mapping[str, float] = field(default_factory=dict)
    losses: Mapping[str, float] = field(default_factory=dict)


def by_id(predictions: Sequence[Prediction], ids: Sequence[Id]) -> dict[Id, Prediction]:
    """Index predictions by id.

    Raises:
        RunFailed: the predictions are not one for each of `ids`.
    """
    indexed = {prediction.id: prediction for prediction in predictions}
    if len(predictions) != len(indexed) or indexed.keys() != set(ids):
        raise RunFailed(
            f"{len(predictions)} predictions are not one for each of the {len(ids)} questions"
        )
    return indexed


def write_predictions(path: Path, predictions: Iterable[Prediction]) -> None:
    """Write predictions as JSON lines, `{"id": ..., ...}` each."""
    lines = (json.dumps(one.as_row(), ensure_ascii=False) + "\n" for one in predictions)
    atomic.write_text(path, "".join(lines))


def read_predictions(path: Path) -> list[Prediction]:
    """Read a file of `write_predictions`; whether a task understands the values is `Task.wrong`.

    Raises:
        RequestError: no such file, a line that is no prediction, or an id twice.
    """
    predictions: dict[Id, Prediction] = {}
    for _, row in jsonl_records(path):
        i: Any = row.get("id")
        if type(i) not in (int, str) or i in predictions:
            problem = "a second time" if type(i) in (int, str) else "an id is expected"
            number = len(predictions) + 1
            raise RequestError(f"{path}: prediction {number} (id {i!r}): {problem}; evaluate again")
        predictions[i] = Prediction.from_row(row)
    return list(predictions.values())


def is_probability(value: object) -> bool:
    """Tell whether a value that was read from a file is a number in 0..1 and not NaN."""
    return isinstance(value, int | float) and type(value) is not bool and 0 <= value <= 1
