"""Files from anywhere, scored: each is read once, and asked only for what a score needs."""

import json
import os
import re
import threading
from pathlib import Path

import pytest

from tests.miniature.in_process import run
from vle_bench.data.official.vcr import COLUMNS
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import score_vqa_files

ROOT = Path(__file__).parents[3]
BOM = b"\xef\xbb\xbf"


@pytest.fixture
def pipe(tmp_path):
    """Content → a path that can be read once: a second reader finds a closed pipe, and waits no longer than the test."""
    writers = []

    def feed(path, content):
        with open(path, "wb") as file:
            file.write(content)

    def make(name, content):
        path = tmp_path / "pipes" / name
        path.parent.mkdir(exist_ok=True)
        os.mkfifo(path)
        thread = threading.Thread(target=feed, args=(path, content), daemon=True)
        thread.start()
        writers.append((path, thread))
        return path

    yield make
    for path, thread in writers:
        if thread.is_alive():  # nobody has read it
            handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            thread.join(timeout=5)
            os.close(handle)


def within(seconds, action):
    """The result of an action that must not wait for a second content of a pipe."""
    done = []
    thread = threading.Thread(target=lambda: done.append(action()), daemon=True)
    thread.start()
    thread.join(timeout=seconds)
    assert done, "it waits"
    return done[0]


def question(number, **values):
    answers = [{"answer_id": i, "answer": "yes"} for i in range(1, 11)]
    truth = {
        "question_id": number,
        "image_id": number,
        "question_type": "is",
        "answer_type": "yes/no",
        "answers": answers,
    }
    return {**truth, **values}


def contents(truths, answers=None):
    """(questions, annotations, predictions) as bytes."""
    asked = [
        {"question_id": t["question_id"], "image_id": t["image_id"], "question": "is it?"}
        for t in truths
    ]
    given = [
        {"question_id": t["question_id"], "answer": (answers or {}).get(t["question_id"], "yes")}
        for t in truths
    ]
    return tuple(
        json.dumps(c).encode() for c in ({"questions": asked}, {"annotations": truths}, given)
    )


def write(folder, files):
    paths = [folder / name for name in ("q.json", "a.json", "p.json")]
    for path, content in zip(paths, files, strict=True):
        path.write_bytes(content)
    return paths


def options(files):
    names = ("--questions", "--annotations", "--predictions")
    return [part for pair in zip(names, files, strict=True) for part in pair]


@pytest.mark.parametrize("ids", [{}, {"answer_id": None}])
def test_ten_equal_answers_without_ids_score_one(tmp_path, ids):
    same = question(1, answers=[{"answer": "yes", **ids}] * 10)
    some = question(2, answers=[{"answer": "yes", "answer_id": 1}, *[{"answer": "yes"}] * 9])
    files = write(tmp_path, contents([same, some, question(3)], {3: "no"}))
    result = score_vqa_files(*files)
    assert result["per_question"] == {1: 1.0, 2: 1.0, 3: 0.0} and result["numbered"] == 2
    shown, said = run("score", "vqa", *options(files), "--json", cwd=tmp_path)
    assert json.loads(shown).keys() == {"accuracy", "per_answer_type", "per_question_type", "n"}
    assert (
        said == f"{files[1]}: answers without answer_id are numbered by their place (2 questions)\n"
    )
    _, said = run("score", "vqa", *options(write(tmp_path, contents([question(3)]))), cwd=tmp_path)
    assert said == ""


@pytest.mark.parametrize(
    "ids", [[1] * 10, [1, 1, *range(2, 10)], [1, 1.0, *range(2, 10)], [[1]] * 10]
)
def test_an_answer_id_twice_is_refused_as_in_prepare(tmp_path, ids):
    """The official program takes equal records for one annotator's: a perfect file scores 0."""
    twice = question(2, answers=[{"answer": "café", "answer_id": i} for i in ids])
    files = write(tmp_path, contents([question(1), twice], {2: "café"}))
    message = rf"answer_id {re.escape(str(ids[1]))} occurs twice; give each answer its own, or none"
    with pytest.raises(RequestError, match=rf"a.json: record 1 \(question_id 2\): .*{message}"):
        score_vqa_files(*files)


def test_annotations_of_okvqa(tmp_path):
    """No majority answer; five people, each twice; fields that are not VQA's (okvqa.allenai.org)."""
    given = [
        "race",
        "race",
        "motocross",
        "motocross",
        "ride",
        "ride",
        "race",
        "race",
        "pony",
        "pony",
    ]
    answers = [
        {"answer_id": i, "raw_answer": a + "s", "answer_confidence": "yes", "answer": a}
        for i, a in enumerate(given, 1)
    ]
    truth = {
        "image_id": 297147,
        "answer_type": "other",
        "question_type": "four",
        "question_id": 2971475,
        "answers": answers,
        "confidence": 3,
    }
    files = write(tmp_path, contents([truth], {2971475: "race"}))
    # four of ten say so: each of the six others sees 4, each of the four sees 3
    assert score_vqa_files(*files)["accuracy"] == 1.0
    files = write(tmp_path, contents([truth], {2971475: "pony"}))
    assert score_vqa_files(*files)["accuracy"] == pytest.approx((8 * 2 / 3 + 2 * 1 / 3) / 10)


def test_questions_need_no_more_than_an_id(tmp_path):
    _, truths, given = contents([question(1)])
    files = write(tmp_path, (b'{"questions": [{"question_id": 1}]}', truths, given))
    assert score_vqa_files(*files)["n"] == 1
    shown, _ = run("check-submission", "vqa", files[2], "--questions", files[0], cwd=tmp_path)
    assert "fine: 1 records" in shown


@pytest.mark.parametrize("number", [2**53 + 1, 2**63 - 1, -(2**63)])
def test_ids_of_64_bits(tmp_path, number):
    truths = [question(number), question(number - 1 if number > 0 else number + 1)]
    answers = {truths[0]["question_id"]: "yes", truths[1]["question_id"]: "no"}
    files = write(tmp_path, contents(truths, answers))
    assert score_vqa_files(*files)["per_question"] == {
        truths[0]["question_id"]: 1.0,
        truths[1]["question_id"]: 0.0,
    }
    shown, _ = run("score", "vqa", *options(files), "--per-question", "each.json", cwd=tmp_path)
    assert " 50.00" in shown
    assert json.loads((tmp_path / "each.json").read_text(encoding="utf-8"))[str(number)] == 1.0


def test_a_byte_order_mark_is_read(tmp_path):
    files = write(tmp_path, [BOM + content for content in contents([question(1)])])
    assert score_vqa_files(*files)["accuracy"] == 1.0
    shown, _ = run("check-submission", "vqa", files[2], "--questions", files[0], cwd=tmp_path)
    assert "fine: 1 records" in shown


def test_pipes_are_scored(pipe, tmp_path):
    files = [
        pipe(f"{name}.json", content)
        for name, content in zip("qap", contents([question(1), question(2)]), strict=True)
    ]
    assert within(20, lambda: score_vqa_files(*files))["accuracy"] == 1.0


VCR = [
    {"annot_id": f"val-{i}", "answer_label": i % 4, "rationale_label": (i + 1) % 4}
    for i in range(6)
]


def vcr_contents():
    rows = [
        [
            r["annot_id"],
            *[float(i == r["answer_label"]) for i in range(4)],
            *[float(i == r["rationale_label"]) for i in range(4)] * 4,
        ]
        for r in VCR
    ]
    records = "".join(json.dumps(record) + "\n" for record in VCR).encode()
    table = "".join(",".join(map(str, row)) + "\n" for row in [COLUMNS, *rows]).encode()
    return records, table


def test_pipes_of_vcr_are_scored(pipe, tmp_path, capsys):
    from vle_bench.evaluation.score_files import score_vcr_files

    records, table = vcr_contents()
    result = within(
        20, lambda: score_vcr_files(pipe("a.jsonl", records), pipe("p.csv", BOM + table))
    )
    assert (result["q2a"], result["qa2r"], result["q2ar"]) == (1, 1, 1)


def test_submissions_are_checked_from_pipes(pipe, tmp_path):
    from vle_bench.evaluation.submission import check_vcr_submission, check_vqa_submission

    asked, _, given = contents([question(1), question(2)])
    asked = json.dumps({**json.loads(asked), "data_subtype": "test-dev2015"}).encode()
    found = within(20, lambda: check_vqa_submission(pipe("p.json", given), pipe("q.json", asked)))
    assert found.problems == [] and found.count == 2 and "test-dev only" in found.warnings[0]
    records, table = vcr_contents()
    found = within(20, lambda: check_vcr_submission(pipe("p.csv", table), pipe("a.jsonl", records)))
    assert found.problems == [] and found.count == 6


def test_a_label_map_is_read_once(pipe, tmp_path):
    from tests.miniature.vqav2 import write_vqav2
    from vle_bench.data.prepare.manifest import Choices
    from vle_bench.data.prepare.vqav2 import prepare_vqav2

    official = write_vqav2(tmp_path / "official")
    labels = pipe("labels.json", b'["2", "red"]')
    manifest = within(
        60, lambda: prepare_vqav2(official, tmp_path / "out", Choices(label_map=labels))
    )
    assert manifest.labels["count"] == 2


@pytest.mark.parametrize(
    ("rows", "notes"),
    [
        ([(1, "no"), (2, "yes"), (1, "yes")], ["1 question ids more than once; {last}: 1"]),
        ([(1, "yes"), (2, "yes"), (1, "no")], ["1 question ids more than once; {last}: 1"]),
        (
            [(1.0, "yes"), (2, "no")],
            ["1 question ids are not written {number}: record 0 (1.0 for 1)"],
        ),
        (
            [(2, "yes"), (True, "yes"), (1, "no"), (2.0, "no")],
            [
                "2 question ids are not written {number}: record 1 (true for 1), record 3 (2.0 for 2)",
                "2 question ids more than once; {last}: 1, 2",
            ],
        ),
        ([(1, "yes"), (2, "no")], []),
    ],
)
def test_scores_what_the_official_reader_takes_and_says_so(tmp_path, rows, notes):
    """`score vqa` and `check-submission vqa` say the same of the same file, and neither refuses it."""
    files = write(tmp_path, contents([question(1), question(2)]))
    results = [{"question_id": i, "answer": answer} for i, answer in rows]
    files[2].write_text(json.dumps(results), encoding="utf-8")
    index = dict(rows)  # as the official reader's: equal keys are one, and the last one counts
    expected = sum(index[i] == "yes" for i in (1, 2)) / 2
    out, errors = run("score", "vqa", *options(files), "--json", cwd=tmp_path)
    assert json.loads(out)["accuracy"] == expected and json.loads(out)["n"] == 2
    number = "as whole numbers; the official reader takes each for the number that it equals"
    last = "the official reader scores the last answer of each"
    expected = [note.format(number=number, last=last) for note in notes]
    assert errors.splitlines() == [f"{files[2]}: {note}" for note in expected]
    out, errors = run("check-submission", "vqa", files[2], "--questions", files[0], cwd=tmp_path)
    assert errors.splitlines() == [f"{files[2]}: warning: {note}" for note in expected]
    assert "fine" in out and "reject" not in out + errors


@pytest.mark.parametrize("written", ["1", 1.5, None, [1]])
def test_ids_that_the_official_reader_does_not_take_are_refused(tmp_path, written):
    files = write(tmp_path, contents([question(1)]))
    results = [{"question_id": written, "answer": "yes"}]
    files[2].write_text(json.dumps(results), encoding="utf-8")
    message = f"record 0: question_id: {written!r} is not a whole number"
    assert message in run("score", "vqa", *options(files), cwd=tmp_path, code=2)[1]
    check = ("check-submission", "vqa", files[2], "--questions", files[0])
    errors = run(*check, cwd=tmp_path, code=1)[1]
    assert f"question_id is not a whole number: record 0 ({written!r})" in errors
