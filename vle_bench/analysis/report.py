"""`vle-bench report`: one page about the errors of a run, without loading a model."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from vle_bench.analysis import multiple_choice, vcr, vqa
from vle_bench.analysis.examples import Examples
from vle_bench.analysis.read import Curves, Evaluation, read_curves, read_evaluation
from vle_bench.data.images import decode
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Metric, picked_on, precision_of
from vle_bench.evaluation.request import record_file
from vle_bench.metrics.bootstrap import figures
from vle_bench.metrics.error_analysis import calibration, confident_mistakes
from vle_bench.metrics.numbers import Figure, percent, percent_range
from vle_bench.pages.charts import line_chart, reliability_diagram
from vle_bench.pages.html import Grid, GridCell, plain_grid, write_page
from vle_bench.progress import Bar, track
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.tasks.vcr import natural

MOST_MISTAKES = 50
MOST_GROUPS = 12  # of a kind that are shown unfolded

RESIZES = {
    "crop": "shorter side resized, centre kept (crop)",
    "squash": "both sides resized to the square (squash)",
    "published-vcr": "shorter side resized, centre kept, and boxes mapped as if squashed "
    "(published-vcr)",
    "unknown": "the record does not say how they were resized",
}

FIGURE_COLUMNS = ["score", "95 % interval", "n"]


def write_report(
    run: Path,
    split: str | None,
    output: Path | None,
    other: Path | None = None,
    data: Path | None = None,
) -> Path:
    """Write the page and return its path.

    Args:
        split: the recipe's `report` if not given.
        other: the run of QA2R that a run of Q2A was joined with.
        data: the prepared data if they have moved; the recipe's `data.root` if not given.

    Raises:
        RequestError: the run has no evaluation of the split, its predictions or the data are not
            those of the record, or an image cannot be read.
    """
    if output is not None and output.is_dir():
        raise RequestError(f"{output}: is a folder; --output names the file to write")
    with Bar("read and score", 3) as progress:
        evaluation = read_evaluation(run, split, other, data, progress)
        examples = examples_of(evaluation)
        progress.advance()
    record = evaluation.record
    result = record_file(run, record.task, record.split, record.other_data)
    target = output or run / f"report.{result.stem}.html"
    count, mistakes = mistake_cards(evaluation, examples)
    missing_logs, drawings = curve_charts(evaluation.runs)
    own_kinds = {
        kind: figures(examples.score, examples.images, groups)
        for kind, groups in examples.kinds.items()
    }
    kinds = {**evaluation.scores.breakdown, **own_kinds}
    write_page(
        target,
        "analysis/report.html",
        title=f"{record.title}: {CATALOGUE[record.task].title}, {record.split}",
        introduction=introduction(evaluation),
        record=record,
        alerts=list(alerts(evaluation)),
        scores=scores_table(evaluation),
        constants=[(kind, *groups) for kind, groups in named(kinds) if len(groups) == 1],
        kinds=[kind_tables(kind, groups) for kind, groups in named(kinds) if len(groups) > 1],
        examples=examples,
        calibrations=calibrations(examples),
        mistake_count=count,
        mistakes=mistakes,
        missing_logs=missing_logs,
        curves=drawings,
        recipes=evaluation.recipes,
        provenance=provenance(evaluation),
    )
    return target


def examples_of(evaluation: Evaluation) -> Examples:
    rows, questions, scores = evaluation.rows, evaluation.questions, evaluation.scores
    facts = CATALOGUE[evaluation.record.task]
    if facts.form == "vqa":
        return vqa.examples(rows, questions, scores)
    if facts.form == "choice":
        return multiple_choice.examples(rows, questions, scores)
    return vcr.examples(rows, questions, scores, facts.parts)


def introduction(evaluation: Evaluation) -> str:
    """Name the model, its training data and the questions that it answered."""
    record = evaluation.record
    size = f" of {record.model['parameters']:,} parameters" if "parameters" in record.model else ""
    steps = f", {record.training['steps']:,} steps" if "steps" in record.training else ""
    splits = " and ".join(record.training_splits)
    of = f" of {record.other_data}" if record.other_data else ""
    if record.kind == "elsewhere":
        known = f"on {splits}" if splits else "on what is not known"
        trained = (
            f"the checkpoint {record.title}, trained elsewhere ({known}; "
            "neither recipe nor seed is known)"
        )
    else:
        trained = (
            f"trained by the recipe {record.recipe['name']} on {splits} of "
            f"{record.trained_on or record.data_name} (seed {record.seed}{steps})"
        )
    return (
        f"A model{size}, {trained}, answers the {record.n:,} questions of {record.split}{of}. "
        f"{picked_on(record)}"
    )


def alerts(evaluation: Evaluation) -> Iterator[tuple[str, str]]:
    """Yield warnings at the top of the page: a heading and a text each."""
    record = evaluation.record
    if record.of_unknown_training:
        yield (
            "Not ranked",
            f"What it was trained on is not known, and may be {record.split} itself "
            "(--trained-on).",
        )
    if record.contaminated:
        yield (
            "Contaminated",
            f"{record.split} shares images with the training splits "
            f"({', '.join(record.training_splits)}). This is no result: the score is never ranked.",
        )
    if record.code.get("clean") is False:
        yield (
            "Not a commit",
            "The code had changes that are in no commit; the score cannot be traced to a version.",
        )
    hashes = " + ".join(recipe.hash for recipe in evaluation.recipes)
    if record.kind == "run" and record.recipe["hash"] != hashes:
        yield (
            "Another recipe",
            "recipe.yaml is not what the record was made by: it has been changed since.",
        )


def scores_table(evaluation: Evaluation) -> Grid:
    """Return every metric, the primary one first."""
    metrics = evaluation.record.metrics
    names = sorted(metrics, key=lambda name: name != evaluation.record.primary_metric)
    rows = [figure_row(name.replace("_", " "), metrics[name]) for name in names]
    return plain_grid("Percent", ["metric", *FIGURE_COLUMNS], rows)


def figure_row(name: str, figure: Metric) -> list[str | GridCell]:
    """Return a row for a figure of a record; the bar below the name leaves room on a phone."""
    return [
        GridCell(name, bar=(figure.value, figure.interval)),
        percent(figure.value),
        GridCell(percent_range(figure.interval, "–"), {"class": "nowrap"}),
        "–" if figure.n is None else f"{figure.n:,}",
    ]


def named(kinds: Mapping[str, Mapping[str, Figure]]) -> Iterator[tuple[str, Mapping[str, Figure]]]:
    """Yield kinds of questions with the names that the page gives them."""
    for kind, groups in kinds.items():
        yield kind.replace("_", " "), groups


def kind_tables(kind: str, groups: Mapping[str, Figure]) -> tuple[Grid, Grid | None]:
    """Return a table of a kind's groups, and one of the less frequent groups if there are many."""
    order = sorted(groups, key=natural)
    if len(groups) > MOST_GROUPS:
        order.sort(key=lambda name: -groups[name]["n"])
    rows = [figure_row(name, Metric(**groups[name])) for name in order]
    frequent, rest = (
        plain_grid(f"By {kind}", [kind, *FIGURE_COLUMNS], part)
        for part in (rows[:MOST_GROUPS], rows[MOST_GROUPS:])
    )
    return frequent, rest if rest.rows else None


def calibrations(examples: Examples) -> list[tuple[str, Markup, float, Grid]]:
    """Return title, diagram, expected calibration error and table of bins."""
    parts = []
    for number, (title, pair) in enumerate(examples.calibrated.items()):
        error, bins = calibration(*pair)
        rows = [
            [f"{b['low']:.1f} to {b['high']:.1f}", f"{b['n']:,}"]
            + ["–" if mean is None else percent(mean) for mean in (b["confidence"], b["score"])]
            for b in bins
        ]
        columns = ["confidence", "questions", "mean confidence, %", "mean score, %"]
        diagram = reliability_diagram(f"calibration-{number}", title, bins)
        table = plain_grid(f"{title}: bins", columns, rows)
        parts.append((title, diagram, error, table))
    return parts


def mistake_cards(evaluation: Evaluation, examples: Examples) -> tuple[int, list[object]]:
    """Return the number of mistakes, and the cards of the most confident ones."""
    chosen, count = confident_mistakes(
        examples.ids, examples.confidence, examples.score, MOST_MISTAKES
    )
    cards = []
    for index in track(chosen, "pictures", len(chosen)):
        stored = evaluation.data.images[examples.image_rows[index]]
        image = decode(stored["bytes"], f"{evaluation.data.root}: {stored['file_name']}")
        cards.append(examples.card(index, image, stored))
    return count, cards


def curve_charts(runs: Sequence[Path]) -> tuple[list[Path], list[tuple[str, Markup]]]:
    """Return the logs that are missing, and a title and a chart for each kind of curve."""
    curves: Curves = {"loss": {}, "lr": {}, "score": {}}
    missing, splits = [], set[str]()
    for run in runs:
        if not (run / "log.jsonl").is_file():
            missing.append(run / "log.jsonl")
            continue
        own, scored = read_curves(run)
        splits |= scored
        for kind, series in own.items():
            suffix = f" ({run.name})" if len(runs) > 1 else ""
            curves[kind] |= {f"{name}{suffix}": points for name, points in series.items()}
    titles = {
        "loss": "Training loss, on a logarithmic scale",
        "lr": "Learning rate, the largest of the groups",
        "score": f"Score on {', '.join(sorted(splits))}",
    }
    ranges = {"score": (0.0, 1.0)}
    return missing, [
        (
            titles[kind],
            line_chart(kind, titles[kind], series, "step", ranges.get(kind), log=kind == "loss"),
        )
        for kind, series in curves.items()
        if series
    ]


def provenance(evaluation: Evaluation) -> dict[str, str]:
    """Return everything that is needed to trace and repeat the evaluation."""
    record = evaluation.record
    tree = {
        True: "the tree was clean",
        False: "the tree had changes",
        None: "of an installed package",
    }[record.code.get("clean")]
    libraries = ", ".join(f"{name} {version}" for name, version in record.libraries.items())
    processes = f"{record.processes} process{'es' * (record.processes > 1)}"
    data, is_run = record.data, record.kind == "run"
    ways = str(record.model.get("resize", "unknown")).split(" + ")
    return {
        "command": record.command,
        "commit": f"{record.code.get('commit') or 'none'}, {tree}",
        "version": str(record.code.get("version", "unknown")),
        "libraries": libraries,
        "device": f"{record.device}; {processes}, batch {record.batch_size}",
        "precision": precision_of(record) or "unknown",
        "seed": "not known" if record.seed is None else str(record.seed),
        "data": f"{record.data_name}, {evaluation.data.root}, manifest {data['manifest_hash']}",
        "training splits": ", ".join(record.training_splits) or "not known",
        "contaminated": {True: "yes", False: "no", None: "not known"}[record.contaminated],
        "recipe": f"{record.recipe['name']}, hash {record.recipe['hash']}"
        if is_run
        else "none: trained elsewhere",
        "pictures": " + ".join(RESIZES.get(way, way) for way in ways),
        "checkpoint": f"{'model.safetensors' if is_run else record.title}, SHA-256 "
        f"{record.model.get('checkpoint_sha256', 'unknown')}",
        "training": json.dumps(record.training),
        "evaluation": f"{record.seconds:.1f} s",
        "record": f"schema version {record.schema_version}, task version {record.task_version}",
    }
