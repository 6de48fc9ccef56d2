"""Predictions of any program as records: scored as the official files are, refused where ids are not the split's."""

import hashlib
import json
import os
import random
import threading

import pytest

from tests.miniature.by_name import WRITERS
from tests.miniature.in_process import run
from tests.miniature.own import write_lines
from tests.miniature.run import prepare_miniature_vcr
from tests.miniature.vqav2 import write_vqav2
from vle_bench.data.official.vcr import COLUMNS
from vle_bench.data.prepare.by_name import LAYOUTS, prepare_named
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.data.sources import SOURCES
from vle_bench.evaluation.external import ExternalModel, record_external
from vle_bench.evaluation.record import load_record
from vle_bench.evaluation.score_files import score_vcr_files, score_vqa_files
from vle_bench.tasks.predictions import Prediction
from vle_bench.tasks.vqa import VQA_TASK, id_column

WORDS = ("yes", "no", "red", "2", "two", "the cat")


@pytest.fixture(scope="module")
def vqa(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vqa")
    prepare_vqav2(write_vqav2(folder / "official"), folder / "data")
    return folder


@pytest.fixture(scope="module")
def vcr(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vcr")
    prepare_miniature_vcr(folder)
    return folder


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def answers(folder, split="val"):
    """An answer to each question, in another order than the data's."""
    rng = random.Random(0)
    rows = [
        {"question_id": row["question_id"], "answer": rng.choice([*WORDS, row["answers"][0]])}
        for row in open_prepared(folder / "data").questions(split)
    ]
    rng.shuffle(rows)
    return rows


def write(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def made(file, data, split, output, vcr=False, **told):
    model = ExternalModel(**{"name": "my-model"} | told)
    record, written, notes = record_external(file, data, split, model, output, vcr=vcr)
    assert load_record(written) == record
    return record, notes


def test_the_accuracy_is_that_of_the_official_files(vqa, here):
    file = write(here / "p.json", answers(vqa))
    told = {"parameters": 7, "pretraining": "9M(I-T)", "source": "https://example.org/m"}
    record, notes = made(file, vqa / "data", "val", None, trained_on="train", **told)
    official = vqa / "official"
    expected = score_vqa_files(
        official / "v2_OpenEnded_mscoco_val2014_questions.json",
        official / "v2_mscoco_val2014_annotations.json",
        file,
    )
    assert record.metrics["accuracy"].value == expected["accuracy"] and notes == []
    assert 0 < expected["accuracy"] < 1 and record.n == expected["n"]
    assert record.per_question_type == expected["per_question_type"]
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert record.model == {"name": "my-model", **told, "predictions_sha256": digest}
    assert (record.kind, record.seed, record.code, record.recipe) == ("external", None, {}, {})
    assert record.training_splits == ["train"] and record.contaminated is False and record.ranked
    assert (here / "results" / "my-model" / "results" / "vqa.val.json").is_file()


@pytest.mark.parametrize(("trained_on", "contaminated"), [(None, None), ("train+val", True)])
def test_what_it_was_trained_on_decides_whether_it_is_ranked(vqa, here, trained_on, contaminated):
    file = write(here / "p.json", answers(vqa))
    record, _ = made(file, vqa / "data", "val", here / "r.json", trained_on=trained_on)
    assert record.contaminated is contaminated and not record.ranked


def test_the_leaderboard_file_gives_all_three_figures(vcr, here):
    rng = random.Random(1)
    ids = open_prepared(vcr / "data").questions("val")["annot_id"][:]
    lines = [",".join(COLUMNS)]
    lines += [",".join([i, *(f"{rng.random():.2f}" for _ in COLUMNS[1:])]) for i in reversed(ids)]
    file = here / "leaderboard.csv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    record, _ = made(file, vcr / "data", "val", here / "r.json", vcr=True)
    expected = score_vcr_files(vcr / "official" / "val.jsonl", file)
    assert {n: m.value for n, m in record.metrics.items()} == {
        name: expected[name] for name in ("q2ar", "q2a", "qa2r")
    }
    assert record.task == "vcr_q2ar" and record.primary_metric == "q2ar"
    assert 0 < expected["q2a"] < 1
    lines[1] = "val-99" + lines[1][lines[1].index(",") :]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _, said = run(*command("vcr", file, vcr / "data"), cwd=here, code=2)
    assert f"{file}: 1 annot_id missing: {ids[-1]}; 1 annot_id unknown: val-99" in said


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_dataset_of_vqa_form_in_its_own_results_form(name, here):
    official = WRITERS[name.removesuffix("-choices")](here / "official")
    prepare_named(name, official, here / "data", AS_USUAL, {})
    data = open_prepared(here / "data")
    split = SOURCES[name].splits[-1]
    questions, rng = data.questions(split), random.Random(2)
    picked = (
        [rng.choice(among) for among in questions["choices"]]
        if "choices" in (questions.column_names)
        else [rng.choice([*WORDS, given[0]]) for given in questions["answers"]]
    )
    ids, (id_key, answer_key) = questions[id_column(questions)][:], SOURCES[name].results
    rows = {i: {answer_key: answer} for i, answer in zip(ids, picked, strict=True)}
    content = [{id_key: i, **row} for i, row in rows.items()] if id_key else rows
    record, _ = made(write(here / "p.json", content), here / "data", split, here / "r.json")
    predictions = [
        Prediction(i, {"answer": a}) for i, a in zip(questions["question_id"], picked, strict=True)
    ]
    expected = VQA_TASK.for_data(data).score(predictions, questions)
    assert {n: m.value for n, m in record.metrics.items()} == {
        n: m["value"] for n, m in expected.metrics.items()
    }
    assert record.data["source"] == name and record.data.get("metric") == data.manifest.metric


@pytest.fixture
def choices(here):
    """Own multiple-choice questions, with ids that are text in the data and a number in a file."""
    from PIL import Image

    Image.new("RGB", (32, 32)).save(here / "a.png")
    rows = [
        {"image": "a.png", "question": "which?", "choices": ["one", "two", "three"], "answer": 1}
        | {"id": name}
        for name in ("q1", "7", "q3", "q4")
    ]
    source = write_lines(here / "my.jsonl", rows)
    spec = {"name": "mine", "form": "choice", "splits": {"val": str(source)}}
    prepare(str(write(here / "my.yaml", spec)), here / "data", AS_USUAL, {})
    return here / "data"


def test_choices_are_named_by_text_or_as_predict_writes_them(choices, here):
    given = [("q1", "two"), (7, "two"), ("q3", "one"), ("q4", "three")]
    rows = [{"question_id": i, "answer": answer} for i, answer in given]
    rows[1]["choice"], rows[2]["choice"] = 1, 0
    record, _ = made(write(here / "p.json", rows), choices, "val", here / "r.json")
    assert record.task == "choice" and record.data["name"] == "mine"
    assert (record.metrics["accuracy"].value, record.n) == (0.5, 4)
    for change in ({"answer": "four"}, {"choice": 2}, {"choice": "1"}, {"choice": 9}):
        wrong = write(here / "w.json", [rows[0] | change, *rows[1:]])
        _, said = run(*command("vqa", wrong, choices), cwd=here, code=2)
        assert f"{wrong}: 1 answers that are none of the question's choices: q1\n" in said


def command(kind, file, data, *more, split="val", model="my-model"):
    options = ["--predictions", file, "--data", data, "--split", split, "--model", model]
    return ["record", kind, *options, *more]


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda r: r[2:], "2 question ids missing: "),
        (lambda r: [*r, {"question_id": 5, "answer": "a"}], "1 question id unknown: 5"),
        (lambda r: [*r, r[0]], "1 question id more than once: "),
        (lambda r: [r[0] | {"answer": 3}, *r[1:]], "1 answers that are not strings: "),
        (lambda r: [{"question_id": r[0]["question_id"]}, *r[1:]], "1 records without an answer"),
        (
            lambda r: [r[0] | {"question_id": "x"}, *r[1:]],
            "whose question_id is not a whole number",
        ),
        (lambda r: [], "question ids missing: "),
        (lambda r: {"answers": r}, "the file is an object, not a list of"),
        (lambda r: ["yes", *r[1:]], "1 records that are no objects: 0"),
    ],
)
def test_a_file_that_is_not_of_the_split_is_refused(vqa, here, edit, says):
    file = write(here / "p.json", edit(answers(vqa)))
    _, said = run(*command("vqa", file, vqa / "data"), cwd=here, code=2)
    assert said.startswith(f"vle-bench: {file}: ") and says in said and said.count("\n") == 1
    assert not (here / "results").exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'[{"question_id": 1', "broken or cut-off JSON"),
        (b"\xff\xfe[", "not UTF-8 text"),
        (b'[{"question_id": 1, "question_id": 2, "answer": "a"}]', "occurs twice in one object"),
    ],
)
def test_a_broken_file_is_refused(vqa, here, content, says):
    (here / "p.json").write_bytes(content)
    _, said = run(*command("vqa", here / "p.json", vqa / "data"), cwd=here, code=2)
    assert f"{here / 'p.json'}: " in said and says in said and said.count("\n") == 1


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"model": "a|b"}, "--model: 'a|b': 1 to 80 letters"),
        ({"model": "-x"}, "--model: '-x': 1 to 80 letters"),
        ({"model": "x" * 81}, "1 to 80 letters"),
        ({"split": "test"}, "split 'test' has no labels; `vle-bench predict` writes"),
        ({"split": "valid"}, "has no split 'valid'; it has "),
        ({"options": ["--trained-on", "train+dev"]}, "--trained-on: 'dev' is no split of vqav2"),
        ({"options": ["--pretraining", "a\nb"]}, "--pretraining: one line of 1 to 200 characters"),
        ({"options": ["--source", ""]}, "--source: one line of 1 to 200 characters"),
    ],
)
def test_what_is_told_of_the_model_is_checked(vqa, here, more, says):
    file = write(here / "p.json", answers(vqa))
    options = {"model": "my-model", "split": "val"} | more
    extra = options.pop("options", [])
    _, said = run(*command("vqa", file, vqa / "data", *extra, **options), cwd=here, code=2)
    assert says in said and said.count("\n") == 1 and not (here / "results").exists()


def test_data_of_the_other_kind_and_an_existing_record_are_refused(vqa, vcr, here):
    file = write(here / "p.json", answers(vqa))
    _, said = run(*command("vqa", file, vcr / "data"), cwd=here, code=2)
    assert "holds prepared vcr, whose predictions are a leaderboard CSV: the other command" in said
    _, said = run(*command("vcr", file, vqa / "data"), cwd=here, code=2)
    assert "holds prepared vqav2, whose predictions are a results file of answers" in said
    shown, _ = run(*command("vqa", file, vqa / "data"), cwd=here)
    target = "results/my-model/results/vqa.val.json"
    assert f"written: {target}\nto the tables: vle-bench table --add {target}\n" in shown
    assert "unknown splits (--trained-on): not ranked" in shown
    _, said = run(*command("vqa", file, vqa / "data"), cwd=here, code=2)
    assert f"{target}: exists already; name another file with --output, or remove it" in said
    run(*command("vqa", file, vqa / "data", "--output", "other.json"), cwd=here)


def test_ids_as_the_official_reader_takes_them_and_empty_answers_are_pointed_out(vqa, here):
    rows = answers(vqa)
    rows[0] = {"question_id": float(rows[0]["question_id"]), "answer": " "}
    file = write(here / "p.json", rows)
    _, said = run(*command("vqa", file, vqa / "data"), cwd=here)
    assert "1 question ids are not written as whole numbers" in said
    assert f"{file}: warning: 1 answers are empty: " in said


def test_the_file_is_read_once(vqa, here):
    content = json.dumps(answers(vqa)).encode()
    os.mkfifo(here / "pipe")
    writer = threading.Thread(target=lambda: (here / "pipe").write_bytes(content), daemon=True)
    writer.start()
    record, _ = made(here / "pipe", vqa / "data", "val", here / "r.json")
    writer.join(timeout=5)
    assert record.model["predictions_sha256"] == hashlib.sha256(content).hexdigest()
