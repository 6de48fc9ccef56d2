"""The common start of a family's models: random weights, and one tokenizer for all data.

A model from scratch and a pre-trained one of the same seed start from the same weights and read
texts in the same pieces, so that pre-training is the only difference.
"""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from accelerate.utils import set_seed
from transformers import PreTrainedTokenizerBase

from vle_bench import atomic
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.models import VLEConfig, VLEModel
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.training.model import new_processor

MARK = "▁"  # before a piece that begins a word
MOST_PIECES = 1_000  # far more than the data of the study have


def common_tokenizer(recipes: Sequence[Recipe]) -> PreTrainedTokenizerBase:
    """Build a tokenizer that keeps every word of the training splits of several recipes whole."""
    pieces: set[str] = set()
    for recipe in recipes:
        task = load_task(recipe.task)
        data = task.open(Path(recipe.data.root))
        pieces.update(task.tokenizer(data, recipe.data.train, MOST_PIECES).get_vocab())
    special = {piece for piece in pieces if piece.startswith("[") and piece.endswith("]")}
    words = sorted({piece.removeprefix(MARK) for piece in pieces - special} - {""})
    return train_tokenizer([" ".join(words)], MOST_PIECES)


def write_start(recipe: Recipe, tokenizer: PreTrainedTokenizerBase, folder: Path) -> Path:
    """Write a `from_pretrained` folder of random weights into `folder`, unless it is there.

    Args:
        recipe: has the configuration and the seed.

    Returns:
        The folder, named after all that decides its content.
    """
    config = config_of(recipe, tokenizer)
    pieces = sorted(tokenizer.get_vocab().items())
    decides = json.dumps([recipe.train.seed, recipe.model.model_dump(mode="json"), pieces])
    path = folder / f"{recipe.name}-{hashlib.sha256(decides.encode()).hexdigest()[:8]}"
    if not (path / "config.json").exists():
        set_seed(recipe.train.seed)
        with atomic.folder(path) as partial:
            VLEModel(config).save_pretrained(partial)
            new_processor(recipe, config, tokenizer).save_pretrained(partial)
    return path


def config_of(recipe: Recipe, tokenizer: PreTrainedTokenizerBase) -> VLEConfig:
    """Return the configuration of a recipe for a tokenizer that was made elsewhere."""
    values = dict(recipe.model.config or {})
    words = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    values["text_config"] = {**values["text_config"], **words}
    values["vision_config"] = {**values["vision_config"], "image_size": recipe.model.image_size}
    return VLEConfig(**values)
