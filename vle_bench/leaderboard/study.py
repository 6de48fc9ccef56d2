"""What the study found: its records, and the tables and sentences that are made of them.

Imports no torch. `vle_bench.study` writes the records.
"""

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from markupsafe import Markup
from pydantic import Field, ValidationError

from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Group, Metric, Whole, first_problems
from vle_bench.json_files import JsonObject, read_json
from vle_bench.leaderboard.markup import NOTHING, Cell, Column, Footnote, Page, Row, Table
from vle_bench.metrics.numbers import percent
from vle_bench.metrics.probes import first_above
from vle_bench.pages.charts import line_chart

FOLDER = "study"  # of the leaderboards folder
COMPARISONS = "comparisons.json"
FAMILIES = {"vle": "VLE-tiny", "meter": "METER-tiny"}
TARGET = 0.9  # of the steps that are counted
SIGNIFICANT = 0.05
Objective = Literal["mlm", "itm", "pbc", "mpc"]


class StudyRecord(Group):
    """One model of the study: how it was pre-trained, its probes and what it learnt from there.

    Args:
        objectives: of its pre-training; none: from scratch.
        probes: only of objectives that it was pre-trained with; see docs/study.md.
        transfer: scores of the fine-tuned models.
        curves: task → (step, score) of every evaluation of its fine-tuning.
        steps: of each training.
        passes: of the vision encoder in pre-training, in batches.
        recipes: training → hash of its recipe.
        seconds: of all trainings, without their evaluations.
        data: training → manifest hash of its data.
    """

    schema_version: Literal[1] = 1
    family: Literal["vle", "meter"]
    objectives: list[Objective]
    seed: Whole
    probes: dict[str, Metric]
    transfer: dict[str, Metric]
    curves: dict[str, list[tuple[Whole, float]]]
    steps: dict[str, Whole]
    passes: Whole
    recipes: dict[str, str]
    data: dict[str, str]
    parameters: Whole
    seconds: float = Field(ge=0)
    device: str
    code: JsonObject
    libraries: dict[str, str]

    @property
    def row(self) -> tuple[str, tuple[str, ...]]:
        return self.family, tuple(self.objectives)

    @property
    def steps_to_target(self) -> int | None:
        return first_above(self.curves.get("q2a", []), TARGET)


class StudyDifference(Group):
    """B minus A on the same examples, each example's score averaged over the seeds.

    Args:
        claim: what VLE's authors say, of which this is a measurement.
        a, b: names of rows.
        by_seed: the difference of each seed.
        interval, p: of the paired bootstrap over pictures, as `vle-bench compare` has it.
    """

    claim: str
    metric: str
    a: str
    b: str
    n: Whole
    difference: float
    by_seed: list[float]
    interval: tuple[float, float] | None
    p: float | None

    @property
    def verdict(self) -> str:
        """`holds`, `fails`, or `open`: a difference counts if every seed has it and p is small."""
        decided = self.p is not None and self.p < SIGNIFICANT
        if decided and all(value > 0 for value in self.by_seed):
            return "holds"
        if decided and all(value < 0 for value in self.by_seed):
            return "fails"
        return "open"


@dataclass(frozen=True)
class Study:
    """All records of a study, and what they are compared by."""

    records: tuple[StudyRecord, ...]
    comparisons: tuple[StudyDifference, ...]


def row_name(family: str, objectives: Sequence[str]) -> str:
    """Name a row: `VLE-tiny, MLM + ITM`."""
    trained = " + ".join(name.upper() for name in objectives)
    return f"{FAMILIES[family]}, {trained or 'from scratch'}"


def load_study(root: Path) -> Study | None:
    """Read the study's records of a leaderboards folder; None if there are none.

    Raises:
        RequestError: a file is damaged, or a model is there twice; names the file.
    """
    records: dict[tuple[object, ...], StudyRecord] = {}
    comparisons: list[StudyDifference] = []
    for path in sorted((root / FOLDER).glob("*.json")):
        content = read_json(path)
        try:
            if path.name == COMPARISONS:
                comparisons = [StudyDifference.model_validate(row) for row in content]
                continue
            record = StudyRecord.model_validate(content)
        except ValidationError as error:
            raise RequestError(f"{path}: {first_problems(error)}") from error
        if (key := (*record.row, record.seed)) in records:
            raise RequestError(f"{path}: this model and seed have another record already")
        records[key] = record
    check_one_study(root / FOLDER, list(records.values()))
    return Study(tuple(records.values()), tuple(comparisons)) if records else None


def check_one_study(folder: Path, records: Sequence[StudyRecord]) -> None:
    """Refuse records of different data, passes or fine-tunings: they are not comparable."""
    pretrained = [record for record in records if record.objectives]
    kinds: dict[str, set[str]] = {
        "passes": {f"{record.passes:,}" for record in pretrained},
        "data": {", ".join(sorted(record.data.values())) for record in pretrained},
        "steps of fine-tuning": {
            ", ".join(f"{name} {record.steps.get(name)}" for name in sorted(record.curves))
            for record in records
        },
    }
    for name, values in kinds.items():
        if len(values) > 1:
            raise RequestError(
                f"{folder}: records of more than one study, {name} differ: "
                f"{'; '.join(sorted(values))}; remove the folder and run `vle-bench study` again"
            )


@dataclass(frozen=True)
class Measure:
    """A column of the table: its title and how a record tells its value; None: it has none."""

    title: str
    value: Callable[[StudyRecord], float | None]


def probe(name: str) -> Callable[[StudyRecord], float | None]:
    return lambda record: record.probes[name].value if name in record.probes else None


def gain(name: str, control: str) -> Callable[[StudyRecord], float | None]:
    """Tell by how much a probe is above its control."""

    def value(record: StudyRecord) -> float | None:
        both = [record.probes.get(key) for key in (name, control)]
        return None if None in both else both[0].value - both[1].value  # type: ignore[union-attr]

    return value


def transfer(name: str) -> Callable[[StudyRecord], float | None]:
    return lambda record: record.transfer[name].value if name in record.transfer else None


MEASURES = (
    Measure("match on strangers", probe("match_stranger")),
    Measure("match on hard negatives", probe("match")),
    Measure("masked noun: picture − grey", gain("noun", "noun_grey")),
    Measure("pointing", probe("pointing")),
    Measure("pointing by chance", probe("pointing_chance")),
    Measure("IoU", probe("iou")),
    Measure("blacked object: caption − none", gain("object", "object_no_caption")),
    Measure("easy-VQA", transfer("easy_vqa")),
    Measure("Q2A", transfer("q2a")),
    Measure("QA2R", transfer("qa2r")),
    Measure("Q2AR", transfer("q2ar")),
)


def study_page(study: Study) -> Page:
    """The table of the models, the table of the comparisons, and what follows from them."""
    return Page("study", "The study: what pre-training is worth", tables_of(study))


def tables_of(study: Study) -> tuple[Table, ...]:
    tables = [models_table(study.records)]
    if study.comparisons:
        tables.append(claims_table(study.comparisons))
    return tuple(tables)


def grouped(records: Iterable[StudyRecord]) -> dict[tuple[str, tuple[str, ...]], list[StudyRecord]]:
    """Group records by row: families in order, then few objectives before many."""
    groups: dict[tuple[str, tuple[str, ...]], list[StudyRecord]] = {}
    for record in records:
        groups.setdefault(record.row, []).append(record)
    families = list(FAMILIES)
    order = sorted(groups, key=lambda row: (families.index(row[0]), len(row[1]), row[1][::-1]))
    return {row: sorted(groups[row], key=lambda record: record.seed) for row in order}


def models_table(records: Sequence[StudyRecord]) -> Table:
    """A row for each kind of model: mean and standard deviation over its seeds, in percent."""
    rows = []
    for (family, objectives), own in grouped(records).items():
        cells = [spread([measure.value(record) for record in own]) for measure in MEASURES]
        seeds = Cell(str(len(own)), len(own))
        name = Cell(row_name(family, objectives))
        rows.append(Row("measured", (name, *cells, steps_cell(own), seeds)))
    first = records[0]
    titles = [measure.title for measure in MEASURES]
    columns = (
        Column("Model"),
        *(Column(title, numeric=True) for title in titles),
        Column("steps to 90 % Q2A", numeric=True),
        Column("seeds", numeric=True),
    )
    notes = (
        Footnote("", "Mean ± standard deviation over the seeds. A dash: not trained for it."),
        Footnote(
            "",
            "Steps to 90 %: mean over the seeds that reached it, and how many did if not all; "
            f"evaluated every {spacing(first)} steps.",
        ),
        Footnote(
            "",
            f"{first.passes:,} batches through the vision encoder in every pre-training; "
            f"{' and '.join(sorted({f'{r.parameters:,}' for r in records}))} parameters; "
            f"{first.device}.",
        ),
    )
    lead = "Percent; chance is 25, 25 and 6.25 for Q2A, QA2R and Q2AR, 50 for both matches."
    return Table("study", "Models", lead, columns, tuple(rows), notes)


def spacing(record: StudyRecord) -> int:
    """Return the steps between two evaluations of Q2A's fine-tuning."""
    curve = record.curves.get("q2a", [])
    return curve[0][0] if curve else 0


def spread(values: Sequence[float | None]) -> Cell:
    """Print percent as mean ± sample standard deviation; a dash if a seed has no value."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return Cell()
    mean = statistics.fmean(known)
    deviation = f" ± {percent(statistics.stdev(known), 1)}" if len(known) > 1 else ""
    return Cell(percent(mean, 1).replace("-", "−") + deviation, mean)


def steps_cell(records: Sequence[StudyRecord]) -> Cell:
    """Print the mean of the steps to the target, and how many seeds reached it if not all did."""
    if not all("q2a" in record.curves for record in records):
        return Cell()
    steps = [record.steps_to_target for record in records]
    reached = [step for step in steps if step is not None]
    if not reached:
        last = max(record.curves["q2a"][-1][0] for record in records)
        return Cell(f"> {last:,}")
    mean = statistics.fmean(reached)
    some = "" if len(reached) == len(steps) else f" ({len(reached)} of {len(steps)})"
    return Cell(f"{mean:,.0f}{some}", mean)


VERDICTS = {"holds": "yes", "fails": "no, the reverse", "open": "not shown"}


def claims_table(comparisons: Sequence[StudyDifference]) -> Table:
    """A row for each comparison, with what it says about the claim."""
    rows = [
        Row(
            "measured",
            (
                Cell(one.claim),
                Cell(f"{one.b} − {one.a}"),
                Cell(one.metric),
                Cell(points(one.difference), one.difference),
                Cell(interval_of(one)),
                Cell(f"{one.p:.2g}" if one.p is not None else NOTHING, one.p),
                Cell(", ".join(points(value) for value in one.by_seed)),
                Cell(VERDICTS[one.verdict]),
            ),
        )
        for one in comparisons
    ]
    columns = (
        Column("Claim"),
        Column("Models"),
        Column("Score"),
        Column("difference, points", numeric=True),
        Column("95 % interval"),
        Column("p", numeric=True),
        Column("by seed"),
        Column("holds here"),
    )
    lead = (
        "Each example's score is the mean over the seeds; interval and p are of a paired bootstrap "
        "over pictures, as `vle-bench compare` makes it, which does not know how seeds differ. A "
        f"claim holds if p is below {SIGNIFICANT} and every seed has the difference. "
        + summary(comparisons)
    )
    return Table("study_claims", "Which claims hold here", lead, columns, tuple(rows))


def points(difference: float) -> str:
    """Print a difference of fractions in points, with its sign."""
    sign = "−" if difference < 0 else "+"
    return f"{sign}{percent(abs(difference), 1)}"


def interval_of(one: StudyDifference) -> str:
    return NOTHING if one.interval is None else " to ".join(points(end) for end in one.interval)


def summary(comparisons: Sequence[StudyDifference]) -> str:
    """Say in a sentence a claim how many of its comparisons hold."""
    sentences = []
    for claim in dict.fromkeys(one.claim for one in comparisons):
        own = [one for one in comparisons if one.claim == claim]
        by_verdict = {
            verdict: [
                f"{one.metric} {points(one.difference)}" for one in own if one.verdict == verdict
            ]
            for verdict in VERDICTS
        }
        parts = [
            f"{words}: {', '.join(by_verdict[verdict])}"
            for verdict, words in (
                ("holds", "it holds"),
                ("fails", "the reverse holds"),
                ("open", "not shown"),
            )
            if by_verdict[verdict]
        ]
        sentences.append(f"{claim}: {'; '.join(parts)}.")
    return " ".join(sentences)


# The models whose learning of Q2A is drawn, as many as there are kinds of curve
DRAWN: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("vle", ()),
    ("vle", ("mlm", "itm")),
    ("vle", ("mlm", "itm", "pbc")),
    ("vle", ("mlm", "itm", "mpc")),
    ("vle", ("mlm", "itm", "pbc", "mpc")),
    ("meter", ("mlm", "itm")),
)


def study_figure(study: Study) -> dict[str, Markup]:
    """Draw how models learn Q2A from each start: the mean over seeds; nothing without curves."""
    groups = grouped(study.records)
    series = {
        row_name(*row): mean_curve([record.curves["q2a"] for record in groups[row]])
        for row in DRAWN
        if row in groups and all("q2a" in record.curves for record in groups[row])
    }
    if not series:
        return {}
    title = "shapes-VCR Q2A while fine-tuning, %"
    return {"study": line_chart("study", title, series, "steps", (0, 100))}


def mean_curve(curves: Sequence[Sequence[tuple[int, float]]]) -> list[tuple[float, float]]:
    """Average curves, in percent, at the steps that all of them have."""
    values = [dict(curve) for curve in curves]
    steps = sorted(set(values[0]).intersection(*values[1:]))
    return [(step, 100 * statistics.fmean(one[step] for one in values)) for step in steps]
