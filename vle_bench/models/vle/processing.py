"""Text and pictures → the tensors that the models take."""

from pathlib import Path
from typing import Any

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
            features.update(self.image_processor(images, return_tensors="pt"))
        return BatchFeature(features)

    @classmethod
    def from_folder(cls, folder: Path) -> "VLEProcessor":
        """The processor of a saved checkpoint folder."""
        return cls.from_pretrained(str(folder), local_files_only=True)
