"""shapes-vcr: VCR's format, and answers that nothing but the tagged boxes tells."""

import re
from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image

from vle_bench.data.official.vcr import check_official, read_metadata
from vle_bench.data.prepare.shapes_scene import (
    SHIRTS,
    THINGS,
    WORDS,
    draw,
    make_scene,
    part,
    thing_box,
)
from vle_bench.data.prepare.shapes_vcr import HIDDEN, as_written, ask, records, write_shapes_vcr
from vle_bench.demo.baselines import KINDS, majority_baseline, text_baseline
from vle_bench.json_files import jsonl_records

SMALL = {"train": 40, "val": 21, "test": 11}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes_vcr(tmp_path_factory.mktemp("shapes") / "vcr", 3, SMALL)


@pytest.fixture(scope="module")
def asked():
    return ask("train", 5, 3000)


@pytest.fixture(scope="module")
def splits(asked):
    return records("train", 5, asked), records("val", 5, ask("val", 5, 2000))


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def people(scene):
    """Index in `objects` → the person drawn there."""
    return dict(zip(scene.indices, scene.people, strict=True))


def said(question, answer):
    """What a question and an answer to it claim: {(tag, colour of the thing)}; written without the generator's templates."""
    tags = [tag for token in question + answer if isinstance(token, list) for tag in token]
    colors = [word for word in question + answer if isinstance(word, str) and word in THINGS]
    assert len(set(tags)) == len(colors) in (1, 2)
    return sorted(set(tags)), colors


def is_true(scene, question, answer):
    tags, colors = said(question, answer)
    return sorted(people(scene)[tag].color for tag in tags) == sorted(colors)


def is_dressed(scene, rationale):
    ((tag,),) = [token for token in rationale if isinstance(token, list)]
    (shirt,) = [token for token in rationale if isinstance(token, str) and token in SHIRTS]
    return people(scene)[tag].shirt == shirt


def test_every_record_is_official(folder):
    for split, count in SMALL.items():
        found = [record for _, record in jsonl_records(folder / f"{split}.jsonl")]
        assert [record["annot_id"] for record in found] == [f"{split}-{i}" for i in range(count)]
        for record in found:
            meta = read_metadata(folder / "vcr1images" / record["metadata_fn"])
            check_official(record, meta)
            with Image.open(folder / "vcr1images" / record["img_fn"]) as image:
                assert image.size == (meta["width"], meta["height"]) and image.mode == "RGB"
            assert re.fullmatch(
                rf"shapes_{record['movie']}/{record['movie']}@\d+\.jpg", record["img_fn"]
            )
            assert set(record["objects"]) <= {"person", "chair", "pottedplant", *WORDS} and record[
                "objects"
            ].count("person") in (
                5,
                6,
            )
            for box in meta["boxes"]:
                assert (
                    len(box) == 5
                    and 0 <= box[0] < box[2] <= meta["width"]
                    and 0 <= box[1] < box[3] <= meta["height"]
                )
            assert len(meta["segms"]) == len(meta["boxes"]) and all(
                len(polygon) > 2 for (polygon,) in meta["segms"]
            )


def test_only_the_test_split_has_no_labels(folder):
    keys = {
        split: {frozenset(record) for _, record in jsonl_records(folder / f"{split}.jsonl")}
        for split in SMALL
    }
    assert keys["train"] == keys["val"] and len(keys["train"]) == len(keys["test"]) == 1
    assert next(iter(keys["train"])) - next(iter(keys["test"])) == set(HIDDEN)


def test_the_seed_decides_every_byte(folder, tmp_path):
    first = content(folder)
    assert content(write_shapes_vcr(tmp_path / "again", 3, SMALL)) == first
    other = content(write_shapes_vcr(tmp_path / "other", 4, SMALL))
    assert not any(other.get(name) == value for name, value in first.items())


def test_a_split_does_not_depend_on_the_others(folder, tmp_path):
    alone = content(write_shapes_vcr(tmp_path / "alone", 3, {"val": SMALL["val"]}))
    assert alone.items() <= content(folder).items()


def test_the_labels_are_balanced_and_independent(asked):
    for label in ("answer_label", "rationale_label"):
        assert set(Counter(getattr(one, label) for one in asked).values()) == {len(asked) // 4}
    pairs = Counter((one.answer_label, one.rationale_label) for one in asked)
    assert len(pairs) == 16 and max(pairs.values()) < 1.35 * len(asked) / 16


def test_the_right_answer_alone_is_true_and_every_choice_is_somebodys(asked):
    for one in asked:
        truths = [is_true(one.scene, one.question, answer) for answer in one.answers]
        assert truths == [i == one.answer_label for i in range(4)], one
        held = {person.color: WORDS[person.thing] for person in one.scene.people}
        for answer in one.answers:
            tags, colors = said(one.question, answer)
            assert set(tags) <= set(one.scene.indices) and set(colors) <= set(held)
            named = [
                word
                for word in one.question + answer
                if isinstance(word, str) and word in WORDS.values()
            ]
            assert named in ([], [held[colors[0]]])


def test_the_right_rationale_alone_is_true_and_every_choice_is_somebodys(asked):
    for one in asked:
        assert [is_dressed(one.scene, r) for r in one.rationales] == [
            i == one.rationale_label for i in range(4)
        ], one
        shirts = {person.shirt for person in one.scene.people}
        assert all(
            {w for w in r if isinstance(w, str)} & set(SHIRTS) <= shirts for r in one.rationales
        )


def test_a_rationale_is_about_nobody_whom_question_and_answer_tell(asked):
    """Else the thing in the answer would find the person in the picture, and the shirt beside it the rationale."""
    for one in asked:
        told, _ = said(one.question, one.answers[one.answer_label])
        dressed = {people(one.scene)[tag].shirt for tag in told}
        for rationale in one.rationales:
            assert not {t for token in rationale if isinstance(token, list) for t in token} & set(
                told
            )
            assert not dressed & {word for word in rationale if isinstance(word, str)}


def test_colours_and_things_are_there_once(asked):
    for one in asked:
        for values in zip(*((p.shirt, p.color, p.thing) for p in one.scene.people), strict=True):
            assert len(set(values)) == len(values)


def test_exchanged_boxes_change_the_truth(asked):
    """Nothing but the boxes says who is who: with the boxes of two people exchanged another choice is right, or none."""
    for one in asked[:300]:
        told, _ = said(one.question, one.answers[one.answer_label])
        other = next(i for i in one.scene.indices if i not in told)
        swapped = people(one.scene)
        swapped[told[0]], swapped[other] = swapped[other], swapped[told[0]]
        colors = said(one.question, one.answers[one.answer_label])[1]
        assert sorted(swapped[tag].color for tag in told) != sorted(colors)


def test_names_and_places_are_independent(asked):
    """The n-th person of a record is anywhere, in any shirt."""
    scenes = {one.image: one.scene for one in asked}.values()
    firsts = [
        min(zip(s.indices, s.people, strict=True), key=lambda pair: pair[0])[1] for s in scenes
    ]
    for values in (Counter(p.shirt for p in firsts), Counter(p.color for p in firsts)):
        assert max(values.values()) < 1.35 * len(firsts) / 6
    left = sum(p.box[0] < s.width / 2 for p, s in zip(firsts, scenes, strict=True)) / len(firsts)
    everyone = [p.box[0] < s.width / 2 for s in scenes for p in s.people]
    assert left == pytest.approx(sum(everyone) / len(everyone), abs=0.06)


def test_text_tells_nothing(splits):
    train, val = splits
    for task, kind in KINDS.items():
        labels = [[record[f"{kind}_label"] for record in split] for split in splits]
        assert majority_baseline(*labels) == pytest.approx(0.25, abs=0.005)
        assert text_baseline(train, val, task) == pytest.approx(
            0.25, abs=0.04
        )  # four standard errors


def test_the_text_control_finds_what_text_tells(splits):
    """A control that is at chance whatever it reads would be none."""
    train, val = (
        [{**r, "answer_choices": [*r["answer_choices"]]} for r in split] for split in splits
    )
    for record in (*train, *val):
        right = record["answer_label"]
        record["answer_choices"][right] = [*record["answer_choices"][right], "surely"]
    assert text_baseline(train, val, "q2a") == 1
    assert text_baseline(train, val, "qa2r") < 0.3
    assert majority_baseline([2, 2, 1], [2, 1, 1, 0]) == 0.25


def test_distractors_come_from_other_questions(splits):
    train, _ = splits
    blank = [
        [t if isinstance(t, str) else [] for t in r[f"{kind}_choices"][r[f"{kind}_label"]]]
        for kind in ("answer",)
        for r in train
    ]
    for index, record in enumerate(train):
        for i, (choice, source) in enumerate(
            zip(record["answer_choices"], record["answer_sources"], strict=True)
        ):
            assert (
                (source == index)
                == (i == record["answer_label"])
                == (record["answer_match_iter"][i] == 0)
            )
            if source >= 0:
                assert blank[source] == [t if isinstance(t, str) else [] for t in choice]
        assert sorted(record["rationale_match_iter"]) == [0, 1, 2, 3]


def test_a_box_shows_its_own_persons_colours():
    """The drawn shirt and thing are where the boxes say, whatever was drawn around them."""
    rng = Random(0)
    for k in range(40):
        scene = make_scene(rng, str(k))
        pixels = np.asarray(draw(scene)).astype(int)
        for person in scene.people:
            x1, y1, x2, y2 = map(round, thing_box(person))
            near = np.abs(pixels[y1:y2, x1:x2] - THINGS[person.color]).max(-1) < 30
            assert near.mean() > 0.2, person
            x1, y1, x2, y2 = map(round, part(person, 0.1, 0.4, 0.4, 0.6))
            assert (
                np.abs(pixels[y1:y2, x1:x2] - SHIRTS[person.shirt]).max(-1) < 30
            ).mean() > 0.8, person


def test_annotators_count_from_one():
    assert as_written(["What", "are", [0, 2], "holding", "?"]) == "What are 1 and 3 holding?"
