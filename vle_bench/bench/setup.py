"""What `vle-bench bench` measures where the recipe's data or weights are not there: a model and data of its sizes."""

from pathlib import Path
from typing import Any

import psutil
import torch

from vle_bench import models
from vle_bench.bench.synthetic import write_synthetic
from vle_bench.data.samplers import questions_together
from vle_bench.data.splits import tables
from vle_bench.errors import RequestError
from vle_bench.evaluation.precision import on_gpu, training_precision
from vle_bench.models import SIZES, VLEConfig
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Data, Task
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.training.engine import checkpoint_activations
from vle_bench.training.run import model_of

VOCABULARY = 1000  # of the tokenizer of synthetic texts, more than they have words


OBJECTS = 3


def with_synthetic_data(
    recipe: Recipe, folder: Path, training_steps: int, evaluation_batch_size: int
) -> Recipe:
    """Write synthetic data for all splits of a recipe; returns the recipe with them as its data."""
    data, size = recipe.data, recipe.train.batch_size
    there = (
        set(tables(data.train, set()))
        | set(tables(data.evaluate, set()))
        | set(tables(data.report, set()))
    )
    training = tables(data.train, there)
    # whole global batches, a few at most: the loop goes through them again
    wanted = size * min(training_steps, max(1, 256 // size))
    counts = {split: -(-wanted // len(training)) for split in training}
    if len(training) > 1:
        counts[training[-1]] = max(1, wanted - sum(counts.values()) + counts[training[-1]])
    for split in (*tables(data.evaluate, there), *tables(data.report, there)):
        counts.setdefault(split, max(16, 2 * evaluation_batch_size))
    per_image = questions_together(data.grouping, data.questions_per_image)
    together = {split: per_image for split in training if per_image is not None}
    write_synthetic(folder, data.source, counts, recipe.train.seed, together)
    return recipe.model_copy(
        update={"data": data.model_copy(update={"root": str(folder), "first_stage": None})}
    )


def config_of(recipe: Recipe, task: Task) -> VLEConfig:
    """The configuration of a recipe's model, with the recipe's image size, read from no weights.

    Raises:
        RequestError: the checkpoint is not there, and its name is that of no published size.
    """
    if recipe.model.config is not None:
        values = dict(recipe.model.config)
        values["text_config"] = {
            **values["text_config"],
            "vocab_size": recipe.model.tokenizer.vocab_size,
        }
        values["vision_config"] = dict(values["vision_config"])
        config = VLEConfig(**values)
    else:
        folder = Path(recipe.model.checkpoint or "")
        found = next(
            (
                f
                for f in (folder, folder / "best", folder / "last")
                if (f / "config.json").is_file()
            ),
            None,
        )
        published = next((name for name in SIZES if folder.name.startswith(name)), None)
        if found is not None:
            config = VLEConfig.from_pretrained(found)
        elif published is not None:
            config = VLEConfig(**SIZES[published])
        else:
            raise RequestError(
                f"model.checkpoint: {folder} is not there, and its name begins with no published size ({', '.join(SIZES)}), so "
                "its sizes are not known; give a checkpoint, or model.config"
            )
        config.num_token_types = max(config.num_token_types, task.num_token_types or 0)
    size, patch = recipe.model.image_size, config.vision_config.patch_size
    if size % patch:
        below = size // patch * patch
        raise RequestError(
            f"model.image_size: {size} does not divide by the patch size {patch}; {below} or {below + patch} would"
        )
    config.vision_config.image_size = recipe.model.image_size
    return config


def sized_model(recipe: Recipe, task: Task, data: Data) -> tuple[Any, Any, int]:
    """In the place of `train.model_of`: the recipe's sizes with weights drawn by lot, and a tokenizer of the data's words.

    The vocabulary of the model has its full size, so that the optimiser has all of its work.
    """
    if recipe.model.config is not None:
        return model_of(recipe, task, data)
    config = config_of(recipe, task)
    tokenizer = task.tokenizer(data, recipe.data.train, VOCABULARY)
    config.text_config.pad_token_id = tokenizer.pad_token_id
    if data.labels:
        config.id2label = dict(enumerate(data.labels))
        config.label2id = {label: i for i, label in enumerate(data.labels)}
    model = getattr(models, task.architecture)(config)
    processor = VLEProcessor.from_parts(
        tokenizer,
        recipe.model.image_size,
        config.vision_config.patch_size,
        recipe.model.resize or "squash",
    )
    return model, processor, sum(p.numel() for p in model.parameters())


def check_memory(recipe: Recipe) -> None:
    """Refuse a micro-batch that cannot fit into the memory that is free now, before any of it is taken."""
    free = torch.cuda.mem_get_info()[0] if on_gpu() else psutil.virtual_memory().available
    states, each = least_memory(recipe)
    size = recipe.train.per_device_batch_size
    if states + size * each <= free:
        return
    there = f"{free / 2**30:.1f} GiB are free"
    fitting = int((free - states) // each)
    if fitting < 1:
        raise RequestError(
            f"bench: a model of this size takes at least {(states + each) / 2**30:.1f} GiB to train on one question of "
            f"{recipe.model.image_size} pixels, {there}; take a smaller model, or a smaller model.image_size"
        )
    fitting = max(n for n in range(1, fitting + 1) if recipe.train.batch_size % n == 0)
    raise RequestError(
        f"train.per_device_batch_size: {size} questions of {recipe.model.image_size} pixels need at least "
        f"{(states + size * each) / 2**30:.1f} GiB, {there}; "
        f"{fitting} may fit: train.per_device_batch_size={fitting}"
    )


def least_memory(recipe: Recipe) -> tuple[float, float]:
    """Bytes that training takes at least: what lasts from step to step, and for each question of a micro-batch.

    Weights, gradients and AdamW's moments in float32; what the encoder keeps of one question and its image for the backward pass,
    counted in a pass without data. Buffers of the moment, padding and the libraries come on top.
    """
    task = load_task(recipe.task)
    config = config_of(recipe, task)
    facts = CATALOGUE[recipe.task]
    texts, tokens = facts.texts, min(facts.tokens, recipe.model.max_text_length)
    with torch.device("meta"):
        model = getattr(models, task.architecture)(config).train()
        ids = torch.zeros(texts, tokens, dtype=torch.long)
        inputs = {
            "input_ids": ids,
            "attention_mask": ids,
            "image_index": ids[:, 0],
            "pooled_only": facts.pooled,
            "pixel_values": torch.zeros(
                1,
                config.vision_config.num_channels,
                recipe.model.image_size,
                recipe.model.image_size,
            ),
        }
        if facts.form == "vcr":
            objects = torch.zeros(texts, OBJECTS, dtype=torch.long)
            inputs |= {
                "object_patch_mask": torch.zeros(texts, OBJECTS, config.num_patches).bool(),
                "token_type_ids": ids,
                "object_mask": objects,
                "object_token_type_ids": objects,
            }
    if recipe.train.gradient_checkpointing:
        checkpoint_activations(model)
    if (
        config.text_config.model_type != "deberta-v2"
    ):  # RoBERTa looks at the mask's values, which are not there: left out
        model.base_model.encode_text = lambda ids, mask: torch.zeros(
            *ids.shape, config.hidden_size, device="meta"
        )
    kept: dict[
        int, tuple[torch.UntypedStorage, int]
    ] = {}  # the storages too: one that is gone would leave its address to another

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage._cdata] = (storage, storage.nbytes())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model.base_model(**inputs)
    del output
    own = {p.untyped_storage()._cdata for p in model.parameters()}
    each = sum(size for address, (_, size) in kept.items() if address not in own)
    weight = (
        1.0 if training_precision(recipe.train.precision) == "fp32" else 0.5
    )  # most of it is in 16 bits then
    return 16.0 * sum(p.numel() for p in model.parameters()), weight * each
