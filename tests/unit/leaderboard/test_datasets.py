"""The page of the datasets by name: a table for each split that was scored, with its own metric in words."""

from pathlib import Path

from tests.unit.leaderboard.test_experiments import record
from vle_bench.data.sources import FURTHER, SOURCES
from vle_bench.leaderboard.data_tables import pages
from vle_bench.leaderboard.experiments import experiments
from vle_bench.leaderboard.published import load_published
from vle_bench.metrics.answers import ALL_ACCURACIES, ALL_IN_WORDS

PUBLISHED = load_published(Path(__file__).parents[3] / "leaderboards" / "published.yaml")


def tables(*records):
    found = {page.name: page for page in pages(PUBLISHED, records)}
    return found["datasets"].tables if "datasets" in found else ()


def texts(table):
    return [[cell.text for cell in row.cells] for row in table.rows]


def test_a_record_stands_in_the_table_of_its_data_and_split():
    gqa = {"source": "gqa", "manifest_hash": "0" * 16, "metric": "gqa"}
    cp = {"source": "vqa-cp-v2", "manifest_hash": "1" * 16}
    found = tables(
        record(0.612, data=gqa, split="testdev", n=12_578),
        record(0.634, data=gqa, split="val", n=132_062),
        record(0.5, data=cp, split="test", training_splits=["train"]),
    )
    assert [table.title for table in found] == ["GQA, testdev", "GQA, val", "VQA-CP v2, test"]
    assert "61.20" in texts(found[0])[0][1] and "63.40" in texts(found[1])[0][1]
    assert "12,578 questions. Percent, gqa: equal to the one right answer" in found[0].lead
    assert "vqa: the official accuracy of VQA v2" in found[2].lead


def test_a_model_of_other_data_is_marked_with_them():
    data = {"source": "advqa", "manifest_hash": "0" * 16}
    trained = {"source": "vqav2", "manifest_hash": "1" * 16}
    (table,) = tables(record(0.4, data=data, training_data=trained, schema_version=5))
    assert "trained on vqav2" in texts(table)[0][0] and "⇄" in texts(table)[0][0]


def test_without_records_there_is_no_page():
    assert tables() == () == tables(record(0.7))


def test_every_metric_has_words():
    assert {*ALL_IN_WORDS} == {*ALL_ACCURACIES}
    assert {*FURTHER} >= {"gqa", "okvqa", "aokvqa", "aokvqa-choices"}
    assert "vqav2" not in FURTHER and all(SOURCES[name].form == "vqa" for name in FURTHER)


def test_a_model_of_another_version_of_the_data_is_marked_and_not_ranked():
    one, two = ({"source": "own", "name": "mine", "manifest_hash": digit * 16} for digit in "12")
    tables_of_own = pages(
        PUBLISHED,
        [record(0.9, data=two, training_data=one), record(0.4, 1, data=two, training_data=two)],
    )
    (table,) = next(page.tables for page in tables_of_own if page.name == "own")
    names = [row[0] for row in texts(table)]
    assert "⇄" not in names[0] and "⇄" in names[1] and "trained on mine-11111111" in names[1]


def test_models_of_two_versions_of_the_data_are_no_seeds_of_one():
    scored = {"source": "own", "name": "theirs", "manifest_hash": "3" * 16}
    trained = [{"source": "own", "name": "mine", "manifest_hash": digit * 16} for digit in "12"]
    runs = [record(0.5, i, data=scored, training_data=data) for i, data in enumerate(trained)]
    assert len(experiments(runs)) == 2 and len(experiments(runs[:1])) == 1
