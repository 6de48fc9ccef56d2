"""The commands that read what runs have left: compare and reproduce. `cli` gives them their place."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vle_bench.errors import RequestError, RunFailed

if TYPE_CHECKING:
    pass


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN", help="a recipe, whose records are looked for, or a run folder"
        ),
    ],
    root: Annotated[
        Path, typer.Option(help="the leaderboards folder, for records of a recipe")
    ] = Path("leaderboards"),
) -> None:
    """The published score against the measured one.

    `expect` of the recipe says what was published, and how far from it counts as reproduced. Exit status 0 inside of the
    tolerance, 1 outside, 2 where nothing can be said.
    """
    from vle_bench.leaderboard.reproduce import measured, report_lines

    found = measured(what, root)
    print("\n".join(line for one in found for line in report_lines(one)))
    if not all(one.experiment.inside for one in found):
        raise RunFailed(
            f"{what}: not reproduced: {'; '.join(one.experiment.show_difference() for one in found)} points"
        )


def table(
    formats: Annotated[
        str | None,
        typer.Option("--format", help="md,csv,tex,html,figures, or some of them; all if not given"),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="write nothing; exit 1 if a file would change")
    ] = False,
    root: Annotated[Path, typer.Option(help="the leaderboards folder")] = Path("leaderboards"),
    add: Annotated[
        list[Path] | None,
        typer.Option(metavar="RUN", help="take in a run's record, or a record file, first"),
    ] = None,
    if_new: Annotated[
        bool,
        typer.Option("--if-new", help="with --add: pass over what is there, with the same figures"),
    ] = False,
) -> None:
    """Regenerate leaderboards/ from published.yaml and the records.

    A record is taken in once and never replaced. One of another number of examples than its split has, or of a run that is there
    already, is refused; one whose split was trained on, or of code that is in no commit, is marked.
    """
    from vle_bench.leaderboard.records import add_record
    from vle_bench.leaderboard.render import FORMATS, write_tables

    chosen = list(FORMATS) if formats is None else [name.strip() for name in formats.split(",")]
    if unknown := [name for name in chosen if name not in FORMATS]:
        raise RequestError(f"table: --format: {', '.join(unknown)}: not among {', '.join(FORMATS)}")
    if add and check:
        raise RequestError("table: --check writes nothing, --add does: one of the two")
    for source in add or ():
        path, marks = add_record(source, root, if_new)
        print(f"in the tables: {path}" + (f" ({'; '.join(marks)})" if marks else ""))
    changed = write_tables(root, chosen, check=check)
    if check and changed:
        raise RunFailed("out of date: " + ", ".join(map(str, changed)) + "; run `vle-bench table`")
    for path in changed:
        print(f"written: {path}")
    if not changed:
        print(f"{root}: up to date")
