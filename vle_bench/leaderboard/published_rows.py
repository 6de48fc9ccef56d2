"""Cells, notes and sources of published rows, and the commands that measure such a row here."""

from collections.abc import Iterable, Sequence

from vle_bench.leaderboard.markup import NOTHING, Cell, Citation, Column, Footnote, Row, Table
from vle_bench.leaderboard.published import Model, Pretraining, Published, Score

ABBREVIATIONS = Footnote(
    "",
    "I-T: image-text pairs; I: images; T: text. "
    "Parameters: encoders and embeddings, without task heads.",
)

# Status of a model's weights -> as tables print it
STATUS = {
    "not public": "not public",
    "public": "public, not in transformers",
    "live": "public, live",
}

LIVE = Footnote(
    "",
    "Weights: whether those of the published row can be had; what measures them here is in the "
    "last table of the comparison's page.",
)


def show_parameters(count: int | None) -> str:
    """Write a number of parameters: `2.1 B`, `345M`."""
    if count is None:
        return NOTHING
    return f"{count / 1e9:g} B" if count >= 1e9 else f"{count / 1e6:.3g}M"


def show_pretraining(data: Pretraining | str | None) -> str:
    """Write pre-training data: `21M(I-T) + 14M(I) + 160G(T)`."""
    if not isinstance(data, Pretraining):
        return data or NOTHING
    parts = [f"{'~' if data.approximate else ''}{data.image_text_pairs / 1e6:g}M(I-T)"]
    if data.images is not None:
        parts.append(f"{data.images / 1e6:g}M(I)")
    if data.text_gigabytes is not None:
        parts.append(f"{data.text_gigabytes}G(T)")
    return " + ".join(parts)


def about(model: Model) -> tuple[Cell, Cell]:
    """Return the parameters and the pre-training data, sorted by image-text pairs."""
    data = model.pretraining
    pairs = data.image_text_pairs if isinstance(data, Pretraining) else None
    parameters = Cell(show_parameters(model.parameters), model.parameters)
    return parameters, Cell(show_pretraining(data), pairs)


def published_cell(published: Published, scores: Sequence[Score]) -> Cell:
    """Return the first figure, further ones of the same model in brackets, each with its marks."""
    figures = []
    for score in scores:
        signs = "".join(published.marks[mark].sign for mark in score.marks)
        figures.append(f"{score.value} {signs}".strip())
    if not figures:
        return Cell()
    text = figures[0] + "".join(f" ({further})" for further in figures[1:])
    return Cell(text, float(scores[0].value))


def footnotes(published: Published, scores: Iterable[Score]) -> tuple[Footnote, ...]:
    """Return the marks that these figures carry, in the order of published.yaml."""
    used = {mark for score in scores for mark in score.marks}
    return tuple(
        Footnote(mark.sign, mark.text) for key, mark in published.marks.items() if key in used
    )


def remarks(published: Published, scores: Iterable[Score]) -> tuple[Footnote, ...]:
    """Return the remarks on the models of these figures, in the order of published.yaml."""
    shown = {score.model for score in scores}
    return tuple(
        Footnote("", f"{model.name}: {remark.text}")
        for model in published.models
        if model.name in shown
        for remark in model.remarks
    )


def sources(published: Published, scores: Iterable[Score]) -> tuple[Citation, ...]:
    """Return each source once, with its address, those of marks and of the models' remarks last.

    A copy that was read instead is named.
    """
    by_key, models, marks = {}, set(), set()
    for score in scores:
        mirror = " (read on a mirror)" if score.read_as == "mirror" else ""
        by_key[score.source] = cited(published, score.source, mirror)
        models.add(score.model)
        marks |= {*score.marks}
    further = [k for name, mark in published.marks.items() if name in marks for k in mark.sources]
    further += [r.source for m in published.models if m.name in models for r in m.remarks]
    for key in further:
        by_key.setdefault(key, cited(published, key))
    return tuple(by_key.values())


def cited(published: Published, key: str, mirror: str = "") -> Citation:
    """Name a source with its table or section, and its address."""
    source = published.sources[key]
    title = f"{source.document}, {source.table}" if source.table else source.document
    return Citation(title + mirror, source.url)


def weights_table(published: Published) -> Table:
    """Return the table of commands that measure a published row here, or why there is none."""
    known = [(model, model.weights) for model in published.models if model.weights]
    rows = tuple(
        Row(
            "published",
            (
                Cell(model.name),
                Cell(STATUS[weights.status]),
                Cell(weights.text),
                Cell(weights.measure or NOTHING),
                Cell(published.sources[weights.source].document),
            ),
        )
        for model, weights in known
    )
    titles = ("Model", "Weights", "What there is", "Command", "Source")
    citations = {weights.source: cited(published, weights.source) for _, weights in known}
    return Table(
        "weights",
        "What would measure a published row",
        "Why a published row has no measured figure beside it, and the command that gives it one.",
        tuple(Column(title) for title in titles),
        rows,
        (),
        tuple(citations.values()),
    )
