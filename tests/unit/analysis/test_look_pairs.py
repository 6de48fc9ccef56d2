"""The page of pre-training's pairs: masked words, patches, painted objects and strangers are those of the collator."""

import base64
import io
import re
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
from PIL import Image

from tests.miniature.pairs import write_captions, write_visual_genome
from tests.unit.analysis.test_look import opened, written
from vle_bench.analysis import look_pairs, look_pretraining
from vle_bench.analysis.look import open_look, views_of
from vle_bench.analysis.look_pictures import denormalised, mask_path
from vle_bench.analysis.vcr import scene
from vle_bench.data.pairs import IGNORED
from vle_bench.data.prepare import captions
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.visual_genome import prepare_visual_genome
from vle_bench.data.prepared import open_prepared

SMALL = ["train.batch_size=16", "train.per_device_batch_size=8"]
RECIPE = "pretrain/vle-tiny"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    official = write_visual_genome(folder / "vg")
    prepare_visual_genome(official, folder / "genome", leave_out=coco_pictures(["nothing"]))
    options = {"--images": None, "--leave-out": None}
    captions.prepare(str(write_captions(folder / "files")), folder / "captions", AS_USUAL, options)
    return folder


@pytest.mark.parametrize("length", [40, 7])
def test_the_texts_shown_are_those_of_the_collator(data, tmp_path, length):
    look = opened(RECIPE, [*SMALL, f"model.max_text_length={length}"], data / "genome")
    rows, page = written(look, tmp_path / "page.html", count=1000)
    assert len(page.shown) == 2 * len(rows) == 2 * len(look.questions)
    found = re.findall(r"<sub>(.*?)</sub>", page.content)
    tokenizer, hidden = look.feed.processor.tokenizer, []
    for place, row in enumerate(rows.tolist()):
        inputs = look.collator()(np.array([row]))["inputs"]
        for shown, name in zip(
            page.shown[2 * place :], ("mlm_input_ids", "input_ids"), strict=False
        ):
            kept = [number for number, _, css in shown if css != "cut"]
            assert kept == inputs[name][0].tolist()
        words = [word for word in inputs["mlm_words"][0].tolist() if word != IGNORED]
        masked = [k for k, (_, _, css) in enumerate(page.shown[2 * place]) if css == "masked"]
        assert masked == inputs["mlm_positions"][0].tolist()[: len(words)]
        hidden += tokenizer.convert_ids_to_tokens(words)
    assert [f"▁{word}" for word in found] == [w if w[0] == "▁" else f"▁{w}" for w in hidden]
    cut = sum(css == "cut" for text in page.shown for _, _, css in text)
    assert (cut > 0) == (length == 7)


def test_the_patches_and_pictures_shown_are_those_of_the_collator(data, tmp_path):
    look = opened(RECIPE, SMALL, data / "genome")
    rows, page = written(look, tmp_path / "page.html", count=24)
    patch = look.processor.patch_size
    columns = 96 // patch
    paths, pictures, strange = [], [], 0
    for row in rows.tolist():
        inputs = look.collator()(np.array([row]))["inputs"]
        if inputs["pbc_patches"][0, 0] != IGNORED:
            paths.append(mask_path((inputs["pbc_patches"][0] == 1).numpy(), columns, patch))
        paths.append(mask_path(inputs["mpc_patches"][0].numpy(), columns, patch))
        strange += bool(inputs["itm_images"][0] != inputs["image_index"][0])
        pictures.append((inputs, look.questions[row]))
    assert page.paths == paths
    captions_shown = re.findall(r"<figcaption>(.*?)</figcaption>", page.content)
    assert captions_shown.count("ITM: a stranger&#39;s picture") == strange > 5
    assert captions_shown.count("ITM: its own picture") == len(rows) - strange > 5
    every = re.findall(
        r'<img class="tiny" .*? src="data:image/webp;base64,(.*?)" alt="augmented', page.content
    )
    drawn = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in every]
    assert len(drawn) == 5 * len(rows)  # ITM's, MPC's, and MPC's of three epochs
    mean = np.round(255 * np.array(look.processor.image_processor.image_mean))
    for (inputs, pair), itm, mpc in zip(pictures, drawn[::5], drawn[1::5], strict=True):
        own = inputs["pixel_values"][inputs["image_index"][0]]
        seen = inputs["pixel_values"][inputs["itm_images"][0]]
        plain = np.asarray(denormalised(own, look.processor.image_processor))
        assert (itm == np.asarray(denormalised(seen, look.processor.image_processor))).all()
        x, y, _, _ = map(int, pair["object_boxes"][0])
        mask = (
            np.kron(inputs["mpc_patches"][0].numpy().reshape(columns, -1), np.ones((patch, patch)))
            > 0
        )
        assert (mpc[mask] == mean).all() and (mpc[~mask] == plain[~mask]).all()
        assert len(pair["object_boxes"]) > 1 or mask[2 * y + 2, 2 * x + 2]  # 48 pixels become 96


def test_an_epoch_paints_its_own_objects(data):
    look = opened(RECIPE, SMALL, data / "genome")
    row = next(k for k, pair in enumerate(look.questions) if len(pair["object_boxes"]) == 2)
    inputs = look.collator()(np.array([row]))["inputs"]
    labels, collators = look.data.labels, views_of(look)
    shown = look_pairs.views(row, inputs, collators, look.processor, labels, 96)
    epochs = [collate(np.array([row]))["inputs"]["mpc_labels"][0] for collate in collators]
    assert [caption for caption, _ in shown[2:]] == [
        f"MPC in epoch {epoch}: {labels[int(label)]}" for epoch, label in enumerate(epochs)
    ]


@pytest.mark.parametrize("candidates", [3, 1])
def test_the_strangers_are_those_of_the_first_micro_batch_of_training(data, candidates):
    mix = f"data.mix=[{{root: {data / 'captions'}, weight: 50}}]"
    look = opened(RECIPE, [*SMALL, mix, f"model.itm_candidates={candidates}"], data / "genome")
    _, _, batches = next(look.feed.load_steps(accumulation=2, stage_steps=0))
    inputs, ids = batches[0]["inputs"], look.feed.questions["pair_id"][:]
    assert (
        look.feed.questions[look_pretraining.first_rows(look.feed).tolist()]["pair_id"]
        == batches[0]["ids"]
    )
    texts = [look.feed.questions[ids.index(i)]["caption"] for i in batches[0]["ids"]]
    strange = (inputs["itm_images"] != inputs["image_index"]).nonzero().flatten().tolist()
    found = look_pretraining.strangers(look.feed)
    assert sorted(one.text for one in found) == sorted(texts[k] for k in strange)
    hard = inputs.get("itm_hard_texts", inputs["itm_images"][:0]).tolist()
    assert sum(len(one.seen) > 1 for one in found) == len(hard)
    assert (candidates > 1) == (len(hard) > 0)
    without = replace(
        look.feed, input_settings={**look.feed.input_settings, "objectives": {"mlm": 1}}
    )
    assert look_pretraining.strangers(without) == []


def test_the_summary_counts_what_mpc_and_pbc_are_asked_about(data):
    look = opened(RECIPE, SMALL, data / "genome")
    pbc, mpc = look_pretraining.facts(look.data, "train", look.questions, look.feed)
    phrases = sum(box is not None for box in look.questions["box"])
    total = len(look.questions)
    assert pbc.value == f"{phrases} of {total} pairs have a phrase with a box" and not pbc.lost
    assert mpc.value == f"{total} of {total} pairs have objects" and not mpc.lost
    mix = f"data.mix=[{{root: {data / 'genome'}, weight: 2}}, {{root: {data / 'captions'}, weight: 0.5}}]"
    look = opened(RECIPE, [*SMALL, mix], data / "genome")
    (*_, mixed) = look_pretraining.facts(look.data, "train", look.questions, look.feed)
    assert mixed.value == f"{data / 'genome'} (weight 2), {data / 'captions'} (weight 0.5)"


def test_the_summary_says_what_a_crop_hides(data):
    """Of a picture of twice its height the crop sees the middle: boxes at its sides are hidden."""
    genome = open_prepared(data / "genome")
    look = opened(RECIPE, [*SMALL, "model.resize=crop"], data / "genome")
    wide = genome.images.map(lambda row: {"width": 2 * row["width"]})
    changed = replace(genome, images=wide)
    hidden, measured = look_pretraining.out_of_view(changed, look.questions, look.processor)
    # the crop sees columns 24 to 72, and every figure is 18 wide
    boxes = [box for box in look.questions["box"] if box is not None]
    assert measured["pbc"] == len(boxes)
    assert hidden["pbc"] == sum(box[2] <= 24 for box in boxes) > 0
    (pbc, _) = look_pretraining.facts(changed, "train", look.questions, look.feed)
    assert pbc.lost and f"% of {len(boxes)} measured have none in view" in pbc.value


def test_captions_and_data_without_a_recipe(data, tmp_path):
    look = open_look(open_prepared(data / "captions"), None, None)
    _, page = written(look, tmp_path / "captions.html")
    assert look.questions[0]["caption"] in page.content and not page.shown
    alone = ["data.source=captions", "model.objectives.mpc=0", "model.objectives.pbc=0"]
    look = opened(RECIPE, [*SMALL, *alone], data / "captions")
    _, page = written(look, tmp_path / "read.html")
    assert page.shown and not page.paths and "MPC in epoch" not in page.content
    rows = page.tables["Their micro-batches"]
    assert rows[0][1].strip() == "pairs"
    steps = islice(look.feed.load_steps(accumulation=2, stage_steps=0), 3)
    sizes = [str(len(batch["ids"])) for _, _, step in steps for batch in step if batch["ids"]]
    assert [row[1].strip() for row in rows[1:]] == sizes


def test_names_of_boxes_at_one_place_stand_below_each_other():
    boxes = [[0, 0, 20, 20], [1, 1, 21, 21], [60, 1, 80, 20]]
    stored = {"boxes": boxes, "file_name": "a.png"}
    drawn = scene(Image.new("RGB", (100, 100)), stored, ["phrase", "dog", "cat"], [0, 1, 2])
    first, second, third = (box.name_y for box in drawn.boxes)
    assert second - first >= drawn.font_size and third - first < drawn.font_size
