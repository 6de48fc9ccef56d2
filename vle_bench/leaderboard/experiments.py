"""Records of one recipe with several seeds are one experiment: mean, deviation, and how far from the published score."""

import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from vle_bench.evaluation.record import Expect, Record
from vle_bench.metrics.rounding import percent, signed


@dataclass(frozen=True)
class Experiment:
    """One metric of one recipe on one split of one data, over its runs, ordered by seed."""

    records: tuple[Record, ...]
    metric: str

    @property
    def first(self) -> Record:
        return self.records[0]

    @property
    def values(self) -> list[Decimal]:
        """Fractions, with the decimal digits that the records hold."""
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
        # In Decimal's 28 digits: `statistics.stdev` rounds its root differently since Python 3.11.
        mean = self.exact_mean
        squares = [(value - mean) ** 2 for value in self.values]
        return float((sum(squares, Decimal()) / (len(squares) - 1)).sqrt())

    @property
    def interval(self) -> tuple[float, float] | None:
        """95 % over images; of several runs the mean of each end. It says nothing of how seeds differ: `deviation` does."""
        found = [
            i for record in self.records if (i := record.metrics[self.metric].interval) is not None
        ]
        if len(found) < len(self.records):
            return None
        low, high = zip(*found, strict=True)
        return statistics.fmean(low), statistics.fmean(high)

    @property
    def expect(self) -> Expect | None:
        """What the recipe should reproduce, where it is this metric on this split."""
        expect = self.first.expect
        if expect is None or (expect.metric, expect.split) != (self.metric, self.first.split):
            return None
        return expect

    @property
    def difference(self) -> Decimal | None:
        """Points, measured minus published."""
        return 100 * self.exact_mean - Decimal(repr(self.expect.value)) if self.expect else None

    @property
    def inside(self) -> bool | None:
        """Whether the difference is inside the tolerance, both as decimal figures."""
        if self.expect is None or self.difference is None:
            return None
        return abs(self.difference) <= Decimal(repr(self.expect.tolerance))

    @property
    def dirty(self) -> bool:
        return any(record.code.get("clean") is False for record in self.records)

    def show_score(self) -> str:
        """`77.41 ± 0.35`: percent, ± half of the interval."""
        half = f" ± {percent((self.interval[1] - self.interval[0]) / 2)}" if self.interval else ""
        return percent(self.mean) + half

    def show_seeds(self) -> str:
        """`seed 0`, or the number of runs and their standard deviation in points; `trained elsewhere` where no seed is known."""
        if self.first.kind == "elsewhere":
            return "trained elsewhere"
        if self.deviation is None:
            return f"seed {self.first.seed}"
        return f"{len(self.records)} seeds, sd {percent(self.deviation)}"

    def show_difference(self) -> str:
        """`−0.19, inside ±0.3`; empty where nothing was published to compare with."""
        if self.difference is None or self.expect is None:
            return ""
        tolerance = Decimal(repr(self.expect.tolerance)).normalize()
        return (
            f"{signed(self.difference, 2)}, {'inside' if self.inside else 'outside'} ±{tolerance:f}"
        )


def experiments(records: Iterable[Record]) -> list[tuple[Record, ...]]:
    """Records of one experiment together, ordered by seed; best first, those that are not ranked last whatever they score.

    Records without an experiment's digest (schema versions 1 and 2) stand alone. Runs that were trained
    or scored in different precisions are different experiments, and so is a run that does not say.
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
            record.primary_metric,
            record.contaminated,
            record.of_unknown_training,
            record.precision,
            record.training.get("precision"),
            str(record.model.get("resize")),
        )
        groups.setdefault(key, []).append(record)
    found = [
        tuple(sorted(group, key=lambda r: (r.seed or 0, r.recipe.get("hash", r.identity))))
        for group in groups.values()
    ]

    def rank(group: tuple[Record, ...]) -> tuple[bool, Decimal, str, str]:
        first = group[0]
        mean = Experiment(group, first.primary_metric).exact_mean
        return not first.ranked, -mean, first.title, first.recipe.get("hash", first.identity)

    return sorted(found, key=rank)
