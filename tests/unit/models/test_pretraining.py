"""The four objectives: their losses against loops over samples and boxes, their shared towers against separate models."""

import shutil

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F
from transformers import pipeline

from tests.long.gpu_setting import small_config
from vle_bench.data.pairs import OBJECTIVES, RESULTS
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.models import (
    VLEForITM,
    VLEForMLM,
    VLEForMPC,
    VLEForPBC,
    VLEForPreTraining,
    VLEForVQA,
    VLEModel,
    VLEPreTrainedModel,
)
from vle_bench.models.vle.pretraining import found_patches
from vle_bench.models.vle.processing import VLEProcessor

CLASSES, WORDS = 5, 200
SEPARATE = {"mlm": VLEForMLM, "itm": VLEForITM, "mpc": VLEForMPC, "pbc": VLEForPBC}
COLUMNS = [column for name in OBJECTIVES for column in RESULTS[name]]


def config(objectives=None):
    values = small_config(32, 32, 8, WORDS)  # 4 × 4 patches of 8 pixels
    values.num_labels, values.objectives = CLASSES, objectives
    for part in (values, values.text_config):
        part.hidden_dropout_prob = part.attention_probs_dropout_prob = 0.0
    values.vision_config.attention_dropout = 0.0
    return values


def build(objectives=None, seed=0):
    torch.manual_seed(seed)
    return VLEForPreTraining(config(objectives))


def patches(*rows):
    """(rows, 16) with ones at the given places."""
    mask = torch.zeros(len(rows), 16, dtype=torch.long)
    for number, places in enumerate(rows):
        mask[number, list(places)] = 1
    return mask


def batch(hard=False):
    """Six texts about four images; two have an object, two are phrases."""
    rng = torch.Generator().manual_seed(1)
    ids = torch.randint(5, WORDS, (6, 9), generator=rng)
    attention = torch.ones(6, 9, dtype=torch.long)
    attention[2, 6:] = 0
    masked = ids.clone()
    positions = torch.tensor([[1, 2], [3, 0], [4, 5], [2, 7], [1, 0], [6, 8]])
    words = ids.gather(1, positions)
    masked.scatter_(1, positions, 4)
    words[1, 1] = words[4, 1] = -100
    masked[1, 0], masked[4, 0] = ids[1, 0], ids[4, 0]
    inputs = {
        "input_ids": ids,
        "attention_mask": attention,
        "pixel_values": torch.randn(4, 3, 32, 32, generator=rng),
        "image_index": torch.tensor([0, 1, 2, 3, 0, 1]),
        "mlm_input_ids": masked,
        "mlm_positions": positions,
        "mlm_words": words,
        "itm_images": torch.tensor([0, 2, 2, 1, 0, 3]),
        "mpc_texts": torch.tensor([0, 3]),
        "mpc_patches": patches([1, 2], [5, 6, 9, 10]).bool(),
        "mpc_labels": torch.tensor([1, 4]),
        "pbc_texts": torch.tensor([1, 5]),
        "pbc_patches": patches([0, 3], [15]),
    }
    if hard:
        inputs |= {
            "itm_hard_texts": torch.tensor([1, 3]),
            "itm_candidates": torch.tensor([[0, 2, 3], [0, 1, 2]]),
        }
    return inputs


def entropy(scores, label):
    """-log softmax, number by number."""
    return torch.log(torch.stack([s.exp() for s in scores]).sum()) - scores[label]


def losses_by_loops(model, inputs):
    """Each objective's loss of every pair, one pair and one box at a time."""
    shared = inputs["input_ids"], inputs["attention_mask"], inputs["pixel_values"]
    ids, attention, pixels = shared
    own = inputs["image_index"].tolist()
    losses = {name: [torch.zeros(()) for _ in own] for name in OBJECTIVES}
    for text, image in enumerate(own):
        row = slice(text, text + 1)
        fused = model.vle(inputs["mlm_input_ids"][row], attention[row], pixels[image : image + 1])
        chosen = []
        for place, word in zip(
            inputs["mlm_positions"][text], inputs["mlm_words"][text], strict=True
        ):
            if word != -100:
                chosen.append(entropy(model.mlm_score(fused.text_embeds[0, place]), word))
        losses["mlm"][text] = sum(chosen) / len(chosen)
        seen = int(inputs["itm_images"][text])
        fused = model.vle(ids[row], attention[row], pixels[seen : seen + 1])
        scores = model.itm_score(fused.pooler_output)[0]
        losses["itm"][text] = entropy(scores, 1 if seen == image else 0)
    for number, text in enumerate(inputs["mpc_texts"].tolist()):
        row, image = slice(text, text + 1), own[text]
        picture = pixels[image].clone()
        under = inputs["mpc_patches"][number].nonzero().flatten().tolist()
        for patch in under:
            y, x = 8 * (patch // 4), 8 * (patch % 4)
            picture[:, y : y + 8, x : x + 8] = 0
        text_side = model.vle.encode_text(ids[row], attention[row])
        image_side = model.vle.encode_image(picture[None])
        token = sum(image_side[0, 1 + patch] for patch in under) / len(under)
        types = model.vle.token_type_embeddings.weight
        tokens = torch.cat([image_side[0], token[None]]) + types[1]
        fused = model.vle._fuse(
            text_side + types[0], tokens[None], attention[row][:, None, None].bool(), None, "image"
        )
        scores = model.mpc_classifier(fused.image_embeds[0, -1])
        losses["mpc"][text] = entropy(scores, inputs["mpc_labels"][number])
    for number, text in enumerate(inputs["pbc_texts"].tolist()):
        row, image = slice(text, text + 1), own[text]
        fused = model.vle(ids[row], attention[row], pixels[image : image + 1])
        scores = [model.pbc_classifier(fused.image_embeds[0, 1 + patch]) for patch in range(16)]
        labels = inputs["pbc_patches"][number]
        losses["pbc"][text] = sum(entropy(s, k) for s, k in zip(scores, labels, strict=True)) / 16
    return losses


@pytest.fixture(scope="module")
def model():
    return build().eval()


def test_each_loss_is_that_of_loops_over_samples_and_boxes(model):
    inputs = batch()
    with torch.inference_mode():
        output = model(**inputs)
        expected = losses_by_loops(model, inputs)
    columns = dict(zip(COLUMNS, output.logits.T, strict=True))
    for name in OBJECTIVES:
        ours = columns[f"{name}_loss"].clamp(min=0)  # -1 stands for nothing
        torch.testing.assert_close(ours, torch.stack(expected[name]), atol=1e-6, rtol=0)
    total = sum(torch.stack(losses).mean() for losses in expected.values())
    torch.testing.assert_close(output.loss, total, atol=1e-6, rtol=0)
    assert columns["mlm_masked"].tolist() == [2, 1, 2, 2, 1, 2]
    assert columns["mpc_right"].ne(-1).nonzero().flatten().tolist() == [0, 3]
    assert columns["pbc_pointing"].ne(-1).nonzero().flatten().tolist() == [1, 5]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_one_objective_alone_is_its_weighted_loss(model, name):
    inputs = batch()
    alone = build({name: 0.5}).eval()
    missing, unexpected = alone.load_state_dict(model.state_dict(), strict=False)
    assert not missing and all(not key.startswith("vle.") for key in unexpected)
    with torch.inference_mode():
        expected = torch.stack(losses_by_loops(model, inputs)[name]).mean() / 2
        output = alone(**inputs)
    torch.testing.assert_close(output.loss, expected, atol=1e-6, rtol=0)
    assert output.logits.shape == (6, len(RESULTS[name]))
    output = alone.train()(**inputs)
    output.loss.backward()
    gradients = {key: parameter.grad for key, parameter in alone.named_parameters()}
    without = {key for key, gradient in gradients.items() if gradient is None}
    frozen = {key for key, parameter in alone.named_parameters() if not parameter.requires_grad}
    # several processes wait for the gradient of every parameter that is trained
    assert without == frozen and bool(frozen) == (name != "itm")


def test_gradients_of_shared_towers_are_those_of_separate_passes(model):
    """Four models with the same weights, each with a whole pass of its own."""
    inputs = batch()
    shared = build()
    shared.load_state_dict(model.state_dict())
    shared(**inputs).loss.backward()
    texts = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    own = inputs["image_index"]
    rows = {name: inputs[f"{name}_texts"] for name in ("mpc", "pbc")}

    def of(name):
        return {key: value[rows[name]] for key, value in texts.items()} | {
            "pixel_values": inputs["pixel_values"][own[rows[name]]]
        }

    separate = {name: cls(config()) for name, cls in SEPARATE.items()}
    for one in separate.values():
        one.load_state_dict(model.state_dict(), strict=False)
    plain = {**texts, "pixel_values": inputs["pixel_values"]}
    words = separate["mlm"](
        **{**plain, "input_ids": inputs["mlm_input_ids"]}, image_index=own
    ).logits.gather(1, inputs["mlm_positions"][..., None].expand(-1, -1, WORDS))
    counted = inputs["mlm_words"] != -100
    each = F.cross_entropy(words.flatten(0, 1), inputs["mlm_words"].flatten(), reduction="none")
    ((each.view(6, 2).sum(1) / counted.sum(1)).mean()).backward()
    matches = (inputs["itm_images"] == own).long()
    separate["itm"](**plain, image_index=inputs["itm_images"], labels=matches).loss.backward()
    objects = {
        "object_patch_mask": inputs["mpc_patches"][:, None],
        "object_mask": torch.ones(2, 1, dtype=torch.long),
    }
    mpc = separate["mpc"](**of("mpc"), **objects, labels=inputs["mpc_labels"][:, None]).loss
    (mpc * 2 / 6).backward()  # two of six pairs
    (separate["pbc"](**of("pbc"), labels=inputs["pbc_patches"]).loss * 2 / 6).backward()
    for key, parameter in shared.named_parameters():
        gradients = [dict(one.named_parameters()).get(key) for one in separate.values()]
        total = sum(g.grad for g in gradients if g is not None and g.grad is not None)
        torch.testing.assert_close(parameter.grad, total, atol=1e-5, rtol=0, msg=key)


def test_towers_are_passed_as_often_as_they_must_be(model):
    """The vision encoder over plain and over painted images, the text encoder over plain and masked texts."""
    calls = {"vision": [], "text": []}
    hooks = [
        model.vle.vision_model.register_forward_hook(
            lambda module, arguments, result: calls["vision"].append(len(arguments[0]))
        ),
        model.vle.text_model.register_forward_hook(
            lambda module, arguments, given, result: calls["text"].append(len(given["input_ids"])),
            with_kwargs=True,
        ),
    ]
    passes = {}
    for chosen in (OBJECTIVES, ("mlm", "itm", "pbc"), ("mpc",), ("mlm",)):
        model.config.objectives = dict.fromkeys(chosen, 1.0)
        calls["vision"].clear(), calls["text"].clear()
        with torch.inference_mode():
            model(**batch(hard=True))
        passes[chosen] = (list(calls["vision"]), list(calls["text"]))
    for hook in hooks:
        hook.remove()
    model.config.objectives = None
    assert passes == {
        OBJECTIVES: ([4, 2], [6, 6]),  # four images, two of them painted; six texts twice
        ("mlm", "itm", "pbc"): ([4], [6, 6]),
        ("mpc",): ([2], [6]),
        ("mlm",): ([4], [6]),
    }


def test_a_hard_stranger_is_the_best_match_of_its_candidates(model):
    inputs = batch(hard=True)
    itm = VLEForITM(config()).eval()
    itm.load_state_dict(model.state_dict(), strict=False)
    chosen = []
    with torch.inference_mode():
        for text, candidates in ((1, [0, 2, 3]), (3, [0, 1, 2])):
            one = {key: inputs[key][text : text + 1] for key in ("input_ids", "attention_mask")}
            scores = [
                itm(**one, pixel_values=inputs["pixel_values"][image : image + 1])
                .logits[0]
                .softmax(0)[1]
                .item()
                for image in candidates
            ]
            chosen.append(candidates[scores.index(max(scores))])
        seen = inputs["itm_images"].clone()
        seen[1], seen[3] = chosen
        hard = model(**inputs).logits
        expected = model(**{**batch(), "itm_images": seen}).logits
    assert chosen != [2, 1]  # not what stood there
    torch.testing.assert_close(hard, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("hard", [False, True])
def test_sixteen_bits_leave_no_weight_without_a_gradient(hard):
    """The scores of candidates are computed without gradients; autocast must not hand their weights on."""
    model = build({"itm": 1.0})
    with torch.autocast("cpu", torch.bfloat16):
        output = model(**batch(hard))
    assert output.loss.dtype == output.logits.dtype == torch.float32
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_stand_ins_of_a_batch_without_objects_and_phrases_add_nothing(model):
    inputs = batch()
    inputs |= {
        "mpc_texts": torch.tensor([0]),
        "mpc_patches": patches([0]).bool(),
        "mpc_labels": torch.tensor([-100]),
        "pbc_texts": torch.tensor([0]),
        "pbc_patches": torch.full((1, 16), -100),
    }
    one = build()
    one.load_state_dict(model.state_dict())
    output = one(**inputs)
    columns = dict(zip(COLUMNS, output.logits.T, strict=True))
    for name in ("mpc", "pbc"):
        assert all(columns[column].eq(-1).all() for column in RESULTS[name])
    expected = columns["mlm_loss"].mean() + columns["itm_loss"].mean()
    torch.testing.assert_close(output.loss, expected)
    output.loss.backward()
    assert all(parameter.grad is not None for parameter in one.parameters())


def test_found_patches():
    scores = torch.zeros(2, 4, 2)
    scores[0, :, 1] = torch.tensor([3.0, 2.0, -1.0, -2.0])
    scores[1, :, 1] = torch.tensor([-1.0, -3.0, -2.0, -4.0])
    inside = torch.tensor([[True, False, True, False], [False, True, False, False]])
    pointing, overlap = found_patches(scores, inside)
    assert pointing.tolist() == [1, 0] and overlap.tolist() == [pytest.approx(1 / 3), 0]
    scores[0, 0] = float("nan")
    assert found_patches(scores, inside)[0].isnan().tolist() == [True, False]


def test_unknown_objectives_and_none_are_refused():
    with pytest.raises(ValueError, match="'mrm' is none of mlm, itm, mpc, pbc"):
        build({"mlm": 1.0, "mrm": 1.0})
    with pytest.raises(ValueError, match="name at least one of mlm, itm, mpc, pbc"):
        build({"mlm": 0.0})


def test_a_saved_folder_is_a_bare_model_and_published_heads(model, tmp_path):
    model.save_pretrained(tmp_path)
    saved = load_file(tmp_path / "model.safetensors")
    heads = {name.split(".")[0] for name in saved} - {"vle"}
    assert heads == {"mlm_score", "itm_score", "mpc_classifier", "pbc_classifier"}
    inputs = batch()
    plain = {key: inputs[key] for key in ("input_ids", "attention_mask")}
    plain |= {"pixel_values": inputs["pixel_values"][inputs["image_index"]]}
    for cls in (VLEModel, VLEForITM, VLEForPBC, VLEForMLM, VLEForMPC, VLEForPreTraining):
        loaded, info = cls.from_pretrained(str(tmp_path), output_loading_info=True)
        assert not info["missing_keys"] and not info["mismatched_keys"]
        ours = {**model.vle.state_dict(), **model.state_dict()}
        assert all(torch.equal(value, ours[key]) for key, value in loaded.state_dict().items())
    with torch.inference_mode():
        pooled = model.vle(**plain).pooler_output
        scores = VLEForITM.from_pretrained(str(tmp_path)).eval()(**plain).logits
        torch.testing.assert_close(scores, model.itm_score(pooled))
    fine, info = VLEForVQA.from_pretrained(
        str(tmp_path), id2label={0: "yes", 1: "no"}, output_loading_info=True
    )
    assert fine.vqa_classifier[3].out_features == 2
    assert all(key.startswith("vqa_classifier") for key in info["missing_keys"])


def test_a_subset_is_loaded_as_it_was_saved(tmp_path):
    model = build({"mlm": 1.0, "pbc": 2.0})
    model.save_pretrained(tmp_path)
    loaded = VLEForPreTraining.from_pretrained(str(tmp_path))
    assert loaded.objectives == {"mlm": 1.0, "pbc": 2.0}
    trained = {key for key, p in loaded.named_parameters() if p.requires_grad}
    assert trained == {key for key, p in model.named_parameters() if p.requires_grad}
    assert not any("pooler" in key for key in trained)
    assert loaded.get_output_embeddings().weight is loaded.vle.get_input_embeddings().weight


def test_one_head_more_starts_afresh(tmp_path):
    build({"mlm": 1.0}).save_pretrained(tmp_path)
    loaded, info = VLEForPreTraining.from_pretrained(
        str(tmp_path), objectives={"mlm": 1.0, "itm": 1.0}, output_loading_info=True
    )
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"itm_score"}
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_other_folders_can_be_trained_on(tmp_path):
    """A bare encoder, as the published pre-trained one; and a fine-tuned model."""
    for cls in (VLEModel, VLEForVQA):
        cls(config()).save_pretrained(tmp_path / cls.__name__)
        loaded: VLEPreTrainedModel = VLEForPreTraining.from_pretrained(
            str(tmp_path / cls.__name__), objectives={"mlm": 1.0, "itm": 1.0}
        )
        assert loaded(**batch()).loss.isfinite()


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory):
    """A pre-trained folder with its processor, as a run's `last/`."""
    folder = tmp_path_factory.mktemp("pretrained")
    tokenizer = train_tokenizer(["a red disc and a blue square"], 60)
    VLEProcessor.from_parts(tokenizer, 32, 8).save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("task", "key"), [("vle-itm", "score"), ("vle-pbc", "scores")])
def test_pipelines_take_a_pretrained_folder(folder, model, task, key):
    picture = Image.new("RGB", (40, 30), (200, 10, 10))
    shown = pipeline(task, model=str(folder))(picture, "a red disc")
    assert shown[key] is not None
    processor = VLEProcessor.from_pretrained(str(folder))
    inputs = dict(processor(images=[picture], text=["a red disc"]))
    with torch.inference_mode():
        output = model.vle(**inputs)
        matches = model.itm_score(output.pooler_output)[0].softmax(0)[1]
        patch_scores = model.pbc_classifier(output.image_embeds[0, 1:]).softmax(-1)[:, 1]
    if task == "vle-itm":
        assert shown["score"] == pytest.approx(matches.item(), abs=1e-6)
    else:
        torch.testing.assert_close(torch.from_numpy(shown["scores"]).flatten(), patch_scores)


def test_pipelines_refuse_a_folder_without_their_head(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "mlm")
    build({"mlm": 1.0}).save_pretrained(tmp_path / "mlm")
    with pytest.raises(ValueError, match="vle-pbc needs a model saved as VLEForPBC"):
        pipeline("vle-pbc", model=str(tmp_path / "mlm"))
