"""Predictions of a split: each image encoded once, each question answered once; and a grouped batch trains as a plain one."""

import io
import json
from dataclasses import replace
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from vle_bench.data.collate import QuestionCollator
from vle_bench.data.loader import image_batches
from vle_bench.data.prepared import check_labelled, check_whole
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.vcr_join import in_common
from vle_bench.metrics.vqa import in_vocabulary
from vle_bench.models import VLEConfig, VLEForVQA
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Inference
from vle_bench.tasks.predictions import Prediction

LABELS = ["yes", "no", "red"]
ASKED = [1, 7, 2, 3, 40, 2, 1, 5]  # questions of each image


def png(shade):
    content = io.BytesIO()
    Image.new("RGB", (20, 30), (shade, 255 - shade, 60)).save(content, "PNG")
    return content.getvalue()


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    images = datasets.Dataset.from_dict(
        {
            "image_id": list(range(100, 100 + len(ASKED))),
            "file_name": [f"{i}.png" for i in range(len(ASKED))],
            "bytes": [png(25 * i) for i in range(len(ASKED))],
        }
    )
    rows = rng.permutation(np.repeat(np.arange(len(ASKED)), ASKED))
    truth = rng.integers(0, 3, len(rows)).tolist()
    questions = datasets.Dataset.from_dict(
        {
            "question_id": [int(i) for i in rng.permutation(len(rows)) + 500],
            "image_id": (rows + 100).tolist(),
            "image_row": rows,
            "question": [
                ("is it red?", "what color is it?", "is there a very long thing?")[i % 3]
                for i in range(len(rows))
            ],
            "question_type": ["is"] * len(rows),
            "answer_type": ["yes/no" if t < 2 else "other" for t in truth],
            "multiple_choice_answer": [LABELS[t] for t in truth],
            "answers": [[LABELS[t]] * 7 + ["blue"] * 3 for t in truth],
            "label_ids": [[t] for t in truth],
            "label_scores": [[1.0] for _ in truth],
            "answerable": [True] * len(truth),
        }
    )
    splits = {"val": {"labelled": True}, "test": {"labelled": False}}
    manifest = SimpleNamespace(splits=splits, report={})
    return SimpleNamespace(
        root="data/x", images=images, questions=lambda split: questions, manifest=manifest
    )


@pytest.fixture(scope="module")
def processor(data):
    return VLEProcessor.from_parts(train_tokenizer(data.questions("val")["question"], 64), 64, 16)


@pytest.fixture(scope="module")
def model(processor):
    torch.manual_seed(0)
    config = load_recipe("demo/vqa-tiny", []).model.config
    config["text_config"] = {**config["text_config"], "vocab_size": len(processor.tokenizer)}
    config["vision_config"] = {**config["vision_config"], "image_size": 64}
    return VLEForVQA(VLEConfig(**config, id2label=dict(enumerate(LABELS))))


def answers(model, processor, data, batch_size, num_workers=0):
    settings, cpu = {"max_text_length": 24}, Accelerator(cpu=True)
    return load_task("vqa").predict(
        Inference(model, data, "val", processor, LABELS, settings, cpu, batch_size, num_workers)
    )


@pytest.mark.parametrize("batch_size", [1, 4, 8, 1000])
def test_every_image_is_encoded_once(model, processor, data, batch_size):
    encoded = []
    hook = model.vle.vision_model.register_forward_hook(
        lambda module, given, output: encoded.append(len(output[0]))
    )
    try:
        rows = answers(model, processor, data, batch_size)
    finally:
        hook.remove()
    assert sum(encoded) == len(ASKED)
    assert [row.id for row in rows] == sorted(data.questions("val")["question_id"])
    assert len(encoded) == {1: 8, 4: 7, 8: 4, 1000: 1}[batch_size]


def test_the_batch_does_not_change_an_answer(model, processor, data):
    one, many = answers(model, processor, data, 1), answers(model, processor, data, 1000)
    assert [row["answer"] for row in one] == [row["answer"] for row in many]
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in many], abs=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 10, 61, 1000])
def test_batches_are_whole_images(data, batch_size):
    rows = np.asarray(data.questions("val")["image_row"])
    batches = image_batches(rows, batch_size)
    assert sorted(np.concatenate(batches)) == list(range(len(rows)))
    images = [set(rows[batch]) for batch in batches]
    assert sum(map(len, images)) == len(ASKED)
    assert all(
        len(batch) <= batch_size or len(own) == 1
        for batch, own in zip(batches, images, strict=True)
    )
    for batch, following in zip(
        batches, batches[1:], strict=False
    ):  # none is shorter than it must be
        assert len(batch) + (rows == rows[following[0]]).sum() > batch_size


def test_an_image_with_more_questions_than_fit_is_a_batch_alone_at_the_start_too():
    assert [batch.tolist() for batch in image_batches(np.array([0, 0, 0, 1, 2, 2, 2]), 2)] == [
        [0, 1, 2],
        [3],
        [4, 5, 6],
    ]


def test_no_questions_no_batches():
    assert image_batches(np.array([], dtype=np.int64), 8) == []


def plain(collate, data, indices):
    """The same questions, each with a pixel row of its own, decoded and squashed for itself."""
    rows = data.questions("val")[indices.tolist()]
    pictures = [Image.open(io.BytesIO(data.images[row]["bytes"])) for row in rows["image_row"]]
    inputs = dict(collate.processor(images=pictures, text=rows["question"], max_length=24))
    assert len(inputs["pixel_values"]) == len(indices)
    return inputs


def test_a_step_on_a_batch_grouped_by_image_is_that_of_the_plain_batch(model, processor, data):
    questions = data.questions("val")
    collate = QuestionCollator(questions, data.images, processor, len(LABELS), 24)
    order = load_task("vqa").training_order(questions, 0, 0, per_image=100)[:24]
    grouped = collate(order)["inputs"]
    assert len(grouped["pixel_values"]) < len(order)
    losses, gradients = [], []
    model.train()
    for inputs in (grouped, {**plain(collate, data, order), "labels": grouped["labels"]}):
        model.zero_grad()
        loss = model(**inputs).loss
        loss.backward()
        losses.append(loss.item())
        gradients.append(
            {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        )
    model.zero_grad()
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    assert gradients[0].keys() == gradients[1].keys() and len(gradients[0]) > 50
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-5, msg=name)
    assert any(
        gradient.norm() > 1e-2 for name, gradient in gradients[0].items() if "vision_model" in name
    )


def rows_of(questions, label):
    ids = questions["question_id"]
    return [Prediction(i, {"answer": LABELS[label], "label": label, "score": 0.5}) for i in ids]


def test_the_training_time_score_stands_beside_the_accuracy(data):
    questions = data.questions("val")
    metrics = load_task("vqa").score(rows_of(questions, 0), questions).metrics
    share = np.mean([ids == [0] for ids in questions["label_ids"]])
    assert list(metrics) == ["accuracy", "accuracy_not_yes_no", "soft_score_in_vocabulary"]
    assert metrics["soft_score_in_vocabulary"]["value"] == pytest.approx(share)
    low, high = metrics["soft_score_in_vocabulary"]["interval"]
    assert low < share < high


def test_the_two_scores_are_two_functions(data):
    """Three of ten annotators: 0.9 both; a class that is not in the vocabulary: 0 for the soft score, 0.9 for the accuracy."""
    questions = data.questions("val").map(lambda row: {"label_ids": [2], "label_scores": [0.3]})
    rows = [replace(row, values={**row.values, "answer": "blue"}) for row in rows_of(questions, 0)]
    metrics = load_task("vqa").score(rows, questions).metrics
    assert metrics["accuracy"]["value"] == pytest.approx(0.9)
    assert metrics["soft_score_in_vocabulary"]["value"] == 0
    rows = [replace(row, values={**row.values, "label": 2}) for row in rows]
    metrics = load_task("vqa").score(rows, questions).metrics
    assert metrics["soft_score_in_vocabulary"]["value"] == pytest.approx(
        0.3, abs=1e-12
    )  # not the 0.30000001 that 32 bits hold
    assert in_vocabulary(1, [], []) == 0


def test_the_submission_holds_every_id_once_in_order(data):
    questions = data.questions("test")
    rows = rows_of(questions, 2)
    text = load_task("vqa").submission(rows, questions)
    assert json.loads(text) == [
        {"question_id": i, "answer": "red"} for i in sorted(questions["question_id"])
    ]
    for wrong in (rows[1:], [*rows, rows[0]], [*rows[1:], replace(rows[0], id=7)]):
        with pytest.raises(
            RunFailed, match=f"{len(wrong)} predictions are not one for each of the 61 questions"
        ):
            load_task("vqa").submission(wrong, questions)


@pytest.mark.parametrize("nested", [False, True])
def test_a_split_with_questions_left_out_makes_no_submission(nested):
    found = {
        "train": {"left_out_with_their_image": 7},
        "val": {"left_out_with_their_image": 0},
        "test": {"left_out_with_their_image": 2, "left_out_as_bad_records": 1},
    }
    report = {"splits": found} if nested else found
    manifest = SimpleNamespace(splits=found, report=report)
    data = SimpleNamespace(root="data/x", manifest=manifest)
    check_whole(data, "val")
    with pytest.raises(
        RequestError, match="data/x: 3 questions of test were left out when it was prepared"
    ):
        check_whole(data, "val+test")


def test_types_have_their_own_intervals(data):
    questions = data.questions("val")
    rows = rows_of(questions, 0)
    scored = load_task("vqa").score(rows, questions)
    right = [
        q["multiple_choice_answer"] == "yes" for q in questions if q["answer_type"] == "yes/no"
    ]
    found = scored.breakdown["answer_type"]["yes/no"]
    assert found["n"] == len(right) and found["value"] == pytest.approx(sum(right) / len(right))
    assert found["interval"][0] < found["value"] < found["interval"][1]
    assert scored.breakdown["answer_type"]["other"] == {
        "value": 0.0,
        "interval": [0.0, 0.0],
        "n": len(questions) - len(right),
    }
    assert all(metric["n"] for metric in scored.metrics.values())


def test_a_split_without_labels_is_told_apart(data):
    check_labelled(data, "val")
    with pytest.raises(RequestError, match="data/x: split 'test' has no labels"):
        check_labelled(data, "val+test")
    collate = QuestionCollator(
        data.questions("test").map(lambda row: {"label_ids": None, "label_scores": None}),
        data.images,
        lambda **_: {},
        3,
        24,
    )
    assert collate(np.array([0, 1]))["inputs"]["labels"].sum() == 0


def test_answers_are_ranked_by_logits():
    """In float32 the sigmoid of 16.0 and of 16.5, of 17 and of 40, is 1."""
    for highest, labels in (
        ((16.0, 16.5, 0.0), 1),
        ((17.0, 18.0, 40.0), 2),
        ((-200.0, -120.0, -150.0), 1),
    ):
        (row,) = load_task("vqa").predictions(torch.tensor([highest]), [5], LABELS)
        assert (row["label"], row["answer"]) == (labels, LABELS[labels])
    assert (
        load_task("vqa").predictions(torch.tensor([[16.0, 16.5, 0.0]]), [5], LABELS)[0]["score"]
        == 1.0
    )


def test_what_two_runs_have_in_common():
    assert (
        in_common(["bf16", "bf16"]) == "bf16"
        and in_common(["bf16", "fp32"]) == "bf16 + fp32"
        and in_common([None, "fp32"]) is None
    )


@pytest.mark.parametrize("num_workers", [1, 2])
def test_workers_that_load_pictures_change_no_prediction(model, processor, data, num_workers):
    alone = answers(model, processor, data, 8)
    assert answers(model, processor, data, 8, num_workers) == alone
