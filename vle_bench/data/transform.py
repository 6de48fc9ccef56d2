"""How upright pictures become the squares that a model reads, by Pillow."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from vle_bench.json_files import JsonObject


@dataclass(frozen=True)
class Transform:
    """Resize and crop pictures as an image processor of transformers (Pillow backend) does."""

    image_processor: Any

    @classmethod
    def of_squares(cls, image_size: int, resize: str) -> "Transform":
        """Return the transform of a new processor: squares of `image_size` pixels a side."""
        return cls(CLIPImageProcessorPil(**square_settings(image_size, resize)))

    @property
    def settings(self) -> JsonObject:
        """The settings that decide the pixels."""
        own = self.image_processor
        resize, cut = bool(own.do_resize), bool(own.do_center_crop)
        return {
            "size": {k: v for k, v in dict(own.size).items() if v} if resize else None,
            "resample": int(own.resample) if resize else None,
            "crop_size": {k: v for k, v in dict(own.crop_size).items() if v} if cut else None,
        }

    def __call__(self, images: list[Image.Image]) -> torch.Tensor:
        """Turn upright RGB pictures into pixels (N, 3, H, W) of uint8."""
        own = self.image_processor
        target = (own.size.get("width"), own.size.get("height"))
        resize = own.do_resize and any(image.size != target for image in images)
        if own.do_resize and not resize and not own.do_center_crop:
            stacked = np.stack([np.asarray(image) for image in images])  # (N, H, W, 3)
            return torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
        pixels: torch.Tensor = own(
            images, do_resize=resize, do_rescale=False, do_normalize=False, return_tensors="pt"
        )["pixel_values"]
        return pixels


def square_settings(image_size: int, resize: str) -> JsonObject:
    """Return an image processor's settings for squares; `resize` as `VLEProcessor` names it."""
    square = {"height": image_size, "width": image_size}
    cut = resize != "squash"
    return {
        "do_resize": True,
        "size": {"shortest_edge": image_size} if cut else square,
        "do_center_crop": cut,
        "crop_size": square,
    }
