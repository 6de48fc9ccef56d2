"""A recipe's model with its configuration, tokenizer and processor: from a checkpoint, or new."""

from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase

from vle_bench import models
from vle_bench.data.prepared import PreparedData
from vle_bench.errors import RequestError, few
from vle_bench.evaluation.other_models import recognised
from vle_bench.json_files import JsonObject
from vle_bench.model_families import FAMILIES, VLE, module_of
from vle_bench.models import pretrained
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks.base import Task

# A trainable model, its processor, and how many of its parameters no checkpoint held.
Built = tuple[Any, Any, int]


def model_of(recipe: Recipe, task: Task, data: PreparedData) -> Built:
    """Load the model of a recipe from its checkpoint, or build it from scratch.

    A model from scratch gets a tokenizer that is trained on the training split.

    Returns:
        The model, the processor, and how many parameters no checkpoint held.
    """
    if recipe.model.checkpoint is not None:
        refuse_other_family(pretrained.resolve(Path(recipe.model.checkpoint)), recipe.model.family)
    if recipe.model.family != VLE:
        return of_family(recipe, task, data)
    if recipe.model.checkpoint is not None:
        return from_checkpoint(recipe, task, data, Path(recipe.model.checkpoint))
    return from_config(recipe, task, *from_scratch(recipe, task, data))


def from_config(
    recipe: Recipe, task: Task, config: VLEConfig, tokenizer: PreTrainedTokenizerBase
) -> Built:
    """Build a model with random weights."""
    model = getattr(models, task.architecture)(config)
    processor = new_processor(recipe, config, tokenizer)
    return model, processor, sum(p.numel() for p in model.parameters())


def from_checkpoint(recipe: Recipe, task: Task, data: PreparedData, checkpoint: Path) -> Built:
    """Load a model from a checkpoint or run folder, with a new head where it has none."""
    folder, wanted = pretrained.resolve(checkpoint), recipe.model
    # A head of another kind is left out, whatever its answers.
    if data.labels and not wanted.new_head and may_hold(folder, task.architecture):
        refuse_other_answers(folder, data)
    model, new = pretrained.load_counting_new(
        folder,
        task.architecture,
        head_may_be_new=True,
        new_head=wanted.new_head,
        image_size=wanted.image_size,
        num_token_types=pretrained.at_least_token_types(folder, task.num_token_types),
        **head_settings(recipe, data),
    )
    refuse_damaged(folder, model)
    return model, saved_processor(recipe, folder, model.config), new


def of_family(recipe: Recipe, task: Task, data: PreparedData) -> Built:
    """Load or build a model that is not VLE; see `model_of`."""
    wanted, module = recipe.model, module_of(recipe.model.family)
    processor = processor_of_family(recipe, task, data)
    if wanted.checkpoint is None:
        model = module.from_scratch(
            wanted.config, data.labels, processor.tokenizer, wanted.image_size
        )
        return model, processor, sum(p.numel() for p in model.parameters())
    folder = pretrained.resolve(Path(wanted.checkpoint))
    if not wanted.new_head:
        refuse_other_answers(folder, data)
    model, new = module.as_start(folder, data.labels, wanted.new_head, wanted.dropout)
    refuse_damaged(folder, model)
    return model, processor, new


def refuse_other_family(folder: Path, family: str) -> None:
    """Refuse a checkpoint of another family than the recipe's, or one that is not trained here."""
    own, _ = recognised(folder)
    if own in (None, family):
        return  # loading names the problem of an unknown one
    title = FAMILIES[own].title
    way = (
        f"model.family: {own} fine-tunes it"
        if FAMILIES[own].trained
        else "it can be scored here, not trained"
    )
    raise RequestError(f"{folder}: of {title}, and the recipe's model.family is {family}; {way}")


def refuse_damaged(folder: Path, model: nn.Module) -> None:
    """Refuse weights that are not finite."""
    if damaged := pretrained.not_finite(model.named_parameters()):
        raise RequestError(
            f"{folder}: weights that are not finite (NaN or infinite): {few(damaged)}"
        )


def may_hold(folder: Path, architecture: str) -> bool:
    """Tell whether a checkpoint may have the head of an architecture, by its configuration."""
    saved = pretrained.read_json(folder / "config.json").get("architectures")
    return not saved or architecture in saved


def refuse_other_answers(folder: Path, data: PreparedData) -> None:
    """Refuse a trained head whose answers are not those that the data were prepared with."""
    answers = pretrained.own_answers(folder)
    if answers is not None and answers != data.labels:
        raise RequestError(
            f"{folder}: its {len(answers)} answers are not the {len(data.labels)} of {data.root}: "
            "start with a fresh head (model.new_head: true), or prepare the data with "
            f"--label-map {folder}/config.json"
        )


def label_maps(data: PreparedData) -> JsonObject:
    """Return the configuration values that name the answers; empty without fixed answers."""
    if not data.labels:
        return {}
    return {
        "id2label": dict(enumerate(data.labels)),
        "label2id": {answer: i for i, answer in enumerate(data.labels)},
    }


def head_settings(recipe: Recipe, data: PreparedData) -> JsonObject:
    """Return the configuration values of the heads: answers, and weights of the objectives."""
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
