"""Loading passes over nothing in silence; sizes grow without losing what was trained."""

import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from vle_bench import models
from vle_bench.models import (
    VLEConfig,
    VLEForITM,
    VLEForMLM,
    VLEForMPC,
    VLEForVCRQ2A,
    VLEForVCRSecondStage,
    VLEForVQA,
    VLEModel,
    pretrained,
)

GOLDEN = Path(__file__).parents[2] / "golden" / "vle"


def changed(tmp_path, change):
    """The golden VQA folder with another state dict."""
    folder = tmp_path / "changed"
    shutil.copytree(GOLDEN / "VLEForVQA", folder)
    state = change(load_file(folder / "model.safetensors"))
    save_file(
        {name: value.contiguous() for name, value in state.items()},
        folder / "model.safetensors",
        {"format": "pt"},
    )
    return str(folder)


def without(*names):
    return lambda state: {name: value for name, value in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            without("vle.text_projection_layer.weight"),
            "weights missing .*vle.text_projection_layer.weight",
        ),
        (without("vqa_classifier.3.bias"), "incomplete .*vqa_classifier.3.bias"),
        (lambda s: {**s, "vle.something": torch.zeros(2)}, "unknown .*vle.something"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path, change, message):
    with pytest.raises(ValueError, match=message):
        VLEForVQA.from_pretrained(changed(tmp_path, change))


def test_another_shape_is_refused(tmp_path):
    folder = changed(tmp_path, lambda s: {**s, "vle.text_projection_layer.bias": torch.zeros(3)})
    for ignore in (False, True):  # the encoder's shapes are never ignored
        with pytest.raises(ValueError, match="of another shape .*text_projection_layer.bias"):
            VLEForVQA.from_pretrained(folder, ignore_mismatched_sizes=ignore)


def test_a_bare_encoder_gives_a_new_head_and_says_so(tmp_path, caplog):
    whole = VLEForVQA.from_pretrained(str(GOLDEN / "VLEForVQA"))
    whole.vle.save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        fresh = VLEForITM.from_pretrained(str(tmp_path))
    assert "2 weights new: itm_score.fc.bias, itm_score.fc.weight" in caplog.text
    assert torch.equal(
        fresh.vle.text_projection_layer.weight, whole.vle.text_projection_layer.weight
    )
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        VLEModel.from_pretrained(str(GOLDEN / "VLEForVQA"))
    assert "6 weights left out: vqa_classifier.0.bias" in caplog.text and "new" not in caplog.text


def test_another_number_of_answers_needs_to_be_asked_for():
    labels = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    with pytest.raises(
        ValueError, match="2 weights of another shape for VLEForVQA: vqa_classifier.3.bias, "
    ):
        VLEForVQA.from_pretrained(str(GOLDEN / "VLEForVQA"), **labels)
    model = VLEForVQA.from_pretrained(
        str(GOLDEN / "VLEForVQA"), **labels, ignore_mismatched_sizes=True
    )
    assert model.vqa_classifier[3].out_features == 2


def test_pickled_weights_are_read_with_weights_only(tmp_path):
    state = load_file(GOLDEN / "VLEForVQA" / "model.safetensors")
    (tmp_path / "config.json").write_text(
        (GOLDEN / "VLEForVQA" / "config.json").read_text(encoding="utf-8"), encoding="utf-8"
    )
    torch.save(state, tmp_path / "pytorch_model.bin")
    inputs, expected = (
        load_file(GOLDEN / "VLEForVQA" / f"{part}.safetensors") for part in ("inputs", "expected")
    )
    with torch.inference_mode():
        logits = VLEForVQA.from_pretrained(str(tmp_path)).eval()(**inputs).logits
    torch.testing.assert_close(logits, expected["logits"], atol=1e-5, rtol=0)

    class Danger:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "touched",))

    torch.save({**state, "vle.danger": Danger()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(Exception, match="(?i)weights.only|unsafe|unsupported"):
        VLEForVQA.from_pretrained(str(tmp_path))
    assert not (tmp_path / "touched").exists()


def test_growing_the_types_keeps_the_trained_rows(tmp_path):
    before = VLEForVQA.from_pretrained(str(GOLDEN / "VLEForVQA"))
    grown = VLEForVQA.from_pretrained(str(GOLDEN / "VLEForVQA"), num_token_types=83)
    old, new = before.vle.token_type_embeddings.weight, grown.vle.token_type_embeddings.weight
    assert new.shape == (83, 64) and torch.equal(new[:2], old) and 0 < new[2:].std() < 0.1
    grown.save_pretrained(tmp_path)
    assert torch.equal(
        VLEForVQA.from_pretrained(str(tmp_path)).vle.token_type_embeddings.weight, new
    )
    with pytest.raises(ValueError, match="discard 81 trained rows"):
        grown.resize_token_types(2)


def test_position_interpolation(tmp_path):
    tables = load_file(GOLDEN / "position_interpolation" / "tensors.safetensors")
    sizes = json.loads(
        (GOLDEN / "position_interpolation" / "meta.json").read_text(encoding="utf-8")
    )
    for direction in ("up", "down"):
        model = VLEModel.from_pretrained(str(GOLDEN / "VLEModel_with_objects"))
        vision = model.vision_model
        assert (vision.config.image_size, vision.config.patch_size) == (
            sizes["image_size"],
            sizes["patch_size"],
        )
        vision.embeddings.position_embedding.weight.data = tables["pos_orig"].clone()
        model.resize_images(sizes[direction])
        torch.testing.assert_close(
            vision.embeddings.position_embedding.weight,
            tables[f"pos_{direction}"],
            atol=1e-6,
            rtol=0,
        )
        model.save_pretrained(tmp_path / direction)
        again = VLEModel.from_pretrained(str(tmp_path / direction))
        assert again.config.vision_config.image_size == sizes[direction]
        pixels = torch.randn(
            1, 3, sizes[direction], sizes[direction], generator=torch.Generator().manual_seed(0)
        )
        with torch.inference_mode():
            assert torch.equal(model.eval().encode_image(pixels), again.eval().encode_image(pixels))
    with pytest.raises(ValueError, match="does not divide by the patch size"):
        VLEForVCRQ2A.from_pretrained(str(GOLDEN / "VLEForVCRQ2A"), image_size=30)


def test_of_several_heads_each_is_judged_by_itself(tmp_path):
    whole = VLEForVCRSecondStage.from_pretrained(
        str(GOLDEN / "VLEForMLM")
    ).eval()  # a new head for ITM beside the trained one
    assert torch.equal(
        whole.mlm_score[0].weight,
        VLEForMLM.from_pretrained(str(GOLDEN / "VLEForMLM")).mlm_score[0].weight,
    )
    whole.save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    del state["itm_score.fc.bias"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(
        ValueError,
        match=r"1 weights missing of a head that is incomplete for .*: itm_score.fc.bias",
    ):
        VLEForVCRSecondStage.from_pretrained(str(tmp_path))


def test_mpc_of_former_versions_is_another_objective(tmp_path):
    """A learnt mask and a class a patch: its classifier cannot read an object's token."""
    VLEForMPC.from_pretrained(str(GOLDEN / "VLEForITM"), id2label={0: "a"}).save_pretrained(
        tmp_path
    )
    state = load_file(tmp_path / "model.safetensors")
    width = state["mpc_classifier.0.weight"].shape[0]
    state["mpc_mask_embedding"] = torch.zeros(width)
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="a learnt mask and a class a patch, which this version"):
        VLEForMPC.from_pretrained(str(tmp_path))
    VLEForITM.from_pretrained(str(tmp_path))  # the encoder is as good as before


def keys(folder):
    return {
        name
        for name in load_file(folder / "model.safetensors")
        if not name.endswith("position_ids")
    }


@pytest.mark.parametrize(
    "architecture", ["VLEForVQA", "VLEForVCRQ2A", "VLEForITM", "VLEForMLM", "VLEModel"]
)
def test_every_model_is_saved_under_the_released_names(tmp_path, architecture):
    golden = GOLDEN / (architecture if architecture != "VLEModel" else "VLEModel_with_objects")
    cls = getattr(models, architecture)
    config = VLEConfig.from_pretrained(str(golden))
    scratch = cls(config)
    scratch.save_pretrained(tmp_path / "scratch")
    # the names that this library's earlier versions, and transformers 5 itself, gave a model from scratch
    PreTrainedModel.save_pretrained(scratch, tmp_path / "former")
    former = cls.from_pretrained(str(tmp_path / "former"))
    former.save_pretrained(tmp_path / "again")
    cls.from_pretrained(str(golden)).save_pretrained(tmp_path / "loaded")
    pretrained.save(
        tmp_path / "last",
        scratch,
        SimpleNamespace(save_pretrained=lambda folder: None),
        [],
        {},
        scratch.state_dict(),
    )
    assert any(".vision_model.embeddings." in f".{name}" for name in keys(tmp_path / "former"))
    assert not any("vision_model.vision_model." in name for name in keys(tmp_path / "former"))
    # Each of these is one tensor under two names, of which safetensors keeps one.
    tied = {
        f"mlm_score.1.predictions.{name}" for name in ("bias", "decoder.bias", "decoder.weight")
    }
    for name in ("scratch", "again", "loaded", "last"):
        assert keys(tmp_path / name) - tied == keys(golden) - tied, name
        if name != "loaded":
            loaded = cls.from_pretrained(str(tmp_path / name)).state_dict()
            assert all(
                torch.equal(tensor, loaded[key]) for key, tensor in scratch.state_dict().items()
            ), name


def test_shards_have_the_released_names_too(tmp_path):
    model = VLEForVQA.from_pretrained(str(GOLDEN / "VLEForVQA"))
    model.save_pretrained(tmp_path, max_shard_size="100KB")
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text(encoding="utf-8"))[
        "weight_map"
    ]
    assert len(set(index.values())) > 1 and set(index) == keys(GOLDEN / "VLEForVQA")
    loaded = VLEForVQA.from_pretrained(str(tmp_path)).state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in model.state_dict().items())
