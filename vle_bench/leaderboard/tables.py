"""Tables from the result records and the published figures; nothing in them is typed by hand."""

from collections.abc import Iterable, Sequence
from decimal import Decimal

from vle_bench.evaluation.record import Record, flattered, precision_of
from vle_bench.leaderboard.experiments import Experiment, experiments
from vle_bench.leaderboard.markup import (
    NOTHING,
    Cell,
    Column,
    Footnote,
    Kind,
    Page,
    Row,
    Source,
    Table,
)
from vle_bench.leaderboard.published import Model, Pretraining, Published, Score
from vle_bench.metrics.rounding import rounded

# VLE's own comparison: column → task and split.
COMPARED = {
    "VQA": ("vqa", "test-dev"),
    "VCR QA2R": ("vcr_qa2r", "val"),
    "VCR Q2A": ("vcr_q2a", "val"),
}
COMPARISON = "vle-readme"  # the source that the comparison is from
ABBREVIATIONS = Footnote(
    "",
    "I-T: image-text pairs; I: images; T: text. Parameters: encoders and embeddings, without task heads.",
)
MEASURED = Footnote(
    "",
    "Measured: ± is half of the 95 % bootstrap interval over images, for several seeds of their mean ends; sd is the standard "
    "deviation over seeds; then points to the published score, and whether that is inside the recipe's tolerance.",
)
CONTAMINATED = Footnote(
    "‼",
    "contaminated: the split was trained on; such a score says nothing about other data and is never ranked.",
)
DIRTY = Footnote("◊", "the code had changes that are in no commit.")
FLATTERED = Footnote(
    "△",
    "the split that is reported also picked the checkpoint among those of its training; the score flatters it.",
)
ELSEWHERE = Footnote(
    "◦",
    "trained elsewhere, scored here: a checkpoint of others, with its folder's name and its weights' digest.",
)
UNKNOWN = Footnote(
    "¿", "nobody has said what it was trained on; it may be the split itself: not ranked."
)
TYPES = {
    "accuracy_yes_no": "yes/no",
    "accuracy_number": "number",
    "accuracy_other": "other",
}  # metric → answer type
VCR_PARTS = {"vcr_q2a": "Q2A", "vcr_qa2r": "QA2R", "vcr_q2ar": "Q2AR"}
RETRIEVAL = {"text_retrieval": "TR", "image_retrieval": "IR"}
RETRIEVED = {"flickr30k": "Flickr30k", "coco": "COCO"}


def show_parameters(count: int | None) -> str:
    if count is None:
        return NOTHING
    return f"{count / 1e9:g} B" if count >= 1e9 else f"{count / 1e6:.3g}M"


def show_pretraining(data: Pretraining | str | None) -> str:
    """`21M(I-T) + 14M(I) + 160G(T)`"""
    if not isinstance(data, Pretraining):
        return data or NOTHING
    parts = [f"{'~' if data.approximate else ''}{data.image_text_pairs / 1e6:g}M(I-T)"]
    if data.images is not None:
        parts.append(f"{data.images / 1e6:g}M(I)")
    if data.text_gigabytes is not None:
        parts.append(f"{data.text_gigabytes}G(T)")
    return " + ".join(parts)


def about(model: Model) -> tuple[Cell, Cell]:
    """Parameters and pre-training data."""
    pairs = (
        model.pretraining.image_text_pairs if isinstance(model.pretraining, Pretraining) else None
    )
    return Cell(show_parameters(model.parameters), model.parameters), Cell(
        show_pretraining(model.pretraining), pairs
    )


def figure(published: Published, scores: Sequence[Score]) -> Cell:
    """The first figure, further ones of the same model in brackets, each with its marks."""
    shown = []
    for score in scores:
        signs = "".join(published.marks[mark].sign for mark in score.marks)
        shown.append(f"{score.value} {signs}".strip())
    if not shown:
        return Cell()
    return Cell(
        shown[0] + "".join(f" ({further})" for further in shown[1:]), float(scores[0].value)
    )


def footnotes(published: Published, scores: Iterable[Score]) -> tuple[Footnote, ...]:
    """The marks that these figures carry, in the order of published.yaml."""
    used = {mark for score in scores for mark in score.marks}
    return tuple(
        Footnote(mark.sign, mark.text) for key, mark in published.marks.items() if key in used
    )


def sources(published: Published, scores: Iterable[Score]) -> tuple[Source, ...]:
    """Each source once, with its address, and how it was read where that is no first hand."""
    found = {}
    for score in scores:
        source = published.sources[score.source]
        title = f"{source.document}, {source.table}" if source.table else source.document
        found[score.source] = Source(
            title + (" (read on a mirror)" if score.read_as == "mirror" else ""), source.url
        )
    return tuple(found.values())


def measured_notes(groups: Iterable[tuple[Record, ...]]) -> tuple[Footnote, ...]:
    found = list(groups)
    if not found:
        return ()
    dirty = any(Experiment(group, group[0].primary_metric).dirty for group in found)
    contaminated = any(group[0].contaminated for group in found)
    elsewhere = any(group[0].kind == "elsewhere" for group in found)
    unknown = any(group[0].of_unknown_training for group in found)
    picked = any(picked_on_reported(group) for group in found)
    return (
        MEASURED,
        *[CONTAMINATED] * contaminated,
        *[FLATTERED] * picked,
        *[DIRTY] * dirty,
        *[ELSEWHERE] * elsewhere,
        *[UNKNOWN] * unknown,
    )


def picked_on_reported(group: tuple[Record, ...]) -> bool:
    """Whether the reported split picked the checkpoint of any of these runs."""
    return any(flattered(record) for record in group)


def name_of(group: tuple[Record, ...]) -> str:
    """Recipe or checkpoint, the digest that tells it from others of its name, precision, and marks."""
    first = group[0]
    signs = CONTAMINATED.sign * first.contaminated + FLATTERED.sign * picked_on_reported(group)
    signs += DIRTY.sign * Experiment(group, first.primary_metric).dirty
    signs += ELSEWHERE.sign * (first.kind == "elsewhere") + UNKNOWN.sign * first.of_unknown_training
    short = " + ".join(part[:8] for part in first.identity.split(" + "))
    return " ".join(filter(None, (f"{first.title} ({short})", precision_of(first), signs)))


def parts_of(group: tuple[Record, ...]) -> dict[str, Experiment]:
    """Task → what a record says of it; all VCR tasks of a joint model, or of two runs joined."""
    first = group[0]
    if "q2ar" in first.metrics:
        return {f"vcr_{metric}": Experiment(group, metric) for metric in ("q2a", "qa2r", "q2ar")}
    return {first.task: Experiment(group, first.primary_metric)}


def score_cell(experiment: Experiment | None) -> Cell:
    """A score that is not ranked, such as a contaminated one, has nothing to be sorted by."""
    if experiment is None:
        return Cell()
    return Cell(experiment.show_score(), experiment.mean if experiment.first.ranked else None)


def comparison(
    published: Published, groups: list[tuple[Record, ...]], shipped: frozenset[str]
) -> Table:
    """VLE's own comparison exactly as published, and in columns beside it the best that was measured of each model."""
    scores = [score for score in published.scores if score.source == COMPARISON]
    rows = []
    for model in (m for m in published.models if any(s.model == m.name for s in scores)):
        cells = [
            figure(
                published,
                [s for s in scores if (s.model, s.task, s.split) == (model.name, task, split)],
            )
            for task, split in COMPARED.values()
        ]
        beside = [
            measured_of(model, groups, task, split, shipped) for task, split in COMPARED.values()
        ]
        rows.append(Row("published", (Cell(model.name), *cells, *about(model), *beside)))
    marked = any(FLATTERED.sign in cell.text for row in rows for cell in row.cells)
    header = [
        Column("Model"),
        *(Column(title, numeric=True) for title in COMPARED),
        Column("Params"),
        Column("Pre-training data"),
    ]
    return Table(
        "comparison",
        "The METER/VLE comparison",
        "Percent; VQA on test-dev, VCR on dev (its validation split).",
        (*header, *(Column(f"{title} measured") for title in COMPARED)),
        tuple(rows),
        (*footnotes(published, scores), ABBREVIATIONS, MEASURED, *[FLATTERED] * marked),
        sources(published, scores),
    )


def measured_of(
    model: Model, groups: list[tuple[Record, ...]], task: str, split: str, shipped: frozenset[str]
) -> Cell:
    """An experiment of the recipes that fine-tune a model: one on the published split, and of a recipe as it is shipped, where
    there is one; the best of several."""
    found = [
        experiment
        for group in groups
        if group[0].ranked
        and group[0].kind == "run"
        and set(group[0].title.split(" + ")) <= set(model.recipes)
        if (experiment := parts_of(group).get(task))
    ]
    if not found:
        return Cell()
    best = max(
        found,
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
    told = [
        score,
        where,
        best.show_seeds(),
        precision_of(best.first),
        best.show_difference(),
        changed,
    ]
    return Cell("; ".join(filter(None, told)), best.mean)


def as_shipped(record: Record, shipped: frozenset[str]) -> bool:
    return set(record.recipe.get("experiment", "unknown").split(" + ")) <= shipped


def measured(groups: list[tuple[Record, ...]], titles: dict[str, str]) -> Table:
    """Every experiment, best first in each task; those that are not ranked last.

    Args:
        titles: task → what it is called.
    """
    rows = []
    found = [(task, group, parts) for group in groups for task, parts in parts_of(group).items()]
    order = list(titles)
    for task, group, one in sorted(
        found,
        key=lambda entry: (not entry[1][0].ranked, order.index(entry[0]), -entry[2].exact_mean),
    ):
        parameters, expect = one.first.model.get("parameters"), one.expect
        rows.append(
            Row(
                "measured",
                (
                    Cell(name_of(group)),
                    Cell(titles[task]),
                    Cell(one.first.split),
                    score_cell(one),
                    Cell(one.show_seeds(), len(group)),
                    Cell(f"{Decimal(repr(expect.value)).normalize():f}", expect.value)
                    if expect
                    else Cell(),
                    Cell(
                        one.show_difference() or NOTHING,
                        float(one.difference) if one.difference is not None else None,
                    ),
                    Cell(show_parameters(parameters), parameters),
                    Cell(
                        " ".join(
                            sorted(
                                {
                                    (r.code.get("commit") or r.code.get("version") or NOTHING)[:8]
                                    for r in group
                                }
                            )
                        )
                    ),
                ),
            )
        )
    columns = (
        "Recipe",
        "Task",
        "Split",
        "Score",
        "Seeds",
        "Published",
        "Difference",
        "Params",
        "Code",
    )
    numeric = ("Score", "Published")
    nothing = (
        "" if rows else " Nothing measured yet: it takes a GPU, the data and the released weights."
    )
    return Table(
        "measured",
        "Everything measured",
        f"Percent.{nothing}",
        tuple(Column(title, title in numeric) for title in columns),
        tuple(rows),
        measured_notes(groups),
    )


Place = tuple[str, str, str, str]  # data, split, task, metric


def published_rows(
    published: Published, scores: Sequence[Score], places: Sequence[Place]
) -> list[Row]:
    """Model, a figure for each place, parameters, pre-training data, source; a row for each source and set of marks."""
    rows = []
    for model, source, marks in dict.fromkeys((s.model, s.source, s.marks) for s in scores):
        own = [s for s in scores if (s.model, s.source, s.marks) == (model, source, marks)]
        cells = [
            figure(published, [s for s in own if (s.data, s.split, s.task, s.metric) == place])
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
    """The same columns for an experiment, with seeds and differences in the place of the source."""
    parts = parts_of(group).values()
    told = [next(iter(parts)).show_seeds(), *(part.show_difference() for part in parts)]
    parameters = group[0].model.get("parameters")
    about_it = (
        Cell(show_parameters(parameters), parameters),
        Cell(),
        Cell("measured; " + "; ".join(filter(None, told))),
    )
    return Row("measured", (Cell(name_of(group)), *cells, *about_it))


def around(*titles: str) -> tuple[Column, ...]:
    """The columns of `published_rows`, given the titles of the places."""
    return (
        Column("Model"),
        *(Column(title, numeric=True) for title in titles),
        Column("Params"),
        Column("Pre-training data"),
        Column("Source"),
    )


def vqa_table(published: Published, groups: list[tuple[Record, ...]]) -> Table:
    """Published test-dev and test-std with the types of answer, then what was measured, on held-out images too."""
    scores = [score for score in published.scores if score.data == "vqav2"]
    held_out = sorted({group[0].split for group in groups} - {"test-dev", "test-std"}) or [
        "minival"
    ]
    totals = ["test-dev", "test-std", *held_out]
    places: list[Place] = [
        *(("vqav2", split, "vqa", "accuracy") for split in totals),
        *(("vqav2", "test-dev", "vqa", metric) for metric in TYPES),
    ]
    rows = published_rows(published, scores, places)
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
        (*footnotes(published, scores), ABBREVIATIONS, *measured_notes(groups)),
        sources(published, scores),
    )


def type_cell(group: tuple[Record, ...], answer_type: str) -> Cell:
    """The mean over seeds of an answer type's accuracy."""
    found = [record.per_answer_type.get(answer_type) for record in group]
    values = [Decimal(repr(value)) for value in found if value is not None]
    if len(values) < len(group):
        return Cell()
    mean = sum(values, Decimal()) / len(values)
    return Cell(rounded(100 * mean, 2), float(mean) if group[0].ranked else None)


def vcr_table(published: Published, groups: list[tuple[Record, ...]]) -> Table:
    scores = [score for score in published.scores if score.data == "vcr"]
    places: list[Place] = [
        ("vcr", split, task, "accuracy") for split in ("val", "test") for task in VCR_PARTS
    ]
    places += dict.fromkeys(
        ("vcr", s.split, s.task, "accuracy") for s in scores if s.split == "unstated"
    )
    rows = published_rows(published, scores, places)
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
        (*footnotes(published, scores), ABBREVIATIONS, *measured_notes(groups)),
        sources(published, scores),
    )


def retrieval_table(published: Published) -> Table:
    scores = [score for score in published.scores if score.task in RETRIEVAL]
    places: list[Place] = [
        (data, "test", task, "recall_at_1") for data in RETRIEVED for task in RETRIEVAL
    ]
    return Table(
        "retrieval",
        "Image-text retrieval",
        "Recall at 1 in percent, on the 1,000 test images of Flickr30k and the 5,000 of COCO (Karpathy's splits). "
        "TR: the text of an image; IR: the image of a text.",
        around(*(f"{RETRIEVED[data]} {RETRIEVAL[task]}" for data, _, task, _ in places)),
        tuple(published_rows(published, scores, places)),
        (*footnotes(published, scores), ABBREVIATIONS),
        sources(published, scores),
    )


def easy_vqa_table(published: Published, groups: list[tuple[Record, ...]]) -> Table:
    """The easy-VQA runs beside the baselines and the published figures, best first."""
    scores = [s for s in published.scores if s.data == "easy-vqa"]
    open_ended = next((s.n for s in scores if s.metric == "accuracy_not_yes_no" and s.n), 0)
    metrics = ("accuracy", "accuracy_not_yes_no")
    rows = []
    for model in dict.fromkeys(s.model for s in scores):
        own = [s for s in scores if s.model == model]
        kind: Kind = "baseline" if any(s.read_as == "computed" for s in own) else "published"
        cells = [figure(published, [s for s in own if s.metric == metric]) for metric in metrics]
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
                "measured",
                (
                    Cell(f"measured: {name_of(group)}"),
                    *cells,
                    Cell(show_parameters(parameters), parameters),
                    Cell(f"{seeds}, {where}" if group[0].kind == "run" else seeds),
                ),
            )
        )
    columns = (
        Column(""),
        Column("all questions", True),
        Column(f"not yes/no ({open_ended:,} questions)", True),
        Column("Params"),
        Column("Training"),
    )
    return Table(
        "easy_vqa",
        "easy-VQA, official test set",
        "Accuracy in percent.",
        columns,
        tuple(rows),
        measured_notes(groups),
        sources(published, scores),
    )


def picked_as_halves(records: list[Record]) -> list[Record]:
    """Joined records of earlier versions do not say which split picked their halves: take it from those."""
    ours = [r for r in records if r.kind == "run"]
    splits = {(r.recipe["hash"], r.split): r.training.get("split") for r in ours}
    found = []
    for record in records:
        parts = record.recipe["hash"].split(" + ") if record.kind == "run" else []
        halves = {splits.get((half, record.split)) for half in parts}
        if "split" not in record.training and len(halves) == 1 and halves != {None}:
            record = record.model_copy(
                update={"training": record.training | {"split": halves.pop()}}
            )
        found.append(record)
    return found


def not_joined_elsewhere(groups: list[tuple[Record, ...]]) -> list[tuple[Record, ...]]:
    """Without runs of one task that stand in a row with their other half."""
    joined = {
        half for g in groups if g[0].task == "vcr_q2ar" for half in digest_of(g[0]).split(" + ")
    }
    return [g for g in groups if not {digest_of(record) for record in g} <= joined]


def digest_of(record: Record) -> str:
    """Of the recipe with its seed, or of the checkpoint from elsewhere."""
    return record.recipe.get("hash", str(record.model.get("checkpoint_sha256")))


def shapes_vcr_table(groups: list[tuple[Record, ...]]) -> Table:
    """The VCR tasks on the drawn pictures: two runs joined, one joint model, or a run of one task."""
    rows = [
        Row(
            "measured",
            (
                Cell(f"measured: {name_of(group)}"),
                *(score_cell(parts_of(group).get(task)) for task in VCR_PARTS),
            ),
        )
        for group in groups
    ]
    splits = ", ".join(sorted({group[0].split for group in groups})) or "val"
    return Table(
        "shapes_vcr",
        f"shapes-VCR, {splits}",
        "Accuracy in percent; chance is 25, 25 and 6.25. Recipes in -off train without the alignment of words and boxes, those in "
        "-text with grey pictures.",
        (Column(""), *(Column(title, numeric=True) for title in VCR_PARTS.values())),
        tuple(rows),
        measured_notes(groups),
    )


def pages(
    published: Published, records: Iterable[Record], shipped: frozenset[str] = frozenset()
) -> list[Page]:
    """Every page, from what is published and what was measured.

    Args:
        shipped: the experiments of the recipes as they are shipped.
    """
    groups = experiments(picked_as_halves(list(records)))

    def of(source: str, *tasks: str) -> list[tuple[Record, ...]]:
        return [
            g for g in groups if g[0].data["source"] == source and (not tasks or g[0].task in tasks)
        ]

    vqa = of("vqav2", "vqa")
    vcr = of("vcr", "vcr_q2a", "vcr_qa2r", "vcr_joint", "vcr_q2ar")
    shapes = not_joined_elsewhere(of("shapes-vcr", "vcr_q2a", "vcr_qa2r", "vcr_joint", "vcr_q2ar"))
    easy = [g for g in of("easy-vqa", "vqa") if g[0].split == "test"]
    titles = {"vqa": "VQA", "vcr_q2a": "VCR Q2A", "vcr_qa2r": "VCR QA2R", "vcr_q2ar": "VCR Q2AR"}
    return [
        Page(
            "comparison",
            "Published and measured",
            (comparison(published, vqa + vcr, shipped), measured(vqa + vcr, titles)),
        ),
        Page("vqa_v2", "VQA v2", (vqa_table(published, vqa),)),
        Page("vcr", "VCR", (vcr_table(published, vcr),)),
        Page("retrieval", "Image-text retrieval", (retrieval_table(published),)),
        Page(
            "demo", "The demo's data", (easy_vqa_table(published, easy), shapes_vcr_table(shapes))
        ),
    ]
