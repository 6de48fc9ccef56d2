"""The second stage of pre-training on VCR: what is masked, what stands beside what, the loss, the scores, and what follows it."""

import hashlib
import io
import json
import logging
from contextlib import nullcontext
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from PIL import Image

from vle_bench.data.augment import Draws
from vle_bench.data.masking import mask_words, pad_masked
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tables import record_batches, write_table
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.data.vcr_text import encode_record
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.evaluate import predict_checkpoint
from vle_bench.evaluation.request import Request
from vle_bench.models import (
    VLEConfig,
    VLEForITM,
    VLEForMLM,
    VLEForVCRJoint,
    VLEForVCRSecondStage,
    VLEModel,
    pretrained,
)
from vle_bench.models.vle.pretraining_heads import chooses_right
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Inference, Reading
from vle_bench.tasks.predictions import Prediction
from vle_bench.tasks.vcr import texts_of
from vle_bench.training.run import build
from vle_bench.training.train import optimizer_step, train

TASK = load_task("vcr_second_stage")
INPUTS = {"max_text_length": 80, "objects": "tagged", "alignment": True, "most_objects": 14}
OBJECTS = ["person", "dog", "person", "cup"]
IMAGES = pa.schema(
    [
        ("image_id", pa.int64()),
        ("file_name", pa.string()),
        ("bytes", pa.binary()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("boxes", pa.list_(pa.list_(pa.float64()))),
        ("class_names", pa.list_(pa.string())),
    ]
)
QUESTIONS = pa.schema(
    [
        ("annot_id", pa.string()),
        ("image_id", pa.int64()),
        ("image_row", pa.int64()),
        ("record", pa.string()),
        ("answer_label", pa.int64()),
        ("rationale_label", pa.int64()),
        ("answer_likelihood", pa.string()),
    ]
)
SPLITS = {
    "train": [0, 1, 2, 3, 4, 0, 2, 4],
    "val": [5, 6, 5, 7],
    "one": [8, 8],
}  # the image row of each question


def record(split, number):
    question = (
        ["What", "is", "it", "?"],
        ["Is", [1], "near", [0, 2], "?"],
        ["Why", "does", [2], "run", "?"],
    )[number % 3]
    return {
        "annot_id": f"{split}-{number}",
        "objects": OBJECTS,
        "question": question,
        "answer_choices": [["Yes", [i], "is", "there", "."] for i in range(4)],
        "rationale_choices": [
            ["because", [i], "is", "there", "and", "red"][: 3 + i] for i in range(4)
        ],
        "answer_label": number % 4,
        "rationale_label": (number + 1) % 4,
    }


def boxes(row):
    """Of the four objects of an image of 40×30; no two images have the same."""
    return [[4.0 * row, 3.0 * i, 4.0 * row + 6, 3.0 * i + 12] for i in range(4)]


def png(shade):
    content = io.BytesIO()
    image = Image.new("RGB", (40, 30), (shade, 255 - shade, 60))
    image.paste((250, 0, 0), (0, 0, 8, 30))  # so that left and right differ
    image.save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    images = [
        {
            "image_id": 700 + i,
            "file_name": f"m/{i}@1.png",
            "bytes": png(28 * i),
            "width": 40,
            "height": 30,
            "boxes": boxes(i),
            "class_names": OBJECTS,
        }
        for i in range(9)
    ]
    tables = {"images.arrow": (IMAGES, images)}
    for split, rows in SPLITS.items():
        records = [record(split, i) for i in range(len(rows))]
        tables[f"questions-{split}.arrow"] = (
            QUESTIONS,
            [
                {
                    **r,
                    "image_id": 700 + row,
                    "image_row": row,
                    "record": json.dumps(r),
                    "answer_likelihood": "likely",
                }
                for r, row in zip(records, rows, strict=True)
            ],
        )
    files = {}
    for name, (schema, rows) in tables.items():
        named = [{key: row[key] for key in schema.names} for row in rows]
        write_table(folder / name, schema, record_batches(iter(named), schema))
        content = (folder / name).read_bytes()
        files[name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest = {
        "schema_version": 2,
        "source": "vcr",
        "splits": {name: {"labelled": True} for name in SPLITS},
        "files": files,
        "images": ["images.arrow"],
        "hash": "0",
    }
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def data(root):
    return open_prepared(root)


@pytest.fixture(scope="module")
def processor(data):
    texts = [
        text for row in data.questions("train")["record"] for text in texts_of(json.loads(row))
    ]
    return VLEProcessor.from_parts(train_tokenizer(texts, 128), 64, 16)


def tiny(architecture, processor, num_token_types=16):
    torch.manual_seed(0)
    config = load_recipe("demo/vqa-tiny", []).model.config
    config["text_config"] = {**config["text_config"], "vocab_size": len(processor.tokenizer)}
    config["vision_config"] = {**config["vision_config"], "image_size": 64}
    return architecture(VLEConfig(**{**config, "num_token_types": num_token_types})).eval()


def draws(seed=0, epoch=0):
    return Draws(seed, epoch)


def batch_of(data, processor, indices, augment=None, split="train", **inputs):
    reading = Reading(data.questions(split), data.images, processor, {**INPUTS, **inputs})
    collate = TASK.collator(reading, augment)
    return collate(np.array(indices))


def of_question(inputs, b):
    """What one question's model inputs are, whatever batch it is in."""
    length, masked = (
        int(inputs["attention_mask"][b, 1].sum()),
        int((inputs["masked_words"][b] != -100).sum()),
    )
    return {
        "ids": inputs["input_ids"][b, :, :length].tolist(),
        "at": inputs["masked_positions"][b, :masked].tolist(),
        "words": inputs["masked_words"][b, :masked].tolist(),
        "match": int(inputs["matches"][b]),
        "seen": [inputs["pixel_values"][i].sum().item() for i in inputs["image_index"][b]],
    }


def test_a_batch_holds_the_true_text_masked_and_whole(data, processor):
    batch = batch_of(data, processor, range(8), draws(3))
    inputs = batch["inputs"]
    assert batch["ids"] == [f"train-{i}" for i in range(8)]
    assert 0 < inputs["matches"].sum() < 8
    for b in range(8):
        truth = encode_record(record("train", b), processor.tokenizer, "qa2r")[(b + 1) % 4]
        length, count = len(truth["input_ids"]), len(truth["objects"])
        masked, whole = inputs["input_ids"][b, :, :length]
        assert (
            whole.tolist() == truth["input_ids"]
            and inputs["attention_mask"][b].sum(1).tolist() == [length] * 2
        )
        for text in range(2):
            assert inputs["token_type_ids"][b, text, :length].tolist() == truth["token_type_ids"]
            assert (
                inputs["object_token_type_ids"][b, text, :count].tolist()
                == truth["object_token_type_ids"]
            )
        found = of_question(inputs, b)
        assert found["at"] and found["words"] == whole[found["at"]].tolist()
        elsewhere = np.setdiff1d(np.arange(length), found["at"])
        assert torch.equal(masked[elsewhere], whole[elsewhere])
        own, seen = inputs["image_index"][b].tolist()
        assert (own == seen) == bool(inputs["matches"][b])
        # the own picture's boxes lie over the other one too
        own_boxes = processor(
            images=[Image.new("RGB", (40, 30))], boxes=[boxes(SPLITS["train"][b])]
        )["object_patch_mask"][0]
        for text in range(2):
            assert torch.equal(
                inputs["object_patch_mask"][b, text, :count], own_boxes[truth["objects"]]
            )
    distinct = np.unique(inputs["image_index"].numpy())
    assert inputs["pixel_values"].shape == (len(distinct), 3, 64, 64)  # each picture once, for both


def test_no_alignment_takes_types_and_objects_away(data, processor):
    inputs = batch_of(data, processor, [1, 2], alignment=False)["inputs"]
    assert not inputs["token_type_ids"].any() and inputs["object_patch_mask"].shape[2] == 0


def test_masking_is_15_percent_of_words_and_80_10_10_of_those(processor):
    tokenizer, rng = processor.tokenizer, np.random.default_rng(5)
    words = np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids)
    text = [tokenizer.cls_token_id, *([int(words[3])] * 400 + [tokenizer.sep_token_id]) * 100]
    masked, positions = mask_words(text, tokenizer, words, rng)
    before, after = np.array(text), np.array(masked)
    assert set(before[positions]) == {words[3]} and np.flatnonzero(before != after).tolist() == [
        p for p in positions if before[p] != after[p]
    ]
    assert abs(len(positions) / 40_000 - 0.15) < 0.006
    hidden, same = (
        (after[positions] == tokenizer.mask_token_id).mean(),
        (after[positions] == words[3]).mean(),
    )
    assert (
        abs(hidden - 0.8) < 0.02
        and abs(same - 0.1) < 0.02
        and set(after) - {tokenizer.mask_token_id} <= set(words) | set(text)
    )
    assert len(set(after[positions])) > len(words) / 2  # the rest is any word
    for _ in range(50):  # a short text has one masked at least, and never its marks
        short = [tokenizer.cls_token_id, 9, tokenizer.sep_token_id]
        assert mask_words(short, tokenizer, words, rng)[1].tolist() == [1]
    assert (
        mask_words([tokenizer.cls_token_id, tokenizer.sep_token_id], tokenizer, words, rng)[
            1
        ].tolist()
        == []
    )


def test_a_text_with_nothing_to_mask_counts_its_match_only(processor):
    model = tiny(VLEForVCRSecondStage, processor)
    tokenizer = processor.tokenizer
    texts = torch.tensor([[[tokenizer.cls_token_id, tokenizer.sep_token_id]] * 2])
    nothing = pad_masked([(np.array([], np.int64), np.array([], np.int64))])
    output = model(
        input_ids=texts,
        attention_mask=torch.ones_like(texts),
        pixel_values=torch.zeros(1, 3, 64, 64),
        image_index=torch.zeros(1, 2, dtype=torch.long),
        matches=torch.ones(1, dtype=torch.long),
        **{name: torch.from_numpy(value) for name, value in nothing.items()},
    )
    assert output.logits.shape == (1, 1) and output.loss.isfinite()
    (row,) = TASK.predictions(output.logits, ["x"], [])
    assert (row["mlm_masked"], row["mlm_right"]) == (0, 0)


def test_draws_are_a_function_of_seed_epoch_and_id_whatever_the_batch(data, processor):
    together = batch_of(data, processor, range(8), draws(1, 2))["inputs"]
    each = [of_question(together, b) for b in range(8)]
    for b in range(8):
        alone = batch_of(data, processor, [b], draws(1, 2))["inputs"]
        assert of_question(alone, 0) == each[b]
    for other in (draws(1, 3), draws(2, 2)):
        inputs = batch_of(data, processor, range(8), other)["inputs"]
        assert [of_question(inputs, b) for b in range(8)] != each
    # an evaluation is seed 0, epoch 0, and its task gives draws to training even where nothing is augmented
    evaluated, zero = (
        batch_of(data, processor, range(4), a, "val")["inputs"] for a in (None, draws())
    )
    assert all(torch.equal(evaluated[name], zero[name]) for name in zero)
    assert TASK.augmentation({}, 1, 2) == draws(1, 2)


def test_half_of_the_pairs_do_not_match_and_any_other_picture_may_stand_there(data, processor):
    reading = Reading(data.questions("train"), data.images, processor, INPUTS)
    collate = [TASK.collator(reading, draws(0, e)) for e in range(100)]
    matches = sum(int(c(np.arange(8))["inputs"]["matches"].sum()) for c in collate[:50])
    assert 160 < matches < 240  # of 400
    rng = np.random.default_rng(0)
    others = [collate[0].another(2, rng) for _ in range(4000)]
    assert all(900 < others.count(row) < 1100 for row in (0, 1, 3, 4)) and set(others) == {
        0,
        1,
        3,
        4,
    }


def gradients(model):
    found = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def test_one_vision_pass_gives_the_losses_and_gradients_of_two_models(data, processor):
    model = tiny(VLEForVCRSecondStage, processor)
    inputs = batch_of(data, processor, range(8), draws(3))["inputs"]
    model.mlm_score[1].predictions.bias.data[inputs["masked_words"][0, 0]] = (
        9  # so that it finds a word
    )
    passes = []
    hook = model.vle.vision_model.register_forward_hook(
        lambda module, given, output: passes.append(len(output[0]))
    )
    ours = model(**inputs)
    hook.remove()
    assert passes == [len(np.unique(inputs["image_index"].numpy()))]
    ours.loss.backward()
    found = gradients(model)
    # each head by itself, a question at a time, its picture encoded for it alone
    parts = {"mlm": VLEForMLM, "itm": VLEForITM}
    alone = {name: tiny(architecture, processor) for name, architecture in parts.items()}
    expected, loss, rows = {}, 0, []
    for one in alone.values():
        one.load_state_dict(
            {key: value for key, value in model.state_dict().items() if key in one.state_dict()}
        )
    for b in range(8):
        length = int(inputs["attention_mask"][b, 0].sum())
        words = ("input_ids", "attention_mask", "token_type_ids")
        objects = ("object_patch_mask", "object_token_type_ids", "object_mask")
        texts = [
            {
                **{k: inputs[k][b, t : t + 1, :length] for k in words},
                **{k: inputs[k][b, t : t + 1] for k in objects},
                "pixel_values": inputs["pixel_values"][inputs["image_index"][b, t]][None],
            }
            for t in range(2)
        ]
        labels, one = torch.full((1, length), -100), of_question(inputs, b)
        labels[0, one["at"]] = torch.tensor(one["words"])
        spoken = alone["mlm"](**texts[0], labels=labels)  # mean over the question's masked words
        matched = alone["itm"](**texts[1], labels=inputs["matches"][b : b + 1])
        ((spoken.loss + matched.loss) / 8).backward()
        loss += (spoken.loss + matched.loss).item() / 8
        right = spoken.logits[0, one["at"]].argmax(-1) == labels[0, one["at"]]
        rows.append(
            Prediction(
                b,
                {
                    "mlm_masked": len(one["at"]),
                    "mlm_right": int(right.sum()),
                    "itm_right": bool(matched.logits[0].argmax() == one["match"]),
                },
            )
        )
    assert ours.loss.item() == pytest.approx(loss, abs=1e-5)
    for one in alone.values():
        for key, value in gradients(one).items():
            expected[key] = expected.get(key, 0) + value
    assert found.keys() == expected.keys()
    for key, value in found.items():
        torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-4, msg=key)
    assert TASK.predictions(ours.logits, list(range(8)), []) == rows
    for key in ("mlm_right", "itm_right"):
        assert len({row[key] for row in rows}) > 1


def test_a_batch_of_eight_and_two_of_four_give_the_same_gradients(data, processor):
    """The loop weighs a micro-batch by its questions, so the loss must be a mean over questions, not over masked words."""
    model = tiny(VLEForVCRSecondStage, processor)
    whole = batch_of(data, processor, range(8), draws(3))["inputs"]
    assert len({int((words != -100).sum()) for words in whole["masked_words"]}) > 1
    model(**whole).loss.backward()
    expected = gradients(model)
    for half in (range(4), range(4, 8)):
        (model(**batch_of(data, processor, half, draws(3))["inputs"]).loss * 4 / 8).backward()
    for key, value in gradients(model).items():
        torch.testing.assert_close(value, expected[key], atol=1e-5, rtol=1e-4, msg=key)


def test_the_word_embeddings_are_tied_and_trained_as_the_encoder(processor):
    model = tiny(VLEForVCRSecondStage, processor)
    embeddings = model.vle.text_model.embeddings.word_embeddings.weight
    assert model.mlm_score[1].predictions.decoder.weight is embeddings
    assert not any(p is embeddings for p in model.head_parameters())
    heads = {
        name
        for name, _ in tiny(VLEForMLM, processor).state_dict().items()
        if name.startswith("mlm_score")
    }
    heads |= {
        name for name in tiny(VLEForITM, processor).state_dict() if name.startswith("itm_score")
    }
    assert {name for name in model.state_dict() if not name.startswith("vle.")} == heads


def test_inputs_that_do_not_fit_are_named(data, processor):
    model = tiny(VLEForVCRSecondStage, processor)
    inputs = batch_of(data, processor, [0, 1])["inputs"]
    for name, value, message in (
        (
            "image_index",
            inputs["image_index"][:, :1],
            r"image_index: expected the shape \(2, 2\)",
        ),
        ("input_ids", inputs["input_ids"][:, :1], r"input_ids: expected the shape \(2, 2, "),
        ("matches", torch.tensor([0, 2]), "matches: expected values of 0 to 1, got 2"),
        (
            "masked_words",
            torch.full_like(inputs["masked_words"], 5000),
            "masked_words: expected values of 0 to",
        ),
        ("masked_words", inputs["masked_words"][:, :0], "masked_words: expected the shape"),
    ):
        with pytest.raises(ValueError, match=message):
            model(**{**inputs, name: value})


@pytest.mark.parametrize("batch_size", [2, 5, 1000])
def test_the_score_does_not_depend_on_the_batch_size(data, processor, batch_size):
    model = tiny(VLEForVCRSecondStage, processor)

    def rows(size):
        cpu = Accelerator(cpu=True)
        return TASK.predict(Inference(model, data, "train", processor, [], INPUTS, cpu, size))

    found = rows(batch_size)
    assert [row.id for row in found] == [f"train-{i}" for i in range(8)] and found == rows(1)
    assert 0 < sum(row["itm_right"] for row in found) < 8
    assert all(0 < row["mlm_masked"] for row in found)


def test_predictions_count_what_is_right():
    logits = torch.tensor([[1.0, 0.0, 1.0, 1.0], [0.0, -1.0, -1.0, 0.0], [0.0, 0.0, -1.0, 0.0]])
    assert TASK.predictions(logits, ["a", "b", "c"], []) == [
        Prediction("a", {"mlm_masked": 3, "mlm_right": 2, "itm_right": True}),
        Prediction("b", {"mlm_masked": 1, "mlm_right": 0, "itm_right": False}),
        Prediction("c", {"mlm_masked": 2, "mlm_right": 0, "itm_right": False}),
    ]


def test_a_tie_goes_to_the_first_class_and_a_broken_score_to_nobody(data, processor):
    scores = torch.tensor(
        [[2.0, 2.0, 1.0], [2.0, 2.0, 1.0], [2.0, float("nan"), 1.0], [float("inf"), 0.0, 0.0]]
    )
    assert chooses_right(scores, torch.tensor([0, 1, 0, 0])).tolist()[:2] == [1.0, 0.0]
    assert chooses_right(scores, torch.tensor([0, 1, 0, 0])).isnan().tolist() == [
        False,
        False,
        True,
        True,
    ]
    model = tiny(VLEForVCRSecondStage, processor)
    with torch.no_grad():
        model.itm_score.fc.weight.zero_()
        model.itm_score.fc.bias.zero_()
        batch = batch_of(data, processor, range(8))
        rows = TASK.predictions(model(**batch["inputs"]).logits, batch["ids"], [])
    matches = batch["inputs"]["matches"].tolist()
    assert [row["itm_right"] for row in rows] == [match == 0 for match in matches] and 0 < sum(
        matches
    ) < 8


def test_a_masked_word_with_a_broken_score_is_never_counted(data, processor):
    model = tiny(VLEForVCRSecondStage, processor)
    with torch.no_grad():
        model.mlm_score[1].predictions.bias[7] = float("nan")
    with pytest.raises(
        RunFailed,
        match="train: the logits of 8 of 8 examples are not finite .*: train-0, train-1, ",
    ):
        cpu = Accelerator(cpu=True)
        TASK.predict(Inference(model, data, "train", processor, [], INPUTS, cpu, batch_size=4))


def test_scores_are_over_masked_words_and_over_questions(data):
    questions = data.questions("val")  # images 5, 6, 5, 7
    rows = [
        Prediction(f"val-{i}", {"mlm_masked": m, "mlm_right": r, "itm_right": found})
        for i, (m, r, found) in enumerate([(4, 3, True), (1, 0, True), (2, 2, False), (3, 1, True)])
    ]
    scores = TASK.score(rows[::-1], questions)
    words, match = scores.metrics["mlm_accuracy"], scores.metrics["itm_accuracy"]
    assert (words["value"], words["n"], match["value"], match["n"], scores.n) == (
        0.6,
        10,
        0.75,
        4,
        4,
    )
    # of three images drawn with replacement the extremes are one of them three times
    assert words["interval"] == pytest.approx([0.0, 5 / 6]) and match["interval"] == pytest.approx(
        [0.5, 1.0]
    )
    assert scores.per_example == {"val-0": 0.75, "val-1": 0.0, "val-2": 1.0, "val-3": 1 / 3}
    for wrong in (rows[1:], [*rows, rows[0]]):
        with pytest.raises(
            RunFailed, match=f"{len(wrong)} predictions are not one for each of the 4"
        ):
            TASK.score(wrong, questions)


def test_a_split_of_one_picture_is_refused(data):
    TASK.check(data, "train", INPUTS)
    with pytest.raises(
        RequestError, match=r"one: has a single picture; vcr_second_stage needs another"
    ):
        TASK.check(data, "one", INPUTS)
    with pytest.raises(
        RequestError, match="train-1 tags 4 objects in one choice, and the model has types for 2"
    ):
        TASK.check(data, "train", {**INPUTS, "most_objects": 2})


TINY = [
    "data.train=train",
    "data.evaluate=val",
    "data.report=val",
    "model.image_size=64",
    "train.batch_size=4",
    "train.per_device_batch_size=2",
    "train.max_steps=2",
    "train.num_workers=0",
    "train.precision=fp32",
]


def test_fine_tuning_starts_from_the_second_stage(root, processor, tmp_path, caplog):
    published = tiny(
        VLEForMLM, processor, num_token_types=2
    ).vle  # as the general pre-training leaves it
    published.save_pretrained(tmp_path / "published")
    processor.save_pretrained(tmp_path / "published")
    stage, tuned = tmp_path / "stage", tmp_path / "tuned"
    recipe = load_recipe(
        "vcr/vle-base-second-stage",
        [*TINY, f"data.root={root}", f"model.checkpoint={tmp_path / 'published'}"],
    )
    record = train(recipe, stage)
    assert (
        set(record.metrics) == {"mlm_accuracy", "itm_accuracy"}
        and record.primary_metric == "mlm_accuracy"
        and record.n == 4
    )
    logged = [
        json.loads(line) for line in (stage / "log.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    assert all(np.isfinite(line["loss"]) for line in logged if "loss" in line)
    with pytest.raises(
        RequestError,
        match="vcr_second_stage: answers no question, so there is no file for a leaderboard; .*RUN",
    ):
        predict_checkpoint(
            Request(stage, root, "val"), tmp_path / "file.csv", accelerator=Accelerator(cpu=True)
        )
    assert not (tmp_path / "file.csv").exists()

    last = pretrained.load_model(stage / "last", "VLEForVCRSecondStage")
    assert last.config.num_token_types == 83
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        model = pretrained.load_model(
            pretrained.resolve(stage), "VLEForVCRQ2A", head_may_be_new=True, num_token_types=83
        )
    assert "6 weights new: vcr_q2a_logit." in caplog.text
    unused = caplog.text[caplog.text.index("left out:") :]
    assert (
        "itm_score.fc.weight" in unused and "mlm_score.0.weight" in unused and "vle." not in unused
    )
    best = pretrained.load_model(stage / "best", "VLEForVCRSecondStage")
    assert all(
        torch.equal(value, best.state_dict()[name])
        for name, value in model.state_dict().items()
        if "logit" not in name
    )

    settings = [*TINY, f"data.root={root}", f"model.checkpoint={stage}", "train.learning_rate=1e-9"]
    assert train(load_recipe("vcr/vle-base-q2a", settings), tuned).task == "vcr_q2a"
    after = pretrained.load_model(tuned / "last", "VLEForVCRQ2A")
    table = after.vle.token_type_embeddings.weight
    assert table.shape[0] == 83
    torch.testing.assert_close(table, best.vle.token_type_embeddings.weight, atol=1e-6, rtol=0)


def test_one_head_may_be_there_and_the_other_new(processor, tmp_path):
    tiny(VLEForITM, processor).save_pretrained(tmp_path / "itm")
    model, info = VLEForVCRSecondStage.from_pretrained(
        str(tmp_path / "itm"), output_loading_info=True
    )
    assert info["missing_keys"] and all(
        name.startswith("mlm_score.") for name in info["missing_keys"]
    )
    assert torch.equal(model.itm_score.fc.weight, tiny(VLEForITM, processor).itm_score.fc.weight)


@pytest.fixture
def published(processor, tmp_path):
    """A tiny encoder, as the general pre-training leaves it; and Accelerate as in a new process."""
    AcceleratorState._reset_state(reset_partial_state=True)
    tiny(VLEForMLM, processor, num_token_types=2).vle.save_pretrained(tmp_path / "published")
    processor.save_pretrained(tmp_path / "published")
    yield tmp_path / "published"
    AcceleratorState._reset_state(reset_partial_state=True)


def trajectory(root, published, name, *overrides):
    settings = [
        f"data.root={root}",
        f"model.checkpoint={published}",
        "train.batch_size=3",
        "train.max_steps=3",
        *overrides,
    ]
    run = build(load_recipe(name, [*TINY, *settings]), published.parent / "run")
    run.model.train()
    figures = []
    for _, count, micro_batches in islice(run.steps(), 3):
        assert (
            len(micro_batches) == run.accumulation
            and sum(len(batch["ids"]) for batch in micro_batches) == count
        )
        figures.append(optimizer_step(run, micro_batches, count))
    assert [len(batch["ids"]) for batch in micro_batches] == {1: [2], 3: [1, 1, 0]}[
        run.accumulation
    ]  # 8 questions by threes
    return torch.stack(figures)


RECIPES = ["vcr/vle-base-second-stage", "vcr/vle-base-joint"]


@pytest.mark.parametrize("name", RECIPES)
def test_a_micro_batch_that_stands_in_for_an_empty_one_weighs_nothing(root, published, name):
    whole = trajectory(root, published, name, "train.per_device_batch_size=3")
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.testing.assert_close(
        trajectory(root, published, name, "train.per_device_batch_size=1"), whole, rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("name", RECIPES)
def test_texts_padded_for_a_compiled_model_give_the_same_losses(root, published, name, monkeypatch):
    whole = trajectory(root, published, name, "train.per_device_batch_size=3")
    lengths = []
    monkeypatch.setattr(torch, "compile", lambda model, dynamic: model)
    plain = VLEModel.forward

    def forward(self, *arguments, **inputs):
        lengths.append(inputs["input_ids"].shape[-1])
        return plain(self, *arguments, **inputs)

    monkeypatch.setattr(VLEModel, "forward", forward)
    AcceleratorState._reset_state(reset_partial_state=True)
    padded = trajectory(
        root, published, name, "train.per_device_batch_size=3", "train.compile=true"
    )
    assert len(lengths) == 3 and all(length % 16 == 0 for length in lengths)
    torch.testing.assert_close(padded, whole, rtol=1e-5, atol=0)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [("vcr_second_stage", VLEForVCRSecondStage), ("vcr_joint", VLEForVCRJoint)],
)
def test_every_process_makes_as_many_passes_and_together_they_predict_each_question_once(
    data, processor, name, architecture
):
    model, passes = tiny(architecture, processor), []
    model.register_forward_hook(lambda *_: passes.append(1))

    def rows(rank, world):
        passes.clear()
        accelerator = SimpleNamespace(
            num_processes=world,
            process_index=rank,
            is_main_process=not rank,
            device=torch.device("cpu"),
            autocast=nullcontext,
            is_fsdp2=False,
        )
        found = load_task(name).predict(
            Inference(model, data, "train", processor, [], INPUTS, accelerator, batch_size=1)
        )
        return found, len(passes)

    alone, count = rows(0, 1)
    shares = [
        rows(rank, 3) for rank in range(3)
    ]  # nothing is gathered: these processes are made up
    assert count == 5 and [passes for _, passes in shares] == [2, 2, 2]
    assert sorted((row for found, _ in shares for row in found), key=lambda row: row.id) == alone
