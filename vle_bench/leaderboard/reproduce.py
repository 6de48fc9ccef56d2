"""Compare the published score of a recipe with the measured ones."""

from dataclasses import dataclass
from pathlib import Path

from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Expect, Record, load_record, precision_of
from vle_bench.leaderboard.experiments import Experiment, experiments
from vle_bench.metrics.numbers import percent, percent_range
from vle_bench.recipe.load import default_run_folder, load_recipe
from vle_bench.recipe.schema import Recipe


@dataclass(frozen=True)
class Measured:
    """The runs of one recipe on one data set.

    Args:
        experiment: with the published score of the recipe as it is now.
        files: the record of each run.
        stated: the published score in each record.
    """

    experiment: Experiment
    files: tuple[Path, ...]
    stated: tuple[Expect | None, ...]


def measured(what: str, root: Path) -> list[Measured]:
    """Return the records of a run or of all seeds of a recipe, on the published score's split.

    There is an entry for each data set and version of the task: these are never averaged.

    Args:
        what: a recipe or a run folder.
        root: the leaderboards folder; for a recipe, `runs/<its name>` is searched too.

    Raises:
        RequestError: no score is published, or none is measured; names the command that measures.
    """
    run = Path(what) if Path(what).is_dir() else None
    if run is not None and not (run / "recipe.yaml").is_file():
        raise RequestError(
            f"{what}: has no recipe.yaml; the folder of a run is expected, or a recipe"
        )
    recipe = load_recipe(str(run / "recipe.yaml") if run else what)
    if recipe.expect is None:
        raise RequestError(
            f"{what}: the recipe has no `expect`: it states no published score to reproduce"
        )
    expect = Expect(**recipe.expect.model_dump())
    folder = run or default_run_folder(recipe)
    files = [
        *(() if run else sorted(root.glob("results/*/*.json"))),
        *sorted(folder.glob("results/*.json")),
    ]
    records = {path: load_record(path) for path in files}
    matching = {
        path: record
        for path, record in records.items()
        if record.kind == "run"
        and not record.transferred
        and record.split == expect.split
        and record.task == recipe.task
        and (run or is_of(record, recipe))
    }
    counted = {path: record for path, record in matching.items() if not record.contaminated}
    if not counted:
        raise RequestError(f"{what}: {why_nothing(what, run, recipe, expect, list(matching))}")
    for path, record in counted.items():
        if expect.metric not in record.metrics:
            raise RequestError(
                f"{path}: has no metric {expect.metric!r}, which {what} expects; "
                f"it has {', '.join(record.metrics)}"
            )
    return grouped(without_copies(counted, expect.metric), recipe, expect)


def is_of(record: Record, recipe: Recipe) -> bool:
    """Tell whether a record is of a recipe, whatever the seed.

    Records of schema versions 1 and 2 have only the hash, which depends on the seed.
    """
    if "experiment" in record.recipe:
        return record.recipe["experiment"] == recipe.experiment
    return record.recipe["hash"] == recipe.hash


def without_copies(records: dict[Path, Record], metric: str) -> dict[Path, Record]:
    """Drop second records of a checkpoint: it may be in the run's folder and in leaderboards/."""
    first: dict[tuple[object, ...], Path] = {}
    for path, record in records.items():
        checkpoint = record.model.get("checkpoint_sha256", path)
        seen = first.setdefault((checkpoint, record.data["manifest_hash"], record.precision), path)
        if records[seen].metrics[metric].value != record.metrics[metric].value:
            raise RequestError(
                f"{seen} and {path}: two scores of one checkpoint on the same data; "
                "name the run that is meant"
            )
    return {path: records[path] for path in first.values()}


def grouped(originals: dict[Path, Record], recipe: Recipe, expect: Expect) -> list[Measured]:
    """Return records as experiments, all with the recipe's published score as it is now."""
    known = {"experiment": recipe.experiment}
    records = {
        path: record.model_copy(update={"expect": expect, "recipe": record.recipe | known})
        for path, record in originals.items()
    }
    path_of = {id(record): path for path, record in records.items()}
    result = []
    for group in experiments(records.values()):
        files = tuple(path_of[id(record)] for record in group)
        stated = tuple(originals[path].expect for path in files)
        result.append(Measured(Experiment(group, expect.metric), files, stated))
    return result


def why_nothing(
    what: str, run: Path | None, recipe: Recipe, expect: Expect, contaminated: list[Path]
) -> str:
    """Explain why no record counts, and name the commands that make one."""
    if contaminated:
        files = ", ".join(map(str, contaminated))
        return f"only contaminated records, which never count: {files}; train on other splits"
    folder = run or default_run_folder(recipe)
    steps = [] if run else [f"vle-bench train {what}"]
    if expect.split in SOURCES[recipe.data.source].unlabelled:
        steps += [
            f"vle-bench predict {folder} --split test --output vqa_test.json",
            f"vle-bench evaluate {folder} --split {expect.split} --server-result FILE",
        ]
        how = "only the server scores it; FILE is its answer to vqa_test.json:"
    else:
        # training ends with an evaluation of the reported split
        if run or expect.split != recipe.data.report:
            steps.append(f"vle-bench evaluate {folder} --split {expect.split}")
        how = "it comes with"
    commands = "; ".join(f"`{step}`" for step in steps)
    return (
        f"{expect.metric} on {expect.split} is expected, and nothing is measured there yet: "
        f"{how} {commands}"
    )


def report_lines(result: Measured) -> list[str]:
    """Return the lines of the command: published score, measured mean, seeds and difference."""
    experiment, first = result.experiment, result.experiment.first
    assert first.expect is not None
    details = ", ".join(filter(None, (experiment.show_seeds(), precision_of(first))))
    lines = [
        f"{first.recipe['name']}: {experiment.metric} on {first.split} of {first.data['source']} "
        f"({first.n:,} questions), percent",
        f"published    {first.expect.value}   {first.expect.source}",
        f"measured     {percent(experiment.mean)}   {details}",
    ]
    for record, path, stated in zip(experiment.records, result.files, result.stated, strict=True):
        metric = record.metrics[experiment.metric]
        between = f"   ({percent_range(metric.interval)})" if metric.interval else ""
        score = f"{percent(metric.value)}{between}"
        lines.append(f"  seed {record.seed:<5} {score}   {path}, {made_by(record)}")
        if stated not in (None, first.expect):
            lines.append(f"    measured when {stated.value} ± {stated.tolerance} was expected")
    return [*lines, f"difference   {experiment.show_difference()}"]


def made_by(record: Record) -> str:
    """Return the commit that scored, or the version of an installed package."""
    commit, clean = record.code.get("commit"), record.code.get("clean")
    if commit is None:
        return f"vle-bench {record.code.get('version', 'of an unknown version')}"
    return f"commit {commit[:12]}" + ("" if clean else " with uncommitted changes")
