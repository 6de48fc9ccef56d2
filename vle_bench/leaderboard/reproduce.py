"""A published score against what was measured of its recipe."""

from dataclasses import dataclass
from pathlib import Path

from vle_bench.data.sources import KNOWN
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Expect, Record, load_record
from vle_bench.leaderboard.experiments import Experiment, experiments
from vle_bench.metrics.rounding import percent
from vle_bench.recipe.load import default_run_folder, load_recipe
from vle_bench.recipe.schema import Recipe


@dataclass(frozen=True)
class Measured:
    """The runs of one recipe on one data; `files` holds the record of each, `stated` what each expected when it was measured."""

    experiment: Experiment  # with what is expected now
    files: tuple[Path, ...]
    stated: tuple[Expect | None, ...]


def measured(what: str, root: Path) -> list[Measured]:
    """The records of a run, or of every seed of a recipe, on the split whose published score the recipe states.

    Several entries where the data or the task's version differ between records: those are never put into one mean.

    Args:
        root: the leaderboards folder; of a recipe `runs/<its name>` is looked at too.

    Raises:
        RequestError: nothing is expected, or nothing is measured; names the command that measures.
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
    found = {
        path: record
        for path, record in records.items()
        if record.split == expect.split
        and record.task == recipe.task
        and (run or is_of(record, recipe))
    }
    counted = {path: record for path, record in found.items() if not record.contaminated}
    if not counted:
        raise RequestError(f"{what}: {why_nothing(what, run, recipe, expect, list(found))}")
    for path, record in counted.items():
        if expect.metric not in record.metrics:
            raise RequestError(
                f"{path}: has no metric {expect.metric!r}, which {what} expects; it has {', '.join(record.metrics)}"
            )
    return grouped(without_copies(counted, expect.metric), recipe, expect)


def is_of(record: Record, recipe: Recipe) -> bool:
    """Records of schema versions 1 and 2 do not know their experiment; the hash knows the seed too."""
    if "experiment" in record.recipe:
        return record.recipe["experiment"] == recipe.experiment
    return record.recipe["hash"] == recipe.hash


def without_copies(found: dict[Path, Record], metric: str) -> dict[Path, Record]:
    """A checkpoint counts once: its record lies in the run's folder, and in the leaderboards where it was taken in."""
    first: dict[tuple[object, str], Path] = {}
    for path, record in found.items():
        seen = first.setdefault(
            (record.model.get("checkpoint_sha256", path), record.data["manifest_hash"]), path
        )
        if found[seen].metrics[metric].value != record.metrics[metric].value:
            raise RequestError(
                f"{seen} and {path}: two scores of one checkpoint on the same data; name the run that is meant"
            )
    return {path: found[path] for path in first.values()}


def grouped(found: dict[Path, Record], recipe: Recipe, expect: Expect) -> list[Measured]:
    known = {"experiment": recipe.experiment}
    records = {
        path: record.model_copy(update={"expect": expect, "recipe": record.recipe | known})
        for path, record in found.items()
    }
    path_of = {id(record): path for path, record in records.items()}
    result = []
    for group in experiments(records.values()):
        files = tuple(path_of[id(record)] for record in group)
        result.append(
            Measured(
                Experiment(group, expect.metric), files, tuple(found[path].expect for path in files)
            )
        )
    return result


def why_nothing(
    what: str, run: Path | None, recipe: Recipe, expect: Expect, contaminated: list[Path]
) -> str:
    if contaminated:
        return f"only contaminated records, which never count: {', '.join(map(str, contaminated))}; train on other splits"
    folder = run or default_run_folder(recipe)
    steps = [] if run else [f"vle-bench train {what}"]
    if expect.split in KNOWN[recipe.data.source][1]:
        steps += [
            f"vle-bench predict {folder} --split test --output vqa_test.json",
            f"vle-bench evaluate {folder} --split {expect.split} --server-result FILE",
        ]
        how = f"only the server scores it; FILE is its answer to vqa_test.json: {'; '.join(f'`{step}`' for step in steps)}"
    else:
        if run or expect.split != recipe.data.report:  # which training ends with
            steps.append(f"vle-bench evaluate {folder} --split {expect.split}")
        how = f"it comes with {'; '.join(f'`{step}`' for step in steps)}"
    return (
        f"{expect.metric} on {expect.split} is expected, and nothing is measured there yet: {how}"
    )


def report_lines(found: Measured) -> list[str]:
    """Published, measured, each seed, the difference: percent and points."""
    experiment, first = found.experiment, found.experiment.first
    assert first.expect is not None
    lines = [
        f"{first.recipe['name']}: {experiment.metric} on {first.split} of {first.data['source']} ({first.n:,} questions), percent",
        f"published    {first.expect.value}   {first.expect.source}",
        f"measured     {percent(experiment.mean)}   {experiment.show_seeds()}",
    ]
    for record, path, stated in zip(experiment.records, found.files, found.stated, strict=True):
        metric = record.metrics[experiment.metric]
        between = (
            f"   ({percent(metric.interval[0])} to {percent(metric.interval[1])})"
            if metric.interval
            else ""
        )
        lines.append(
            f"  seed {record.seed:<5} {percent(metric.value)}{between}   {path}, {made_by(record)}"
        )
        if stated not in (None, first.expect):
            lines.append(f"    measured when {stated.value} ± {stated.tolerance} was expected")
    return [*lines, f"difference   {experiment.show_difference()}"]


def made_by(record: Record) -> str:
    commit, clean = record.code.get("commit"), record.code.get("clean")
    if commit is None:
        return f"vle-bench {record.code.get('version', 'of an unknown version')}"
    return f"commit {commit[:12]}" + ("" if clean else " with uncommitted changes")
