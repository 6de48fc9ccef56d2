"""shapes-captions: drawn scenes with captions in Visual Genome's official files, for pre-training.

Drawing, sizes and words are those of shapes-VCR. A picture is a function of (seed, split, number):
there are any number of them, and more of them begin with the same ones.
"""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

from vle_bench import atomic
from vle_bench.data.prepare.manifest import AS_USUAL, Choices, Options, keep_official
from vle_bench.data.prepare.shapes_phrases import (
    Caption,
    captions,
    is_held_out,
    named_objects,
    regions,
    two_people,
)
from vle_bench.data.prepare.shapes_scene import LEAST, Box, Scene, draw, make_scene, thing_box
from vle_bench.data.prepare.visual_genome import (
    CAPTIONS,
    IMAGE_DATA,
    OBJECTS,
    REGIONS,
    prepare_visual_genome,
)
from vle_bench.data.prepared import Manifest
from vle_bench.json_files import JsonObject
from vle_bench.progress import Bar

PICTURES = 12_000  # of train, unless a number is given
# Pictures of the probes. Those of `test` have combinations of a colour and a thing that no picture
# of train or val has.
PROBED = {"val": 400, "test": 200}
# People in a picture at least. Among few people a false caption is false by a single word, and what
# a model learns there it needs to tell more apart. `test` asks for what is hardest.
FEWEST = {"train": 1, "val": 1, "test": LEAST}
PHRASES = 5  # of single objects in a picture: as many as captions
FIRST_ID = {"train": 1, "val": 10_000_001, "test": 20_000_001}  # of Visual Genome's image ids
FOLDER = "VG_100K"
PROBES = "probes.json"
SHORTEST = 4  # words of "The red cup."; a noun in it is asked for by nothing but the colour


@dataclass(frozen=True)
class Picture:
    """A scene with what is said about it.

    Args:
        regions: phrases of some single objects with their boxes.
        pair: a sentence about two people with the frame around both; None if no two are in line.
    """

    image_id: int
    scene: Scene
    captions: list[Caption]
    regions: list[tuple[str, Box]]
    pair: tuple[str, Box] | None

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.image_id}.jpg"


def prepare(official: Path | None, output: Path, choices: Choices, options: Options) -> Manifest:
    pictures = options["--pictures"] or PICTURES
    probed = {split: min(count, pictures) for split, count in PROBED.items()}
    seed = options["--seed"] or 0
    return prepare_shapes_captions(output, seed, pictures, official, choices, probed=probed)


def prepare_shapes_captions(
    output: Path,
    seed: int,
    pictures: int = PICTURES,
    source: Path | None = None,
    choices: Choices = AS_USUAL,
    *,
    probed: Mapping[str, int] = PROBED,
) -> Manifest:
    """Write the prepared form and return the manifest; see `write_shapes_captions`.

    Args:
        pictures: number of pictures of train.
        source: folder for the files in Visual Genome's form, and those of the probes; they are
            kept there. None: a temporary folder.
        probed: split → number of pictures of the splits for probes.
    """
    with tempfile.TemporaryDirectory() as temporary:
        counts = {"train": pictures, **probed}
        folder = write_shapes_captions(Path(temporary) / "official", seed, counts)
        if source is not None:
            keep_official(folder, source)
        made_from: JsonObject = {"--seed": seed, "pictures": dict(sorted(counts.items()))}
        return prepare_visual_genome(
            folder, output, choices, source="shapes-captions", made_from=made_from
        )


def picture(seed: int, split: str, number: int) -> Picture:
    """Make the picture `number` of a split."""
    rng = Random(f"shapes-captions/{seed}/{split}/{number}")
    new = split == "test"
    while True:  # a third of the scenes of six people have no combination that is held out
        scene = make_scene(rng, f"captions/{seed}/{split}/{number}", FEWEST[split])
        held_out = [i for i, person in enumerate(scene.people) if is_held_out(person)]
        if bool(held_out) == new:
            break
    order = rng.sample(range(len(scene.people)), len(scene.people))
    order.sort(key=lambda i: i not in held_out)  # new combinations are spoken of first
    return Picture(
        FIRST_ID[split] + number,
        scene,
        captions(scene, rng, order),
        some_of(regions(scene, rng), rng),
        two_people(scene, rng),
    )


def some_of(phrases: list[tuple[str, Box]], rng: Random) -> list[tuple[str, Box]]:
    """Choose `PHRASES` of them, in their order."""
    chosen = sorted(rng.sample(range(len(phrases)), min(PHRASES, len(phrases))))
    return [phrases[i] for i in chosen]


def write_shapes_captions(folder: Path, seed: int, pictures: Mapping[str, int]) -> Path:
    """Write a folder in Visual Genome's form for each split, complete or not at all.

    `image_data.json`, `objects.json`, `region_descriptions.json`, `captions.json` and `VG_100K/`;
    for splits of the probes `probes.json` beside them. The same seed and library versions give the
    same bytes.

    Args:
        pictures: split → number of pictures.
    """
    total = sum(pictures.values())
    with atomic.folder(folder, durable=False) as partial, Bar("draw pictures", total) as bar:
        for split, count in pictures.items():
            (partial / split / FOLDER).mkdir(parents=True)
            made = []
            for number in range(count):
                made.append(picture(seed, split, number))
                image = draw(made[-1].scene)
                image.save(partial / split / made[-1].path, quality=92, subsampling=0)
                bar.advance()
            files: dict[str, JsonObject | list[JsonObject]] = {**official_files(made)}
            if split in PROBED:
                files[PROBES] = probes_of(made)
            for name, content in files.items():
                text = json.dumps(content, ensure_ascii=False)
                (partial / split / name).write_text(text, encoding="utf-8")
    return folder


def official_files(pictures: list[Picture]) -> dict[str, list[JsonObject]]:
    """Return file name → content, in Visual Genome's form; the captions are in ALBEF's."""
    return {
        IMAGE_DATA: [image_data(one) for one in pictures],
        OBJECTS: [object_record(one) for one in pictures],
        REGIONS: [region_record(one) for one in pictures],
        CAPTIONS: [
            {"image": one.path, "caption": caption.text}
            for one in pictures
            for caption in one.captions
        ],
    }


def image_data(one: Picture) -> JsonObject:
    return {
        "image_id": one.image_id,
        "url": f"https://example.invalid/{one.path}",
        "width": one.scene.width,
        "height": one.scene.height,
        "coco_id": None,
        "flickr_id": None,
    }


def object_record(one: Picture) -> JsonObject:
    objects = []
    for number, (name, box) in enumerate(named_objects(one.scene)):
        x, y, width, height = rectangle(box, one.scene)
        objects.append(
            {
                "object_id": numbered(one.image_id, number),
                "x": x,
                "y": y,
                "w": width,
                "h": height,
                "names": [name],
                "synsets": [f"{name}.n.01"],
                "merged_object_ids": [],
            }
        )
    return {"image_id": one.image_id, "objects": objects}


def region_record(one: Picture) -> JsonObject:
    regions = []
    pair = [one.pair] if one.pair else []
    for number, (phrase, box) in enumerate([*one.regions, *pair]):
        x, y, width, height = rectangle(box, one.scene)
        regions.append(
            {
                "region_id": numbered(one.image_id, number),
                "image_id": one.image_id,
                "x": x,
                "y": y,
                "width": width,
                "height": height,
                "phrase": phrase,
            }
        )
    return {"id": one.image_id, "regions": regions}


def numbered(image_id: int, number: int) -> int:
    """Return the id of an object or region, unique over all pictures."""
    return image_id * 100 + number


def rectangle(box: Box, scene: Scene) -> tuple[int, int, int, int]:
    """Return x, y, width and height in whole pixels, inside the picture."""
    left, top = max(round(box[0]), 0), max(round(box[1]), 0)
    right, bottom = min(round(box[2]), scene.width), min(round(box[3]), scene.height)
    return left, top, right - left, bottom - top


def stranger(one: Picture, caption: Caption, others: list[Picture]) -> Picture | None:
    """Return the first of other pictures that has none of the things which a caption names."""
    if not caption.nouns:
        return None
    named = {things_of(one)[i] for i in caption.people}
    return next((other for other in others if not named & {*things_of(other)}), None)


def things_of(one: Picture) -> list[tuple[str, str]]:
    """Return colour and class of what each person holds."""
    return [(person.color, person.thing) for person in one.scene.people]


def probes_of(pictures: list[Picture]) -> JsonObject:
    """Return what only one objective can answer, as rows for each kind of probe.

    - `strangers`: a caption that names things, and another picture, which has none of them.
    - `matches`: each caption with each of its false copies, of which one word differs.
    - `nouns`: a caption of one person, and the word in it for the thing.
    - `phrases`: a phrase of a thing, a shirt, or both, with its box.
    - `objects`: the box of one of two things that a caption names, with its class.
    """
    kinds = ("strangers", "matches", "nouns", "phrases", "objects")
    rows: dict[str, list[JsonObject]] = {kind: [] for kind in kinds}
    for number, one in enumerate(pictures):
        where: JsonObject = {"image": one.path, "image_id": one.image_id}
        for caption in one.captions:
            if other := stranger(one, caption, pictures[number + 1 :] + pictures[:number]):
                rows["strangers"].append({**where, "caption": caption.text, "stranger": other.path})
            for change, (_, kind, _) in enumerate(caption.changes):
                false = caption.negative(change)
                rows["matches"].append(
                    {**where, "caption": caption.text, "negative": false, "kind": kind}
                )
            if len(caption.people) == 1 and len(caption.words) > SHORTEST:
                noun = caption.words[caption.nouns[0]]
                rows["nouns"].append({**where, "caption": caption.text, "noun": noun})
            if len(caption.nouns) > 1:
                asked = one.image_id % 2  # the first thing and the second in turn
                box = thing_box(one.scene.people[caption.people[asked]])
                rows["objects"].append(
                    {
                        **where,
                        "caption": caption.text,
                        "box": list(box),
                        "name": caption.words[caption.nouns[asked]],
                    }
                )
        for phrase, box in one.regions:
            rows["phrases"].append({**where, "phrase": phrase, "box": list(box)})
    return {**rows}
