"""Commands write beside what they were asked for, say so, and never over what another one left."""

import json
import shutil

import pytest

from tests.miniature.in_process import run
from tests.miniature.run import prepare_miniature_vcr, vcr_run, write_training
from tests.miniature.vqav2 import write_vqav2
from vle_bench.atomic import file_sha256
from vle_bench.data.prepare import shapes_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2

SMALL = [
    "data.root=data",
    "data.source=vqav2",
    "data.evaluate=minival",
    "data.report=minival",
    "data.first_stage=null",
    "train.max_steps=2",
    "train.evaluate_every=1",
    "train.batch_size=8",
    "train.per_device_batch_size=8",
    "train.num_workers=0",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    prepare_vqav2(write_vqav2(folder / "official", val=4), folder / "data")
    run("train", "demo/vqa-tiny", *SMALL, "--output-dir", "runs/a", cwd=folder)
    return folder


@pytest.fixture
def work(trained, tmp_path):
    shutil.copytree(trained, tmp_path / "work")
    return tmp_path / "work"


def files(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_predictions_lie_beside_the_record_that_was_asked_for(work):
    before = files(work)
    shown, _ = run(
        "evaluate", "runs/a", "--split", "minival", "--output", "out/one/x.json", cwd=work
    )
    assert "written: out/one/x.json\nwritten: out/one/x.predictions.jsonl\n" in shown
    after = files(work)
    assert after.keys() - before.keys() == {"out/one/x.json", "out/one/x.predictions.jsonl"}
    assert {name: after[name] for name in before} == before
    own = rows(work / "runs/a/predictions/vqa.minival.jsonl")
    assert rows(work / "out/one/x.predictions.jsonl") == own


def test_a_second_evaluation_keeps_the_firsts_files(work):
    run("evaluate", "runs/a", "--split", "minival", "--output", "out/one/x.json", cwd=work)
    run("evaluate", "runs/a", "--split", "val-minival", "--output", "out/two/x.json", cwd=work)
    run("evaluate", "runs/a", "--split", "val-minival", "--output", "out/one/y.json", cwd=work)
    one, two = (rows(work / f"out/{n}/x.predictions.jsonl") for n in ("one", "two"))
    assert {row["id"] for row in one}.isdisjoint(row["id"] for row in two)
    before = files(work)
    for lost in ("x.json", "x.predictions.jsonl"):
        (work / "out/one" / lost).rename(work / "aside")
        left = "x.predictions.jsonl" if lost == "x.json" else "x.json"
        _, error = run(
            "evaluate",
            "runs/a",
            "--split",
            "val-minival",
            "--output",
            "out/one/x.json",
            cwd=work,
            code=2,
        )
        assert (
            error
            == f"vle-bench: out/one/{left}: exists already; name another file with --output, or remove it\n"
        )
        (work / "aside").rename(work / "out/one" / lost)
    assert files(work) == before


def test_in_the_run_folder_an_evaluation_replaces_its_own(work):
    shown, _ = run("evaluate", "runs/a", cwd=work)
    assert (
        "written: runs/a/results/vqa.minival.json\nwritten: runs/a/predictions/vqa.minival.jsonl\n"
        in shown
    )
    shown, _ = run(
        "evaluate", "runs/a/best", "--output", "runs/a/results/vqa.minival.json", cwd=work
    )
    assert "written: runs/a/predictions/vqa.minival.jsonl\n" in shown
    assert not list((work / "runs/a/results").glob("*.predictions.jsonl"))


def test_a_record_of_other_weights_is_not_replaced(work):
    run_folder = work / "runs/a"
    weights = run_folder / "last/model.safetensors"
    change_weights(weights)
    assert file_sha256(weights) != file_sha256(run_folder / "best/model.safetensors")
    before = files(work)
    _, error = run("evaluate", "runs/a/last", cwd=work, code=2)
    assert (
        "results/vqa.minival.json: is the record of runs/a/best, not of runs/a/last; name another file"
        in error
    )
    assert files(work) == before and error.count("\n") == 1
    run("evaluate", "runs/a/last", "--output", "last.json", cwd=work)
    # the weights of the record are gone: what is evaluated now takes its place
    change_weights(run_folder / "best/model.safetensors", by=2.0)
    shown, _ = run("evaluate", "runs/a", cwd=work)
    assert (
        "written: runs/a/results/vqa.minival.json" in shown
        and "written: runs/a/best/README.md" in shown
    )
    record = json.loads((run_folder / "results/vqa.minival.json").read_text(encoding="utf-8"))
    assert record["model"]["checkpoint_sha256"] == file_sha256(
        run_folder / "best/model.safetensors"
    )


def test_a_checkpoint_that_lies_in_no_run_has_results_of_its_own(work):
    for name in ("one", "two"):
        shutil.copytree(work / "runs/a/best", work / "checkpoints" / name)
    command = ["--recipe", "runs/a/recipe.yaml", "--split", "minival"]
    for _ in range(2):
        shown, _ = run("evaluate", "checkpoints/one", *command, cwd=work)
        assert "written: results/one/results/vqa.minival.json\n" in shown
        assert "written: results/one/predictions/vqa.minival.jsonl\n" in shown
    run("evaluate", "checkpoints/two", *command, cwd=work)
    change_weights(work / "checkpoints/one/model.safetensors")
    before = files(work)
    _, error = run("evaluate", "checkpoints/one", *command, cwd=work, code=2)
    assert (
        "vqa.minival.json: is the record of other weights, not of checkpoints/one; name another file"
        in error
    )
    assert files(work) == before


def change_weights(path, by=1.0):
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    name = min(tensors)
    tensors[name] = tensors[name] + by
    save_file(tensors, path, metadata={"format": "pt"})


def test_a_joint_record_of_other_runs_is_not_replaced(tmp_path):
    data = prepare_miniature_vcr(tmp_path)
    for name, task in (("q2a", "vcr_q2a"), ("qa2r", "vcr_qa2r"), ("other", "vcr_qa2r")):
        folder = vcr_run(tmp_path / name, data, task)
        (folder / "best").mkdir()
        (folder / "best/config.json").write_text("{}", encoding="utf-8")
        write_training(folder / "best", data, task)
    path = tmp_path / "other/results/vcr_qa2r.val.json"
    path.write_text(path.read_text(encoding="utf-8").replace("c0ffee", "bad"), encoding="utf-8")
    for _ in range(2):
        run("evaluate", "q2a", "--with", "qa2r", "--split", "val", cwd=tmp_path)
    before = files(tmp_path)
    _, error = run("evaluate", "q2a", "--with", "other", "--split", "val", cwd=tmp_path, code=2)
    assert (
        "q2a/results/vcr_q2ar.val.json: is the record of other weights; name another file with --output"
        in error
    )
    assert files(tmp_path) == before
    shown, _ = run(
        "evaluate",
        "q2a",
        "--with",
        "other",
        "--split",
        "val",
        "--output",
        "joint.json",
        cwd=tmp_path,
    )
    assert (
        files(tmp_path).keys() - before.keys() == {"joint.json"}
        and "written: joint.json\n" in shown
    )
    _, error = run(
        "evaluate",
        "q2a",
        "--with",
        "qa2r",
        "--split",
        "val",
        "--output",
        "joint.json",
        cwd=tmp_path,
        code=2,
    )
    assert "joint.json: exists already" in error


@pytest.mark.parametrize(
    ("name", "message"), [("there.html", "exists already; name another file"), (".", "is a folder")]
)
def test_a_page_is_not_written_over_another_file(work, name, message):
    (work / "there.html").write_text("mine", encoding="utf-8")
    _, error = run("report", "runs/a", "--output", name, cwd=work, code=2)
    assert message in error and (work / "there.html").read_text(encoding="utf-8") == "mine"
    run("report", "runs/a", cwd=work)
    shown, _ = run("report", "runs/a", cwd=work)
    assert shown == "written: runs/a/report.vqa.minival.html\n"


def test_scores_of_questions_are_not_written_over_another_file(work):
    official = (
        "official/v2_OpenEnded_mscoco_val2014_questions.json",
        "official/v2_mscoco_val2014_annotations.json",
    )
    truths = json.loads((work / official[1]).read_text(encoding="utf-8"))["annotations"]
    answers = [{"question_id": t["question_id"], "answer": "red"} for t in truths]
    (work / "p.json").write_text(json.dumps(answers), encoding="utf-8")
    command = [
        "score",
        "vqa",
        "--questions",
        official[0],
        "--annotations",
        official[1],
        "--predictions",
        "p.json",
    ]
    shown, error = run(*command, "--per-question", "each.json", "--json", cwd=work)
    assert json.loads(shown)["n"] == len(answers) and error == "written: each.json\n"
    before = files(work)
    _, error = run(*command, "--per-question", "each.json", cwd=work, code=2)
    assert (
        error
        == "vle-bench: each.json: exists already; name another file with --per-question, or remove it\n"
    )
    assert files(work) == before


SHAPES = {"train": 30, "val": 6, "test": 6}


def test_made_files_are_never_written_over_others(tmp_path, monkeypatch):
    """A folder with the real VCR has files of the same names; a folder with anything else keeps it."""
    monkeypatch.setattr(
        shapes_vcr.prepare_shapes_vcr, "__kwdefaults__", {"questions": SHAPES, "blank": False}
    )
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "thesis.txt").write_text("ten years of work", encoding="utf-8")
    (theirs / "train.jsonl").write_text("theirs", encoding="utf-8")
    before = files(theirs)
    _, error = run(
        "prepare", "shapes-vcr", "--source", "theirs", "--output", "out", cwd=tmp_path, code=2
    )
    assert error.startswith(
        "vle-bench: theirs/train.jsonl: exists already, with another content; name a new folder"
    )
    assert files(theirs) == before and not (tmp_path / "out").exists()
    (theirs / "train.jsonl").unlink()
    shown, _ = run("prepare", "shapes-vcr", "--source", "theirs", "--output", "out", cwd=tmp_path)
    assert "written: out\nthe official files: theirs\n" in shown
    made = files(theirs)
    assert made["thesis.txt"] == before["thesis.txt"] and "val.jsonl" in made
    run("prepare", "shapes-vcr", "--source", "theirs", "--output", "out", cwd=tmp_path)
    assert files(theirs) == made
    _, error = run(
        "prepare",
        "shapes-vcr",
        "--seed",
        1,
        "--source",
        "theirs",
        "--output",
        "other",
        cwd=tmp_path,
        code=2,
    )
    assert "exists already, with another content" in error and files(theirs) == made


def test_easy_vqas_files_are_never_written_over_others(tmp_path):
    pytest.importorskip("easy_vqa")
    command = ["prepare", "easy-vqa", "--source", "theirs", "--limit-images"]
    shown, _ = run(*command, 12, "--output", "a", cwd=tmp_path)
    assert "written: a\nthe official files: theirs\n" in shown
    made = files(tmp_path / "theirs")
    _, error = run(*command, 20, "--output", "b", cwd=tmp_path, code=2)
    assert "theirs/annotations-test.json: exists already, with another content" in error
    assert files(tmp_path / "theirs") == made and not (tmp_path / "b").exists()
    run(*command, 12, "--output", "b", cwd=tmp_path)
    assert files(tmp_path / "theirs") == made


def test_a_record_of_other_data_is_not_replaced(work):
    """The same weights on other questions of the same split are another score."""
    prepare_vqav2(write_vqav2(work / "other", val=7), work / "others")
    before = files(work / "runs")
    command = ("evaluate", "runs/a", "--data", "others")
    _, error = run(*command, cwd=work, code=2)
    assert error == (
        "vle-bench: runs/a/results/vqa.minival.json: exists already and is of other data than others; "
        "name another file with --output\n"
    )
    assert files(work / "runs") == before
    run(*command, "--output", "x.json", cwd=work)
    run("evaluate", "runs/a", "--data", "data", cwd=work)
