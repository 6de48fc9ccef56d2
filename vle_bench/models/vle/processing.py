"""Text and pictures → the tensors that the models take."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import BatchFeature, CLIPImageProcessorPil, PreTrainedTokenizerBase, ProcessorMixin


class VLEProcessor(ProcessorMixin):
    """A tokenizer and a Pillow image processor that squashes the picture to the model's square.

    Squashing (no crop) keeps every pixel, and keeps boxes where the published patch mapping expects them.
    """

    def __init__(
        self, image_processor: CLIPImageProcessorPil | None = None, tokenizer: PreTrainedTokenizerBase | None = None
    ) -> None:
        super().__init__(image_processor, tokenizer)

    @classmethod
    def from_parts(cls, tokenizer: PreTrainedTokenizerBase, image_size: int) -> "VLEProcessor":
        """A processor for pictures of `image_size` × `image_size` pixels after the squash."""
        size = {"height": image_size, "width": image_size}
        return cls(CLIPImageProcessorPil(size=size, do_center_crop=False), tokenizer)

    def __call__(
        self,
        images: list[Image.Image] | None = None,
        text: list[str] | None = None,
        max_length: int | None = None,
    ) -> BatchFeature:
        """Returns input_ids and attention_mask (B, T), padded to the longest text, and pixel_values (N, 3, H, W)."""
        features: dict[str, Any] = {}
        if text is not None:
            encoded = self.tokenizer(
                text, padding=True, truncation=max_length is not None, max_length=max_length,
                return_tensors="pt", return_token_type_ids=False,
            )  # fmt: skip
            features.update(encoded)
        if images is not None:
            features["pixel_values"] = self._pixel_values(images)
        return BatchFeature(features)

    def _pixel_values(self, images: list[Image.Image]) -> torch.Tensor:
        """As the image processor gives them, in a third of its time: one multiplication a batch, and no resize to the same size."""
        settings = self.image_processor
        target = (settings.size.get("width"), settings.size.get("height"))
        resize = settings.do_resize and any(image.size != target for image in images)
        pixels = settings(images, do_resize=resize, do_rescale=False, do_normalize=False, return_tensors="pt")[
            "pixel_values"
        ].float()
        if settings.do_rescale:
            pixels *= settings.rescale_factor
        if settings.do_normalize:
            mean, std = (torch.tensor(v)[:, None, None] for v in (settings.image_mean, settings.image_std))
            pixels = (pixels - mean) / std
        return pixels

    @classmethod
    def from_folder(cls, folder: Path) -> "VLEProcessor":
        """The processor of a saved checkpoint folder."""
        return cls.from_pretrained(str(folder), local_files_only=True)
