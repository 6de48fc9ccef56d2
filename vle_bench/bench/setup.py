"""Data and models of a recipe's sizes, for `vle-bench bench` if its own are missing."""

from collections.abc import Callable
from pathlib import Path

from vle_bench.bench.synthetic import write_synthetic
from vle_bench.data.prepared import PreparedData
from vle_bench.data.splits import tables
from vle_bench.errors import RequestError
from vle_bench.model_families import VLE, module_of
from vle_bench.models import SIZES
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Task
from vle_bench.tasks.catalogue import CATALOGUE
from vle_bench.training.model import Built, from_config, head_settings, model_of

VOCABULARY = 1000  # of the tokenizer of synthetic texts, more than they have words


def with_synthetic_data(
    recipe: Recipe, folder: Path, training_steps: int, evaluation_batch_size: int
) -> Recipe:
    """Write synthetic data for all splits of a recipe; return the recipe with them as its data.

    They stand for mixed data too.
    """
    data, size = recipe.data, recipe.train.batch_size
    splits = (data.train, data.evaluate, data.report)
    there = {table for split in splits for table in tables(split, set())}
    training = tables(data.train, there)
    # A few whole global batches at most: the loop goes through them again.
    wanted = size * min(training_steps, max(1, 256 // size))
    counts = {split: -(-wanted // len(training)) for split in training}
    if len(training) > 1:
        counts[training[-1]] = max(1, wanted - sum(counts.values()) + counts[training[-1]])
    for split in (*tables(data.evaluate, there), *tables(data.report, there)):
        counts.setdefault(split, max(16, 2 * evaluation_batch_size))
    per_image = data.questions_together
    together = {split: per_image for split in training if per_image is not None}
    choices = CATALOGUE[recipe.task].form == "choice"
    write_synthetic(folder, data.source, counts, recipe.train.seed, together, choices)
    replaced = {"root": str(folder), "first_stage": None, "mix": None}
    return recipe.model_copy(update={"data": data.model_copy(update=replaced)})


def config_of(recipe: Recipe, task: Task) -> VLEConfig:
    """Return the configuration of a recipe's checkpoint, or of its published size, without weights.

    Raises:
        RequestError: the checkpoint is not there and its name is that of no published size, or the
            recipe's image size does not divide into patches.
    """
    folder = Path(recipe.model.checkpoint or "")
    candidates = (folder, folder / "best", folder / "last")
    saved = next((f for f in candidates if (f / "config.json").is_file()), None)
    published = next((name for name in SIZES if folder.name.startswith(name)), None)
    if saved is not None:
        config = VLEConfig.from_pretrained(saved)
    elif published is not None:
        config = VLEConfig(**SIZES[published])
    else:
        raise RequestError(
            f"model.checkpoint: {folder} is not there, and its name begins with no published size "
            f"({', '.join(SIZES)}), so its sizes are not known; give a checkpoint, or model.config"
        )
    config.num_token_types = max(config.num_token_types, task.num_token_types or 0)
    size, patch = recipe.model.image_size, config.vision_config.patch_size
    if size % patch:
        below = size // patch * patch
        raise RequestError(
            f"model.image_size: {size} does not divide by the patch size {patch}; "
            f"{below} or {below + patch} would"
        )
    config.vision_config.image_size = size
    return config


def model_builder(recipe: Recipe) -> Callable[[Recipe, Task, PreparedData], Built]:
    """Return a replacement of `model_of` that draws random weights in the recipe's sizes.

    The tokenizer is trained on the words of the data. The vocabulary of the model has its full
    size, so that the optimizer has all of its work.

    Raises:
        RequestError: see `config_of`.
    """
    if recipe.model.config is not None:
        return model_of
    if recipe.model.family != VLE:
        return other_model
    config = config_of(recipe, load_task(recipe.task))

    def sized_model(recipe: Recipe, task: Task, data: PreparedData) -> Built:
        tokenizer = task.tokenizer(data, recipe.data.train, VOCABULARY)
        config.text_config.pad_token_id = tokenizer.pad_token_id
        for name, value in head_settings(recipe, data).items():
            setattr(config, name, value)
        return from_config(recipe, task, config, tokenizer)

    return sized_model


def other_model(recipe: Recipe, task: Task, data: PreparedData) -> Built:
    """Draw a model that is not VLE, of its published sizes."""
    module, wanted = module_of(recipe.model.family), recipe.model
    tokenizer = task.tokenizer(data, recipe.data.train, VOCABULARY)
    config = {} if wanted.dropout is None else {"hidden_dropout_prob": wanted.dropout}
    model = module.of_published_size(config, data.labels, tokenizer)
    sizes = wanted.image_size, wanted.max_text_length
    processor = module.new_processor(tokenizer, {}, *sizes)
    return model, processor, sum(p.numel() for p in model.parameters())
