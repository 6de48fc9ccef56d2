"""Cells and notes of all tables, and the comparison of published and measured scores.

Everything comes from the result records and published.yaml.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from vle_bench.evaluation.record import Record, flattered, precision_of
from vle_bench.leaderboard.experiments import Experiment
from vle_bench.leaderboard.markup import NOTHING, Cell, Column, Footnote, Row, Table
from vle_bench.leaderboard.published import Model, Published
from vle_bench.leaderboard.published_rows import (
    ABBREVIATIONS,
    LIVE,
    STATUS,
    about,
    footnotes,
    published_cell,
    remarks,
    show_parameters,
    sources,
)


@dataclass(frozen=True)
class Compared:
    """A column of VLE's own comparison.

    Args:
        data: the data that it is about; the same task on other data is not comparable.
        figure: title of the figures that show it.
    """

    title: str
    task: str
    split: str
    data: str
    figure: str


COMPARED = (
    Compared("VQA", "vqa", "test-dev", "vqav2", "VQA v2, test-dev"),
    Compared("VCR QA2R", "vcr_qa2r", "val", "vcr", "VCR, question and answer to rationale"),
    Compared("VCR Q2A", "vcr_q2a", "val", "vcr", "VCR, question to answer"),
)

COMPARISON = "vle-readme"  # the source that the comparison is from

MEASURED = Footnote(
    "",
    "Measured: ± is half of the 95 % bootstrap interval over images, for several seeds of their "
    "mean ends; sd is the standard deviation over seeds; then points to the published score, and "
    "whether that is inside the recipe's tolerance.",
)

CONTAMINATED = Footnote(
    "‼",
    "contaminated: the split was trained on; such a score says nothing about other data and is "
    "never ranked.",
)

DIRTY = Footnote("◊", "the code had changes that are in no commit.")

FLATTERED = Footnote(
    "△",
    "the split that is reported also picked the checkpoint among those of its training; the score "
    "flatters it.",
)

ELSEWHERE = Footnote(
    "◦",
    "trained elsewhere, scored here: a checkpoint of others, with its folder's name, its weights' "
    "digest and, after the stroke, that of the files beside them (checkpoint_sha256 and "
    "files_sha256 of the record).",
)

EXTERNAL = Footnote(
    "⊕",
    "predictions from elsewhere, scored here: of another program's model nothing is known but what "
    "is told; the digest is that of the file (predictions_sha256 of the record).",
)

UNKNOWN = Footnote(
    "¿", "what it was trained on is not known, and may be the split itself: not ranked."
)

TRANSFERRED = Footnote(
    "⇄",
    "trained on another dataset, named beside it: never ranked among the models of this one.",
)

# Marks of measured rows, in the order in which they are written
MARKS = (CONTAMINATED, FLATTERED, DIRTY, ELSEWHERE, EXTERNAL, UNKNOWN, TRANSFERRED)

# Metric of VQA v2 -> answer type
TYPES = {"accuracy_yes_no": "yes/no", "accuracy_number": "number", "accuracy_other": "other"}
VCR_PARTS = {"vcr_q2a": "Q2A", "vcr_qa2r": "QA2R", "vcr_q2ar": "Q2AR"}


def measured_notes(groups: Iterable[tuple[Record, ...]]) -> tuple[Footnote, ...]:
    """Return the footnotes that explain measured rows; none if there are no such rows."""
    groups = list(groups)
    used = {note for group in groups for note in marks_of(group)}
    return (MEASURED, *(note for note in MARKS if note in used)) if groups else ()


def marks_of(group: tuple[Record, ...]) -> list[Footnote]:
    """Return the marks of an experiment, in the order of `MARKS`."""
    first = group[0]
    holds: dict[Footnote, bool] = {
        CONTAMINATED: bool(first.contaminated),
        FLATTERED: picked_on_reported(group),
        DIRTY: Experiment(group, first.primary_metric).dirty,
        ELSEWHERE: first.kind == "elsewhere",
        EXTERNAL: first.kind == "external",
        UNKNOWN: first.of_unknown_training,
        TRANSFERRED: first.transferred,
    }
    return [note for note in MARKS if holds[note]]


def picked_on_reported(group: tuple[Record, ...]) -> bool:
    """Tell whether the reported split picked the checkpoint of any of these runs."""
    return any(flattered(record) for record in group)


def name_of(group: tuple[Record, ...]) -> str:
    """Return the recipe or checkpoint, its distinguishing digest, precision, and marks."""
    first = group[0]
    signs = "".join(note.sign for note in marks_of(group))
    trained = f"trained on {first.trained_on}" if first.transferred else ""
    parts = (f"{first.title} ({first.digests})", trained, precision_of(first), signs)
    return " ".join(filter(None, parts))


def kind_of(group: tuple[Record, ...]) -> Literal["measured", "external"]:
    """Return the kind of an experiment's rows, which tells them from published ones."""
    return "external" if group[0].kind == "external" else "measured"


def parts_of(group: tuple[Record, ...]) -> dict[str, Experiment]:
    """Map tasks to experiments: all VCR tasks of a joint model or of two joined runs."""
    first = group[0]
    if "q2ar" in first.metrics:
        return {f"vcr_{metric}": Experiment(group, metric) for metric in ("q2a", "qa2r", "q2ar")}
    return {first.task: Experiment(group, first.primary_metric)}


def score_cell(experiment: Experiment | None) -> Cell:
    """Return the cell of a score; one that is not ranked is not sorted either."""
    if experiment is None:
        return Cell()
    return Cell(experiment.show_score(), experiment.mean if experiment.first.ranked else None)


def comparison(
    published: Published, groups: list[tuple[Record, ...]], shipped: frozenset[str]
) -> Table:
    """Return VLE's own comparison exactly as published, with columns of measured scores."""
    scores = [score for score in published.scores if score.source == COMPARISON]
    rows = []
    for model in (m for m in published.models if any(s.model == m.name for s in scores)):
        cells = [
            published_cell(
                published,
                [
                    s
                    for s in scores
                    if (s.model, s.task, s.split) == (model.name, column.task, column.split)
                ],
            )
            for column in COMPARED
        ]
        own = [measured_of(model, groups, c.task, c.split, shipped) for c in COMPARED]
        status = STATUS[model.weights.status] if model.weights else NOTHING
        rows.append(Row("published", (Cell(model.name), *cells, *about(model), *own, Cell(status))))
    marked = any(FLATTERED.sign in cell.text for row in rows for cell in row.cells)
    numbers = (Column(column.title, numeric=True) for column in COMPARED)
    beside = (Column(f"{column.title} measured") for column in COMPARED)
    return Table(
        "comparison",
        "The METER/VLE comparison",
        "Percent; VQA on test-dev, VCR on dev (its validation split).",
        (
            *(Column("Model"), *numbers, Column("Params"), Column("Pre-training data")),
            *(*beside, Column("Weights")),
        ),
        tuple(rows),
        (
            *(*footnotes(published, scores), ABBREVIATIONS, *remarks(published, scores)),
            *(MEASURED, *[FLATTERED] * marked, LIVE),
        ),
        sources(published, scores),
    )


def measured_of(
    model: Model, groups: list[tuple[Record, ...]], task: str, split: str, shipped: frozenset[str]
) -> Cell:
    """Return the best experiment of the recipes that fine-tune a model.

    One on the published split is preferred, then one of a recipe as it is shipped.
    """
    candidates = [
        experiment
        for group in groups
        if group[0].ranked
        and group[0].kind == "run"
        and set(group[0].title.split(" + ")) <= set(model.recipes)
        if (experiment := parts_of(group).get(task))
    ]
    if not candidates:
        return Cell()
    best = max(
        candidates,
        key=lambda e: (
            e.first.split == split,
            as_shipped(e.first, shipped),
            e.difference is not None,
            e.exact_mean,
        ),
    )
    where = "" if best.first.split == split else f"on {best.first.split}"
    changed = "" if as_shipped(best.first, shipped) else "by a recipe that was changed"
    score = best.show_score() + f" {FLATTERED.sign}" * picked_on_reported(best.records)
    details = [where, best.show_seeds(), precision_of(best.first), best.show_difference(), changed]
    parts = [score, *details]
    return Cell("; ".join(filter(None, parts)), best.mean)


def as_shipped(record: Record, shipped: frozenset[str]) -> bool:
    return set(record.recipe.get("experiment", "unknown").split(" + ")) <= shipped


def measured_table(groups: list[tuple[Record, ...]], titles: dict[str, str]) -> Table:
    """Return the table of all experiments: best first, unranked and external ones last.

    Args:
        titles: task -> what the table calls it.
    """
    parts = [(task, group, part) for group in groups for task, part in parts_of(group).items()]
    order = list(titles)
    parts.sort(
        key=lambda p: (
            p[1][0].kind == "external",
            not p[1][0].ranked,
            order.index(p[0]),
            -p[2].exact_mean,
        )
    )
    rows = tuple(
        Row(kind_of(group), experiment_cells(titles[task], group, experiment))
        for task, group, experiment in parts
    )
    columns = (
        *(Column("Recipe"), Column("Task"), Column("Split"), Column("Score", True)),
        *(Column("Seeds"), Column("Published", True), Column("Difference")),
        *(Column("Params"), Column("Code")),
    )
    nothing = (
        "" if rows else " Nothing measured yet: it takes a GPU, the data and the released weights."
    )
    return Table(
        "measured",
        "Everything measured",
        f"Percent.{nothing}",
        columns,
        rows,
        measured_notes(groups),
    )


def experiment_cells(
    title: str, group: tuple[Record, ...], experiment: Experiment
) -> tuple[Cell, ...]:
    """Return the row of an experiment in the table of everything measured."""
    parameters, expect = experiment.first.model.get("parameters"), experiment.expect
    difference = experiment.difference
    codes = {(r.code.get("commit") or r.code.get("version") or NOTHING)[:8] for r in group}
    return (
        Cell(name_of(group)),
        Cell(title),
        Cell(experiment.first.split),
        score_cell(experiment),
        Cell(experiment.show_seeds(), len(group)),
        Cell(f"{Decimal(repr(expect.value)).normalize():f}", expect.value) if expect else Cell(),
        Cell(
            experiment.show_difference() or NOTHING,
            float(difference) if difference is not None else None,
        ),
        Cell(show_parameters(parameters), parameters),
        Cell(" ".join(sorted(codes))),
    )
