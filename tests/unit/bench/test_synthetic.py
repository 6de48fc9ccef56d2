"""Synthetic data are prepared data: the tasks open them, and their shapes are the real ones."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from vle_bench.bench.synthetic import OBJECTS, image_counts, write_synthetic
from vle_bench.data.prepared import open_prepared
from vle_bench.data.sources import SOURCES
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Reading

VQA_INPUTS = {"max_text_length": 50}
VCR_INPUTS = {"max_text_length": 80, "objects": "tagged", "alignment": True, "most_objects": 81}


@pytest.mark.parametrize(
    ("task", "source"),
    [
        *(("vqa", "vqav2"), ("vqa", "easy-vqa"), ("vcr_q2a", "vcr"), ("vcr_q2a", "shapes-vcr")),
        *(("vqa", "own"), ("choice", "own")),
    ],
)
def test_the_tasks_open_and_collate_it(tmp_path, task, source):
    write_synthetic(tmp_path, source, {"train": 7, "val": 5}, seed=0, choices=task == "choice")
    data = load_task(task).open(tmp_path)
    assert (len(data.questions("train")), len(data.questions("val"))) == (7, 5)
    assert Image.open(io.BytesIO(data.images[0]["bytes"])).size == SOURCES[source].image_size
    tokenizer = load_task(task).tokenizer(data, "train", 1000)
    inputs = VCR_INPUTS if task == "vcr_q2a" else VQA_INPUTS
    load_task(task).check(data, "val", inputs)
    processor = VLEProcessor.from_parts(tokenizer, 32, 16)
    collate = load_task(task).collator(
        Reading(data.questions("val"), data.images, processor, inputs, data.labels)
    )
    batch = collate(np.arange(5))
    assert len(batch["ids"]) == len(set(batch["ids"])) == 5 and batch["inputs"]["labels"].any()
    assert len(load_task(task).training_order(data.questions("train"), 0, 0, 1)) == 7


def test_vqa_has_the_shapes_of_vqa_v2(tmp_path):
    write_synthetic(tmp_path, "vqav2", {"train": 540}, seed=1)
    data = open_prepared(tmp_path)
    questions = data.questions("train")
    assert len(data.labels) == 3129 and len(questions) / len(data.images) == pytest.approx(
        5.4, abs=0.05
    )
    lengths = np.array([len(text.split()) + 2 for text in questions["question"]])
    assert (lengths.min(), lengths.max()) == (8, 14)
    assert set(questions["image_row"]) == set(range(len(data.images)))
    ids = np.array(questions["image_id"])
    assert (ids == np.array(data.images["image_id"])[np.array(questions["image_row"])]).all()


def test_choices_are_four_on_average(tmp_path):
    write_synthetic(tmp_path, "own", {"train": 300}, seed=1, choices=True)
    counts = [len(choices) for choices in open_prepared(tmp_path).questions("train")["choices"]]
    assert set(counts) == {3, 4, 5} and np.mean(counts) == pytest.approx(4, abs=0.15)


def test_vcr_has_texts_of_20_to_60_tokens_with_two_to_four_objects(tmp_path):
    write_synthetic(tmp_path, "vcr", {"train": 54}, seed=1)
    data = open_prepared(tmp_path)
    tokenizer = load_task("vcr_q2a").tokenizer(data, "train", 1000)
    processor = VLEProcessor.from_parts(tokenizer, 32, 16)
    collate = load_task("vcr_q2a").collator(
        Reading(data.questions("train"), data.images, processor, VCR_INPUTS)
    )
    inputs = collate(np.arange(54))["inputs"]
    lengths = inputs["attention_mask"].sum(-1).flatten()
    assert (
        20 <= lengths.min() and lengths.max() <= 60 and 26 <= lengths.float().mean() <= 32
    )  # a word is a token
    counts = inputs["object_mask"].sum(-1)
    assert set(counts.flatten().tolist()) == {2, 3, 4}
    assert len(data.questions("train")) / len(data.images) == pytest.approx(2.6, abs=0.1)
    for names, boxes in zip(data.images["class_names"], data.images["boxes"], strict=True):
        found = np.array(boxes)
        assert tuple(names) == OBJECTS and found.shape == (6, 4)
        assert (
            (found[:, :2] < found[:, 2:]).all()
            and (found >= 0).all()
            and (found <= [1920, 800, 1920, 800]).all()
        )


def test_the_seed_decides_every_byte(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        write_synthetic(tmp_path / name, "vcr", {"train": 4}, seed)
    manifests = [
        json.loads((tmp_path / name / "manifest.json").read_text(encoding="utf-8"))["hash"]
        for name in "abc"
    ]
    assert manifests[0] == manifests[1] != manifests[2]


def test_images_have_no_more_questions_than_stand_together(tmp_path):
    write_synthetic(tmp_path, "vqav2", {"train": 300, "val": 54}, seed=1, together={"train": 1})
    data = open_prepared(tmp_path)
    train, val = data.questions("train"), data.questions("val")
    assert (
        len(set(train["image_row"])) == len(set(train["image_id"])) == 300
        and len(data.images) == 310
    )
    assert len(val) / len(set(val["image_row"])) == pytest.approx(5.4, abs=0.05)
    assert list(image_counts("vqav2", 11, 2)) == [2, 2, 1, 2, 2, 2] and list(
        image_counts("vqav2", 7)
    ) == [5, 2]


@pytest.mark.parametrize("source", ["captions", "visual-genome", "shapes-captions"])
def test_pairs_have_objects_where_the_source_has_classes(tmp_path, source):
    write_synthetic(tmp_path, source, {"train": 30, "val": 60}, seed=0, together={"train": 1})
    task = load_task("pretrain")
    data = task.open(tmp_path)
    train = data.questions("train")
    classes = {"captions": 0, "visual-genome": 1600, "shapes-captions": 9}[source]
    assert len(data.labels) == classes and len(set(train["image_row"])) == 30
    counts = data.manifest.splits["train"]
    assert counts["images"] == 30
    assert counts["phrases"] == counts["with_objects"] == (30 if classes else 0)
    width, height = SOURCES[source].image_size
    for row in train:
        assert (row["box"] is not None) == bool(row["object_classes"]) == bool(classes)
        for (x1, y1, x2, y2), label in zip(row["object_boxes"], row["object_classes"], strict=True):
            assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height and 0 <= label < classes
    lengths = [len(text.split()) for text in train["caption"]]
    assert 3 <= min(lengths) and max(lengths) <= 40 and 8 < np.mean(lengths) < 13
    objectives = {"mlm": 1, "itm": 1, **({"mpc": 1, "pbc": 1} if classes else {})}
    inputs = {"max_text_length": 40, "objectives": objectives, "itm_candidates": 3}
    task.check(data, "val", inputs)
    processor = VLEProcessor.from_parts(task.tokenizer(data, "train", 1000), 32, 16)
    reading = Reading(train, data.images, processor, inputs, data.labels)
    batch = task.collator(reading)(np.arange(30))
    assert batch["inputs"]["mlm_words"].shape[0] == 30
    if classes:
        assert len(batch["inputs"]["mpc_labels"]) == len(batch["inputs"]["pbc_texts"]) == 30
