"""VQA v2's official folder layout → prepared data: splits, vocabulary, soft targets, and what is refused."""

import json

import datasets
import pytest
from PIL import Image

from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError

# folder of images, name of the split's files, image ids, annotated
LAYOUT = {
    "train": ("train2014", "train2014", range(1, 7), True),
    "val": ("val2014", "val2014", range(11, 15), True),
    "test-dev": ("test2015", "test-dev2015", range(21, 23), False),
    "test": ("test2015", "test2015", range(21, 25), False),
}
# Ten annotators: "2" seven times in three spellings, "three" twice, one answer that is in no vocabulary
ANSWERS = ["two", "Two", "2", "2", "two", "the 2", "2", "3", "three", "lots"]


def annotation(ids):
    answers = [
        {"answer_id": i, "answer": a, "answer_confidence": "yes"} for i, a in enumerate(ANSWERS, 1)
    ]
    majority = "three" if ids["image_id"] == 1 and ids["question_id"] % 2 else "two"
    return {
        **ids,
        "question_type": "how many",
        "answer_type": "number",
        "multiple_choice_answer": majority,
        "answers": answers,
    }


@pytest.fixture
def source(tmp_path):
    """Two questions an image; over train and val "2" is the majority 19 times and "3" once."""
    folder = tmp_path / "source"
    for images, name, image_ids, annotated in LAYOUT.values():
        (folder / images).mkdir(parents=True, exist_ok=True)
        for i in image_ids:
            Image.new("RGB", (6, 4), (i, 0, 0)).save(
                folder / images / f"COCO_{images}_{i:012d}.jpg"
            )
        ids = [
            {"question_id": i * 1000 + k, "image_id": i}
            for i in reversed(image_ids)
            for k in (0, 1)
        ]
        questions = {"questions": [{**each, "question": "How many?"} for each in ids]}
        (folder / f"v2_OpenEnded_mscoco_{name}_questions.json").write_text(
            json.dumps(questions), encoding="utf-8"
        )
        if annotated:
            annotations = {"annotations": [annotation(each) for each in ids]}
            (folder / f"v2_mscoco_{name}_annotations.json").write_text(
                json.dumps(annotations), encoding="utf-8"
            )
    return folder


def test_official_layout(source, tmp_path):
    prepare_vqav2(source, tmp_path / "out")
    data = open_prepared(tmp_path / "out")
    assert {
        name: (s["questions"], s["images"], s["labelled"])
        for name, s in data.manifest.splits.items()
    } == {
        "train": (12, 6, True),
        "val-minival": (6, 3, True),
        "minival": (2, 1, True),
        "test-dev": (4, 2, False),
        "test": (8, 4, False),
    }
    assert data.labels == ["2"]  # "3" is the majority of one question, and nine are needed
    assert data.images["image_id"] == [*range(1, 7), *range(11, 15), *range(21, 25)]
    assert data.images[6]["file_name"] == "COCO_val2014_000000000011.jpg"
    assert (data.images[6]["width"], data.images[6]["height"]) == (6, 4)
    assert (
        data.images[6]["bytes"]
        == (source / "val2014" / "COCO_val2014_000000000011.jpg").read_bytes()
    )
    train, val = (data.questions(name)["question_id"] for name in ("train", "val"))
    assert list(train) == sorted(train) and sorted(val) == [
        i * 1000 + k for i in range(11, 15) for k in (0, 1)
    ]
    assert (
        list(data.questions("train+val")["question_id"])
        == list(data.questions("trainval")["question_id"])
        == [*train, *val]
    )
    test = data.questions("test")
    assert test["answers"] == [None] * 8 and test["label_ids"] == [None] * 8
    assert [data.images[row]["image_id"] for row in test["image_row"]] == test["image_id"]


def test_targets_are_looked_up_with_normalised_answers(source, tmp_path):
    for name in ("train2014", "val2014"):
        change(source, f"v2_mscoco_{name}_annotations.json", make_three_frequent)
    prepare_vqav2(source, tmp_path / "out")
    data = open_prepared(tmp_path / "out")
    row = data.questions("train")[0]
    assert sorted(data.labels) == ["2", "3"] and row["answers"] == ANSWERS
    targets = {
        data.labels[i]: score
        for i, score in zip(row["label_ids"], row["label_scores"], strict=True)
    }
    assert targets == pytest.approx({"2": 1.0, "3": 0.6})


def make_three_frequent(content):
    for number, record in enumerate(content["annotations"]):
        record["multiple_choice_answer"] = ("two", "Three")[number % 2]


def test_the_arrow_files_load_alone(source, tmp_path):
    prepare_vqav2(source, tmp_path / "out")
    assert (
        len(datasets.Dataset.from_file(str(tmp_path / "out" / "questions-val-minival.arrow"))) == 6
    )


def change(source, name, edit):
    content = json.loads((source / name).read_text(encoding="utf-8"))
    edit(content)
    (source / name).write_text(json.dumps(content), encoding="utf-8")


QUESTIONS, ANNOTATIONS = (
    "v2_OpenEnded_mscoco_train2014_questions.json",
    "v2_mscoco_train2014_annotations.json",
)


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (QUESTIONS, lambda c: c["questions"].clear(), "train2014_questions.json: no question"),
        (
            QUESTIONS,
            lambda c: c["questions"].pop(0),
            "annotations.json: 1 annotations without a question, such as 6000",
        ),
        (
            QUESTIONS,
            lambda c: c["questions"][0].update(question="\ud800"),
            "questions.json: question_id 6000: cannot be stored",
        ),
        (
            ANNOTATIONS,
            lambda c: c["annotations"].append(c["annotations"][0]),
            "annotations.json: question_id 6000 .* twice",
        ),
        (
            ANNOTATIONS,
            lambda c: c["annotations"].pop(0),
            "annotations.json: 1 questions have no annotation, such as 6000",
        ),
        (
            ANNOTATIONS,
            lambda c: c["annotations"][0].update(image_id=1),
            r"question_id 6000: image_id 1, but 6 in .*questions.json",
        ),
        (
            ANNOTATIONS,
            lambda c: c["annotations"][2].pop("answers"),
            r"record 2 \(question_id 5000\): has no 'answers'",
        ),
        (
            ANNOTATIONS,
            lambda c: c["annotations"][2]["answers"][0].pop("answer"),
            r"answers: number 1 of 10: has no 'answer'",
        ),
    ],
)
def test_refused(source, tmp_path, name, edit, message):
    change(source, name, edit)
    with pytest.raises(RequestError, match=message) as error:
        prepare_vqav2(source, tmp_path / "out")
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["source"]


def test_an_image_id_in_two_folders_is_named(source, tmp_path):
    for kind in ("questions", "annotations"):
        name = QUESTIONS if kind == "questions" else ANNOTATIONS
        change(
            source, name.replace("train", "val"), lambda c, kind=kind: c[kind][0].update(image_id=1)
        )
    with pytest.raises(RequestError, match="image_id 1 stands for two files"):
        prepare_vqav2(source, tmp_path / "out")


def test_a_missing_file_is_named(source, tmp_path):
    (source / ANNOTATIONS).unlink()
    with pytest.raises(RequestError, match="v2_mscoco_train2014_annotations.json: no such file"):
        prepare_vqav2(source, tmp_path / "out")


def test_prepared_data_is_replaced_but_nothing_beside_it(source, tmp_path):
    out = tmp_path / "out"
    prepare_vqav2(source, out)
    before = {p.name: p.read_bytes() for p in out.iterdir()}
    prepare_vqav2(source, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    (out / "notes.txt").write_text("mine", encoding="utf-8")
    prepare_vqav2(source, out)
    (out / "questions-train.arrow").unlink()  # damaged, hence made again as a whole
    with pytest.raises(RequestError, match="holds 'notes.txt' beside the prepared data"):
        prepare_vqav2(source, out)
    assert (out / "notes.txt").read_text(encoding="utf-8") == "mine"
    (out / "notes.txt").unlink()
    prepare_vqav2(source, out)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before
    change(out, "manifest.json", lambda manifest: manifest.update(source="easy-vqa"))
    with pytest.raises(RequestError, match="holds something else than prepared vqav2"):
        prepare_vqav2(source, out)
