"""Two runs held against each other: hand-made predictions on miniatures, scored and recorded by the tasks themselves."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest

from tests.miniature.in_process import run
from tests.miniature.vcr import change_line, write_vcr
from tests.miniature.vqav2 import write_vqav2
from vle_bench.analysis.compare import most_changed
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.evaluation.record import SCHEMA_VERSION, Record, ids_digest
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.predictions import Prediction, Scores

SPLITS = {"vqa": ("vqav2", "minival"), "vcr_q2a": ("vcr", "val"), "vcr_joint": ("vcr", "val")}


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Data of both kinds, and runs of each task: `vqa-a`, `vqa-b`, `vcr_q2a-a`, ..."""
    folder = tmp_path_factory.mktemp("work")
    choices = Choices(1, "error", "error", None, False, None, None)
    prepare_vqav2(write_vqav2(folder / "official-vqa", val=4), folder / "data" / "vqav2", choices)
    prepare_vcr(write_vcr(folder / "official-vcr"), folder / "data" / "vcr", choices)
    for task in SPLITS:
        for seed, name in enumerate("ab"):
            make_run(folder, task, name, seed)
    return folder


def questions_of(folder, task):
    source, split = SPLITS[task]
    return load_task(task).open(folder / "data" / source).questions(split)


def made_up(task, question, number, name):
    """A is right where the number of the question is even; B is so, wrong at 2, and right at 1, 3 and 5 besides."""
    right = (
        number in (1, 3, 5) or (number % 2 == 0 and number != 2) if name == "b" else number % 2 == 0
    )
    if task == "vqa":
        answer = question["multiple_choice_answer"] if right else "nobody says so"
        return {"id": question["question_id"], "answer": answer, "label": 0, "score": 0.5}
    row = {"id": question["annot_id"]}
    for part, label in (("q2a", "answer_label"), ("qa2r", "rationale_label")):
        if part == "q2a" or task == "vcr_joint":
            # of the joint runs A has every rationale right, so that its Q2AR is its Q2A
            chosen = (question[label] + (not (right or (part == "qa2r" and name == "a")))) % 4
            row |= {part: chosen, f"{part}_scores": [0.7 if k == chosen else 0.1 for k in range(4)]}
    return row


def make_run(folder, task, name, seed, rows=None, **changes):
    """A run folder as an evaluation leaves it, without weights."""
    (source, split), where = SPLITS[task], folder / "runs" / f"{task}-{name}"
    overrides = [
        f"train.seed={seed}",
        f"data.root=data/{source}",
        f"data.source={source}",
        f"data.report={split}",
    ]
    if task == "vqa":
        overrides += ["data.evaluate=minival", "data.train=train", "data.first_stage=null"]
    recipe = load_recipe(
        "demo/vqa-tiny" if task == "vqa" else "demo/vcr-q2a-tiny", [f"task={task}", *overrides]
    )
    questions = questions_of(folder, task)
    rows = rows or sorted(
        (made_up(task, q, k, name) for k, q in enumerate(questions)), key=lambda row: row["id"]
    )
    predictions = [Prediction.from_row(row) for row in rows]
    scores = load_task(task).score(predictions, questions)
    record = Record(
        schema_version=SCHEMA_VERSION,
        task=task,
        task_version=1,
        split=split,
        n=scores.n,
        ids_sha256=ids_digest(row["id"] for row in rows),
        metrics=scores.metrics,
        primary_metric=load_task(task).primary_metric,
        breakdown=scores.breakdown,
        recipe={"name": recipe.name, "hash": recipe.hash},
        training_splits=["train"],
        contaminated=False,
        model={"name": recipe.name},
        seed=seed,
        code={},
        libraries={},
        device="cpu",
        processes=1,
        batch_size=1,
        data={
            "source": source,
            "manifest_hash": load_task(task).open(folder / "data" / source).manifest.hash,
        },
        seconds=1.0,
        command="made up",
    ).model_copy(update=changes)
    for place in ("results", "predictions"):
        (where / place).mkdir(parents=True, exist_ok=True)
    (where / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    (where / "results" / f"{task}.{split}.json").write_text(
        record.model_dump_json(), encoding="utf-8"
    )
    (where / "predictions" / f"{task}.{split}.jsonl").write_text(
        "".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8"
    )
    return where


def as_json(work, task, one="a", other="b"):
    return json.loads(
        run("compare", f"runs/{task}-{one}", f"runs/{task}-{other}", "--json", cwd=work)[0]
    )


def test_vcr_by_hand(work):
    """15 questions: A has the eight even ones right, B loses one of them and gains three."""
    found = as_json(work, "vcr_q2a")
    assert found["n"] == 15 and found["images"] == 6 and list(found["metrics"]) == ["accuracy"]
    accuracy = found["metrics"]["accuracy"]
    assert (accuracy["a"], accuracy["b"]) == (8 / 15, 10 / 15) and accuracy[
        "difference"
    ] == pytest.approx(2 / 15)
    assert accuracy["a"] == found["a"]["metrics"]["accuracy"]["value"]
    assert accuracy["interval"][0] <= accuracy["difference"] <= accuracy["interval"][1]
    assert found["mcnemar"]["accuracy"] == {"only_a": 1, "only_b": 3, "p": 2 * (1 + 4) / 16}
    assert list(found["kinds"]) == ["objects tagged", "words in the question", "answer_likelihood"]
    for groups in found["kinds"].values():
        assert sum(group["n"] for group in groups.values()) == 15
        assert sum(group["n"] * group["difference"] for group in groups.values()) == pytest.approx(
            2
        )
    changed = found["changed"]
    ids = [q["annot_id"] for q in questions_of(work, "vcr_q2a")]
    assert [row["id"] for row in changed] == sorted(ids[k] for k in (1, 2, 3, 5))
    lost = next(row for row in changed if row["id"] == ids[2])
    assert (lost["score_a"], lost["score_b"]) == (1, 0) and lost["prediction_a"] == lost[
        "truth"
    ] != lost["prediction_b"]


def test_the_other_way_round(work):
    one, other = as_json(work, "vcr_q2a"), as_json(work, "vcr_q2a", "b", "a")
    for name, kinds in one["kinds"].items():
        for group, found in kinds.items():
            back = other["kinds"][name][group]
            assert back["difference"] == -found["difference"] and back["p"] == found["p"]
    low, high = one["metrics"]["accuracy"]["interval"]
    assert other["metrics"]["accuracy"]["interval"] == pytest.approx([-high, -low])
    assert other["mcnemar"]["accuracy"] == {
        "only_a": 3,
        "only_b": 1,
        "p": one["mcnemar"]["accuracy"]["p"],
    }


def test_joint_runs_are_compared_in_all_three(work):
    found = as_json(work, "vcr_joint")
    assert list(found["metrics"]) == ["q2ar", "q2a", "qa2r"] and list(found["mcnemar"]) == [
        "q2ar",
        "q2a",
        "qa2r",
    ]
    values = {name: (metric["a"], metric["b"]) for name, metric in found["metrics"].items()}
    assert values == {"q2ar": (8 / 15, 10 / 15), "q2a": (8 / 15, 10 / 15), "qa2r": (1.0, 10 / 15)}
    for letter in "ab":
        assert {n: m["value"] for n, m in found[letter]["metrics"].items()} == {
            n: m[letter] for n, m in found["metrics"].items()
        }
    assert found["mcnemar"]["qa2r"] == {"only_a": 5, "only_b": 0, "p": 2 / 32}
    assert " / " in found["changed"][0]["truth"]


def test_vqa_is_printed(work):
    shown, errors = run("compare", "runs/vqa-a", "runs/vqa-b", cwd=work)
    record = json.loads((work / "runs/vqa-a/results/vqa.minival.json").read_text(encoding="utf-8"))
    lines = shown.splitlines()
    assert lines[0].startswith(f"vqa on minival of vqav2: {record['n']} questions on ")
    assert (
        f"{100 * record['metrics']['accuracy']['value']:.2f}" in lines[1]
        and "A: runs/vqa-a" in lines[1]
    )
    assert "by answer_type" in lines and "by question_type" in lines and "McNemar" not in shown
    assert (
        "whole images drawn with replacement, the same for both runs, 10,000 times (seed 0)"
        in shown
    )
    assert "draw images: 10000/10000" in errors
    assert run("compare", "runs/vqa-a", "runs/vqa-b", cwd=work)[0] == shown
    found = as_json(work, "vqa")
    assert found["mcnemar"] == {} and 0 < len(found["changed"]) <= 20
    changes = [abs(row["score_b"] - row["score_a"]) for row in found["changed"]]
    assert changes == sorted(changes, reverse=True) and len(set(changes)) > 1 and 0 not in changes


def test_a_run_with_the_same_predictions(work):
    copy = work / "runs" / "vcr_q2a-twin"
    shutil.copytree(work / "runs" / "vcr_q2a-a", copy, dirs_exist_ok=True)
    found = as_json(work, "vcr_q2a", "a", "twin")
    assert found["metrics"]["accuracy"] | {"n": 0} == {
        "n": 0,
        "a": 8 / 15,
        "b": 8 / 15,
        "difference": 0,
        "interval": [0, 0],
        "p": 1,
    }
    assert found["mcnemar"]["accuracy"]["p"] == 1 and found["changed"] == []
    assert (
        "No example's score changed."
        in run("compare", "runs/vcr_q2a-a", "runs/vcr_q2a-twin", cwd=work)[0]
    )


def test_contamination_is_said_loudly(work):
    make_run(work, "vcr_q2a", "contaminated", 3, contaminated=True)
    shown, _ = run("compare", "runs/vcr_q2a-a", "runs/vcr_q2a-contaminated", cwd=work)
    assert shown.startswith("CONTAMINATED: runs/vcr_q2a-contaminated was trained on images of val")
    out, errors = run("compare", "runs/vcr_q2a-a", "runs/vcr_q2a-contaminated", "--json", cwd=work)
    assert json.loads(out)["b"]["contaminated"] is True and "CONTAMINATED" in errors


def test_the_order_of_what_changed_most():
    """By how much, up or down; as much in the order of their ids; twenty at most, and none that stayed."""
    after = np.array([0.3, 0.9, 0.6, 1.0, 0.0, *[0.9] * 30])
    before = np.array([0.0, 0.6, 0.6, 0.0, 1.0, *[0.7] * 30])
    ids = [40, 50, 60, 90, 80, *range(1, 31)]
    rows = [Prediction(i, {"answer": "x"}) for i in ids]
    side = SimpleNamespace(
        scores=Scores(n=len(ids), metrics={}, per_example=dict.fromkeys(ids, 0.0)),
        rows=rows,
        record=SimpleNamespace(task="vqa"),
        questions=[{"question": "?", "multiple_choice_answer": "y"}] * len(ids),
    )
    found = [row["id"] for row in most_changed(side, side, before, after)]
    assert found == [80, 90, 40, 50, *range(1, 17)]


def refused(work, *arguments):
    _, errors = run("compare", *arguments, cwd=work, code=2)
    (line,) = [line for line in errors.splitlines() if line.startswith("vle-bench: ")]
    return line


def test_what_cannot_be_compared(work):
    assert "runs/vqa-a: the same run twice" in refused(work, "runs/vqa-a", "runs/../runs/vqa-a")
    assert "of different tasks, vqa and vcr_q2a" in refused(work, "runs/vqa-a", "runs/vcr_q2a-a")
    assert "nowhere: no such folder" in refused(work, "runs/vqa-a", "nowhere")
    assert "has no recipe.yaml" in refused(work, "runs/vqa-a", "runs")
    missing = refused(work, "runs/vqa-a", "runs/vqa-b", "--split", "train")
    assert (
        "runs/vqa-a/results/vqa.train.json: no such file; `vle-bench evaluate runs/vqa-a --split train` writes it"
        in missing
    )
    other = make_run(work, "vcr_q2a", "train", 4)
    recipe = (other / "recipe.yaml").read_text(encoding="utf-8")
    (other / "recipe.yaml").write_text(
        recipe.replace("report: val", "report: test"), encoding="utf-8"
    )
    assert "report different splits, val and test; --split names one for both" in refused(
        work, "runs/vcr_q2a-a", other
    )


def run_on_other_data(folder, official):
    prepare_vcr(
        official, folder / "data" / "vcr", Choices(1, "error", "error", None, False, None, None)
    )
    made = make_run(folder, "vcr_q2a", "b", 1)
    recipe = (made / "recipe.yaml").read_text(encoding="utf-8")
    (made / "recipe.yaml").write_text(
        recipe.replace("root: data/vcr", f"root: {folder}/data/vcr"), encoding="utf-8"
    )
    return made


def test_versions_ids_and_data_must_agree(work):
    make_run(work, "vcr_q2a", "old", 5, task_version=0)
    assert "of version 0 of the task, this is version 1" in refused(
        work, "runs/vcr_q2a-a", "runs/vcr_q2a-old"
    )
    line = refused(
        work,
        "runs/vcr_q2a-a",
        run_on_other_data(work / "fewer", write_vcr(work / "fewer" / "official", val=4)),
    )
    assert (
        "scored on different questions: 5 only in runs/vcr_q2a-a, such as 'val-10'; evaluate both on the same data"
        in line
    )
    official = write_vcr(work / "reworded" / "official")
    change_line(official / "val.jsonl", 3, lambda record: record["question"].insert(0, "So"))
    line = refused(work, "runs/vcr_q2a-a", run_on_other_data(work / "reworded", official))
    assert "evaluated on different data, manifest hashes " in line
    line = refused(
        work,
        "runs/vcr_q2a-a",
        make_run(work, "vcr_q2a", "data", 7, data={"source": "vcr", "manifest_hash": "0"}),
    )
    assert "other data than the record's" in line


def test_altered_predictions_are_refused(work):
    altered = make_run(work, "vcr_q2a", "altered", 8)
    path = altered / "predictions" / "vcr_q2a.val.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    row = json.loads(lines[0])
    chosen = (row["q2a"] + 1) % 4
    row |= {"q2a": chosen, "q2a_scores": [0.7 if k == chosen else 0.1 for k in range(4)]}
    path.write_text(json.dumps(row) + "\n" + "".join(lines[1:]), encoding="utf-8")
    assert "differ, accuracy is" in refused(work, "runs/vcr_q2a-a", altered)
    path.write_text("".join(lines[1:]), encoding="utf-8")
    assert "not the questions of the split" in refused(work, "runs/vcr_q2a-a", altered)
    path.write_text("".join(lines)[:-20], encoding="utf-8")
    assert "vcr_q2a.val.jsonl: line 15: broken or cut-off JSON" in refused(
        work, "runs/vcr_q2a-a", altered
    )
    path.unlink()
    assert f"`vle-bench evaluate {altered} --split val` writes it" in refused(
        work, "runs/vcr_q2a-a", altered
    )
