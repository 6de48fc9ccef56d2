"""Turn questions and pictures of any shape into ViLT's tensors.

Shapes: B texts, T tokens, N pictures, H × W pixels of the largest picture.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image
from transformers import BatchFeature, PreTrainedTokenizerBase
from transformers.models.vilt.image_processing_pil_vilt import (
    MAX_LONGER_EDGE,
    MAX_SHORTER_EDGE,
    ViltImageProcessorPil,
)

from vle_bench.json_files import JsonObject

PATCH = 32  # pixels a side of the published model's patches


class ViltProcessor(transformers.ViltProcessor):
    """A tokenizer and ViLT's pictures: shorter side `shortest_edge`, whole patches, any shape.

    Args:
        patch_size: pixels a side of the model's patches; each picture is cut into whole ones.
    """

    transform = None  # pictures come in many sizes: no store of squares fits
    resize = None

    def __init__(
        self, image_processor: Any = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        if not isinstance(image_processor, ViltImageProcessorPil):
            # torchvision's resize gives other pixels, and so other scores.
            image_processor = ViltImageProcessorPil.from_dict(image_processor.to_dict())
        super().__init__(image_processor, tokenizer)  # type: ignore[no-untyped-call]
        self.patch_size = PATCH

    @classmethod
    def from_parts(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        patch_size: int,
        max_text_length: int,
    ) -> "ViltProcessor":
        """Build a processor for pictures of this shorter side, with ViLT's mean and deviation."""
        tokenizer.model_max_length = max_text_length
        pictures = ViltImageProcessorPil(
            size={"shortest_edge": image_size}, size_divisor=patch_size
        )
        processor = cls(pictures, tokenizer)
        processor.patch_size = patch_size
        return processor

    @property
    def facts(self) -> JsonObject:
        """Return the facts about the input for the record, see `models.base.Reader`."""
        short, long = self.sides
        return {
            "protocol": "classification",
            "max_text_length": self.tokenizer.model_max_length,
            "pictures": f"shorter side {short}, longer at most {long}, every whole patch",
        }

    @property
    def sides(self) -> tuple[int, int]:
        """Pixels of the shorter side, and the most of the longer one."""
        short = int(self.image_processor.size["shortest_edge"])
        return short, int(MAX_LONGER_EDGE / MAX_SHORTER_EDGE * short)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the size to which a picture is resized: whole patches, rounded down.

        As ViLT's MinMaxResize; but a picture of more than 20 to 1 keeps one row of patches, where
        that fails.
        """
        short, long = self.sides
        scale = short / min(width, height)
        scaled = [short if side == min(width, height) else scale * side for side in (width, height)]
        if max(scaled) > long:
            shrink = long / max(scaled)
            scaled = [side * shrink for side in scaled]
        divisor = self.image_processor.size_divisor
        wide, high = (max(int(side + 0.5) // divisor, 1) * divisor for side in scaled)
        return wide, high

    def __call__(
        self,
        images: Sequence[Image.Image] | None = None,
        text: Sequence[str] | None = None,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Turn B texts and N upright RGB pictures into tensors.

        Returns:
            input_ids, attention_mask (B, T); pixel_values (N, 3, H, W), padded with 0 on the right
            and below; patches (N, 2), the rows and columns of patches that a picture has.
        """
        features = BatchFeature()
        if text is not None:
            encoded = self.tokenizer(
                list(text),
                padding=True,
                padding_side="right",
                max_length=max_length,
                truncation=max_length is not None,
                return_tensors="pt",
                return_token_type_ids=False,
            )
            features.update(encoded)
        if images is not None:
            settings = self.image_processor
            sizes = [self.resized(*image.size) for image in images]
            pixels = [
                np.asarray(image.resize(size, settings.resample)).transpose(2, 0, 1)
                for image, size in zip(images, sizes, strict=True)
            ]
            width, height = (max(sides) for sides in zip(*sizes, strict=True))
            values = torch.zeros(len(pixels), 3, height, width)
            mean = torch.tensor(settings.image_mean)[:, None, None]
            std = torch.tensor(settings.image_std)[:, None, None]
            for row, picture in enumerate(pixels):
                scaled = torch.tensor(picture, dtype=torch.float32) * settings.rescale_factor
                values[row, :, : picture.shape[1], : picture.shape[2]] = (scaled - mean) / std
            features["pixel_values"] = values
            features["patches"] = torch.tensor(sizes).flip(1) // self.patch_size
        return features
