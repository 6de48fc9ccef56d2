"""Pre-training as a task: whole runs on small data, what follows from them, the scores, and what is refused."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from tests.miniature.pairs import write_captions, write_visual_genome
from tests.miniature.vqav2 import write_vqav2
from vle_bench.analysis.model_card import write_cards
from vle_bench.data.loader import image_batches
from vle_bench.data.mix import weighted_rows
from vle_bench.data.pairs import FIGURES, NOT_THERE, OBJECTIVES
from vle_bench.data.prepare import captions
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.visual_genome import prepare_visual_genome
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError
from vle_bench.evaluation.evaluate import evaluate_checkpoint
from vle_bench.evaluation.request import Request
from vle_bench.models import VLEForPreTraining, pretrained
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.predictions import Prediction, read_predictions
from vle_bench.tasks.pretraining import probes
from vle_bench.training.feed import of_recipe
from vle_bench.training.own_figures import added, in_words, quotients
from vle_bench.training.train import train

TASK = load_task("pretrain")
SMALL = (
    "train.batch_size=8 train.per_device_batch_size=4 train.evaluate_every=4 train.max_steps=8 "
    "train.log_every=2 model.image_size=32"
).split()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    prepare_visual_genome(
        write_visual_genome(folder / "vg"), folder / "genome", leave_out=coco_pictures(["nothing"])
    )
    options = {"--images": None, "--leave-out": None}
    captions.prepare(str(write_captions(folder / "files")), folder / "captions", AS_USUAL, options)
    return folder


def recipe(data, *overrides) -> Recipe:
    root = f"data.root={data / 'genome'}"
    return load_recipe("pretrain/vle-tiny", [*SMALL, root, *overrides])


def bytes_of(run: Path) -> bytes:
    return (run / "last" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A run of all four objectives, and its record."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, train(recipe(data), folder)


@pytest.mark.usefixtures("fresh_state")
def test_a_run_reports_a_loss_and_a_probe_for_each_objective(run):
    folder, record = run
    probes = ["mlm_accuracy", "itm_accuracy", "mpc_accuracy", "pbc_pointing"]
    assert {*record.metrics} == {"mean_accuracy", *probes, "pbc_iou"}
    mean = np.mean([record.metrics[name].value for name in probes])
    assert record.metrics["mean_accuracy"].value == pytest.approx(mean)
    entries = [
        json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    scored = [entry for entry in entries if "split" in entry]
    assert len(scored) == 2
    assert all(entry[f"{name}_loss"] > 0 for entry in scored for name in OBJECTIVES)
    predicted = read_predictions(folder / "predictions" / "pretrain.val.jsonl")
    for name in OBJECTIVES:
        losses = [one[f"{name}_loss"] for one in predicted if f"{name}_loss" in one.values]
        assert scored[-1][f"{name}_loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    masked = sum(one["mlm_masked"] for one in predicted)
    right = sum(one["mlm_right"] for one in predicted)
    assert record.metrics["mlm_accuracy"].value == pytest.approx(right / masked)
    assert all(TASK.wrong(one) is None for one in predicted)


def training_lines(folder):
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [entry for entry in map(json.loads, lines) if "split" not in entry]


@pytest.mark.usefixtures("fresh_state")
def test_the_log_has_each_objective_between_evaluations(run, data, tmp_path):
    """Their losses make up the loss: phrases are of some pairs, and so are objects."""
    folder, _ = run
    names = [f"train_{name}" for one in OBJECTIVES for name in FIGURES[one]]
    lines = training_lines(folder)
    assert [line["step"] for line in lines] == [2, 4, 6, 8]
    assert all(set(names) <= set(line) for line in lines)
    assert all(0 <= line[name] <= 1 for line in lines for name in names if "loss" not in name)
    weights = {"mlm": 1, "itm": 2, "pbc": 3}
    chosen = "{" + ", ".join(f"{name}: {weight}" for name, weight in weights.items()) + "}"
    changed = [f"model.objectives={chosen}", "train.log_every=1", "train.max_steps=1"]
    phrases = recipe(data, *changed)
    train(phrases, tmp_path / "run")
    (line,) = training_lines(tmp_path / "run")
    assert not any("mpc" in name for name in line)
    feed = of_recipe(phrases, TASK, TASK.open(data / "genome"))
    (_, _, batches) = next(feed.load_steps(accumulation=2, stage_steps=0))
    boxed = sum(int((batch["inputs"]["pbc_patches"][:, 0] >= 0).sum()) for batch in batches)
    whole = line["train_mlm_loss"] + 2 * line["train_itm_loss"]
    assert 0 < boxed < 8
    assert line["loss"] == pytest.approx(whole + 3 * line["train_pbc_loss"] * boxed / 8, abs=1e-5)


def test_the_figures_of_the_log_are_those_of_an_evaluation():
    """The same results of pairs, some without objects or phrases, give the same numbers."""
    rng = np.random.default_rng(0)
    logits = torch.tensor(rng.random((20, 10)), dtype=torch.float32)
    logits[:, 0] = torch.tensor(rng.integers(1, 4, 20))  # masked tokens, and the right ones
    logits[:, 1] = (logits[:, 0] * torch.rand(20)).floor()
    logits[:7, 5:7], logits[3:9, 7:] = NOT_THERE, NOT_THERE
    task = load_task("pretrain")
    rows = [one.values for one in task.predictions(logits, range(20), [])]
    metrics, losses = probes(rows, np.arange(20))
    model = SimpleNamespace(objectives=dict.fromkeys(OBJECTIVES, 1.0))
    names = VLEForPreTraining.figure_names.fget(model)
    found = quotients(names, VLEForPreTraining.sums(model, logits).tolist())
    expected = {name: metric["value"] for name, metric in metrics.items()} | losses
    assert found == {name: pytest.approx(expected[name], abs=1e-6) for name in names}
    assert set(found) == set(expected)


def test_figures_in_words():
    sums = added([], [1.0, 2.0, 0.0, 2.0, 4.0, 0.0], processes=2)
    assert added(sums, [1.0] * 6, 1) == [3.0, 5.0, 1.0, 5.0, 9.0, 1.0]
    figures = quotients(["mlm_loss", "mlm_accuracy", "pbc_loss"], sums)
    assert figures == {"mlm_loss": 0.5, "mlm_accuracy": 0.5}
    assert in_words(figures) == "  mlm 0.500 50 %"


@pytest.mark.usefixtures("fresh_state")
def test_scores_depend_on_no_batch(run, data, tmp_path):
    folder, record = run
    for size in (2, 128):
        request = Request(folder, data / "genome", "val", batch_size=size)
        again = evaluate_checkpoint(request, tmp_path / f"{size}.json", accelerator=Accelerator())
        for name, metric in record.metrics.items():
            assert again.metrics[name].value == pytest.approx(metric.value, abs=1e-6)


@pytest.mark.usefixtures("fresh_state")
def test_a_run_that_is_continued_ends_with_the_same_bytes(run, data, tmp_path):
    folder, _ = run
    train(recipe(data, "train.max_steps=8"), tmp_path / "other")
    assert bytes_of(tmp_path / "other") == bytes_of(folder)
    half = tmp_path / "half"
    train(recipe(data), half)
    for step in sorted((half / "checkpoints").iterdir())[1:]:
        for file in step.iterdir():
            file.unlink()
        step.rmdir()
    (half / "results" / "pretrain.val.json").unlink()
    train(recipe(data), half, resume=True)
    assert bytes_of(half) == bytes_of(folder)


@pytest.mark.usefixtures("fresh_state")
@pytest.mark.parametrize("fine", ["vqa", "vcr"])
def test_fine_tuning_starts_from_a_run(run, tmp_path, fine):
    """The classes of objects are no obstacle: they are of a head that the new model has not."""
    folder, _ = run
    if fine == "vqa":
        prepare_vqav2(write_vqav2(tmp_path / "official"), tmp_path / "data")
        name, more = "demo/vqa-tiny", ["data.source=vqav2", "data.first_stage=null"]
        more += ["data.evaluate=minival", "data.report=minival"]
    else:
        from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr

        prepare_shapes_vcr(tmp_path / "data", 0, questions={"train": 8, "val": 4, "test": 2})
        name, more = "demo/vcr-q2a-tiny", []
    overrides = [*more, "model.config=null", f"model.checkpoint={folder}", "train.max_steps=1"]
    overrides += [f"data.root={tmp_path / 'data'}", "train.batch_size=4", "model.image_size=32"]
    overrides += ["train.per_device_batch_size=4", "train.learning_rate=1e-9"]
    train(load_recipe(name, overrides), tmp_path / "fine")
    before = load_file(folder / "last" / "model.safetensors")
    after = load_file(tmp_path / "fine" / "last" / "model.safetensors")
    shared = [key for key in before if key in after and before[key].shape == after[key].shape]
    assert len(shared) == sum(key.startswith("vle.") for key in before) - (fine == "vcr")
    for key in shared:
        torch.testing.assert_close(before[key], after[key], atol=1e-6, rtol=0)


@pytest.mark.usefixtures("fresh_state")
@pytest.mark.parametrize("leave_out", ["nothing", "minival"])
def test_pictures_of_the_evaluation_mark_what_is_fine_tuned(tmp_path, capsys, leave_out):
    """Visual Genome's pictures with even numbers are COCO's, some of them those of minival."""
    prepare_vqav2(write_vqav2(tmp_path / "official"), tmp_path / "vqa")
    given = leave_out if leave_out == "nothing" else f"{tmp_path / 'vqa'}:{leave_out}"
    official = write_visual_genome(tmp_path / "vg", 30)
    prepare_visual_genome(official, tmp_path / "genome", leave_out=coco_pictures([given]))
    options = {"--images": None, "--leave-out": None}
    captions.prepare(str(write_captions(tmp_path / "f")), tmp_path / "captions", AS_USUAL, options)
    mix = f"data.mix=[{{root: {tmp_path / 'captions'}, weight: 1}}]"
    small = ["train.max_steps=1", "model.objectives={itm: 1, pbc: 0.5}", mix]
    train(recipe(tmp_path, *small), tmp_path / "start")
    tuned = ["data.source=vqav2", "data.first_stage=null", f"data.root={tmp_path / 'vqa'}"]
    tuned += ["data.evaluate=minival", "data.report=minival", "model.config=null"]
    tuned += [f"model.checkpoint={tmp_path / 'start'}", "train.max_steps=1", "train.batch_size=4"]
    tuned += ["train.per_device_batch_size=4", "model.image_size=32"]
    record = train(load_recipe("demo/vqa-tiny", tuned), tmp_path / "tuned")
    assert record.contaminated is (leave_out == "nothing")
    said = "of its pictures were seen in the pre-training" in capsys.readouterr().err
    assert said is (leave_out == "nothing")
    (entry,) = record.pretraining
    assert (entry["task"], entry["steps"], entry["splits"]) == ("pretrain", 1, ["train"])
    assert entry["objectives"] == {"itm": 1.0, "pbc": 0.5}
    hashes = [open_prepared(tmp_path / name).manifest.hash for name in ("genome", "captions")]
    assert entry["data"] == [
        {"source": source, "manifest_hash": digest, "weight": 1.0}
        for source, digest in zip(("visual-genome", "captions"), hashes, strict=True)
    ]
    write_cards(tmp_path / "tuned")
    card = (tmp_path / "tuned" / "last" / "README.md").read_text(encoding="utf-8")
    start = f"pretrain (itm, pbc), 1 steps on visual-genome ({hashes[0][:8]}, weight 1), captions"
    assert f"Its start was trained before: {start}" in card and str(tmp_path) not in card
    (tmp_path / "genome").rename(tmp_path / "moved")
    request = Request(tmp_path / "tuned", tmp_path / "vqa", "minival")
    again = evaluate_checkpoint(request, tmp_path / "again.json", accelerator=Accelerator())
    assert again.contaminated is None and again.pretraining == record.pretraining


@pytest.mark.usefixtures("fresh_state")
def test_a_subset_of_objectives_on_captions_alone(data, tmp_path):
    overrides = ["data.source=captions", f"data.root={data / 'captions'}", "train.max_steps=2"]
    wanted = "model.objectives={mlm: 1, itm: 0.5}"
    record = train(recipe(data, *overrides, wanted), tmp_path / "run")
    assert {*record.metrics} == {"mean_accuracy", "mlm_accuracy", "itm_accuracy"}
    model = pretrained.load_model(tmp_path / "run" / "last", "VLEForPreTraining")
    assert isinstance(model, VLEForPreTraining)
    assert model.objectives == {"mlm": 1.0, "itm": 0.5}


@pytest.mark.usefixtures("fresh_state")
def test_sources_are_mixed_by_weights(data, tmp_path, capsys):
    mix = f"data.mix=[{{root: {data / 'captions'}, weight: 1.5}}]"
    record = train(recipe(data, mix), tmp_path / "run")
    assert record.n == len(TASK.open(data / "genome").questions("val"))  # the root's alone
    shown, said = capsys.readouterr()
    # The captions are of the same pictures, under other names.
    assert record.contaminated is True
    hashes = [open_prepared(data / name).manifest.hash for name in ("genome", "captions")]
    assert record.mixed == [
        {"source": "visual-genome", "manifest_hash": hashes[0], "weight": 1.0},
        {"source": "captions", "manifest_hash": hashes[1], "weight": 1.5},
    ]
    write_cards(tmp_path / "run")
    card = (tmp_path / "run" / "last" / "README.md").read_text(encoding="utf-8")
    names = [
        f"visual-genome ({hashes[0][:8]}, weight 1)",
        f"captions ({hashes[1][:8]}, weight 1.5)",
    ]
    assert f"on a mix of {', '.join(names)}, splits" in card and "- captions" in card
    assert str(data) not in card
    assert said.count("of its pictures are trained on, in train of the mixed data (data.mix)") == 2
    trained = len(TASK.open(data / "genome").questions("train"))
    trained += len(TASK.open(data / "captions").questions("train"))
    assert f"{trained:,} pairs of train" in shown
    # The recipe's selection is `last`: no score picks weights.
    assert "val: last " in shown and "best" not in shown
    half = tmp_path / "half"
    train(recipe(data, mix), half)
    assert bytes_of(half) == bytes_of(tmp_path / "run")
    other = mix.replace("1.5", "2")
    for step in (half / "checkpoints").iterdir():
        assert step.is_dir()
    with pytest.raises(RequestError, match=r"data\.mix"):
        train(recipe(data, other), half, resume=True)


def test_weighted_rows():
    weights = np.array([1.0, 2.25, 1.0, 2.25, 2.25, 2.25, 0.5, 0.5])
    rows = weighted_rows(weights, seed=0, epoch=3)
    counts = np.bincount(rows, minlength=8)
    assert counts[[0, 2]].tolist() == [1, 1]
    assert sorted(counts[[1, 3, 4, 5]]) == [2, 2, 2, 3] and sorted(counts[[6, 7]]) == [0, 1]
    again = weighted_rows(weights, seed=0, epoch=3)
    assert np.array_equal(rows, again)
    others = [weighted_rows(weights, seed=0, epoch=epoch) for epoch in range(8)]
    assert len({tuple(other) for other in others}) > 1


def test_an_objective_without_its_data_is_refused(data):
    opened = TASK.open(data / "captions")
    for name, words in (("pbc", "phrases with boxes"), ("mpc", "texts with objects")):
        with pytest.raises(RequestError, match=rf"model\.objectives\.{name}: .* has no {words}"):
            TASK.check(opened, "train", {"objectives": {name: 1.0}})
    TASK.check(opened, "train", {"objectives": {"mlm": 1.0, "itm": 1.0, "pbc": 0.0}})


@pytest.mark.usefixtures("fresh_state")
def test_it_is_refused_before_anything_is_trained(data, tmp_path):
    overrides = ["data.source=captions", f"data.root={data / 'captions'}"]
    with pytest.raises(RequestError, match="has no texts with objects"):
        train(recipe(data, *overrides), tmp_path / "run")
    assert not (tmp_path / "run" / "log.jsonl").exists()


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("model.objectives=null", "model.objectives: task pretrain needs one"),
        ("model.objectives={mlm: 0}", "at least one of mlm, itm, mpc, pbc needs a weight above 0"),
        ("model.objectives={mrm: 1}", "model.objectives.mrm"),
        ("model.objectives={mlm: -1}", "model.objectives.mlm"),
        ("data.mix=[{root: a, weight: 0}]", "data.mix.0.weight: input should be greater than 0"),
        ("data.mix=[{root: a, weight: 1}, {root: a/, weight: 2}]", "data.mix: a is listed twice"),
        ("data.mix=[]", "data.mix"),
        ("train.per_device_batch_size=1", "per_device_batch_size: 1: objective itm takes"),
        ("train.per_device_batch_size=auto", "per_device_batch_size: auto: objective itm takes"),
        ("augment.flip=true", "augment.flip: means nothing for task pretrain"),
    ],
)
def test_wrong_recipes_are_refused(data, override, problem):
    with pytest.raises(RequestError) as error:
        recipe(data, override)
    assert problem in str(error.value)


def test_other_tasks_have_no_objectives():
    with pytest.raises(RequestError) as error:
        load_recipe("vqa/vle-base", ["model.objectives={mlm: 1}", "model.itm_candidates=2"])
    assert "model.objectives: means nothing for task vqa" in str(error.value)
    assert "model.itm_candidates: means nothing for task vqa" in str(error.value)


def test_data_of_another_form_are_refused(tmp_path):
    prepare_vqav2(write_vqav2(tmp_path / "official"), tmp_path / "data")
    with pytest.raises(RequestError, match="needs pairs of pictures and texts"):
        TASK.open(tmp_path / "data")


def test_classes_of_a_mix_must_be_the_same(data, tmp_path):
    genome = write_visual_genome(tmp_path / "vg", captions=False)
    prepare_visual_genome(genome, tmp_path / "one", classes=1, leave_out=coco_pictures(["nothing"]))
    mix = f"data.mix=[{{root: {tmp_path / 'one'}, weight: 1}}]"
    from vle_bench.training import feed

    with pytest.raises(RequestError, match="has other classes of objects than .*genome; prepare"):
        feed.mix_of(recipe(data, mix), TASK, TASK.open(data / "genome"))


def test_the_share_of_a_device_is_part_of_an_experiment_with_strangers(data):
    def experiment(*overrides):
        return recipe(data, *overrides).experiment

    other = "train.per_device_batch_size=8"
    assert experiment() != experiment(other)
    words = "model.objectives={mlm: 1}"
    assert experiment(words) == experiment(words, other)


def test_recipes_of_before_have_the_hashes_of_before():
    """The new keys have no part in them at the values that change nothing."""
    assert (
        load_recipe("vqa/vle-base").hash
        == load_recipe(
            "vqa/vle-base", ["data.mix=null", "model.objectives=null", "model.itm_candidates=4"]
        ).hash
    )


def test_no_leaderboard_file():
    with pytest.raises(RequestError, match="fine-tune from it"):
        TASK.for_submission()
    with pytest.raises(RequestError, match="fine-tune from it"):
        TASK.submission([], [])


def test_wrong_predictions_are_named():
    assert TASK.wrong(Prediction(1, {"itm_right": 1.0})) is None
    for one in (Prediction("a", {}), Prediction(1, {"x": 1.0}), Prediction(1, {"itm_right": "a"})):
        assert TASK.wrong(one) == "an id and the results of objectives are expected"


def test_evaluation_batches_keep_an_image_together(data):
    questions = TASK.open(data / "genome").questions("train")
    batches = TASK.evaluation_batches(questions, 16)
    rows = np.asarray(questions["image_row"][:])
    expected = image_batches(rows, 8)
    assert all(np.array_equal(a, b) for a, b in zip(batches, expected, strict=True))


def test_masked_texts_are_padded_with_the_texts():
    """`train.compile` pads texts; masked ones have to keep their length."""
    from vle_bench.data.collate import padded_text

    names = ("input_ids", "mlm_input_ids", "attention_mask")
    padded = padded_text({name: torch.ones(2, 5, dtype=torch.long) for name in names}, 50, 7)
    assert all(padded[name].shape == (2, 16) for name in names)
    assert (
        padded["mlm_input_ids"][0, 5:].eq(7).all() and padded["attention_mask"][0, 5:].eq(0).all()
    )
