"""Output files of an evaluation: chosen and checked before it starts, so that nothing is lost."""

from pathlib import Path

from vle_bench.atomic import file_sha256
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.tasks.catalogue import CATALOGUE, JOINED

CHECKPOINTS = ("best", "last")  # the two of a run folder


def refuse_existing(path: Path, option: str = "--output") -> None:
    """Refuse to write over a file.

    Raises:
        RequestError: there is a file or a folder of that name.
    """
    if path.is_dir():
        raise RequestError(f"{path}: is a folder; {option} names the file to write")
    if path.exists() or path.is_symlink():
        raise RequestError(f"{path}: exists already; name another file with {option}, or remove it")


def run_of(checkpoint: Path) -> Path:
    """Return the run folder that a checkpoint folder lies in, or the folder itself."""
    inside = (
        not (checkpoint / "recipe.yaml").is_file() and (checkpoint.parent / "recipe.yaml").is_file()
    )
    return checkpoint.parent if inside else checkpoint


def is_own(record: Path, run: Path, task: str, split: str) -> bool:
    """Return whether a record is the run folder's own record of that task and split."""
    return (run / "results" / f"{task}.{split}.json").absolute() == record.absolute()


def predictions_file(record: Path, run: Path, task: str, split: str) -> Path:
    """Return the file of the predictions that a record is computed from.

    It is `predictions/<task>.<split>.jsonl` for the run folder's own record,
    `results/<task>.<split>.json`, and `DIR/x.predictions.jsonl` for any other record `DIR/x.json`.
    """
    if is_own(record, run, task, split):
        return run / "predictions" / f"{task}.{split}.jsonl"
    return record.with_name(f"{record.stem}.predictions.jsonl")


def check_record_output(record: Path, run: Path, weights: Path, task: str, split: str) -> None:
    """Refuse to replace the record, or the predictions, of other weights.

    In a run folder an evaluation of the same weights may be repeated, and may replace the record of
    weights that the run has since replaced. Anywhere else nothing is replaced.

    Args:
        run: the folder of the evaluation's own record.
        weights: the file of the weights to evaluate.

    Raises:
        RequestError: a file is in the way.
    """
    if not is_own(record, run, task, split):
        refuse_existing(record)
        refuse_existing(predictions_file(record, run, task, split))
    elif record.exists() and weights.is_file():
        try:
            before = load_record(record).model.get("checkpoint_sha256")
        except RequestError as error:
            raise RequestError(
                f"{error}; name another file with --output, or remove this one"
            ) from error
        if before == file_sha256(weights):
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
