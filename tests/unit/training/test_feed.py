"""What is read without a model is what a run with its model reads."""

import pytest
import torch

from vle_bench.bench.synthetic import write_synthetic
from vle_bench.models import pretrained
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.training import feed
from vle_bench.training.run import build

SMALL = ["train.batch_size=8", "train.per_device_batch_size=4", "train.num_workers=0"]


def flat(batch):
    return batch["ids"], {name: value.tolist() for name, value in batch["inputs"].items()}


@pytest.mark.parametrize(
    ("name", "source"), [("demo/vqa-tiny", "easy-vqa"), ("demo/vcr-q2a-tiny", "shapes-vcr")]
)
def test_the_first_steps_are_those_of_a_run(tmp_path, name, source):
    root = tmp_path / "data"
    write_synthetic(root, source, {"train": 24, "val": 4, "test": 4}, seed=0)
    changes = [*SMALL, f"data.root={root}", "data.first_stage=null"]
    recipe = load_recipe(name, changes)
    for step in ("from scratch", "from a checkpoint"):
        task = load_task(recipe.task)
        run = build(recipe, tmp_path / step)
        read = feed.of_recipe(recipe, task, feed.open_data(recipe, task))
        assert read.input_settings == run.input_settings
        assert read.processor.to_dict() == run.processor.to_dict()
        theirs = run.steps()
        ours = read.load_steps(accumulation=run.accumulation, stage_steps=run.stage_steps)
        for _ in range(4):  # of an epoch of three
            (epoch, count, batches), (e, c, expected) = next(ours), next(theirs)
            assert (epoch, count) == (e, c)
            assert list(map(flat, batches)) == list(map(flat, expected))
        if step == "from scratch":
            folder = tmp_path / "checkpoint"
            pretrained.save(folder, run.bare_model, run.processor, run.data.labels, {})
            changes = [*changes, f"model.checkpoint={folder}", "model.config=null"]
            recipe = load_recipe(name, changes)


def test_a_step_may_be_reduced_to_what_is_asked_of_it(tmp_path):
    write_synthetic(tmp_path, "easy-vqa", {"train": 24, "val": 4, "test": 4}, seed=0)
    recipe = load_recipe(
        "demo/vqa-tiny", [*SMALL, f"data.root={tmp_path}", "data.first_stage=null"]
    )
    task = load_task("vqa")
    read = feed.of_recipe(recipe, task, feed.open_data(recipe, task))

    def shapes_of(epoch):
        collate = read.collator(epoch)
        return lambda rows: {"ids": [], "shape": collate(rows)["inputs"]["labels"].shape}

    _, count, batches = next(read.load_steps(shapes_of, accumulation=2, stage_steps=0))
    assert count == 8
    assert [batch["shape"] for batch in batches] == [torch.Size([4, len(read.data.labels)])] * 2
