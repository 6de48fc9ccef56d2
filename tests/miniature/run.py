"""Run folders as `train` and `evaluate` leave them, without a model: made-up predictions, scored by the task itself."""

import json
from pathlib import Path
from typing import Any

from tests.miniature.vcr import write_vcr
from tests.miniature.vqav2 import change, write_vqav2
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.evaluation.record import SCHEMA_VERSION, Record, ids_digest
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.predictions import Prediction

HOSTILE = "<script>alert(\"1\")</script> don\ue000t & 'say' \u202eabc, שלום?"  # markup, private use, an override, Hebrew


def prepare_vqa(folder: Path) -> Path:
    """The miniature VQA v2, where a question of val and one of its annotators are hostile."""
    official = write_vqav2(folder / "official")
    change(
        official / "v2_OpenEnded_mscoco_val2014_questions.json",
        lambda content: content["questions"][1].update(question=HOSTILE),
    )
    change(
        official / "v2_mscoco_val2014_annotations.json",
        lambda content: hostile_answer(content["annotations"][-2]),
    )
    prepare_vqav2(official, folder / "data")
    return folder / "data"


def hostile_answer(annotation: dict[str, Any]) -> None:
    annotation["answers"][9]["answer"] = "<img src=x onerror=alert(2)>"


def prepare_miniature_vcr(folder: Path) -> Path:
    prepare_vcr(write_vcr(folder / "official"), folder / "data")
    return folder / "data"


def vqa_rows(root: Path, split: str = "val") -> list[dict[str, Any]]:
    """Every third question gets its most frequent answer, the others one that nobody gave; confidences in steps of a hundredth."""
    labels = open_prepared(root).labels
    rows = []
    for k, row in enumerate(open_prepared(root).questions(split)):
        right = row["label_ids"][0] if k % 3 == 0 and row["label_ids"] else None
        label = right if right is not None else k % len(labels)
        answer = labels[label] if right is not None else f"nobody's answer {k % 4}"
        rows.append(
            {
                "id": row["question_id"],
                "answer": answer,
                "label": label,
                "score": (k * 7 % 100) / 100,
            }
        )
    return rows


def vcr_rows(root: Path, parts: tuple[str, ...], split: str = "val") -> list[dict[str, Any]]:
    """Every second choice is right, the others one place further; confidences of 0.3 and more."""
    rows = []
    for k, row in enumerate(open_prepared(root).questions(split)):
        found: dict[str, Any] = {"id": row["annot_id"]}
        for n, part in enumerate(parts):
            right = row["answer_label" if part == "q2a" else "rationale_label"]
            chosen = right if (k + n) % 2 else (right + 1) % 4
            sure = 0.3 + (k * 17 + n * 31) % 60 / 100
            scores = [(1 - sure) / 3] * 4
            scores[chosen] = sure
            found |= {part: chosen, f"{part}_scores": scores}
        rows.append(found)
    return rows


def write_run(
    folder: Path,
    recipe: str,
    overrides: list[str],
    root: Path,
    rows: list[dict[str, Any]],
    changes: dict[str, Any],
) -> Path:
    """Recipe, log, predictions and record; changes: of the record's fields."""
    loaded, split = load_recipe(recipe, [*overrides, f"data.root={root}"]), "val"
    task = load_task(loaded.task)
    data = task.open(root)
    predictions = [Prediction.from_row(row) for row in rows]
    scores = task.score(predictions, data.questions(split))
    values = {
        "schema_version": SCHEMA_VERSION,
        "task": task.name,
        "task_version": task.version,
        "split": split,
        "n": scores.n,
        "ids_sha256": ids_digest(row["id"] for row in rows),
        "metrics": scores.metrics,
        "primary_metric": task.primary_metric,
        "breakdown": scores.breakdown,
        "recipe": {"name": loaded.name, "hash": loaded.hash},
        "training_splits": ["train"],
        "contaminated": False,
        "model": {
            "name": loaded.name,
            "parameters": 425421,
            "checkpoint_sha256": "c0ffee" + loaded.task,
        },
        "data": {"source": data.manifest.source, "manifest_hash": data.manifest.hash},
        "seed": 0,
        "code": {"version": "0.1.0", "commit": "abc1234", "clean": True},
        "libraries": {"python": "3.11"},
        "device": "cpu, 1 thread",
        "processes": 1,
        "batch_size": 128,
        "seconds": 1.5,
        "training": {"split": "other", "steps": 40},
        "command": "vle-bench train x",
    }
    record = Record.model_validate(values | changes)
    for name in ("results", "predictions"):
        (folder / name).mkdir(parents=True)
    (folder / "recipe.yaml").write_text(loaded.to_yaml(), encoding="utf-8")
    log = [
        {"step": s, "epoch": 0, "loss": 2.0 / s, "lr": s / 1e5, "seconds": s} for s in range(1, 41)
    ]
    log += [{"step": s, "split": "val", "seconds": s, "accuracy": s / 80} for s in (20, 40)]
    (folder / "log.jsonl").write_text(
        "".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8"
    )
    (folder / "results" / f"{task.name}.{split}.json").write_text(
        json.dumps(record.model_dump(mode="json")), encoding="utf-8"
    )
    (folder / "predictions" / f"{task.name}.{split}.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    return folder


VQA = ["data.source=vqav2", "data.evaluate=val-minival", "data.report=val", "data.first_stage=null"]
VCR = ["data.source=vcr"]


def vqa_run(folder: Path, root: Path, **changes: Any) -> Path:
    return write_run(folder, "demo/vqa-tiny", VQA, root, vqa_rows(root), changes)


def vcr_run(folder: Path, root: Path, task: str, **changes: Any) -> Path:
    parts = {"vcr_q2a": ("q2a",), "vcr_qa2r": ("qa2r",), "vcr_joint": ("q2a", "qa2r")}[task]
    return write_run(
        folder, "demo/vcr-q2a-tiny", [*VCR, f"task={task}"], root, vcr_rows(root, parts), changes
    )


def write_training(checkpoint: Path, data: Path, task: str) -> None:
    """Write the training.json of a checkpoint that was trained on `data`."""
    training = {
        "task": task,
        "recipe": {"name": "small", "hash": "0" * 16},
        "seed": 0,
        "inputs": {"max_text_length": 24},
        "data_root": str(data),
        "training_splits": ["train"],
        "progress": {},
    }
    (checkpoint / "training.json").write_text(json.dumps(training), encoding="utf-8")
