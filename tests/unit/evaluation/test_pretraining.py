"""The data that the start of a training has seen, in the records of the run; marks of two halves."""

from pathlib import Path
from types import SimpleNamespace

from vle_bench.evaluation.pretraining import for_record, in_words
from vle_bench.evaluation.record import load_record
from vle_bench.evaluation.vcr_join import joined_record
from vle_bench.tasks import load_task

RECORDS = Path(__file__).parents[2] / "golden" / "records"
DATA = {"source": "visual-genome", "manifest_hash": "ab" * 32}


def test_a_joined_record_names_the_starts_of_both():
    one, other = (
        load_record(RECORDS / "version-8.json"),
        load_record(RECORDS / "version-6.json"),
    )
    changed = [{**one.pretraining[0], "steps": 5}]
    scores = SimpleNamespace(metrics={"q2ar": one.metrics["accuracy"]}, breakdown={})
    for halves, expected in (
        ([one, other], one.pretraining),
        ([one, one], one.pretraining),
        ([one, one.model_copy(update={"pretraining": changed})], [*one.pretraining, *changed]),
    ):
        record = joined_record(halves, load_task("vcr_q2ar"), scores, 1.0)
        assert record.pretraining == expected


def test_records_name_no_folders_and_lines_are_short():
    entry = {
        "task": "pretrain",
        "steps": 2000,
        "objectives": {"mlm": 1.0, "itm": 1.0},
        "data": [{**DATA, "root": "/data/vg"}, {**DATA, "source": "captions"}],
    }
    (kept,) = for_record([entry])
    assert kept["data"] == [DATA, {**DATA, "source": "captions"}]
    assert entry["data"][0]["root"] == "/data/vg"
    words = "pretrain (mlm, itm), 2,000 steps on visual-genome (abababab), captions (abababab)"
    assert in_words(kept) == words
    old = load_record(RECORDS / "version-7.json")
    assert old.pretraining == [] and old.mixed == []
