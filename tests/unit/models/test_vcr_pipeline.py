"""`vle-vcr`: the scores are the model's for what the data code feeds it."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from transformers import AutoTokenizer, pipeline

from vle_bench.data.boxes import patch_mask
from vle_bench.data.vcr_text import encode_record, pad_choices
from vle_bench.errors import RunFailed
from vle_bench.models import VLEConfig, VLEForVCRQ2A, VLEForVCRQA2R, VLEForVQA, VLEProcessor

GOLDEN = Path(__file__).parents[2] / "golden" / "vcr_text"
EXAMPLES = {e["name"]: e for e in json.loads((GOLDEN / "records.json").read_text(encoding="utf-8"))}
MODELS = {"q2a": VLEForVCRQ2A, "qa2r": VLEForVCRQA2R, "vqa": VLEForVQA}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    small = {
        "hidden_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 16,
    }
    text = {**small, "model_type": "deberta-v2", "vocab_size": 401, "initializer_range": 0.5}
    vision = {**small, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    config = VLEConfig(
        text_config=text, vision_config=vision, num_token_types=12, initializer_range=0.5, **small
    )
    processor = VLEProcessor.from_parts(AutoTokenizer.from_pretrained(GOLDEN / "tokenizer"), 32)
    root = tmp_path_factory.mktemp("vcr")
    for name, model in MODELS.items():
        model(config).save_pretrained(root / name)
        processor.save_pretrained(root / name)
    return root


@pytest.fixture(scope="module")
def pipes(folders):
    return {task: pipeline("vle-vcr", model=str(folders / task)) for task in ("q2a", "qa2r")}


def given(name, size=None):
    example = EXAMPLES[name]
    width, height = example["width"], example["height"]
    pixels = np.random.default_rng(len(name)).integers(0, 255, (height, width, 3), dtype=np.uint8)
    metadata = {"width": width, "height": height, "boxes": example["boxes"]}
    return {"record": example["record"], "image": Image.fromarray(pixels), "metadata": metadata}


def by_hand(pipe, task, name, **how):
    one = given(name)
    encodings = encode_record(one["record"], pipe.tokenizer, task, **how)
    mask = patch_mask(EXAMPLES[name]["boxes"], one["image"].width, one["image"].height, 4, 4)
    batch = {
        k: torch.from_numpy(v)
        for k, v in pad_choices([encodings], [mask], pipe.tokenizer.pad_token_id).items()
    }
    pixels = pipe.processor(images=[one["image"]])["pixel_values"]
    with torch.inference_mode():
        return pipe.model(pixel_values=pixels, **batch).logits[0].softmax(-1).numpy()


@pytest.mark.parametrize(
    "name", ["multi_tag", "no_tags", "no_tags_in_one_choice", "wide_image", "box_borders"]
)
@pytest.mark.parametrize("task", ["q2a", "qa2r"])
def test_scores_are_the_models(pipes, task, name):
    one = given(name)
    assert type(pipes[task].model) is MODELS[task]
    found = pipes[task](one["record"], one["image"], one["metadata"])
    expected = by_hand(pipes[task], task, name)
    np.testing.assert_allclose(found["scores"], expected, atol=1e-6)
    assert found["choice"] == expected.argmax() and len(set(found["scores"])) > 1


def test_choices_are_ranked_by_logits(pipes):
    found = pipes["q2a"].postprocess({"logits": torch.tensor([[0.01, 0.01 + 2**-30, -5.0, -5.0]])})
    assert found["choice"] == 1 == int(np.argmax(found["scores"]))


@pytest.mark.parametrize("batch_size", [1, 2])
def test_logits_that_are_not_finite_give_no_choice(folders, batch_size):
    pipe = pipeline("vle-vcr", model=str(folders / "q2a"))
    with torch.no_grad():
        pipe.model.vcr_q2a_logit[3].bias.fill_(float("nan"))
    records = [given("multi_tag"), given("no_tags")]
    first = ", ".join(one["record"].get("annot_id", "the record") for one in records[:batch_size])
    message = (
        f"vle-vcr: the logits of {batch_size} of {batch_size} inputs are not finite .*: {first};"
    )
    with pytest.raises(RunFailed, match=message):
        list(pipe(records, batch_size=batch_size))


def test_batches_of_unequal_records_change_nothing(pipes):
    inputs = [given(name) for name in ("multi_tag", "no_tags", "box_borders")]
    single = pipes["q2a"](inputs)
    for batched in (
        pipes["q2a"](inputs, batch_size=2),
        list(pipes["q2a"]((i for i in inputs), batch_size=3)),
    ):
        for ours, theirs in zip(batched, single, strict=True):
            np.testing.assert_allclose(ours["scores"], theirs["scores"], atol=1e-6)


def test_no_input_gives_no_output(pipes):
    assert pipes["q2a"]([]) == []


def test_answer_and_length_reach_the_encoding(pipes):
    one = given("multi_tag")
    for how in ({"answer": 2}, {"max_length": 30}):
        found = pipes["qa2r"](**one, **how)["scores"]
        np.testing.assert_allclose(
            found, by_hand(pipes["qa2r"], "qa2r", "multi_tag", **how), atol=1e-6
        )
        assert np.abs(np.array(found) - pipes["qa2r"](**one)["scores"]).max() > 1e-4


def test_boxes_follow_the_size_that_the_metadata_says(pipes, tmp_path):
    one = given("multi_tag")
    width, height, boxes = one["metadata"].values()
    half = {
        "width": width / 2,
        "height": height / 2,
        "boxes": [[v / 2 for v in b[:4]] for b in boxes],
    }
    whole = {"width": width, "height": height, "boxes": [[0, 0, width, height]] * len(boxes)}
    (tmp_path / "i.json").write_text(json.dumps(half), encoding="utf-8")
    one["image"].save(tmp_path / "i.png")
    same = [
        pipes["q2a"](**one | change)["scores"]
        for change in (
            {},
            {"metadata": half},
            {"metadata": {"boxes": boxes}},
            {"metadata": tmp_path / "i.json", "image": tmp_path / "i.png"},
        )
    ]
    assert same[0] == same[1] == same[2] == same[3]
    assert (
        np.abs(np.array(same[0]) - pipes["q2a"](**one | {"metadata": whole})["scores"]).max() > 1e-4
    )


def test_a_test_record_needs_no_label(pipes):
    one = given("multi_tag")
    unlabelled = {k: v for k, v in one["record"].items() if not k.endswith("_label")}
    assert pipes["q2a"](**one | {"record": unlabelled}) == pipes["q2a"](**one)
    assert pipes["qa2r"](**one | {"record": unlabelled}, answer=0) == pipes["qa2r"](**one)
    with pytest.raises(ValueError, match="has no 'answer_label'"):
        pipes["qa2r"](**one | {"record": unlabelled})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metadata": None}, "has objects: `metadata` with their boxes is expected"),
        (
            {"metadata": {"boxes": [[0, 0, 1, 1]]}},
            "metadata: boxes: one for each of 6 objects is expected, not 1",
        ),
        (
            {"metadata": {"boxes": [[float("nan"), 0, 1, 1]] * 6}},
            r"metadata: boxes\[0\]: .* finite",
        ),
        ({"metadata": 5}, "metadata: 5 is not an object"),
        ({"image": "nowhere.jpg"}, "image .*nowhere.jpg.*: cannot be read"),
        ({"image": 5}, "image: a Pillow image, a path, an address or"),
    ],
)
def test_what_is_wrong_is_said_with_the_annot_id(pipes, change, message):
    one = given("multi_tag")
    one["record"] = {**one["record"], "annot_id": "val-7"}
    with pytest.raises(ValueError, match=f"^VCR record 'val-7': {message}") as caught:
        pipes["q2a"]([one | change])
    assert "\n" not in str(caught.value)


def test_other_requests_that_are_wrong(pipes, folders, tmp_path):
    with pytest.raises(ValueError, match="expected a VCR record with its image"):
        pipes["q2a"](given("multi_tag")["record"])
    with pytest.raises(TypeError, match="vle-vcr has no parameter top_k"):
        pipes["q2a"](**given("multi_tag"), top_k=2)
    with pytest.raises(
        ValueError, match="vle-vcr needs a VLEForVCRQ2A or a VLEForVCRQA2R; .* holds VLEForVQA"
    ):
        pipeline("vle-vcr", model=str(folders / "vqa"))
    with pytest.raises(ValueError, match=r"meta\.json: broken or cut-off JSON"):
        (tmp_path / "meta.json").write_text('{"boxes": [', encoding="utf-8")
        pipes["q2a"](**given("multi_tag") | {"metadata": tmp_path / "meta.json"})


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_boxes_turn_with_the_picture(pipes, tmp_path, orientation):
    """Metadata of the picture as it is stored give what the upright picture gives with boxes that were turned by hand."""
    one = given("multi_tag")
    width, height, boxes = one["metadata"].values()
    exif = Image.Exif()
    exif[0x0112] = orientation
    one["image"].save(tmp_path / "stored.png", exif=exif)
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "stored.png"))
    by_hand = {
        1: lambda x1, y1, x2, y2: [x1, y1, x2, y2],
        3: lambda x1, y1, x2, y2: [width - x2, height - y2, width - x1, height - y1],
        6: lambda x1, y1, x2, y2: [height - y2, x1, height - y1, x2],
    }[orientation]
    turned = {
        "width": upright.width,
        "height": upright.height,
        "boxes": [by_hand(*box[:4]) for box in boxes],
    }
    expected = pipes["q2a"](one["record"], upright, turned)["scores"]
    for image in (tmp_path / "stored.png", Image.open(tmp_path / "stored.png")):
        assert pipes["q2a"](one["record"], image, one["metadata"])["scores"] == expected
    assert (
        pipes["q2a"](one["record"], tmp_path / "stored.png", {"boxes": turned["boxes"]})["scores"]
        == expected
    )
