"""Commands for files of any program: `score` and `check-submission`."""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.cli.scores import print_rows
from vle_bench.data.sources import CHECKED, SOURCES
from vle_bench.errors import RequestError, RunFailed
from vle_bench.json_files import JsonObject
from vle_bench.metrics.toolkits import TOOLKITS

if TYPE_CHECKING:
    from vle_bench.evaluation.score_files import ScoredFiles
    from vle_bench.evaluation.submission import Findings
    from vle_bench.metrics.toolkits import Comparison, Difference

SHOWN_EXAMPLES, SHOWN_ANSWERS = 2, 3  # questions of a reason, and different answers of a question
FIRST_IDS = 20  # of a reason, in JSON

score_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
check_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@score_app.command(
    "vqa",
    epilog="Example: vle-bench score vqa --questions Q.json --annotations A.json "
    "--predictions P.json",
)
def score_vqa(
    questions: Annotated[Path, typer.Option(help="official questions file")],
    annotations: Annotated[Path, typer.Option(help="official annotations file")],
    predictions: Annotated[Path, typer.Option(help="results: [{question_id, answer}]")],
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object, fractions in 0..1")
    ] = False,
    per_question: Annotated[
        Path | None, typer.Option(help="file to write, {question_id: fraction}")
    ] = None,
    toolkits: Annotated[
        str | None,
        typer.Option(
            "--as",
            metavar="TOOLKIT",
            help=f"also the accuracy that other toolkits print, and why it differs: all, or some "
            f"of {','.join(TOOLKITS)}",
        ),
    ] = None,
) -> None:
    """Compute the official VQA accuracy, as GT-Vision-Lab's program does.

    Says where the official reader has its own way with the results: of a repeated id it scores the
    last answer, and an id written as 11.0 is 11.
    """
    from vle_bench import atomic
    from vle_bench.evaluation.request import refuse_existing
    from vle_bench.evaluation.score_files import score_vqa_files
    from vle_bench.metrics.vqa import NUMBERED

    chosen = toolkits_named(toolkits)
    if per_question is not None:
        refuse_existing(per_question, "--per-question")
    result = score_vqa_files(questions, annotations, predictions, chosen)
    accuracies = result["per_question"]
    if count := result["numbered"]:
        counted = f"{count:,} question" + "s" * (count > 1)
        print(f"{annotations}: {NUMBERED} ({counted})", file=sys.stderr)
    for note in result["notes"]:
        print(f"{predictions}: {note}", file=sys.stderr)
    if per_question is not None:
        atomic.write_json(per_question, {str(i): value for i, value in accuracies.items()})
        print(f"written: {per_question}", file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(vqa_json(result)))
        return
    import numpy as np

    from vle_bench.metrics.bootstrap import interval

    images = np.array([result["image_of"][i] for i in accuracies])
    bounds = interval(np.array(list(accuracies.values())), images)
    print_rows([("accuracy", result["accuracy"], bounds, result["n"])])
    for kind in (result["per_answer_type"], result["per_question_type"]):
        print_rows([(f"  {name}", value, None, None) for name, value in sorted(kind.items())])
    for name, comparison in result["toolkits"].items():
        print("\n".join(comparison_lines(TOOLKITS[name].title, comparison, result["accuracy"])))


def vqa_json(result: "ScoredFiles") -> JsonObject:
    """Return the object of `score vqa --json`."""
    fields = ("accuracy", "per_answer_type", "per_question_type", "n")
    printed = {name: value for name, value in result.items() if name in fields}
    compared = {
        name: comparison_json(name, comparison) for name, comparison in result["toolkits"].items()
    }
    return printed | ({"as": compared} if compared else {})


def toolkits_named(names: str | None) -> list[str]:
    """Return the toolkits that `--as` names; `all` names every one.

    Raises:
        RequestError: an unknown one.
    """
    chosen = [] if names is None else [name.strip() for name in names.split(",")]
    if chosen == ["all"]:
        return list(TOOLKITS)
    if unknown := [name for name in chosen if name not in TOOLKITS]:
        known = ", ".join(("all", *TOOLKITS))
        raise RequestError(f"--as: {unknown[0]!r} is not among {known}")
    return list(dict.fromkeys(chosen))


def comparison_lines(title: str, comparison: "Comparison", official: float) -> list[str]:
    """Return a toolkit's accuracy, and for each reason its share, its questions and the first."""
    from vle_bench.metrics.numbers import percent, signed_percent

    differing = len(comparison.differences)
    questions = f"{differing:,} of {comparison.n:,} questions differ" if differing else "the same"
    points = f"{signed_percent(comparison.accuracy - official)}; " if differing else ""
    lines = [f"as {title:25} {percent(comparison.accuracy):>6}   ({points}{questions})"]
    for reason, moved in comparison.by_reason().items():
        change = signed_percent(comparison.moved(reason))
        lines.append(f"  {change:>7}  {len(moved):,} question{'s' * (len(moved) > 1)}: {reason}")
        lines += [f"           {example_line(one)}" for one in moved[:SHOWN_EXAMPLES]]
    return lines


def example_line(difference: "Difference") -> str:
    """Describe a question: `262148000: "Yes" for "yes" ×10: 0.00 → 100.00`."""
    from vle_bench.metrics.numbers import percent

    counts = Counter(difference.answers).most_common(SHOWN_ANSWERS)
    answers = ", ".join(f"{json.dumps(a, ensure_ascii=False)} ×{n}" for a, n in counts)
    more = ", ..." if len(set(difference.answers)) > SHOWN_ANSWERS else ""
    given = json.dumps(difference.prediction, ensure_ascii=False)
    scores = f"{percent(difference.official)} → {percent(difference.theirs)}"
    return f"{difference.question_id}: {given} for {answers}{more}: {scores}"


def comparison_json(name: str, comparison: "Comparison") -> dict[str, object]:
    """Return a toolkit's accuracy as JSON: fractions in 0..1, and questions by reason."""
    return {
        "accuracy": comparison.accuracy,
        "source": TOOLKITS[name].source,
        "n_different": len(comparison.differences),
        "reasons": [
            {
                "reason": reason,
                "n": len(moved),
                "change": comparison.moved(reason),
                "question_ids": [one.question_id for one in moved[:FIRST_IDS]],
            }
            for reason, moved in comparison.by_reason().items()
        ],
    }


@score_app.command(
    "vcr",
    epilog="Example: vle-bench score vcr --annotations val.jsonl --predictions leaderboard.csv",
)
def score_vcr(
    annotations: Annotated[Path, typer.Option(help="official JSON-lines file with labels")],
    predictions: Annotated[
        Path, typer.Option(help="leaderboard CSV: annot_id, 4 answer and 16 rationale scores")
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object, fractions in 0..1")
    ] = False,
) -> None:
    """Compute the accuracy of Q2A, QA2R and Q2AR, as the VCR leaderboard does."""
    from vle_bench.evaluation.score_files import score_vcr_files

    result = score_vcr_files(annotations, predictions)
    fractions = {"q2a": result["q2a"], "qa2r": result["qa2r"], "q2ar": result["q2ar"]}
    if as_json:
        print(json.dumps({**fractions, "n": result["n"]}))
        return
    print_rows([(name, value, None, result["n"]) for name, value in fractions.items()])


@check_app.command(
    "vqa", epilog="Example: vle-bench check-submission vqa vqa_test.json --questions Q.json"
)
def check_submission_vqa(
    file: Annotated[Path, typer.Argument(help="results: [{question_id, answer}]")],
    questions: Annotated[
        Path, typer.Option(help="official questions file; the server wants that of test2015")
    ],
) -> None:
    """Check ids and answers: missing or unknown ids, answers that are not strings.

    Warns where the official reader has its own way (a repeated id, an id written as 11.0, an empty
    answer). The exit status is 0 for a file that the server accepts, 1 for one that it rejects, and
    2 for one that cannot be read.
    """
    from vle_bench.evaluation.submission import check_vqa_submission

    print_findings(file, questions, check_vqa_submission(file, questions))


@check_app.command(
    "vcr", epilog="Example: vle-bench check-submission vcr leaderboard.csv --annotations test.jsonl"
)
def check_submission_vcr(
    file: Annotated[
        Path, typer.Argument(help="leaderboard CSV: annot_id, 4 answer and 16 rationale scores")
    ],
    annotations: Annotated[
        Path, typer.Option(help="official JSON-lines file, with labels or without")
    ],
) -> None:
    """Check the header, the scores, and the ids: missing, repeated or unknown.

    The exit status is 0 for a file that the server accepts, 1 for one that it rejects, and 2 for
    one that cannot be read.
    """
    from vle_bench.evaluation.submission import check_vcr_submission

    print_findings(file, annotations, check_vcr_submission(file, annotations))


def add_check_of(source: str) -> None:
    """Add `check-submission SOURCE` for a dataset whose test questions have no labels."""

    def check(
        file: Annotated[Path, typer.Argument(help="results file")],
        questions: Annotated[Path, typer.Option(help="official file of the questions")],
    ) -> None:
        from vle_bench.evaluation.submission import check_submission_of

        print_findings(file, questions, check_submission_of(file, source, questions))

    title = SOURCES[source].title
    check.__doc__ = f"""Check ids and answers of a results file of {title}.

    The exit status is 0 for a file that the server accepts, 1 for one that it rejects, and 2 for
    one that cannot be read.
    """
    example = f"Example: vle-bench check-submission {source} results.json --questions Q.json"
    check_app.command(source, epilog=example)(check)


for checked in CHECKED:
    add_check_of(checked)


def print_findings(file: Path, expected: Path, findings: "Findings") -> None:
    """Print warnings on stderr; raise RunFailed with every problem of a file with problems."""
    for line in findings.warnings:
        print(f"{file}: warning: {line}", file=sys.stderr)
    if findings.problems:
        raise RunFailed("\n  ".join([f"{file}: the server would reject it", *findings.problems]))
    print(f"{file}: fine: {findings.count:,} records, every id of {expected} is there")
