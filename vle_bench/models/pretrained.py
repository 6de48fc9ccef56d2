"""`from_pretrained` folders: weights, processor, label map, and the training they come from."""

import hashlib
import pickle
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from vle_bench import atomic, models
from vle_bench.atomic import file_sha256
from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.errors import RequestError, RunFailed, few, first_line
from vle_bench.json_files import read_json as read_json
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.pretrained_model import LoadingInfo, VLEPreTrainedModel
from vle_bench.models.vle.processing import Resize, VLEProcessor

TRAINING_FILE = "training.json"


def save(
    folder: Path,
    model: VLEPreTrainedModel,
    processor: VLEProcessor,
    labels: list[str],
    training: Mapping[str, object],
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write a `from_pretrained` folder, complete or not at all.

    Args:
        labels: the answers of the head; empty for a task whose examples bring their own choices.
        training: recipe name and hash, seed, steps, data and splits trained on, for the result
            record.
        weights: the complete state dictionary, if the model's own is sharded.

    Raises:
        RunFailed: the folder cannot be written.
    """
    try:
        with atomic.folder(folder) as partial:
            # A copy, because save_pretrained empties the dictionary that it is given.
            model.save_pretrained(partial, state_dict=dict(weights) if weights else None)
            processor.save_pretrained(partial)
            if labels:
                atomic.write_json(
                    partial / "label_map.json", {"answers": labels, "sha256": labels_digest(labels)}
                )
            atomic.write_json(partial / TRAINING_FILE, training)
    except (OSError, SafetensorError) as error:  # SafetensorError: the disk is full
        raise RunFailed(
            f"{folder}: cannot be written: {first_line(error)}; "
            "free some space and continue with --resume"
        ) from error


def resolve(checkpoint: Path) -> Path:
    """Return the checkpoint folder: `checkpoint` itself, or the selected one if it is a run folder.

    Raises:
        RequestError: it is neither.
    """
    names = selection(checkpoint)
    for candidate in (checkpoint, *(checkpoint / name for name in names)):
        if (candidate / "config.json").is_file():
            return candidate
    folders = " or ".join(f"{name}/" for name in names)
    raise RequestError(
        f"{checkpoint}: neither a run folder ({folders}) nor a checkpoint folder (config.json)"
    )


def selection(run: Path) -> tuple[str, ...]:
    """Return the names of a run's checkpoints in the order in which to look for them.

    `best`, then `last`; only `last` if the recipe says `train.selection: last`.
    """
    training = run / "last" / TRAINING_FILE
    selected = read_json(training).get("selection", "best") if training.is_file() else "best"
    return ("last",) if selected == "last" else ("best", "last")


def load_labels(folder: Path) -> list[str]:
    """Read the answers of a checkpoint's label_map.json, by index."""
    return read_label_map(folder / "label_map.json")


def own_answers(folder: Path) -> list[str] | None:
    """Return the answers of a checkpoint's head, by index, or None if it does not name them.

    They are in label_map.json, else in `id2label` of config.json. Names such as LABEL_0 are
    placeholders of transformers.
    """
    if (folder / "label_map.json").is_file():
        return load_labels(folder)
    names = read_json(folder / "config.json").get("id2label")
    if not isinstance(names, dict) or not names:
        return None
    if all(str(name).startswith("LABEL_") for name in names.values()):
        return None
    return read_label_map(folder / "config.json")


def read_config(path: Path) -> VLEConfig:
    """Read a VLEConfig from a JSON file; a RequestError names the file."""
    values = read_json(path)
    if not isinstance(values, dict) or values.get("model_type") != "vle":
        raise RequestError(f'{path}: not a VLEConfig, expected "model_type": "vle"')
    try:
        return VLEConfig.from_dict(values)
    # The checks of transformers' configurations raise many types of errors.
    except Exception as error:
        raise RequestError(
            f"{path}: not a valid VLEConfig: {' '.join(str(error).split())}"
        ) from error


# Files of a from_pretrained folder that decide how text and pictures become the input of a model.
PROCESSOR_FILES = (
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "spm.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def files_sha256(folder: Path) -> str:
    """Compute a SHA-256 of the files beside the weights that a score depends on.

    It is the digest of the lines `DIGEST  FILE`, in the order of names, of config.json, the label
    map and `PROCESSOR_FILES`; files that the folder does not have are left out.
    """
    names = sorted(["config.json", "label_map.json", *PROCESSOR_FILES])
    lines = [f"{file_sha256(folder / n)}  {n}\n" for n in names if (folder / n).is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_processor(folder: Path) -> VLEProcessor:
    """Load the processor of a checkpoint folder as its files say, without trying it.

    Raises:
        RequestError: no processor can be loaded.
    """
    for name in PROCESSOR_FILES:
        # Refuse equal keys: transformers would silently take the last one.
        if name.endswith(".json") and (folder / name).is_file():
            read_json(folder / name)
    try:
        return VLEProcessor.from_folder(folder)
    # tokenizers raises a bare Exception, a value of a wrong type may raise anything.
    except Exception as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {first_line(error)}"
        ) from error


def load_processor(
    folder: Path, image_size: int | None = None, resize: Resize | None = None
) -> VLEProcessor:
    """Load the processor of a checkpoint folder.

    Args:
        image_size: pixels a side of the model's images; None: as the folder says.
        resize: how a picture becomes a square; None: as the folder says.

    Raises:
        RequestError: no processor can be loaded, or it cannot process a picture.
    """
    processor = read_processor(folder)
    try:
        if image_size is not None and not (
            resize is None and processor.square == (image_size, image_size)
        ):
            processor.set_size(image_size, resize or processor.resize)
        # Try it: a wrong mean or size fails only here, and some only with pictures of two shapes.
        processor(text="?", images=[Image.new("RGB", (8, 8)), Image.new("RGB", (8, 16))])
        return processor
    # tokenizers raises a bare Exception, a value of a wrong type may raise anything.
    except Exception as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {first_line(error)}"
        ) from error


def check_vocabulary(folder: Path, processor: VLEProcessor, model: VLEPreTrainedModel) -> None:
    """Refuse a tokenizer with ids that the model's word embeddings do not have."""
    last = max(processor.tokenizer.get_vocab().values())
    words = model.config.text_config.vocab_size
    if last >= words:
        raise RequestError(
            f"{folder}: its tokenizer has ids up to {last}, and its model {words} words: "
            "not of one checkpoint"
        )


def load_model(
    folder: Path, architecture: str, head_may_be_new: bool = False, **config: Any
) -> VLEPreTrainedModel:
    """Load a model; see `load_counting_new`."""
    return load_counting_new(folder, architecture, head_may_be_new, **config)[0]


def load_counting_new(
    folder: Path,
    architecture: str,
    head_may_be_new: bool = False,
    new_head: bool = False,
    **config: object,
) -> tuple[VLEPreTrainedModel, int]:
    """Load a model with weights in float32, and count its parameters that the folder does not hold.

    transformers 5 would keep the type of the file and train a released float16 checkpoint in
    float16.

    Args:
        architecture: class in `vle_bench.models`.
        head_may_be_new: accept a bare encoder, whose head starts afresh.
        new_head: start the head afresh in any case; the folder's may have another number of labels.
        config: configuration values to change, such as id2label, and sizes, such as image_size.

    Returns:
        The model, and how many of its parameters are new: of the head, or rows of a table that
            grew.

    Raises:
        RequestError: the folder cannot be loaded; weights are missing, unknown or of another shape.
    """
    # Refuse equal keys: transformers would silently take the last one.
    read_json(folder / "config.json")
    cls = getattr(models, architecture)
    model, info = _from_pretrained(cls, folder, head_may_be_new, config)
    grown = model.grown_weights(read_json(folder / "config.json"))
    if new_head:
        return model, model.reset_head() + grown
    if other := sorted(name for name, *_ in info["mismatched_keys"]):
        raise RequestError(
            f"{folder}: its head is for another number of answers ({', '.join(other)}); "
            "model.new_head: true starts with a fresh one"
        )
    if info["missing_keys"] and not head_may_be_new:
        names = sorted(info["missing_keys"])
        raise RequestError(
            f"{folder}: no trained head for {architecture}: "
            f"{len(names)} weights are missing: {', '.join(names)}"
        )
    named = dict(model.named_parameters())
    new = set(info["missing_keys"]) & named.keys()
    return model, sum(named[name].numel() for name in new) + grown


def loaded(cls: Any, folder: Path, config: Mapping[str, object]) -> tuple[Any, LoadingInfo]:
    """Load a model of transformers' class `cls` in float32, and say which weights do not fit.

    Args:
        config: configuration values to change.

    Raises:
        RequestError: the folder cannot be loaded.
    """
    read_json(folder / "config.json")  # refuses equal keys
    return _from_pretrained(cls, folder, True, config)


def load_whole(cls: Any, folder: Path) -> Any:
    """Load a model of transformers' class `cls`, in float32 and every weight from the folder.

    Raises:
        RequestError: weights are damaged, missing, unknown or of another shape.
    """
    model, info = loaded(cls, folder, {})
    # Older versions of transformers saved the numbers of the positions.
    unknown = [key for key in info["unexpected_keys"] if not key.endswith("position_ids")]
    problems = {
        "missing": info["missing_keys"],
        "unknown": unknown,
        "of another shape": {name for name, *_ in info["mismatched_keys"]},
    }
    for problem, keys in problems.items():
        if keys:
            raise RequestError(
                f"{folder}: weights that are {problem} for {cls.__name__}: {few(keys)}"
            )
    return model


def _from_pretrained(
    cls: Any, folder: Path, head_may_be_new: bool, config: Mapping[str, object]
) -> tuple[Any, LoadingInfo]:
    """Call `from_pretrained` and turn its many errors into a RequestError that names the folder."""
    try:
        loaded: tuple[Any, LoadingInfo] = cls.from_pretrained(
            str(folder),
            output_loading_info=True,
            local_files_only=True,
            weights_only=True,
            ignore_mismatched_sizes=head_may_be_new,
            dtype=torch.float32,
            **config,
        )
    # The library's own message advises to run the code in the file.
    except pickle.UnpicklingError as error:
        raise RequestError(
            f"{folder}: the weights cannot be loaded: damaged, or not tensors alone"
        ) from error
    # These are raised for values that no model can be built with.
    except (TypeError, AttributeError, LookupError, ArithmeticError) as error:
        kind = type(error).__name__
        raise RequestError(
            f"{folder / 'config.json'}: no {cls.__name__} can be built: {kind}: {first_line(error)}"
        ) from error
    # A damaged config.json may fail anywhere.
    except Exception as error:
        raise RequestError(
            f"{folder}: the weights cannot be loaded: {first_line(error)}"
        ) from error
    return loaded


def check_processor_files(folder: Path, published: str) -> None:
    """Refuse a folder that does not say how pictures become input, or whose JSON is damaged.

    transformers 5 saves the image processor within processor_config.json, earlier versions in
    preprocessor_config.json.

    Args:
        published: where such a file can be had.

    Raises:
        RequestError: neither file is there; equal keys, of which transformers would silently take
            the last one.
    """
    contents = {
        name: read_json(folder / name)
        for name in PROCESSOR_FILES
        if name.endswith(".json") and (folder / name).is_file()
    }
    whole = contents.get("processor_config.json")
    nested = isinstance(whole, dict) and "image_processor" in whole
    if "preprocessor_config.json" not in contents and not nested:
        raise RequestError(
            f"{folder}: has no preprocessor_config.json, nor an image_processor in "
            "processor_config.json, which say how pictures become the model's input; take "
            f"{published}"
        )


def not_finite(tensors: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Return the names of tensors with a NaN or an infinite number; waits for the device once."""
    named = dict(tensors)
    if not named:
        return []
    finite = torch.stack([tensor.isfinite().all() for tensor in named.values()]).tolist()
    return [name for name, is_finite in zip(named, finite, strict=True) if not is_finite]


def at_least_token_types(folder: Path, wanted: int | None) -> int | None:
    """Return the rows of the type table: `wanted`, but never fewer than the checkpoint has."""
    if wanted is None:
        return None
    trained: int = read_json(folder / "config.json").get("num_token_types", 0)
    return max(wanted, trained)
