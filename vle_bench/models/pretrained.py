"""Folders with everything that a trained model needs: weights, processor, label map, where it came from."""

import hashlib
import pickle
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError

from vle_bench import atomic, models
from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.digests import file_sha256
from vle_bench.errors import RequestError, RunFailed
from vle_bench.json_files import read_json
from vle_bench.models.vle.processing import Resize, VLEProcessor

TRAINING_FILE = "training.json"


def save(
    folder: Path,
    model: Any,
    processor: Any,
    labels: list[str],
    training: dict[str, Any],
    weights: Any = None,
) -> None:
    """Write a `from_pretrained` folder, complete or not at all; RunFailed where it cannot be written.

    Args:
        weights: the model's state dictionary, where its own is in shards.
        labels: empty for a task that chooses among what each example brings.
        training: recipe name and hash, seed, steps, data and splits trained on; the result record repeats them.
    """
    try:
        with atomic.folder(folder) as partial:
            model.save_pretrained(
                partial, state_dict=dict(weights) if weights else None
            )  # it empties the one it is given
            processor.save_pretrained(partial)
            if labels:
                atomic.write_json(
                    partial / "label_map.json", {"answers": labels, "sha256": labels_digest(labels)}
                )
            atomic.write_json(partial / TRAINING_FILE, training)
    except (OSError, SafetensorError) as error:  # the latter is safetensors' own for a full disk
        raise RunFailed(
            f"{folder}: cannot be written: {_one_line(error)}; make room, and go on with --resume"
        ) from error


def resolve(checkpoint: Path) -> Path:
    """A `from_pretrained` folder stands for itself; a run folder for its `best/`, else its `last/`.

    Where the run's recipe says `train.selection: last`, it stands for its `last/` alone.
    """
    selected = [checkpoint / name for name in selection(checkpoint)]
    candidates = [checkpoint, *selected]
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            return candidate
    raise RequestError(
        f"{checkpoint}: neither a run folder ({' or '.join(f'{folder.name}/' for folder in selected)}) nor a checkpoint "
        "folder (config.json)"
    )


def selection(run: Path) -> tuple[str, ...]:
    """Which of a run's checkpoints stand for it, the first that is there."""
    training = run / "last" / TRAINING_FILE
    selected = read_json(training).get("selection", "best") if training.is_file() else "best"
    return ("last",) if selected == "last" else ("best", "last")


def load_labels(folder: Path) -> list[str]:
    return read_label_map(folder / "label_map.json")


def own_answers(folder: Path) -> list[str] | None:
    """The answers of a checkpoint's head, by index: those of label_map.json, else config.json's `id2label`.

    None where neither says: a config without them, or with transformers' place holders (LABEL_0, ...).
    """
    if (folder / "label_map.json").is_file():
        return load_labels(folder)
    names = read_json(folder / "config.json").get("id2label")
    if (
        not isinstance(names, dict)
        or not names
        or all(str(name).startswith("LABEL_") for name in names.values())
    ):
        return None
    return read_label_map(folder / "config.json")


# Files of a from_pretrained folder that say how texts and pictures become a model's input.
PROCESSOR_FILES = (
    "added_tokens.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "special_tokens_map.json",
    "spm.model",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)


def files_sha256(folder: Path) -> str:
    """SHA-256 of all beside the weights that a score depends on: of lines `DIGEST  FILE`, in the order of names.

    The files are config.json, the label map, and those of `PROCESSOR_FILES`, as far as they are there.
    """
    names = sorted(["config.json", "label_map.json", *PROCESSOR_FILES])
    lines = [f"{file_sha256(folder / n)}  {n}\n" for n in names if (folder / n).is_file()]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_processor(folder: Path) -> VLEProcessor:
    """The processor of a checkpoint folder as its files say, not tried yet."""
    for name in PROCESSOR_FILES:
        if name.endswith(".json") and (folder / name).is_file():
            read_json(folder / name)  # transformers would take the last of two equal keys
    try:
        return VLEProcessor.from_folder(folder)
    except Exception as error:  # tokenizers raises bare ones, a key of a wrong type any other
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {_one_line(error)}"
        ) from error


def load_processor(
    folder: Path, image_size: int | None = None, resize: Resize | None = None
) -> VLEProcessor:
    """The processor of a checkpoint folder; with `image_size` for squares of another size than its own.

    Args:
        resize: how a picture becomes the square; None: as the folder says.
    """
    processor = read_processor(folder)
    try:
        if image_size is not None and not (
            resize is None and processor.square == (image_size, image_size)
        ):
            processor.set_size(image_size, resize or processor.resize)
        # A wrong mean or size fails only here, or with pictures of several shapes.
        processor(text="?", images=[Image.new("RGB", (8, 8)), Image.new("RGB", (8, 16))])
        return processor
    except Exception as error:  # tokenizers raises bare ones, a key of a wrong type any other
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {_one_line(error)}"
        ) from error


def check_vocabulary(folder: Path, processor: Any, model: Any) -> None:
    """Refuse a tokenizer with ids that the model's table of words does not have."""
    last, size = max(processor.tokenizer.get_vocab().values()), model.config.text_config.vocab_size
    if last >= size:
        raise RequestError(
            f"{folder}: its tokenizer has ids up to {last}, and its model {size} words: not of one checkpoint"
        )


def load_model(
    folder: Path, architecture: str, head_may_be_new: bool = False, **config: Any
) -> Any:
    """As `load_counting_new`, the model alone."""
    return load_counting_new(folder, architecture, head_may_be_new, **config)[0]


def load_counting_new(
    folder: Path,
    architecture: str,
    head_may_be_new: bool = False,
    new_head: bool = False,
    **config: Any,
) -> tuple[Any, int]:
    """Load weights as float32, whatever the file holds.

    Whatever is missing, unexpected or of another shape is an error that names the keys.

    Args:
        architecture: class in `vle_bench.models`.
        head_may_be_new: a bare encoder is fine: its head starts afresh.
        new_head: the head starts afresh in any case, and the folder's may have another number of labels.
        config: configuration values to change, such as id2label, and sizes to change, such as image_size.

    transformers 5 would keep the type of the file, so that a released float16 checkpoint would be trained in float16.

    Returns:
        The model, and how many of its parameters the folder did not hold: a new head, rows by which a table has grown.
    """
    read_json(folder / "config.json")  # transformers would take the last of two equal keys
    try:
        model, info = getattr(models, architecture).from_pretrained(
            str(folder),
            output_loading_info=True,
            local_files_only=True,
            weights_only=True,
            ignore_mismatched_sizes=head_may_be_new,
            dtype=torch.float32,
            **config,
        )
    except pickle.UnpicklingError as error:  # its own text advises to run what the file holds
        raise RequestError(
            f"{folder}: the weights cannot be loaded: damaged, or not tensors alone"
        ) from error
    except (
        TypeError,
        AttributeError,
        LookupError,
        ArithmeticError,
    ) as error:  # a value that no model can be built with
        kind = type(error).__name__
        raise RequestError(
            f"{folder / 'config.json'}: no {architecture} can be built: {kind}: {_one_line(error)}"
        ) from error
    except Exception as error:  # a damaged config.json fails anywhere in its readers
        raise RequestError(f"{folder}: the weights cannot be loaded: {_one_line(error)}") from error
    grown = model.grown_weights(read_json(folder / "config.json"))
    if new_head:
        return model, model.reset_head() + grown
    if other := sorted(name for name, *_ in info["mismatched_keys"]):
        raise RequestError(
            f"{folder}: its head is for another number of answers ({', '.join(other)}); model.new_head: true starts with a "
            "fresh one"
        )
    if info["missing_keys"] and not head_may_be_new:
        names = sorted(info["missing_keys"])
        raise RequestError(
            f"{folder}: no trained head for {architecture}: {len(names)} weights are missing: {', '.join(names)}"
        )
    named = dict(model.named_parameters())
    new = set(info["missing_keys"]) & named.keys()
    return model, sum(named[name].numel() for name in new) + grown


def at_least_token_types(folder: Path, wanted: int | None) -> int | None:
    """How many fusion types a checkpoint is to have; never fewer than it has."""
    return (
        None
        if wanted is None
        else max(wanted, read_json(folder / "config.json").get("num_token_types", 0))
    )


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
