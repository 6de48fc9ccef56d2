"""Commands for the leaderboards: `table` and `reproduce`."""

from pathlib import Path
from typing import Annotated

import typer

from vle_bench.errors import RequestError, RunFailed


def reproduce(
    what: Annotated[
        str,
        typer.Argument(metavar="RECIPE|RUN", help="a recipe, with all of its records, or a run"),
    ],
    root: Annotated[
        Path, typer.Option(help="leaderboards folder, for the records of a recipe")
    ] = Path("leaderboards"),
) -> None:
    """Compare the measured score with the published one.

    `expect` of the recipe states the published score and the tolerance. The exit status is 0 within
    the tolerance, 1 outside of it, and 2 where nothing can be said.
    """
    from vle_bench.leaderboard.reproduce import measured, report_lines

    results = measured(what, root)
    print("\n".join(line for result in results for line in report_lines(result)))
    if not all(result.experiment.inside for result in results):
        differences = "; ".join(result.experiment.show_difference() for result in results)
        raise RunFailed(f"{what}: not reproduced: {differences} points")


def table(
    formats: Annotated[
        str | None,
        typer.Option("--format", help="some of md,csv,tex,html,figures; all if not given"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="write nothing; exit status 1 if a file would change")
    ] = False,
    root: Annotated[Path, typer.Option(help="leaderboards folder")] = Path("leaderboards"),
    add: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="first add the record of a run, of a published checkpoint or of predictions, or "
            "a record file, and say where it stands",
        ),
    ] = None,
    if_new: Annotated[
        bool,
        typer.Option("--if-new", help="with --add: skip a record that is there, same figures"),
    ] = False,
) -> None:
    """Render leaderboards/ from the records.

    Takes the published figures from published.yaml.

    A record is added once and never replaced. A record with another number of examples than its
    split, or of a run that is already there, is refused. A record whose split was trained on, or
    whose code is in no commit, is marked.
    """
    from vle_bench.leaderboard.records import add_record
    from vle_bench.leaderboard.render import FORMATS, write_tables
    from vle_bench.leaderboard.standing import standing

    chosen = list(FORMATS) if formats is None else [name.strip() for name in formats.split(",")]
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise RequestError(f"table: --format: {', '.join(unknown)}: not among {', '.join(FORMATS)}")
    if add and check:
        raise RequestError("table: --check writes nothing and --add does; give only one of them")
    for source in add or ():
        path, marks = add_record(source, root, if_new)
        print(f"in the tables: {path}" + (f" ({'; '.join(marks)})" if marks else ""))
        print("\n".join(standing(path, root)))
    changed = write_tables(root, chosen, check=check)
    if check and changed:
        raise RunFailed("out of date: " + ", ".join(map(str, changed)) + "; run `vle-bench table`")
    for path in changed:
        print(f"written: {path}")
    if not changed:
        print(f"{root}: up to date")
