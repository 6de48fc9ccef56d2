"""VCR records → model inputs, against the published pipelines where those are right, and by the stated rules elsewhere."""

import json
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from vle_bench.data.boxes import patch_mask
from vle_bench.data.vcr_text import NAMES, encode_record, object_names, pad_choices, shorten

GOLDEN = Path(__file__).parents[2] / "golden" / "vcr_text"
EXAMPLES = json.loads((GOLDEN / "records.json").read_text(encoding="utf-8"))
ENCODED = [(example, task) for example in EXAMPLES for task in example["tasks"]]


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(GOLDEN / "tokenizer")


@pytest.mark.parametrize(("example", "task"), ENCODED, ids=[f"{e['name']}-{t}" for e, t in ENCODED])
def test_golden(tokenizer, example, task):
    expected = example["tasks"][task]["choices"]
    found = encode_record(example["record"], tokenizer, task)
    mask = patch_mask(
        example["boxes"], example["width"], example["height"], example["grid"], example["grid"]
    )
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for key in ("input_ids", "token_type_ids", "objects", "object_token_type_ids"):
            assert ours[key] == theirs[key], key
        assert [np.flatnonzero(row).tolist() for row in mask[ours["objects"]]] == theirs[
            "object_patches"
        ][0]
        assert not ours["shortened"]


def record(
    question=("Why", "?"),
    answers=(("a",), ("b",)),
    rationales=(("c",), ("d",)),
    objects=("person",) * 3,
    **labels,
):
    texts = {
        "question": list(question),
        "answer_choices": [*map(list, answers)],
        "rationale_choices": [*map(list, rationales)],
    }
    return {"annot_id": "val-7", "objects": list(objects), **texts, **labels}


def words(tokenizer, encoding):
    """The text of each [SEP]-terminated segment."""
    text = tokenizer.decode(encoding["input_ids"][1:-1], clean_up_tokenization_spaces=False)
    return [part.strip() for part in text.split("[SEP]")]


def test_a_person_is_named_by_its_place_among_the_persons():
    assert object_names(["car", "person", "dog", "person"]) == ["car", "Casey", "dog", "Riley"]
    names = object_names(["person"] * 32)
    assert (names[14], names[15], names[16], names[30]) == (
        "Quinn",
        "Casey",
        "Riley",
        "Casey",
    ) and len(set(names)) == len(NAMES)


def test_objects_of_eight_and_more_stand_in_ascending_order(tokenizer):
    tagged = record(question=([17, 8],), answers=(([33], [2]), ("none",)), objects=["cat"] * 40)
    first, second = encode_record(tagged, tokenizer, "q2a")
    assert (first["objects"], first["object_token_type_ids"]) == ([2, 8, 17, 33], [2, 3, 4, 5])
    assert (second["objects"], second["object_token_type_ids"]) == ([8, 17], [2, 3])
    assert list(dict.fromkeys(first["token_type_ids"])) == [0, 4, 3, 5, 2]


def test_each_word_is_tokenised_once_a_record_after_a_space():
    class Letters:
        """One id a character, as a byte-level tokenizer without merges would give."""

        cls_token_id, sep_token_id = -1, -2
        seen: list[str] = []

        def __call__(self, texts, **how):
            assert how["add_special_tokens"] is False
            self.seen += texts
            return {"input_ids": [[ord(c) for c in text] for text in texts]}

    twice = record(question=["Hi", [0, 1]], answers=[["Hi"], []], objects=["cat", "person"])
    first, second = encode_record(twice, Letters(), "q2a")
    assert Letters.seen == [" Hi", " cat", " and", " Casey"]
    question = [-1, *map(ord, " Hi cat and Casey"), -2]
    assert first["input_ids"] == [*question, *map(ord, " Hi"), -2] and second["input_ids"] == [
        *question,
        -2,
    ]
    assert first["token_type_ids"][:19] == [0] * 4 + [2] * 4 + [0] * 4 + [3] * 6 + [0]


def test_an_input_depends_on_its_own_record_only(tokenizer):
    one, other = (e["record"] for e in EXAMPLES[:2])
    alone = encode_record(one, tokenizer, "qa2r")
    encode_record(other, tokenizer, "qa2r")
    assert encode_record(one, tokenizer, "qa2r") == alone


def test_the_rationales_may_follow_another_answer_and_test_records_have_no_label(tokenizer):
    unlabelled = record()
    with pytest.raises(
        ValueError, match="VCR record 'val-7': has no 'answer_label': say with `answer`"
    ):
        encode_record(unlabelled, tokenizer, "qa2r")
    assert [words(tokenizer, e) for e in encode_record(unlabelled, tokenizer, "q2a")] == [
        ["Why ?", "a"],
        ["Why ?", "b"],
    ]
    for answer, text in enumerate("ab"):
        found = [
            words(tokenizer, e) for e in encode_record(unlabelled, tokenizer, "qa2r", answer=answer)
        ]
        assert found == [["Why ?", text, "c"], ["Why ?", text, "d"]]
        assert (
            encode_record(record(answer_label=answer), tokenizer, "qa2r")[0]["input_ids"]
            == (encode_record(unlabelled, tokenizer, "qa2r", answer=answer)[0]["input_ids"])
        )
    given = encode_record(record(answer_label=0), tokenizer, "qa2r", answer=1)
    assert words(tokenizer, given[0]) == ["Why ?", "b", "c"]
    with pytest.raises(ValueError, match="answer 2 is none of its 2 answer_choices"):
        encode_record(unlabelled, tokenizer, "qa2r", answer=2)


@pytest.mark.parametrize(
    ("lengths", "room", "left"),
    [
        ((5, 5), 10, (5, 5)),
        ((5, 5), 9, (5, 4)),  # a tie: the answer
        ((5, 5), 8, (4, 4)),
        ((9, 2), 6, (4, 2)),
        ((2, 9), 5, (2, 3)),
        ((2, 9), 4, (2, 2)),
        ((3, 3, 9), 13, (3, 3, 7)),
        ((3, 3, 9), 12, (3, 3, 6)),
        ((3, 3, 9), 11, (2, 3, 6)),  # 6 is not longer than 6: the question
        ((3, 3, 9), 10, (2, 3, 5)),
        ((4, 5, 1), 6, (1, 4, 1)),  # the question keeps one token
        ((0, 4, 2), 4, (0, 2, 2)),
        ((1, 0, 9), 2, (1, 0, 1)),
    ],
)
def test_shorten(lengths, room, left):
    segments = [list(range(n)) for n in lengths]
    assert shorten(segments, room) == (lengths != left)
    assert segments == [list(range(n)) for n in left]


def test_each_choice_is_shortened_by_itself_with_its_types(tokenizer):
    question, long = ([1], "is", "here"), (*["house"] * 30, [2])
    short, cut = encode_record(record(question, (("a",), long)), tokenizer, "q2a", max_length=24)
    (full,) = encode_record(record(question, (long,)), tokenizer, "q2a")
    assert (short["shortened"], cut["shortened"], full["shortened"]) == (False, True, False)
    assert short == encode_record(record(question, (("a",),)), tokenizer, "q2a")[0]
    assert len(cut["input_ids"]) == len(cut["token_type_ids"]) == 24
    for key in ("input_ids", "token_type_ids"):
        assert cut[key] == full[key][:23] + full[key][-1:]
    # The object is tagged in the choice, also where the word that names it was dropped.
    assert (
        cut["objects"] == [1, 2]
        and 3 not in cut["token_type_ids"]
        and full["token_type_ids"].count(3) > 0
    )


@pytest.mark.parametrize(("task", "fewest"), [("q2a", 5), ("qa2r", 7)])
def test_the_shortest_that_can_be_asked_for(tokenizer, task, fewest):
    long = record(["house"] * 9, [["house"] * 9] * 2, [["house"] * 9] * 2, answer_label=0)
    assert {len(e["input_ids"]) for e in encode_record(long, tokenizer, task, fewest)} == {fewest}
    with pytest.raises(
        ValueError, match=f"max_length {fewest - 1}: {task} needs at least {fewest} tokens"
    ):
        encode_record(long, tokenizer, task, fewest - 1)


def test_a_record_without_a_word_is_legal(tokenizer):
    empty = record(question=["\ue000"], answers=[["\U000f0001"], []])
    cls, sep = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert [e["input_ids"] for e in encode_record(empty, tokenizer, "q2a")] == [[cls, sep, sep]] * 2


def test_one_batch_is_padded_to_its_longest_text_and_most_objects(tokenizer):
    examples = [e for e in EXAMPLES if e["name"] in ("multi_tag", "no_tags_in_one_choice")]
    questions = [encode_record(e["record"], tokenizer, "q2a") for e in examples]
    masks = [patch_mask(e["boxes"], e["width"], e["height"], 4, 4) for e in examples]
    batch = pad_choices(questions, masks, pad_token_id=9)
    assert {name: (value.shape, value.dtype.name) for name, value in batch.items()} == {
        "input_ids": ((2, 4, 51), "int64"),
        "attention_mask": ((2, 4, 51), "int64"),
        "token_type_ids": ((2, 4, 51), "int64"),
        "object_patch_mask": ((2, 4, 4, 16), "bool"),
        "object_token_type_ids": ((2, 4, 4), "int64"),
        "object_mask": ((2, 4, 4), "int64"),
    }
    for b, (choices, mask) in enumerate(zip(questions, masks, strict=True)):
        for c, encoding in enumerate(choices):
            length, count = len(encoding["input_ids"]), len(encoding["objects"])
            assert batch["input_ids"][b, c].tolist() == encoding["input_ids"] + [9] * (51 - length)
            assert batch["attention_mask"][b, c].tolist() == [1] * length + [0] * (51 - length)
            assert batch["token_type_ids"][b, c].tolist() == encoding["token_type_ids"] + [0] * (
                51 - length
            )
            assert batch["object_token_type_ids"][b, c].tolist() == encoding[
                "object_token_type_ids"
            ] + [0] * (4 - count)
            assert batch["object_mask"][b, c].tolist() == [1] * count + [0] * (4 - count)
            assert (batch["object_patch_mask"][b, c, :count] == mask[encoding["objects"]]).all()
            assert not batch["object_patch_mask"][b, c, count:].any()


def test_a_batch_may_have_no_object(tokenizer):
    batch = pad_choices([encode_record(record(), tokenizer, "q2a")], [np.zeros((3, 16), bool)], 0)
    assert batch["object_patch_mask"].shape == (1, 2, 0, 16) and batch["object_mask"].shape == (
        1,
        2,
        0,
    )


def test_a_batch_has_one_number_of_choices_and_patches(tokenizer):
    two, one = (encode_record(record(answers=[["a"]] * n), tokenizer, "q2a") for n in (2, 1))
    mask = np.zeros((3, 16), bool)
    for questions, masks in (([two, one], [mask, mask]), ([two, two], [mask, mask[:, :9]])):
        with pytest.raises(ValueError, match="one number of choices and of patches in a batch"):
            pad_choices(questions, masks, 0)
