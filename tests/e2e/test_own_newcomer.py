"""A made-up data set with every fault that files of one's own have: each is named, the rest trains."""

import csv
import json

import pytest
from PIL import Image

from tests.miniature.in_process import run
from vle_bench.data.prepared import open_prepared

COLUMNS = ["Bild Pfad", "Frage", "Antwort", "Patient", "Nr"]
SPEC = """
source: daten.csv
images: bilder
columns: {image: Bild Pfad, question: Frage, answers: Antwort, id: Nr, group: Patient}
splits: {train: 0.6, val: 0.2, test: 0.2}
"""
# Row, and what `--check` says of it after "daten.csv: row N: "
WRONG = {
    (
        "übung/bild 99.jpg",
        "wo?",
        "rot",
        "P0",
        "q99",
    ): "Bild Pfad: bilder/übung/bild 99.jpg: no such",
    (
        "broken.jpg",
        "wo?",
        "rot",
        "P0",
        "q100",
    ): "Bild Pfad: bilder/broken.jpg: cannot be read as an",
    ("empty.jpg", "wo?", "rot", "P0", "q101"): "Bild Pfad: bilder/empty.jpg: an empty file",
    ("übung/bild 1.jpg", "", "rot", "P0", "q102"): "Frage: '': empty",
    ("übung/bild 1.jpg", "was?", "", "P0", "q103"): "Antwort: '': empty",
    ("übung/bild 1.jpg", "was?", "['a', 'b']", "P0", "q104"): "looks like a list, and is not JSON",
    ("übung/bild 1.jpg", "was denn?", "rot", "P0", "q1"): "the id 'q1' is that of daten.csv: row 2",
    ("übung/bild 2.jpg", "zu kurz"): "2 cells, and the header has 5",
}


@pytest.fixture
def here(tmp_path):
    """CRLF, a byte order mark, a quoted new line, umlauts, spaces, an absolute path."""
    folder = tmp_path / "bilder" / "übung"
    folder.mkdir(parents=True)
    rows: list[tuple[str, ...]] = []
    for n in range(40):
        Image.new("RGB", (60 + n, 50), (6 * n, 200 - 5 * n, 90)).save(folder / f"bild {n}.jpg")
        picture = f"übung/bild {n}.jpg" if n != 5 else str(folder / "bild 5.jpg")
        question = f"Welche Farbe hat „{n}“?" if n != 3 else 'Mit "Anführung", Komma\nund Zeile?'
        answer = ["rot", "grün", '["blå", "blau"]'][n % 3] if n else "7"
        rows.append((picture, question, answer, f"P{n // 2}", f"q{n}"))
    (tmp_path / "bilder" / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (tmp_path / "bilder" / "empty.jpg").touch()
    rows += WRONG
    with open(tmp_path / "daten.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerows([COLUMNS, *rows])
    (tmp_path / "my.yaml").write_text(SPEC, encoding="utf-8")
    return tmp_path


def test_each_fault_is_named_and_the_rest_trains(here):
    _, errors = run("prepare", "own", "daten.csv", "--output", "out", cwd=here, code=2)
    columns = ", ".join(map(repr, COLUMNS))
    assert "daten.csv: has no column 'image' (columns.image); nearest: " in errors
    assert f", of {columns}; a YAML with columns: {{image: NAME}} names another" in errors
    shown, errors = run("prepare", "own", "my.yaml", "--check", cwd=here, code=2)
    for number, message in enumerate(WRONG.values(), 41):
        lines = [one for one in shown.splitlines() if one.startswith(f"daten.csv: row {number}: ")]
        assert len(lines) == 1 and message in lines[0], (number, lines)
    assert errors.splitlines()[-1] == (
        f"vle-bench: my.yaml: {len(WRONG)} problems; nothing was written; --on-bad-record skip "
        "--on-bad-image skip leave such rows out"
    )
    assert "q" in shown.splitlines()[0].split(":")[0]  # ids as the user gave them
    run("prepare", "own", "my.yaml", "--output", "out", cwd=here, code=2)
    assert not (here / "out").exists()
    skip = ("--on-bad-record", "skip", "--on-bad-image", "skip")
    run("prepare", "own", "my.yaml", "--output", "data/my", *skip, cwd=here)
    data = open_prepared(here / "data" / "my")
    questions = data.questions("train+val+test")
    assert sorted(questions["official_id"]) == sorted(f"q{n}" for n in range(40))
    rows = {row["official_id"]: row for row in questions}
    assert rows["q3"]["question"] == 'Mit "Anführung", Komma\nund Zeile?'
    assert (rows["q0"]["answers"], rows["q2"]["answers"]) == (["7"], ["blå", "blau"])
    few = ("train.max_steps=2", "train.evaluate_every=2", "train.batch_size=16")
    run("train", "own/vle-tiny", *few, "train.per_device_batch_size=16", cwd=here)
    run("predict", "runs/own-vle-tiny", "--split", "test", "--output", "answers.json", cwd=here)
    answers = json.loads((here / "answers.json").read_text(encoding="utf-8"))
    assert {one["question_id"] for one in answers} == set(data.questions("test")["official_id"])
