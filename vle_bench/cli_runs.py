"""The commands that read what runs have left: compare and reproduce. `cli` gives them their place."""

import json
import sys
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.errors import RunFailed
from vle_bench.rounding import percent, signed

if TYPE_CHECKING:
    from vle_bench.compare import Comparison
    from vle_bench.metrics.paired import Difference
    from vle_bench.results import Record


def compare(
    run_a: Annotated[Path, typer.Argument(help="a run folder")],
    run_b: Annotated[Path, typer.Argument(help="another, evaluated on the same questions")],
    split: Annotated[str | None, typer.Option(help="split that both were evaluated on; the recipes' `report` if not given")] = None,
    data: Annotated[Path | None, typer.Option(help="the prepared data, where it has moved")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object, fractions unrounded")] = False,
) -> None:
    """Whether two runs differ: B minus A on the same questions.

    The difference with a 95 % interval from a paired bootstrap over images, McNemar's exact test for VCR, the same by kind of
    question, and the examples that changed most; from the records and predictions that `evaluate` wrote.
    """
    from vle_bench.compare import compare_runs
    from vle_bench.published_checkpoint import evaluation_folder

    found = compare_runs(evaluation_folder(run_a), evaluation_folder(run_b), split, data)
    for run, record in zip(found.runs, found.records, strict=True):
        if record.contaminated:
            warning = f"CONTAMINATED: {run} was trained on images of {record.split}; what it gains there says nothing of other data"
            print(warning, file=sys.stderr if as_json else sys.stdout)
    print(json.dumps(found.as_json()) if as_json else "\n".join(comparison_lines(found)))


def comparison_lines(found: "Comparison") -> list[str]:
    from vle_bench.metrics.paired import METHOD

    first = found.records[0]
    lines = [f"{first.task} on {first.split} of {first.data['source']}: {first.n:,} questions on {found.images:,} images, percent"]
    for letter, run, record in zip("AB", found.runs, found.records, strict=True):
        scores = []
        for name in found.metrics:
            low, high = record.metrics[name].interval or (None, None)
            between = f" ({percent(low)} to {percent(high)})" if low is not None and high is not None else ""
            scores.append(f"{name} {percent(record.metrics[name].value)}{between}")
        lines.append(f"{letter}: {run}, {made_by(record)}: {', '.join(scores)}")
    lines += ["", f"{'':28} {'n':>9} {'A':>7} {'B':>7} {'B − A':>8}   95 % interval     p"]
    lines += [difference_line(name, difference) for name, difference in found.metrics.items()]
    for kind, groups in found.kinds.items():
        lines += [f"by {kind}", *(difference_line(f"  {name}", difference) for name, difference in groups.items())]
    for name, test in found.mcnemar.items():
        lines.append(f"McNemar, exact, {name}: only A right {test.only_a:,}, only B right {test.only_b:,}, p {test.p:.2g}")
    lines += ["", METHOD[0].upper() + METHOD[1:] + "."]
    if len(found.kinds):
        lines.append("The p of a kind is not corrected for there being several.")
    lines += ["", "No example's score changed." if not found.changed else f"The {len(found.changed)} that changed most:"]
    for row in found.changed:
        lines.append(f"{row['id']}: {percent(row['score_a'])} → {percent(row['score_b'])}   {row['question']}")
        lines.append(f"    truth: {row['truth']}   A: {row['prediction_a']}   B: {row['prediction_b']}")
    return lines


def made_by(record: "Record") -> str:
    if record.kind == "elsewhere":
        return f"checkpoint {record.title} {record.identity[:8]}, trained elsewhere"
    return f"recipe {record.recipe['name']} {record.recipe['hash']}, seed {record.seed}"


def difference_line(name: str, found: "Difference") -> str:
    between = f"{points(0, found.interval[0])} to {points(0, found.interval[1])}" if found.interval else "one image"
    p = f"{found.p:.2g}" if found.p is not None else ""
    line = f"{name:28} {found.n:9,} {percent(found.a):>7} {percent(found.b):>7} {points(found.a, found.b):>8}   {between:16}  {p}"
    return line.rstrip()


def points(a: float, b: float) -> str:
    """The difference of two fractions as they are printed, with two decimals."""
    return signed(100 * (Decimal(repr(b)) - Decimal(repr(a))), 2)


def reproduce(
    what: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="a recipe, whose records are looked for, or a run folder")],
    root: Annotated[Path, typer.Option(help="the leaderboards folder, for records of a recipe")] = Path("leaderboards"),
) -> None:
    """The published score against the measured one.

    `expect` of the recipe says what was published, and how far from it counts as reproduced. Exit status 0 inside of the
    tolerance, 1 outside, 2 where nothing can be said.
    """
    from vle_bench.reproduce import measured, report_lines

    found = measured(what, root)
    print("\n".join(line for one in found for line in report_lines(one)))
    if not all(one.experiment.inside for one in found):
        raise RunFailed(f"{what}: not reproduced: {'; '.join(one.experiment.show_difference() for one in found)} points")
