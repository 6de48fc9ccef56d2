"""What a batch of pairs holds: masked words, strangers, painted objects and phrases, each drawn by itself."""

import numpy as np
import pytest
import torch

from tests.miniature.pairs import FIGURE, SIDE, scene, write_visual_genome
from vle_bench.data.augment import Draws
from vle_bench.data.boxes import patch_mask
from vle_bench.data.masking import mask_whole_words, mask_words
from vle_bench.data.pairs import OBJECTIVES, PairCollator
from vle_bench.data.prepare.leave_out import coco_pictures
from vle_bench.data.prepare.visual_genome import prepare_visual_genome
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.models.vle.processing import VLEProcessor

PATCH, IMAGE = 8, 32  # four by four patches


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    official = write_visual_genome(folder / "vg", 40)
    prepare_visual_genome(official, folder / "data", leave_out=coco_pictures(["nothing"]))
    return open_prepared(folder / "data")


@pytest.fixture(scope="module")
def tokenizer(data):
    return train_tokenizer(data.questions("train")["caption"], 60)


def collator(data, tokenizer, objectives=OBJECTIVES, epoch=0, resize="squash", **more):
    options = {"max_text_length": 20, "candidates": 3, "draws": Draws(0, epoch), **more}
    return PairCollator(
        data.questions("train"),
        data.images,
        VLEProcessor.from_parts(tokenizer, IMAGE, PATCH, resize),
        objectives,
        words=np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids),
        **options,
    )


def rows(data, count=24):
    """Pairs of phrases and captions in some order: their rows, and what they hold."""
    pairs = data.questions("train").to_list()
    indices = np.random.default_rng(0).permutation(len(pairs))[:count]
    return indices, [pairs[i] for i in indices]


def test_plain_texts_and_pictures(data, tokenizer):
    indices, pairs = rows(data)
    batch = collator(data, tokenizer)(indices)
    inputs = batch["inputs"]
    assert batch["ids"] == [row["pair_id"] for row in pairs]
    texts = tokenizer.batch_decode(inputs["input_ids"], skip_special_tokens=True)
    assert texts == [row["caption"] for row in pairs]
    order = sorted({row["image_row"] for row in pairs})
    assert inputs["image_index"].tolist() == [order.index(row["image_row"]) for row in pairs]
    assert inputs["pixel_values"].shape == (len(order), 3, IMAGE, IMAGE)


def test_masked_words_are_whole_and_hold_what_stood_there(data, tokenizer):
    indices, _ = rows(data, 60)
    inputs = collator(data, tokenizer, ("mlm",))(indices)["inputs"]
    masked, changed = 0, inputs["mlm_input_ids"] != inputs["input_ids"]
    for text, (positions, words) in enumerate(
        zip(inputs["mlm_positions"].tolist(), inputs["mlm_words"].tolist(), strict=True)
    ):
        places = [p for p, word in zip(positions, words, strict=True) if word != -100]
        assert places, "one word at least"
        assert [int(inputs["input_ids"][text, p]) for p in places] == [
            w for w in words if w != -100
        ]
        assert set(changed[text].nonzero().flatten().tolist()) <= set(places)
        masked += len(places)
    real = int(inputs["attention_mask"].sum()) - 2 * len(inputs["input_ids"])
    assert 0.15 < masked / real < 0.45  # short texts: one at least
    assert (inputs["mlm_input_ids"] == tokenizer.mask_token_id).sum() > 0.5 * masked


def test_a_word_of_several_tokens_is_masked_as_one():
    tokenizer = train_tokenizer(["the cat sat"], 30)
    encoded = tokenizer("the zebra sat on the mat")  # unknown words are spelt
    words, ids = encoded.word_ids(), encoded["input_ids"]
    assert len(set(words) - {None}) < len(words) - 3
    seen = set()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        _, positions = mask_whole_words(ids, words, tokenizer, np.array([5, 6]), rng)
        chosen = {words[p] for p in positions}
        assert None not in chosen
        assert set(positions) == {p for p, word in enumerate(words) if word in chosen}
        seen |= chosen
    assert seen == set(words) - {None}


def test_shares_of_masked_words():
    """15 % of the words; of their tokens 80 % are hidden and 10 % replaced."""
    tokenizer = train_tokenizer(["a b c d e f g h i j"], 40)
    encoded = tokenizer(" ".join("abcdefghij" * 300), max_length=10_000)
    ids, words = encoded["input_ids"], encoded.word_ids()
    choices = np.arange(5, 10)
    new, positions = mask_whole_words(ids, words, tokenizer, choices, np.random.default_rng(0))
    assert len(positions) / 3000 == pytest.approx(0.15, abs=0.02)
    after, before = np.array(new)[positions], np.array(ids)[positions]
    assert (after == tokenizer.mask_token_id).mean() == pytest.approx(0.8, abs=0.06)
    other = (after != before) & (after != tokenizer.mask_token_id)
    assert other.mean() == pytest.approx(0.1 * 0.8, abs=0.04)  # one in five is the word itself


def test_the_second_stage_masks_as_before():
    """The draws of `mask_words` are those of earlier versions."""
    tokenizer = train_tokenizer(["a b c d e f g h"], 40)
    ids = tokenizer("a b c d e f g h a b c d")["input_ids"]
    rng, old = np.random.default_rng(5), np.random.default_rng(5)
    new, positions = mask_words(ids, tokenizer, np.arange(5, 9), rng)
    places = np.arange(1, len(ids) - 1)
    chosen = places[old.random(len(places)) < 0.15]
    assert chosen.tolist() == positions.tolist() and len(chosen)
    kind = old.random(len(chosen))
    expected = np.array(ids)
    expected[chosen[kind < 0.8]] = tokenizer.mask_token_id
    replaced = chosen[(kind >= 0.8) & (kind < 0.9)]
    expected[replaced] = old.choice(np.arange(5, 9), len(replaced))
    assert new == expected.tolist()


def test_strangers_of_the_batch(data, tokenizer):
    """Half of the texts see another picture, one that has not the same text.

    Half of these are hard if the text is a caption; phrases of boxes are true of too many pictures.
    """
    strange = strange_captions = hard = 0
    for epoch in range(8):
        indices, pairs = rows(data, 48)
        inputs = collator(data, tokenizer, ("itm",), epoch)(indices)["inputs"]
        own, seen = inputs["image_index"].numpy(), inputs["itm_images"].numpy()
        captions = np.array([row["caption"] for row in pairs], object)
        same = {text: {own[i] for i in np.flatnonzero(captions == text)} for text in set(captions)}
        of_picture = np.array([row["box"] is None for row in pairs])
        assert of_picture.any() and not of_picture.all()
        strange += (own != seen).sum()
        strange_captions += ((own != seen) & of_picture).sum()
        for text in np.flatnonzero(own != seen):
            assert seen[text] not in same[captions[text]]
        if "itm_hard_texts" not in inputs:
            continue
        texts, candidates = inputs["itm_hard_texts"].numpy(), inputs["itm_candidates"].numpy()
        hard += len(texts)
        assert of_picture[texts].all()
        assert (own[texts] != seen[texts]).all() and candidates.shape == (len(texts), 3)
        for text, choices in zip(texts, candidates, strict=True):
            assert not set(choices.tolist()) & same[captions[text]]
            assert choices[0] == seen[text] and len(set(choices)) == 3
    assert strange / (8 * 48) == pytest.approx(0.5, abs=0.1)
    assert hard / strange_captions == pytest.approx(0.5, abs=0.15)


def test_no_candidates_no_hard_strangers(data, tokenizer):
    indices, _ = rows(data)
    inputs = collator(data, tokenizer, ("itm",), candidates=1)(indices)["inputs"]
    assert "itm_hard_texts" not in inputs


def test_a_batch_of_one_picture_has_no_strangers(data, tokenizer):
    pairs = data.questions("train").to_list()
    indices = np.array([i for i, row in enumerate(pairs) if row["image_row"] == 0])
    inputs = collator(data, tokenizer, ("itm",))(indices)["inputs"]
    assert inputs["itm_images"].tolist() == inputs["image_index"].tolist()


def test_strangers_of_a_split_depend_on_no_batch(data, tokenizer):
    """In an evaluation: the same picture whatever the batch, and any picture of the split."""
    images = np.unique(np.asarray(data.questions("train")["image_row"]))
    make = collator(data, tokenizer, ("itm",), image_rows=images)
    indices, pairs = rows(data, 48)
    whole = seen_rows(make(indices)["inputs"], make, indices)
    parts = [seen_rows(make(part)["inputs"], make, part) for part in np.array_split(indices, 7)]
    assert whole == [row for part in parts for row in part]
    own = [row["image_row"] for row in pairs]
    strange = [a for a, b in zip(whole, own, strict=True) if a != b]
    assert len(strange) / len(own) == pytest.approx(0.5, abs=0.2) and set(strange) <= set(images)


def seen_rows(inputs, make, indices):
    """The rows of the pictures that texts see in ITM, found by their pixels."""
    pixels = {
        inputs["pixel_values"][i].numpy().tobytes(): i for i in range(len(inputs["pixel_values"]))
    }
    assert len(pixels) == len(inputs["pixel_values"])
    shown = []
    for place in inputs["itm_images"].tolist():
        wanted = inputs["pixel_values"][place]
        for row in make.image_rows.tolist():
            own = make.processor(images=make.pictures(np.array([row])))["pixel_values"][0]
            if torch.equal(own, wanted):
                shown.append(row)
                break
    return shown


def test_a_painted_object_is_one_of_the_text(data, tokenizer):
    indices, pairs = rows(data)
    inputs = collator(data, tokenizer, ("mpc",))(indices)["inputs"]
    assert inputs["mpc_texts"].tolist() == list(range(24))  # all have objects
    drawn = set()
    for text, patches, label in zip(
        inputs["mpc_texts"].tolist(),
        inputs["mpc_patches"].numpy(),
        inputs["mpc_labels"].tolist(),
        strict=True,
    ):
        row = pairs[text]
        possible = [
            (patch_mask([box], SIDE, SIDE, 4, 4)[0].tolist(), own)
            for box, own in zip(row["object_boxes"], row["object_classes"], strict=True)
        ]
        assert (patches.tolist(), label) in possible
        drawn.add(possible.index((patches.tolist(), label)))
    assert drawn == {0, 1}


def test_phrases_are_the_patches_of_their_boxes(data, tokenizer):
    indices, pairs = rows(data)
    inputs = collator(data, tokenizer, ("pbc",))(indices)["inputs"]
    phrases = [i for i, row in enumerate(pairs) if row["box"] is not None]
    assert inputs["pbc_texts"].tolist() == phrases and 0 < len(phrases) < 24
    for text, patches in zip(phrases, inputs["pbc_patches"], strict=True):
        expected = patch_mask([pairs[text]["box"]], SIDE, SIDE, 4, 4)[0]
        assert patches.tolist() == expected.astype(int).tolist()


def test_what_a_crop_cuts_off_is_neither_painted_nor_pointed_at(tokenizer):
    """Of a picture of 96 × 48 pixels a crop shows the middle."""

    class Table:
        def __init__(self, columns):
            self.columns = columns

        def __getitem__(self, chosen):
            if isinstance(chosen, list):
                return {k: [v[i] for i in chosen] for k, v in self.columns.items()}
            return {k: v[chosen] for k, v in self.columns.items()}

        def select_columns(self, names):
            return Table({k: self.columns[k] for k in names})

    import io

    from PIL import Image

    content = io.BytesIO()
    Image.new("RGB", (96, 48), (9, 9, 9)).save(content, "PNG")
    images = Table(
        {"bytes": [content.getvalue()], "file_name": ["x"], "width": [96], "height": [48]}
    )
    left, middle = [0, 0, 20, 20], [40, 10, 60, 30]
    pairs = Table(
        {
            "pair_id": [0, 1],
            "image_row": [0, 0],
            "caption": ["a disc", "a square"],
            "box": [left, middle],
            "object_boxes": [[left], [left, middle]],
            "object_classes": [[0], [0, 1]],
        }
    )
    make = PairCollator(
        pairs,
        images,
        VLEProcessor.from_parts(tokenizer, IMAGE, PATCH, "crop"),
        ("mpc", "pbc"),
        20,
        1,
        Draws(0, 0),
        np.arange(5, 9),
    )
    inputs = make(np.array([0, 1]))["inputs"]
    assert inputs["mpc_texts"].tolist() == [1] and inputs["mpc_labels"].tolist() == [1]
    assert inputs["pbc_texts"].tolist() == [1]
    moved = [[16, 10, 36, 30]]  # by the 24 pixels that are cut off at the left
    expected = patch_mask(moved, 48, 48, 4, 4)[0].astype(int).tolist()
    assert inputs["pbc_patches"].tolist() == [expected]
    inputs = make(np.array([0]))["inputs"]  # stand-ins
    assert inputs["mpc_labels"].tolist() == [-100] and inputs["mpc_patches"].sum() == 1
    assert (inputs["pbc_patches"] == -100).all()


def test_draws_depend_on_seed_epoch_and_pair_alone(data, tokenizer):
    """Neither the other pairs of a batch, nor their order, nor the other objectives change them."""
    indices, _ = rows(data, 12)
    whole = collator(data, tokenizer)(indices)["inputs"]
    for names, part in ((OBJECTIVES, indices[::-1]), (("mlm",), indices), (("mpc",), indices)):
        inputs = collator(data, tokenizer, names)(part)["inputs"]
        place = {int(i): n for n, i in enumerate(part)}
        for text, row in enumerate(indices.tolist()):
            for key in ("mlm_input_ids", "mpc_patches"):
                if key in inputs:
                    assert inputs[key][place[row]].tolist() == whole[key][text].tolist()
    other = collator(data, tokenizer, epoch=1)(indices)["inputs"]
    assert other["mlm_input_ids"].tolist() != whole["mlm_input_ids"].tolist()
    assert other["mpc_patches"].tolist() != whole["mpc_patches"].tolist()


def test_the_scenes_have_their_boxes():
    """The miniature itself: a box is filled with its colour."""
    picture, figures = scene(3)
    x, y, w, h = figures[0]["box"]
    assert w == h == FIGURE
    assert picture.getpixel((x + w // 2, y + h // 2)) != (240, 240, 240)
