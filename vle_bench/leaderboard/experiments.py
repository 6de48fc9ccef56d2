"""Experiments: the records of one recipe over seeds, with mean, deviation and difference."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from vle_bench.evaluation.record import Expect, Record
from vle_bench.metrics.numbers import percent, plus_minus, signed


@dataclass(frozen=True)
class Experiment:
    """One metric of one recipe on one split of one data set, over its runs ordered by seed."""

    records: tuple[Record, ...]
    metric: str

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def values(self) -> list[Decimal]:
        """Fractions with exactly the decimal digits of the records."""
        return [Decimal(repr(record.metrics[self.metric].value)) for record in self.records]

    @property
    def exact_mean(self) -> Decimal:
        return sum(self.values, Decimal()) / len(self.values)

    @property
    def mean(self) -> float:
        return float(self.exact_mean)

    @property
    def deviation(self) -> float | None:
        """The sample standard deviation over runs; None for one run."""
        if len(self.records) < 2:
            return None
        # in Decimal's 28 digits: `statistics.stdev` rounds its root differently since Python 3.11
        mean = self.exact_mean
        squares = [(value - mean) ** 2 for value in self.values]
        return float((sum(squares, Decimal()) / (len(squares) - 1)).sqrt())

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % over images; for several runs the mean of each end.

        It does not tell how seeds differ; `deviation` does.
        """
        metrics = [record.metrics[self.metric] for record in self.records]
        intervals = [metric.interval for metric in metrics if metric.interval is not None]
        if len(intervals) < len(metrics):
            return None
        low, high = zip(*intervals, strict=True)
        return statistics.fmean(low), statistics.fmean(high)

    @property
    def expect(self) -> Expect | None:
        """The published score of the recipe, if it is of this metric on this split."""
        expect = self.first.expect
        if expect is None or (expect.metric, expect.split) != (self.metric, self.first.split):
            return None
        return expect

    @property
    def difference(self) -> Decimal | None:
        """Percentage points, measured minus published."""
        return 100 * self.exact_mean - Decimal(repr(self.expect.value)) if self.expect else None

    @property
    def inside(self) -> bool | None:
        """Tell whether the difference is inside the tolerance, both as decimals."""
        if self.expect is None or self.difference is None:
            return None
        return abs(self.difference) <= Decimal(repr(self.expect.tolerance))

    @property
    def dirty(self) -> bool:
        """Tell whether a run's code had changes that are in no commit."""
        return any(record.code.get("clean") is False for record in self.records)

    def show_score(self) -> str:
        """Write a score: `77.41 ± 0.35`, percent ± half of the interval."""
        return plus_minus(self.mean, self.interval)

    def show_seeds(self) -> str:
        """Write `seed 0`, or the number of runs with their deviation in points, or the origin."""
        if self.first.kind != "run":
            return {"elsewhere": "trained elsewhere", "external": "external"}[self.first.kind]
        if self.deviation is None:
            return f"seed {self.first.seed}"
        return f"{len(self.records)} seeds, sd {percent(self.deviation)}"

    def show_difference(self) -> str:
        """Write `−0.19, inside ±0.3`; empty if there is no published score to compare with."""
        if self.difference is None or self.expect is None:
            return ""
        tolerance = Decimal(repr(self.expect.tolerance)).normalize()
        side = "inside" if self.inside else "outside"
        return f"{signed(self.difference, 2)}, {side} ±{tolerance:f}"


def trained_elsewise(record: Record) -> tuple[str, str]:
    """Return name and, of a user's own, hash of training data that are not the scored ones."""
    if not record.transferred:
        return "", ""
    own = record.training_data if "name" in record.training_data else {}
    return record.trained_on, own.get("manifest_hash", "")


def experiments(records: Iterable[Record]) -> list[tuple[Record, ...]]:
    """Group records by experiment, each ordered by seed; best first, unranked ones last.

    Those of predictions from elsewhere come after all others.

    A record without an experiment's digest (schema versions 1 and 2) is a group of its own. Runs
    that were trained or scored in different precisions are different experiments, and so is a run
    whose record does not tell its precision.
    """
    groups: dict[tuple[object, ...], list[Record]] = {}
    for record in records:
        key = (
            record.kind,
            record.identity,
            record.task,
            record.task_version,
            record.split,
            record.data["source"],
            record.data["manifest_hash"],
            *trained_elsewise(record),
            record.primary_metric,
            record.contaminated,
            record.of_unknown_training,
            record.precision,
            record.training.get("precision"),
            str(record.model.get("resize")),
        )
        groups.setdefault(key, []).append(record)
    by_seed = [
        tuple(sorted(group, key=lambda r: (r.seed or 0, r.recipe.get("hash", r.identity))))
        for group in groups.values()
    ]

    def rank(group: tuple[Record, ...]) -> tuple[bool, bool, Decimal, str, str]:
        first = group[0]
        mean = Experiment(group, first.primary_metric).exact_mean
        digest = first.recipe.get("hash", first.identity)
        return first.kind == "external", not first.ranked, -mean, first.title, digest

    return sorted(by_seed, key=rank)
