"""VCR as a task: what a batch holds, what a step costs, how it is scored, and what is augmented."""

import io
import json
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from vle_bench.data.official.vcr import COLUMNS
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.data.vcr_text import encode_record
from vle_bench.errors import RequestError, RunFailed
from vle_bench.models import VLEConfig, VLEForVCRJoint, VLEForVCRQ2A, VLEForVCRQA2R
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Inference, Reading
from vle_bench.tasks.predictions import Prediction
from vle_bench.tasks.vcr import most_tagged, texts_of

OBJECTS = ["person", "dog", "person", "cup"]
BOXES = [
    [0.0, 0.0, 20.0, 30.0],
    [10.0, 10.0, 39.0, 29.0],
    [5.0, 5.0, 15.0, 15.0],
    [30.0, 20.0, 60.0, 50.0],
]
INPUTS = {"max_text_length": 80, "alignment": True, "most_objects": 14}


def record(number, **more):
    """Record 0 tags nobody in its question; record 1 speaks of a side."""
    question = (
        ["What", "is", "it", "?"],
        ["Is", [1], "left", "of", [0, 2], "?"],
        ["Why", "does", [2], "run", "?"],
    )[number % 3]
    answers = [["Yes", [i % 4], "."] if i else ["No", "."] for i in range(4)]
    rationales = [["because", [i], "is", "there", "and", "red"][: 3 + i] for i in range(4)]
    return {
        "annot_id": f"val-{number}",
        "objects": OBJECTS,
        "question": question,
        "answer_choices": answers,
        "rationale_choices": rationales,
        "answer_label": number % 4,
        "rationale_label": (number + 1) % 4,
        **more,
    }


def png(shade):
    content = io.BytesIO()
    image = Image.new("RGB", (40, 30), (shade, 255 - shade, 60))
    image.paste((250, 0, 0), (0, 0, 8, 30))  # so that left and right differ
    image.save(content, "PNG")
    return content.getvalue()


IMAGE_ROWS = [0, 1, 0, 2, 1, 0, 3]


@pytest.fixture(scope="module")
def data():
    images = datasets.Dataset.from_dict(
        {
            "image_id": [700 + i for i in range(4)],
            "file_name": [f"m/{i}@1.png" for i in range(4)],
            "bytes": [png(60 * i) for i in range(4)],
            "boxes": [BOXES] * 4,
            "class_names": [OBJECTS] * 4,
        }
    )
    records = [record(i) for i in range(len(IMAGE_ROWS))]
    questions = datasets.Dataset.from_dict(
        {
            "annot_id": [r["annot_id"] for r in records],
            "image_id": [700 + i for i in IMAGE_ROWS],
            "image_row": IMAGE_ROWS,
            "record": [json.dumps(r) for r in records],
            "answer_label": [r["answer_label"] for r in records],
            "rationale_label": [r["rationale_label"] for r in records],
            "answer_likelihood": [
                "likely",
                "possible",
                None,
                "likely",
                "likely",
                "likely",
                "likely",
            ],
        }
    )
    return SimpleNamespace(
        root="data/x", images=images, questions=lambda split: questions, labels=[], manifest={}
    )


@pytest.fixture(scope="module")
def processor(data):
    texts = [text for row in data.questions("val")["record"] for text in texts_of(json.loads(row))]
    return VLEProcessor.from_parts(train_tokenizer(texts, 128), 64, 16)


def tiny(architecture, processor):
    torch.manual_seed(0)
    config = load_recipe("demo/vqa-tiny", []).model.config
    config["text_config"] = {**config["text_config"], "vocab_size": len(processor.tokenizer)}
    config["vision_config"] = {**config["vision_config"], "image_size": 64}
    return architecture(VLEConfig(**{**config, "num_token_types": 16})).eval()


def batch_of(data, processor, name, indices, augment=None, submission=False, **inputs):
    task = load_task(name).for_submission() if submission else load_task(name)
    reading = Reading(data.questions("val"), data.images, processor, {**INPUTS, **inputs})
    collate = task.collator(reading, augment)
    return collate(np.array(indices))


def test_a_batch_holds_what_encode_record_says(data, processor):
    batch = batch_of(data, processor, "vcr_q2a", [0, 1, 2, 4])
    inputs = batch["inputs"]
    assert batch["ids"] == ["val-0", "val-1", "val-2", "val-4"]
    assert inputs["labels"].tolist() == [0, 1, 2, 0] and inputs["image_index"].tolist() == [
        0,
        1,
        0,
        1,
    ]
    assert inputs["pixel_values"].shape == (2, 3, 64, 64)  # four questions about two pictures
    for b, number in enumerate((0, 1, 2, 4)):
        for c, choice in enumerate(encode_record(record(number), processor.tokenizer, "q2a")):
            length, objects = len(choice["input_ids"]), len(choice["objects"])
            assert inputs["input_ids"][b, c, :length].tolist() == choice["input_ids"]
            assert inputs["token_type_ids"][b, c, :length].tolist() == choice["token_type_ids"]
            assert (
                inputs["attention_mask"][b, c].sum() == length
                and inputs["object_mask"][b, c].sum() == objects
            )
            assert inputs["object_token_type_ids"][b, c, :objects].tolist() == list(
                range(2, 2 + objects)
            )
    # the second choice of record 0 tags the dog alone: columns 1 to 3 of 4, rows 1 to 3 of 4
    grid = inputs["object_patch_mask"][0, 1, 0].reshape(4, 4).tolist()
    assert grid == [[False] * 4, *[[False, True, True, True]] * 3]


def test_the_joint_task_has_answers_then_rationales(data, processor):
    joint = batch_of(data, processor, "vcr_joint", [1, 3])["inputs"]
    assert joint["input_ids"].shape[:2] == (2, 8) and joint["labels"].tolist() == [[1, 2], [3, 0]]
    for name, block in (("vcr_q2a", slice(0, 4)), ("vcr_qa2r", slice(4, 8))):
        alone = batch_of(data, processor, name, [1, 3])["inputs"]
        length = alone["input_ids"].shape[-1]
        assert torch.equal(joint["input_ids"][:, block, :length], alone["input_ids"])
        assert torch.equal(
            joint["object_mask"][:, block, : alone["object_mask"].shape[-1]], alone["object_mask"]
        )


def test_a_submission_has_the_rationales_after_every_answer(data, processor):
    inputs = batch_of(data, processor, "vcr_qa2r", [3], submission=True)["inputs"]
    assert inputs["input_ids"].shape[:2] == (1, 16) and "labels" not in inputs
    for answer in range(4):
        for c, choice in enumerate(
            encode_record(record(3), processor.tokenizer, "qa2r", answer=answer)
        ):
            assert (
                inputs["input_ids"][0, 4 * answer + c, : len(choice["input_ids"])].tolist()
                == choice["input_ids"]
            )


@pytest.mark.parametrize("name", ["vcr_q2a", "vcr_joint"])
def test_without_alignment_nothing_ties_words_to_boxes(data, processor, name):
    aligned, plain = (
        batch_of(data, processor, name, [1, 2], alignment=on)["inputs"] for on in (True, False)
    )
    assert torch.equal(aligned["input_ids"], plain["input_ids"]) and torch.equal(
        aligned["pixel_values"], plain["pixel_values"]
    )
    assert aligned["token_type_ids"].any() and not plain["token_type_ids"].any()
    assert aligned["object_mask"].any() and plain["object_patch_mask"].shape[2] == 0


@pytest.mark.parametrize("name", ["vcr_q2a", "vcr_qa2r", "vcr_joint"])
def test_one_vision_pass_a_picture_gives_the_loss_and_gradients_of_one_a_choice(
    data, processor, name
):
    model = tiny(
        {"vcr_q2a": VLEForVCRQ2A, "vcr_qa2r": VLEForVCRQA2R, "vcr_joint": VLEForVCRJoint}[name],
        processor,
    )
    inputs = batch_of(data, processor, name, [0, 1, 2, 4])["inputs"]
    passes = []
    hook = model.vle.vision_model.register_forward_hook(
        lambda module, given, output: passes.append(len(output[0]))
    )
    ours = model(**inputs)
    hook.remove()
    assert passes == [2]  # four questions about two pictures
    ours.loss.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    # the published way: the picture again for every choice
    choices = inputs["input_ids"].shape[1]
    flat = {
        k: v.flatten(0, 1)
        for k, v in inputs.items()
        if k not in ("pixel_values", "image_index", "labels")
    }
    pixels = inputs["pixel_values"][inputs["image_index"]].repeat_interleave(choices, 0)
    pooled = model.vle(pixel_values=pixels, **flat).pooler_output.unflatten(0, (-1, choices))
    logits = model.score(pooled)
    loss = model.choice_loss(logits, inputs["labels"])
    loss.backward()
    torch.testing.assert_close(ours.logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.loss, loss, atol=1e-5, rtol=1e-5)
    assert gradients.keys() == {n for n, p in model.named_parameters() if p.grad is not None}
    for n, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(gradients[n], p.grad, atol=1e-5, rtol=1e-4, msg=n)


@pytest.mark.parametrize("name", ["vcr_q2a", "vcr_qa2r"])
def test_the_joint_model_is_both_models_on_one_encoder(data, processor, name):
    joint = tiny(VLEForVCRJoint, processor)
    alone = tiny({"vcr_q2a": VLEForVCRQ2A, "vcr_qa2r": VLEForVCRQA2R}[name], processor)
    alone.load_state_dict({k: v for k, v in joint.state_dict().items() if k in alone.state_dict()})
    part = slice(0, 4) if name == "vcr_q2a" else slice(4, 8)
    both = joint(**batch_of(data, processor, "vcr_joint", [0, 1, 2])["inputs"])
    one = alone(**batch_of(data, processor, name, [0, 1, 2])["inputs"])
    torch.testing.assert_close(both.logits[:, part], one.logits, atol=1e-5, rtol=1e-5)
    inputs = batch_of(data, processor, "vcr_joint", [0, 1, 2])["inputs"]
    losses = [
        torch.nn.functional.cross_entropy(both.logits[:, s], inputs["labels"][:, i])
        for i, s in enumerate((slice(0, 4), slice(4, 8)))
    ]
    torch.testing.assert_close(both.loss, sum(losses))


@pytest.mark.parametrize(
    ("batch_size", "submission"), [(1, False), (16, False), (1000, False), (1000, True)]
)
def test_a_joint_evaluation_opens_and_encodes_each_picture_once(
    data, processor, monkeypatch, batch_size, submission
):
    model, passes, opened = tiny(VLEForVCRJoint, processor), [], []
    model.vle.vision_model.register_forward_hook(
        lambda module, given, output: passes.append(len(output[0]))
    )
    from vle_bench.data import collate

    decode = collate.decode
    monkeypatch.setattr(
        collate, "decode", lambda content, name: opened.append(name) or decode(content, name)
    )
    task = load_task("vcr_joint")
    rows = (task.for_submission() if submission else task).predict(
        Inference(model, data, "val", processor, [], INPUTS, Accelerator(cpu=True), batch_size)
    )
    assert sum(passes) == 4 and sorted(opened) == [f"m/{i}@1.png" for i in range(4)]
    assert [row.id for row in rows] == [f"val-{i}" for i in range(7)]
    assert all(len(row["qa2r_scores"]) == (16 if submission else 4) for row in rows)


def test_predictions_take_the_lowest_of_equals():
    logits = torch.tensor([[1.0, 3.0, 3.0, 0.0, 2.0, 2.0, 2.0, 2.0]])
    (row,) = load_task("vcr_joint").predictions(logits, ["val-0"], [])
    assert (row.id, row["q2a"], row["qa2r"]) == ("val-0", 1, 0)
    assert row["qa2r_scores"] == [0.25] * 4 and abs(sum(row["q2a_scores"]) - 1) < 1e-6
    every = torch.arange(16.0)[None]
    (row,) = load_task("vcr_qa2r").predictions(every, ["val-0"], [])
    assert "qa2r" not in row.values and row["qa2r_scores"][:4] == row["qa2r_scores"][12:]


def test_choices_are_ranked_by_logits():
    """In float32 both logits of each pair have one probability; the file's probabilities name the same choice."""
    low = torch.tensor(0.01)
    high = torch.nextafter(low, torch.tensor(1.0))
    logits = torch.stack([low, high, low - 5, low - 5, low, low - 5, low - 5, high])[None]
    assert low < high and torch.stack([low, high]).softmax(-1).unique().numel() == 1
    (row,) = load_task("vcr_joint").predictions(logits, ["val-0"], [])
    assert (row["q2a"], row["qa2r"]) == (1, 3)
    assert int(np.argmax(row["q2a_scores"])) == 1 and int(np.argmax(row["qa2r_scores"])) == 3


def rows_with(questions, wrong_answers, wrong_rationales):
    rows = []
    for annot_id, answer, rationale in zip(
        questions["annot_id"], questions["answer_label"], questions["rationale_label"], strict=True
    ):
        number = int(annot_id.split("-")[1])
        rows.append(
            Prediction(
                annot_id,
                {
                    "q2a": (answer + (number in wrong_answers)) % 4,
                    "qa2r": (rationale + (number in wrong_rationales)) % 4,
                },
            )
        )
    return rows


def test_scores_of_both_tasks_and_of_each(data):
    questions = data.questions("val")
    rows = rows_with(questions, {0, 1}, {1, 2, 3})
    both = load_task("vcr_joint").score(rows, questions)
    assert {k: round(7 * m["value"]) for k, m in both.metrics.items()} == {
        "q2ar": 3,
        "q2a": 5,
        "qa2r": 4,
    } and both.n == 7
    assert list(both.metrics) == ["q2ar", "q2a", "qa2r"]
    for name, expected in (("vcr_q2a", 5 / 7), ("vcr_qa2r", 4 / 7)):
        part = name.removeprefix("vcr_")
        one = load_task(name).score([Prediction(r.id, {part: r[part]}) for r in rows], questions)
        assert list(one.metrics) == ["accuracy"] and one.metrics["accuracy"][
            "value"
        ] == pytest.approx(expected)
        low, high = one.metrics["accuracy"]["interval"]
        assert low < expected < high
    with pytest.raises(RequestError, match="1 annot_id missing"):
        load_task("vcr_joint").score(rows[1:], questions)


def test_the_breakdown_is_the_primary_metric_of_each_group(data):
    questions = data.questions("val")
    figures = load_task("vcr_q2a").score(rows_with(questions, {0, 1}, set()), questions).breakdown
    low, high = figures["answer_likelihood"]["likely"]["interval"]
    assert low < 0.8 <= high
    found = {
        kind: {g: {k: f[k] for k in ("value", "n")} for g, f in groups.items()}
        for kind, groups in figures.items()
    }
    assert found["answer_likelihood"] == {
        "likely": {"value": 0.8, "n": 5},
        "not given": {"value": 1.0, "n": 1},
        "possible": {"value": 0.0, "n": 1},
    }
    # words: 4 in records 0, 3, 6; 6 in 1 and 4; 5 in 2 and 5
    assert found["words in the question"] == {
        "1 to 5": {"value": 0.8, "n": 5},
        "6 to 8": {"value": 0.5, "n": 2},
    }
    # tagged in question and right answer: none, {0, 1, 2}, {2}, {3}, {0, 1, 2}, {1, 2}, {2}
    counts = {group: figure["n"] for group, figure in found["objects tagged"].items()}
    assert (
        counts == {"0": 1, "1": 3, "2": 1, "3": 2} and found["objects tagged"]["3"]["value"] == 0.5
    )


def test_a_submission_is_the_leaderboards_file(data):
    questions, task = data.questions("val"), load_task("vcr_joint")
    rows = [
        Prediction(i, {"q2a_scores": [0.7, 0.1, 0.1, 0.1], "qa2r_scores": [0.25] * 16})
        for i in reversed(questions["annot_id"])
    ]
    lines = task.submission(rows, questions).splitlines()
    assert lines[0] == ",".join(COLUMNS) and len(lines) == 8
    assert lines[1] == "val-0,0.7,0.1,0.1,0.1," + ",".join(["0.25"] * 16)
    with pytest.raises(RunFailed, match="6 predictions are not one for each of the 7"):
        task.submission(rows[1:], questions)


def test_more_objects_than_types_are_refused_before_the_first_step(data):
    task = load_task("vcr_q2a")
    task.check(data, "val", INPUTS)
    task.check(data, "val", {**INPUTS, "most_objects": 4})
    # val-1 asks about three objects, and a choice with its rationale can name the fourth
    with pytest.raises(
        RequestError,
        match="data/x: val: val-1 tags 4 objects in one choice, and the model has types for 3",
    ):
        task.check(data, "val", {**INPUTS, "most_objects": 3})
    task.check(data, "val", {**INPUTS, "most_objects": 3, "alignment": False})
    assert most_tagged(record(0)) == 2 and most_tagged(record(1)) == 4


def test_a_checkpoint_that_gave_every_object_a_token_is_refused(data):
    """Earlier versions had model.objects, and saved it with the checkpoint."""
    task = load_task("vcr_q2a")
    task.check(data, "val", {**INPUTS, "objects": "tagged"})
    with pytest.raises(RequestError, match="model.objects: 'all' is of an earlier version"):
        task.check(data, "val", {**INPUTS, "objects": "all"})
