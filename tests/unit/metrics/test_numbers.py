"""One score on every Python: `sum` of floats compensates for rounding since 3.12."""

import builtins
import hashlib
import json
import os
import shutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

from vle_bench.evaluation.score_files import score_vqa_files
from vle_bench.metrics.bootstrap import interval, on_grid
from vle_bench.metrics.error_analysis import calibration
from vle_bench.metrics.numbers import (
    add,
    mean,
    percent,
    percent_range,
    plus_minus,
    rounded,
    signed,
)
from vle_bench.metrics.paired import differences
from vle_bench.metrics.vqa import _leave_one_out, question_accuracy

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests" / "golden" / "vqa_accuracy"
YES = {0, 1, 9}  # of ten annotators; adding their terms with compensation gives 0.9
# The bits of the golden split's scores, as every Python has to give them.
GOLDEN_BITS = "3dea79ca6c9c49c63325b572c6df834c9672349bd2ece1bf145c6c0c6fd589fa"
BITS = """
import hashlib, json, pathlib, sys
from vle_bench.metrics.vqa import vqa_accuracy  # imports no library, so that any Python runs it
truths, given = (json.loads((pathlib.Path(sys.argv[1]) / f"{name}.json").read_bytes()) for name in ("annotations", "results"))
result = vqa_accuracy({row["question_id"]: row["answer"] for row in given}, truths["annotations"])
result["image_of"] = {record["question_id"]: record["image_id"] for record in truths["annotations"]}
print(hashlib.sha256(json.dumps(result, sort_keys=True).encode()).hexdigest())
"""


def compensated(values, start=0):
    """`sum` of Python 3.12 and later for floats: Neumaier's."""
    values = list(values)
    if not any(isinstance(value, float) for value in values):
        return plain(values, start)
    total, lost = float(start), 0.0
    for value in values:
        step = total + value
        lost += (total - step) + value if abs(total) >= abs(value) else (value - step) + total
        total = step
    return total + lost


def uncompensated(values, start=0):
    """`sum` before Python 3.12."""
    for value in values:
        start = start + value
    return start


plain = uncompensated
SUMS = {"before 3.12": uncompensated, "since 3.12": compensated}


def golden():
    result = score_vqa_files(
        *(GOLDEN / f"{name}.json" for name in ("questions", "annotations", "results"))
    )
    assert result.pop("numbered") == 0  # a count of answers without an id, and no score
    assert result.pop("notes") == []  # words
    assert result.pop("toolkits") == {}  # none was asked for
    return result


def digest(value):
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def test_the_two_sums_differ():
    tenths = [0.1] * 10
    assert compensated(tenths) == 1.0 != uncompensated(tenths) == add(tenths)
    assert compensated([True, True]) == 2 and compensated([1e16, 1.0, -1e16]) == 1.0


def test_means_are_added_from_left_to_right():
    assert add([1e16, 1.0, -1e16]) == 0.0 and add([1e16, -1e16, 1.0]) == 1.0
    assert mean([0.1] * 10) == 0.09999999999999999  # 0.1 where compensated
    assert add([]) == 0.0


@pytest.mark.parametrize("version", SUMS)
def test_a_score_has_the_same_bits_whatever_sum_does(monkeypatch, version):
    monkeypatch.setattr(builtins, "sum", SUMS[version])
    _leave_one_out.cache_clear()
    try:
        assert digest(golden()) == GOLDEN_BITS
        answers = [{"answer": "yes" if i in YES else "no", "answer_id": i} for i in range(10)]
        assert question_accuracy("yes", answers) == 0.8999999999999998
        # Ids that are lists take the path that compares whole records.
        lists = [{"answer": "yes" if i in YES else "no", "answer_id": [i]} for i in range(10)]
        assert question_accuracy("yes", lists) == 0.8999999999999998
        confidence = np.linspace(0.03, 0.99, 40)
        assert calibration(confidence, 1 - confidence)[0] == 0.4923076923076922
    finally:
        _leave_one_out.cache_clear()


def test_every_python_at_hand_gives_the_same_bits():
    others = [
        python
        for minor in range(10, 15)
        for python in (
            shutil.which(f"python3.{minor}"),
            *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python3.{minor}")),
        )
        if python
    ]
    for python in (sys.executable, *others):
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [python, "-c", BITS, GOLDEN], capture_output=True, encoding="utf-8", env=environment
        )
        # A shim of pyenv for a version that is not active says so.
        if python == sys.executable or "not found" not in done.stderr:
            assert done.stdout.strip() == GOLDEN_BITS, f"{python}: {done.stderr}"


def test_the_golden_figures_print_as_the_official_program_prints_them(monkeypatch):
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))["accuracy"]
    result = golden()
    assert round(100 * result["accuracy"], 2) == expected["overall"]
    for ours, theirs in (
        ("per_answer_type", "perAnswerType"),
        ("per_question_type", "perQuestionType"),
    ):
        assert {name: round(100 * v, 2) for name, v in result[ours].items()} == expected[theirs]


@pytest.mark.parametrize("scores", [np.full(3000, 0.9), np.full(3000, 0.8999999999999998)], ids=str)
def test_a_mean_lies_inside_its_interval(scores):
    low, high = interval(scores, np.arange(3000))
    assert low - 1e-9 <= mean(scores.tolist()) <= high + 1e-9


def test_sums_on_the_grid_are_exact_in_every_order():
    rng = np.random.default_rng(0)
    values = rng.random(40_000) * 5
    rounded = on_grid(values, len(values))
    assert np.abs(rounded - values).max() < 1e-9
    weights = np.bincount(rng.integers(0, len(values), len(values)), minlength=len(values)).astype(
        float
    )
    order = rng.permutation(len(values))
    sums = {
        float(weights @ rounded),
        float(weights[order] @ rounded[order]),
        add((weights * rounded).tolist()),
        float(np.einsum("i,i->", weights[::-1], rounded[::-1])),
    }
    assert len(sums) == 1
    assert (
        len(
            {
                float(weights @ values),
                float(weights[order] @ values[order]),
                add((weights * values).tolist()),
            }
        )
        > 1
    )
    assert on_grid(np.zeros(3), 3).tolist() == [0, 0, 0] and on_grid(
        np.array([-1.5, 0.25]), 2
    ).tolist() == [-1.5, 0.25]


def test_intervals_do_not_depend_on_the_order_in_which_images_are_added(monkeypatch):
    """BLAS adds in the order of its kernel; emulate another one."""
    rng = np.random.default_rng(1)
    a, b, images = rng.random(2000), rng.random(2000), np.repeat(np.arange(500), 4)
    groups = [np.ones(2000, bool), rng.random(2000) < 0.5]
    before = interval(a, images), differences(a, b, images, groups, resamples=200)

    class Backwards(np.ndarray):
        def __rmatmul__(self, weights):
            return np.asarray(weights)[..., ::-1] @ np.asarray(self)[::-1]

    def backwards(values, terms):
        return on_grid(values, terms).view(Backwards)

    monkeypatch.setattr("vle_bench.metrics.bootstrap.on_grid", backwards)
    monkeypatch.setattr("vle_bench.metrics.paired.on_grid", backwards)
    assert before == (interval(a, images), differences(a, b, images, groups, resamples=200))


@pytest.mark.parametrize(
    ("fraction", "shown"),
    [
        (0.98145, "98.15"),  # printf rounds the binary digits behind it, 98.1449..., to 98.14
        (0.98155, "98.16"),
        (0.5, "50.00"),
        (1.0, "100.00"),
        (0.000049, "0.00"),
        (0.00005, "0.01"),
        (2 / 3, "66.67"),
    ],
)
def test_half_goes_away_from_zero(fraction: float, shown: str) -> None:
    assert percent(fraction) == shown


def test_differences_have_a_sign() -> None:
    assert [signed(Decimal(text), 2) for text in ("0.305", "-0.305", "0.004", "-0.004")] == [
        "+0.31",
        "−0.31",
        "0.00",
        "0.00",
    ]
    assert rounded(Decimal("-0.25"), 1) == "-0.3"


def test_intervals_are_shown_in_percent() -> None:
    assert percent_range((0.769, 0.77605)) == "76.90 to 77.61"
    assert percent_range(None) == "" and percent_range(None, "–") == "–"
    assert plus_minus(0.7741, (0.769, 0.776)) == "77.41 ± 0.35"
    assert plus_minus(0.7741, None) == "77.41"
