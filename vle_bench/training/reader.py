"""How a recipe's model reads: its configuration, tokenizer and processor, saved or new."""

from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from vle_bench.data.prepared import PreparedData
from vle_bench.json_files import JsonObject
from vle_bench.model_families import module_of
from vle_bench.models import pretrained
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks.base import Task


def label_maps(data: PreparedData) -> JsonObject:
    """The configuration values that name the answers; empty for a task without fixed answers."""
    if not data.labels:
        return {}
    return {
        "id2label": dict(enumerate(data.labels)),
        "label2id": {answer: i for i, answer in enumerate(data.labels)},
    }


def head_settings(recipe: Recipe, data: PreparedData) -> JsonObject:
    """The configuration values that decide the heads: answers, and the objectives' weights."""
    objectives = recipe.model.objectives
    return label_maps(data) | ({"objectives": objectives.model_dump()} if objectives else {})


def from_scratch(
    recipe: Recipe, task: Task, data: PreparedData
) -> tuple[VLEConfig, PreTrainedTokenizerBase]:
    """Return the configuration of a model from scratch, and its tokenizer.

    The tokenizer is trained on the training split.
    """
    tokenizer = task.tokenizer(data, recipe.data.train, recipe.model.tokenizer.vocab_size)
    # The schema asks for either a checkpoint or a config.
    values = dict(recipe.model.config or {})
    values["text_config"] = {
        **values["text_config"],
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
    }
    values["vision_config"] = {**values["vision_config"], "image_size": recipe.model.image_size}
    return VLEConfig(**values, **head_settings(recipe, data)), tokenizer


def processor_of_family(recipe: Recipe, task: Task, data: PreparedData) -> Any:
    """Return the processor of a model that is not VLE: from its checkpoint, or a new one."""
    wanted, module = recipe.model, module_of(recipe.model.family)
    sizes = wanted.image_size, wanted.max_text_length
    if wanted.checkpoint is not None:
        return module.saved_processor(pretrained.resolve(Path(wanted.checkpoint)), *sizes)
    tokenizer = task.tokenizer(data, recipe.data.train, wanted.tokenizer.vocab_size)
    return module.new_processor(tokenizer, wanted.config, *sizes)


def new_processor(
    recipe: Recipe, config: VLEConfig, tokenizer: PreTrainedTokenizerBase
) -> VLEProcessor:
    """Return the processor of a model without a checkpoint."""
    return VLEProcessor.from_parts(
        tokenizer,
        recipe.model.image_size,
        config.vision_config.patch_size,
        recipe.model.resize or "squash",
    )


def saved_processor(recipe: Recipe, folder: Path, config: VLEConfig) -> VLEProcessor:
    """Return the processor of a checkpoint folder, with the recipe's size of pictures."""
    wanted = recipe.model
    processor = pretrained.load_processor(folder, wanted.image_size, wanted.resize)
    processor.patch_size = config.vision_config.patch_size
    return processor
