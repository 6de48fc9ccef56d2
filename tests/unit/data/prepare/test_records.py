"""Records of VQA v2 that prepare refuses, and how those that are skipped are counted."""

import pytest

from tests.miniature.vqav2 import change, write_vqav2
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vqa_summary import lines
from vle_bench.data.prepare.vqav2 import minival, prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError

SKIP = Choices(on_bad_record="skip")
Q, A = "v2_OpenEnded_mscoco_train2014_questions.json", "v2_mscoco_train2014_annotations.json"
DEV, TEST = (f"v2_OpenEnded_mscoco_{name}2015_questions.json" for name in ("test-dev", "test"))
WAY_OUT = "; --on-bad-record skip leaves such records out"


@pytest.fixture
def own(tmp_path):
    return write_vqav2(tmp_path / "own")


def refused(source, output):
    with pytest.raises(RequestError) as caught:
        prepare_vqav2(source, output)
    assert "\n" not in str(caught.value) and not output.exists()
    return str(caught.value)


def lost(manifest):
    return {
        name: split["left_out_as_bad_records"]
        for name, split in manifest.report.items()
        if split["left_out_as_bad_records"]
    }


def answer(k, **values):
    return lambda c: c["annotations"][0]["answers"][k].update(values)


@pytest.mark.parametrize(
    ("name", "edit", "problem"),
    [
        (
            Q,
            lambda c: c["questions"][0].update(question=" \t"),
            "record 0 (question_id 6000): question: empty",
        ),
        (
            A,
            lambda c: c["annotations"][0].update(answer_type="colour"),
            "record 0 (question_id 1011): answer_type: 'colour' is none of yes/no, number, other",
        ),
        (
            A,
            answer(1, answer_id=1),
            "record 0 (question_id 1011): answers: answer_id 1 occurs twice; give each answer its own, "
            "or none: then they are numbered by their place",
        ),
        (
            A,
            answer(4, answer_id=""),
            "record 0 (question_id 1011): answers: number 5 of 10: answer_id: '' is not a whole number",
        ),
        (
            A,
            answer(4, answer_id=[5]),
            "record 0 (question_id 1011): answers: number 5 of 10: answer_id: [5] is not a whole number",
        ),
        (
            A,
            answer(3, answer=4),
            "record 0 (question_id 1011): answers: number 4 of 10: answer: 4 is not a string",
        ),
    ],
)
def test_what_is_no_official_record(own, tmp_path, name, edit, problem):
    """Skipped, it is one record and one question less, though its other half stands alone now."""
    change(own / name, edit)
    assert refused(own, tmp_path / "out") == f"{own / name}: {problem}{WAY_OUT}"
    manifest = prepare_vqav2(own, tmp_path / "out", SKIP)
    assert [f"{bad['record']}: {bad['problem']}" for bad in manifest.left_out["records"]] == [
        problem
    ]
    assert manifest.splits["train"]["questions"] == 26 and lost(manifest) == {"train": 1}
    assert "left out: 1 bad records" in lines(manifest)


def first_of_dev(**values):
    return lambda c: c["questions"][0].update(values)


@pytest.mark.parametrize(
    ("edit", "problem"),
    [
        (first_of_dev(question_id=99), f"question_id 99: not in {TEST}"),
        (first_of_dev(question_id=9_999_999), f"question_id 9999999: not in {TEST}"),
        (first_of_dev(image_id=2001), f"question_id 2002000: another image_id than in {TEST}"),
        (first_of_dev(question="Another?"), f"question_id 2002000: another text than in {TEST}"),
    ],
)
def test_test_dev_is_a_part_of_test(own, tmp_path, edit, problem):
    change(own / DEV, edit)
    assert refused(own, tmp_path / "out") == f"{own / DEV}: {problem}{WAY_OUT}"
    manifest = prepare_vqav2(own, tmp_path / "out", SKIP)
    (listed,) = manifest.left_out["records"]
    assert f"{listed['file']}: {listed['record']}: {listed['problem']}" == f"{DEV}: {problem}"
    assert (
        manifest.splits["test-dev"]["questions"],
        manifest.splits["test"]["questions"],
    ) == (14, 21)
    assert lost(manifest) == {"test-dev": 1}
    dev, test = (
        set(open_prepared(tmp_path / "out").questions(name)["question_id"])
        for name in ("test-dev", "test")
    )
    assert dev < test


def test_each_split_says_how_many_questions_it_lacks(own, tmp_path):
    """Two splits share the files of val; a question that occurs twice is not lost."""
    (held,) = minival(range(1001, 1013))

    def spoil(content):
        questions = content["questions"]
        of_minival = next(q for q in questions if q["image_id"] == held)
        of_val = [q for q in questions if q["image_id"] != held]
        of_minival["question"] = of_val[0]["question"] = ""
        questions.append(of_val[1])

    change(own / Q.replace("train", "val"), spoil)
    change(own / TEST, lambda c: c["questions"][-1].update(question_id="x"))
    change(own / DEV, lambda c: c["questions"].pop())
    manifest = prepare_vqav2(own, tmp_path / "out", SKIP)
    assert lost(manifest) == {"minival": 1, "val-minival": 1, "test": 1}
    assert len(manifest.left_out["records"]) == 4
    assert (
        manifest.splits["minival"]["questions"] == 2
        and manifest.splits["val-minival"]["questions"] == 41
    )


def test_answers_without_ids_are_numbered_by_their_place(own, tmp_path):
    whole = prepare_vqav2(own, tmp_path / "with")
    change(
        own / A, lambda c: [a.pop("answer_id") for r in c["annotations"][:2] for a in r["answers"]]
    )
    change(own / A, lambda c: c["annotations"][2]["answers"][4].pop("answer_id"))
    manifest = prepare_vqav2(own, tmp_path / "without")
    assert manifest.hash == whole.hash and whole.notes is None
    said = "answers without answer_id are numbered by their place (3 questions)"
    assert [line for line in lines(manifest) if "answer_id" in line] == [said]
    assert said in list(lines(prepare_vqav2(own, tmp_path / "without")))


def test_an_id_of_more_than_64_bits(own, tmp_path):
    change(own / A, lambda c: c["annotations"][0].update(question_id=2**70))
    assert "cannot be stored" in refused(own, tmp_path / "out")
    assert prepare_vqav2(own, tmp_path / "out", SKIP).splits["train"]["questions"] == 26
