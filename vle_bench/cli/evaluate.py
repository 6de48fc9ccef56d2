"""Commands on a trained checkpoint: evaluate, predict, report, compare."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vle_bench.analysis.compare import comparison_lines
from vle_bench.cli.environment import is_first_process, print_rows, quiet_libraries
from vle_bench.errors import RequestError

OtherRun = Annotated[
    Path | None,
    typer.Option("--with", metavar="RUN", help="VCR: the run of the other task, QA2R for Q2A"),
]


def evaluate(
    checkpoint: Annotated[Path, typer.Argument(help="a run folder or a checkpoint folder")],
    recipe: Annotated[
        str | None,
        typer.Option(help="recipe that names the data; the checkpoint's own if not given"),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="split to score; the recipe's `report` if not given")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="result record to write")] = None,
    other: OtherRun = None,
    server_result: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="vqav2, --split test-dev: the result file of the challenge's server",
        ),
    ] = None,
) -> None:
    """Score a checkpoint on a split with labels.

    Prints the scores and writes the result record and the predictions. `evaluate Q2A_RUN --with QA2R_RUN` joins the predictions
    of two VCR runs, both evaluated before, by annot_id: Q2AR. With --server-result the scores are the server's, and no model runs.
    """
    if server_result is not None and (split is None or other is not None):
        raise RequestError(
            "evaluate: --server-result goes with --split test-dev, and without --with"
        )
    loaded = recipe_of(checkpoint, recipe)
    quiet_libraries()
    from accelerate import Accelerator

    from vle_bench.evaluation.evaluate import evaluate_checkpoint
    from vle_bench.evaluation.vcr_join import join_vcr

    chosen = split or loaded.data.report
    run = checkpoint if (checkpoint / "recipe.yaml").is_file() else checkpoint.parent
    target = (
        output or run / "results" / f"{loaded.task if other is None else 'vcr_q2ar'}.{chosen}.json"
    )
    if server_result is not None:
        from vle_bench.evaluation.server_result import record_server_result

        root = Path(loaded.data.root)
        record = record_server_result(
            checkpoint, root, chosen, server_result, target, accelerator=Accelerator()
        )
    elif other is not None:
        record = join_vcr(run, other, chosen, target, accelerator=Accelerator())
    else:
        record = evaluate_checkpoint(
            checkpoint, Path(loaded.data.root), chosen, target, accelerator=Accelerator()
        )
    if is_first_process():
        print_record(record)
        print(f"written: {target}")


def report(
    run: Annotated[Path, typer.Argument(help="a run folder")],
    split: Annotated[
        str | None,
        typer.Option(help="split that was evaluated; the recipe's `report` if not given"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="page to write; RUN/report.<task>.<split>.html if not given")
    ] = None,
    other: OtherRun = None,
    data: Annotated[Path | None, typer.Option(help="the prepared data, where it has moved")] = None,
) -> None:
    """Where a run errs, on one HTML page.

    Scores by what questions are like, calibration, confusion, the 50 most confident mistakes with their pictures, learning curves,
    recipe and provenance; from the record and the predictions that `evaluate` wrote.
    """
    quiet_libraries()
    from vle_bench.analysis.report import write_report

    print(f"written: {write_report(run, split, output, other, data)}")


def recipe_of(checkpoint: Path, recipe: str | None) -> Any:
    """The recipe that is named, else the one that was trained with."""
    from vle_bench.recipe.load import load_recipe

    if not checkpoint.is_dir():
        raise RequestError(f"{checkpoint}: no such folder")
    source = recipe or next(
        (
            str(p)
            for p in (checkpoint / "recipe.yaml", checkpoint.parent / "recipe.yaml")
            if p.is_file()
        ),
        None,
    )
    if source is None:
        raise RequestError(f"{checkpoint}: no recipe.yaml beside it; name the recipe with --recipe")
    return load_recipe(source, [])


def predict(
    checkpoint: Annotated[Path, typer.Argument(help="a run folder or a checkpoint folder")],
    split: Annotated[str, typer.Option(help="split to answer; it needs no labels")],
    output: Annotated[Path, typer.Option(help="results file to write; must not exist yet")],
    recipe: Annotated[
        str | None,
        typer.Option(help="recipe that names the data; the checkpoint's own if not given"),
    ] = None,
    other: OtherRun = None,
) -> None:
    """Answer a split in the official submission format.

    VCR's file holds the answers of one run and the rationales of another: `predict Q2A_RUN --with QA2R_RUN`; a run of
    vcr_joint has both.
    """
    if output.exists():
        raise RequestError(
            f"{output}: exists already; name another file with --output, or remove it"
        )
    loaded = recipe_of(checkpoint, recipe)
    quiet_libraries()
    from accelerate import Accelerator

    from vle_bench.evaluation.evaluate import predict_checkpoint

    root = Path(loaded.data.root)
    count, source = predict_checkpoint(
        checkpoint, root, split, output, accelerator=Accelerator(), other=other
    )
    if is_first_process():
        print(f"written: {output} ({count:,} answers, each question of {split} once)")
        if source == "vqav2" and split != "test":
            print(
                "The VQA v2 server wants every question of test2015 answered, for test-dev too: --split test"
            )


def print_record(record: Any) -> None:
    print(
        f"\n{record.model['name']} on {record.split} of {record.data['source']}, {record.n:,} examples"
    )
    print_rows(
        [(name, metric.value, metric.interval, metric.n) for name, metric in record.metrics.items()]
    )
    for kind, groups in record.breakdown.items():
        print(f"by {kind}")
        print_rows(
            [
                (f"  {name}", metric.value, metric.interval, metric.n)
                for name, metric in groups.items()
            ]
        )
    if record.contaminated:
        print(
            f"contaminated: {record.split} shares images with the training splits; this score is never ranked"
        )


def compare(
    run_a: Annotated[Path, typer.Argument(help="a run folder")],
    run_b: Annotated[Path, typer.Argument(help="another, evaluated on the same questions")],
    split: Annotated[
        str | None,
        typer.Option(help="split that both were evaluated on; the recipes' `report` if not given"),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="the prepared data, where it has moved")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object, fractions unrounded")
    ] = False,
) -> None:
    """Whether two runs differ: B minus A on the same questions.

    The difference with a 95 % interval from a paired bootstrap over images, McNemar's exact test for VCR, the same by kind of
    question, and the examples that changed most; from the records and predictions that `evaluate` wrote.
    """
    from vle_bench.analysis.compare import compare_runs

    found = compare_runs(run_a, run_b, split, data)
    for run, record in zip(found.runs, found.records, strict=True):
        if record.contaminated:
            warning = f"CONTAMINATED: {run} was trained on images of {record.split}; what it gains there says nothing of other data"
            print(warning, file=sys.stderr if as_json else sys.stdout)
    print(
        json.dumps(found.as_json(), ensure_ascii=False)
        if as_json
        else "\n".join(comparison_lines(found))
    )
