"""Files are UTF-8 whatever the locale, and a terminal that cannot show a character ends no command."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.miniature.in_process import run
from tests.miniature.run import VQA, prepare_vqa, vqa_rows, vqa_run, write_run
from tests.miniature.vqav2 import change, write_vqav2
from vle_bench.cli import app

ROOT = Path(__file__).parents[2]
SMALL = [
    "data.root=data",
    "data.source=vqav2",
    "data.evaluate=minival",
    "data.report=minival",
    "data.first_stage=null",
    "train.max_steps=1",
    "train.evaluate_every=1",
    "train.batch_size=8",
    "train.per_device_batch_size=8",
    "train.num_workers=0",
]


@pytest.fixture(scope="module")
def old_locale(tmp_path_factory):
    """The environment of a Latin-1 locale; of ASCII where none is installed and none can be made."""
    folder = tmp_path_factory.mktemp("locales")
    command = ["localedef", "-i", "en_US", "-f", "ISO-8859-1", str(folder / "en_US.ISO-8859-1")]
    try:
        made = subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except OSError:
        made = False
    named = {"LC_ALL": "en_US.ISO-8859-1", "LOCPATH": str(folder)} if made else {"LC_ALL": "C"}
    own = {
        name: value
        for name, value in os.environ.items()
        if name not in ("LANG", "LC_CTYPE", "PYTHONIOENCODING")
    }
    python = {
        "PYTHONUTF8": "0",
        "PYTHONCOERCECLOCALE": "0",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    return {**own, **named, **python}


def with_cafe(folder):
    """The miniature, in which the color that most questions ask for is "café"."""
    official = write_vqav2(folder / "official")
    for name in ("train2014", "val2014"):
        change(official / f"v2_mscoco_{name}_annotations.json", paint)
    return official


def paint(content):
    for annotation in content["annotations"]:
        if annotation["question_type"] == "what color is":
            annotation["multiple_choice_answer"] = "café"
            annotation["answers"] = [
                {**answer, "answer": "café"} for answer in annotation["answers"]
            ]


PROGRAM = """
import json, locale
from pathlib import Path
from tests.miniature.in_process import run
assert locale.getpreferredencoding(False).lower().replace("-", "") not in ("utf8", "cp65001")
here = Path.cwd()
run("prepare", "vqav2", "--source", "official", "--output", "data", cwd=here)
run("train", "demo/vqa-tiny", *{small!r}, "--output-dir", "run", cwd=here)
run("evaluate", "run", "--split", "val", "--output", "val.json", cwd=here)
run("report", "run", "--output", "page.html", cwd=here)
run("predict", "run", "--split", "val", "--output", "sent.json", cwd=here)
files = ["--questions", "official/v2_OpenEnded_mscoco_val2014_questions.json",
         "--annotations", "official/v2_mscoco_val2014_annotations.json", "--predictions"]
for name in ("sent.json", "right.json"):
    shown, _ = run("score", "vqa", *files, name, "--json", cwd=here)
    Path(name).with_suffix(".score").write_text(shown, encoding="utf-8")
"""


def test_every_command_reads_and_writes_utf8(tmp_path, old_locale):
    official = with_cafe(tmp_path)
    truths = json.loads((official / "v2_mscoco_val2014_annotations.json").read_bytes())[
        "annotations"
    ]
    right = [
        {"question_id": t["question_id"], "answer": t["multiple_choice_answer"]} for t in truths
    ]
    (tmp_path / "right.json").write_bytes(json.dumps(right, ensure_ascii=False).encode())
    program = [sys.executable, "-c", PROGRAM.format(small=SMALL)]
    done = subprocess.run(program, cwd=tmp_path, env=old_locale, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    score = json.loads((tmp_path / "right.score").read_bytes())
    assert score["per_question_type"]["what color is"] == 1.0
    assert "café" in json.loads((tmp_path / "data/label_map.json").read_bytes())["answers"]
    assert "café" in json.loads((tmp_path / "run/best/label_map.json").read_bytes())["answers"]
    # the model's own answers score in the file that was sent what they scored when it was evaluated
    record = json.loads((tmp_path / "val.json").read_bytes())
    sent = {
        row["question_id"]: row["answer"]
        for row in json.loads((tmp_path / "sent.json").read_bytes())
    }
    rows = [
        json.loads(line) for line in (tmp_path / "val.predictions.jsonl").read_bytes().splitlines()
    ]
    assert sent == {row["id"]: row["answer"] for row in rows}
    assert (
        json.loads((tmp_path / "sent.score").read_bytes())["accuracy"]
        == record["metrics"]["accuracy"]["value"]
    )
    assert "café" in (tmp_path / "page.html").read_bytes().decode()


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    data = prepare_vqa(folder)
    vqa_run(folder / "a", data)
    rows = vqa_rows(data)
    rows[0]["answer"] = "café"
    write_run(folder / "b", "demo/vqa-tiny", VQA, data, rows, {})
    return folder


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252"])
def test_what_a_terminal_cannot_show_is_replaced(two_runs, monkeypatch, encoding):
    monkeypatch.chdir(two_runs)
    monkeypatch.setattr("sys.argv", ["vle-bench", "compare", "a", "b", "--split", "val"])
    terminal = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", terminal)
    try:
        app.main()
    except SystemExit as stop:
        assert not stop.code
    terminal.flush()
    assert "B ? A" in terminal.buffer.getvalue().decode(encoding)


def test_json_is_whole_whatever_the_terminal(two_runs):
    shown, _ = run("compare", "a", "b", "--split", "val", "--json", cwd=two_runs)
    assert shown.isascii() and json.loads(shown)["changed"][0]["prediction_b"] == "café"


def test_tables_have_lines_that_a_terminal_can_show(monkeypatch):
    from vle_bench.demo.runs import print_table, ruled_table

    terminal = io.TextIOWrapper(io.BytesIO(), encoding="latin-1")
    monkeypatch.setattr("sys.stdout", terminal)
    app.replace_unprintable_characters()
    print_table(
        ruled_table(
            "Ω", ["model", "%"], [{"model": "prior", "%": "1"}, {"model": "café → ±", "%": "2"}]
        )
    )
    terminal.flush()
    text = terminal.buffer.getvalue().decode("latin-1")
    assert "café ? ±" in text and "+" in text
