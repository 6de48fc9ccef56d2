"""One table a dataset, and the pages that hold all tables."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from vle_bench.data.sources import FURTHER, SOURCES
from vle_bench.evaluation.record import Record
from vle_bench.leaderboard.experiments import Experiment, experiments
from vle_bench.leaderboard.markup import NOTHING, Cell, Column, Kind, Page, Row, Table
from vle_bench.leaderboard.published import Published, Score
from vle_bench.leaderboard.published_rows import (
    ABBREVIATIONS,
    about,
    footnotes,
    published_cell,
    remarks,
    show_parameters,
    sources,
    weights_table,
)
from vle_bench.leaderboard.tables import (
    TYPES,
    VCR_PARTS,
    comparison,
    kind_of,
    measured_notes,
    measured_table,
    name_of,
    parts_of,
    score_cell,
)
from vle_bench.metrics.answers import ALL_IN_WORDS
from vle_bench.metrics.numbers import rounded
from vle_bench.metrics.vqa import OFFICIAL
from vle_bench.tasks.catalogue import CATALOGUE, JOINED, within

RETRIEVAL = {"text_retrieval": "TR", "image_retrieval": "IR"}
RETRIEVED = {"flickr30k": "Flickr30k", "coco": "COCO"}
# Data, split, task and metric of a published figure
Place = tuple[str, str, str, str]


def model_rows(published: Published, scores: Sequence[Score], places: Sequence[Place]) -> list[Row]:
    """Return model, a figure for each place, parameters, pre-training data and source.

    A model has a row for each source and set of marks.
    """
    rows = []
    for model, source, marks in dict.fromkeys((s.model, s.source, s.marks) for s in scores):
        own = [s for s in scores if (s.model, s.source, s.marks) == (model, source, marks)]
        cells = [
            published_cell(
                published, [s for s in own if (s.data, s.split, s.task, s.metric) == place]
            )
            for place in places
        ]
        described = next(m for m in published.models if m.name == model)
        mirror = " (mirror)" if own[0].read_as == "mirror" else ""
        document = published.sources[source].document
        rows.append(
            Row("published", (Cell(model), *cells, *about(described), Cell(document + mirror)))
        )
    return rows


def measured_row(group: tuple[Record, ...], cells: Iterable[Cell]) -> Row:
    """Return these columns for an experiment, with seeds and differences instead of the source."""
    parts = parts_of(group).values()
    origin = [next(iter(parts)).show_seeds(), *(part.show_difference() for part in parts)]
    model, kind = group[0].model, kind_of(group)
    parameters = model.get("parameters")
    if kind == "external":
        origin = ["scored here", model.get("source", "")]
    about_it = (
        Cell(show_parameters(parameters), parameters),
        Cell(model.get("pretraining", NOTHING)),
        Cell(f"{kind}; " + "; ".join(filter(None, origin))),
    )
    return Row(kind, (Cell(name_of(group)), *cells, *about_it))


def around(*titles: str) -> tuple[Column, ...]:
    """Return the columns of `model_rows`, given the titles of the places."""
    return (
        Column("Model"),
        *(Column(title, numeric=True) for title in titles),
        Column("Params"),
        Column("Pre-training data"),
        Column("Source"),
    )


def vqa_table(published: Published, groups: list[tuple[Record, ...]]) -> Table:
    """Return published test-dev and test-std by answer type, then measured scores of all splits."""
    scores = [score for score in published.scores if score.data == "vqav2"]
    held_out = sorted({group[0].split for group in groups} - {"test-dev", "test-std"}) or [
        "minival"
    ]
    totals = ["test-dev", "test-std", *held_out]
    places: list[Place] = [
        *(("vqav2", split, "vqa", "accuracy") for split in totals),
        *(("vqav2", "test-dev", "vqa", metric) for metric in TYPES),
    ]
    rows = model_rows(published, scores, places)
    for group in groups:
        one = Experiment(group, group[0].primary_metric)
        cells = [score_cell(one) if group[0].split == split else Cell() for split in totals]
        rows.append(
            measured_row(group, [*cells, *(type_cell(group, name) for name in TYPES.values())])
        )
    return Table(
        "vqa_v2",
        "VQA v2",
        "Official accuracy in percent. Yes/no, number and other belong to the row's first figure.",
        around(*totals, *TYPES.values()),
        tuple(rows),
        (
            *(*footnotes(published, scores), ABBREVIATIONS, *remarks(published, scores)),
            *measured_notes(groups),
        ),
        sources(published, scores),
    )


def type_cell(group: tuple[Record, ...], answer_type: str) -> Cell:
    """Return the mean over seeds of an answer type's accuracy; empty if a seed has none."""
    accuracies = [record.per_answer_type.get(answer_type) for record in group]
    values = [Decimal(repr(value)) for value in accuracies if value is not None]
    if len(values) < len(group):
        return Cell()
    mean = sum(values, Decimal()) / len(values)
    return Cell(rounded(100 * mean, 2), float(mean) if group[0].ranked else None)


def vcr_table(published: Published, groups: list[tuple[Record, ...]]) -> Table:
    """Return the table of VCR's tasks by split, published and measured."""
    scores = [score for score in published.scores if score.data == "vcr"]
    places: list[Place] = [
        ("vcr", split, task, "accuracy") for split in ("val", "test") for task in VCR_PARTS
    ]
    places += dict.fromkeys(
        ("vcr", s.split, s.task, "accuracy") for s in scores if s.split == "unstated"
    )
    rows = model_rows(published, scores, places)
    for group in groups:
        parts = parts_of(group)
        rows.append(
            measured_row(
                group,
                [
                    score_cell(parts.get(task)) if split == group[0].split else Cell()
                    for _, split, task, _ in places
                ],
            )
        )
    return Table(
        "vcr",
        "VCR",
        "Accuracy in percent; chance is 25, 25 and 6.25.",
        around(*(f"{split} {VCR_PARTS[task]}" for _, split, task, _ in places)),
        tuple(rows),
        (
            *(*footnotes(published, scores), ABBREVIATIONS, *remarks(published, scores)),
            *measured_notes(groups),
        ),
        sources(published, scores),
    )


def retrieval_table(published: Published) -> Table:
    """Return the table of published recall; nothing is measured here."""
    scores = [score for score in published.scores if score.task in RETRIEVAL]
    places: list[Place] = [
        (data, "test", task, "recall_at_1") for data in RETRIEVED for task in RETRIEVAL
    ]
    return Table(
        "retrieval",
        "Image-text retrieval",
        "Recall at 1 in percent, on the 1,000 test images of Flickr30k and the 5,000 of COCO "
        "(Karpathy's splits). TR: the text of an image; IR: the image of a text.",
        around(*(f"{RETRIEVED[data]} {RETRIEVAL[task]}" for data, _, task, _ in places)),
        tuple(model_rows(published, scores, places)),
        (*footnotes(published, scores), ABBREVIATIONS, *remarks(published, scores)),
        sources(published, scores),
    )


def easy_vqa_table(published: Published, groups: list[tuple[Record, ...]]) -> Table:
    """Return the easy-VQA runs beside the baselines and the published figures, best first."""
    scores = [s for s in published.scores if s.data == "easy-vqa"]
    open_ended = next((s.n for s in scores if s.metric == "accuracy_not_yes_no" and s.n), 0)
    metrics = ("accuracy", "accuracy_not_yes_no")
    rows = []
    for model in dict.fromkeys(s.model for s in scores):
        own = [s for s in scores if s.model == model]
        kind: Kind = "baseline" if any(s.read_as == "computed" for s in own) else "published"
        cells = [
            published_cell(published, [s for s in own if s.metric == metric]) for metric in metrics
        ]
        rows.append(Row(kind, (Cell(f"{kind}: {model}"), *cells, Cell(), Cell())))
    for group in groups:
        cells = [
            score_cell(Experiment(group, m)) if m in group[0].metrics else Cell() for m in metrics
        ]
        seconds, parameters = group[0].training.get("seconds"), group[0].model.get("parameters")
        where = f"{seconds:.0f} s on {group[0].device}" if seconds is not None else group[0].device
        seeds = Experiment(group, "accuracy").show_seeds()
        rows.append(
            Row(
                kind_of(group),
                (
                    Cell(f"{kind_of(group)}: {name_of(group)}"),
                    *cells,
                    Cell(show_parameters(parameters), parameters),
                    Cell(f"{seeds}, {where}" if group[0].kind == "run" else seeds),
                ),
            )
        )
    others = f"not yes/no ({open_ended:,} questions)"
    columns = (Column(""), Column("all questions", True), Column(others, True))
    return Table(
        "easy_vqa",
        "easy-VQA, official test set",
        "Accuracy in percent.",
        (*columns, Column("Params"), Column("Training")),
        tuple(rows),
        measured_notes(groups),
        sources(published, scores),
    )


def picked_as_halves(records: list[Record]) -> list[Record]:
    """Add to joined records of earlier versions the split that picked both halves."""
    splits = {(digest_of(r), r.split): r.training.get("split") for r in records}
    completed = []
    for record in records:
        halves = {splits.get((half, record.split)) for half in digest_of(record).split(" + ")}
        if "split" not in record.training and len(halves) == 1 and halves != {None}:
            training = record.training | {"split": halves.pop()}
            record = record.model_copy(update={"training": training})
        completed.append(record)
    return completed


def without_halves(groups: list[tuple[Record, ...]]) -> list[tuple[Record, ...]]:
    """Return the groups without runs of one task whose joined record is among them."""
    digests = [digest_of(g[0]).split(" + ") for g in groups if g[0].task == JOINED]
    joined = {half for halves in digests if len(halves) > 1 for half in halves}
    return [g for g in groups if not {digest_of(record) for record in g} <= joined]


def digest_of(record: Record) -> str:
    """Return the digest of the recipe with its seed, or of the weights or predictions."""
    return record.recipe.get("hash", str(record.model.get(record.digest_key)))


def shapes_vcr_table(groups: list[tuple[Record, ...]]) -> Table:
    """Return the table of VCR on drawn pictures: joined runs, joint models, runs of one task."""
    rows = [
        Row(
            kind_of(group),
            (
                Cell(f"{kind_of(group)}: {name_of(group)}"),
                *(score_cell(parts_of(group).get(task)) for task in VCR_PARTS),
            ),
        )
        for group in groups
    ]
    splits = ", ".join(sorted({group[0].split for group in groups})) or "val"
    return Table(
        "shapes_vcr",
        f"shapes-VCR, {splits}",
        "Accuracy in percent; chance is 25, 25 and 6.25. Recipes in -off train without the "
        "alignment of words and boxes, those in -text with grey pictures.",
        (Column(""), *(Column(title, numeric=True) for title in VCR_PARTS.values())),
        tuple(rows),
        measured_notes(groups),
    )


def tables_by_data(groups: list[tuple[Record, ...]]) -> list[Table]:
    """Return a table for each split of each dataset, best first.

    Users' own data of one name that were prepared from other rows are other data.
    """
    places: dict[tuple[str, ...], list[tuple[Record, ...]]] = {}
    for group in groups:
        first = group[0]
        digest = first.data["manifest_hash"][:8] if "name" in first.data else ""
        places.setdefault((first.data_name, digest, first.split), []).append(group)
    tables = []
    for (name, digest, split), own in sorted(places.items()):
        first = own[0][0]
        title = name if digest else SOURCES[name].title
        rows = tuple(
            Row(
                kind_of(group),
                (
                    Cell(name_of(group)),
                    score_cell(Experiment(group, group[0].primary_metric)),
                    Cell(Experiment(group, group[0].primary_metric).show_seeds()),
                    Cell(show_parameters(group[0].model.get("parameters"))),
                ),
            )
            for group in own
        )
        metric = first.data.get("metric", OFFICIAL)
        scored = f"{metric}: {ALL_IN_WORDS[metric]}"
        if CATALOGUE[first.task].form == "choice":
            scored = "accuracy: the share of questions whose right choice is predicted"
        tables.append(
            Table(
                "-".join(filter(None, (name, split, digest))),
                f"{title}, {split}",
                f"{title}, {split}: {first.n:,} questions. Percent, {scored}."
                + (f" Manifest {digest}." if digest else ""),
                (Column("Recipe"), Column("Score", True), Column("Seeds"), Column("Params", True)),
                rows,
                measured_notes(own),
            )
        )
    return tables


def pages(
    published: Published, records: Iterable[Record], shipped: frozenset[str] = frozenset()
) -> list[Page]:
    """Return every page, from what is published and what was measured.

    Args:
        shipped: the experiments of the recipes as they are shipped.
    """
    groups = experiments(picked_as_halves(list(records)))

    def of(source: str, *tasks: str) -> list[tuple[Record, ...]]:
        return [
            g for g in groups if g[0].data["source"] == source and (not tasks or g[0].task in tasks)
        ]

    vqa = of("vqav2", "vqa")
    vcr = of("vcr", *within(JOINED))
    shapes = without_halves(of("shapes-vcr", *within(JOINED)))
    easy = [g for g in of("easy-vqa", "vqa") if g[0].split == "test"]
    titles = {"vqa": "VQA"} | {task: f"VCR {part}" for task, part in VCR_PARTS.items()}
    own = tables_by_data([group for group in groups if "name" in group[0].data])
    further = tables_by_data([group for group in groups if group[0].data["source"] in FURTHER])
    return [
        Page(
            "comparison",
            "Published and measured",
            (
                comparison(published, vqa + vcr, shipped),
                measured_table(vqa + vcr, titles),
                weights_table(published),
            ),
        ),
        Page("vqa_v2", "VQA v2", (vqa_table(published, vqa),)),
        Page("vcr", "VCR", (vcr_table(published, vcr),)),
        Page("retrieval", "Image-text retrieval", (retrieval_table(published),)),
        Page(
            "demo", "The demo's data", (easy_vqa_table(published, easy), shapes_vcr_table(shapes))
        ),
        *([Page("datasets", "Further datasets", tuple(further))] if further else []),
        *([Page("own", "Your own data", tuple(own))] if own else []),
    ]
