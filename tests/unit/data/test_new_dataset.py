"""A dataset of VQA form that is added to a copy of the package: one module and one row, nothing else."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from vle_bench.data.prepared import open_prepared

ROOT = Path(__file__).parents[3]
MODULE = '''"""Pets: train.json and test.json, lists of {"image", "question", "answer"}, and images/."""

from vle_bench.data.official.vqa import one_answer, problem_of, record_name, table
from vle_bench.data.prepare.questions import prepare_questions
from vle_bench.data.prepare.split import Split
from vle_bench.data.tables import OFFICIAL
from vle_bench.json_files import stream

COLUMNS = {"image": str, "question": str, "answer": str}


def image_number(name):
    return int(name.removesuffix(".png"))


def read(path, annotations, bad):
    def rows():
        for number, record in enumerate(stream(path, None)):
            if problem := problem_of(record, COLUMNS):
                bad.add(path, record_name(number, record), problem)
                continue
            image = image_number(record["image"])
            yield one_answer(number, image, record["question"], record["answer"], "pets")

    return table(path, rows(), OFFICIAL, bad)


def prepare(official, output, choices, options):
    splits = {
        name: Split(
            official / f"{name}.json",
            official / f"{name}.json",
            lambda image: official / "images" / f"{image}.png",
            vocabulary=name == "train",
            read=read,
        )
        for name in ("train", "test")
    }
    return prepare_questions("pets", splits, output, 1, choices)
'''
ROW = """    "pets": Source(
        title="Pets",
        form="vqa",
        splits=("train", "test"),
        prepare="vle_bench.data.prepare.pets:prepare",
        summary=_VQA_SUMMARY,
    ),
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory) -> Path:
    """A folder with a copy of the package that has the dataset `pets`."""
    folder = tmp_path_factory.mktemp("copy")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "vle_bench", folder / "vle_bench", ignore=ignored)
    (folder / "vle_bench" / "data" / "prepare" / "pets.py").write_text(MODULE, encoding="utf-8")
    sources = folder / "vle_bench" / "data" / "sources.py"
    table = sources.read_text(encoding="utf-8")
    start = "SOURCES: dict[str, Source] = {\n"
    assert table.count(start) == 1
    sources.write_text(table.replace(start, start + ROW), encoding="utf-8")
    return folder


def write_pets(folder: Path) -> Path:
    """Official files: four questions about two images, and one of the test."""
    (folder / "images").mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (8, 6), (80 * number, 0, 0)).save(folder / "images" / f"{number}.png")
    train = [
        {"image": f"{image}.png", "question": question, "answer": answer}
        for image, answer in ((1, "cat"), (2, "dog"))
        for question in ("What is this?", "Which pet is it?")
    ]
    test = [{"image": "3.png", "question": "What is this?", "answer": "cat"}]
    for name, records in (("train", train), ("test", test)):
        (folder / f"{name}.json").write_text(json.dumps(records), encoding="utf-8")
    return folder


def run(package: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vle_bench", *arguments]
    environment = os.environ | {"PYTHONPATH": str(package)}
    return subprocess.run(
        command, cwd=package, env=environment, capture_output=True, encoding="utf-8"
    )


def test_it_takes_two_files_and_eighty_lines():
    assert len(MODULE.splitlines()) + len(ROW.splitlines()) <= 80


def test_prepare_writes_the_dataset(package, tmp_path):
    official = write_pets(tmp_path / "official")
    out = tmp_path / "pets"
    done = run(package, "prepare", "pets", "--source", str(official), "--output", str(out))
    assert done.returncode == 0, done.stderr
    data = open_prepared(out)
    assert data.labels == ["cat", "dog"] and len(data.images) == 3
    train, test = data.questions("train"), data.questions("test")
    assert train["question"] == ["What is this?", "Which pet is it?"] * 2
    assert train["label_ids"] == [[0], [0], [1], [1]]
    assert test["label_scores"] == [[1.0]] and test["image_row"] == [2]
    assert "test                 1 questions" in done.stdout and "100.00 %" in done.stdout


def test_a_wrong_record_is_named(package, tmp_path):
    official = write_pets(tmp_path / "official")
    (official / "test.json").write_text('[{"image": "3.png", "question": "?"}]', encoding="utf-8")
    out = tmp_path / "pets"
    done = run(package, "prepare", "pets", "--source", str(official), "--output", str(out))
    assert done.returncode == 2 and not out.exists()
    error = f"vle-bench: {official / 'test.json'}: record 0: has no 'answer'"
    assert done.stderr.startswith(error), done.stderr
