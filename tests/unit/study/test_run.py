"""The study on miniature data: every stage, what goes on after an interruption, what is left alone."""

import json
from pathlib import Path

import pytest

from tests.miniature import in_process
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.shapes_captions import prepare_shapes_captions
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.leaderboard.study import load_study
from vle_bench.study import run
from vle_bench.study.rows import PRETRAINING, TRANSFERS, Row
from vle_bench.study.run import OFFICIAL, plan, write_results

FEW = [
    *("train.max_steps=2", "train.evaluate_every=2", "train.log_every=1"),
    *("train.batch_size=8", "train.per_device_batch_size=8"),
]
ALL = Row("vle", ("mlm", "itm", "pbc", "mpc"))
ROWS = (Row("vle", ()), ALL)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the data of the study in miniature."""
    root = tmp_path_factory.mktemp("study")
    data = root / "data"
    captions = data / "shapes-captions"
    prepare_shapes_captions(
        captions, 0, 12, data / f"shapes-captions{OFFICIAL}", probed={"val": 4, "test": 3}
    )
    prepare_shapes_vcr(data / "shapes-vcr", 0, questions={"train": 12, "val": 6, "test": 2})
    prepare_easy_vqa(data / "easy-vqa", limit_images=12)
    return root


@pytest.fixture(scope="module")
def models(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(run, "ROWS", ROWS)
        planned = plan(folder / "runs", 1, FEW)
        for model in planned:
            model.run()
        yield planned


def test_all_rows_of_a_seed_come_before_the_next_seed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    planned = plan(folder / "elsewhere", 2, FEW)
    assert [model.seed for model in planned] == [0] * 14 + [1] * 14
    starts = {
        (model.row.family, model.seed): {
            job.recipe.model.checkpoint
            for other in planned
            if (other.row.family, other.seed) == (model.row.family, model.seed)
            for name, job in other.trainings.items()
            if name == PRETRAINING or not other.row.objectives
        }
        for model in planned
    }
    assert all(len(own) == 1 for own in starts.values())  # one start for all rows
    assert len({next(iter(own)) for own in starts.values()}) == 4


def test_a_model_leaves_a_record_of_its_trainings_and_probes(models):
    scratch, every = models
    for model in models:
        content = json.loads(model.record.read_text(encoding="utf-8"))
        assert content["recipes"] == {
            name: job.recipe.hash for name, job in model.trainings.items()
        }
        assert set(content["transfer"]) == {"easy_vqa", "q2a", "qa2r", "q2ar"}
        for name in TRANSFERS:
            job = model.trainings[name]
            split = job.recipe.data.report
            record = load_record(job.folder / "results" / f"{job.recipe.task}.{split}.json")
            assert content["transfer"][name]["value"] == record.metrics["accuracy"].value
            assert [step for step, _ in content["curves"][name]] == [2]
        assert model.is_finished() and model.step() == model.steps == 2 * len(model.trainings)
    probes = json.loads(every.record.read_text(encoding="utf-8"))["probes"]
    plain = {"match", "match_stranger", "noun", "noun_grey", "pointing", "pointing_chance", "iou"}
    plain |= {"object", "object_no_caption"}
    assert set(probes) == plain | {f"{name}_test" for name in plain}
    assert json.loads(scratch.record.read_text(encoding="utf-8"))["probes"] == {}


def test_the_words_of_all_data_are_whole_pieces(models, folder):
    from vle_bench.models import VLEProcessor

    start = models[0].trainings["q2a"].recipe.model.checkpoint
    tokenizer = VLEProcessor.from_pretrained(start).tokenizer
    for text in ("What is Casey holding?", "is there a red circle?", "Riley in gray is left of"):
        tokens = [t for t in tokenizer.tokenize(text) if t not in ("?", "▁")]
        assert tokens == ["▁" + word for word in text.rstrip("?").split()], tokens


def test_finished_trainings_are_not_run_again(models, monkeypatch):
    every = models[1]
    before = {
        path: path.stat().st_mtime_ns for path in every.folder.rglob("last/model.safetensors")
    }
    assert len(before) == 4
    content = every.record.read_bytes()
    every.record.unlink()
    assert not every.is_finished()
    every.run()  # the trainings are there: only the record is made again
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert every.record.read_bytes() == content
    monkeypatch.setattr("vle_bench.study.models.run_once", None)
    every.run()  # and a finished model does nothing


def test_other_data_are_not_passed_off_as_those_of_the_record(models, monkeypatch):
    scratch = models[0]
    wrong = dict.fromkeys(scratch.trainings, "other")
    monkeypatch.setattr(type(scratch), "data", lambda self: wrong)
    assert not scratch.is_finished()
    with pytest.raises(RequestError, match="trained on other data than are in data/easy-vqa now"):
        scratch.run()


def test_records_comparisons_and_tables_are_written(models, tmp_path):
    board = tmp_path / "board"
    board.mkdir()
    published = Path(__file__).parents[3] / "leaderboards" / "published.yaml"
    (board / "published.yaml").write_bytes(published.read_bytes())
    names = {path.name for path in write_results(models, board)}
    assert {"study.md", "study_claims.csv", "study.svg"} <= names
    study = load_study(board)
    assert study is not None and len(study.records) == 2
    compared = {(one.claim, one.metric) for one in study.comparisons}
    assert compared == {("Pre-training pays", name) for name in ("easy-VQA", "Q2A", "QA2R")}
    for one in study.comparisons:
        scores = [
            record.transfer["easy_vqa" if one.metric == "easy-VQA" else one.metric.lower()].value
            for record in sorted(study.records, key=lambda record: len(record.objectives))
        ]
        assert one.difference == pytest.approx(scores[1] - scores[0])
    assert write_results(models, board) == []


def test_an_unknown_model_is_refused_before_anything_is_prepared(tmp_path):
    _, errors = in_process.run("study", "--only", "vle-scratch,vle-mpl", cwd=tmp_path, code=2)
    assert "study: --only: 'vle-mpl': not among vle-scratch, vle-mlm" in errors
    assert list(tmp_path.iterdir()) == []
