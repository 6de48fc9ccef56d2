"""The dataset, the task and the recipe of docs/develop.md, built in a copy of the package."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vle_bench.data.prepared import open_prepared

ROOT = Path(__file__).parents[2]
DEVELOP = (ROOT / "docs" / "develop.md").read_text(encoding="utf-8")
COMMANDS = (
    "prepare pets --source pets --output data/pets",
    "validate recipes/pets/vqa-exact.yaml",
    "train recipes/pets/vqa-exact.yaml train.max_steps=2 train.batch_size=4 "
    "train.per_device_batch_size=4 train.num_workers=0",
)
WRONG = (
    "prepare pets --source broken --output data/broken",
    "prepare pets --source empty --output data/empty",
    "prepare pets --source unanswered --output data/unanswered",
    "prepare pets --source outside --output data/outside",
)
# One process for all commands: importing torch takes longer than all of their work.
SCRIPT = """
import contextlib, io, json, sys
from vle_bench.cli.app import main
done = []
for command in {!r}:
    sys.argv[1:] = command.split()
    shown, status = io.StringIO(), 0
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
    done.append([status, shown.getvalue()])
print(json.dumps(done))
"""


def test_the_functions_of_the_tour_are_there() -> None:
    tour = re.findall(r"^\| `(\S+\.py)`: `([\w.]+)` \|", DEVELOP, re.MULTILINE)
    assert len(tour) > 10
    for path, function in tour:
        tree = ast.parse((ROOT / "vle_bench" / path).read_text(encoding="utf-8"))
        for name in function.split("."):
            (tree,) = [node for node in tree.body if getattr(node, "name", None) == name]


def examples() -> dict[str, str]:
    """What the first line of a block names -> the rest of the block."""
    blocks = re.findall(r"```(?:python|yaml)\n# (.+?)\n(.*?)```", DEVELOP, re.DOTALL)
    return dict(blocks)


def build(folder: Path) -> None:
    """Copy the package and write the document's files into the copy."""
    # With the compiled modules: Python takes those whose source is the same.
    shutil.copytree(ROOT / "vle_bench", folder / "vle_bench")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    for place, text in examples().items():
        name, comma, table = place.partition(", in ")
        file = folder / name
        if comma:  # a row: first in its table
            before = file.read_text(encoding="utf-8")
            start = re.search(rf"(?m)^{table}: .* = {{\n", before)
            assert start is not None, f"{name} has no {table}"
            after = before[: start.end()] + text + before[start.end() :]
            file.write_text(after, encoding="utf-8")
        else:
            assert not file.exists(), f"{name} is in the package already"
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")


def write_pets(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    for color in ("red", "blue", "green", "white"):
        Image.new("RGB", (32, 32), color).save(folder / "images" / f"{color}.png")
    for split, colors in (("train", ("red", "blue", "green")), ("val", ("white", "red"))):
        records = [
            {"image": f"{color}.png", "question": question, "answer": answer}
            for color in colors
            for question, answer in (("what color?", color), ("is there a cat?", "no"))
        ]
        (folder / f"{split}.json").write_text(json.dumps(records), encoding="utf-8")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("develop")
    build(folder)
    write_pets(folder / "pets")
    records = json.loads((folder / "pets" / "val.json").read_text(encoding="utf-8"))
    empty = {"image": "red.png", "question": " ", "answer": "no"}
    unanswered = empty | {"question": "what color?", "answer": ""}
    outside = unanswered | {"image": "../red.png", "answer": "red"}
    for name, wrong in (
        ("broken", [*records, {"image": "red.png"}]),
        ("empty", [empty]),
        ("unanswered", [unanswered]),
        ("outside", [outside]),
    ):
        shutil.copytree(folder / "pets", folder / name)
        (folder / name / "val.json").write_text(json.dumps(wrong), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def outputs(work: Path) -> dict[str, tuple[int, str]]:
    """Run the commands with the copy of the package; their status and output."""
    commands = (*COMMANDS, *WRONG)
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(commands)],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(work), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    done = json.loads(process.stdout.splitlines()[-1])
    return {command: tuple(one) for command, one in zip(commands, done, strict=True)}


def test_a_dataset_is_two_files_and_eighty_lines() -> None:
    files = {
        place: text for place, text in examples().items() if "pets" in text and "/data/" in place
    }
    assert len(files) == 2
    assert sum(len(text.splitlines()) for text in files.values()) <= 80


def test_the_dataset_and_the_task_train_and_are_scored(
    work: Path, outputs: dict[str, tuple[int, str]]
) -> None:
    assert [outputs[command][0] for command in COMMANDS] == [0, 0, 0], outputs
    shown = "".join(outputs[command][1] for command in COMMANDS)
    assert "written: data/pets" in shown and "vqa-exact.yaml: valid, hash" in shown
    assert "# missing" not in shown
    assert "val                  4 questions" in shown and " 75.00 %" in shown
    run_folder = work / "runs" / "pets-vqa-exact"
    record = json.loads((run_folder / "results" / "vqa_exact.val.json").read_text(encoding="utf-8"))
    assert record["n"] == 4 and list(record["metrics"]) == ["exact"]
    lines = (
        (run_folder / "predictions" / "vqa_exact.val.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    )
    questions = open_prepared(work / "data" / "pets").questions("val")
    truths = dict(zip(questions["question_id"], questions["multiple_choice_answer"], strict=True))
    answers = {row["id"]: row["answer"] for row in map(json.loads, lines)}
    assert answers.keys() == truths.keys()
    exact = np.mean([answers[i] == truth for i, truth in truths.items()])
    assert record["metrics"]["exact"]["value"] == exact


@pytest.mark.usefixtures("outputs")
def test_the_prepared_tables_hold_every_column(work: Path) -> None:
    data = open_prepared(work / "data" / "pets")
    assert data.labels == ["no", "blue", "green", "red"]
    train, val = (data.questions(name).to_list() for name in ("train", "val"))
    for rows, colors in ((train, ("red", "blue", "green")), (val, ("white", "red"))):
        names = {row["image_id"]: row for row in data.images}
        asked = {
            (names[r["image_id"]]["file_name"], r["question"]): r["multiple_choice_answer"]
            for r in rows
        }
        assert asked == {
            (f"{color}.png", question): answer
            for color in colors
            for question, answer in (("what color?", color), ("is there a cat?", "no"))
        }
        assert all(row["answers"] == [row["multiple_choice_answer"]] * 10 for row in rows)
        assert all(data.images[r["image_row"]]["image_id"] == r["image_id"] for r in rows)
    labels = {row["multiple_choice_answer"]: row["label_ids"] for row in (*train, *val)}
    assert labels == {"no": [0], "blue": [1], "green": [2], "red": [3], "white": []}
    assert {row["answer_type"] for row in train} == {"yes/no", "other"}


def test_a_wrong_record_of_the_dataset_is_one_line(
    work: Path, outputs: dict[str, tuple[int, str]]
) -> None:
    problems = (
        "val.json: record 4: has no 'question'",
        "val.json: record 0: question: empty",
        "val.json: record 0: answer: empty",
        "val.json: image '../red.png' names no file below outside/images",
    )
    for command, problem in zip(WRONG, problems, strict=True):
        status, shown = outputs[command]
        assert status == 2 and problem in shown and "Traceback" not in shown
        assert not (work / command.split()[-1]).exists()
