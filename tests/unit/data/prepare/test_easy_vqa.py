"""easy-VQA through VQA v2's layout: counts, published baselines, determinism, and what is refused."""

import json
from collections import Counter, defaultdict

import pytest

from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa, question_type, write_official
from vle_bench.data.prepare.questions import prepare_questions
from vle_bench.data.prepare.split import Split
from vle_bench.data.prepare.vocabulary import vocabulary
from vle_bench.data.prepare.vqav2 import held_out
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("easy") / "prepared"
    prepare_easy_vqa(folder)
    return open_prepared(folder)


def test_counts_and_labels(prepared):
    counts = {name: (s["questions"], s["images"]) for name, s in prepared.manifest.splits.items()}
    assert counts == {"train": (34_940, 3_615), "val": (3_635, 385), "test": (9_673, 1_000)}
    assert counts["train"][0] + counts["val"][0] == 38_575
    assert len(prepared.labels) == 13 and prepared.labels[:2] == ["yes", "no"]


def test_no_image_of_val_or_test_is_trained_on(prepared):
    train, val, test = (set(prepared.questions(s)["image_id"]) for s in ("train", "val", "test"))
    assert not train & val and not train & test and not val & test
    assert all(held_out(i) for i in val) and not any(held_out(i) for i in train)
    assert len(set(prepared.images["image_id"])) == 5_000


def question_only_baselines(train, test):
    """Accuracy on `test` of the most frequent answer, and of the best answer to each question text.

    Args:
        train, test: questions tables; easy-VQA's rules are learnt on its whole official training
            set, train and val together.
    """
    frequent = Counter(train["multiple_choice_answer"]).most_common(1)[0][0]
    by_text = defaultdict(Counter)
    for text, answer in zip(train["question"], train["multiple_choice_answer"], strict=True):
        by_text[text][answer] += 1
    rule = {text: counts.most_common(1)[0][0] for text, counts in by_text.items()}
    rows = list(
        zip(test["question"], test["multiple_choice_answer"], test["answer_type"], strict=True)
    )
    answered = [(rule.get(text) == answer, kind != "yes/no") for text, answer, kind in rows]
    others = [correct for correct, is_other in answered if is_other]
    return {
        "most_frequent": sum(answer == frequent for _, answer, _ in rows) / len(rows),
        "question_only": sum(correct for correct, _ in answered) / len(rows),
        "question_only_not_yes_no": sum(others) / len(others),
    }


def test_question_only_baselines_are_the_published_ones(prepared):
    found = question_only_baselines(prepared.questions("train+val"), prepared.questions("test"))
    assert {name: f"{100 * value:.2f}" for name, value in found.items()} == {
        "most_frequent": "37.33",
        "question_only": "67.00",
        "question_only_not_yes_no": "23.30",
    }
    assert sum(t != "yes/no" for t in prepared.questions("test")["answer_type"]) == 2_537


def test_a_row_holds_the_ten_answers_and_its_soft_target(prepared):
    row = prepared.questions("train")[0]
    assert row["answers"] == [row["multiple_choice_answer"]] * 10
    assert row["label_ids"] == [prepared.labels.index(row["multiple_choice_answer"])] and row[
        "label_scores"
    ] == [1.0]
    assert prepared.images[row["image_row"]]["image_id"] == row["image_id"]


def test_question_types():
    assert question_type("what is the blue shape?") == "what shape"
    assert question_type("what color is the shape?") == "what color"
    assert question_type("is there not a teal shape?") == "is there this color"
    assert question_type("does the image contain a circle?") == "is there this shape"


def test_twice_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        prepare_easy_vqa(tmp_path / name, limit_images=40)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    tables = [
        "images-00000-of-00001.arrow",
        *(f"questions-{s}.arrow" for s in ("test", "train", "val")),
    ]
    assert files == sorted([*tables, "label_map.json", "manifest.json"])
    assert all(
        (tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files
    )


def test_a_folder_with_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("ten years of work", encoding="utf-8")
    with pytest.raises(RequestError, match="holds something else"):
        prepare_easy_vqa(tmp_path, limit_images=40)
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_unknown_split_and_broken_folders(prepared, tmp_path):
    with pytest.raises(RequestError, match="no split 'vall'; it has test, train, val"):
        prepared.questions("vall")
    with pytest.raises(RequestError, match="run `vle-bench prepare"):
        open_prepared(tmp_path)
    prepare_easy_vqa(tmp_path / "d", limit_images=40)
    arrow = tmp_path / "d" / "questions-val.arrow"
    arrow.write_bytes(arrow.read_bytes()[:-10])
    with pytest.raises(RequestError, match=r"questions-val.arrow: \d+ bytes long instead of"):
        open_prepared(tmp_path / "d")
    (tmp_path / "d" / "manifest.json").write_text('{"schema_version": 1, "spl', encoding="utf-8")
    with pytest.raises(RequestError, match="broken or cut-off JSON"):
        open_prepared(tmp_path / "d")


def official(tmp_path):
    questions, annotations, images = write_official(tmp_path / "official", "train", 12)
    return questions, annotations, lambda i: images / f"COCO_train_{i:012d}.jpg"


def damage_json(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (
            lambda q, a, i: q.write_text(q.read_text("utf-8")[:200], "utf-8"),
            "questions-train.json: broken or cut-off JSON",
        ),
        (
            lambda q, a, i: damage_json(q, lambda c: c["questions"][3].pop("question")),
            r"questions-train.json: record 3 \(question_id \d+\): has no 'question'",
        ),
        (
            lambda q, a, i: damage_json(q, lambda c: c["questions"].append(c["questions"][0])),
            "occurs twice",
        ),
        (
            lambda q, a, i: damage_json(a, lambda c: c["annotations"].pop()),
            "1 questions have no annotation",
        ),
        (lambda q, a, i: i(0).unlink(), "COCO_train_000000000000.jpg: no such image"),
        (
            lambda q, a, i: i(0).write_bytes(i(0).read_bytes()[:100]),
            "COCO_train_000000000000.jpg: cannot be read as an image",
        ),
    ],
)
def test_bad_official_files_leave_nothing_behind(tmp_path, damage, message):
    questions, annotations, image_path = official(tmp_path)
    damage(questions, annotations, image_path)
    split = Split(questions, annotations, image_path, vocabulary=True)
    with pytest.raises(RequestError, match=message) as error:
        prepare_questions("easy-vqa", {"train": split}, tmp_path / "out", 1)
    assert "\n" not in str(error.value)
    assert [p.name for p in tmp_path.iterdir()] == ["official"]


def test_vocabulary_order_and_minimum():
    answers = Counter(["b", "a", "Two", "two", "the 2", "b", "a", "c"])
    # "a" is an article: its normalised form is empty, and stands before "b" at the same count
    assert vocabulary(answers, 1) == ["2", "", "b", "c"]
    assert "c" not in vocabulary(answers, 2)
    with pytest.raises(RequestError, match="no class"):
        vocabulary(answers, 99)
