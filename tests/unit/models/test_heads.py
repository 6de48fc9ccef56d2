"""Every head against the outputs and gradients of the published program, and what the published program cannot do."""

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vle_bench import models
from vle_bench.models import SIZES, VLEConfig, VLEForMLM, VLEForMPC, VLEForVCRJoint, VLEForVCRQ2A
from vle_bench.models.vle.pretraining_heads import black_out
from vle_bench.training import engine

GOLDEN = Path(__file__).parents[2] / "golden" / "vle"
HEADS = ["VLEForVCRQ2A", "VLEForVCRQA2R", "VLEForITM", "VLEForPBC", "VLEForMLM"]


def golden(name, **kwargs):
    model = getattr(models, name).from_pretrained(str(GOLDEN / name), **kwargs).eval()
    return model, *(
        load_file(GOLDEN / name / f"{part}.safetensors") for part in ("inputs", "expected")
    )


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("name", HEADS)
def test_outputs_and_gradients(name, attention):
    model, inputs, expected = golden(name, attn_implementation=attention)
    output = model(**inputs)
    ours, theirs = output.logits, expected["logits"]
    if name == "VLEForMLM":  # what stands at padded positions is undefined
        ours, theirs = (
            ours[inputs["attention_mask"].bool()],
            theirs[inputs["attention_mask"].bool()],
        )
    torch.testing.assert_close(ours, theirs, atol=5e-5 if name == "VLEForMLM" else 1e-5, rtol=0)
    if "loss" in expected:
        torch.testing.assert_close(output.loss, expected["loss"].squeeze(), atol=1e-5, rtol=0)
    if (GOLDEN / name / "grad_norms.json").exists():
        output.loss.backward()
        parameters = dict(model.named_parameters())
        norms = json.loads((GOLDEN / name / "grad_norms.json").read_text(encoding="utf-8"))
        assert len(norms) == len(parameters)
        for key, norm in norms.items():
            grad = parameters[key.replace("vision_model.vision_model", "vision_model")].grad
            assert abs((0 if grad is None else grad.norm().item()) - norm) <= 1e-4 * norm + 1e-5, (
                key
            )


def parts(inputs, rows):
    return {name: value[rows] for name, value in inputs.items() if name != "labels"}


def test_choices_do_not_depend_on_the_batch_the_padding_or_the_number_of_objects():
    model, inputs, expected = golden("VLEForVCRQ2A")
    wider = parts(inputs, slice(1, 2))
    for name, extra in (("input_ids", 5), ("attention_mask", 5), ("token_type_ids", 5)):
        wider[name] = torch.nn.functional.pad(wider[name], (0, extra))
    for name in ("object_token_type_ids", "object_mask"):
        wider[name] = torch.nn.functional.pad(wider[name], (0, 3))
    wider["object_patch_mask"] = torch.nn.functional.pad(wider["object_patch_mask"], (0, 0, 0, 3))
    with torch.inference_mode():
        torch.testing.assert_close(
            model(**wider).logits, expected["logits"][1:2], atol=1e-5, rtol=0
        )


def test_no_objects_in_a_choice_and_in_a_batch():
    model, inputs, _ = golden("VLEForVCRQ2A")
    text = {
        name: value
        for name, value in inputs.items()
        if not name.startswith("object") and name != "labels"
    }
    masked = {**parts(inputs, slice(None)), "object_mask": torch.zeros_like(inputs["object_mask"])}
    empty = {
        **text,
        "object_mask": inputs["object_mask"][:, :, :0],
        "object_patch_mask": inputs["object_patch_mask"][:, :, :0],
        "object_token_type_ids": inputs["object_token_type_ids"][:, :, :0],
    }
    with torch.inference_mode():
        none, hidden, zero = (model(**each).logits for each in (text, masked, empty))
    torch.testing.assert_close(none, hidden, atol=1e-5, rtol=0)
    torch.testing.assert_close(none, zero, atol=1e-5, rtol=0)


def test_an_image_is_encoded_once_a_question():
    model, inputs, _ = golden("VLEForVCRQ2A")
    seen = []
    model.vle.vision_model.register_forward_hook(
        lambda module, args, output: seen.append(len(args[0]))
    )
    with torch.inference_mode():
        model(**inputs)
    assert seen == [3]


def test_patches_that_do_not_count_change_no_loss():
    model, inputs, expected = golden("VLEForPBC")
    logits = expected["logits"]
    labels = torch.randint(0, 2, logits.shape[:2], generator=torch.Generator().manual_seed(0))
    mask = torch.rand(labels.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    with torch.inference_mode():
        loss = model(**inputs, labels=labels, patch_mask=mask).loss
        ignored = model(**inputs, labels=labels.masked_fill(~mask, -100)).loss
        nothing = model(**inputs, labels=labels, patch_mask=torch.zeros_like(mask)).loss
    chosen = -logits.log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    torch.testing.assert_close(loss, chosen[mask].mean(), atol=1e-5, rtol=0)
    assert loss == ignored and nothing == 0


def tiny(**changes):
    config = json.loads((GOLDEN / "VLEForPBC" / "config.json").read_text(encoding="utf-8"))
    return VLEConfig(**{**config, "id2label": {0: "cat", 1: "dog", 2: "cup"}, **changes})


def one_object(patch):
    """An object of each text, under one patch of a grid of four by four."""
    mask = torch.zeros(3, 1, 16, dtype=torch.bool)
    mask[:, 0, patch] = True
    return {"object_patch_mask": mask, "object_mask": torch.ones(3, 1, dtype=torch.long)}


def test_the_patches_of_an_object_are_painted_black():
    torch.manual_seed(0)
    _, inputs, _ = golden("VLEForPBC")
    model = VLEForMPC(tiny()).eval()
    other = inputs["pixel_values"].clone()
    other[:, :, 8:16, 8:16] += 1  # patch 5 of a grid of four by four patches of 8 pixels
    labels = torch.tensor([[2], [-100], [1]])
    with torch.inference_mode():
        first = model(**inputs, **one_object(5), labels=labels)
        second = model(**{**inputs, "pixel_values": other}, **one_object(5))
        third = model(**{**inputs, "pixel_values": other}, **one_object(6))
        fourth = model(**inputs, **one_object(6))
    assert first.logits.shape == (3, 1, 3)
    torch.testing.assert_close(first.logits, second.logits)
    assert not torch.allclose(third.logits, fourth.logits)
    log = first.logits.log_softmax(-1)
    torch.testing.assert_close(first.loss, -(log[0, 0, 2] + log[2, 0, 1]) / 2)


def test_the_class_is_read_from_the_token_of_the_black_patches():
    """The plain model on a picture that is painted by hand, with an object as in VCR."""
    torch.manual_seed(0)
    _, inputs, _ = golden("VLEForPBC")
    model = VLEForMPC(tiny()).eval()
    painted = inputs["pixel_values"].clone()
    for row in range(8, 16):
        for column in range(8, 16):
            painted[:, :, row, column] = 0
    types = torch.ones(3, 1, dtype=torch.long)  # as patches
    with torch.inference_mode():
        ours = model(**inputs, **one_object(5)).logits
        plain = {**inputs, "pixel_values": painted}
        token = model.vle(**plain, **one_object(5), object_token_type_ids=types).image_embeds[:, -1]
        torch.testing.assert_close(ours[:, 0], model.mpc_classifier(token), atol=1e-6, rtol=0)


def test_a_padded_object_is_neither_painted_nor_seen():
    torch.manual_seed(0)
    _, inputs, _ = golden("VLEForPBC")
    model = VLEForMPC(tiny()).eval()
    two = {name: torch.cat([value, value.roll(1, -1)], 1) for name, value in one_object(5).items()}
    two["object_mask"][:, 1] = 0
    with torch.inference_mode():
        alone, padded = model(**inputs, **one_object(5)), model(**inputs, **two)
    torch.testing.assert_close(alone.logits[:, 0], padded.logits[:, 0], atol=1e-6, rtol=0)


def test_a_remainder_of_pixels_stays():
    pixels, patches = torch.ones(1, 3, 10, 10), torch.ones(1, 4, dtype=torch.bool)
    painted = black_out(pixels, patches, 4)
    assert painted[..., :8, :8].eq(0).all() and painted[..., 8:, :].eq(1).all()
    assert painted[..., 8:].eq(1).all()


def test_word_embeddings_are_tied(tmp_path):
    model, inputs, _ = golden("VLEForMLM")
    head = model.mlm_score[1].predictions
    assert (
        head.decoder.weight is model.vle.text_model.embeddings.word_embeddings.weight
        and head.bias is head.decoder.bias
    )
    model.save_pretrained(tmp_path)
    with torch.inference_mode():
        assert torch.equal(
            model(**inputs).logits, VLEForMLM.from_pretrained(str(tmp_path)).eval()(**inputs).logits
        )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"token_type_ids": torch.full((3, 4, 30), 23)},
            "token_type_ids: expected values of 0 to 22, got 23",
        ),
        ({"object_mask": torch.ones(3, 4, 4, dtype=torch.long)}, "object_mask: expected the shape"),
        (
            {"object_patch_mask": torch.ones(3, 4, 5, 9, dtype=torch.bool)},
            "object_patch_mask: expected the shape",
        ),
        ({"object_mask": None}, "give all three or none"),
        ({"object_patch_mask": None}, "give all three or none"),
        ({"labels": torch.tensor([0, 4, 0])}, "labels: expected values of 0 to 3, got 4 at"),
        ({"labels": torch.tensor([0, 1])}, "labels: expected the shape"),
        (
            {"input_ids": torch.full((3, 4, 30), 200)},
            "input_ids: expected values of 0 to 199, got 200",
        ),
        ({"pixel_values": torch.zeros(3, 3, 32, 32)[:0]}, "pixel_values: expected the shape"),
        (
            {"attention_mask": torch.ones(3, 4, 29, dtype=torch.long)},
            "attention_mask: expected the shape",
        ),
        (
            {"pixel_values": torch.zeros(3, 3, 48, 48)},
            r"pixel_values: expected the shape \(3, 3, 32, 32\)",
        ),
        ({"pixel_values": torch.zeros(2, 3, 32, 32)}, "pixel_values: expected the shape"),
    ],
)
def test_inputs_that_do_not_fit(change, message):
    model, inputs, _ = golden("VLEForVCRQ2A")
    with pytest.raises(ValueError, match=message):
        model(**{**inputs, **change})


def test_gradient_checkpointing_changes_nothing():
    model, inputs, _ = golden("VLEForVCRQ2A")
    norms = []
    for checkpointing in (False, True):
        if checkpointing:
            model.train()
            for module in model.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
                if hasattr(module, "dropout") and isinstance(module.dropout, float):
                    module.dropout = 0.0
            model.gradient_checkpointing_enable()
        model.zero_grad()
        model(**inputs).loss.backward()
        norms.append(torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(norms[0], norms[1], atol=1e-5, rtol=1e-4)


def test_bfloat16_stays_close():
    model, inputs, expected = golden("VLEForVCRQ2A", dtype=torch.bfloat16)
    with torch.inference_mode():
        output = model(**{**inputs, "pixel_values": inputs["pixel_values"].bfloat16()})
    assert output.logits.dtype == output.loss.dtype == torch.float32
    torch.testing.assert_close(output.logits, expected["logits"], atol=0.1, rtol=0.1)


HEAD_OF = {
    "VLEForVQA": "vqa_classifier",
    "VLEForVCRQ2A": "vcr_q2a_logit",
    "VLEForVCRQA2R": "vcr_qa2r_logit",
    "VLEForITM": "itm_score",
    "VLEForPBC": "pbc_classifier",
    "VLEForMLM": "mlm_score",
}


@pytest.mark.parametrize("weights", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", HEAD_OF)
def test_heads_compute_in_float32_under_autocast(name, weights):
    """Also with 16-bit weights, as DeepSpeed has them: what the head adds to the encoder's rounding is float32's."""
    model, inputs, _ = golden(name, dtype=weights)
    head, seen = getattr(model, HEAD_OF[name]), []
    exact = copy.deepcopy(head).double()
    hook = head.register_forward_pre_hook(lambda module, given: seen.append(given[0].detach()))
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**inputs)
    hook.remove()
    assert output.logits.dtype == torch.float32
    expected = exact(seen[0].double()).view_as(output.logits)
    torch.testing.assert_close(output.logits.double(), expected, atol=2e-5, rtol=1e-5)
    if output.loss is not None:
        assert output.loss.dtype == torch.float32
        output.loss.backward()
        assert all(parameter.grad is not None for parameter in head.parameters())


def test_painted_objects_and_the_joint_model_have_float32_heads_too():
    _, inputs, _ = golden("VLEForPBC")
    _, choices, _ = golden("VLEForVCRQ2A")
    twice = {
        key: torch.cat([value, value], 1)
        for key, value in choices.items()
        if key not in ("labels", "pixel_values")
    }
    with torch.autocast("cpu", torch.bfloat16), torch.inference_mode():
        masked = VLEForMPC(tiny()).eval()(**inputs, **one_object(5))
        config = golden("VLEForVCRQ2A")[0].config
        joint = VLEForVCRJoint(config).eval()(**twice, pixel_values=choices["pixel_values"])
    assert masked.logits.dtype == joint.logits.dtype == torch.float32


def test_choices_of_a_weak_model_do_not_tie_in_sixteen_bits():
    """Scores of 1 ± 0.01: bfloat16 has three values there, and ties went to the first choice."""
    model, _, _ = golden("VLEForVCRQ2A")
    torch.manual_seed(0)
    pooled = torch.randn(1500, 4, 2 * model.config.hidden_size).tanh().bfloat16()
    with torch.no_grad():
        last = model.vcr_q2a_logit[3]
        last.weight.mul_(0.01 / model.score(pooled.float()).std())
        last.bias.fill_(1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model.score(pooled)
    ties = (logits == logits.amax(1, keepdim=True)).sum(1) > 1
    assert ties.sum() <= 1
    places = torch.bincount(logits.argmax(1), minlength=4)
    assert places.min() > 300 and places.max() < 450


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VLEForVQA", "VLEForVCRQ2A"])
def test_compiled_without_graph_breaks(name):
    model, inputs, expected = golden(name)
    compiled = torch.compile(model, fullgraph=True, dynamic=True)
    with torch.inference_mode():
        torch.testing.assert_close(compiled(**inputs).logits, expected["logits"], atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["VLEForVQA", "VLEForVCRQ2A"])
def test_compiled_layers_train_as_the_plain_ones(name):
    model, inputs, expected = golden(name)
    engine.compile_layers(model)
    gradients = []
    for stance in ("default", "force_eager"):
        with torch.compiler.set_stance(stance):
            output = model(**inputs)
        torch.testing.assert_close(output.logits, expected["logits"], atol=1e-4, rtol=0)
        output.loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
    for compiled, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(compiled, plain, atol=1e-5, rtol=1e-3)


@pytest.mark.parametrize(("size", "count"), [("vle-base", 378_328_320), ("vle-large", 930_356_224)])
def test_parameter_counts(size, count):
    """Without heads, at 224 pixels, with the last CLIP layer dropped: the papers' 378M and 930M."""
    with torch.device("meta"):
        model = VLEForVCRQ2A(VLEConfig(**SIZES[size]))
    assert sum(p.numel() for p in model.vle.parameters()) == count


def test_meter_has_the_same_fusion_and_a_roberta():
    with torch.device("meta"):
        meter, vle = (VLEForVCRQ2A(VLEConfig(**SIZES[size])) for size in ("meter-base", "vle-base"))
    shapes = [
        {n: p.shape for n, p in m.vle.named_parameters() if not n.startswith("text_model")}
        for m in (meter, vle)
    ]
    assert shapes[0] == shapes[1] and meter.config.num_hidden_layers == 6
    # roberta-base without its pooler (Hugging Face's model card: 125M with the language model's head)
    assert sum(p.numel() for p in meter.vle.text_model.parameters()) == 124_055_040


def test_meters_345_million_count_weights_that_nothing_reads():
    """Its program builds CLIP's text embeddings (`clip_model.py`) and RoBERTa's pooler too."""
    unread = 49_408 * 512 + 77 * 512 + 2 * 512 + 768 * 768 + 768
    counts = []
    for pixels in (224, 288):  # it was pre-trained at 288
        config = VLEConfig(**SIZES["meter-base"])
        config.vision_config.image_size = pixels
        with torch.device("meta"):
            model = VLEForVCRQ2A(config)
        counts.append(sum(p.numel() for p in model.vle.parameters()))
    assert counts == [318_551_808, 318_650_112]
    assert [round(unread / 1e6, 1), round(counts[0] / 1e6, 1)] == [25.9, 318.6]
    assert round((counts[1] + unread) / 1e6) == 345
