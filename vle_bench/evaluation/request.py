"""A request to score a checkpoint, and the files to write: checked before any work. No torch."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vle_bench.atomic import file_sha256
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Record, load_record
from vle_bench.json_files import read_json
from vle_bench.tasks.catalogue import CATALOGUE, JOINED

if TYPE_CHECKING:
    from vle_bench.models.vle.processing import Resize

CHECKPOINTS = ("best", "last")  # the two of a run folder
# Of checkpoints from elsewhere, in the current folder: nothing is written into theirs.
RESULTS = Path("results")
OTHER = "@"  # before the name of data that are not those of the training
NO_NAME = r"[^\w.-]+"  # characters that records refuse in names
EVALUATION_BATCH_SIZE = 128


@dataclass(frozen=True)
class Asked:
    """Settings given on the command line for a checkpoint from elsewhere; None: as in its folder.

    Args:
        task: needed only where config.json names no architecture, or it answers several tasks.
        max_text_length: tokens.
        resize: how a picture becomes the model's square; see `VLEProcessor`.
        trained_on: splits of the data, such as `train+val`; None: not known.
        model: a family of `vle_bench.model_families`; a checkpoint of another one is refused.
        protocol: one of the family's ways of asking.
        prompt: the text around a question, with `{question}` in it.
        answers: file of the answers to choose from.
    """

    task: str | None = None
    max_text_length: int | None = None
    resize: "Resize | None" = None
    trained_on: str | None = None
    model: str | None = None
    protocol: str | None = None
    prompt: str | None = None
    answers: Path | None = None

    @property
    def options(self) -> dict[str, str | int | None]:
        """The settings by the names of their options."""
        return {
            "--task": self.task,
            "--max-text-length": self.max_text_length,
            "--resize": self.resize,
            "--trained-on": self.trained_on,
            "--model": self.model,
            "--protocol": self.protocol,
            "--prompt": self.prompt,
            "--answers": None if self.answers is None else str(self.answers),
        }

    def refuse(self, folder: Path, task: str) -> None:
        """Refuse settings for a checkpoint of ours, which has them; its task may be repeated."""
        if self.task not in (None, task):
            raise RequestError(f"{folder}: was trained for {task}, not for --task {self.task}")
        given = [name for name, value in self.options.items() if value is not None]
        if named := [name for name in given if name not in ("--task", "--model")]:
            said = "whose training.json says it"
            raise RequestError(f"{folder}: a checkpoint of vle-bench, {said}; leave {named[0]} out")

    def changes(self) -> str:
        """Name the settings that differ from the folder's, for the record; empty if none do.

        A prompt and a list of answers are named by the start of their SHA-256: they are long.
        """
        given = {
            "resize": self.resize,
            "max_text_length": self.max_text_length,
            "protocol": self.protocol,
            "prompt": self.prompt and hashlib.sha256(self.prompt.encode()).hexdigest()[:8],
            "answers": self.answers and file_sha256(self.answers)[:8],
        }
        return ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)


AS_SAVED = Asked()


@dataclass(frozen=True)
class Request:
    """A request to score a checkpoint: data, split and settings.

    Args:
        checkpoint: a run folder, or a `from_pretrained` folder.
        num_workers: processes that load pictures; the scores do not depend on it.
        precision: to score in; the one of the training if not given.
        asked: for a checkpoint from elsewhere, the settings that its folder does not hold.
    """

    checkpoint: Path
    data_root: Path
    split: str
    num_workers: int = 0
    batch_size: int = EVALUATION_BATCH_SIZE
    precision: str | None = None
    asked: Asked = AS_SAVED


def refuse_existing(path: Path, option: str = "--output") -> None:
    """Refuse to write over a file.

    Raises:
        RequestError: there is a file or a folder of that name.
    """
    if path.is_dir():
        raise RequestError(f"{path}: is a folder; {option} names the file to write")
    if path.exists() or path.is_symlink():
        raise RequestError(f"{path}: exists already; name another file with {option}, or remove it")


def name_of(folder: Path) -> str:
    """Return the folder's name without characters that records refuse.

    A snapshot in the hub's cache has the name of its repository.
    """
    path = folder.resolve()
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        path = Path(path.parent.parent.name.split("--")[-1])
    return re.sub(NO_NAME, "-", path.name, flags=re.ASCII).strip("-._") or "checkpoint"


def evaluation_folder(path: Path) -> Path:
    """Return the folder of a checkpoint's records and predictions.

    It is the folder of its run, or `results/NAME` for a checkpoint from elsewhere.

    Args:
        path: a run, a checkpoint folder, or such a folder of records itself.
    """
    for run in (path, path.parent):
        if (run / "recipe.yaml").is_file():
            return run
    return RESULTS / name_of(path) if (path / "config.json").is_file() else path


def record_file(run: Path, task: str, split: str, other_data: str | None) -> Path:
    """Return the record of an evaluation that is given no other file.

    Args:
        other_data: the name of the data if they are not those that the model was trained on.
    """
    data = "" if other_data is None else f"{OTHER}{re.sub(NO_NAME, '-', other_data, flags=re.A)}"
    return run / "results" / f"{task}.{split}{data}.json"


def is_own(record: Path, run: Path, task: str, split: str) -> bool:
    """Return whether a record is the run folder's own of that task and split, of any data."""
    split_of = record.stem.partition(OTHER)[0]
    return (run / "results").absolute() == record.parent.absolute() and (
        record.suffix == ".json" and split_of == f"{task}.{split}"
    )


def predictions_file(record: Path, run: Path, task: str, split: str) -> Path:
    """Return the file of the predictions that a record is computed from.

    It is `predictions/<task>.<split>.jsonl` for the run folder's own record,
    `results/<task>.<split>.json`, also with `@<data>` before the ending for other data than those
    of the training, and `DIR/x.predictions.jsonl` for any other record `DIR/x.json`.
    """
    if is_own(record, run, task, split):
        return run / "predictions" / f"{record.stem}.jsonl"
    return record.with_name(f"{record.stem}.predictions.jsonl")


def check_record_output(
    record: Path, run: Path, weights: Path, task: str, request: Request
) -> None:
    """Refuse to replace the record, or the predictions, of other weights or other data.

    In a run folder an evaluation of the same weights may be repeated, and may replace the record of
    weights that the run has since replaced. Anywhere else nothing is replaced.

    Args:
        run: the folder of the evaluation's own record.
        weights: the file of the weights to evaluate.

    Raises:
        RequestError: a file is in the way.
    """
    if not is_own(record, run, task, request.split):
        refuse_existing(record)
        refuse_existing(predictions_file(record, run, task, request.split))
    elif (there := to_be_replaced(record)) and weights.is_file():
        before = there.model.get("checkpoint_sha256")
        if before == file_sha256(weights):
            refuse_other_data(record, there, request.data_root)
            return
        others = [run / name / weights.name for name in CHECKPOINTS]
        kept = [
            other.parent for other in others if other.is_file() and file_sha256(other) == before
        ]
        if kept or not (run / "recipe.yaml").is_file():
            of = str(kept[0]) if kept else "other weights"
            raise RequestError(
                f"{record}: is the record of {of}, not of {weights.parent}; name another file with "
                "--output"
            )


def check_joined_output(record: Path, run: Path, other: Path, split: str) -> None:
    """Refuse to replace the record of two VCR runs, unless it is of the same weights.

    Args:
        run: the run of question to answer, which holds the record.
        other: the run of answer to rationale.
    """
    if not is_own(record, run, JOINED, split):
        refuse_existing(record)
        return
    parts = [
        folder / "results" / f"{task}.{split}.json"
        for folder, task in zip((run, other), CATALOGUE[JOINED].halves, strict=True)
    ]
    if record.exists() and all(part.is_file() for part in parts):
        digests = [str(load_record(part).model.get("checkpoint_sha256")) for part in parts]
        if load_record(record).model.get("checkpoint_sha256") != " + ".join(digests):
            raise RequestError(
                f"{record}: is the record of other weights; name another file with --output, or "
                "remove it"
            )


def refuse_other_data(record: Path, there: Record, data_root: Path) -> None:
    """Refuse to replace the record of other data; a folder that is no prepared data passes."""
    manifest = data_root / "manifest.json"
    now = read_json(manifest) if manifest.is_file() else None
    before = there.data.get("manifest_hash")
    if isinstance(now, dict) and before not in (None, now.get("hash")):
        raise RequestError(
            f"{record}: exists already and is of other data than {data_root}; name another file "
            "with --output"
        )


def to_be_replaced(record: Path) -> Record | None:
    """Return the record that an evaluation would replace; None if there is none."""
    try:
        return load_record(record) if record.exists() else None
    except RequestError as error:
        raise RequestError(
            f"{error}; name another file with --output, or remove this one"
        ) from error
