"""A model of the study as one job: its trainings one after the other, its probes, its record."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accelerate import Accelerator

from vle_bench import atomic
from vle_bench.analysis.read import read_curves
from vle_bench.data.prepared import read_manifest
from vle_bench.demo.jobs import Job
from vle_bench.demo.runs import run_once
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Record
from vle_bench.evaluation.vcr_join import join_vcr
from vle_bench.json_files import JsonObject, read_json
from vle_bench.leaderboard.study import StudyRecord
from vle_bench.metrics.numbers import Figure
from vle_bench.models import pretrained
from vle_bench.study.probes import run_probes
from vle_bench.study.rows import PASSES, PRETRAINING, TRANSFERS, Row
from vle_bench.tasks.catalogue import JOINED

RECORD = "study.json"  # of a model, in its folder
FIRST_SPLIT = "val"  # whose probes have the plain names


@dataclass(frozen=True)
class StudyModel:
    """A model: a row and a seed; a job of `demo.jobs`.

    Args:
        trainings: by name, in their order.
        probes: split → folder with the pictures of its probes.
    """

    row: Row
    seed: int
    folder: Path
    trainings: dict[str, Job]
    probes: dict[str, Path]

    @property
    def name(self) -> str:
        return f"{self.row.name} {self.seed}"

    @property
    def log(self) -> Path:
        return self.folder / "output.txt"

    @property
    def steps(self) -> int:
        return sum(job.steps for job in self.trainings.values())

    def step(self) -> int:
        return sum(job.step() for job in self.trainings.values())

    @property
    def record(self) -> Path:
        return self.folder / RECORD

    def is_finished(self) -> bool:
        """Tell whether its record is there, of these very recipes and data."""
        if not self.record.is_file():
            return False
        content: JsonObject = read_json(self.record)
        return (content.get("recipes"), content.get("data")) == (self.recipes(), self.data())

    def recipes(self) -> dict[str, str]:
        return {name: job.recipe.hash for name, job in self.trainings.items()}

    def data(self) -> dict[str, str]:
        """Return the manifest hash of the data of each training."""
        return {
            name: read_manifest(Path(job.recipe.data.root) / "manifest.json").hash
            for name, job in self.trainings.items()
        }

    def run(self) -> None:
        """Train, probe and write the record; what is finished is not done again.

        Raises:
            RequestError: a training of the folder is of other data.
        """
        if self.is_finished():
            return
        records = {}
        for name, job in self.trainings.items():
            records[name] = run_once(job.recipe, job.folder)
            if records[name].data["manifest_hash"] != self.data()[name]:
                raise RequestError(
                    f"{job.folder}: trained on other data than are in {job.recipe.data.root} now; "
                    "remove the folder, or name another one for the study"
                )
        record = self.content(records, self.join(records["q2a"].split), self.probe())
        atomic.write_json(self.record, record.model_dump(mode="json"))

    def join(self, split: str) -> Record:
        """Join the two trainings on VCR's form: Q2AR."""
        q2a, qa2r = (self.trainings[name].folder for name in ("q2a", "qa2r"))
        output = q2a / "results" / f"{JOINED}.{split}.json"
        return join_vcr(q2a, qa2r, split, output, accelerator=Accelerator())

    def probe(self) -> dict[str, Figure]:
        """Run the probes of the objectives on every split; those of others than val end in it."""
        if PRETRAINING not in self.trainings:
            return {}
        checkpoint = pretrained.resolve(self.trainings[PRETRAINING].folder)
        return {
            name if split == FIRST_SPLIT else f"{name}_{split}": value
            for split, folder in self.probes.items()
            for name, value in run_probes(checkpoint, folder, self.row.objectives).items()
        }

    def content(
        self, records: Mapping[str, Record], joined: Record, probes: Mapping[str, Figure]
    ) -> StudyRecord:
        """Put together what the trainings and the probes have shown."""
        last = records["q2a"]
        transfer = {"easy_vqa": records["easy_vqa"].metrics["accuracy"], **joined.metrics}
        values = {
            "family": self.row.family,
            "objectives": list(self.row.objectives),
            "seed": self.seed,
            "probes": dict(probes),
            "transfer": {name: metric.model_dump() for name, metric in transfer.items()},
            "curves": {name: curve_of(self.trainings[name].folder) for name in TRANSFERS},
            "steps": {name: job.steps for name, job in self.trainings.items()},
            "passes": PASSES if self.row.objectives else 0,
            "recipes": self.recipes(),
            "data": self.data(),
            "parameters": last.model["parameters"],
            "seconds": sum(record.training.get("seconds", 0) for record in records.values()),
            "device": last.device,
            "code": last.code,
            "libraries": last.libraries,
        }
        return StudyRecord.model_validate(values)


def curve_of(run: Path) -> list[tuple[int, float]]:
    """Return (step, accuracy) of every evaluation of a training."""
    curves, _ = read_curves(run)
    return [(int(step), value) for step, value in curves["score"]["accuracy"]]
