"""Turn text, pictures and boxes into the tensors that the models take.

Shapes: B texts, T tokens, N images, H × W pixels, K boxes of an image, P patches.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from transformers import (
    BatchFeature,
    CLIPImageProcessorPil,
    PreTrainedTokenizerBase,
    ProcessorMixin,
)
from transformers.image_processing_backends import PilBackend

from vle_bench.data import boxes as box_mapping
from vle_bench.data import images as pictures
from vle_bench.data.pixels import Transform, Transformed, square_settings
from vle_bench.data.tokenization import as_in_its_file, load_tokenizer

Resize = Literal["crop", "squash", "published-vcr"]

MOST_PIXELS = 4096  # a side, of the images that a model reads


class VLEFeatures(BatchFeature):
    """The model's tensors by name.

    Attributes:
        boxes_outside: number of boxes outside of the part of their picture that the model sees.
            They got the nearest patch.
    """

    boxes_outside: int = 0


class VLEProcessor(ProcessorMixin):
    """A tokenizer and a Pillow image processor that makes squares in one of three ways.

    - `crop`: resize the shorter side and cut out the centre, as METER and VLE were trained on VQA
      (METER's transforms/transform.py, VLE's run_vqav2_ft.py). Boxes move with the pixels.
    - `squash`: resize width and height. This keeps every pixel, and it keeps boxes where the
      published mapping to patches expects them.
    - `published-vcr`: the pixels of `crop` and the boxes of `squash`, as in VLE's VCR pipeline.

    Args:
        patch_size: patches of the model's vision encoder, in pixels a side; only boxes need it.
        boxes_as_squashed: map boxes as if the picture had been squashed, however it was resized.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        patch_size: int | None = None,
        boxes_as_squashed: bool = False,
    ) -> None:
        if not isinstance(image_processor, PilBackend):
            # transformers prefers torchvision if it is installed. Its resize gives other pixels,
            # and so other scores.
            image_processor = CLIPImageProcessorPil.from_dict(image_processor.to_dict())
        for name in ("size", "crop_size"):
            for side in ("height", "width", "shortest_edge", "longest_edge"):
                pixels = (getattr(image_processor, name, None) or {}).get(side)
                if pixels is not None and (
                    type(pixels) is not int or not 1 <= pixels <= MOST_PIXELS
                ):
                    raise ValueError(
                        f"{name}.{side}: expected 1 to {MOST_PIXELS} pixels, not {str(pixels)[:40]}"
                    )
        self.patch_size = patch_size
        self.boxes_as_squashed = boxes_as_squashed
        super().__init__(
            image_processor, tokenizer if tokenizer is None else as_in_its_file(tokenizer)
        )

    @classmethod
    def from_parts(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        image_size: int,
        patch_size: int | None = None,
        resize: Resize = "squash",
    ) -> "VLEProcessor":
        """Build a processor for squares of `image_size` pixels, with CLIP's mean and deviation."""
        processor = cls(CLIPImageProcessorPil(), tokenizer, patch_size)
        processor.set_size(image_size, resize)
        return processor

    @classmethod
    def _load_tokenizer_from_pretrained(
        cls,
        sub_processor_type: str,
        pretrained_model_name_or_path: str | Path,
        subfolder: str = "",
        **kwargs: object,
    ) -> PreTrainedTokenizerBase:
        return load_tokenizer(pretrained_model_name_or_path, subfolder=subfolder, **kwargs)

    @property
    def resize(self) -> Resize:
        """The way to a square that the settings describe; without a crop it is `squash`."""
        if not self.image_processor.do_center_crop:
            return "squash"
        return "published-vcr" if self.boxes_as_squashed else "crop"

    @property
    def facts(self) -> dict[str, str]:
        """Return the facts about the input for the record, see `models.base.Reader`."""
        return {"resize": self.resize}

    @property
    def square(self) -> tuple[int | None, int | None]:
        """Width and height of the model's images in pixels; None if that depends on the picture."""
        settings = self.image_processor
        size: dict[str, int] = {}
        if settings.do_center_crop:
            size = settings.crop_size or {}
        elif settings.do_resize:
            size = settings.size or {}
        return size.get("width"), size.get("height")

    def set_size(self, image_size: int, resize: Resize) -> None:
        """Make squares of `image_size` pixels in this way; mean, deviation, resampling stay."""
        settings = self.image_processor.to_dict() | square_settings(image_size, resize)
        self.image_processor = CLIPImageProcessorPil.from_dict(settings)
        self.boxes_as_squashed = resize == "published-vcr"

    def __call__(
        self,
        images: object = None,
        text: str | Sequence[str] | None = None,
        boxes: Sequence[ArrayLike] | None = None,
        max_length: int | None = None,
        *,
        padding: bool | str = True,
        truncation: bool | str | None = None,
        return_tensors: str = "pt",
    ) -> VLEFeatures:
        """Turn B texts, N images and the boxes of each image into tensors.

        Args:
            images: one, or a list of: Pillow images of any mode, paths, arrays (H, W, 3) of uint8.
                They are turned as their EXIF orientation says, transparency is dropped, 16 bits a
                channel are scaled to 8. Or pictures of a pixel store, which are used as they are.
            text: a text or a list of texts.
            boxes: for each image (K_i, 4), x1, y1, x2, y2 in pixels of the upright original; (0, 4)
                if there are none.
            max_length: longer texts lose their end.
            padding, truncation: as for a tokenizer; by default, pad to the longest text and
                truncate if there is a max_length.
            return_tensors: "pt"; other formats are refused.

        Returns:
            input_ids, attention_mask (B, T), padded on the right to the longest text; pixel_values
            (N, 3, H, W); object_patch_mask (N, K, P) bool and object_mask (N, K), padded to the
            most boxes of an image; and the attribute `boxes_outside`.

        Raises:
            ValueError: names the item of the batch.
        """
        if return_tensors != "pt":
            raise ValueError(f"return_tensors: {return_tensors!r}: the models take torch's, 'pt'")
        features = VLEFeatures()
        if text is not None:
            encoded = self.tokenizer(
                _texts(text),
                padding=padding,
                padding_side="right",
                max_length=max_length,
                truncation=max_length is not None if truncation is None else truncation,
                return_tensors="pt",
                return_token_type_ids=False,
            )
            features.update(encoded)
        if boxes is not None and images is None:
            raise ValueError("boxes need the images that they lie on")
        if images is not None:
            if not isinstance(images, Transformed):
                images = self._transformed(images)
            features["pixel_values"] = self._pixel_values(images.pixels)
            if boxes is not None:
                masks, real, outside = self._objects(boxes, images.sizes)
                features["object_patch_mask"], features["object_mask"] = masks, real
                features.boxes_outside = outside
        return features

    def window(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return the part of a picture that the model sees, in pixels of the picture.

        After a squash this is the whole picture. After a centre crop it is the part within the
        crop; if the crop is larger than the picture, the black border belongs to it.

        Returns:
            Left, top, width and height.
        """
        new_width, new_height = self._resized(width, height)
        settings = self.image_processor
        if not settings.do_center_crop:
            return 0, 0, width, height
        crop_width, crop_height = settings.crop_size["width"], settings.crop_size["height"]
        left, top = (new_width - crop_width) // 2, (new_height - crop_height) // 2
        x, y = width / new_width, height / new_height
        return left * x, top * y, crop_width * x, crop_height * y

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the size to which the image processor resizes a picture."""
        size = self.transform.resized(width, height)
        if size is None:
            raise ValueError(
                "boxes can follow a resize to height and width or to shortest_edge, not to "
                f"{self.image_processor.size}"
            )
        return size

    def _grid(self, width: int, height: int) -> tuple[int, int]:
        """Return the rows and columns of patches of a picture."""
        if not self.patch_size:
            raise ValueError(
                "boxes need the processor's patch_size: that of the model's config.vision_config"
            )
        settings = self.image_processor
        if settings.do_center_crop:
            width, height = settings.crop_size["width"], settings.crop_size["height"]
        else:
            width, height = self._resized(width, height)
        return height // self.patch_size, width // self.patch_size

    def box_patches(
        self, boxes: ArrayLike, size: tuple[int, int]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Map boxes of a picture to the patches of what the model sees of it.

        Args:
            boxes: (K, 4), x1, y1, x2, y2 in pixels of the upright picture.
            size: width and height of the picture.

        Returns:
            (K, P) the patches that each box touches, and (K,) whether the model sees none of it: it
            then has the nearest patches.
        """
        left, top, width, height = (0, 0, *size) if self.boxes_as_squashed else self.window(*size)
        moved = box_mapping.box_array(boxes) - np.array([left, top, left, top])
        touched = box_mapping.patch_mask(moved, width, height, *self._grid(*size))
        return touched, box_mapping.outside(moved, width, height)

    def _objects(
        self, boxes: Sequence[ArrayLike], sizes: list[tuple[int, int]]
    ) -> tuple[Tensor, Tensor, int]:
        """Map the boxes of N pictures to patches.

        Returns:
            object_patch_mask (N, K, P), object_mask (N, K) and the number of boxes outside.
        """
        if len(boxes) != len(sizes):
            raise ValueError(
                f"boxes: expected an array for each of the {len(sizes)} images, got {len(boxes)}"
            )
        masks: list[NDArray[np.bool_]] = []
        outside = 0
        for i, (corners, size) in enumerate(zip(boxes, sizes, strict=True)):
            try:
                touched, beyond = self.box_patches(corners, size)
            except ValueError as error:
                raise ValueError(f"images[{i}]: {error}") from error
            masks.append(touched)
            outside += int(beyond.sum())
        most = max(len(mask) for mask in masks)
        padded = np.stack([np.pad(mask, ((0, most - len(mask)), (0, 0))) for mask in masks])
        real = np.arange(most) < np.array([len(mask) for mask in masks])[:, None]
        return torch.from_numpy(padded), torch.from_numpy(real.astype(np.int64)), outside

    @property
    def transform(self) -> Transform:
        """The transform that resizes and crops pictures."""
        return Transform(self.image_processor)

    def _transformed(self, images: object) -> Transformed:
        """Read one image or a list of them, and resize and crop them."""
        sources = images if isinstance(images, list | tuple) else [images]
        if not sources:
            raise ValueError("images: expected at least one, got an empty list")
        upright = [pictures.read(source, f"images[{i}]") for i, source in enumerate(sources)]
        return Transformed(self.transform(upright), [image.size for image in upright])

    def _pixel_values(self, whole: Tensor) -> Tensor:
        """Rescale and normalise pixels (N, 3, H, W) of uint8, a batch at a time.

        The image processor of transformers does the same for each image, in three times the time.
        """
        settings = self.image_processor
        pixels = whole.float()
        if settings.do_rescale:
            pixels *= settings.rescale_factor
        if settings.do_normalize:
            mean = torch.tensor(settings.image_mean)[:, None, None]
            std = torch.tensor(settings.image_std)[:, None, None]
            # In place: two more copies of a batch take as long as the arithmetic.
            pixels.sub_(mean).div_(std)
        return pixels

    @classmethod
    def _get_arguments_from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        processor_dict: dict[str, object] | None = None,
        **kwargs: Any,
    ) -> list[object]:
        """Load the image processor and the tokenizer.

        transformers 5 does not know `CLIPFeatureExtractor`, the name of CLIP's before version 4.25.
        """
        settings, _ = CLIPImageProcessorPil.get_image_processor_dict(
            pretrained_model_name_or_path, **kwargs
        )
        if settings.get("image_processor_type") != "CLIPFeatureExtractor":
            loaded: list[object] = super()._get_arguments_from_pretrained(
                pretrained_model_name_or_path, processor_dict, **kwargs
            )
            return loaded
        image_processor = CLIPImageProcessorPil.from_dict(
            settings | {"image_processor_type": "CLIPImageProcessor"}
        )
        tokenizer = cls._load_tokenizer_from_pretrained(
            "tokenizer", pretrained_model_name_or_path, **kwargs
        )
        return [image_processor, tokenizer]

    @classmethod
    def from_folder(cls, folder: Path) -> "VLEProcessor":
        """Load the processor of a checkpoint folder."""
        return cls.from_pretrained(str(folder), local_files_only=True)


def _texts(text: str | Sequence[str]) -> list[str]:
    """Return a list of texts, all of them strings with a word in them."""
    if not isinstance(text, str | list | tuple):
        raise ValueError(f"text: expected a string or a list of strings, got {type(text).__name__}")
    texts = [text] if isinstance(text, str) else list(text)
    if not texts:
        raise ValueError("text: expected at least one, got an empty list")
    for i, entry in enumerate(texts):
        if not isinstance(entry, str):
            raise ValueError(f"text[{i}]: expected a string, got {type(entry).__name__}")
        if not entry.strip():
            raise ValueError(f"text[{i}]: expected a text, got an empty string")
    return texts
