"""The models of the study, and the trainings of each: values and recipes, no loop."""

from dataclasses import dataclass
from pathlib import Path

from vle_bench.demo.jobs import Job
from vle_bench.leaderboard.study import FAMILIES
from vle_bench.recipe.load import load_recipe

# Batches through the vision encoder in every pre-training: MLM, ITM and PBC share one of the plain
# pictures, and MPC takes one of the blacked ones.
PASSES = 2_000
# Of the losses: at equal weights PBC was still at chance after 300 steps (docs/lab-notes.md).
WEIGHTS = {"mlm": 1, "itm": 1, "pbc": 8, "mpc": 1}
PRETRAINING = "pretraining"
TRANSFERS = ("easy_vqa", "q2a", "qa2r")  # names of recipes and of run folders
ALIGNED = ("q2a", "qa2r")  # those whose words name boxes
PRETRAININGS: tuple[tuple[str, ...], ...] = (
    (),
    ("mlm",),
    ("itm",),
    ("mlm", "itm"),
    ("mlm", "itm", "pbc"),
    ("mlm", "itm", "mpc"),
    ("mlm", "itm", "pbc", "mpc"),
)


@dataclass(frozen=True)
class Row:
    """A kind of model; METER has no alignment of words and boxes, as VLE's authors compare it."""

    family: str
    objectives: tuple[str, ...]

    @property
    def name(self) -> str:
        return "-".join((self.family, *(self.objectives or ("scratch",))))

    @property
    def steps(self) -> int:
        """Steps of the pre-training that take `PASSES` passes of the vision encoder."""
        passes_a_step = bool(set(self.objectives) - {"mpc"}) + ("mpc" in self.objectives)
        return PASSES // passes_a_step if passes_a_step else 0


ROWS = tuple(Row(family, objectives) for family in FAMILIES for objectives in PRETRAININGS)


def trainings(
    row: Row, seed: int, start: Path, folder: Path, overrides: list[str]
) -> dict[str, Job]:
    """Return the trainings of a model by name: its pre-training, then its fine-tunings.

    Each has a folder with its recipe's hash in its name, so that a changed recipe never goes on
    from, or counts as, what another one has trained.

    Args:
        start: folder of the random weights.
        folder: of the model.
        overrides: of the recipes of all trainings, such as `train.precision=fp32`.
    """
    common = [*overrides, f"train.seed={seed}"]
    jobs: dict[str, Job] = {}
    if row.objectives:
        weights = ", ".join(f"{name}: {WEIGHTS[name]}" for name in row.objectives)
        changes = [
            *(f"name=study-{row.name}", "model.config=null", f"model.checkpoint={start}"),
            f"model.objectives={{{weights}}}",
            *(f"train.max_steps={row.steps}", f"train.evaluate_every={row.steps}"),
        ]
        jobs[PRETRAINING] = job(f"study/{row.family}", [*changes, *common], folder, PRETRAINING)
        start = jobs[PRETRAINING].folder
    for name in TRANSFERS:
        changes = [f"name=study-{row.name}-{name}", f"model.checkpoint={start}"]
        if row.family == "meter" and name in ALIGNED:
            changes.append("model.alignment=off")
        jobs[name] = job(f"study/{name}", [*changes, *common], folder, name)
    return jobs


def job(recipe: str, overrides: list[str], folder: Path, name: str) -> Job:
    loaded = load_recipe(recipe, overrides)
    return Job(loaded, folder / f"{name}-{loaded.hash[:8]}")
