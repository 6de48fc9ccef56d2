"""shapes-captions: what is said of a picture is true, and each changed word makes it false."""

import json
import re
from collections import Counter
from random import Random

import numpy as np
import pytest
from PIL import Image

from tests.unit.data.prepare.test_shapes_vcr import content
from vle_bench.data.prepare.shapes_captions import (
    PROBED,
    PROBES,
    official_files,
    picture,
    stranger,
    write_shapes_captions,
)
from vle_bench.data.prepare.shapes_phrases import HELD_OUT, NOUNS, relation_of
from vle_bench.data.prepare.shapes_scene import (
    SHIRTS,
    THINGS,
    WORDS,
    draw,
    make_scene,
    part,
    thing_box,
)

CLASS_OF = {word: name for name, word in WORDS.items()}
SMALL = {"train": 12, "val": 5, "test": 4}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_shapes_captions(tmp_path_factory.mktemp("shapes") / "captions", 3, SMALL)


@pytest.fixture(scope="module")
def pictures():
    return [picture(5, split, i) for split in SMALL for i in range(120)]


def read(folder, split, name):
    return json.loads((folder / split / name).read_text(encoding="utf-8"))


def center(box):
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def is_true(scene, text):
    """Whether a sentence holds, read without the generator's templates: by its words alone."""
    words = re.findall(r"\w+", text)
    held = {(person.color, person.thing): person for person in scene.people}
    dressed = {person.shirt: person for person in scene.people}
    shirts = [word for word in words if word in SHIRTS]
    things = [(words[i - 1], CLASS_OF[word]) for i, word in enumerate(words) if word in CLASS_OF]
    if any(pair not in held for pair in things) or any(shirt not in dressed for shirt in shirts):
        return False
    relation = {"left", "right", "above", "below"} & set(words)
    if relation:
        a, b = (center(dressed[shirt].box) for shirt in shirts)
        return {
            "left": a[0] < b[0],
            "right": a[0] > b[0],
            "above": a[1] < b[1],
            "below": a[1] > b[1],
        }[relation.pop()]
    if shirts and things:
        return [held[pair] for pair in things] == [dressed[shirt] for shirt in shirts]
    return True


def test_every_sentence_is_true_and_every_changed_one_is_false(pictures):
    kinds = Counter()
    for one in pictures:
        assert len(one.captions) == 5 or len(one.scene.people) < 4  # four are in line in any case
        assert one.pair is None or is_true(one.scene, one.pair[0]), one.pair
        for phrase, _ in one.regions:
            assert is_true(one.scene, phrase.replace("plant", "").replace("chair", "")), phrase
        for caption in one.captions:
            assert is_true(one.scene, caption.text), caption.text
            for change, (_, kind, _) in enumerate(caption.changes):
                false = caption.negative(change)
                differing = [
                    (a, b)
                    for a, b in zip(caption.text.split(), false.split(), strict=True)
                    if a != b
                ]
                assert len(differing) == 1 and not is_true(one.scene, false), false
                words = re.findall(r"\w+", false)
                assert len(set(words) - {"in", "the"}) == len(
                    [word for word in words if word not in ("in", "the")]
                ), "no word occurs twice"
                kinds[kind] += 1
    in_line = sum(one.pair is not None for one in pictures)
    assert set(kinds) == {"color", "class", "relation"} and min(kinds.values()) == in_line
    assert in_line > len(pictures) / 2


def test_train_and_val_have_few_people_and_many_and_test_has_many():
    people = {
        split: Counter(len(picture(5, split, i).scene.people) for i in range(240))
        for split in SMALL
    }
    assert set(people["train"]) == set(people["val"]) == set(range(1, 7))
    assert min(people["train"].values()) > 15 and set(people["test"]) == {5, 6}


@pytest.mark.parametrize(("people", "captions"), [(1, {2}), (2, {3, 4}), (3, {4, 5}), (4, {5})])
def test_few_people_have_fewer_captions_and_no_sentence_twice(people, captions):
    made = [
        one
        for one in (picture(2, "train", i) for i in range(150))
        if len(one.scene.people) == people
    ]
    assert {len(one.captions) for one in made} == captions
    for one in made:
        spoken = [(caption.people, len(caption.words)) for caption in one.captions]
        assert len(set(spoken)) == len(spoken)
        assert (one.pair is None) == (len(one.captions) == min(captions) and people < 4)
        if people == 1:
            assert not any(caption.changes for caption in one.captions)


def test_a_picture_has_as_many_phrases_as_captions(pictures):
    assert {len(one.regions) for one in pictures if len(one.scene.people) > 1} == {5}
    assert {phrase.split()[1] for one in pictures for phrase, _ in one.regions} > {"in", "holding"}


def test_a_changed_word_is_true_of_something_else_in_the_picture(pictures):
    for one in pictures:
        colors = {p.color for p in one.scene.people} | {p.shirt for p in one.scene.people}
        things = {WORDS[p.thing] for p in one.scene.people}
        for caption in one.captions:
            for _, kind, word in caption.changes:
                assert kind == "relation" or word in (colors if kind == "color" else things)


def test_a_phrase_has_the_box_of_what_it_names(pictures):
    for one in pictures:
        scene = one.scene
        for phrase, box in one.regions:
            words = phrase.split()
            if words[-1] in ("chair", "plant"):
                assert [box] == [b for name, b in scene.furniture if NOUNS[name] == words[-1]]
                continue
            (person,) = [
                p for p in scene.people if p.shirt in words or {p.color, WORDS[p.thing]} <= {*words}
            ]
            assert box == (thing_box(person) if words[0] == "the" else person.box), phrase
        if one.pair is None:
            continue
        text, frame = one.pair
        shirts = [word for word in re.findall(r"\w+", text) if word in SHIRTS]
        boxes = np.array([p.box for p in scene.people if p.shirt in shirts])
        assert len(boxes) == 2
        assert frame == (*boxes[:, :2].min(0).tolist(), *boxes[:, 2:].max(0).tolist())


def test_the_boxes_are_where_things_are_drawn():
    """The colour of a thing is in its box, and its shirt on the body of the same person."""
    for number in range(10):
        one = picture(0, "val", number)
        pixels = np.asarray(draw(one.scene)).astype(int)
        for phrase, (x1, y1, x2, y2) in one.regions:
            color = {**THINGS, **SHIRTS}.get(phrase.split()[-1 if " in " in phrase else 1])
            if color is None or "holding" in phrase:
                continue
            seen = pixels[round(y1) : round(y2), round(x1) : round(x2)].reshape(-1, 3)
            assert (np.abs(seen - color).max(1) < 12).mean() > 0.1, phrase


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        ((0, 0, 10, 10), (20, 2, 30, 12), "left"),
        ((20, 2, 30, 12), (0, 0, 10, 10), "right"),
        ((0, 0, 10, 10), (3, 20, 12, 30), "above"),
        ((3, 20, 12, 30), (0, 0, 10, 10), "below"),
        ((0, 0, 10, 10), (20, 20, 30, 30), None),
        ((0, 0, 10, 10), (5, 5, 30, 30), None),
    ],
)
def test_relations_are_of_one_row_or_column(a, b, relation):
    assert relation_of(a, b) == relation


def test_held_out_combinations_are_in_test_alone():
    assert len(HELD_OUT) == 6 == len({c for c, _ in HELD_OUT}) == len({t for _, t in HELD_OUT})
    for split in SMALL:
        for number in range(80):
            one = picture(1, split, number)
            pairs = {(p.color, p.thing) for p in one.scene.people}
            assert bool(pairs & HELD_OUT) == (split == "test")
    # and they are asked for there
    new = [picture(1, "test", i) for i in range(40)]
    asked = [r for one in new for c in one.captions for r in c.people if c.nouns]
    held = [
        (p.color, p.thing) in HELD_OUT
        for one in new
        for c in one.captions
        if c.nouns
        for p in [one.scene.people[c.people[0]]]
    ]
    assert asked and sum(held) > 0.3 * len(held)


def test_the_files_are_visual_genomes(folder):
    for split, count in SMALL.items():
        images = read(folder, split, "image_data.json")
        objects, regions = (
            read(folder, split, f"{name}.json") for name in ("objects", "region_descriptions")
        )
        ids = [record["image_id"] for record in images]
        assert len(set(ids)) == count
        assert [r["image_id"] for r in objects] == [r["id"] for r in regions] == ids
        for record, things, described in zip(images, objects, regions, strict=True):
            with Image.open(folder / split / f"VG_100K/{record['image_id']}.jpg") as image:
                assert image.size == (record["width"], record["height"])
            assert {n for o in things["objects"] for n in o["names"]} <= set(NOUNS.values())
            boxes = [(o["x"], o["y"], o["w"], o["h"]) for o in things["objects"]]
            boxes += [(r["x"], r["y"], r["width"], r["height"]) for r in described["regions"]]
            for x, y, width, height in boxes:
                assert 0 <= x < x + width <= record["width"]
                assert 0 <= y < y + height <= record["height"]
            assert {r["image_id"] for r in described["regions"]} == {record["image_id"]}
        captions = read(folder, split, "captions.json")
        if split == "test":
            assert len(captions) == 5 * count
        assert all((folder / split / caption["image"]).is_file() for caption in captions)
        assert (folder / split / PROBES).is_file() == (split in PROBED)


def test_ids_are_unique_over_splits(folder):
    for name, key in (("objects", "object_id"), ("region_descriptions", "region_id")):
        every = [
            one[key]
            for split in SMALL
            for record in read(folder, split, f"{name}.json")
            for one in record["objects" if name == "objects" else "regions"]
        ]
        assert len(set(every)) == len(every)


def test_the_probes_are_of_their_pictures(folder):
    for number in range(SMALL["val"]):
        one = picture(3, "val", number)
        rows = {
            kind: [row for row in own if row["image_id"] == one.image_id]
            for kind, own in read(folder, "val", PROBES).items()
        }
        assert all(is_true(one.scene, row["caption"]) for row in rows["matches"])
        assert not any(is_true(one.scene, row["negative"]) for row in rows["matches"])
        for row in rows["strangers"]:
            other = picture(3, "val", int(row["stranger"].split("/")[-1][:-4]) - 10_000_001)
            assert is_true(one.scene, row["caption"]) and not is_true(other.scene, row["caption"])
            assert other.image_id != one.image_id
        assert len(rows["strangers"]) <= sum(bool(c.nouns) for c in one.captions)
        assert len(rows["matches"]) == sum(len(c.changes) for c in one.captions)
        for row in rows["nouns"]:
            assert re.findall(r"\w+", row["caption"]).count(row["noun"]) == 1
            assert row["noun"] in CLASS_OF and " is " in row["caption"]
        for row in rows["objects"]:
            (held,) = [p for p in one.scene.people if list(thing_box(p)) == row["box"]]
            assert row["name"] == WORDS[held.thing] and held.shirt in row["caption"]
            assert is_true(one.scene, row["caption"]) and " and " in row["caption"]
        assert [(row["phrase"], tuple(row["box"])) for row in rows["phrases"]] == one.regions


def test_a_stranger_makes_the_caption_false(pictures):
    """The next picture would not do: the thing of a caption is often there too."""
    passed_over = 0
    for number, one in enumerate(pictures):
        others = pictures[number + 1 :] + pictures[:number]
        for caption in one.captions:
            found = stranger(one, caption, others)
            assert (found is None) == (not caption.nouns)
            if found:
                assert not is_true(found.scene, caption.text), caption.text
                passed_over += found is not others[0]
    assert passed_over > len(pictures) / 10


def test_the_seed_decides_every_byte_and_more_pictures_begin_with_the_same(folder, tmp_path):
    first = content(folder)
    assert content(write_shapes_captions(tmp_path / "again", 3, SMALL)) == first
    longer = content(write_shapes_captions(tmp_path / "more", 3, SMALL | {"train": 15}))
    images = {name: value for name, value in first.items() if name.endswith(".jpg")}
    assert len(images) == sum(SMALL.values()) and images.items() <= longer.items()
    other = content(write_shapes_captions(tmp_path / "other", 4, {"train": 12}))
    assert not any(other[name] == first[name] for name in other if name.endswith(".jpg"))


def test_the_drawing_is_shapes_vcrs():
    scene = picture(0, "train", 0).scene
    again = make_scene(Random(1), "looks")
    assert {p.shirt for p in scene.people} <= set(SHIRTS) and type(scene) is type(again)
    assert 200 <= scene.width <= 280 and 220 <= scene.height <= 300
    assert part(scene.people[0], 0, 0, 1, 1) == scene.people[0].box


def test_the_files_alone_need_no_drawing():
    files = official_files([picture(0, "train", i) for i in range(3)])
    assert set(files) == {
        "image_data.json",
        "objects.json",
        "region_descriptions.json",
        "captions.json",
    }
