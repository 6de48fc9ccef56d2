"""The dataset, the task and the recipe of docs/develop.md, built in a copy of the package."""

import ast
import json
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
# One process for several commands: importing torch takes longer than all of their work.
SCRIPT = """
import sys
from vle_bench.cli.app import main
for command in {!r}:
    sys.argv[1:] = command.split()
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
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
    shutil.copytree(
        ROOT / "vle_bench", folder / "vle_bench", ignore=shutil.ignore_patterns("__pycache__")
    )
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


def run(*commands: str, folder: Path, code: int = 0) -> str:
    """Run commands with the copy of the package; returns their output."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(commands)],
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(folder), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("develop")
    build(folder)
    write_pets(folder / "pets")
    return folder


def test_a_dataset_is_two_files_and_eighty_lines() -> None:
    files = {
        place: text for place, text in examples().items() if "pets" in text and "/data/" in place
    }
    assert len(files) == 2
    assert sum(len(text.splitlines()) for text in files.values()) <= 80


def test_the_dataset_and_the_task_train_and_are_scored(work: Path) -> None:
    shown = run(*COMMANDS, folder=work)
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


def test_a_wrong_record_of_the_dataset_is_one_line(work: Path) -> None:
    shutil.copytree(work / "pets", work / "broken")
    records = json.loads((work / "broken" / "val.json").read_text(encoding="utf-8"))
    (work / "broken" / "val.json").write_text(
        json.dumps([*records, {"image": "red.png"}]), encoding="utf-8"
    )
    shown = run("prepare pets --source broken --output data/broken", folder=work, code=2)
    assert "val.json: record 4: has no 'question'" in shown and "Traceback" not in shown
    assert not (work / "data" / "broken").exists()
    (work / "broken" / "val.json").write_text(
        json.dumps([{"image": "red.png", "question": " ", "answer": "no"}]), encoding="utf-8"
    )
    shown = run("prepare pets --source broken --output data/broken", folder=work, code=2)
    assert "val.json: record 0: question: empty" in shown


def test_every_package_and_module_is_on_a_floor() -> None:
    """The table of the document names every package, and every module beside them."""
    tower = DEVELOP[DEVELOP.index("## The tower") : DEVELOP.index("## One place for a fact")]
    packages = {
        p.name + "/" for p in (ROOT / "vle_bench").iterdir() if (p / "__init__.py").is_file()
    }
    modules = {p.stem for p in (ROOT / "vle_bench").glob("*.py") if not p.stem.startswith("_")}
    missing = [name for name in sorted(packages | modules) if f"`{name}`" not in tower]
    assert not missing
