"""Questions in VCR's format that only looking into the box of a tag can answer.

Every choice is true of somebody in the picture and the objects are in random order: the text alone,
the picture alone, and both without the boxes leave four equally good choices. A rationale speaks of
somebody whom neither the question nor the answer mentions; otherwise "the red cup" would find the
person in the picture, and the shirt beside it the rationale.
"""

import json
import re
import tempfile
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from PIL import Image

from vle_bench import atomic
from vle_bench.data.official.vcr import CHOICES
from vle_bench.data.prepare.manifest import AS_USUAL, Choices, Options, keep_official
from vle_bench.data.prepare.shapes_scene import MOST, WORDS, Box, Person, Scene, draw, make_scene
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepared import Manifest
from vle_bench.json_files import JsonObject

Tokens = list[str | list[int]]
QUESTIONS = {"train": 12_000, "val": 1_500, "test": 500}
AN_IMAGE = (2, 3, 3)  # questions of an image: 2.67 on average, VCR has 2.6
IMAGES_A_MOVIE = 100
# Share of questions about two people if there are six; more of them slow down learning the others.
BOTH = 0.15
GREY = (128, 128, 128)
LIKELIHOODS = ("unlikely", "possible", "likely")
# What the official test records lack.
HIDDEN = (
    "answer_orig",
    "rationale_orig",
    "answer_label",
    "rationale_label",
    "answer_sources",
    "rationale_sources",
    "answer_match_iter",
    "rationale_match_iter",
    "answer_likelihood",
)


@dataclass(frozen=True)
class Asked:
    """A question about the picture `image` of its split, with ordered choices and their labels."""

    scene: Scene
    image: int
    number: int  # among the questions of its image
    question: Tokens
    answers: list[Tokens]
    answer_label: int
    rationales: list[Tokens]
    rationale_label: int


def prepare(official: Path | None, output: Path, choices: Choices, options: Options) -> Manifest:
    return prepare_shapes_vcr(output, options["--seed"] or 0, official, choices)


def prepare_shapes_vcr(
    output: Path,
    seed: int,
    source: Path | None = None,
    choices: Choices = AS_USUAL,
    *,
    questions: Mapping[str, int] = QUESTIONS,
    blank: bool = False,
) -> Manifest:
    """Write the prepared form and return the manifest; see `write_shapes_vcr`.

    Args:
        source: folder for the files in VCR's layout; they are kept there. None: a temporary folder.
    """
    with tempfile.TemporaryDirectory() as temporary:
        folder = write_shapes_vcr(Path(temporary) / "official", seed, questions, blank=blank)
        if source is not None:
            keep_official(folder, source)
        made_from = {"--seed": seed, "questions": dict(sorted(questions.items())), "blank": blank}
        return prepare_vcr(folder, output, choices, "shapes-vcr", made_from)


def write_shapes_vcr(
    folder: Path, seed: int, questions: Mapping[str, int] = QUESTIONS, *, blank: bool = False
) -> Path:
    """Write `{split}.jsonl` and `vcr1images/`, completely or not at all; return the folder.

    The same seed and library versions give the same bytes. The split `test` has no labels, as the
    official one.

    Args:
        questions: split → number of questions.
        blank: grey pictures with nothing in them, the control of what texts and boxes give away.
    """
    with atomic.folder(folder, durable=False) as partial:
        for split, count in questions.items():
            asked = ask(split, seed, count)
            lines = [
                json.dumps(record, ensure_ascii=False) + "\n"
                for record in records(split, seed, asked)
            ]
            (partial / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
            for one in asked:
                if one.number == 0:
                    _write_image(
                        partial / "vcr1images" / image_name(split, one.image), one.scene, blank
                    )
    return folder


def _write_image(path: Path, scene: Scene, blank: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (scene.width, scene.height), GREY) if blank else draw(scene)
    picture.save(path, quality=92, subsampling=0)
    path.with_suffix(".json").write_text(json.dumps(metadata(scene)), encoding="utf-8")


def metadata(scene: Scene) -> JsonObject:
    """Return VCR's metadata of a picture; the fifth number of a box is the detector's score."""
    return {
        "boxes": [[*box, 0.99] for box in scene.boxes],
        "segms": [[_octagon(box)] for box in scene.boxes],
        "names": list(scene.names),
        "width": scene.width,
        "height": scene.height,
    }


def _octagon(box: Box) -> list[list[float]]:
    """Return a polygon inside a box, [x, y] clockwise, in place of VCR's masks."""
    x1, y1, x2, y2 = box
    a, b, c, d = (
        round(v, 2)
        for v in (x1 + (x2 - x1) / 4, x2 - (x2 - x1) / 4, y1 + (y2 - y1) / 4, y2 - (y2 - y1) / 4)
    )
    return [[a, y1], [b, y1], [x2, c], [x2, d], [b, y2], [a, y2], [x1, d], [x1, c]]


def image_name(split: str, image: int) -> str:
    movie = f"{split.upper()}_{image // IMAGES_A_MOVIE:03}"
    return f"shapes_{movie}/{movie}@{image % IMAGES_A_MOVIE}.jpg"


def ask(split: str, seed: int, count: int) -> list[Asked]:
    """Make `count` questions, grouped by image. Each label is right equally often (±1)."""
    rng = Random(f"shapes-vcr/{seed}/{split}")  # a text, since it is hashed the same everywhere
    answer_labels, rationale_labels = ([i % CHOICES for i in range(count)] for _ in range(2))
    rng.shuffle(answer_labels)
    rng.shuffle(rationale_labels)
    asked: list[Asked] = []
    image = 0
    while len(asked) < count:
        scene = make_scene(rng, f"{seed}/{split}/{image}")
        subjects = rng.sample(range(len(scene.people)), rng.choice(AN_IMAGE))
        for number, subject in enumerate(subjects[: count - len(asked)]):
            labels = answer_labels[len(asked)], rationale_labels[len(asked)]
            asked.append(Asked(scene, image, number, *_question(scene, subject, *labels, rng)))
        image += 1
    return asked


def _question(
    scene: Scene, subject: int, answer_label: int, rationale_label: int, rng: Random
) -> tuple[Tokens, list[Tokens], int, list[Tokens], int]:
    """Ask about a person, or of six sometimes about two; the rationales are about four others."""
    people = rng.sample(
        [i for i in range(len(scene.people)) if i != subject], len(scene.people) - 1
    )
    kind = (
        "both" if len(scene.people) == MOST and rng.random() < BOTH else rng.choice(("what", "who"))
    )
    if kind == "both":
        question, right, wrong = _both(scene, subject, people[0], people[1], people[2])
        tagged = [subject, people[0]]
    else:
        question, right, wrong = (_what if kind == "what" else _who)(
            scene, subject, people[: CHOICES - 1]
        )
        tagged = [subject]
    answers = _placed(right, wrong, answer_label, rng)
    others = rng.sample([i for i in people if i not in tagged], CHOICES)
    rationales = _placed(*_rationale(scene, others), rationale_label, rng)
    return question, answers, answer_label, rationales, rationale_label


def _placed(right: Tokens, wrong: list[Tokens], label: int, rng: Random) -> list[Tokens]:
    choices = rng.sample(wrong, len(wrong))
    choices.insert(label, right)
    return choices


def phrase(person: Person) -> list[str]:
    """Name the thing that somebody holds: "red cup"."""
    return [person.color, WORDS[person.thing]]


def _what(scene: Scene, subject: int, others: list[int]) -> tuple[Tokens, Tokens, list[Tokens]]:
    """Ask what a person holds: four things."""

    def answer(i: int) -> Tokens:
        return ["The", *phrase(scene.people[i]), "."]

    return (
        ["What", "is", [scene.indices[subject]], "holding", "?"],
        answer(subject),
        [answer(i) for i in others],
    )


def _who(scene: Scene, subject: int, others: list[int]) -> tuple[Tokens, Tokens, list[Tokens]]:
    """Ask who holds a thing: four people."""

    def answer(i: int) -> Tokens:
        return [[scene.indices[i]], "is", "."]

    return (
        ["Who", "is", "holding", "the", *phrase(scene.people[subject]), "?"],
        answer(subject),
        [answer(i) for i in others],
    )


def _both(scene: Scene, a: int, b: int, c: int, d: int) -> tuple[Tokens, Tokens, list[Tokens]]:
    """Ask about two people. Each colour is in two of four answers, so counting words is no help."""

    def answer(i: int, j: int) -> Tokens:
        return ["Something", scene.people[i].color, "and", "something", scene.people[j].color, "."]

    tags = sorted((scene.indices[a], scene.indices[b]))
    return (
        ["What", "are", tags, "holding", "?"],
        answer(a, b),
        [answer(a, d), answer(c, b), answer(c, d)],
    )


def _rationale(scene: Scene, others: list[int]) -> tuple[Tokens, list[Tokens]]:
    """Make a rationale about the first of `others` with four shirts.

    (Four people beside a shirt would keep a tiny model from learning either.)
    """

    def rationale(dressed: int) -> Tokens:
        return [[scene.indices[others[0]]], "in", scene.people[dressed].shirt, "saw", "it", "."]

    right, *wrong = map(rationale, others)
    return right, wrong


def records(split: str, seed: int, asked: Sequence[Asked]) -> list[JsonObject]:
    """Return VCR's records of a split.

    The source of a wrong choice is another question whose right choice is the same but for its
    tags, as VCR moves tags to the objects of the picture; -1 if a small split has none.
    """
    rng = Random(f"shapes-vcr/{seed}/{split}/records")
    sources: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(asked):
        sources[_untagged(one.answers[one.answer_label])].append(index)
        sources[_untagged(one.rationales[one.rationale_label])].append(index)
    return [_record(split, index, one, sources, rng) for index, one in enumerate(asked)]


def _record(
    split: str, index: int, one: Asked, sources: Mapping[str, list[int]], rng: Random
) -> JsonObject:
    name = image_name(split, one.image)
    record = {
        "movie": name.split("/")[0].removeprefix("shapes_"),
        "objects": list(one.scene.names),
        "interesting_scores": [rng.choice((0, 1))],
        "answer_likelihood": rng.choice(LIKELIHOODS),
        "img_fn": name,
        "metadata_fn": str(Path(name).with_suffix(".json").as_posix()),
        "answer_orig": as_written(one.answers[one.answer_label]),
        "question_orig": as_written(one.question),
        "rationale_orig": as_written(one.rationales[one.rationale_label]),
        "question": one.question,
        **_choices("answer", one.answers, one.answer_label, index, sources, rng),
        **_choices("rationale", one.rationales, one.rationale_label, index, sources, rng),
        "img_id": f"{split}-{one.image}",
        "question_number": one.number,
        "annot_id": f"{split}-{index}",
        "match_fold": f"{split}-0",
        "match_index": index,
    }
    return {key: value for key, value in record.items() if split != "test" or key not in HIDDEN}


def _choices(
    kind: str,
    choices: list[Tokens],
    label: int,
    index: int,
    sources: Mapping[str, list[int]],
    rng: Random,
) -> JsonObject:
    rounds = iter(
        rng.sample(range(1, CHOICES), CHOICES - 1)
    )  # in which round of matching a wrong choice was found
    return {
        f"{kind}_match_iter": [0 if i == label else next(rounds) for i in range(CHOICES)],
        f"{kind}_sources": [
            index if i == label else _source(sources.get(_untagged(choice), []), index, rng)
            for i, choice in enumerate(choices)
        ],
        f"{kind}_choices": choices,
        f"{kind}_label": label,
    }


def _source(candidates: list[int], index: int, rng: Random) -> int:
    """Return another question than `index`."""
    chosen = rng.choice(candidates) if candidates else -1
    if chosen == index:
        chosen = candidates[candidates.index(index) - 1]
    return chosen if chosen != index else -1


def _untagged(tokens: Tokens) -> str:
    return " ".join(token if isinstance(token, str) else "[]" for token in tokens)


def as_written(tokens: Tokens) -> str:
    """Return the text of an annotator, who numbers objects from 1."""
    words = (
        token if isinstance(token, str) else " and ".join(str(tag + 1) for tag in token)
        for token in tokens
    )
    return re.sub(r" ([.?])", r"\1", " ".join(words))
