"""VCR accuracies by hand, and what a broken file is told."""

import json

import pytest

from tests.miniature.in_process import run
from vle_bench.data.official.vcr import COLUMNS
from vle_bench.errors import RequestError
from vle_bench.evaluation.score_files import read_labels, read_leaderboard, score_vcr_files
from vle_bench.metrics.vcr import vcr_accuracy


def record(annot_id, answer=0, rationale=0):
    return {"annot_id": annot_id, "answer_label": answer, "rationale_label": rationale}


def row(annot_id, answer=0, rationales=(0, 0, 0, 0)):
    """Scores that choose `answer`, and `rationales[a]` after answer a."""
    return [annot_id] + [
        0.7 if i == chosen else 0.1 for chosen in (answer, *rationales) for i in range(4)
    ]


@pytest.fixture
def write(tmp_path):
    def write(records, rows, header=COLUMNS):
        annotations, predictions = tmp_path / "val.jsonl", tmp_path / "leaderboard.csv"
        annotations.write_text(
            "".join(f"{r if isinstance(r, str) else json.dumps(r)}\n" for r in records),
            encoding="utf-8",
        )
        predictions.write_text(
            "".join(",".join(map(str, cells)) + "\n" for cells in (header, *rows)), encoding="utf-8"
        )
        return annotations, predictions

    return write


def test_the_columns_are_the_official_ones():
    assert len(COLUMNS) == 21
    assert COLUMNS[:6] == (
        "annot_id",
        "answer_0",
        "answer_1",
        "answer_2",
        "answer_3",
        "rationale_conditioned_on_a0_0",
    )
    assert (
        COLUMNS[12] == "rationale_conditioned_on_a1_3"
        and COLUMNS[20] == "rationale_conditioned_on_a3_3"
    )


def test_both_must_be_right_for_q2ar():
    labels = {"a": (0, 1), "b": (1, 1), "c": (2, 3), "d": (3, 0), "e": (3, 0)}
    answers, rationales = (
        {"a": 0, "b": 1, "c": 0, "d": 3, "e": 0},
        {"a": 1, "b": 2, "c": 3, "d": 0, "e": 1},
    )
    result = vcr_accuracy(answers, rationales, labels)
    assert result.pop("per_record") == {
        "a": {"q2a": True, "qa2r": True, "q2ar": True},
        "b": {"q2a": True, "qa2r": False, "q2ar": False},
        "c": {"q2a": False, "qa2r": True, "q2ar": False},
        "d": {"q2a": True, "qa2r": True, "q2ar": True},
        "e": {"q2a": False, "qa2r": False, "q2ar": False},
    }
    assert result == {"q2a": 3 / 5, "qa2r": 3 / 5, "q2ar": 2 / 5, "n": 5}


def test_rationales_count_after_the_right_answer_and_rows_join_by_id(write):
    records = [record("x", 2, 3), record("y", 1, 0), record("z", 0, 1)]
    # x: wrong answer, the rationale after answer 2 is right; y: the other way round; z: both.
    rows = [row("z", 0, (1, 0, 0, 0)), row("y", 1, (0, 2, 0, 0)), row("x", 0, (0, 0, 3, 0))]
    result = score_vcr_files(*write(records, rows))
    assert result == {
        "q2a": 2 / 3,
        "qa2r": 2 / 3,
        "q2ar": 1 / 3,
        "n": 3,
        "per_record": {
            "x": {"q2a": False, "qa2r": True, "q2ar": False},
            "y": {"q2a": True, "qa2r": False, "q2ar": False},
            "z": {"q2a": True, "qa2r": True, "q2ar": True},
        },
    }


def test_a_tie_goes_to_the_lowest_index(write):
    files = write(
        [record("first"), record("second", 1, 1)],
        [["first"] + [0.25] * 20, ["second"] + [0.25] * 20],
    )
    assert {i: hits["q2ar"] for i, hits in score_vcr_files(*files)["per_record"].items()} == {
        "first": True,
        "second": False,
    }


@pytest.mark.parametrize("which", ["answers", "rationales"])
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"a": 0}, r"1 annot_id missing \('b'\)"),
        ({"a": 0, "b": 0, "c": 0}, r"1 annot_id unknown \('c'\)"),
        ({"a": 0, "c": 0}, r"1 annot_id missing \('b'\); 1 annot_id unknown \('c'\)"),
    ],
)
def test_ids_must_be_equal(which, given, message):
    labels = {"a": (0, 0), "b": (0, 0)}
    choices = {"answers": {"a": 0, "b": 0}, "rationales": {"a": 0, "b": 0}, which: given}
    with pytest.raises(RequestError, match=f"{which}: {message}"):
        vcr_accuracy(choices["answers"], choices["rationales"], labels)
    with pytest.raises(RequestError, match="no annotations"):
        vcr_accuracy({}, {}, {})


def changed(place, cell):
    cells = row("v-1")
    cells[place] = cell
    return cells


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], r"leaderboard.csv: 1 annot_id missing \('v-1'\)"),
        ([row("v-1"), row("v-2")], r"leaderboard.csv: 1 annot_id unknown \('v-2'\)"),
        ([row("v-1"), row("v-1")], "line 3: annot_id 'v-1' a second time"),
        ([row("v-1")[:-1]], "line 2: 21 columns are expected, not 20"),
        ([row("v-1") + [0]], "line 2: 21 columns are expected, not 22"),
        ([changed(3, "high")], r"line 2 \(annot_id 'v-1'\): answer_2: 'high' is not a number"),
        ([changed(3, "")], "answer_2: '' is not a number"),
        ([changed(9, "nan")], "rationale_conditioned_on_a1_0: 'nan' is not finite"),
        ([changed(20, "-inf")], "rationale_conditioned_on_a3_3: '-inf' is not finite"),
        ([changed(0, '"v-1')], "line 2: not a row of a CSV file"),
    ],
)
def test_bad_predictions_get_one_line(write, rows, message):
    with pytest.raises(RequestError, match=message) as caught:
        score_vcr_files(*write([record("v-1")], rows))
    assert "leaderboard.csv" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (COLUMNS[:-1], "line 1: 21 columns are expected, not 20"),
        (
            (*COLUMNS[:2], COLUMNS[3], COLUMNS[2], *COLUMNS[4:]),
            "line 1: column 3: 'answer_1' is expected, not 'answer_2'",
        ),
    ],
)
def test_bad_headers_get_one_line(write, header, message):
    with pytest.raises(RequestError, match=message):
        score_vcr_files(*write([record("v-1")], [row("v-1")], header))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([record("v-1"), '{"annot_id": "v-2", "ans'], "line 2: broken or cut-off JSON"),
        ([record("v-1"), record("v-1")], r"line 2 \(annot_id 'v-1'\): a second time"),
        ([{"annot_id": 3}], "line 1: annot_id: 3 is not a string"),
        ([{"answer_label": 3}], "line 1: annot_id: None is not a string"),
        (
            [{"annot_id": "t-1"}],
            r"line 1 \(annot_id 't-1'\): has no 'answer_label'; the test split has no labels",
        ),
        ([{"annot_id": "t-1", "answer_label": 1}], "has no 'rationale_label'"),
        ([record("v-1", answer=4)], "answer_label: 4 is not a number of 0 to 3"),
        ([record("v-1", rationale=-1)], "rationale_label: -1 is not a number of 0 to 3"),
        ([record("v-1", answer=True)], "answer_label: True is not"),
        (["[1]"], r"line 1: \[1\] is not an object"),
        (["[" * 100_000], "line 1: JSON nested too deep"),
        ([""], "has no records"),
    ],
)
def test_bad_annotations_get_one_line(write, lines, message):
    with pytest.raises(RequestError, match=message) as caught:
        score_vcr_files(*write(lines, [row("v-1")]))
    assert "val.jsonl" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [read_labels, read_leaderboard])
def test_paths_that_are_no_text_file(tmp_path, read):
    (tmp_path / "bytes").write_bytes(b'{"\xff')
    for path, message in (
        (tmp_path / "no", "no such file"),
        (tmp_path, "a folder"),
        (tmp_path / "bytes", "not UTF-8"),
    ):
        with pytest.raises(RequestError, match=message):
            read(path)


def test_command(write, tmp_path):
    def command(*more, code=0):
        return run("score", "vcr", *arguments, *more, cwd=tmp_path, code=code)

    annotations, predictions = write(
        [record("v-1"), record("v-2", 1), record("v-3", 2)], [row(f"v-{i}") for i in (1, 2, 3)]
    )
    arguments = ("--annotations", annotations, "--predictions", predictions)
    scores = json.loads(command("--json")[0])
    assert scores == {"q2a": 1 / 3, "qa2r": 1.0, "q2ar": 1 / 3, "n": 3}
    assert command()[0].splitlines()[0].split() == ["q2a", "33.33", "3", "questions"]
    predictions.write_text("annot_id\n", encoding="utf-8")
    problem = f"vle-bench: {predictions}: line 1: 21 columns are expected, not 1\n"
    assert command(code=2) == ("", problem)
