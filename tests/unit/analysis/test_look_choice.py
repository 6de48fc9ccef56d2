"""The page of multiple-choice questions: what it shows is what the collator and the loader give."""

import json
from itertools import islice

import numpy as np
import pytest
import torch

from tests.miniature.own import choice_rows, vcr_rows, write_lines
from tests.unit.analysis.test_look import LookPage, opened, written
from vle_bench.analysis.look import open_look, write_look
from vle_bench.analysis.look_numbers import tag_facts
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.data.prepare.own.prepare import prepare
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tagged_text import tagged_in

BATCHES = ["train.batch_size=8", "train.per_device_batch_size=4", "data.report=val"]


def prepared(folder, rows):
    spec = {"form": "choice", "source": str(write_lines(folder / "my.jsonl", rows))}
    halves = {"train": 0.5, "val": 0.5}
    (folder / "my.yaml").write_text(json.dumps(spec | {"splits": halves}), encoding="utf-8")
    prepare(str(folder / "my.yaml"), folder / "data", AS_USUAL, {})
    return folder / "data"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return prepared(tmp_path_factory.mktemp("plain"), choice_rows(12))


@pytest.fixture(scope="module")
def boxes(tmp_path_factory):
    """The first question has a box that no text tags."""
    folder = tmp_path_factory.mktemp("boxes")
    prepare_shapes_vcr(folder / "vcr", 0, questions={"train": 20, "val": 2, "test": 2})
    rows = vcr_rows(open_prepared(folder / "vcr"), "train", folder)
    rows[0]["boxes"].append({"name": "lamp", "box": [1, 1, 9, 9]})
    return prepared(folder, rows)


@pytest.mark.parametrize(
    ("recipe", "data", "length"),
    [
        ("own/choice-tiny", "plain", 32),
        ("own/choice-tiny", "plain", 9),
        ("own/choice-boxes-tiny", "boxes", 40),
        ("own/choice-boxes-tiny", "boxes", 12),
    ],
)
def test_the_tokens_shown_are_those_of_the_collator(request, tmp_path, recipe, data, length):
    root = request.getfixturevalue(data)
    changes = [*BATCHES, f"model.max_text_length={length}"]
    look = opened(recipe, changes, root, "val")
    rows, page = written(look, tmp_path / "page.html", count=100)
    assert len(rows) == len(look.questions)
    batch = look.collator()(rows)["inputs"]
    assert len(page.shown) == len(batch["input_ids"]) == sum(map(len, look.questions["choices"]))
    types = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"]))
    given = zip(page.shown, batch["input_ids"], types, batch["attention_mask"], strict=True)
    for shown, ids, kinds, real in given:
        kept = [(number, kind) for number, kind, css in shown if css != "cut"]
        assert kept == list(zip(ids[real == 1].tolist(), kinds[real == 1].tolist(), strict=True))
    cut = sum(css == "cut" for text in page.shown for _, _, css in text)
    assert (cut > 0) == (length < 32)
    right = [f"✓ choice {place + 1}" for place in look.questions["right_choice"]]
    assert [line for line in right if line not in page.content] == []
    drawn = (
        sum(len(set().union(*tagged_in(row))) for row in look.questions) if data == "boxes" else 0
    )
    assert len(page.paths) == drawn and (drawn > 0) == (data == "boxes")


def test_the_batches_shown_are_those_of_training(plain, tmp_path):
    look = opened("own/choice-tiny", BATCHES, plain)
    _, page = written(look, tmp_path / "page.html", count=1)
    rows = page.tables["Their micro-batches"][1:]
    steps = islice(look.feed.load_steps(accumulation=2, stage_steps=0), 3)
    batches = [batch for _, _, step in steps for batch in step if batch["ids"]]
    assert len(rows) == len(batches) == 6
    choices = dict(zip(look.questions["question_id"], look.questions["choices"], strict=True))
    for row, batch in zip(rows, batches, strict=True):
        texts = sum(len(choices[i]) for i in batch["ids"])
        assert [cell.strip() for cell in row[1:4]] == [
            str(len(batch["ids"])),
            str(len(batch["inputs"]["pixel_values"])),
            str(texts),
        ]


def test_data_without_a_recipe_and_the_figures(boxes, tmp_path):
    data = open_prepared(boxes)
    look = open_look(data, None, None)
    write_look(look, tmp_path / "page.html", np.arange(len(look.questions)), 0)
    page = LookPage(tmp_path / "page.html")
    question = look.questions[0]
    words = question["choices"][question["right_choice"]].split("[")[0].strip()
    assert words in page.content and "person[0]" in page.content
    counted = {row[0].strip(): row[1] for row in page.tables["Place of the right choice"][1:]}
    right = look.questions["right_choice"]
    assert {k: int(v) for k, v in counted.items()} == {
        str(place + 1): right.count(place) for place in set(right)
    }
    every = data.questions("train+val")
    total = sum(map(len, every["object_names"]))
    unseen = total - sum(len(set().union(*tagged_in(row))) for row in every)
    (fact,) = tag_facts(every)
    assert fact.lost and fact.value.startswith(f"{unseen} of {total} objects") and unseen >= 1
