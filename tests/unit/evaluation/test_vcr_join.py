"""Marks of two VCR runs in the record of Q2AR."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from vle_bench.evaluation.record import either, load_record
from vle_bench.evaluation.vcr_join import joined_record
from vle_bench.tasks import load_task

RECORDS = Path(__file__).parents[2] / "golden" / "records"


@pytest.mark.parametrize(
    ("marks", "joined"),
    [
        ((True, None), True),
        ((None, True), True),
        ((None, False), None),
        ((False, None), None),
        ((False, False), False),
        ((None, None), None),
    ],
)
def test_a_joined_record_knows_no_more_than_its_halves(marks, joined):
    assert either(marks) is joined
    halves = [
        load_record(RECORDS / "version-6.json").model_copy(update={"contaminated": mark})
        for mark in marks
    ]
    scores = SimpleNamespace(metrics={"q2ar": halves[0].metrics["accuracy"]}, breakdown={})
    record = joined_record(halves, load_task("vcr_q2ar"), scores, 1.0)
    assert record.contaminated is joined
