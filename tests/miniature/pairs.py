"""Small pictures with captions, phrases and objects: ALBEF's JSON list, and Visual Genome's official files."""

import json
import random
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220)}
SIDE, FIGURE = 48, 18  # pixels
PLACES = [(2, 2), (26, 2), (2, 26), (26, 26)]


def scene(number: int) -> tuple[Image.Image, list[dict[str, Any]]]:
    """A picture with two figures, each with its name, phrase and box x, y, w, h."""
    rng = random.Random(number)
    picture = Image.new("RGB", (SIDE, SIDE), (240, 240, 240))
    draw, figures = ImageDraw.Draw(picture), []
    for x, y in rng.sample(PLACES, 2):
        colour, name = rng.choice(list(COLOURS)), rng.choice(["disc", "square"])
        shape = draw.ellipse if name == "disc" else draw.rectangle
        shape((x, y, x + FIGURE, y + FIGURE), fill=COLOURS[colour])
        figures.append(
            {"name": name, "phrase": f"a {colour} {name}", "box": (x, y, FIGURE, FIGURE)}
        )
    return picture, figures


def caption(figures: list[dict[str, Any]]) -> str:
    return " and ".join(figure["phrase"] for figure in figures)


def write_captions(folder: Path, count: int = 24, name: str = "pairs.json") -> Path:
    """Pictures in `pictures/` and a JSON list of them; the first has two captions."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    rows = []
    for number in range(count):
        picture, figures = scene(number)
        picture.save(folder / "pictures" / f"{number}.png")
        text = caption(figures)
        rows.append({"image": f"pictures/{number}.png", "caption": text})
    rows[0]["caption"] = [caption(scene(0)[1]), "two  figures"]
    return write(folder / name, rows)


def write_visual_genome(
    folder: Path, count: int = 24, first: int = 1, captions: bool = True
) -> Path:
    """The official files; every picture with an even number has a COCO id, 1000 more."""
    (folder / "VG_100K").mkdir(parents=True, exist_ok=True)
    data, regions, objects, texts = [], [], [], []
    for number in range(first, first + count):
        picture, figures = scene(number)
        picture.save(folder / "VG_100K" / f"{number}.png")
        coco_id = None if number % 2 else 1000 + number
        data.append(
            {"image_id": number, "width": SIDE, "height": SIDE, "coco_id": coco_id, "url": ""}
        )
        keys = [(10 * number + k, figure, figure["box"]) for k, figure in enumerate(figures)]
        regions.append(
            {
                "id": number,
                "regions": [
                    {
                        "region_id": i,
                        "image_id": number,
                        "phrase": figure["phrase"],
                        **dict(zip(("x", "y", "width", "height"), box, strict=True)),
                    }
                    for i, figure, box in keys
                ],
            }
        )
        objects.append(
            {
                "image_id": number,
                "objects": [
                    {
                        "object_id": i,
                        "names": [figure["name"].title()],
                        **dict(zip(("x", "y", "w", "h"), box, strict=True)),
                    }
                    for i, figure, box in keys
                ],
            }
        )
        texts.append({"image": number, "caption": caption(figures)})
    write(folder / "image_data.json", data)
    write(folder / "region_descriptions.json", regions)
    write(folder / "objects.json", objects)
    if captions:
        write(folder / "captions.json", texts)
    return folder


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def change(path: Path, edit: Any) -> None:
    """Read a JSON file, edit it in place, write it again."""
    content = json.loads(path.read_text(encoding="utf-8"))
    edit(content)
    write(path, content)
