"""The model against the outputs and gradients of the published program (tests/golden/vle), and its own contract."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vle_bench.models import VLEConfig, VLEForVQA, VLEModel

GOLDEN = Path(__file__).parents[2] / "golden" / "vle"


def golden(name, cls, **kwargs):
    model, info = cls.from_pretrained(str(GOLDEN / name), output_loading_info=True, **kwargs)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return (
        model.eval(),
        load_file(GOLDEN / name / "inputs.safetensors"),
        load_file(GOLDEN / name / "expected.safetensors"),
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_vqa_outputs_and_gradients(attention):
    model, inputs, expected = golden("VLEForVQA", VLEForVQA, attn_implementation=attention)
    output = model(**inputs)
    torch.testing.assert_close(output.logits, expected["logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, expected["loss"].squeeze(), atol=1e-5, rtol=0)
    output.loss.backward()
    parameters = dict(model.named_parameters())
    norms = json.loads((GOLDEN / "VLEForVQA" / "grad_norms.json").read_text(encoding="utf-8"))
    assert len(norms) == len(parameters)
    for name, norm in norms.items():
        ours = parameters[name.replace("vision_model.vision_model", "vision_model")].grad
        assert abs((0 if ours is None else ours.norm().item()) - norm) <= 1e-4 * norm + 1e-5, name


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_object_features(attention):
    model, inputs, expected = golden(
        "VLEModel_with_objects", VLEModel, attn_implementation=attention
    )
    with torch.inference_mode():
        output = model(**inputs)
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(output.pooler_output, expected["pooler_output"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.image_embeds, expected["image_embeds"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        output.text_embeds[real], expected["text_embeds"][real], atol=1e-5, rtol=0
    )


def test_padding_and_sharing_an_image_change_nothing():
    model, inputs, _ = golden("VLEForVQA", VLEForVQA)
    pad = torch.zeros_like(inputs["input_ids"][:, :7])
    longer = {
        "input_ids": torch.cat([inputs["input_ids"], pad], 1),
        "attention_mask": torch.cat([inputs["attention_mask"], pad], 1),
    }
    pixels = inputs["pixel_values"]
    with torch.inference_mode():
        repeated = model(**longer, pixel_values=pixels[[1, 1, 0]]).logits
        shared = model(
            **longer, pixel_values=pixels[:2], image_index=torch.tensor([1, 1, 0])
        ).logits
        alone = model(
            input_ids=inputs["input_ids"][:1],
            attention_mask=inputs["attention_mask"][:1],
            pixel_values=pixels[1:2],
        ).logits
    torch.testing.assert_close(repeated, shared, atol=1e-5, rtol=0)
    torch.testing.assert_close(alone, shared[:1], atol=1e-5, rtol=0)


def test_saved_and_loaded_again_gives_the_same_bytes(tmp_path):
    model, inputs, _ = golden("VLEForVQA", VLEForVQA)
    model.save_pretrained(tmp_path)
    ours, published = (
        load_file(tmp_path / "model.safetensors"),
        load_file(GOLDEN / "VLEForVQA" / "model.safetensors"),
    )
    assert set(ours) == {name for name in published if not name.endswith("position_ids")}
    with torch.inference_mode():
        first = model(**inputs).logits
        second = VLEForVQA.from_pretrained(str(tmp_path)).eval()(**inputs).logits
    assert torch.equal(first, second)


def test_what_does_not_fit_is_refused():
    model, inputs, _ = golden("VLEForVQA", VLEForVQA)
    with pytest.raises(ValueError, match="image_index"):
        model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            pixel_values=inputs["pixel_values"][:1],
        )
    with pytest.raises(ValueError, match="labels: expected the shape"):
        model(**{**inputs, "labels": inputs["labels"][:, :3]})
    with pytest.raises(ValueError, match="image_size 7 is less than patch_size 8: no patch fits"):
        VLEConfig(vision_config={"image_size": 7, "patch_size": 8})
