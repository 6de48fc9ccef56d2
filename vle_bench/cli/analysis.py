"""Commands about finished evaluations: `report` and `compare`."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from vle_bench.progress import quiet_libraries

OtherRun = Annotated[
    Path | None,
    typer.Option("--with", metavar="RUN", help="VCR: the run of the other task, QA2R for Q2A"),
]


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
        Path | None, typer.Option(help="prepared data, if moved, or if no recipe names them")
    ] = None,
) -> None:
    """Write one HTML page about the errors of a run.

    Shows scores by kind of question, calibration, confusions, the 50 most confident mistakes with
    their pictures, learning curves, recipe and provenance, from the record and the predictions that
    `evaluate` wrote.
    """
    from vle_bench.evaluation.request import refuse_existing

    if output is not None:
        refuse_existing(output)
    quiet_libraries()
    from vle_bench.analysis.report import write_report
    from vle_bench.evaluation.request import evaluation_folder

    folder = evaluation_folder(run)
    other_folder = None if other is None else evaluation_folder(other)
    print(f"written: {write_report(folder, split, output, other_folder, data)}")


def compare(
    run_a: Annotated[Path, typer.Argument(help="a run folder")],
    run_b: Annotated[Path, typer.Argument(help="another, evaluated on the same questions")],
    split: Annotated[
        str | None,
        typer.Option(help="split that both were evaluated on; the recipes' `report` if not given"),
    ] = None,
    data: Annotated[Path | None, typer.Option(help="prepared data, if moved")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="print one JSON object, fractions unrounded")
    ] = False,
) -> None:
    """Test whether two runs differ.

    Prints the difference, B minus A on the same questions, with a 95 % interval from a paired
    bootstrap over images, McNemar's exact test for VCR, the same by kind of question, and the
    examples that changed most, from the records and predictions that `evaluate` wrote.
    """
    from vle_bench.analysis.compare import compare_runs, comparison_lines
    from vle_bench.evaluation.request import evaluation_folder

    comparison = compare_runs(evaluation_folder(run_a), evaluation_folder(run_b), split, data)
    for run, record in zip(comparison.runs, comparison.records, strict=True):
        if record.contaminated:
            trained = f"{run} was trained on images of {record.split}"
            warning = f"CONTAMINATED: {trained}; its gain there does not carry over to other data"
            print(warning, file=sys.stderr if as_json else sys.stdout)
    if as_json:
        print(json.dumps(comparison.as_json()))  # ASCII, whatever the terminal's encoding
    else:
        print("\n".join(comparison_lines(comparison)))
