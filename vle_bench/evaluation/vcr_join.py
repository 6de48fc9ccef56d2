"""Q2AR of two VCR runs."""

import sys
import time
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from vle_bench import atomic
from vle_bench.errors import RequestError
from vle_bench.evaluation.evaluate import joined
from vle_bench.evaluation.record import SCHEMA_VERSION, Metric, Record, load_record
from vle_bench.json_files import jsonl_records
from vle_bench.models import pretrained
from vle_bench.tasks import load_task


def join_vcr(
    answers: Path,
    rationales: Path,
    split: str,
    output: Path,
    *,
    accelerator: Accelerator,
    data_root: Path | None = None,
) -> Record:
    """Q2AR of two runs from the predictions that `evaluate_checkpoint` wrote for each; writes the record to `output`.

    Args:
        answers, rationales: the folders that hold results/ and predictions/: of runs, or of checkpoints from elsewhere.
        data_root: the prepared data; the run's own if not given.

    Raises:
        RequestError: a run was not evaluated on the split, its predictions are not those of its record, or the two were
            evaluated on different data.
    """
    started = time.monotonic()
    q2a, qa2r = (
        evaluated(run, name, split)
        for run, name in ((answers, "vcr_q2a"), (rationales, "vcr_qa2r"))
    )
    for (one, rows), other in ((q2a, qa2r), (qa2r, q2a)):
        if one.data != other[0].data:
            raise RequestError(
                f"{answers} and {rationales}: evaluated on different data; evaluate both on the same"
            )
        if missing := {row["id"] for row in rows} - {row["id"] for row in other[1]}:
            raise RequestError(
                f"{answers} and {rationales}: {len(missing)} annot_ids are in one only, such as {min(missing)!r}"
            )
    if data_root is None and q2a[0].kind == "elsewhere":
        raise RequestError(
            f"{answers}: of a checkpoint from elsewhere: --data DIR names the prepared data that it was scored on"
        )
    root = data_root or Path(
        pretrained.read_json(pretrained.resolve(answers) / pretrained.TRAINING_FILE)["data_root"]
    )
    task = load_task("vcr_joint")
    data = task.open(root)
    if data.manifest.hash != q2a[0].data["manifest_hash"]:
        raise RequestError(
            f"{root}: other data than {answers} was evaluated on; --data DIR names another folder"
        )
    questions = data.questions(split)
    rows = [{**one, **two} for one, two in zip(q2a[1], qa2r[1], strict=True)]
    scores = task.score(rows, questions)
    for name, (record, _) in (("q2a", q2a), ("qa2r", qa2r)):
        if scores["metrics"][name]["value"] != record.metrics["accuracy"].value:
            raise RequestError(
                f"{answers} and {rationales}: the predictions of {name} are not those of the record; evaluate again"
            )
    parts = [q2a[0], qa2r[0]]
    elsewhere = any(part.kind == "elsewhere" for part in parts)
    asked = " + ".join(
        part.model.get("asked", "as published") for part in parts if part.kind == "elsewhere"
    )
    record = parts[0].model_copy(
        update={
            "schema_version": SCHEMA_VERSION,
            "task": "vcr_q2ar",
            "task_version": task.version,
            "primary_metric": "q2ar",
            "expect": None,
            "metrics": {name: Metric(**metric) for name, metric in scores["metrics"].items()},
            "breakdown": {
                kind: {g: Metric(**m) for g, m in groups.items()}
                for kind, groups in scores["breakdown"].items()
            },
            "kind": "elsewhere" if elsewhere else "run",
            "seed": None if elsewhere else parts[0].seed,
            "recipe": {}
            if elsewhere
            else {
                key: " + ".join(part.recipe[key] for part in parts)
                for key in parts[0].recipe
                if key in parts[1].recipe
            },
            # of one unknown part nothing is known of the whole
            "training_splits": sorted({name for part in parts for name in part.training_splits})
            if all(part.training_splits for part in parts)
            else [],
            "contaminated": any(part.contaminated for part in parts),
            "model": {
                "name": " + ".join(part.model["name"] for part in parts),
                "parameters": sum(part.model["parameters"] for part in parts),
                "checkpoint_sha256": " + ".join(part.model["checkpoint_sha256"] for part in parts),
                "resize": " + ".join(
                    dict.fromkeys(part.model.get("resize", "unknown") for part in parts)
                ),
                **({"asked": asked} if any("asked" in part.model for part in parts) else {}),
            },
            "precision": joined(part.precision for part in parts),
            "training": {"seconds": sum(part.training.get("seconds", 0) for part in parts)}
            | {
                key: value
                for key in ("split", "precision")
                if (value := joined(part.training.get(key) for part in parts)) is not None
            },
            "seconds": round(time.monotonic() - started, 2),
            "command": " ".join(["vle-bench", *sys.argv[1:]]),
        }
    )
    if accelerator.is_main_process:
        atomic.write_json(output, record.model_dump(mode="json"))
    return record


def evaluated(run: Path, task: str, split: str) -> tuple[Record, list[dict[str, Any]]]:
    """The record and the predictions, ordered by id, that an evaluation of a run left in its folder."""
    result, predictions = (
        run / "results" / f"{task}.{split}.json",
        run / "predictions" / f"{task}.{split}.jsonl",
    )
    for path in (result, predictions):
        if not path.is_file():
            ours = (run / "recipe.yaml").is_file()
            what = f"`vle-bench evaluate {run} --split {split}` writes it, for a run of {task}"
            raise RequestError(
                f"{path}: no such file; {what if ours else f'evaluate the checkpoint for {task} on {split} first'}"
            )
    return load_record(result), [row for _, row in jsonl_records(predictions)]
