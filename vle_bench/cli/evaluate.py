"""Commands on a trained checkpoint: evaluate, predict, report, compare."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vle_bench.analysis.compare import comparison_lines
from vle_bench.cli import checkpoints
from vle_bench.cli.environment import is_first_process, print_rows, quiet_libraries
from vle_bench.errors import RequestError
from vle_bench.training.launch import check_launch

OtherRun = Annotated[
    Path | None,
    typer.Option("--with", metavar="RUN", help="VCR: the run of the other task, QA2R for Q2A"),
]

Precision = Annotated[
    str | None,
    typer.Option(
        metavar="fp32|bf16|fp16", help="precision to compute in; that of the training if not given"
    ),
]


def evaluate(
    checkpoint: checkpoints.Checkpoint,
    recipe: checkpoints.RecipeOption = None,
    data: checkpoints.DataOption = None,
    split: Annotated[
        str | None, typer.Option(help="split to score; the recipe's `report` if not given")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            help="result record to write, DIR/x.json; its predictions go to DIR/x.predictions.jsonl"
        ),
    ] = None,
    other: OtherRun = None,
    server_result: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="vqav2, --split test-dev: the result file of the challenge's server",
        ),
    ] = None,
    precision: Precision = None,
    task: checkpoints.TaskOption = None,
    max_text_length: checkpoints.LengthOption = None,
    resize: checkpoints.ResizeOption = None,
    trained_on: checkpoints.TrainedOnOption = None,
    published: checkpoints.PublishedOption = None,
) -> None:
    """Score a checkpoint on a split with labels.

    Prints the scores and writes the result record and the predictions: into the run folder, for a checkpoint that was trained
    elsewhere into results/NAME/ of the current folder, or where --output says. `evaluate Q2A --with QA2R` joins the predictions
    of two VCR checkpoints, both evaluated before, by annot_id: Q2AR. With --server-result the scores are the server's, and no
    model runs.
    """
    if server_result is not None and (split is None or other is not None):
        raise RequestError(
            "evaluate: --server-result goes with --split test-dev, and without --with"
        )
    if precision is not None and other is not None:
        raise RequestError(
            "evaluate: --precision goes with one checkpoint; --with joins what both were evaluated to before"
        )
    wanted = checkpoints.requested(checkpoint, recipe, data, split)
    if published is not None:
        checkpoints.published_lines(
            published, "", ""
        )  # a misspelt name should show before the work
    quiet_libraries()
    from vle_bench.evaluation import outputs
    from vle_bench.evaluation.evaluate import evaluate_checkpoint
    from vle_bench.evaluation.published_checkpoint import (
        evaluation_folder,
        is_elsewhere,
        task_asked,
    )
    from vle_bench.evaluation.vcr_join import join_vcr
    from vle_bench.models.pretrained import resolve

    asked = checkpoints.asked_of(task, max_text_length, resize, trained_on)
    run = evaluation_folder(checkpoint)
    name = "vcr_q2ar" if other is not None else task_asked(checkpoint, asked)
    target = output or run / "results" / f"{name}.{wanted.split}.json"
    if other is not None:
        outputs.check_joined_output(target, run, evaluation_folder(other), wanted.split)
    elif not is_elsewhere(checkpoint):
        outputs.check_record_output(
            target, run, resolve(checkpoint) / "model.safetensors", name, wanted.split
        )
    if server_result is not None:
        from vle_bench.evaluation.server_result import record_server_result

        record = record_server_result(
            checkpoint,
            wanted.data_root,
            wanted.split,
            server_result,
            target,
            accelerator=scoring_accelerator(),
            precision=precision,
            asked=asked,
        )
    elif other is not None:
        root = wanted.data_root if data or recipe else None
        record = join_vcr(
            run,
            evaluation_folder(other),
            wanted.split,
            target,
            accelerator=scoring_accelerator(),
            data_root=root,
        )
    else:
        record = evaluate_checkpoint(
            checkpoint,
            wanted.data_root,
            wanted.split,
            target,
            accelerator=scoring_accelerator(),
            run=run,
            precision=precision,
            asked=asked,
        )
    if is_first_process():
        print_record(record)
        if published is not None:
            print(
                "\n".join(
                    checkpoints.published_lines(published, record.data["source"], record.task)
                )
            )
        print(f"written: {target}")
        if server_result is None and other is None:
            print(f"written: {outputs.predictions_file(target, run, name, wanted.split)}")


def report(
    run: Annotated[
        Path, typer.Argument(help="a run folder, or a checkpoint that was trained elsewhere")
    ],
    split: Annotated[
        str | None,
        typer.Option(help="split that was evaluated; the recipe's `report` if not given"),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="page to write; RUN/report.<task>.<split>.html if not given")
    ] = None,
    other: OtherRun = None,
    data: Annotated[
        Path | None,
        typer.Option(help="the prepared data, where it has moved, or no recipe names it"),
    ] = None,
) -> None:
    """Where a run errs, on one HTML page.

    Scores by what questions are like, calibration, confusion, the 50 most confident mistakes with their pictures, learning curves,
    recipe and provenance; from the record and the predictions that `evaluate` wrote.
    """
    from vle_bench.evaluation.outputs import refuse_existing

    if output is not None:
        refuse_existing(output)
    quiet_libraries()
    from vle_bench.analysis.report import write_report
    from vle_bench.evaluation.published_checkpoint import evaluation_folder

    folder, joined = evaluation_folder(run), None if other is None else evaluation_folder(other)
    print(f"written: {write_report(folder, split, output, joined, data)}")


def scoring_accelerator() -> Any:
    """The processes and the device that score; their precision follows from the checkpoint or --precision.

    Raises:
        RequestError: an accelerate configuration that would change it, as `train` refuses it.
    """
    from accelerate import Accelerator

    check_launch(os.environ)
    return Accelerator()


def predict(
    checkpoint: checkpoints.Checkpoint,
    split: Annotated[str, typer.Option(help="split to answer; it needs no labels")],
    output: Annotated[Path, typer.Option(help="results file to write; must not exist yet")],
    recipe: checkpoints.RecipeOption = None,
    data: checkpoints.DataOption = None,
    other: OtherRun = None,
    precision: Precision = None,
    task: checkpoints.TaskOption = None,
    max_text_length: checkpoints.LengthOption = None,
    resize: checkpoints.ResizeOption = None,
) -> None:
    """Answer a split in the official submission format.

    VCR's file holds the answers of one checkpoint and the rationales of another: `predict Q2A --with QA2R`; a run of vcr_joint has
    both.
    """
    from vle_bench.evaluation.outputs import refuse_existing

    refuse_existing(output)
    wanted = checkpoints.requested(checkpoint, recipe, data, split)
    quiet_libraries()
    from vle_bench.evaluation.evaluate import predict_checkpoint

    asked = checkpoints.asked_of(task, max_text_length, resize, None)
    count, source = predict_checkpoint(
        checkpoint,
        wanted.data_root,
        split,
        output,
        accelerator=scoring_accelerator(),
        other=other,
        precision=precision,
        asked=asked,
    )
    if is_first_process():
        print(f"written: {output} ({count:,} answers, each question of {split} once)")
        if source == "vqav2" and split != "test":
            print(
                "The VQA v2 server wants every question of test2015 answered, for test-dev too: --split test"
            )


def print_record(record: Any) -> None:
    from vle_bench.evaluation.record import precision_of

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
    if record.training.get("precision", record.precision) != record.precision:
        print(f"scored in {precision_of(record)}")
    if record.kind == "elsewhere":
        known = ", ".join(record.training_splits) or "what is not known (--trained-on): not ranked"
        print(f"trained elsewhere, on {known}; {settings_of(record)}")
        if (
            record.task == "vqa"
            and record.processes
            and "soft_score_in_vocabulary" not in record.metrics
        ):
            print(
                "soft_score_in_vocabulary is left out: the data's label map is not the checkpoint's, which the"
            )
            print("accuracy does not need")
    if record.contaminated:
        print(
            f"contaminated: {record.split} shares images with the training splits; this score is never ranked"
        )


def settings_of(record: Any) -> str:
    """What the folder of a checkpoint from elsewhere said, or what was asked for instead."""
    if "pictures" not in record.model:
        return "joined by annot_id"
    asked = f" (asked for: {record.model['asked']})" if "asked" in record.model else ""
    return f"texts of at most {record.model['max_text_length']} tokens, pictures: {record.model['pictures']}{asked}"


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
    from vle_bench.evaluation.published_checkpoint import evaluation_folder

    found = compare_runs(evaluation_folder(run_a), evaluation_folder(run_b), split, data)
    for run, record in zip(found.runs, found.records, strict=True):
        if record.contaminated:
            warning = f"CONTAMINATED: {run} was trained on images of {record.split}; what it gains there says nothing of other data"
            print(warning, file=sys.stderr if as_json else sys.stdout)
    print(json.dumps(found.as_json()) if as_json else "\n".join(comparison_lines(found)))
