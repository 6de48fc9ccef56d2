"""The command `study`."""

from pathlib import Path
from typing import Annotated

import typer

from vle_bench.errors import RequestError
from vle_bench.progress import quiet_libraries


def study(
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="[key=value]...", help="keys to change in all of its recipes"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=100, help="seeds of each model")] = 3,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME,...", help="models, such as vle-scratch,vle-mlm-itm-pbc-mpc"),
    ] = None,
    output_dir: Annotated[Path, typer.Option(help="folder of the runs")] = Path("runs/study"),
    root: Annotated[Path, typer.Option(help="leaderboards folder")] = Path("leaderboards"),
) -> None:
    """Measure what VLE claims over METER, in small models on a CPU.

    Pre-trains VLE-tiny and METER-tiny with every set of objectives on drawn scenes, probes them,
    fine-tunes them on easy-VQA and shapes-VCR, and writes records, tables and a figure. Each model
    is trained on one core, as many at a time as there are. The same command goes on after an
    interruption.
    """
    quiet_libraries()
    from vle_bench.demo.jobs import at_once
    from vle_bench.study.rows import ROWS
    from vle_bench.study.run import run_study

    rows = {row.name: row for row in ROWS}
    chosen = list(rows) if only is None else [name.strip() for name in only.split(",")]
    if unknown := [name for name in chosen if name not in rows]:
        raise RequestError(f"study: --only: {unknown[0]!r}: not among {', '.join(rows)}")
    changed = run_study(
        output_dir, root, seeds, at_once(), [rows[name] for name in chosen], overrides or []
    )
    for path in changed:
        print(f"written: {path}")
