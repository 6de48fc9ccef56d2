"""The task of multiple-choice questions: no choice is padded, and scores are counted by hand."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tests.miniature.own import write_lines
from vle_bench.data.collate import NO_CHOICE
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.errors import RunFailed
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Reading
from vle_bench.tasks.predictions import Prediction
from vle_bench.training.model import model_of

TASK = load_task("choice")
WORDS = "a small red circle on the left of two blue squares in green".split()


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """Prepared questions of 2 to 26 choices, and a model with random weights."""
    folder = tmp_path_factory.mktemp("choices")
    rng = np.random.default_rng(0)
    rows = []
    for n, count in enumerate((2, 5, 26, 3, 4, 2)):
        pixels = rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n // 2}.png")  # two questions a picture
        choices = [f"{' '.join(WORDS[: 1 + k % 14])} {k}" for k in range(count)]
        question = f"what is {' '.join(WORDS[: 3 * (n % 3) + 1])}?"
        row = {"image": f"{n // 2}.png", "question": question, "choices": choices}
        rows.append({**row, "answer": count - 1, "id": n})
    source = write_lines(folder / "my.jsonl", rows)
    spec = {"form": "choice", "splits": {"train": str(source)}}
    (folder / "my.yaml").write_text(json.dumps(spec), encoding="utf-8")
    prepare(str(folder / "my.yaml"), folder / "data", AS_USUAL, {})
    data = load_task("choice").open(folder / "data")
    torch.manual_seed(0)
    model, processor, _ = model_of(load_recipe("own/choice-tiny"), TASK, data)
    return data, model.eval(), processor


def collator(work, length=32):
    data, _, processor = work
    settings = {"max_text_length": length}
    return TASK.collator(Reading(data.questions("train"), data.images, processor, settings))


def test_a_batch_of_fewer_and_more_choices_gives_the_logits_of_each_alone(work):
    _, model, _ = work
    collate = collator(work)
    with torch.inference_mode():
        together = collate(np.arange(6))
        output = model(**together["inputs"])
        losses = []
        for n, count in enumerate((2, 5, 26, 3, 4, 2)):
            batch = collate(np.array([n]))
            assert batch["inputs"]["input_ids"].shape[0] == count
            del batch["inputs"]["choice_mask"]  # every choice is one
            alone = model(**batch["inputs"])
            torch.testing.assert_close(output.logits[n, :count], alone.logits[0], atol=2e-6, rtol=0)
            assert (output.logits[n, count:] == NO_CHOICE).all()
            losses.append(F.cross_entropy(alone.logits, torch.tensor([count - 1])))
    # Each text once, and none for the 114 choices that 26 for each would be more
    assert together["inputs"]["input_ids"].shape[0] == sum((2, 5, 26, 3, 4, 2))
    assert together["inputs"]["pixel_values"].shape[0] == 3
    assert together["inputs"]["labels"].tolist() == [1, 4, 25, 2, 3, 1]
    torch.testing.assert_close(output.loss, torch.stack(losses).mean())


def test_what_stands_for_a_missing_choice_has_no_effect(work):
    """Neither on the loss nor on any gradient, which are finite."""
    _, model, _ = work
    inputs = collator(work)(np.array([0, 1]))["inputs"]
    assert inputs["text_index"].tolist() == [[0, 1, 0, 0, 0], [2, 3, 4, 5, 6]]
    assert inputs["choice_mask"].sum(1).tolist() == [2, 5]
    gradients = []
    for other in (0, 6):
        changed = inputs["text_index"].clone()
        changed[0, 2:] = other
        model.zero_grad()
        model(**{**inputs, "text_index": changed}).loss.backward()
        gradients.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        assert one.isfinite().all()
        torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert any(one.abs().sum() > 0 for one in gradients[0])


def test_choices_of_equal_number_may_come_as_one_tensor_of_questions(work):
    """(questions, choices, tokens), as the tasks of VCR give them."""
    _, model, _ = work
    inputs = collator(work)(np.array([0, 5]))["inputs"]
    index = inputs.pop("image_index")
    assert index.tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    ids, mask = (inputs.pop(name) for name in ("input_ids", "attention_mask"))
    plain = {name: inputs[name] for name in ("pixel_values", "labels")}
    plain["image_index"] = index[::2]
    with torch.inference_mode():
        flat = model(ids, mask, image_index=index, **inputs)
        boxed = model(ids.view(2, 2, -1), mask.view(2, 2, -1), **plain)
    torch.testing.assert_close(flat.logits, boxed.logits)
    torch.testing.assert_close(flat.loss, boxed.loss)
    with pytest.raises(ValueError, match="text_index: expected values of 0 to 3"):
        wrong = inputs | {"text_index": torch.tensor([[0, 4], [2, 3]])}
        model(ids, mask, image_index=index, **wrong)


def test_batches_of_evaluation_have_about_as_many_texts_whatever_the_choices(work):
    questions = work[0].questions("train")
    texts = {0: 0, 1: 0, 2: 0}  # of each picture
    for row in questions:
        texts[row["image_row"]] += len(row["choices"])
    assert sorted(texts.values()) == [6, 7, 29]
    for size in (5, 7, 13, 29, 35, 36, 41, 42, 100):
        expected, room = [], 0
        for _, count in sorted(texts.items()):
            if count > room:
                expected.append(0)
                room = size
            expected[-1] += 2  # questions
            room -= count
        batches = TASK.evaluation_batches(questions, size)
        assert [len(batch) for batch in batches] == expected, size
        assert sorted(np.concatenate(batches)) == list(range(6))


def test_texts_are_pairs_of_question_and_choice_and_shortened_to_the_length(work):
    data, _, processor = work
    row = data.questions("train")[1]
    inputs = collator(work)(np.array([1]))["inputs"]
    for place, choice in enumerate(row["choices"]):
        expected = processor.tokenizer(row["question"], choice)["input_ids"]
        got = inputs["input_ids"][place][inputs["attention_mask"][place].bool()].tolist()
        assert got == expected
    assert collator(work, 9)(np.array([1]))["inputs"]["input_ids"].shape[-1] == 9


def test_predictions_know_nothing_of_missing_choices():
    logits = torch.tensor([[-5.0, -4.0, NO_CHOICE, NO_CHOICE], [0.0, 0.0, 1.0, -1.0]])
    one, other = TASK.predictions(logits, [7, 8], [])
    assert (one.id, one["chosen"], other["chosen"]) == (7, 1, 2)
    assert one["scores"] == pytest.approx([0.26894142, 0.73105858])
    assert sum(other["scores"]) == pytest.approx(1) and len(other["scores"]) == 4
    tie = TASK.predictions(torch.zeros(1, 3), [1], [])[0]
    assert tie["chosen"] == 0
    assert TASK.wrong(one) is None and TASK.wrong(tie) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chosen": 2}, "2 is none of the 2 choices"),
        ({"chosen": True}, "True is none of"),
        ({"chosen": 0}, "another choice is more probable"),
        ({"scores": [0.2, float("nan")]}, "probabilities"),
        ({"scores": None}, "probabilities"),
    ],
)
def test_values_of_a_file_that_no_prediction_has(change, message):
    right = Prediction(1, {"chosen": 1, "scores": [0.2, 0.8]})
    assert TASK.wrong(right) is None
    assert message in TASK.wrong(replace(right, values=right.values | change))
    assert TASK.wrong(replace(right, id="q")) == "an id is expected"


def predicted(counts, chosen):
    """Predictions of these choices, one for each question."""
    return [
        Prediction(i, {"chosen": best, "scores": [float(k == best) for k in range(count)]})
        for i, (count, best) in enumerate(zip(counts, chosen, strict=True))
    ]


def test_the_accuracy_and_its_breakdown(work):
    data, _, _ = work
    questions = data.questions("train")
    counts = (2, 5, 26, 3, 4, 2)  # the last choice is right
    scores = TASK.score(predicted(counts, (1, 4, 0, 2, 0, 0)), questions)
    accuracy = scores.metrics["accuracy"]
    assert (accuracy["value"], scores.n, accuracy["n"]) == (0.5, 6, 6)
    # Both of the first picture are right and both of the third wrong: pictures are resampled.
    assert accuracy["interval"] == [0.0, 1.0]
    assert scores.per_example == {0: 1.0, 1: 1.0, 2: 0.0, 3: 1.0, 4: 0.0, 5: 0.0}
    by_number = scores.breakdown["number of choices"]
    assert {name: (one["value"], one["n"]) for name, one in by_number.items()} == {
        "2": (0.5, 2),
        "3": (1.0, 1),
        "4": (0.0, 1),
        "5": (1.0, 1),
        "26": (0.0, 1),
    }
    perfect = TASK.score(predicted(counts, (1, 4, 25, 2, 3, 1)), questions)
    assert perfect.metrics["accuracy"]["value"] == 1
    with pytest.raises(RunFailed, match="not one for each"):
        TASK.score(predicted(counts, (1, 4, 25, 2, 3, 1))[1:], questions)
    with pytest.raises(RunFailed, match="question 5: its 2 choices are not those"):
        TASK.score(predicted((2, 5, 26, 3, 4, 3), (1, 4, 25, 2, 3, 1)), questions)


def test_the_results_file(work):
    data, _, _ = work
    questions = data.questions("train")
    rows = json.loads(TASK.submission(predicted((2, 5, 26, 3, 4, 2), [1] * 6), questions))
    assert [row["question_id"] for row in rows] == list(range(6))
    expected = [{"choice": 1, "answer": choices[1]} for choices in questions["choices"]]
    assert [{k: row[k] for k in ("choice", "answer")} for row in rows] == expected


def test_a_tokenizer_from_scratch_knows_questions_and_choices(work):
    data, _, _ = work
    tokenizer = TASK.tokenizer(data, "train", 1000)
    for words in ("what is a small red", "blue squares"):
        assert tokenizer.unk_token_id not in tokenizer(words)["input_ids"]
