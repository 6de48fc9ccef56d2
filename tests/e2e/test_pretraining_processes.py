"""Pre-training on two processes, in whole copies and in shards, is pre-training on one."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.e2e.test_processes import FSDP, losses
from tests.miniature.forked import launched
from tests.miniature.pairs import write_visual_genome
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.visual_genome import prepare_visual_genome
from vle_bench.evaluation.record import load_record

pytestmark = pytest.mark.processes
# 65 pairs: the last of an epoch's batches of 16 has one, so that parts of it are empty
RECIPE = (
    "pretrain/vle-tiny data.root=data train.max_steps=10 train.evaluate_every=10 train.log_every=1 "
    "train.batch_size=16 train.per_device_batch_size=4 model.image_size=32"
).split()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretraining")
    official = write_visual_genome(folder / "vg", 24)
    prepare_visual_genome(official, folder / "data", leave_out=coco_pictures(["nothing"]))
    launched(1, "train", *RECIPE, "--output-dir", "alone", cwd=folder)
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_two_processes(work, kind):
    """Micro-batches hold the same pairs, and so the same strangers, however many processes there are."""
    more = FSDP if kind == "fsdp" else {}
    shown = launched(2, "train", *RECIPE, "--output-dir", kind, cwd=work, **more)
    assert "batch 16 = 2 processes × 2 micro-batches × 4" in shown
    assert losses(work / kind) == pytest.approx(losses(work / "alone"), rel=1e-5)
    one, two = (load_file(work / run / "last" / "model.safetensors") for run in ("alone", kind))
    assert one.keys() == two.keys()
    assert all(np.abs(one[name] - two[name]).max() < 2e-2 for name in one)
    records = [load_record(work / run / "results" / "pretrain.val.json") for run in ("alone", kind)]
    assert {name: m.value for name, m in records[0].metrics.items()} == pytest.approx(
        {name: m.value for name, m in records[1].metrics.items()}, abs=1e-6
    )


def test_a_single_objective_needs_no_unused_parameters(work):
    """Several processes wait for the gradient of every parameter that is trained."""
    single = ["model.objectives={mlm: 1}", "train.max_steps=3"]
    launched(2, "train", *RECIPE, *single, "--output-dir", "words", cwd=work)
    assert len(losses(work / "words")) == 3
