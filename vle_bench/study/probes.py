"""The probes of a pre-trained model: what one objective alone can answer, each beside a control.

Shapes: B rows, N pictures, P patches, T tokens.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vle_bench.data.images import decode
from vle_bench.data.prepare.shapes_captions import PROBES
from vle_bench.errors import RequestError
from vle_bench.json_files import Row, read_json
from vle_bench.metrics import probes
from vle_bench.metrics.bootstrap import figure
from vle_bench.metrics.numbers import Figure
from vle_bench.models import pretrained
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel
from vle_bench.models.vle.processing import VLEProcessor

PICTURES = 16  # of a batch; a picture has up to 20 rows
NOTHING = "."  # the text that says nothing; a processor refuses an empty one
GREY = (128, 128, 128)  # the picture that shows nothing, as shapes-VCR's blank ones
MARK = "▁"  # before a piece that begins a word
Values = dict[str, NDArray[np.float64]]


@dataclass(frozen=True)
class Batch:
    """The rows of some pictures.

    Args:
        image_index: (B,) the picture of each row.
        masks: (B, P) patches of the box of each row; None where rows have none.
    """

    rows: list[Row]
    pixel_values: Tensor
    image_index: Tensor
    masks: NDArray[np.bool_] | None


@dataclass(frozen=True)
class Prober:
    """A checkpoint and the folder of a split with the pictures and rows of the probes.

    Args:
        checkpoint: a `from_pretrained` folder.
        folder: of one split, as `prepare shapes-captions --source` writes it.
    """

    checkpoint: Path
    folder: Path

    @cached_property
    def rows(self) -> dict[str, list[Row]]:
        path = self.folder / PROBES
        if not path.is_file():
            raise RequestError(
                f"{path}: no such file; `vle-bench prepare shapes-captions --source DIR` writes it"
            )
        content: dict[str, list[Row]] = read_json(path)
        return content

    @cached_property
    def processor(self) -> VLEProcessor:
        return pretrained.load_processor(self.checkpoint)

    def model(self, architecture: str) -> VLEPreTrainedModel:
        model = pretrained.load_model(self.checkpoint, architecture)
        model.train(False)
        return model

    def batches(self, kind: str, grey: bool = False) -> Iterator[Batch]:
        """Yield all rows of a kind, those of a picture in one batch."""
        by_picture: dict[str, list[Row]] = {}
        for row in self.rows[kind]:
            by_picture.setdefault(row["image"], []).append(row)
        names = list(by_picture)
        for start in range(0, len(names), PICTURES):
            chosen = names[start : start + PICTURES]
            rows = [row for name in chosen for row in by_picture[name]]
            counts = [len(by_picture[name]) for name in chosen]
            pictures = [self.picture(name, grey) for name in chosen]
            boxes = [[row["box"] for row in by_picture[name] if "box" in row] for name in chosen]
            features = self.processor(images=pictures, boxes=boxes if any(boxes) else None)
            masks = None
            if any(boxes):
                of_picture = features["object_patch_mask"].numpy()  # (N, K, P)
                masks = np.concatenate([m[:k] for m, k in zip(of_picture, counts, strict=True)])
            image_index = torch.arange(len(chosen)).repeat_interleave(torch.tensor(counts))
            yield Batch(rows, features["pixel_values"], image_index, masks)

    def picture(self, name: str, grey: bool) -> Image.Image:
        if grey:
            return Image.new("RGB", (8, 8), GREY)
        path = self.folder / name
        return decode(path.read_bytes(), str(path))

    def texts(self, texts: Sequence[str]) -> dict[str, Tensor]:
        return dict(self.processor(text=list(texts)))


def matches(prober: Prober) -> Values:
    """Whether a caption has a higher score than its false copy; all, and by the word changed."""
    model = prober.model("VLEForITM")
    hits: list[NDArray[np.float64]] = []
    for batch in prober.batches("matches"):
        scores = [
            match_score(model, batch, prober.texts([row[key] for row in batch.rows]))
            for key in ("caption", "negative")
        ]
        hits.append(probes.preferred(*scores))
    return {"match": np.concatenate(hits)}


def strangers(prober: Prober) -> Values:
    """Whether a caption has a higher score with its own picture than with another one."""
    model = prober.model("VLEForITM")
    hits: list[NDArray[np.float64]] = []
    for batch in prober.batches("strangers"):
        texts = prober.texts([row["caption"] for row in batch.rows])
        pictures = [prober.picture(row["stranger"], grey=False) for row in batch.rows]
        other = replace(
            batch,
            pixel_values=prober.processor(images=pictures)["pixel_values"],
            image_index=torch.arange(len(pictures)),
        )
        scores = [match_score(model, seen, texts) for seen in (batch, other)]
        hits.append(probes.preferred(*scores))
    return {"match_stranger": np.concatenate(hits)}


def match_score(
    model: VLEPreTrainedModel, batch: Batch, texts: dict[str, Tensor]
) -> NDArray[np.float64]:
    """Return by how much the logit of a match is above the other's: (B,)."""
    logits = model(
        pixel_values=batch.pixel_values, image_index=batch.image_index, **texts
    ).logits.double()
    difference: NDArray[np.float64] = (logits[:, 1] - logits[:, 0]).numpy()
    return difference


def nouns(prober: Prober) -> Values:
    """Whether a masked noun is found, with the picture and with a grey one."""
    model = prober.model("VLEForMLM")
    return {
        "noun": noun_hits(prober, model, grey=False),
        "noun_grey": noun_hits(prober, model, grey=True),
    }


def noun_hits(prober: Prober, model: VLEPreTrainedModel, grey: bool) -> NDArray[np.float64]:
    tokenizer, hits = prober.processor.tokenizer, []
    for batch in prober.batches("nouns", grey):
        texts = prober.texts([row["caption"] for row in batch.rows])
        words = [MARK + row["noun"] for row in batch.rows]
        right = torch.tensor(tokenizer.convert_tokens_to_ids(words))
        ids = texts["input_ids"]
        masked = ids == right[:, None]  # (B, T)
        if not bool((masked.sum(1) == 1).all()):
            raise RequestError(
                f"{prober.folder / PROBES}: a noun is not one piece of the tokenizer, once, "
                f"in its caption: {batch.rows[int((masked.sum(1) != 1).int().argmax())]}"
            )
        texts["input_ids"] = ids.masked_fill(masked, tokenizer.mask_token_id)
        logits = model(
            pixel_values=batch.pixel_values, image_index=batch.image_index, **texts
        ).logits
        hits.append((logits[masked].argmax(-1) == right).numpy().astype(float))
    return np.concatenate(hits)


def phrases(prober: Prober) -> Values:
    """Where a phrase points to: the best patch, all patches above one half, and chance."""
    model = prober.model("VLEForPBC")
    values: dict[str, list[NDArray[np.float64]]] = {
        "pointing": [],
        "pointing_chance": [],
        "iou": [],
    }
    for batch in prober.batches("phrases"):
        assert batch.masks is not None
        texts = prober.texts([row["phrase"] for row in batch.rows])
        logits = model(
            pixel_values=batch.pixel_values, image_index=batch.image_index, **texts
        ).logits  # (B, P, 2)
        scores = (logits[..., 1] - logits[..., 0]).double().numpy()
        values["pointing"].append(probes.pointing(scores, batch.masks))
        values["pointing_chance"].append(probes.chance(batch.masks))
        values["iou"].append(probes.overlap(scores > 0, batch.masks))
    return {name: np.concatenate(parts) for name, parts in values.items()}


def objects(prober: Prober) -> Values:
    """Whether the class of a blacked object is found, with the caption and without."""
    model = prober.model("VLEForMPC")
    return {
        "object": object_hits(prober, model, captioned=True),
        "object_no_caption": object_hits(prober, model, captioned=False),
    }


def object_hits(prober: Prober, model: VLEPreTrainedModel, captioned: bool) -> NDArray[np.float64]:
    names = {int(number): name for number, name in (model.config.id2label or {}).items()}
    hits = []
    for batch in prober.batches("objects"):
        assert batch.masks is not None
        texts = prober.texts([row["caption"] if captioned else NOTHING for row in batch.rows])
        logits = model(
            # a text each has its own copy of the picture, since each blacks another object
            pixel_values=batch.pixel_values[batch.image_index],
            object_patch_mask=torch.from_numpy(batch.masks)[:, None],
            object_mask=torch.ones(len(batch.rows), 1, dtype=torch.long),
            **texts,
        ).logits  # (B, 1, classes)
        predicted = [names[int(i)] for i in logits[:, 0].argmax(-1)]
        right = [row["name"] for row in batch.rows]
        hits.append(np.array([a == b for a, b in zip(predicted, right, strict=True)], float))
    return np.concatenate(hits)


# Objective → kinds of rows, each with the probe that this objective alone can answer
BY_OBJECTIVE: dict[str, dict[str, Callable[[Prober], Values]]] = {
    "mlm": {"nouns": nouns},
    "itm": {"strangers": strangers, "matches": matches},
    "pbc": {"phrases": phrases},
    "mpc": {"objects": objects},
}


@torch.no_grad()
def run_probes(checkpoint: Path, folder: Path, objectives: Sequence[str]) -> dict[str, Figure]:
    """Probe a checkpoint with the rows of one split.

    Returns:
        Fractions by the name of the probe, with 95 % intervals over pictures.
    """
    prober, figures = Prober(checkpoint, folder), {}
    for kind, run in (probe for name in objectives for probe in BY_OBJECTIVE[name].items()):
        images = in_order(prober.rows[kind])
        for name, values in run(prober).items():
            figures[name] = figure(values, images)
    return figures


def in_order(rows: Sequence[Row]) -> NDArray[np.int64]:
    """Return the picture of each row in the order of the batches: rows are written by picture."""
    return np.array([row["image_id"] for row in rows])
