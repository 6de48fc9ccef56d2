"""Captions, region phrases and hard negatives of the drawn scenes.

The words are those of shapes-VCR's questions and choices. A name is somebody's: it tells nothing
but that there is a person, so that only shirts, things and places tell people apart.
"""

import re
from dataclasses import dataclass
from itertools import permutations
from random import Random
from typing import Literal

from vle_bench.data.prepare.shapes_scene import MOST, THINGS, WORDS, Box, Person, Scene, thing_box
from vle_bench.data.vcr_text import NAMES

Kind = Literal["color", "class", "relation"]
OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}
FURNITURE_WORDS = {"chair": "chair", "pottedplant": "plant"}
NOUNS = WORDS | FURNITURE_WORDS | {"person": "person"}  # class → the word for it
# Combinations that no training picture has: each colour and each thing is in one of them.
HELD_OUT = frozenset(zip(sorted(THINGS), [*sorted(WORDS)[1:], *sorted(WORDS)[:1]], strict=True))


@dataclass(frozen=True)
class Caption:
    """A true sentence about a picture.

    Args:
        words: with punctuation as words of their own.
        people: indices of the people that it speaks of.
        changes: place in `words`, kind of change, and the word that makes the sentence false. The
            new word is true of something else in the picture, so that words alone do not tell.
        nouns: places of the words that name a thing.
    """

    words: tuple[str, ...]
    people: tuple[int, ...]
    changes: tuple[tuple[int, Kind, str], ...]
    nouns: tuple[int, ...] = ()

    @property
    def text(self) -> str:
        return as_text(self.words)

    def negative(self, change: int) -> str:
        """Return the sentence with one word changed."""
        place, _, word = self.changes[change]
        return as_text((*self.words[:place], word, *self.words[place + 1 :]))


def as_text(words: tuple[str, ...]) -> str:
    """Join words: no space before a full stop."""
    return re.sub(r" ([.,])", r"\1", " ".join(words))


def is_held_out(person: Person) -> bool:
    """Return whether colour and thing of a person are in no training picture together."""
    return (person.color, person.thing) in HELD_OUT


def captions(scene: Scene, rng: Random, order: list[int]) -> list[Caption]:
    """Describe a scene in five sentences: a thing, two people, a pair of people, a relation.

    Fewer than four people are spoken of again, and what needs two of them is left out.

    Args:
        order: indices of the people in the order in which the sentences speak of them. The first
            ones are spoken of first.
    """
    names = dict(zip(order, rng.sample(NAMES[:MOST], len(order)), strict=False))
    first, second, third, fourth = (order * 4)[:4]
    made = [there_is(scene, first, rng), holding(scene, names, (second,), rng)]
    if third != first:
        made.append(holding(scene, names, (third,), rng))
    if second != first:
        one = fourth if fourth != first else second
        made.append(holding(scene, names, (one, first), rng))
    if in_line(scene, names):
        made.append(beside(scene, names, rng))
    return rng.sample(made, len(made))


def there_is(scene: Scene, subject: int, rng: Random) -> Caption:
    """Say that a thing is there: "The red cup." """
    person, other = scene.people[subject], another(scene, (subject,), rng)
    words = ("The", person.color, WORDS[person.thing], ".")
    changes: tuple[tuple[int, Kind, str], ...] = ()
    if other:
        changes = (1, "color", other.color), (2, "class", WORDS[other.thing])
    return Caption(words, (subject,), changes, (2,))


def holding(scene: Scene, names: dict[int, str], subjects: tuple[int, ...], rng: Random) -> Caption:
    """Say what one or two people hold: "Casey in gray is holding the red cup." """
    words: list[str] = []
    changes: list[tuple[int, Kind, str]] = []
    nouns = []
    other = another(scene, subjects, rng)  # no word occurs twice, which would give a change away
    for number, subject in enumerate(subjects):
        person = scene.people[subject]
        words += ["and", names[subject], "in"] if number else [names[subject], "in"]
        shirt = len(words)
        words += [person.shirt, "is", "holding", "the"] if not number else [person.shirt, "the"]
        color = len(words)
        words += [person.color, WORDS[person.thing]]
        nouns.append(color + 1)
        if other:
            changes.append((shirt, "color", other.shirt))
            changes.append((color, "color", other.color))
            changes.append((color + 1, "class", WORDS[other.thing]))
    return Caption((*words, "."), subjects, tuple(changes), tuple(nouns))


def beside(scene: Scene, names: dict[int, str], rng: Random) -> Caption:
    """Say how two people stand to each other: "Casey in gray is left of Riley in pink." """
    a, b, relation = rng.choice(in_line(scene, names))
    of = ["of"] if relation in ("left", "right") else []
    one, two = scene.people[a], scene.people[b]
    words = [names[a], "in", one.shirt, "is", relation, *of, names[b], "in", two.shirt, "."]
    changes: tuple[tuple[int, Kind, str], ...] = ((4, "relation", OPPOSITE[relation]),)
    return Caption(tuple(words), (a, b), changes)


def relation_of(a: Box, b: Box) -> str | None:
    """Return how box a lies to box b in the same row or column; None if they are in neither."""
    apart_x = a[2] <= b[0] or b[2] <= a[0]
    apart_y = a[3] <= b[1] or b[3] <= a[1]
    if apart_x == apart_y:
        return None
    if apart_x:
        return "left" if a[2] <= b[0] else "right"
    return "above" if a[3] <= b[1] else "below"


def another(scene: Scene, but: tuple[int, ...], rng: Random) -> Person | None:
    """Draw somebody else of the picture, if there is anybody."""
    others = [i for i in range(len(scene.people)) if i not in but]
    return scene.people[rng.choice(others)] if others else None


def regions(scene: Scene, rng: Random) -> list[tuple[str, Box]]:
    """Describe every thing and person, and furniture that is alone of its kind."""
    names = rng.sample(NAMES[:MOST], len(scene.people))
    made: list[tuple[str, Box]] = []
    for name, person in zip(names, scene.people, strict=True):
        thing = f"{person.color} {WORDS[person.thing]}"
        made.append((f"the {thing}", thing_box(person)))
        made.append((f"{name} in {person.shirt}", person.box))
        made.append((f"{name} holding the {thing}", person.box))
    kinds = [kind for kind, _ in scene.furniture]
    for kind, box in scene.furniture:
        if kinds.count(kind) == 1:
            made.append((f"the {FURNITURE_WORDS[kind]}", box))
    return made


def two_people(scene: Scene, rng: Random) -> tuple[str, Box] | None:
    """Say what two people of a row or column hold, with the frame around both."""
    names = dict(enumerate(rng.sample(NAMES[:MOST], len(scene.people))))
    if not (pairs := in_line(scene, names)):
        return None
    a, b, _ = rng.choice(pairs)
    one, other = scene.people[a].box, scene.people[b].box
    frame = (
        min(one[0], other[0]),
        min(one[1], other[1]),
        max(one[2], other[2]),
        max(one[3], other[3]),
    )
    return holding(scene, names, (a, b), rng).text, frame


def in_line(scene: Scene, names: dict[int, str]) -> list[tuple[int, int, str]]:
    """Return the pairs of people of one row or column, and how the first lies to the second."""
    pairs = permutations(sorted(names), 2)
    boxes = [person.box for person in scene.people]
    related = [(a, b, relation_of(boxes[a], boxes[b])) for a, b in pairs]
    return [(a, b, relation) for a, b, relation in related if relation is not None]


def named_objects(scene: Scene) -> list[tuple[str, Box]]:
    """Name every object with the word for its class."""
    return [(NOUNS[name], box) for name, box in zip(scene.names, scene.boxes, strict=True)]
