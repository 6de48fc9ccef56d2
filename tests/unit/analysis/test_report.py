"""The error report: its numbers, what it refuses, and that no text of the data becomes markup."""

import json
import re
import shutil

import numpy as np
import pytest
from accelerate import Accelerator
from PIL import Image

from tests.miniature.page import Page
from tests.miniature.run import (
    HOSTILE,
    prepare_miniature_vcr,
    prepare_vqa,
    vcr_run,
    vqa_run,
    write_training,
)
from tests.miniature.vcr import BOXES, OTHER_SIZE, OUTSIDE, SIZE
from vle_bench.analysis import vcr, vqa
from vle_bench.analysis.report import write_report
from vle_bench.data.images import decode
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record, precision_of
from vle_bench.evaluation.vcr_join import join_vcr
from vle_bench.metrics.numbers import percent
from vle_bench.pages.html import render_template
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.tasks.predictions import Prediction


@pytest.fixture(scope="module")
def vqa_data(tmp_path_factory):
    return prepare_vqa(tmp_path_factory.mktemp("vqa"))


@pytest.fixture(scope="module")
def vcr_data(tmp_path_factory):
    return prepare_miniature_vcr(tmp_path_factory.mktemp("vcr"))


@pytest.fixture(scope="module")
def vqa_page(vqa_data, tmp_path_factory):
    run = vqa_run(tmp_path_factory.mktemp("runs") / "vqa", vqa_data)
    path = write_report(run, None, None)
    assert path == run / "report.vqa.val.html"
    return run, Page(path)


@pytest.fixture(scope="module", params=["vcr_q2a", "vcr_qa2r", "vcr_joint"])
def vcr_page(request, vcr_data, tmp_path_factory):
    run = vcr_run(tmp_path_factory.mktemp("runs") / request.param, vcr_data, request.param)
    return request.param, run, Page(write_report(run, "val", None))


def predictions(run, task):
    return [
        json.loads(line)
        for line in (run / "predictions" / f"{task}.val.jsonl")
        .read_text(encoding="utf-8")
        .splitlines()
    ]


def check_figures(page, record):
    """The headline and the task's own groups are the record's, to the digit."""
    shown = {row[0]: row[1:] for row in page.tables["Percent"][1:]}
    for name, metric in record.metrics.items():
        assert shown[name.replace("_", " ")] == [
            percent(metric.value),
            " to ".join(map(percent, metric.interval)),
            f"{metric.n:,}",
        ]
    for kind, groups in record.breakdown.items():
        name = kind.replace("_", " ")
        if len(groups) == 1:
            assert any(
                text == f"{name}: {next(iter(groups))}, for every question" for text in page.texts
            )
            continue
        rows = {row[0]: row[1:] for row in page.tables[f"By {name}"][1:]}
        assert rows == {
            group: [percent(m.value), " to ".join(map(percent, m.interval)), f"{m.n:,}"]
            for group, m in groups.items()
        }


def test_vqa_figures_are_those_of_the_record(vqa_page):
    run, page = vqa_page
    check_figures(page, load_record(run / "results" / "vqa.val.json"))


def test_vqa_by_length_by_hand(vqa_page, vqa_data):
    _, page = vqa_page
    lengths = [
        len(question.split()) for question in open_prepared(vqa_data).questions("val")["question"]
    ]
    rows = {row[0]: row[3] for row in page.tables["By words in the question"][1:]}
    counts = {"1 to 5": (1, 5), "6 to 8": (6, 8), "9 to 12": (9, 12), "13 or more": (13, 999)}
    assert rows == {
        k: str(n)
        for k, (low, high) in counts.items()
        if (n := sum(low <= length <= high for length in lengths))
    }
    assert rows["13 or more"] == "1"  # "How many very very ..."
    assert list(rows)[0] == "1 to 5" and sum(map(int, rows.values())) == len(lengths)


def test_vqa_mistakes_by_hand(vqa_page, vqa_data):
    """Accuracy 0 is what nobody gave; the surest first."""
    run, page = vqa_page
    wrong = [row for row in predictions(run, "vqa") if row["answer"].startswith("nobody")]
    wrong = sorted(wrong, key=lambda row: (-row["score"], row["id"]))
    shown = re.findall(r"question (\d+),", "".join(page.texts))
    assert shown == [str(row["id"]) for row in wrong[:50]] and len(wrong) > 10
    assert (
        len(page.of("article"))
        == len(shown)
        == len([tag for tag in page.of("img") if tag["src"].startswith("data:image/webp")])
    )
    assert any(f"There are {len(wrong)}, the surest first" in text for text in page.texts)


def test_all_answers_of_the_annotators_are_shown_with_counts():
    question = {
        "question": "q",
        "answers": ["b", "a", "b", "c", "b", "a", "b", "b", "b", "b"],
        "multiple_choice_answer": "b",
        "answer_type": "other",
        "question_type": "what",
    }
    row = Prediction(3, {"answer": "d", "label": 0, "score": 0.98765})
    stored = {"file_name": "x.jpg"}
    values = vqa.card([row], [question], 0, Image.new("RGB", (640, 480)), stored)
    card = render_template("analysis/card_vqa.html", card=values)
    annotators = "<bdi>b</bdi> ×&nbsp;7, <bdi>a</bdi> ×&nbsp;2, <bdi>c</bdi>"
    assert f"<dd>{annotators}</dd>" in card and "(98.77&nbsp;%)" in card
    assert "✗ <bdi>d</bdi>" in card and "✓ <bdi>b</bdi>" in card
    assert 'width="640" height="480"' in card and 'alt="picture x.jpg"' in card


def cell_texts(table):
    rows = [table.head, *(line.cells for line in table.rows)]
    return [[cell.text for cell in row] for row in rows]


def test_confusion_reads_answers_as_the_metric_does():
    table = vqa.confusion_table(
        ["two", "2", "Red.", "red", "the"], ["2", "red", "red", "a red", "two"]
    )
    rows = cell_texts(table)
    assert rows == [
        ["true answer", "2", "red", "the", "all"],
        ["2", "1", "1", "0", "2"],
        ["red", "0", "2", "0", "2"],
        ["the", "1", "0", "0", "1"],
    ]


def test_thirteen_answers_are_twelve_and_the_others():
    truths = [f"answer{k:02}" for k in range(13)] * 2 + ["answer12"]
    table = vqa.confusion_table(truths, truths)
    rows = cell_texts(table)
    assert (
        rows[0][1:4] == ["answer12", "answer00", "answer01"]
        and rows[0][-2:] == ["other", "all"]
        and len(rows) == 14
    )
    assert rows[-1][0] == "other" and rows[-1][-2:] == ["2", "2"] and rows[1][1] == "3"


def test_vcr_figures_are_those_of_the_record(vcr_page):
    task, run, page = vcr_page
    check_figures(page, load_record(run / "results" / f"{task}.val.json"))


def test_vcr_confidence_score_and_places_by_hand(vcr_page, vcr_data):
    task, run, page = vcr_page
    questions = {q["annot_id"]: q for q in open_prepared(vcr_data).questions("val")}
    rows, parts = predictions(run, task), CATALOGUE[task].parts
    mistakes = []
    for row in rows:
        label = {
            "q2a": questions[row["id"]]["answer_label"],
            "qa2r": questions[row["id"]]["rationale_label"],
        }
        if any(row[part] != label[part] for part in parts):
            mistakes.append((-np.prod([max(row[f"{part}_scores"]) for part in parts]), row["id"]))
    shown = re.findall(r"(val-\d+), confidence ([\d.]+) %", "".join(page.texts))
    expected = sorted(mistakes)
    assert [name for name, _ in shown] == [name for _, name in expected] and len(shown) > 5
    assert [sure for _, sure in shown] == [percent(-sure) for sure, _ in expected]
    for part in parts:
        table = next(
            table
            for name, table in page.tables.items()
            if name.startswith(f"{vcr.PART_TITLES[part]}. Place")
        )
        counts = np.zeros((4, 4), int)
        for row in rows:
            counts[
                questions[row["id"]]["answer_label" if part == "q2a" else "rationale_label"],
                row[part],
            ] += 1
        assert [row[1:] for row in table[1:]] == [
            *([*map(str, row), str(sum(row))] for row in counts.tolist()),
            [*map(str, counts.sum(0)), str(len(rows))],
        ]
    assert (
        len(page.of("svg", role="img")) == len(shown) + (3 if task == "vcr_joint" else 1) + 3
    )  # pictures, diagrams, curves


def test_boxes_lie_over_the_picture_in_its_own_pixels(vcr_data):
    """The stored picture of OTHER_SIZE is half as large as its metadata say, and a box of OUTSIDE lies beyond it."""
    found = [
        stored for stored in open_prepared(vcr_data).images if len(stored["boxes"]) == len(BOXES)
    ]
    assert len(found) > OUTSIDE > OTHER_SIZE
    for stored in found:
        image = decode(stored["bytes"], "x")
        scene = vcr.scene(
            image, stored, ["person1", "person2", "dog3", "chair4", "cellphone5"], [0, 4]
        )
        assert (scene.picture.width, scene.picture.height) == SIZE
        boxes = [(box.x, box.y, box.width, box.height) for box in scene.boxes]
        expected = [
            (x1, y1, x2 - x1, y2 - y1) for x1, y1, x2, y2, _ in (BOXES[k] for k in (1, 2, 3, 0, 4))
        ]
        outside = scene.outside == ["cellphone5"]
        assert boxes == [pytest.approx(box) for box in (expected[:-1] if outside else expected)]
        names = [box.name for box in scene.boxes if box.name]
        assert names == ["person1"] + ["cellphone5"] * (not outside)


def test_boxes_are_drawn_where_they_lie(vcr_page):
    """Every picture has its own pixels as coordinates, whatever the size on the page."""
    task, _, page = vcr_page
    pictures = [tag for tag in page.of("svg", role="img") if tag["class"].startswith("boxes")]
    assert {tag["viewbox"] for tag in pictures} == {f"0 0 {SIZE[0]} {SIZE[1]}"}
    places = {(tag["x"], tag["y"]) for tag in page.of("rect") if tag.get("class", "")[:3] == "box"}
    expected = {(f"{x1:.1f}", f"{y1:.1f}") for x1, y1, *_ in BOXES}
    assert expected <= places and "person1" in page.texts, task


def test_a_card_marks_the_choice_and_the_truth():
    record = {
        "question": ["Why", "is", [0], "there", "?"],
        "answer_choices": [[[0], "waits", "."], ["No", "."], [[1, 0], "."], ["x"]],
        "objects": ["person", "dog"],
        "answer_label": 2,
        "annot_id": "val-1",
    }
    row = Prediction("val-1", {"q2a": 0, "q2a_scores": [0.7, 0.1, 0.15, 0.05]})
    image, stored = Image.new("RGB", SIZE), {"file_name": "x.jpg", "boxes": [[0, 0, 9, 9]] * 2}
    values = vcr.card([row], [record], ["q2a"], 0, image, stored)
    card = render_template("analysis/card_vcr.html", card=values)
    assert re.findall(r'<li class="(\w*)">(.*?)</li>', card) == [
        (
            "wrong",
            "<bdi>person1 waits.</bdi> <strong>✗ chosen</strong> "
            '<span class="small">70.00&nbsp;%</span>',
        ),
        ("", '<bdi>No.</bdi> <span class="small">10.00&nbsp;%</span>'),
        (
            "right",
            "<bdi>dog2 and person1.</bdi> <strong>✓ right</strong> "
            '<span class="small">15.00&nbsp;%</span>',
        ),
        ("", '<bdi>x</bdi> <span class="small">5.00&nbsp;%</span>'),
    ]
    chosen_right = Prediction("val-1", {**row.values, "q2a": 2})
    right = vcr.choices("q2a", chosen_right, record, ["person1", "dog2"])
    assert [choice.mark for choice in right] == ["", "", "✓ chosen, right", ""]


def test_no_text_becomes_markup_and_nothing_comes_from_elsewhere(vqa_page):
    _, page = vqa_page
    assert not page.of("script") and not [tag for tag in page.of("img") if tag.get("src") == "x"]
    assert not [a for _, a in page.tags if any(name.startswith("on") for name in a)]
    for _, attributes in page.tags:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("#", "data:image/webp;base64,"))
    shown = "".join(page.texts)
    assert "\ue000" not in shown and "\u202e" not in shown
    safe = HOSTILE.replace("\ue000", "\ufffd").replace("\u202e", "\ufffd")
    assert any(text == safe for text in page.texts)
    assert any("<img src=x onerror=alert(2)>" in text for text in page.texts)


def test_marks_are_loud_where_they_hold_and_absent_otherwise(vqa_page, vqa_data, tmp_path):
    assert not vqa_page[1].of("p", **{"class": "alert"})
    changes = {"contaminated": True, "code": {"version": "1", "commit": "abc", "clean": False}}
    run = vqa_run(
        tmp_path / "run", vqa_data, recipe={"name": "vqa-tiny", "hash": "of-another"}, **changes
    )
    page = Page(write_report(run, None, tmp_path / "out.html"))
    assert len(page.of("p", **{"class": "alert"})) == 3
    shown = "".join(page.texts)
    assert all(
        words in shown
        for words in ("Contaminated", "never ranked", "in no commit", "recipe.yaml is not what")
    )


def test_provenance_and_recipe_are_there(vqa_page):
    shown = "".join(vqa_page[1].texts)
    for words in (
        "abc1234, the tree was clean",
        "c0ffeevqa",
        "vle-bench train x",
        "python 3.11",
        "max_steps: 4000",
        "cpu, 1 thread",
        "the record does not say how they were resized",
    ):
        assert words in shown, words


@pytest.mark.parametrize(
    ("resize", "said"),
    [
        ("crop", "shorter side resized, centre kept (crop)"),
        ("squash", "both sides resized to the square (squash)"),
        ("published-vcr", "boxes mapped as if squashed (published-vcr)"),
        (
            "crop + squash",
            "shorter side resized, centre kept (crop) + both sides resized to the square (squash)",
        ),
    ],
)
def test_the_page_says_how_pictures_became_squares(vqa_data, tmp_path, resize, said):
    run = vqa_run(tmp_path / "run", vqa_data, model={"name": "vqa-tiny", "resize": resize})
    assert any(said in text for text in Page(write_report(run, None, tmp_path / "out.html")).texts)


def joined_runs(folder, data):
    q2a, qa2r = (vcr_run(folder / name, data, f"vcr_{name}") for name in ("q2a", "qa2r"))
    (q2a / "best").mkdir()
    (q2a / "best" / "config.json").write_text("{}", encoding="utf-8")
    write_training(q2a / "best", data, "vcr_q2a")
    (q2a / "best" / "model.safetensors").write_bytes(b"")
    return (
        q2a,
        qa2r,
        lambda: join_vcr(
            q2a,
            qa2r,
            "val",
            q2a / "results" / "vcr_q2ar.val.json",
            accelerator=Accelerator(cpu=True),
        ),
    )


def test_a_joined_record_says_the_precision_and_the_split_that_picked_both(vcr_data, tmp_path):
    q2a, qa2r, join = joined_runs(tmp_path, vcr_data)
    assert join().precision is None
    trained = {"split": "val", "precision": "bf16"}
    for run, task in ((q2a, "vcr_q2a"), (qa2r, "vcr_qa2r")):
        change_record(run, task, lambda record: record.update(precision="bf16", training=trained))
    record = join()
    assert (
        record.precision == record.training["precision"] == "bf16"
        and record.training["split"] == "val"
    )
    change_record(qa2r, "vcr_qa2r", lambda record: record.update(precision="fp32"))
    record = join()
    assert (record.precision, precision_of(record)) == (
        "bf16 + fp32",
        "bf16 + fp32, trained in bf16",
    )


def test_two_runs_that_are_joined(vcr_data, tmp_path):
    q2a, qa2r, join = joined_runs(tmp_path, vcr_data)
    with pytest.raises(
        RequestError,
        match=r"vcr_q2ar.val.json: no such file; `vle-bench evaluate .*q2a --with .*qa2r --split val`",
    ):
        write_report(q2a, "val", None, qa2r)
    join()
    path = write_report(q2a, "val", None, qa2r)
    assert path == q2a / "report.vcr_q2ar.val.html"
    page = Page(path)
    record = load_record(q2a / "results" / "vcr_q2ar.val.json")
    check_figures(page, record)
    assert "accuracy (q2a)" in "".join(page.texts) and "accuracy (qa2r)" in "".join(page.texts)
    with pytest.raises(
        RequestError,
        match="a run of vcr_q2a with one of vcr_qa2r is expected, not vcr_qa2r with vcr_q2a",
    ):
        write_report(qa2r, "val", None, q2a)
    change_record(qa2r, "vcr_qa2r", lambda record: record["model"].update(checkpoint_sha256="0"))
    with pytest.raises(RequestError, match="is of other checkpoints"):
        write_report(q2a, "val", None, qa2r)


def change_record(run, task, edit):
    path = run / "results" / f"{task}.val.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    edit(record)
    path.write_text(json.dumps(record), encoding="utf-8")


def change_rows(run, task, edit):
    path = run / "predictions" / f"{task}.val.jsonl"
    path.write_text(
        "".join(json.dumps(row) + "\n" for row in edit(predictions(run, task))), encoding="utf-8"
    )


def first(**changes):
    return lambda rows: [{**rows[0], **changes}, *rows[1:]]


def rows(edit):
    return lambda run: change_rows(run, "vqa", edit)


def record(edit):
    return lambda run: change_record(run, "vqa", edit)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda run: shutil.rmtree(run), "no such folder"),
        (
            lambda run: (run / "recipe.yaml").unlink(),
            "has no recipe.yaml; the folder of a run is expected",
        ),
        (
            lambda run: (run / "results/vqa.val.json").unlink(),
            r"vqa.val.json: no such file; `vle-bench evaluate .* --split val` w",
        ),
        (
            lambda run: (run / "predictions/vqa.val.jsonl").unlink(),
            r"vqa.val.jsonl: no such file; `vle-bench evaluate .* --split val`",
        ),
        (
            lambda run: (run / "predictions/vqa.val.jsonl").write_bytes(b'{"id": 1'),
            "vqa.val.jsonl: line 1: broken or cut-off JSON",
        ),
        (
            lambda run: (run / "predictions/vqa.val.jsonl").write_bytes(b"\xff\xfe"),
            "vqa.val.jsonl: line 1: not UTF-8",
        ),
        (
            lambda run: (run / "predictions/vqa.val.jsonl").write_text("", encoding="utf-8"),
            "not the questions of the split",
        ),
        (
            rows(lambda rows: rows[1:]),
            "not the questions of the split: 1 question id without a prediction",
        ),
        (rows(lambda rows: [*rows, rows[0]]), "prediction 46 .id 1001000.: a second time"),
        (rows(first(id=5)), "1 question id unknown to the annotations"),
        (rows(first(answer="never")), "differ, accuracy is 0.*in the record; `vle-bench evaluate"),
        (rows(first(score=1.5)), "score: 1.5 is no probability"),
        (rows(first(score=float("nan"))), "line 1: NaN is no JSON number"),
        (rows(first(answer=3)), "an id, an answer and its label are expected"),
        (record(lambda r: r.update(split="minival")), "a record of vqa on minival"),
        (record(lambda r: r.update(task_version=9)), "version 9 of the task, this is version 1"),
        (record(lambda r: r.update(ids_sha256="0")), "the record is of other questions"),
        (
            record(lambda r: r["data"].update(manifest_hash="0")),
            "other data than the record's.*data.root of",
        ),
        (
            lambda run: (run / "log.jsonl").write_text('{"step": 1, "loss": "high"}\n', "utf-8"),
            "log.jsonl: line 1: step and loss must",
        ),
    ],
)
def test_what_does_not_belong_together_is_refused(vqa_data, tmp_path, edit, message):
    run = vqa_run(tmp_path / "run", vqa_data)
    edit(run)
    with pytest.raises(RequestError, match=message) as refusal:
        write_report(run, "val", tmp_path / "page.html")
    assert "\n" not in str(refusal.value)
    assert not list(tmp_path.glob("**/*.html")) and not list(tmp_path.glob("**/*.partial"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q2a": 4}, "q2a: 4 is not a number of 0 to 3"),
        ({"q2a": True}, "q2a: True is not"),
        ({"q2a_scores": [0.5, 0.5]}, "q2a_scores: 4 probabilities"),
        ({"q2a_scores": None}, "q2a_scores: 4 probabilities"),
        ({"q2a_scores": [1.2, 0, 0, 0]}, "q2a_scores: 4 probabilities"),
        ({"id": 7}, "an id is expected"),
        (
            {"q2a": 0, "q2a_scores": [0.1, 0.9, 0, 0]},
            "0 was chosen, and another choice is more probable",
        ),
    ],
)
def test_wrong_vcr_predictions_are_refused(vcr_data, tmp_path, change, message):
    run = vcr_run(tmp_path / "run", vcr_data, "vcr_q2a")
    change_rows(run, "vcr_q2a", first(**change))
    with pytest.raises(RequestError, match=message):
        write_report(run, "val", None)


def test_data_that_moved_are_named_by_key_and_found_again(vqa_data, tmp_path):
    shutil.copytree(vqa_data, tmp_path / "old")
    run = vqa_run(tmp_path / "run", tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    with pytest.raises(
        RequestError,
        match=r"old: no prepared data there.*data.root of .*recipe.yaml.*--data names its folder",
    ):
        write_report(run, "val", None)
    assert write_report(run, "val", None, data=tmp_path / "new").is_file()


def test_an_image_that_cannot_be_read_is_named(vqa_data, tmp_path, monkeypatch):
    run = vqa_run(tmp_path / "run", vqa_data)
    copy = tmp_path / "data"
    shutil.copytree(vqa_data, copy)
    for shard in copy.glob("images*.arrow"):
        content = shard.read_bytes()
        shard.write_bytes(
            content.replace(b"\xff\xd8\xff", b"\x00\x00\x00")
        )  # every JPEG's first bytes; the size stays
    with pytest.raises(
        RequestError, match=r"data: COCO_val2014_\d+.jpg: cannot be read as an image"
    ):
        write_report(run, "val", None, data=copy)
    assert not list(tmp_path.glob("run/*.html"))


def test_other_requests_that_are_refused(vqa_data, vcr_data, tmp_path):
    run = vqa_run(tmp_path / "run", vqa_data)
    with pytest.raises(RequestError, match="is a folder; --output names the file"):
        write_report(run, None, tmp_path)
    with pytest.raises(
        RequestError,
        match=r"vqa.minival.json: no such file; `vle-bench evaluate .* --split minival` writes it",
    ):
        write_report(run, "minival", None)
    (run / "log.jsonl").unlink()
    page = Page(write_report(run, None, tmp_path / "no-log.html"))
    assert any("log.jsonl is not there: no curves" in text for text in page.texts)
    second = vcr_run(tmp_path / "second", vcr_data, "vcr_q2a")
    text = (
        (second / "recipe.yaml")
        .read_text(encoding="utf-8")
        .replace("task: vcr_q2a", "task: vcr_second_stage")
    )
    (second / "recipe.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(
        RequestError, match="vcr_second_stage answers no question; a report is about a run of vqa"
    ):
        write_report(second, None, None)
