"""Pictures of people who each hold something: the people are drawn, their names are not.

Every colour and class of shirt or thing occurs once in a picture, so that a phrase ("the red cup",
"the gray shirt") names one person, and no phrase is true of two.
"""

from dataclasses import dataclass
from random import Random

from PIL import Image, ImageDraw

Box = tuple[float, float, float, float]  # x1, y1, x2, y2, pixels of the picture
Color = tuple[int, int, int]

# Two lists that share nothing: the mean colour of a box tells a shirt from a thing.
SHIRTS: dict[str, Color] = {
    "black": (30, 30, 35),
    "gray": (115, 115, 120),
    "brown": (125, 75, 35),
    "purple": (130, 45, 165),
    "pink": (250, 150, 190),
    "teal": (0, 135, 135),
}
THINGS: dict[str, Color] = {
    "red": (225, 30, 35),
    "orange": (255, 140, 0),
    "yellow": (250, 225, 30),
    "green": (50, 175, 50),
    "blue": (40, 80, 220),
    "white": (252, 252, 252),
}
# COCO's class → the word that a question uses.
WORDS = {
    "sportsball": "ball",
    "cup": "cup",
    "book": "book",
    "umbrella": "umbrella",
    "handbag": "bag",
    "bottle": "bottle",
}
FURNITURE = ("chair", "pottedplant")
SKINS: tuple[Color, ...] = ((250, 215, 185), (225, 180, 140), (190, 135, 95), (120, 80, 55))
HAIRS: tuple[Color, ...] = ((45, 35, 30), (95, 65, 40), (185, 145, 85), (110, 110, 115))
TROUSERS: tuple[Color, ...] = ((70, 75, 100), (95, 90, 80), (60, 70, 65))
WALLS: tuple[Color, ...] = ((182, 187, 192), (195, 187, 173), (174, 187, 178), (187, 178, 187))
COLUMNS, ROWS = 3, 3
FINE = 3  # drawn so many times larger and reduced, which smooths the edges
LEAST, MOST = 5, 6  # people in a picture


@dataclass(frozen=True)
class Person:
    """A drawn person; `box` covers the thing too, `seen` and `thing_seen` are detected boxes."""

    shirt: str
    thing: str  # COCO's class
    color: str  # of the thing
    box: Box
    mirrored: bool  # the thing is on the left


@dataclass(frozen=True)
class Scene:
    """A picture. `names` and `boxes` have every object in an order that is no clue to its place.

    `indices`: for each of `people`, its place in that order.
    """

    width: int
    height: int
    people: tuple[Person, ...]
    furniture: tuple[tuple[str, Box], ...]
    names: tuple[str, ...]
    boxes: tuple[Box, ...]
    indices: tuple[int, ...]
    looks: str  # seed of what no question asks: skin, hair, wall


def make_scene(rng: Random, looks: str, least: int = LEAST) -> Scene:
    """Draw `least` to six people and one or two pieces of furniture, each in a cell of its own."""
    width, height = rng.randrange(200, 281), rng.randrange(220, 301)
    cells = rng.sample(range(COLUMNS * ROWS), COLUMNS * ROWS)
    count = rng.randint(least, MOST)
    shirts, things, colors = (
        rng.sample(sorted(values), count) for values in (SHIRTS, WORDS, THINGS)
    )
    people = tuple(
        Person(shirt, thing, color, _place(cell, width, height, rng), rng.random() < 0.5)
        for shirt, thing, color, cell in zip(shirts, things, colors, cells, strict=False)
    )
    furniture = tuple(
        (rng.choice(FURNITURE), _place(cell, width, height, rng))
        for cell in cells[count : count + rng.randint(1, 2)]
    )
    objects = [("person", person.box) for person in people]
    objects += [(person.thing, thing_box(person)) for person in people]
    objects += furniture
    order = rng.sample(range(len(objects)), len(objects))
    return Scene(
        width,
        height,
        people,
        furniture,
        names=tuple(objects[i][0] for i in order),
        boxes=tuple(_detected(objects[i][1], width, height, rng) for i in order),
        indices=tuple(order.index(i) for i in range(count)),
        looks=looks,
    )


def _place(cell: int, width: int, height: int, rng: Random) -> Box:
    """Return a box of 75 to 95 % of a cell each way, anywhere in it."""
    row, column = divmod(cell, COLUMNS)
    cell_width, cell_height = width / COLUMNS, height / ROWS
    w, h = cell_width * rng.uniform(0.75, 0.95), cell_height * rng.uniform(0.8, 0.95)
    x, y = (
        column * cell_width + rng.uniform(0, cell_width - w),
        row * cell_height + rng.uniform(0, cell_height - h),
    )
    return x, y, x + w, y + h


def _detected(box: Box, width: int, height: int, rng: Random) -> Box:
    """Move a box as a detector would: by up to a pixel a side, inside the picture, two decimals."""
    x1, y1, x2, y2 = (value + rng.uniform(-1, 1) for value in box)
    return (
        round(max(x1, 0), 2),
        round(max(y1, 0), 2),
        round(min(x2, width), 2),
        round(min(y2, height), 2),
    )


def part(person: Person, x1: float, y1: float, x2: float, y2: float) -> Box:
    """Return a part of a person in shares of its box; x counts from the side of the body."""
    left, top, right, bottom = person.box
    if person.mirrored:
        x1, x2 = 1 - x2, 1 - x1
    w, h = right - left, bottom - top
    return left + x1 * w, top + y1 * h, left + x2 * w, top + y2 * h


def thing_box(person: Person) -> Box:
    return part(person, 0.48, 0.26, 1, 0.78)


def draw(scene: Scene) -> Image.Image:
    """Draw the picture in RGB; the same scene gives the same pixels."""
    rng = Random(scene.looks)
    image = Image.new("RGB", (scene.width * FINE, scene.height * FINE), rng.choice(WALLS))
    pen = ImageDraw.Draw(image)
    floor = tuple(value - rng.randrange(12, 25) for value in rng.choice(WALLS))
    pen.rectangle(
        (0, image.height * rng.uniform(0.25, 0.45), image.width, image.height), fill=floor
    )
    for name, box in scene.furniture:
        FURNITURE_PENS[name](pen, _fine(box))
    for person in sorted(scene.people, key=lambda p: p.box[3]):
        _draw_person(pen, person, rng.choice(SKINS), rng.choice(HAIRS), rng.choice(TROUSERS))
    return image.reduce(FINE)


def _fine(box: Box) -> Box:
    x1, y1, x2, y2 = box
    return x1 * FINE, y1 * FINE, x2 * FINE, y2 * FINE


def _draw_person(
    pen: ImageDraw.ImageDraw, person: Person, skin: Color, hair: Color, trousers: Color
) -> None:
    def box(*shares: float) -> Box:
        return _fine(part(person, *shares))

    shirt = SHIRTS[person.shirt]
    pen.rectangle(box(0.06, 0.7, 0.24, 1), fill=trousers)
    pen.rectangle(box(0.3, 0.7, 0.48, 1), fill=trousers)
    pen.rounded_rectangle(box(0, 0.24, 0.55, 0.76), radius=5 * FINE, fill=shirt)
    pen.ellipse(box(0.1, 0, 0.46, 0.26), fill=hair)
    pen.ellipse(box(0.13, 0.07, 0.43, 0.27), fill=skin)
    THING_PENS[person.thing](pen, _fine(thing_box(person)), THINGS[person.color])
    pen.ellipse(box(0.43, 0.5, 0.55, 0.58), fill=skin)  # the hand


def _ball(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    pen.ellipse(box, fill=color, outline=(60, 60, 60), width=FINE // 2)


def _cup(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    pen.ellipse((x1 + 0.55 * w, y1 + 0.25 * h, x2, y1 + 0.75 * h), outline=color, width=2 * FINE)
    pen.polygon(
        [(x1, y1), (x1 + 0.8 * w, y1), (x1 + 0.68 * w, y2), (x1 + 0.12 * w, y2)], fill=color
    )


def _book(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    x1, y1, x2, y2 = box
    pen.rectangle(box, fill=color)
    pen.line(((x1 + x2) / 2, y1, (x1 + x2) / 2, y2), fill=(60, 60, 60), width=FINE)


def _umbrella(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    x1, y1, x2, y2 = box
    middle = (x1 + x2) / 2
    pen.line((middle, y1, middle, y2), fill=(60, 60, 60), width=FINE)
    pen.pieslice((x1, y1, x2, y1 + 1.5 * (y2 - y1)), 180, 360, fill=color)


def _bag(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    pen.arc(
        (x1 + 0.25 * w, y1, x2 - 0.25 * w, y1 + 0.6 * h), 180, 360, fill=(60, 60, 60), width=FINE
    )
    pen.rounded_rectangle((x1, y1 + 0.28 * h, x2, y2), radius=2 * FINE, fill=color)


def _bottle(pen: ImageDraw.ImageDraw, box: Box, color: Color) -> None:
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    pen.rectangle((x1 + 0.38 * w, y1, x2 - 0.38 * w, y1 + 0.3 * h), fill=color)
    pen.rounded_rectangle(
        (x1 + 0.15 * w, y1 + 0.25 * h, x2 - 0.15 * w, y2), radius=2 * FINE, fill=color
    )


def _chair(pen: ImageDraw.ImageDraw, box: Box) -> None:
    x1, y1, x2, y2 = box
    w, h, wood = x2 - x1, y2 - y1, (150, 110, 70)
    pen.rectangle((x1, y1, x1 + 0.15 * w, y2), fill=wood)
    pen.rectangle((x1, y1 + 0.5 * h, x2, y1 + 0.6 * h), fill=wood)
    pen.rectangle((x2 - 0.15 * w, y1 + 0.5 * h, x2, y2), fill=wood)


def _plant(pen: ImageDraw.ImageDraw, box: Box) -> None:
    x1, y1, x2, y2 = box
    w, h = x2 - x1, y2 - y1
    pen.ellipse((x1, y1, x2, y1 + 0.65 * h), fill=(95, 130, 90))
    pen.polygon(
        [
            (x1 + 0.2 * w, y1 + 0.6 * h),
            (x2 - 0.2 * w, y1 + 0.6 * h),
            (x2 - 0.3 * w, y2),
            (x1 + 0.3 * w, y2),
        ],
        fill=(165, 110, 85),
    )


THING_PENS = {
    "sportsball": _ball,
    "cup": _cup,
    "book": _book,
    "umbrella": _umbrella,
    "handbag": _bag,
    "bottle": _bottle,
}
FURNITURE_PENS = {"chair": _chair, "pottedplant": _plant}
