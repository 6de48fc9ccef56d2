"""`vle-bench study`: plan the models, train them a core each, write records and tables."""

from collections.abc import Sequence
from pathlib import Path

from vle_bench import atomic
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.shapes_captions import PROBED, prepare_shapes_captions
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.demo.jobs import Jobs
from vle_bench.demo.runs import prepare_pixels
from vle_bench.leaderboard.render import write_tables
from vle_bench.leaderboard.study import COMPARISONS, FAMILIES, FOLDER
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.study.claims import as_values, compare_claims
from vle_bench.study.models import StudyModel
from vle_bench.study.rows import ROWS, TRANSFERS, Row, trainings
from vle_bench.study.start import common_tokenizer, write_start

OFFICIAL = "-official"  # after the folder of shapes-captions: its files in Visual Genome's form


def prepare_data(overrides: list[str]) -> tuple[dict[str, Recipe], dict[str, Path]]:
    """Prepare the data that are not there yet.

    Returns:
        The recipes by name, as they are shipped; and the folder of the probes of each split.
    """
    names = (*FAMILIES, *TRANSFERS)
    recipes = {name: load_recipe(f"study/{name}", overrides) for name in names}
    captions = Path(recipes[next(iter(FAMILIES))].data.root)
    official = captions.with_name(captions.name + OFFICIAL)
    vcr, easy = (Path(recipes[name].data.root) for name in ("q2a", "easy_vqa"))
    if not (captions / "manifest.json").exists():
        prepare_shapes_captions(captions, seed=0, source=official)
    if not (vcr / "manifest.json").exists():
        prepare_shapes_vcr(vcr, seed=0)
    if not (easy / "manifest.json").exists():
        prepare_easy_vqa(easy)
    for recipe in recipes.values():
        prepare_pixels(recipe)
    return recipes, {split: official / split for split in PROBED}


def plan(folder: Path, seeds: int, overrides: list[str]) -> list[StudyModel]:
    """Prepare data and starts; return the models, all rows of a seed before the next seed."""
    recipes, probes = prepare_data(overrides)
    tokenizer = common_tokenizer([recipes[name] for name in (next(iter(FAMILIES)), *TRANSFERS)])
    models = []
    for seed in range(seeds):
        starts = {}
        for family in FAMILIES:
            recipe = load_recipe(f"study/{family}", [*overrides, f"train.seed={seed}"])
            starts[family] = write_start(recipe, tokenizer, folder / "starts")
        for row in ROWS:
            own = folder / row.name / f"seed-{seed}"
            jobs = trainings(row, seed, starts[row.family], own, overrides)
            models.append(StudyModel(row, seed, own, jobs, probes))
    return models


def run_study(
    folder: Path,
    board: Path,
    seeds: int,
    at_once: int,
    rows: Sequence[Row] = ROWS,
    overrides: Sequence[str] = (),
) -> list[Path]:
    """Train what is not trained yet; write records, comparisons and the tables of `board`.

    Returns:
        The files of the leaderboards folder that changed.
    """
    models = plan(folder, seeds, list(overrides))
    chosen = [model for model in models if model.row in rows]
    with Jobs(at_once) as running:
        running.add(chosen)
        running.finish(chosen)
    return write_results([model for model in models if model.is_finished()], board)


def write_results(models: Sequence[StudyModel], board: Path) -> list[Path]:
    """Put the records of the models and their comparisons into the leaderboards folder."""
    for model in models:
        target = board / FOLDER / f"{model.row.name}.seed-{model.seed}.json"
        atomic.write_bytes(target, model.record.read_bytes())
    atomic.write_json(board / FOLDER / COMPARISONS, as_values(compare_claims(models)))
    return write_tables(board)
