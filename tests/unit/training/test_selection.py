"""Which checkpoint stands for a run, and which soft targets it was trained on: the recipe says it, the record repeats it."""

import json
import shutil
from dataclasses import replace

import pytest
from accelerate.state import AcceleratorState

from vle_bench.analysis.model_card import write_cards
from vle_bench.atomic import file_sha256
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.manifest import Choices
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Record, load_record, picked_on
from vle_bench.models import pretrained
from vle_bench.recipe.keys import flat
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.preflight import missing_files, wrong_targets
from vle_bench.tasks.vqa import VQA
from vle_bench.training.train import train

SMALL = [
    "train.max_steps=3",
    "train.evaluate_every=1",
    "train.batch_size=16",
    "train.per_device_batch_size=16",
    "train.precision=fp32",
    "train.num_workers=0",
    "data.first_stage=null",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    prepare_easy_vqa(root / "normalised", limit_images=10)
    prepare_easy_vqa(root / "published", limit_images=10, choices=Choices(published_targets=True))
    return root


@pytest.fixture
def worse_each_time(monkeypatch):
    """The first evaluation is the best one."""
    AcceleratorState._reset_state(reset_partial_state=True)
    score, calls = VQA.score, []

    def falling(self, rows, questions):
        calls.append(1)
        scores = score(self, rows, questions)
        return replace(scores, metrics={**scores.metrics, "accuracy": {"value": 1 / len(calls)}})

    monkeypatch.setattr(VQA, "score", falling)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.mark.parametrize("selected", ["best", "last"])
def test_the_record_is_of_the_checkpoint_that_the_recipe_selects(
    data, tmp_path, worse_each_time, selected, capsys
):
    recipe = load_recipe(
        "demo/vqa-tiny", [*SMALL, f"data.root={data / 'normalised'}", f"train.selection={selected}"]
    )
    run = tmp_path / "run"
    record = train(recipe, run)
    digests = {name: file_sha256(run / name / "model.safetensors") for name in ("best", "last")}
    assert (
        digests["best"] != digests["last"]
        and record.model["checkpoint_sha256"] == digests[selected]
    )
    assert record.training["step"] == {"best": 1, "last": 3}[selected]
    assert (
        pretrained.resolve(run) == run / selected
        and pretrained.resolve(run / "best") == run / "best"
    )
    expected = {"best": "picked on the split val", "last": "is the last of its training"}[selected]
    assert expected in picked_on(record) and expected in picked_on(
        load_record(run / "results" / "vqa.test.json")
    )
    assert record.data == {
        "source": "easy-vqa",
        "targets": "normalised",
        "manifest_hash": record.data["manifest_hash"],
    }
    write_cards(run)
    card = (run / "last" / "README.md").read_text(encoding="utf-8")
    assert ("represented by its `last/`" in card) == (selected == "last")
    assert (
        train(recipe, run, resume=True) == record
        and "this run is finished" in capsys.readouterr().out
    )


def test_runs_of_earlier_versions_are_their_best(tmp_path):
    for name in ("best", "last"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}", encoding="utf-8")
        (tmp_path / name / "training.json").write_text('{"progress": {}}', encoding="utf-8")
    assert pretrained.resolve(tmp_path).name == "best"
    (tmp_path / "last" / "training.json").write_text('{"selection": "last"}', encoding="utf-8")
    assert pretrained.resolve(tmp_path).name == "last"
    (tmp_path / "last" / "config.json").unlink()
    with pytest.raises(RequestError, match=r"neither a run folder \(last/\) nor a checkpoint"):
        pretrained.resolve(tmp_path)


def test_a_record_of_a_last_checkpoint_names_no_split_that_picked_it():
    record = Record.model_construct(
        training={"split": "minival", "selection": "last"}, split="minival"
    )
    assert picked_on(record) == "The checkpoint is the last of its training: no split picked it."


@pytest.mark.parametrize(
    ("there", "asked"), [("normalised", "published"), ("published", "normalised")]
)
def test_data_with_other_targets_are_refused_with_the_ways_out(data, tmp_path, there, asked):
    root = data / there
    recipe = load_recipe("demo/vqa-tiny", [*SMALL, f"data.root={root}", f"data.targets={asked}"])
    option = " --published-targets" if asked == "published" else ""
    message = (
        f"{root}: prepared with {there} targets, and data.targets asks for {asked}; `vle-bench prepare easy-vqa --output "
        f"{root}-{asked}{option}` and data.root={root}-{asked}, or data.targets={there}"
    )
    assert missing_files(recipe) == [message] and "\n" not in message
    with pytest.raises(RequestError) as refused:
        train(recipe, tmp_path / "run")
    assert str(refused.value) == message and not list(tmp_path.glob("run/*"))
    fine = load_recipe("demo/vqa-tiny", [*SMALL, f"data.root={root}", f"data.targets={there}"])
    assert missing_files(fine) == []
    assert json.loads((root / "manifest.json").read_text(encoding="utf-8"))["targets"] == there


@pytest.mark.parametrize(
    ("held", "way"), [("vqav2", "data.source=vqav2, or "), ("shapes-vcr", ""), ("a later one", "")]
)
def test_other_data_than_the_recipe_names_are_refused(data, tmp_path, held, way):
    """The model card and the refusal of splits without labels go by the name."""
    root = shutil.copytree(data / "normalised", tmp_path / "data")
    manifest = json.loads((root / "manifest.json").read_text(encoding="utf-8"))
    (root / "manifest.json").write_text(json.dumps(manifest | {"source": held}), encoding="utf-8")
    recipe = load_recipe("demo/vqa-tiny", [*SMALL, f"data.root={root}"])
    message = (
        f"{root}: holds prepared {held}, and data.source says easy-vqa; {way}data.root=FOLDER, "
        "with one that holds easy-vqa"
    )
    assert missing_files(recipe) == [message] and "\n" not in message
    if way:  # of other forms, opening the data says more
        with pytest.raises(RequestError) as refused:
            train(recipe, tmp_path / "run")
        assert str(refused.value) == message and not list(tmp_path.glob("run/*"))
        overridden = [*SMALL, f"data.root={root}", f"data.source={held}", "data.report=val"]
        assert missing_files(load_recipe("demo/vqa-tiny", overridden)) == []


def test_the_way_out_names_the_official_files_only_where_they_are(tmp_path, monkeypatch):
    """Nothing remembers where they were: a guessed folder was named as if it were there."""
    monkeypatch.chdir(tmp_path)
    data = load_recipe("vqa/vle-base", ["data.root=mine/ward"]).data
    wanted = "`vle-bench prepare vqav2 --source {} --output mine/ward-published"
    assert wanted.format("SOURCE") in wrong_targets(data, "normalised")
    (tmp_path / "mine" / "ward-official").mkdir(parents=True)
    assert wanted.format("mine/ward-official") in wrong_targets(data, "normalised")


def test_recipes_that_call_themselves_published_ask_for_published_targets():
    for name in (
        "vle-base",
        "vle-base-256",
        "vle-large",
        "vle-large-256",
        "meter-base",
        "meter-base-all",
        "meter-base-vle",
    ):
        recipe = load_recipe(f"vqa/{name}")
        assert recipe.data.targets == "published"
        assert "--published-targets" in missing_files(recipe)[0]
        assert wrong_targets(recipe.data, "published") is None
    assert load_recipe("demo/vqa-tiny").data.targets == "normalised"
    with pytest.raises(
        RequestError,
        match="data.targets: means nothing for task vcr_q2a: a question has one right choice",
    ):
        load_recipe("vcr/vle-base-q2a", ["data.targets=published"])


def test_meters_published_run_trains_on_everything_and_takes_the_last():
    whole, held_out = load_recipe("vqa/meter-base-all"), load_recipe("vqa/meter-base")
    assert (whole.data.train, whole.train.selection, whole.data.allow_contaminated) == (
        "train+val",
        "last",
        True,
    )
    assert (held_out.data.train, held_out.train.selection) == ("train+val-minival", "best")
    assert (
        not held_out.data.allow_contaminated
        and whole.expect == held_out.expect
        and whole.expect.split == "test-dev"
    )
    one, other = (flat(r.model_dump()) for r in (whole, held_out))
    changed = {key for key in one if one[key] != other[key]}
    assert changed == {"name", "data.train", "data.allow_contaminated", "train.selection"}
