"""ViLT's checkpoint folders: read, loaded whole, or as the start of a training."""

from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedTokenizerBase, ViltConfig
from transformers.models.vilt.image_processing_pil_vilt import ViltImageProcessorPil

from vle_bench.data.tokenization import load_tokenizer
from vle_bench.errors import RequestError, few, first_line
from vle_bench.json_files import JsonObject
from vle_bench.models import pretrained
from vle_bench.models.base import Way
from vle_bench.models.vilt.modeling import ViltForQuestionAnswering
from vle_bench.models.vilt.processing import ViltProcessor

PUBLISHED_LENGTH = 40  # tokens: max_text_len of ViLT's config.py


def read(folder: Path, way: Way) -> ViltProcessor:
    """Load the processor of a checkpoint folder, and refuse one that does not fit its config.json.

    Raises:
        RequestError: a file is missing or damaged, or its values do not fit the model.
    """
    pretrained.check_processor_files(folder, "the published folder's")
    try:
        pictures = ViltImageProcessorPil.from_pretrained(str(folder), local_files_only=True)
        processor = ViltProcessor(pictures, load_tokenizer(folder, local_files_only=True))
        config = transformers.ViltConfig.from_pretrained(str(folder), local_files_only=True)
    # Others' files may hold anything, and each library raises errors of its own.
    except Exception as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {first_line(error)}"
        ) from error
    fit(folder, processor, config, way.max_text_length)
    return processor


def new_processor(
    tokenizer: PreTrainedTokenizerBase,
    config: JsonObject,
    image_size: int,
    max_text_length: int,
) -> ViltProcessor:
    """Return the processor of a model from scratch with these values of ViltConfig."""
    patch: Any = ViltConfig(**config).patch_size
    return ViltProcessor.from_parts(tokenizer, image_size, patch, max_text_length)


def saved_processor(folder: Path, image_size: int, max_text_length: int) -> ViltProcessor:
    """Return the processor of a checkpoint folder, for pictures of another shorter side."""
    processor = read(folder, Way("classification", max_text_length=max_text_length))
    settings = processor.image_processor.to_dict() | {"size": {"shortest_edge": image_size}}
    processor.image_processor = ViltImageProcessorPil.from_dict(settings)
    return processor


def fit(
    folder: Path, processor: ViltProcessor, config: transformers.ViltConfig, length: int | None
) -> None:
    """Set what only config.json says, and refuse what does not fit it."""
    settings, tokenizer = processor.image_processor, processor.tokenizer
    patch, path = config.patch_size, folder / "preprocessor_config.json"
    if type(patch) is not int or type(config.image_size) is not int:
        raise RequestError(
            f"{folder / 'config.json'}: patch_size and image_size: whole numbers are expected"
        )
    if not (settings.do_resize and settings.do_rescale and settings.do_normalize):
        raise RequestError(
            f"{path}: do_resize, do_rescale and do_normalize: ViLT's pictures need all three"
        )
    short = (settings.size or {}).get("shortest_edge")
    if type(short) is not int or not patch <= short <= 4096:
        raise RequestError(
            f"{path}: size: shortest_edge, {patch} to 4096 pixels, is expected, not {short!r}"
        )
    if settings.size_divisor % patch:
        raise RequestError(
            f"{path}: size_divisor: {settings.size_divisor} is no multiple of the model's "
            f"patch_size {patch} (config.json): a patch would be cut"
        )
    positions = config.max_position_embeddings
    if length is not None and length > positions:
        raise RequestError(
            f"{folder}: --max-text-length {length}: it has positions for {positions} tokens"
        )
    if len(tokenizer) > config.vocab_size:
        raise RequestError(
            f"{folder}: its tokenizer has {len(tokenizer):,} words, and its model "
            f"{config.vocab_size:,}"
        )
    processor.patch_size = patch
    limit = min(PUBLISHED_LENGTH, positions, tokenizer.model_max_length)
    tokenizer.model_max_length = length or limit


def load(folder: Path, reader: ViltProcessor, labels: list[str]) -> ViltForQuestionAnswering:
    """Load the weights in float32; all of them come from the folder.

    Raises:
        RequestError: they are damaged, missing, or not as many classes as answers.
    """
    model: ViltForQuestionAnswering = pretrained.load_whole(ViltForQuestionAnswering, folder)
    classes = model.classifier[-1].out_features
    if len(labels) != classes:
        raise RequestError(
            f"{folder}: its label map has {len(labels):,} answers, and its head {classes:,} classes"
        )
    return model


def from_scratch(
    config: JsonObject,
    labels: list[str],
    tokenizer: PreTrainedTokenizerBase,
    image_size: int,
) -> ViltForQuestionAnswering:
    """Build a model with random weights.

    Args:
        config: values of ViltConfig.
        image_size: pixels a side of the square whose patches have positions.
    """
    values: JsonObject = {
        "vocab_size": len(tokenizer),
        **config,
        **named(labels),
        "image_size": image_size,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return ViltForQuestionAnswering(ViltConfig(**values))


def of_published_size(
    config: JsonObject, labels: list[str], tokenizer: PreTrainedTokenizerBase
) -> ViltForQuestionAnswering:
    """Build ViLT-B/32 with random weights, whatever the words of the tokenizer."""
    sizes = ViltConfig()
    words = {"vocab_size": sizes.vocab_size, **config}
    return from_scratch(words, labels, tokenizer, int(str(sizes.image_size)))


def as_start(
    folder: Path, labels: list[str], new_head: bool, dropout: float | None
) -> tuple[ViltForQuestionAnswering, int]:
    """Load a model to fine-tune; a pre-trained one gets a new head.

    Args:
        labels: the answers of the head.
        new_head: start the head afresh in any case.
        dropout: of the hidden layers; None: as config.json says.

    Returns:
        The model, and how many of its parameters the folder does not hold.

    Raises:
        RequestError: weights of the encoder are missing, or the head has other classes.
    """
    changed: JsonObject = {} if dropout is None else {"hidden_dropout_prob": dropout}
    model, info = pretrained.loaded(ViltForQuestionAnswering, folder, {**named(labels), **changed})
    head = "classifier."
    other = {name for name, *_ in info["mismatched_keys"]}
    missing = set(info["missing_keys"])
    if broken := {name for name in missing | other if not name.startswith(head)}:
        raise RequestError(f"{folder}: weights that ViLT needs are missing: {few(broken)}")
    if other and not new_head:
        raise RequestError(
            f"{folder}: its head is for another number of answers; model.new_head: true starts "
            "with a fresh one"
        )
    if new_head or missing or other:
        return model, model.reset_head()
    return model, 0


def named(labels: list[str]) -> JsonObject:
    """Return the configuration values that name the answers."""
    return {
        "id2label": dict(enumerate(labels)),
        "label2id": {answer: i for i, answer in enumerate(labels)},
    }
