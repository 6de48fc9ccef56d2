"""The probes of a tiny random checkpoint, against one row at a time."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from vle_bench.data.boxes import patch_mask
from vle_bench.data.prepare.shapes_captions import PROBES, write_shapes_captions
from vle_bench.data.prepare.shapes_phrases import NOUNS
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError
from vle_bench.json_files import read_json
from vle_bench.metrics.numbers import mean
from vle_bench.models import (
    VLEConfig,
    VLEForITM,
    VLEForMLM,
    VLEForMPC,
    VLEForPBC,
    VLEForPreTraining,
    VLEProcessor,
)
from vle_bench.models.vle.pretraining_heads import black_out
from vle_bench.study import probes
from vle_bench.study.probes import GREY, NOTHING, Prober, run_probes

SIZE, PATCH = 48, 16
SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
EVERY = ("mlm", "itm", "pbc", "mpc")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("probes") / "official"
    return write_shapes_captions(root, 0, {"val": 8}) / "val"


@pytest.fixture(scope="module")
def rows(folder):
    return read_json(folder / PROBES)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory, rows):
    texts = [row[key] for row in rows["matches"] for key in ("caption", "negative")]
    tokenizer = train_tokenizer([*texts, *(row["phrase"] for row in rows["phrases"])], 1000)
    names = sorted(set(NOUNS.values()))
    torch.manual_seed(0)
    wide = {**SMALL, "intermediate_size": 16, "initializer_range": 0.5}
    text = {**wide, "model_type": "deberta-v2", "vocab_size": len(tokenizer)}
    config = VLEConfig(
        **wide,
        text_config=text,
        vision_config={**wide, "image_size": SIZE, "patch_size": PATCH},
        objectives=dict.fromkeys(EVERY, 1.0),
        id2label=dict(enumerate(names)),
        label2id={name: number for number, name in enumerate(names)},
    )
    folder = tmp_path_factory.mktemp("checkpoint")
    VLEForPreTraining(config).save_pretrained(folder)
    VLEProcessor.from_parts(tokenizer, SIZE, PATCH).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def processor(checkpoint):
    return VLEProcessor.from_pretrained(checkpoint)


@pytest.fixture(scope="module")
def found(checkpoint, folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probes, "PICTURES", 2)  # several batches, the last one shorter
        return run_probes(checkpoint, folder, EVERY)


def load(cls, checkpoint):
    return cls.from_pretrained(str(checkpoint)).eval()


@torch.no_grad()
def run(model, processor, picture, text, **more):
    return model(**processor(images=[picture], text=[text]), **more).logits


def opened(folder, row):
    return Image.open(folder / row["image"])


def touched(row, picture):
    grid = SIZE // PATCH
    return patch_mask([row["box"]], *picture.size, grid, grid)  # (1, P)


def test_matches(found, checkpoint, processor, folder, rows):
    model, hits = load(VLEForITM, checkpoint), []
    for row in rows["matches"]:
        margins = [
            run(model, processor, opened(folder, row), row[key])[0].double()
            for key in ("caption", "negative")
        ]
        right, wrong = (float(one[1] - one[0]) for one in margins)
        hits.append(0.5 if math.isclose(right, wrong, abs_tol=1e-9) else float(right > wrong))
    with torch.no_grad():
        every = probes.matches(Prober(checkpoint, folder))["match"]
    assert every.tolist() == pytest.approx(hits) and len(set(hits)) > 1
    assert found["match"]["value"] == pytest.approx(mean(hits))
    assert found["match"]["n"] == len(hits) and 0.2 < mean(hits) < 0.8


def test_strangers(found, checkpoint, processor, folder, rows):
    model, hits = load(VLEForITM, checkpoint), []
    for row in rows["strangers"]:
        margins = [
            run(model, processor, Image.open(folder / row[key]), row["caption"])[0].double()
            for key in ("image", "stranger")
        ]
        right, wrong = (float(one[1] - one[0]) for one in margins)
        hits.append(0.5 if math.isclose(right, wrong, abs_tol=1e-9) else float(right > wrong))
    with torch.no_grad():
        every = probes.strangers(Prober(checkpoint, folder))["match_stranger"]
    assert every.tolist() == pytest.approx(hits) and len(set(hits)) > 1
    assert found["match_stranger"]["value"] == pytest.approx(mean(hits))
    assert found["match_stranger"]["n"] == len(hits) and 0.2 < mean(hits) < 0.8


@pytest.mark.parametrize("name", ["noun", "noun_grey"])
def test_nouns(name, found, checkpoint, processor, folder, rows):
    model, hits = load(VLEForMLM, checkpoint), []
    tokenizer = processor.tokenizer
    for row in rows["nouns"]:
        picture = opened(folder, row) if name == "noun" else Image.new("RGB", (30, 40), GREY)
        inputs = processor(images=[picture], text=[row["caption"]])
        tokens = tokenizer.convert_ids_to_tokens(inputs["input_ids"][0].tolist())
        place = tokens.index("▁" + row["noun"])
        right = int(inputs["input_ids"][0, place])
        inputs["input_ids"][0, place] = tokenizer.mask_token_id
        with torch.no_grad():
            logits = model(**inputs).logits
        hits.append(float(int(logits[0, place].argmax()) == right))
    assert found[name]["value"] == pytest.approx(mean(hits)) and found[name]["n"] == len(hits)


def test_phrases(found, checkpoint, processor, folder, rows):
    model, pointed, overlaps, chances = load(VLEForPBC, checkpoint), [], [], []
    for row in rows["phrases"]:
        picture = opened(folder, row)
        margins = run(model, processor, picture, row["phrase"])[0]
        margins = (margins[:, 1] - margins[:, 0]).tolist()
        truth = set(np.flatnonzero(touched(row, picture)[0]).tolist())
        chosen = {patch for patch, margin in enumerate(margins) if margin > 0}
        pointed.append(float(margins.index(max(margins)) in truth))
        overlaps.append(len(chosen & truth) / len(chosen | truth))
        chances.append(len(truth) / len(margins))
    assert found["pointing"]["value"] == pytest.approx(mean(pointed))
    assert found["iou"]["value"] == pytest.approx(mean(overlaps), abs=1e-3)
    assert found["pointing_chance"]["value"] == pytest.approx(mean(chances))
    assert 0 < mean(chances) < 1 and mean(overlaps) > 0


@pytest.mark.parametrize("name", ["object", "object_no_caption"])
def test_objects(name, found, checkpoint, processor, folder, rows):
    model, hits = load(VLEForMPC, checkpoint), []
    for row in rows["objects"]:
        picture = opened(folder, row)
        mask = torch.from_numpy(touched(row, picture))[None]
        text = row["caption"] if name == "object" else NOTHING
        logits = run(
            model,
            processor,
            picture,
            text,
            object_patch_mask=mask,
            object_mask=torch.ones(1, 1).long(),
        )
        hits.append(float(model.config.id2label[int(logits[0, 0].argmax())] == row["name"]))
    assert found[name]["value"] == pytest.approx(mean(hits)) and found[name]["n"] == len(hits)
    assert len(hits) >= 5


def test_a_probe_of_objects_does_not_see_them(checkpoint, processor, folder, rows):
    """What is drawn in the box makes no difference; what is drawn beside it does."""
    model, row = load(VLEForMPC, checkpoint), rows["objects"][0]
    picture = opened(folder, row)
    inputs = processor(images=[picture], text=[row["caption"]])
    mask = torch.from_numpy(touched(row, picture))[None]
    real = torch.ones(1, 1).long()
    other = inputs["pixel_values"].clone()
    inside = black_out(torch.ones_like(other), mask[0], PATCH) == 0
    assert inside.any() and not inside.all()
    other[inside] += 1
    with torch.no_grad():
        first = model(**inputs, object_patch_mask=mask, object_mask=real).logits
        same = model(
            **{**inputs, "pixel_values": other}, object_patch_mask=mask, object_mask=real
        ).logits
    assert torch.equal(first, same)


def test_only_the_objectives_are_probed(checkpoint, folder):
    assert set(run_probes(checkpoint, folder, ["itm"])) == {"match", "match_stranger"}


def test_a_folder_without_probes_and_a_word_in_pieces_are_refused(checkpoint, tmp_path, folder):
    with pytest.raises(RequestError, match="probes.json: no such file"):
        run_probes(checkpoint, tmp_path, ["itm"])
    content = (folder / PROBES).read_text(encoding="utf-8")
    noun = read_json(folder / PROBES)["nouns"][0]["noun"]
    (tmp_path / "VG_100K").symlink_to(folder / "VG_100K")
    changed = content.replace(f'"noun": "{noun}"', '"noun": "xylophone"')
    (tmp_path / PROBES).write_text(changed, encoding="utf-8")
    with pytest.raises(RequestError, match="not one piece of the tokenizer"):
        run_probes(checkpoint, tmp_path, ["mlm"])
