"""`vle-bench report`: where a run errs, on one page, from what its evaluation left; no model is loaded."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vle_bench.analysis import charts, vcr, vqa
from vle_bench.analysis.examples import Examples
from vle_bench.analysis.html import (
    Html,
    bar,
    folded,
    paragraph,
    preformatted,
    section,
    table,
    terms,
    text,
    write_document,
)
from vle_bench.analysis.read import Curves, Evaluation, read_curves, read_evaluation
from vle_bench.data.images import decode
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import picked_on, precision_of
from vle_bench.metrics.bootstrap import figures
from vle_bench.metrics.error_analysis import calibration, confident_mistakes
from vle_bench.metrics.rounding import percent
from vle_bench.progress import Bar, track
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.tasks.vcr import natural

MISTAKES = 50
GROUPS = 12  # of a kind that are shown at once


RESIZES = {
    "crop": "shorter side resized, centre kept (crop)",
    "squash": "both sides resized to the square (squash)",
    "published-vcr": "shorter side resized, centre kept, and boxes mapped as if squashed (published-vcr)",
    "unknown": "the record does not say how they were resized",
}
STYLE = (
    charts.STYLE
    + """
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  padding: 0; list-style: none; }
.card { border: 1px solid var(--line); border-radius: .4rem; padding: .7rem; height: 100%; }
.card img, .card .boxes { display: block; width: 100%; height: auto; max-height: 24rem;
  object-fit: contain; background: var(--soft); }
.card .tiny, .card .tiny image { image-rendering: pixelated; } .card p { margin: .3rem 0; }
.card dl { gap: .1rem .7rem; margin: .3rem 0; } .card ol { margin: .4rem 0; padding-left: 1.4rem; }
.right { color: var(--right); } .wrong { color: var(--wrong); } .plain { list-style: none; padding: 0; }
.box { fill: none; stroke-width: 2; vector-effect: non-scaling-stroke; }
.others { stroke: #888; stroke-width: 1; stroke-opacity: .7; }
.boxes text { stroke: #000; stroke-width: .25em; paint-order: stroke; font-weight: 700; }
"""
    + "".join(
        f"rect.o{k} {{ stroke: {color}; }} text.o{k} {{ fill: {color}; }}\n"
        for k, color in enumerate(
            ("#ffd23f", "#4dd0ff", "#ff7ac6", "#7dff8a", "#ffa15c", "#c9b6ff")
        )
    )
)


def write_report(
    run: Path,
    split: str | None,
    output: Path | None,
    other: Path | None = None,
    data: Path | None = None,
) -> Path:
    """Write the page.

    Args:
        split: the recipe's `report` if not given.
        other: the run of QA2R that the run of Q2A was joined with.
        data: the prepared data, where it has moved; the recipe's `data.root` if not given.

    Returns:
        Where the page is.

    Raises:
        RequestError: the run has no evaluation of the split, its predictions or the data are not those of the record, or an
            image cannot be read.
    """
    if output is not None and output.is_dir():
        raise RequestError(f"{output}: is a folder; --output names the file to write")
    with Bar("read and score", 3) as progress:
        found = read_evaluation(run, split, other, data, progress)
        examples = examples_of(found)
        progress.advance()
    target = output or run / f"report.{found.record.task}.{found.record.split}.html"
    title = f"{found.record.title}: {CATALOGUE[found.record.task].title}, {found.record.split}"
    write_document(target, title, list(parts_of(found, examples)), STYLE)
    return target


def examples_of(found: Evaluation) -> Examples:
    facts = CATALOGUE[found.record.task]
    if facts.form == "vqa":
        return vqa.examples(found.rows, found.questions, found.scores)
    return vcr.examples(found.rows, found.questions, found.scores, facts.parts)


def parts_of(found: Evaluation, examples: Examples) -> Iterator[str]:
    """The page from top to bottom."""
    yield from introduction(found)
    sections = {
        "scores": ("Scores", scores_part(found)),
        "kinds": ("Scores by what questions are like", kinds_part(found, examples)),
        "calibration": ("Calibration", calibration_part(examples)),
        "confusion": ("Confusion", examples.confusion),
        "mistakes": ("The most confident mistakes", mistakes_part(found, examples)),
        "curves": ("Learning curves", curves_part(found.runs)),
        "recipe": ("Recipe", recipe_part(found.recipes)),
        "provenance": ("Provenance", [provenance(found)]),
    }
    links = "".join(
        f'<li><a href="#{name}">{text(heading)}</a></li>' for name, (heading, _) in sections.items()
    )
    yield f'<nav aria-label="sections"><ul>{links}</ul></nav>'
    for name, (heading, parts) in sections.items():
        yield section(name, heading, *parts)


def recipe_part(recipes: Sequence[Recipe]) -> list[Html]:
    if not recipes:
        return [paragraph("Trained elsewhere: there is no recipe.")]
    return [
        folded(f"{recipe.name}, resolved", preformatted(recipe.to_yaml())) for recipe in recipes
    ]


def introduction(found: Evaluation) -> Iterator[Html]:
    record = found.record
    size = f" of {record.model['parameters']:,} parameters" if "parameters" in record.model else ""
    steps = f", {record.training['steps']:,} steps" if "steps" in record.training else ""
    if record.kind == "elsewhere":
        known = (
            f"on {' and '.join(record.training_splits)}"
            if record.training_splits
            else "on what is not known"
        )
        trained = f"the checkpoint {record.title}, trained elsewhere ({known}; neither recipe nor seed is known)"
    else:
        trained = (
            f"trained by the recipe {record.recipe['name']} on {' and '.join(record.training_splits)} of "
            f"{record.data['source']} (seed {record.seed}{steps})"
        )
    yield paragraph(
        f"A model{size}, {trained}, answers the {record.n:,} questions of {record.split}. {picked_on(record)}"
    )
    if record.of_unknown_training:
        yield alert(
            "Not ranked",
            f"Nobody has said what it was trained on, which may be {record.split} itself (--trained-on).",
        )
    if record.contaminated:
        yield alert(
            "Contaminated",
            f"{record.split} shares images with the training splits ({', '.join(record.training_splits)}). "
            "This is no result: the score is never ranked.",
        )
    if record.code.get("clean") is False:
        yield alert(
            "Not a commit",
            "The code had changes that are in no commit; the score cannot be traced to a version of it.",
        )
    if record.kind == "run" and record.recipe["hash"] != " + ".join(
        recipe.hash for recipe in found.recipes
    ):
        yield alert(
            "Another recipe",
            "recipe.yaml is not what the record was made by: it has been changed since.",
        )


def alert(mark: str, words: str) -> Html:
    return Html(f'<p class="alert" role="note"><strong>{text(mark)}.</strong> {text(words)}</p>')


def scores_part(found: Evaluation) -> list[Html]:
    record = found.record
    names = sorted(record.metrics, key=lambda name: name != record.primary_metric)
    rows = [figure_row(name.replace("_", " "), record.metrics[name].model_dump()) for name in names]
    parts = [
        table("Percent", ["metric", "score", "95 % interval", "n"], rows),
        paragraph(
            "Intervals are from a bootstrap over images, as questions about one image are not independent.",
            "small",
        ),
    ]
    if record.expect is not None:
        want = record.expect
        parts.append(
            paragraph(
                f"The recipe should come to {want.value} ± {want.tolerance} {want.metric} on {want.split} ({want.source})."
            )
        )
    return parts


def figure_row(name: str, figure: dict[str, Any]) -> list[object]:
    """A name and a figure as a record holds it → the cells of a row; the bar lies under the name, to fit on a phone."""
    interval = figure["interval"]
    between = (
        Html(f'<span class="nowrap">{" to ".join(map(percent, interval))}</span>')
        if interval
        else "–"
    )
    count = "–" if figure["n"] is None else f"{figure['n']:,}"
    return [
        Html(text(name) + bar(figure["value"], interval)),
        percent(figure["value"]),
        between,
        count,
    ]


def kinds_part(found: Evaluation, examples: Examples) -> list[Html]:
    own = {
        kind: figures(examples.score, examples.images, groups)
        for kind, groups in examples.kinds.items()
    }
    parts = [
        paragraph(
            f"The figures are {found.record.primary_metric} in percent. Words are what spaces part; in VCR tags and marks count, "
            "and the objects tagged are those of the question and the right choice.",
            "small",
        )
    ]
    tables = []
    for kind, groups in {**found.scores.breakdown, **own}.items():
        shown = kind.replace("_", " ")
        if len(groups) == 1:
            parts.append(paragraph(f"{shown}: {next(iter(groups))}, for every question", "small"))
            continue
        order = sorted(groups, key=natural)
        if len(groups) > GROUPS:
            order.sort(key=lambda name: -groups[name]["n"])
        rows = [figure_row(name, groups[name]) for name in order]
        columns = [shown, "score", "95 % interval", "n"]
        rest = rows[GROUPS:]
        more = (
            folded(f"{len(rest)} more, less frequent", table(f"By {shown}", columns, rest))
            if rest
            else ""
        )
        tables.append(f"<div>{table(f'By {shown}', columns, rows[:GROUPS])}{more}</div>")
    return [*parts, Html(f'<div class="tables">{"".join(tables)}</div>')]


def calibration_part(examples: Examples) -> list[Html]:
    found = {title: calibration(*pair) for title, pair in examples.calibrated.items()}
    parts = [
        paragraph(
            f"{examples.confidence_is} Expected calibration error: the mean over questions of |mean confidence − mean score| of "
            "the bin of confidence (ten of equal width) that each lies in; 0 where confidence can be taken at its word."
        )
    ]
    diagrams = []
    for title, one in found.items():
        rows = [
            [f"{b['low']:.1f} to {b['high']:.1f}", f"{b['n']:,}"]
            + [percent(b[key]) if b["n"] else "–" for key in ("confidence", "score")]
            for b in one["bins"]
        ]
        columns = ["confidence", "questions", "mean confidence, %", "mean score, %"]
        error = paragraph(f"Expected calibration error: {percent(one['error'])} points")
        bins = folded("The bins", table(f"{title}: bins", columns, rows))
        diagrams.append(f"<div>{charts.reliability_diagram(title, one['bins'])}{error}{bins}</div>")
    return [*parts, Html(f'<div class="charts">{"".join(diagrams)}</div>')]


def mistakes_part(found: Evaluation, examples: Examples) -> list[Html]:
    places, count = confident_mistakes(examples.ids, examples.confidence, examples.score, MISTAKES)
    shown = (
        f"; the {len(places)} that the model was surest of follow"
        if len(places) < count
        else ", the surest first"
    )
    said = paragraph(
        f"{examples.mistake_is} There are {count:,}{shown}; equally sure ones come by id."
    )
    cards = []
    for k in track(places, "pictures", len(places)):
        stored = found.data.images[examples.image_rows[k]]
        image = decode(stored["bytes"], f"{found.data.root}: {stored['file_name']}")
        cards.append(f"<li>{examples.card(k, image, stored)}</li>")
    return [said, Html(f'<ol class="cards">{"".join(cards)}</ol>')] if cards else [said]


def curves_part(runs: Sequence[Path]) -> list[Html]:
    """Loss, learning rate and held-out scores over the steps, of every run that has a log."""
    together: Curves = {"loss": {}, "lr": {}, "score": {}}
    parts, splits = [], set()
    for run in runs:
        if not (run / "log.jsonl").is_file():
            parts.append(paragraph(f"{run / 'log.jsonl'} is not there: no curves of this run."))
            continue
        curves, scored = read_curves(run)
        splits |= scored
        for kind, series in curves.items():
            together[kind] |= {
                f"{name} ({run.name})" if len(runs) > 1 else name: points
                for name, points in series.items()
            }
    titles = {
        "loss": "Training loss, on a logarithmic scale",
        "lr": "Learning rate, the largest of the groups",
        "score": f"Score on {', '.join(sorted(splits))}",
    }
    drawn = [
        charts.line_chart(
            titles[kind],
            series,
            "step",
            (0.0, 1.0) if kind == "score" else None,
            log=kind == "loss",
        )
        for kind, series in together.items()
        if series
    ]
    return [*parts, Html(f'<div class="charts">{"".join(drawn)}</div>')]


def provenance(found: Evaluation) -> Html:
    record = found.record
    tree = {
        True: "the tree was clean",
        False: "the tree had changes",
        None: "of an installed package",
    }[record.code.get("clean")]
    return terms(
        {
            "command": record.command,
            "commit": f"{record.code.get('commit') or 'none'}, {tree}",
            "version": str(record.code.get("version", "unknown")),
            "libraries": ", ".join(
                f"{name} {version}" for name, version in record.libraries.items()
            ),
            "device": f"{record.device}; {record.processes} process{'es' * (record.processes > 1)}, batch {record.batch_size}",
            "precision": precision_of(record) or "unknown",
            "seed": "not known" if record.seed is None else str(record.seed),
            "data": f"{record.data['source']}, {found.data.root}, manifest {record.data['manifest_hash']}",
            "training splits": ", ".join(record.training_splits) or "not known",
            "contaminated": "yes" if record.contaminated else "no",
            "recipe": f"{record.recipe['name']}, hash {record.recipe['hash']}"
            if record.kind == "run"
            else "none: trained elsewhere",
            "pictures": " + ".join(
                RESIZES.get(way, way)
                for way in str(record.model.get("resize", "unknown")).split(" + ")
            ),
            "checkpoint": f"{'model.safetensors' if record.kind == 'run' else record.title}, SHA-256 "
            f"{record.model.get('checkpoint_sha256', 'unknown')}",
            "training": json.dumps(record.training),
            "evaluation": f"{record.seconds:.1f} s",
            "record": f"schema version {record.schema_version}, task version {record.task_version}",
        }
    )
