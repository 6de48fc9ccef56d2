"""The datasets by name, from miniatures in their official layouts: what is stored, and what is refused."""

import json
import shlex
from pathlib import Path

import pytest

from tests.miniature import in_process
from tests.miniature.by_name import COCO, WRITERS, write_gqa
from tests.miniature.vqav2 import change
from vle_bench.data.official.further import REPHRASED, numbered
from vle_bench.data.prepare.by_name import LAYOUTS, prepare_named
from vle_bench.data.prepare.fingerprint import Standing
from vle_bench.data.prepare.manifest import AS_USUAL, Choices
from vle_bench.data.prepare.vqa_summary import lines
from vle_bench.data.prepared import open_prepared
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.preflight import data_commands, wrong_targets

COUNTS = {  # questions, images, questions with an answer in the vocabulary
    "okvqa": {"train": (6, 3, 6), "val": (6, 3, 6)},
    "vizwiz": {"train": (4, 4, 3), "val": (4, 4, 3), "test": (4, 4, 0)},
    "textvqa": {"train": (4, 2, 4), "val": (4, 2, 4), "test": (4, 2, 0)},
    "advqa": {"val": (6, 3, 6), "test-dev": (6, 3, 0)},
    "vqa-rephrasings": {"val": (16, 2, 16)},
    "vqa-cp-v2": {"train": (20, 10, 20), "test": (8, 4, 8)},
    "gqa": {
        "train": (9, 3, 9),
        "val": (6, 2, 6),
        "testdev": (6, 2, 6),
        "test": (3, 1, 0),
        "challenge": (3, 1, 0),
        "submission": (6, 2, 0),
    },
    "aokvqa": {"train": (4, 4, 4), "val": (3, 3, 3), "test": (4, 4, 0)},
    "aokvqa-choices": {"train": (4, 4, 4), "val": (4, 4, 4), "test": (4, 4, 0)},
}
LABELS = {
    "okvqa": ["2", "red"],
    "vizwiz": ["red"],  # "unanswerable" occurs once: fewer than three times
    "textvqa": ["stop"],
    "advqa": ["2"],
    "vqa-rephrasings": ["2"],
    "vqa-cp-v2": ["2", "red"],
    "gqa": ["red", "table", "yes"],
    "aokvqa": ["cab"],
    "aokvqa-choices": ["cab"],
}
METRICS = {name: name for name in ("vizwiz", "textvqa", "gqa")} | {
    "aokvqa": "direct_answer",
    "aokvqa-choices": "multiple_choice",
}


def prepared(name, folder, choices=AS_USUAL):
    WRITERS[name](folder / "official")
    prepare_named(name, folder / "official", folder / "data", choices, {})
    return open_prepared(folder / "data")


@pytest.mark.parametrize("name", WRITERS)
def test_every_split_is_stored(name, tmp_path):
    data = prepared(name, tmp_path)
    assert data.labels == LABELS[name] and data.manifest.source == name
    assert COUNTS[name] == {
        split: (found["questions"], found["images"], found["answerable"])
        for split, found in data.manifest.splits.items()
    }
    assert data.manifest.metric == METRICS.get(name)
    row = SOURCES[name]
    labelled = {split for split, found in data.manifest.splits.items() if found["labelled"]}
    assert labelled == {*row.splits} and {*data.manifest.splits} - labelled == {*row.unlabelled}
    again = prepare_named(name, tmp_path / "official", tmp_path / "data", AS_USUAL, {})
    assert isinstance(again, Standing)


@pytest.mark.parametrize("name", WRITERS)
def test_the_row_and_the_layout_agree(name):
    row, layout = SOURCES[name], LAYOUTS[name]
    assert {*row.splits, *row.unlabelled} == {*layout.splits}
    assert {split for split, files in layout.splits.items() if files.annotations} == {*row.splits}
    assert bool(row.archives) == bool(layout.archives)


def rows(data, split):
    return data.questions(split).to_list()


def file_of(data, row):
    return data.images[row["image_row"]]["file_name"]


def test_okvqa_gets_the_majority_answer(tmp_path):
    first = rows(prepared("okvqa", tmp_path), "train")[0]
    assert first["multiple_choice_answer"] == "2" and first["question_type"] == "one"
    assert first["answers"][:2] == ["two", "Two"] and first["label_scores"] == [1.0]


def test_vizwiz_ids_are_those_of_the_images(tmp_path):
    data = prepared("vizwiz", tmp_path)
    for split in ("val", "test"):
        for row in rows(data, split):
            assert row["official_id"] == file_of(data, row)
            assert row["question_id"] == row["image_id"] == numbered(row["official_id"])
    types = {row["official_id"]: row["answer_type"] for row in rows(data, "val")}
    assert types["VizWiz_val_00000003.jpg"] == "unanswerable" and len(set(types.values())) == 2


def test_textvqa_images(tmp_path):
    data = prepared("textvqa", tmp_path)
    assert [row["question_id"] for row in rows(data, "val")] == list(range(34602, 34606))
    for row in rows(data, "test"):
        assert row["image_id"] == numbered(file_of(data, row).removesuffix(".jpg"))
    assert rows(data, "test")[0]["answers"] is None
    assert "image_file" not in data.questions("test").column_names


def test_rephrasings_of_the_same_id_as_an_original_are_told_apart(tmp_path):
    data = prepared("vqa-rephrasings", tmp_path)
    groups = {}
    for row in rows(data, "val"):
        groups.setdefault(row["rephrasing_of"], []).append(row)
    assert {*groups} == {1, 3, 10, 12}
    for original, group in groups.items():
        assert [row["question_id"] for row in group] == [
            original,
            *(REPHRASED + original * 10 + k for k in range(3)),
        ]
        assert len({row["image_id"] for row in group}) == 1
        assert group[0]["question"] == "How many are there?"
        assert [row["question"] for row in group[1:]] == [f"Way {k} to ask it?" for k in range(3)]


def test_cp_v2_finds_an_image_in_either_folder(tmp_path):
    data = prepared("vqa-cp-v2", tmp_path)
    names = {file_of(data, row) for row in rows(data, "train")}
    assert {name.split("_")[1] for name in names} == {"train2014", "val2014"}
    assert {row["image_id"] for row in rows(data, "test")} == {
        COCO[folder] + n for folder in ("train2014", "val2014") for n in (4, 5)
    }


def test_gqa_types(tmp_path):
    data = prepared("gqa", tmp_path)
    found = rows(data, "testdev")
    assert {row["official_id"] for row in found} == {f"02{i}{k}" for i in (0, 1) for k in (0, 1, 2)}
    kinds = {(row["structural"], row["semantic"], row["form"]) for row in found}
    assert kinds == {
        ("verify", "attr", "binary"),
        ("query", "rel", "open"),
        ("choose", "cat", "binary"),
    }
    assert {file_of(data, row) for row in found} == {"2320.jpg", "n21.jpg"}
    unlabelled = rows(data, "submission")
    assert all(row["structural"] is None and row["answers"] is None for row in unlabelled)


def test_answers_that_are_compared_as_given_are_classes_as_given(tmp_path):
    write_gqa(tmp_path / "official")
    file = tmp_path / "official" / "train_balanced_questions.json"
    change(file, lambda content: [record.update(answer="T-shirt") for record in content.values()])
    prepare_named("gqa", tmp_path / "official", tmp_path / "data", AS_USUAL, {})
    data = open_prepared(tmp_path / "data")
    assert data.labels == ["T-shirt"] and data.manifest.targets == "published"
    assert rows(data, "train")[0]["label_scores"] == [1.0]


def test_aokvqa_has_direct_answers(tmp_path):
    data = prepared("aokvqa", tmp_path)
    for row in rows(data, "val"):
        assert row["multiple_choice_answer"] == "cab" and row["answers"][:3] == [
            "ride",
            "ride",
            "bus",
        ]
        assert file_of(data, row) == f"{row['image_id']:012d}.jpg"
    assert "choices" not in data.questions("val").column_names
    assert data.manifest.notes == {"unscored": 1}  # the difficult one of val
    told = "1 question is left out: the official program does not score them"
    assert told in list(lines(data.manifest))


def test_aokvqa_has_choices(tmp_path):
    data = prepared("aokvqa-choices", tmp_path)
    for split in ("val", "test"):
        for row in rows(data, split):
            assert row["choices"] == ["skateboarder", "train", "delivery", "cab"]
            assert row["answers"] == (["cab"] * 10 if split == "val" else None)
    assert data.manifest.notes is None  # none is difficult for choices


def test_one_split_alone(tmp_path):
    write_gqa(tmp_path / "official")
    for name in ("train", "val", "test", "challenge"):
        (tmp_path / "official" / f"{name}_balanced_questions.json").unlink()
    (tmp_path / "official" / "submission_all_questions.json").unlink()
    prepare_named("gqa", tmp_path / "official", tmp_path / "data", AS_USUAL, {})
    data = open_prepared(tmp_path / "data")
    assert {*data.manifest.splits} == {"testdev"} and data.labels == ["red", "table", "yes"]


def test_a_label_map_of_another_dataset(tmp_path):
    labels = tmp_path / "labels.json"
    labels.write_text('["red", "2", "blue"]', encoding="utf-8")
    data = prepared("advqa", tmp_path, Choices(label_map=labels))
    assert data.labels == ["red", "2", "blue"] and rows(data, "val")[0]["label_ids"] == [1]


def first(content):
    """The first record of an official file of any of the layouts."""
    if isinstance(content, list):
        return content[0]
    found = content.get("questions") or content.get("annotations") or content.get("data")
    return found[0] if found else next(iter(content.values()))


def put(**values):
    return lambda content: first(content).update(values)


def drop(name):
    return lambda content: first(content).pop(name)


WRONG = [
    ("okvqa", "mscoco_val2014_annotations.json", put(answers=[]), "answers: an empty list"),
    ("okvqa", "mscoco_val2014_annotations.json", put(image_id=12), "image_id 12, but 42 in"),
    (
        "vizwiz",
        "val.json",
        put(image="../../secret.jpg"),
        "image: '../../secret.jpg' is not the name",
    ),
    ("vizwiz", "val.json", put(image="/etc/x.jpg"), "is not the name of a file"),
    ("vizwiz", "val.json", put(question=" "), "question: empty"),
    ("vizwiz", "train.json", drop("answers"), "has no 'answers'"),
    ("vizwiz", "val.json", put(answerable=2), "answerable: 2 is neither 0 nor 1"),
    ("vizwiz", "val.json", drop("answerable"), "has no 'answerable'"),
    ("vizwiz", "train.json", put(answers=[{"answer": "x"}] * 9), "answers: 9 of them, not 10"),
    (
        "vizwiz",
        "train.json",
        put(answers=[{"answer": 1}] * 10),
        "answers: answer: 1 is not a string",
    ),
    ("textvqa", "TextVQA_0.5.1_train.json", put(answers=["x"] * 11), "answers: 11 of them"),
    (
        "textvqa",
        "TextVQA_0.5.1_val.json",
        put(question_id="7"),
        "question_id: '7' is not a whole number",
    ),
    ("textvqa", "TextVQA_0.5.1_test.json", put(image_id=""), "image: '' is not the name of a file"),
    ("textvqa", "TextVQA_0.5.1_val.json", put(question_id=34603), "question_id 34603 occurs twice"),
    (
        "advqa",
        "v1_mscoco_val2017_advqa_annotations.json",
        put(answer_type="colour"),
        "none of yes/no",
    ),
    (
        "vqa-rephrasings",
        "v2_mscoco_valrep2014_humans_og_annotations.json",
        put(question_id=2),
        "question_id 2, but 1 at this place in",
    ),
    (
        "vqa-rephrasings",
        "v2_mscoco_valrep2014_humans_og_annotations.json",
        lambda content: content["annotations"].pop(),
        "record 15: not an object",
    ),
    (
        "vqa-rephrasings",
        "v2_OpenEnded_mscoco_valrep2014_humans_og_questions.json",
        put(rephrasing_of="1"),
        "rephrasing_of: '1' is not a whole number",
    ),
    ("vqa-cp-v2", "vqacp_v2_test_annotations.json", lambda content: content.pop(), "no annotation"),
    ("gqa", "val_balanced_questions.json", drop("types"), "has no 'types'"),
    (
        "gqa",
        "val_balanced_questions.json",
        put(types={"structural": "x"}),
        "types: has no 'semantic'",
    ),
    ("gqa", "val_balanced_questions.json", put(answer=2), "answer: 2 is not a string"),
    (
        "aokvqa-choices",
        "aokvqa_v1p0_val.json",
        put(correct_choice_idx=4),
        "correct_choice_idx: 4 is none of",
    ),
    (
        "aokvqa",
        "aokvqa_v1p0_val.json",
        put(direct_answers=["x"]),
        "direct_answers: 1 of them, not 10",
    ),
    (
        "aokvqa-choices",
        "aokvqa_v1p0_val.json",
        put(choices=[1, "b"]),
        "choices: a list of strings is expected",
    ),
    (
        "aokvqa",
        "aokvqa_v1p0_val.json",
        drop("difficult_direct_answer"),
        "true or false is expected",
    ),
]


@pytest.mark.parametrize(("name", "file", "edit", "problem"), WRONG)
def test_a_wrong_record_is_named(name, file, edit, problem, tmp_path):
    WRITERS[name](tmp_path / "official")
    change(tmp_path / "official" / file, edit)
    with pytest.raises(RequestError) as caught:
        prepare_named(name, tmp_path / "official", tmp_path / "data", AS_USUAL, {})
    error = str(caught.value)
    assert str(tmp_path / "official" / file) in error and problem in error, error
    assert "--on-bad-record skip" in error and "\n" not in error
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("name", ["vizwiz", "gqa", "vqa-rephrasings"])
def test_a_wrong_record_can_be_left_out(name, tmp_path):
    WRITERS[name](tmp_path / "official")
    file = LAYOUTS[name].splits["val"].questions
    change(tmp_path / "official" / file, put(question=""))
    skip = Choices(on_bad_record="skip")
    manifest = prepare_named(name, tmp_path / "official", tmp_path / "data", skip, {})
    assert manifest.splits["val"]["questions"] == COUNTS[name]["val"][0] - 1
    assert manifest.report["val"]["left_out_as_bad_records"] == 1
    assert manifest.left_out["records"][0]["file"] == file


@pytest.mark.parametrize(
    ("name", "file", "content", "problem"),
    [
        (
            "gqa",
            "val_balanced_questions.json",
            "[]",
            "no object of records; is it the official file?",
        ),
        ("gqa", "val_balanced_questions.json", "{}", "no question"),
        ("gqa", "val_balanced_questions.json", '{"1" {}', "broken or cut-off JSON"),
        ("vizwiz", "val.json", "[]", "no question"),
        ("textvqa", "TextVQA_0.5.1_val.json", "{}", "has no key 'data'"),
        ("vqa-cp-v2", "vqacp_v2_train_questions.json", '{"questions": []}', "broken or cut-off"),
    ],
)
def test_another_file_is_refused(name, file, content, problem, tmp_path):
    WRITERS[name](tmp_path / "official")
    (tmp_path / "official" / file).write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=problem) as caught:
        prepare_named(name, tmp_path / "official", tmp_path / "data", AS_USUAL, {})
    assert str(caught.value).startswith(str(tmp_path / "official" / file))


def test_a_double_key_of_gqa_is_found(tmp_path):
    write_gqa(tmp_path / "official")
    file = tmp_path / "official" / "val_balanced_questions.json"
    record = json.dumps(first(json.loads(file.read_text(encoding="utf-8"))))
    file.write_text(f'{{"05": {record}, "05": {record}}}', encoding="utf-8")
    with pytest.raises(RequestError, match=f"question_id {numbered('05')} occurs twice"):
        prepare_named("gqa", tmp_path / "official", tmp_path / "data", AS_USUAL, {})


@pytest.mark.parametrize("name", WRITERS)
def test_missing_files_are_named_with_where_they_come_from(name, tmp_path):
    folder = tmp_path / "official"
    folder.mkdir()
    with pytest.raises(RequestError) as caught:
        prepare_named(name, folder, tmp_path / "data", AS_USUAL, {})
    files = next(iter(LAYOUTS[name].splits.values()))
    assert files.questions in str(caught.value) and LAYOUTS[name].home in str(caught.value)
    (folder / files.questions).write_text("[]", encoding="utf-8")
    missing = files.annotations if files.annotations != files.questions else files.images[0]
    with pytest.raises(RequestError, match="no such f") as caught:
        prepare_named(name, folder, tmp_path / "data", AS_USUAL, {})
    assert str(caught.value).startswith(str(folder / missing))


@pytest.mark.parametrize("name", ["vizwiz", "okvqa", "gqa"])
def test_a_missing_image_is_named_and_found_again(name, tmp_path):
    official = WRITERS[name](tmp_path / "official")
    image = sorted(official.rglob("*.jpg"))[0]
    content = image.read_bytes()
    image.unlink()
    with pytest.raises(RequestError, match=image.name):
        prepare_named(name, official, tmp_path / "data", AS_USUAL, {})
    skip = Choices(on_bad_image="skip")
    manifest = prepare_named(name, official, tmp_path / "data", skip, {})
    assert [bad["file"] for bad in manifest.left_out["images"]] == [Path(image).name]
    image.write_bytes(content)
    with pytest.raises(RequestError, match="which was left out, has changed since"):
        prepare_named(name, official, tmp_path / "data", skip, {})


def test_an_image_that_neither_folder_has_is_named(tmp_path):
    official = WRITERS["vqa-cp-v2"](tmp_path / "official")
    next((official / "val2014").glob("*42.jpg")).unlink()
    with pytest.raises(RequestError, match=r"000000000042.jpg: no such image \(image_id 42\)"):
        prepare_named("vqa-cp-v2", official, tmp_path / "data", AS_USUAL, {})


def test_a_rephrasing_without_a_right_annotation_counts_as_lost(tmp_path):
    """Its official id is that of another question, which is not lost."""
    official = WRITERS["vqa-rephrasings"](tmp_path / "official")
    file = official / "v2_mscoco_valrep2014_humans_og_annotations.json"
    change(file, lambda content: content["annotations"][1].update(answers=[]))
    skip = Choices(on_bad_record="skip")
    manifest = prepare_named("vqa-rephrasings", official, tmp_path / "data", skip, {})
    assert manifest.splits["val"]["questions"] == 15
    assert manifest.report["val"]["left_out_as_bad_records"] == 1


@pytest.mark.parametrize("name", [n for n in WRITERS if "train" in SOURCES[n].splits])
def test_the_commands_that_a_recipe_names_prepare_its_data(name, tmp_path):
    shipped = "aokvqa/vle-base-choices" if name == "aokvqa-choices" else f"{name}/vle-base"
    data = load_recipe(shipped).data
    assert data.source == name and data.root == f"data/{name}"
    WRITERS[name](tmp_path / "data" / f"{name}-official")
    command = shlex.split(data_commands(data)[-1])
    shown, _ = in_process.run(*command[1:], cwd=tmp_path)
    assert f"written: data/{name}" in shown
    targets = open_prepared(tmp_path / "data" / name).manifest.targets
    assert wrong_targets(data, targets) is None
    other = data.model_copy(
        update={"targets": "normalised" if targets == "published" else "published"}
    )
    assert f"data.targets={targets}" in wrong_targets(other, targets)


@pytest.mark.parametrize("name", [name for name in LAYOUTS if LAYOUTS[name].archives])
def test_the_archives_hold_what_prepare_reads(name, tmp_path):
    layout = LAYOUTS[name]
    held = {part.rstrip("/") for archive in layout.archives for part in archive.holds}
    for files in layout.splits.values():
        assert {files.questions, files.annotations or files.questions, *files.images} <= held
    shown, _ = in_process.run("download", name, "--list", cwd=tmp_path)
    assert [line.split()[0] for line in shown.splitlines()] == [one.url for one in layout.archives]


def test_where_files_are_that_cannot_be_downloaded(tmp_path):
    _, errors = in_process.run("download", "vizwiz", "--list", cwd=tmp_path, code=2)
    assert "no archives of 'vizwiz' are known" in errors and "docs/datasets.md" in errors
