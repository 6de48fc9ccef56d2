"""Conversion: METER's outputs and gradients after it, the trainers' prefixes, fresh models, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPTextConfig,
    CLIPVisionModel,
    DebertaV2Config,
    DebertaV2ForMaskedLM,
    DebertaV2Model,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
)
from typer.testing import CliRunner

from vle_bench.cli import app
from vle_bench.errors import RequestError
from vle_bench.models import (
    VLEConfig,
    VLEForMLM,
    VLEForMPC,
    VLEForVQA,
    VLEModel,
    VLEProcessor,
    pretrained,
)
from vle_bench.models.vle import pretrained_model
from vle_bench.models.vle.convert import vle
from vle_bench.models.vle.convert.checkpoints import convert_checkpoint, convert_encoders
from vle_bench.models.vle.convert.converted import infer_config
from vle_bench.models.vle.convert.meter import convert_meter, rename
from vle_bench.models.vle.convert.vle import convert_vle

GOLDEN = Path(__file__).parents[3] / "golden"
METER = GOLDEN / "meter"
VQA = GOLDEN / "vle" / "VLEForVQA"


def load(cls, folder):
    model, info = cls.from_pretrained(str(folder), output_loading_info=True, local_files_only=True)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"]
    return model.eval()


def logits(folder):
    with torch.inference_mode():
        return load(VLEForVQA, folder)(**load_file(VQA / "inputs.safetensors")).logits


@pytest.fixture(scope="module")
def published_logits():
    return logits(VQA)


@pytest.fixture
def meter():
    return load_file(METER / "state_dict.safetensors")


@pytest.fixture
def vqa():
    return load_file(VQA / "model.safetensors")


@pytest.fixture
def meter_model(tmp_path, meter):
    torch.save({"state_dict": meter, "epoch": 3}, tmp_path / "meter.ckpt")
    lines = convert_checkpoint(tmp_path / "meter.ckpt", tmp_path / "out", METER / "config.json")
    assert "roberta, 3 layers of 48, 4 heads" in "\n".join(lines)
    assert "mlm_score.decoder.weight" in next(line for line in lines if line.startswith("dropped"))
    return load(VLEForVQA, tmp_path / "out")


def vqa_targets():
    meta = json.loads((METER / "meta.json").read_text(encoding="utf-8"))
    targets = torch.zeros(len(meta["vqa_labels"]), meta["num_labels"])
    for row, (labels, scores) in enumerate(
        zip(meta["vqa_labels"], meta["vqa_scores"], strict=True)
    ):
        targets[row, labels] = torch.tensor(scores)
    return targets


def test_meter_outputs(meter_model):
    inputs, expected = (
        load_file(METER / "inputs.safetensors"),
        load_file(METER / "expected.safetensors"),
    )
    with torch.inference_mode():
        encoded = meter_model.vle(**inputs)
        output = meter_model(**inputs, labels=vqa_targets())
    real = inputs["attention_mask"].bool()
    torch.testing.assert_close(encoded.pooler_output, expected["pooler_output"], atol=1e-5, rtol=0)
    torch.testing.assert_close(encoded.image_embeds, expected["image_embeds"], atol=1e-5, rtol=0)
    torch.testing.assert_close(
        encoded.text_embeds[real], expected["text_embeds"][real], atol=1e-5, rtol=0
    )
    torch.testing.assert_close(output.logits, expected["vqa_logits"], atol=1e-5, rtol=0)
    torch.testing.assert_close(output.loss, expected["vqa_loss"].squeeze(), atol=1e-5, rtol=0)


def meter_gradients(model):
    """METER's name → gradients that together are the gradient of METER's parameter."""
    parameters = {name.removeprefix("vle."): p.grad for name, p in model.named_parameters()}

    def gradients(name):
        if "attn.in_proj_" not in name:
            return [parameters[rename(name) or name]]
        out = rename(name.replace("in_proj_", "out_proj."))
        return [parameters[out.replace("out_proj", f"{part}_proj")] for part in "qkv"]

    return gradients


def test_meter_gradients(meter_model):
    inputs = load_file(METER / "inputs.safetensors")
    meter_model(**inputs, labels=vqa_targets()).loss.backward()
    gradients = meter_gradients(meter_model)
    norms = json.loads((METER / "grad_norms.json").read_text(encoding="utf-8"))
    covered = 0
    for name, norm in norms.items():
        pieces = [g for g in gradients(name) if g is not None]
        covered += len(gradients(name))
        ours = sum(g.square().sum().item() for g in pieces) ** 0.5
        assert abs(ours - norm) <= 1e-4 * norm + 1e-5, name
    assert covered == sum(1 for _ in meter_model.parameters())


def test_meter_without_its_classifier_is_a_bare_model(meter):
    config = VLEConfig.from_dict(json.loads((METER / "config.json").read_text(encoding="utf-8")))
    tensors = {name: t for name, t in meter.items() if not name.startswith("vqa_classifier")}
    tensors["vit_model.token_embedding.weight"] = torch.zeros(
        3, 3
    )  # METER keeps it of CLIP's text tower
    tensors["token_type_embeddings.weight"] = torch.zeros(3, 64)  # as NLVR2 fine-tuning grows it
    converted = convert_meter(tensors, config)
    assert converted.architecture == "VLEModel"
    assert {"vit_model.token_embedding.weight", "token_type_embeddings.weight[2:]"} <= set(
        converted.dropped
    )
    assert converted.tensors["token_type_embeddings.weight"].shape == (2, 64)


def tiny_config(text, **changes):
    """Widths that divide into heads of 64, so that everything can be inferred."""
    shared = {
        "hidden_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 160,
    }
    vision = {
        "hidden_size": 64,
        "num_hidden_layers": 3,
        "num_attention_heads": 1,
        "intermediate_size": 96,
        "patch_size": 8,
        "image_size": 24,
    }
    return VLEConfig(
        **shared,
        text_config=text(**{**shared, "num_hidden_layers": 3}),
        vision_config=vision,
        **changes,
    )


def deberta(**sizes):
    return DebertaV2Config(
        **sizes,
        vocab_size=90,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        max_position_embeddings=512,
    )


def roberta(**sizes):
    return RobertaConfig(
        **sizes, vocab_size=90, type_vocab_size=1, max_position_embeddings=40, layer_norm_eps=1e-5
    )


@pytest.mark.parametrize("text", [deberta, roberta])
def test_sizes_are_inferred(text):
    config = tiny_config(text, num_token_types=5)
    inferred = infer_config(VLEModel(config).state_dict())
    for part in (lambda c: c, lambda c: c.text_config, lambda c: c.vision_config):
        ours, theirs = part(inferred).to_dict(), part(config).to_dict()
        assert {**ours, "text_config": None, "vision_config": None} == {
            **theirs,
            "text_config": None,
            "vision_config": None,
        }


def test_the_tokenizers_name_tells_roberta_from_bert(meter):
    tensors = VLEModel(tiny_config(roberta)).state_dict()
    assert infer_config(tensors, "roberta-base").text_config.model_type == "roberta"
    bert = infer_config(tensors, "bert-base-uncased").text_config
    assert (bert.model_type, bert.pad_token_id, bert.layer_norm_eps) == ("bert", 0, 1e-12)
    with pytest.raises(
        RequestError,
        match="48 does not divide into heads of 64: give the head counts with --config",
    ):
        convert_meter(meter)


@pytest.mark.parametrize("prefix", ["model.", "module.model.", "_forward_module.model.", ""])
def test_trainers_prefixes(tmp_path, vqa, published_logits, prefix):
    torch.save(
        {"state_dict": {prefix + name: t for name, t in vqa.items()}}, tmp_path / "step.ckpt"
    )
    lines = convert_checkpoint(tmp_path / "step.ckpt", tmp_path / "out", VQA / "config.json")
    assert lines[0].endswith(f"VLE, without the prefix {prefix}" if prefix else "VLE")
    assert torch.equal(logits(tmp_path / "out"), published_logits)
    assert json.loads((tmp_path / "out" / "label_map.json").read_text(encoding="utf-8"))["answers"][
        :2
    ] == ["answer0", "answer1"]


@pytest.mark.parametrize(
    "wrap", [lambda tensors: tensors, lambda tensors: {"module": tensors, "global_steps": 7}]
)
def test_deepspeeds_forms_and_half_precision(tmp_path, vqa, wrap):
    halves = {f"module.{name}": t.half() if t.is_floating_point() else t for name, t in vqa.items()}
    torch.save(wrap(halves), tmp_path / "model.bin")
    convert_checkpoint(tmp_path / "model.bin", tmp_path / "out", VQA / "config.json")
    model = load(VLEForVQA, tmp_path / "out")
    assert model.dtype == torch.float32
    assert torch.equal(
        model.vqa_classifier[3].weight, vqa["vqa_classifier.3.weight"].half().float()
    )


def test_the_bare_encoder_keeps_its_inner_names(tmp_path):
    """`text_model.` and `vision_model.` end in `model.`: the published converter cuts there too."""
    config = tiny_config(deberta)
    model = VLEModel(config)
    save_file(
        {f"model.{name}": t for name, t in model.state_dict().items()},
        tmp_path / "bare.safetensors",
    )
    lines = convert_checkpoint(tmp_path / "bare.safetensors", tmp_path / "out")
    loaded = load(VLEModel, tmp_path / "out")
    assert loaded.state_dict().keys() == model.state_dict().keys()
    assert all(torch.equal(t, model.state_dict()[name]) for name, t in loaded.state_dict().items())
    assert "no processor was written" in "\n".join(lines)


@pytest.mark.parametrize(("cls", "changes"), [(VLEForMLM, {}), (VLEForMPC, {"num_labels": 7})])
def test_pretraining_heads(tmp_path, cls, changes):
    model = cls(tiny_config(deberta, **changes))
    torch.save(
        {"state_dict": {f"model.{name}": t for name, t in model.state_dict().items()}},
        tmp_path / "step.ckpt",
    )
    convert_checkpoint(tmp_path / "step.ckpt", tmp_path / "out")
    loaded = load(cls, tmp_path / "out").state_dict()
    assert all(torch.equal(loaded[name], t) for name, t in model.state_dict().items())


def test_tied_weights_are_one_tensor(tmp_path):
    model = VLEForMLM(tiny_config(deberta))
    tensors = {name: t.clone() for name, t in model.state_dict().items()}
    decoder = tensors.pop("mlm_score.1.predictions.decoder.weight")
    torch.save(tensors, tmp_path / "step.ckpt")
    convert_checkpoint(tmp_path / "step.ckpt", tmp_path / "out")
    assert torch.equal(load(VLEForMLM, tmp_path / "out").get_output_embeddings().weight, decoder)
    torch.save(
        tensors | {"mlm_score.1.predictions.decoder.weight": decoder + 1}, tmp_path / "step.ckpt"
    )
    with pytest.raises(
        RequestError,
        match="decoder.weight and vle.text_model.embeddings.word_embeddings.weight differ",
    ):
        convert_checkpoint(tmp_path / "step.ckpt", tmp_path / "other")


def test_every_head_has_a_class():
    assert set(vle.HEADS) == set(pretrained_model.HEADS)


def test_several_heads_are_dropped_and_named(vqa):
    tensors = vqa | {
        "itm_score.fc.bias": torch.zeros(2),
        "itm_score.fc.weight": torch.zeros(2, 128),
    }
    converted = convert_vle(
        tensors, VLEConfig.from_dict(json.loads((VQA / "config.json").read_text(encoding="utf-8")))
    )
    assert converted.architecture == "VLEModel"
    assert {"itm_score.fc.bias", "vqa_classifier.0.weight"} <= set(converted.dropped)


def test_the_position_buffer_tells_the_longest_distance():
    tensors = {f"vle.{name}": t for name, t in VLEModel(tiny_config(deberta)).state_dict().items()}
    tensors["vle.text_model.embeddings.position_ids"] = torch.arange(64)[None]
    assert convert_vle(tensors).config.text_config.max_position_embeddings == 64


@pytest.fixture
def encoders(tmp_path):
    """Folders of a text encoder, a CLIP vision encoder and a whole CLIP, with the models."""
    config = tiny_config(deberta)
    vision = config.vision_config
    whole = CLIPConfig(
        text_config=CLIPTextConfig(
            hidden_size=32, num_hidden_layers=1, num_attention_heads=2, vocab_size=60
        ).to_dict(),
        vision_config=vision.to_dict(),
    )
    made = {
        "deberta": DebertaV2Model(config.text_config),
        "deberta-mlm": DebertaV2ForMaskedLM(config.text_config),
        "roberta": RobertaModel(tiny_config(roberta).text_config),
        "vision": CLIPVisionModel(vision),
        "clip": CLIPModel(whole),
    }
    for name, model in made.items():
        model.save_pretrained(tmp_path / name)
    return tmp_path, made


@pytest.mark.parametrize(
    ("text", "vision", "keep"),
    [("deberta", "vision", False), ("roberta", "clip", False), ("deberta-mlm", "clip", True)],
)
def test_a_fresh_vle(encoders, text, vision, keep):
    folder, made = encoders
    lines = convert_encoders(
        folder / text, folder / vision, folder / "out", keep_last_vision_layer=keep
    )
    model = load(VLEModel, folder / "out")
    layers = 3 if keep else 2
    assert (
        model.config.vision_config.num_hidden_layers
        == len(model.vision_model.encoder.layers)
        == layers
    )
    assert (
        model.config.hidden_size,
        model.config.num_attention_heads,
        model.config.intermediate_size,
    ) == (128, 2, 512)
    whole = made[vision].vision_model if vision == "clip" else made[vision]
    for name, tensor in model.vision_model.state_dict().items():
        assert torch.equal(tensor, whole.state_dict()[name]), name
    source = made[text].deberta if text == "deberta-mlm" else made[text]
    for name, tensor in model.text_model.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name]), name
    dropped = "\n".join(lines)
    assert ("vision_model.encoder.layers.2 (16)" in dropped) is not keep
    assert ("visual_projection.weight" in dropped) is (vision == "clip")
    images = torch.zeros(1, 3, 24, 24)
    ids = torch.ones(1, 4, dtype=torch.long)
    assert (
        model(input_ids=ids, attention_mask=ids, pixel_values=images).pooler_output.isfinite().all()
    )


def test_a_fresh_vle_is_the_same_each_time_and_has_a_processor(encoders):
    from tokenizers import Tokenizer, models

    folder, _ = encoders
    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "cat": 2}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(folder / "deberta")
    for name in ("first", "second"):
        convert_encoders(folder / "deberta", folder / "vision", folder / name)
    first, second = (load(AutoModel, folder / name).state_dict() for name in ("first", "second"))
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    processor = VLEProcessor.from_folder(folder / "first")
    assert processor(text=["cat"])["input_ids"].tolist() == [[2]]
    assert (processor.resize, processor.square, processor.patch_size) == ("crop", (24, 24), 8)


def picture_640_by_480():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).resize(
        (640, 480), Image.Resampling.BICUBIC
    )
    return Image.fromarray(
        (np.asarray(coarse, int) + rng.integers(-9, 9, (480, 640, 3))).clip(0, 255).astype(np.uint8)
    )


def published_pixels(image, size):
    """METER's transform (transforms/transform.py) with Pillow and numpy alone; (3, size, size)."""
    width, height = image.size
    scale = size / min(width, height)
    image = image.resize((int(width * scale), int(height * scale)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    pixels = np.asarray(image.crop((left, top, left + size, top + size)), np.float64) / 255
    mean, deviation = (
        np.array([0.48145466, 0.4578275, 0.40821073]),
        np.array([0.26862954, 0.26130258, 0.27577711]),
    )
    return torch.from_numpy(((pixels - mean) / deviation).transpose(2, 0, 1))


@pytest.mark.parametrize("source", ["meter", "vle"])
def test_a_converted_checkpoint_sees_the_published_crop(tmp_path, source):
    from tokenizers import Tokenizer, models

    words = Tokenizer(models.WordLevel({"[PAD]": 0, "[UNK]": 1, "cat": 2}, unk_token="[UNK]"))
    PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]"
    ).save_pretrained(tmp_path / "words")
    weights, config = {
        "meter": (METER / "state_dict.safetensors", METER / "config.json"),
        "vle": (VQA / "model.safetensors", VQA / "config.json"),
    }[source]
    convert_checkpoint(weights, tmp_path / "out", config, tmp_path / "words")
    image = picture_640_by_480()
    processor = VLEProcessor.from_folder(tmp_path / "out")
    square = CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    larger = pretrained.load_processor(tmp_path / "out", 384)
    clip = CLIPImageProcessorPil(
        size={"shortest_edge": 384}, crop_size={"height": 384, "width": 384}
    )
    for ours, theirs, size in ((processor, square, 32), (larger, clip, 384)):
        pixels = ours(images=image).pixel_values
        assert pixels.shape == (1, 3, size, size) and ours.resize == "crop"
        torch.testing.assert_close(
            pixels, theirs(image, return_tensors="pt")["pixel_values"], atol=1e-5, rtol=0
        )
        torch.testing.assert_close(
            pixels[0].double(), published_pixels(image, size), atol=1e-5, rtol=0
        )
    squashed = pretrained.load_processor(tmp_path / "out", 384, "squash")(images=image).pixel_values
    assert (squashed - larger(images=image).pixel_values).abs().mean() > 0.1


def test_encoders_that_do_not_fit_are_refused(encoders):
    folder, _ = encoders
    config = tiny_config(deberta)
    config.vision_config.num_hidden_layers = 3
    config.to_json_file(folder / "config.json")
    with pytest.raises(RequestError, match=r"missing: 16 \(vision_model.encoder.layers.2"):
        convert_encoders(
            folder / "deberta", folder / "vision", folder / "out", folder / "config.json"
        )
    with pytest.raises(
        RequestError, match="expected a CLIP or its vision encoder, got deberta-v2"
    ):
        convert_encoders(folder / "deberta", folder / "deberta", folder / "out")
    with pytest.raises(RequestError, match="no config.json"):
        convert_encoders(folder / "none", folder / "vision", folder / "out")
    tensors = load_file(folder / "deberta" / "model.safetensors")
    tensors.pop("embeddings.LayerNorm.bias")
    save_file(
        tensors | {"adapter.weight": torch.zeros(2)},
        folder / "deberta" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(RequestError, match=r"missing: 1 \(embeddings.LayerNorm.bias\)"):
        convert_encoders(folder / "deberta", folder / "vision", folder / "out")
    save_file(
        load_file(folder / "roberta" / "model.safetensors") | {"adapter.weight": torch.zeros(2)},
        folder / "roberta" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(RequestError, match=r"left over: 1 \(adapter.weight\)"):
        convert_encoders(folder / "roberta", folder / "vision", folder / "out")
    assert not (folder / "out").exists()


class Harmful:
    ran = False

    def __reduce__(self):
        return (setattr, (Harmful, "ran", True))


def extra(name):
    return lambda tensors: tensors | {name: torch.zeros(2)}


def without(name):
    return lambda tensors: {key: t for key, t in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("source", "change", "message"),
    [
        ("meter", extra("adapter.weight"), r"METER does not have: 1 \(adapter.weight\)"),
        (
            "meter",
            extra("text_transformer.adapter.weight"),
            r"left over: 1 \(vle.text_model.adapter.weight\)",
        ),
        (
            "meter",
            without("vit_model.visual.ln_pre.bias"),
            r"missing: 1 \(vle.vision_model.pre_layrnorm.bias\)",
        ),
        ("meter", without("vit_model.visual.conv1.weight"), "only its CLIP image encoders"),
        (
            "meter",
            without("cross_modal_text_pooler.dense.weight"),
            "neither METER's nor VLE's key names",
        ),
        ("vqa", extra("adapter.weight"), r"VLE does not have: 1 \(adapter.weight\)"),
        ("vqa", extra("vle.adapter.weight"), r"left over: 1 \(vle.adapter.weight\)"),
        ("vqa", without("vqa_classifier.3.bias"), r"missing: 1 \(vqa_classifier.3.bias\)"),
        (
            "vqa",
            lambda tensors: tensors | {"vqa_classifier.3.bias": torch.zeros(3)},
            r"\(3,\) instead of \(17,\)",
        ),
        ("vqa", lambda tensors: tensors | {"labels": ["yes"]}, r"got other values: 1 \(labels\)"),
        ("vqa", lambda tensors: {"state_dict": {}}, "it holds no tensors"),
        ("vqa", lambda tensors: [tensors], "expected a dictionary of tensors, got list"),
        (
            "vqa",
            lambda tensors: (
                {f"model.{k}": t for k, t in tensors.items()} | {"ema.x": torch.zeros(1)}
            ),
            r"model.: 1 \(ema.x\)",
        ),
        (
            "vqa",
            lambda tensors: {"state_dict": tensors, "callbacks": Harmful()},
            "only tensors and plain values .* it needs ",
        ),
    ],
)
def test_what_is_refused(tmp_path, request, source, change, message):
    torch.save(change(request.getfixturevalue(source)), tmp_path / "step.ckpt")
    config = METER / "config.json" if source == "meter" else VQA / "config.json"
    result = CliRunner().invoke(
        app.app,
        [
            "convert",
            str(tmp_path / "step.ckpt"),
            "--output",
            str(tmp_path / "out"),
            "--config",
            str(config),
        ],
    )
    assert isinstance(result.exception, RequestError)
    with pytest.raises(RequestError, match=message):
        raise result.exception
    assert "step.ckpt" in str(result.exception) and "\n" not in str(result.exception)
    assert not Harmful.ran
    assert [path.name for path in tmp_path.iterdir()] == ["step.ckpt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_tensors_that_are_not_finite_are_refused_and_named(tmp_path, vqa, value):
    first, second = "vle.text_projection_layer.bias", "vqa_classifier.0.weight"
    assert first in vqa and second in vqa
    damaged = dict(vqa)
    for name in (first, second):
        damaged[name] = vqa[name].double()  # 1e300 is a number, and infinite as a float32
        damaged[name].view(-1)[3] = value
    torch.save({"state_dict": damaged}, tmp_path / "x.ckpt")
    with pytest.raises(
        RequestError, match=rf"x\.ckpt: numbers that are not finite .* in 2 \({first}, {second}\)$"
    ):
        convert_checkpoint(tmp_path / "x.ckpt", tmp_path / "out", VQA / "config.json")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path, vqa, suffix):
    path = tmp_path / f"model.{suffix}"
    save_file(vqa, path) if suffix == "safetensors" else torch.save(vqa, path)
    whole = path.read_bytes()
    for length in (0, 5, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(RequestError, match="truncated|damaged") as caught:
            convert_checkpoint(path, tmp_path / "out", VQA / "config.json")
        assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "broken or cut-off JSON"),
        ("[]", 'expected "model_type": "vle"'),
        (
            '{"model_type": "vle", "text_config": {"model_type": "no-such"}}',
            "not a valid VLEConfig",
        ),
        ('{"model_type": "vle", "hidden_size": 65}', "65 does not divide"),
        (
            '{"model_type": "vle", "text_config": {"model_type": "roberta"}}',
            "missing: 496 .*of another shape: 227 ",
        ),
    ],
)
def test_a_wrong_config_is_refused(tmp_path, content, message):
    (tmp_path / "config.json").write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=message):
        convert_checkpoint(
            METER / "state_dict.safetensors", tmp_path / "out", tmp_path / "config.json"
        )
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_that_does_not_fit_is_refused(tmp_path):
    with pytest.raises(RequestError, match="no tokenizer can be loaded"):
        convert_checkpoint(
            METER / "state_dict.safetensors",
            tmp_path / "out",
            METER / "config.json",
            tmp_path / "none",
        )
    assert not list(tmp_path.iterdir())


def test_a_full_output_is_kept(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(RequestError, match="it exists already"):
        convert_checkpoint(METER / "state_dict.safetensors", tmp_path, METER / "config.json")
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["x.ckpt", "--text", "t", "--vision", "v"],
        ["--text", "t"],
        ["x.ckpt", "--keep-last-vision-layer"],
        ["missing.ckpt"],
    ],
)
def test_a_wrong_command_is_refused(tmp_path, arguments):
    result = CliRunner().invoke(app.app, ["convert", *arguments, "--output", str(tmp_path / "out")])
    assert isinstance(result.exception, RequestError)


def test_what_lightning_writes_beside_the_weights_is_not_loaded(
    tmp_path, vqa, published_logits, monkeypatch
):
    """METER's Lightning (1.3) keyed its callbacks by class: the name is read, no such module has to exist."""
    import sys
    import types

    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (), {"__module__": module.__name__})
    with monkeypatch.context() as patch:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patch.setitem(sys.modules, name, types.ModuleType(name))
        patch.setitem(sys.modules, module.__name__, module)
        torch.save(
            {"state_dict": vqa, "callbacks": {module.ModelCheckpoint: {"best": 1.0}}},
            tmp_path / "step.ckpt",
        )
    convert_checkpoint(tmp_path / "step.ckpt", tmp_path / "out", VQA / "config.json")
    assert torch.equal(logits(tmp_path / "out"), published_logits)
