"""`train.per_device_batch_size: auto`: as many questions at once as fit the device."""

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from vle_bench.models.base import TrainableModel
from vle_bench.recipe.batch_size import largest_divisor
from vle_bench.recipe.schema import Recipe
from vle_bench.recipe.values import AUTO
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.training.engine import memory_estimate

# Bytes that a training step in bf16 holds for each number of a layer's output. VLE-base at 384
# pixels had 48 (VQA, one question a picture), 51 (5.4 of them) and 51 (VCR) between a small and the
# largest micro-batch; docs/speed.md.
BYTES = 53
FLOAT32 = 1.5  # times as many where activations are not in 16 bits, an estimate
# Part of the device's memory that is planned with. The rest is for the driver, for gaps between
# tensors and for batches with more objects.
SHARE = 0.85


def with_number(recipe: Recipe, model: TrainableModel, accelerator: Accelerator) -> Recipe:
    """Replace `auto` by the largest number of questions that fits every device."""
    train = recipe.train
    if train.per_device_batch_size != AUTO:
        return recipe
    share = train.batch_size // accelerator.num_processes
    # Devices may differ, and all processes take as many micro-batches.
    number = min(gather_object([largest(recipe, model, accelerator, share)]))
    chosen = train.model_copy(update={"per_device_batch_size": number})
    return recipe.model_copy(update={"train": chosen})


def largest(recipe: Recipe, model: TrainableModel, accelerator: Accelerator, share: int) -> int:
    """Return the largest divisor of `share` whose micro-batch fits the GPU.

    On a CPU more questions at once are no faster: it takes what is taken without a device.
    """
    if accelerator.device.type != "cuda":
        return largest_divisor(share, recipe.train.micro_batch)
    parameters = list(model.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    lasting = memory_estimate(total, trainable, accelerator, recipe.train.ema is not None)
    lasting += 2 * total  # autocast's copies of the weights
    room = SHARE * torch.cuda.get_device_properties(accelerator.device).total_memory - lasting
    size = question_bytes(recipe, model, accelerator.mixed_precision != "no")
    if recipe.train.cuda_graphs:  # memory of recordings, and of passes that are not recorded
        size *= 2
    return largest_divisor(share, max(1, int(room / size)))


def question_bytes(recipe: Recipe, model: TrainableModel, half: bool) -> float:
    """Estimate the memory of a question: one picture, and texts as long as they may be.

    Gradient checkpointing takes less, texts of several hundred tokens more: the scores of DeBERTa's
    attention are not counted.

    Args:
        half: activations are in 16 bits.
    """
    texts, tokens = CATALOGUE[recipe.task].texts, recipe.model.max_text_length
    outputs = model.question_outputs(texts, tokens, recipe.model.image_size)
    return float(outputs * BYTES * (1 if half else FLOAT32))
