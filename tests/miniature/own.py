"""easy-VQA's questions as a user's own data: CSV, JSONL, Parquet, an imagefolder, a saved dataset."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import easy_vqa
import pyarrow as pa
import pyarrow.parquet as pq

from vle_bench.data.prepared import PreparedData

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "imagefolder", "saved")


def easy_rows(images: int) -> list[dict[str, str]]:
    """Rows of easy-VQA's first training images."""
    texts, answers, image_ids = easy_vqa.get_train_questions()
    paths = easy_vqa.get_train_image_paths()
    chosen = set(sorted(paths)[:images])
    return [
        {"image": str(paths[i]), "question": text, "answer": answer}
        for text, answer, i in zip(texts, answers, image_ids, strict=True)
        if i in chosen
    ]


def choice_rows(images: int) -> list[dict[str, Any]]:
    """The same questions with 2 to 6 choices each; `answer` is the index of the right one."""
    rng = random.Random(0)
    rows, answers = easy_rows(images), easy_vqa.get_answers()
    made = []
    for row in rows:
        others = rng.sample([a for a in answers if a != row["answer"]], rng.randint(1, 5))
        choices = rng.sample([row["answer"], *others], 1 + len(others))
        made.append({**row, "choices": choices, "answer": choices.index(row["answer"])})
    return made


def vcr_rows(data: PreparedData, split: str, folder: Path) -> list[dict[str, Any]]:
    """Questions of VCR's Q2A in the form of one's own, with boxes; writes their pictures."""
    rows = []
    for question in data.questions(split):
        record = json.loads(question["record"])
        image = data.images[question["image_row"]]
        picture = folder / f"{image['image_id']}.png"
        picture.write_bytes(image["bytes"])
        pairs = zip(image["class_names"], image["boxes"], strict=True)
        rows.append(
            {
                "id": record["annot_id"],
                "image": picture.name,
                "question": in_brackets(record["question"]),
                "choices": [in_brackets(choice) for choice in record["answer_choices"]],
                "boxes": [{"name": name, "box": box} for name, box in pairs],
                "answer": record["answer_label"],
            }
        )
    return rows


def in_brackets(tokens: list[str | list[int]]) -> str:
    """A text of VCR with its tags as [0] or [0,1]."""
    return " ".join(t if isinstance(t, str) else f"[{','.join(map(str, t))}]" for t in tokens)


def export(rows: list[dict[str, str]], kind: str, folder: Path) -> Path:
    """Write rows in one of FORMATS, pictures as paths or as bytes; returns the SPEC."""
    folder.mkdir(parents=True, exist_ok=True)
    if kind in ("csv", "tsv"):
        path = folder / f"data.{kind}"
        with open(path, "w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="," if kind == "csv" else "\t")
            writer.writeheader()
            writer.writerows(rows)
        return path
    if kind == "jsonl":
        return write_lines(folder / "data.jsonl", rows)
    if kind == "json":
        path = folder / "data.json"
        path.write_text(json.dumps(rows), encoding="utf-8")
        return path
    if kind == "imagefolder":
        named = []
        for row in rows:
            picture = Path(row["image"])
            (folder / picture.name).write_bytes(picture.read_bytes())
            named.append({**row, "file_name": picture.name})
            del named[-1]["image"]
        write_lines(folder / "metadata.jsonl", named)
        return folder
    with_bytes = [
        {**row, "image": {"bytes": Path(row["image"]).read_bytes(), "path": None}} for row in rows
    ]
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(with_bytes), folder / "data.parquet")
        return folder / "data.parquet"
    import datasets

    dataset = datasets.Dataset.from_list(with_bytes).cast_column("image", datasets.Image())
    dataset.save_to_disk(str(folder / "saved"))
    return folder / "saved"


def write_lines(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
