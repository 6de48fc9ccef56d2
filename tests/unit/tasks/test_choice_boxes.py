"""Multiple-choice questions with boxes: tensors and scores are those of VCR's task."""

import json

import numpy as np
import pytest
import torch

from tests.miniature.own import vcr_rows, write_lines
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepared import open_prepared
from vle_bench.errors import RequestError
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Reading
from vle_bench.training import feed
from vle_bench.training.model import model_of

INPUTS = {"max_text_length": 40, "alignment": True, "most_objects": 14}
RECIPE = (
    "data.train=train",
    "data.evaluate=train",
    "data.report=train",
    "data.allow_contaminated=true",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """shapes-VCR's questions, and the same as one's own."""
    folder = tmp_path_factory.mktemp("boxes")
    prepare_shapes_vcr(folder / "vcr", 0, questions={"train": 12, "val": 2, "test": 2})
    vcr = open_prepared(folder / "vcr")
    own = written(folder, vcr_rows(vcr, "train", folder), "own")
    return vcr, own


def written(folder, rows, name):
    source = write_lines(folder / f"{name}.jsonl", rows)
    spec = {"form": "choice", "splits": {"train": str(source)}}
    (folder / f"{name}.yaml").write_text(json.dumps(spec), encoding="utf-8")
    prepare(str(folder / f"{name}.yaml"), folder / name, AS_USUAL, {})
    return open_prepared(folder / name)


def built(data, task):
    torch.manual_seed(0)
    recipe = load_recipe("own/choice-boxes-tiny", [*RECIPE, f"data.root={data.root}"])
    model, processor, _ = model_of(recipe, task, data)
    return model.eval(), processor


def test_a_batch_is_that_of_vcr(work):
    vcr, own = work
    task = load_task("choice").for_data(own)
    model, processor = built(own, task)
    ids = vcr.questions("train")["annot_id"]
    order = [own.questions("train")["official_id"].index(i) for i in ids]
    for alignment in (True, False):
        inputs = INPUTS | {"alignment": alignment}
        reading = Reading(vcr.questions("train"), vcr.images, processor, inputs)
        expected = load_task("vcr_q2a").collator(reading)(np.arange(12))["inputs"]
        reading = Reading(own.questions("train"), own.images, processor, inputs)
        got = task.collator(reading)(np.array(order))["inputs"]
        names = ["input_ids", "attention_mask", "token_type_ids"]
        names += ["object_mask", "object_token_type_ids", "object_patch_mask"]
        for name in names:
            assert torch.equal(got[name], expected[name].flatten(0, 1)), name
        assert got["object_mask"].any() == alignment
        assert torch.equal(got["labels"], expected["labels"])
        with torch.inference_mode():
            torch.testing.assert_close(model(**got).logits, model(**expected).logits)


def test_questions_about_one_picture_have_boxes_of_their_own(work, tmp_path):
    """Also none: such a question has no object token."""
    _, own = work
    image = own.images[0]
    (tmp_path / "0.png").write_bytes(image["bytes"])
    half = image["width"] / 2
    boxes = [[0, 0, 20, 20], [half, half, image["width"], image["height"]]]
    rows = [
        {"boxes": [{"name": "cat", "box": boxes[0]}, {"name": "dog", "box": boxes[1]}], "id": 0},
        {"boxes": [{"name": "dog", "box": boxes[1]}], "id": 1},
        {"boxes": [], "id": 2},
    ]
    texts = ("Is [1] red?", "Is [0] red?", "Is it red?")
    common = {"image": "0.png", "choices": ["yes", "no", "who knows"], "answer": 0}
    rows = [{**common, **row, "question": text} for row, text in zip(rows, texts, strict=True)]
    data = written(tmp_path, rows, "own")
    task = load_task("choice").for_data(data)
    _, processor = built(data, task)
    reading = Reading(data.questions("train"), data.images, processor, INPUTS)
    inputs = task.collator(reading)(np.arange(3))["inputs"]
    assert inputs["pixel_values"].shape[0] == 1 and inputs["image_index"].tolist() == [0] * 9
    assert inputs["object_mask"].sum(-1).tolist() == [1] * 6 + [0] * 3
    # The dog of both questions, whatever its number
    masks = inputs["object_patch_mask"]
    assert torch.equal(masks[0], masks[3]) and 0 < masks[0].sum() < masks[0].numel()
    dog = torch.tensor(processor.tokenizer("dog", add_special_tokens=False)["input_ids"])
    for text in (0, 3):
        named = inputs["input_ids"][text][inputs["token_type_ids"][text] == 2]
        assert torch.equal(named, dog)


def test_a_model_needs_a_type_for_each_object_of_a_choice(work):
    _, own = work
    task = load_task("choice").for_data(own)
    assert task.num_token_types == 83 and load_task("choice").num_token_types is None
    task.check(own, "train", INPUTS)
    with pytest.raises(
        RequestError, match=r"train: question \d+ tags \d objects in one choice, and"
    ):
        task.check(own, "train", INPUTS | {"most_objects": 0})
    task.check(own, "train", INPUTS | {"alignment": False, "most_objects": 0})
    # A model that was trained on questions without boxes reads the names
    task.check(own, "train", {"max_text_length": 40})
    _, processor = built(own, task)
    reading = Reading(own.questions("train"), own.images, processor, {"max_text_length": 40})
    inputs = task.collator(reading)(np.arange(2))["inputs"]
    assert not inputs["object_mask"].any() and not inputs["token_type_ids"].any()


def test_a_tokenizer_from_scratch_knows_the_names_and_no_tags(work):
    _, own = work
    vocabulary = load_task("choice").tokenizer(own, "train", 1000).get_vocab()
    assert "▁person" not in vocabulary and "▁Casey" in vocabulary
    assert not {"[", "]", "0"} & vocabulary.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("augment.shift=2", "augment.shift: the boxes of .* would stay behind; augment.shift=0"),
        ("augment.randaugment=[2,9]", "augment.randaugment: .*; augment.randaugment=null leaves"),
    ],
)
def test_pictures_with_boxes_are_not_changed(work, change, message):
    _, own = work
    recipe = load_recipe("own/choice-boxes-tiny", [*RECIPE, f"data.root={own.root}", change])
    with pytest.raises(RequestError, match=message):
        feed.open_data(recipe, load_task("choice"))
