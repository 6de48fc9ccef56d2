"""Checks of a model's input tensors. Letters in shapes: see `modeling`."""

import torch
from torch import Tensor

from vle_bench.models.vle.configuration import VLEConfig


def check_shape(name: str, tensor: Tensor, expected: tuple[int, ...]) -> None:
    """Raise a ValueError if the tensor does not have the expected shape."""
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name}: expected the shape {expected}, got {tuple(tensor.shape)}")


def check_range(name: str, tensor: Tensor, end: int, ignored: int | None = None) -> None:
    """Raise a ValueError for values outside of 0..end-1, except `ignored`.

    Checks only on the CPU: to look at values on a GPU would make the host wait for it.
    """
    if tensor.device.type != "cpu" or torch.compiler.is_compiling() or not tensor.numel():
        return
    wrong = (tensor < 0) | (tensor >= end)
    if ignored is not None:
        wrong &= tensor != ignored
    if wrong.any():
        place = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"{name}: expected values of 0 to {end - 1}, got {tensor[place].item()} at {place}"
        )


def check_inputs(
    config: VLEConfig,
    input_ids: Tensor,
    attention_mask: Tensor,
    pixel_values: Tensor,
    image_index: Tensor | None,
    token_type_ids: Tensor | None,
) -> None:
    """Raise a ValueError if texts and images do not fit each other or the configuration."""
    for name, value in (
        ("input_ids", input_ids),
        ("attention_mask", attention_mask),
        ("pixel_values", pixel_values),
    ):
        if value is None:
            raise ValueError(f"{name}: expected a tensor, got None")
    if input_ids.dim() != 2:
        raise ValueError(f"input_ids: expected (texts, tokens), got {tuple(input_ids.shape)}")
    check_range("input_ids", input_ids, config.text_config.vocab_size)
    texts = input_ids.shape[0]
    if image_index is None and pixel_values.shape[0] != texts:
        raise ValueError(
            f"{texts} texts and {pixel_values.shape[0]} images: "
            "image_index must say which image each text sees"
        )
    check_shape("attention_mask", attention_mask, tuple(input_ids.shape))
    if image_index is not None:
        check_shape("image_index", image_index, (texts,))
        check_range("image_index", image_index, pixel_values.shape[0])
    if token_type_ids is not None:
        check_shape("token_type_ids", token_type_ids, tuple(input_ids.shape))
        check_range("token_type_ids", token_type_ids, config.num_token_types)


def check_objects(
    config: VLEConfig,
    texts: int,
    object_patch_mask: Tensor | None,
    object_token_type_ids: Tensor | None,
    object_mask: Tensor | None,
) -> None:
    """Raise a ValueError if the three tensors of the objects do not fit each other or the texts."""
    if object_patch_mask is None and object_token_type_ids is None and object_mask is None:
        return
    if object_patch_mask is None or object_token_type_ids is None or object_mask is None:
        raise ValueError(
            "object_patch_mask, object_mask (B, K) and object_token_type_ids (B, K): "
            "give all three or none"
        )
    objects = object_patch_mask.shape[1]
    check_shape("object_patch_mask", object_patch_mask, (texts, objects, config.num_patches))
    check_shape("object_mask", object_mask, (texts, objects))
    check_shape("object_token_type_ids", object_token_type_ids, (texts, objects))
    check_range("object_token_type_ids", object_token_type_ids, config.num_token_types)
