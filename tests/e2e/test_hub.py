"""What a run leaves for the hub, and records from the challenge's server: one tiny run on a miniature VQA v2."""

import hashlib
import json
import os
import re
import threading
from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries

from tests.miniature.in_process import run
from tests.miniature.vqav2 import write_vqav2
from vle_bench.analysis.model_card import WRITTEN, write_cards
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.sources import SOURCES
from vle_bench.evaluation.record import load_record

SMALL = [
    "data.root=data/vqav2",
    "data.source=vqav2",
    "data.evaluate=minival",
    "data.report=minival",
    "data.first_stage=null",
    "train.max_steps=2",
    "train.evaluate_every=1",
    "train.batch_size=8",
    "train.per_device_batch_size=8",
    "train.num_workers=0",
    "expect.metric=accuracy",
    "expect.split=test-dev",
    "expect.value=71.0",
    "expect.tolerance=0.32",
    "expect.source=somewhere",
]
ANSWER = [
    {"test-dev": {"yes/no": 87.44, "number": 50.2, "other": 62.38, "overall": 71.32}},
    {"test-standard": {"overall": 71.4}},
]


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("work")
    official = write_vqav2(folder / "official", val=4)
    prepare_vqav2(
        official, folder / "data" / "vqav2", Choices(1, "error", "error", None, False, None, None)
    )
    run("train", "demo/vqa-tiny", *SMALL, "--output-dir", "runs/a", cwd=folder)
    return folder


@pytest.fixture
def as_many(work, monkeypatch):
    """The server's questions are the miniature's."""
    count = json.loads((work / "data/vqav2/manifest.json").read_text(encoding="utf-8"))["splits"][
        "test-dev"
    ]["questions"]
    expect_questions(monkeypatch, count)
    return count


def expect_questions(monkeypatch, count):
    row = replace(SOURCES["vqav2"], server_sizes={"test-dev": count})
    monkeypatch.setitem(SOURCES, "vqav2", row)


def digest(folder):
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


def entries(folder):
    return parse_eval_result_entries(
        yaml.safe_load((folder / ".eval_results" / "vle-bench.yaml").read_text(encoding="utf-8"))
    )


def test_the_card_of_a_finished_run(work):
    best, record = work / "runs/a/best", load_record(work / "runs/a/results/vqa.minival.json")
    card = ModelCard.load(best / "README.md")
    assert (
        card.data.pipeline_tag == "visual-question-answering"
        and card.data.library_name == "vle-bench"
    )
    assert card.data.datasets == ["vqav2"] and card.data.license is None
    percent = {name: round(100 * metric.value, 2) for name, metric in record.metrics.items()}
    assert {r.metric_type: r.metric_value for r in card.data.eval_results} == pytest.approx(percent)
    assert {(r.dataset_type, r.dataset_split, r.task_type) for r in card.data.eval_results} == {
        ("vqav2", "minival", "visual-question-answering")
    }
    low, high = record.metrics["accuracy"].interval
    shown = f"| VQA v2 | minival | accuracy | {percent['accuracy']:.2f} | {100 * low:.2f} to {100 * high:.2f} | {record.n} |"
    assert shown in card.text
    assert "trained from scratch for the task `vqa` on VQA v2, splits `train`" in card.text
    assert (
        f"hash `{record.recipe['hash']}`" in card.text
        and "seed 0, step" in card.text
        and record.code["commit"][:12] in card.text
    )
    assert digest(best) == record.model["checkpoint_sha256"] and digest(best) in card.text


def test_the_scores_as_the_hub_reads_them(work):
    record, found = (
        load_record(work / "runs/a/results/vqa.minival.json"),
        entries(work / "runs/a/best"),
    )
    assert {e.task_id: e.value for e in found} == {
        f"vqa.minival.{name}": pytest.approx(100 * metric.value, abs=0.005)
        for name, metric in record.metrics.items()
    }
    assert {e.dataset_id for e in found} == {"vle-bench/vqav2"}
    assert all("no benchmark of the hub is known" in e.notes for e in found)


def test_the_three_lines_load_it(work, monkeypatch):
    """They name every class that they take, so that a fresh process would say the same."""
    labels = json.loads((work / "data/vqav2/label_map.json").read_text(encoding="utf-8"))["answers"]
    for name in ("best", "last"):
        card = ModelCard.load(work / "runs/a" / name / "README.md")
        (block,) = re.findall(r"```python\n(.*?)```", card.text, re.DOTALL)
        assert len(block.splitlines()) == 3
        monkeypatch.chdir(work / "runs/a" / name)
        made = {}
        exec(block, made)
        model, processor = made["model"], made["processor"]
        assert (type(model).__name__, type(processor).__name__) == ("VLEForVQA", "VLEProcessor")
        assert model.config.num_labels == len(labels)


def test_weights_that_were_not_evaluated_claim_nothing(work):
    last, best = work / "runs/a/last", work / "runs/a/best"
    if digest(last) == digest(best):
        (work / "runs/a/results/vqa.minival.json").rename(work / "kept")
        write_cards(work / "runs/a")
    text = (last / "README.md").read_text(encoding="utf-8")
    assert (
        "These weights were not evaluated" in text
        and "model-index" not in text
        and "model_name" not in text
    )
    assert not (last / ".eval_results/vle-bench.yaml").exists()
    if (work / "kept").exists():
        (work / "kept").rename(work / "runs/a/results/vqa.minival.json")
        write_cards(work / "runs/a")


def test_another_split_is_added_and_nothing_else_changes(work):
    best = work / "runs/a/best"
    before = {
        p.name: p.read_bytes() for p in best.iterdir() if p.is_file() and p.name != "README.md"
    }
    run("evaluate", "runs/a", "--split", "val-minival", cwd=work)
    assert {
        p.name: p.read_bytes() for p in best.iterdir() if p.is_file() and p.name != "README.md"
    } == before
    assert {e.task_id.split(".")[1] for e in entries(best)} == {"minival", "val-minival"}
    assert {r.dataset_split for r in ModelCard.load(best / "README.md").data.eval_results} == {
        "minival",
        "val-minival",
    }


def test_a_contaminated_score_is_shown_and_not_exported(work):
    path, best = work / "runs/a/results/vqa.train.json", work / "runs/a/best"
    run("evaluate", "runs/a", "--split", "train", cwd=work)
    assert load_record(path).contaminated
    card = ModelCard.load(best / "README.md")
    assert "| VQA v2 | train (contaminated) | accuracy |" in card.text
    assert "**Contaminated: the model was trained on images of train." in card.text
    assert "train" not in {r.dataset_split for r in card.data.eval_results}
    assert not any("train" in e.task_id for e in entries(best))
    path.unlink()
    write_cards(work / "runs/a")
    assert "Contaminated" not in (best / "README.md").read_text(encoding="utf-8")


def test_records_of_other_weights_are_not_shown(work):
    stray = work / "runs/a/results/vqa.stray.json"
    record = load_record(work / "runs/a/results/vqa.minival.json")
    stray.write_text(
        record.model_copy(
            update={"split": "stray", "model": record.model | {"checkpoint_sha256": "0"}}
        ).model_dump_json(),
        encoding="utf-8",
    )
    write_cards(work / "runs/a")
    assert "stray" not in (work / "runs/a/best/README.md").read_text(encoding="utf-8")
    stray.unlink()


def test_a_card_by_hand_and_a_broken_record_are_left_alone(work, capsys):
    card, broken = work / "runs/a/best/README.md", work / "runs/a/results/broken.json"
    written = card.read_text(encoding="utf-8")
    card.write_text("# My model\n", encoding="utf-8")
    broken.write_text("{", encoding="utf-8")
    write_cards(work / "runs/a")
    said = capsys.readouterr().err
    assert (
        card.read_text(encoding="utf-8") == "# My model\n"
        and "README.md: not written by vle-bench, left alone" in said
    )
    assert "skipped" in said and "broken.json: broken or cut-off JSON" in said
    card.unlink()
    broken.unlink()
    write_cards(work / "runs/a")
    assert card.read_text(encoding="utf-8") == written and WRITTEN in written


def test_killed_writers_leave_nothing_and_resume_brings_the_card_back(work):
    best = work / "runs/a/best"
    written = (best / "README.md").read_text(encoding="utf-8")
    (best / "README.md").unlink()
    (best / ".README.md.123.partial").write_text("half a c", encoding="utf-8")
    (best / ".eval_results" / ".vle-bench.yaml.123.partial").write_text("- data", encoding="utf-8")
    shown, _ = run("train", "demo/vqa-tiny", *SMALL, "--output-dir", "runs/a", "--resume", cwd=work)
    assert (
        "this run is finished" in shown
        and (best / "README.md").read_text(encoding="utf-8") == written
    )
    assert not list(best.rglob("*.partial"))


def test_a_folder_that_is_no_run_keeps_its_own_card(work):
    elsewhere = work / "checkpoints" / "mine"
    elsewhere.parent.mkdir()
    (work / "runs/a/best").rename(elsewhere)
    try:
        (elsewhere / "README.md").write_text("# Theirs\n", encoding="utf-8")
        command = [
            "--recipe",
            "runs/a/recipe.yaml",
            "--split",
            "minival",
            "--output",
            "again/results/r.json",
        ]
        run("evaluate", "checkpoints/mine", *command, cwd=work)
        assert (elsewhere / "README.md").read_text(encoding="utf-8") == "# Theirs\n"
    finally:
        (elsewhere / "README.md").unlink()
        elsewhere.rename(work / "runs/a/best")
        write_cards(work / "runs/a")


def server(work, content, split="test-dev", code=0):
    file = work / "server.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return run(
        "evaluate",
        "runs/a",
        "--split",
        split,
        "--server-result",
        "server.json",
        cwd=work,
        code=code,
    )


def test_the_servers_answer_from_a_pipe(work, as_many):
    pipe, content = work / "server-pipe", json.dumps(ANSWER).encode()
    os.mkfifo(pipe)
    threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True).start()
    command = [
        "evaluate",
        "runs/a",
        "--split",
        "test-dev",
        "--server-result",
        "server-pipe",
        "--output",
        "from-pipe.json",
    ]
    asked = threading.Thread(target=run, args=command, kwargs={"cwd": work}, daemon=True)
    asked.start()
    asked.join(timeout=60)
    record = load_record(work / "from-pipe.json")
    assert record.metrics["accuracy"].value == 0.7132
    assert record.data["server_result_sha256"] == hashlib.sha256(content).hexdigest()


def test_the_servers_answer_becomes_a_record_and_is_judged(work, as_many):
    path = work / "runs/a/results/vqa.test-dev.json"
    assert "only the server scores it" in run("reproduce", "runs/a", cwd=work, code=2)[1]
    shown, _ = server(work, ANSWER)
    record = load_record(path)
    assert "written: runs/a/results/vqa.test-dev.json" in shown and " 71.32" in shown
    assert (record.task, record.split, record.n, record.contaminated) == (
        "vqa",
        "test-dev",
        as_many,
        False,
    )
    assert (
        record.metrics["accuracy"].value == 0.7132 and record.metrics["accuracy"].interval is None
    )
    assert record.per_answer_type == {"yes/no": 0.8744, "number": 0.502, "other": 0.6238}
    trained = load_record(work / "runs/a/results/vqa.minival.json")
    for name in (
        "recipe",
        "model",
        "seed",
        "training",
        "training_splits",
        "expect",
        "task_version",
    ):
        assert getattr(record, name) == getattr(trained, name), name
    sent = {**record.data}
    assert (
        sent.pop("server_result_sha256")
        == hashlib.sha256((work / "server.json").read_bytes()).hexdigest()
    )
    assert sent == trained.data and record.command.endswith(
        "--split test-dev --server-result server.json"
    )
    assert not (work / "runs/a/predictions/vqa.test-dev.jsonl").exists()
    assert "| VQA v2 | test-dev | accuracy | 71.32 | – |" in (
        work / "runs/a/best/README.md"
    ).read_text(encoding="utf-8")
    out, _ = run("reproduce", "runs/a", cwd=work)  # 71.0 ± 0.32
    assert "difference   +0.32, inside ±0.32" in out
    server(work, ANSWER[0])  # a bare object does as well
    assert load_record(path).metrics == record.metrics


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([{"test-dev": {"overall": 101}}], "test-dev: overall: 101 is no percentage of 0 to 100"),
        ([{"test-dev": {"overall": -0.1}}], "overall: -0.1 is no percentage"),
        ([{"test-dev": {"overall": "71.3"}}], "overall: 71.3 is no percentage"),
        ([{"test-dev": {"overall": True}}], "overall: True is no percentage"),
        ('[{"test-dev": {"overall": NaN}}]', "NaN is no JSON number"),
        ([{"test-dev": {"yes/no": 80.0}}], "test-dev: has no 'overall'"),
        ([{"test-dev": 71.3}], "test-dev: has no 'overall'"),
        (
            [{"test-standard": {"overall": 71.3}}],
            "has no result of phase 'test-dev'; it has test-standard",
        ),
        ([*ANSWER, ANSWER[0]], "more than one result of phase 'test-dev'"),
        ([{"test-dev": {"overall": 71.3, "mood": 1}}], "test-dev: unknown: mood"),
        (
            [{"test-dev": {"yes/no": 87.44, "number": 50.2, "other": 62.38, "overall": 17.32}}],
            "overall 17.32 is not between the types",
        ),
        ([], "no result of the server"),
        ([[1]], "no result of the server"),
        ('[{"test-dev"', "server.json: broken or cut-off JSON at line 1"),
    ],
)
def test_what_is_no_answer_of_the_server(work, as_many, content, message):
    path = work / "runs/a/results/vqa.test-dev.json"
    path.unlink(missing_ok=True)
    _, error = server(work, content, code=2)
    assert message in error and len(error.splitlines()) == 1 and not path.exists()


def test_which_splits_the_server_scores(work, as_many, monkeypatch):
    assert (
        "records are made of test-dev, not of minival" in server(work, ANSWER, "minival", code=2)[1]
    )
    assert "not of test-std" in server(work, ANSWER, "test-std", code=2)[1]
    missing = run("evaluate", "runs/a", "--server-result", "server.json", cwd=work, code=2)[1]
    assert "--server-result goes with --split test-dev" in missing
    expect_questions(monkeypatch, as_many + 1)
    assert (
        f"has {as_many:,} questions of test-dev, the server {as_many + 1:,}"
        in server(work, ANSWER, code=2)[1]
    )


def test_the_servers_number_of_questions_is_the_official_one():
    assert SOURCES["vqav2"].server_sizes == {"test-dev": 107_394}
    assert not any(row.server_sizes for name, row in SOURCES.items() if name != "vqav2")
