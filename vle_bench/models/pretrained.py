"""Folders with everything that a trained model needs: weights, processor, label map, where it came from."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import CLIPImageProcessorPil

from vle_bench import atomic, models
from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.errors import RequestError, RunFailed
from vle_bench.models.vle.processing import VLEProcessor

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
    """A run folder stands for its `best/`, else its `last/`; a `from_pretrained` folder for itself."""
    candidates = [checkpoint, checkpoint / "best", checkpoint / "last"]
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            return candidate
    raise RequestError(
        f"{checkpoint}: neither a run folder (best/ or last/) nor a checkpoint folder (config.json)"
    )


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise RequestError(f"{path}: no such file") from error
    except json.JSONDecodeError as error:
        raise RequestError(f"{path}: not JSON, it ends or breaks at line {error.lineno}") from error


def load_labels(folder: Path) -> list[str]:
    return read_label_map(folder / "label_map.json")


def load_processor(folder: Path, image_size: int | None = None) -> VLEProcessor:
    """The processor of a checkpoint folder; with `image_size` for pictures of another size than its own."""
    try:
        processor = VLEProcessor.from_folder(folder)
        if image_size is not None:
            own, size = processor.image_processor, {"height": image_size, "width": image_size}
            processor.image_processor = CLIPImageProcessorPil(
                size=size,
                do_center_crop=False,
                image_mean=own.image_mean,
                image_std=own.image_std,
                resample=own.resample,
            )
        return processor
    except (OSError, ValueError) as error:
        raise RequestError(
            f"{folder}: no processor can be loaded from it: {_one_line(error)}"
        ) from error


def load_model(
    folder: Path, architecture: str, head_may_be_new: bool = False, **config: Any
) -> Any:
    """As `load_counting_new`, the model alone."""
    return load_counting_new(folder, architecture, head_may_be_new, **config)[0]


def load_counting_new(
    folder: Path, architecture: str, head_may_be_new: bool = False, **config: Any
) -> tuple[Any, int]:
    """Load weights; whatever is missing, unexpected or of another shape is an error that names the keys.

    Args:
        architecture: class in `vle_bench.models`.
        head_may_be_new: a bare encoder, or another label count, is fine: the head starts afresh.
        config: configuration values to change, such as id2label, and sizes to change, such as image_size.

    Returns:
        The model, and how many of its parameters the folder did not hold: a new head, rows by which a table has grown.
    """
    try:
        model, info = getattr(models, architecture).from_pretrained(
            str(folder),
            output_loading_info=True,
            local_files_only=True,
            weights_only=True,
            ignore_mismatched_sizes=head_may_be_new,
            **config,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise RequestError(f"{folder}: the weights cannot be loaded: {_one_line(error)}") from error
    if info["missing_keys"] and not head_may_be_new:
        names = sorted(info["missing_keys"])
        raise RequestError(
            f"{folder}: no trained head for {architecture}: {len(names)} weights are missing: {', '.join(names)}"
        )
    named = dict(model.named_parameters())
    new = {*info["missing_keys"], *(entry[0] for entry in info["mismatched_keys"])}
    types: Any = model.base_model.token_type_embeddings
    grown = types.num_embeddings - read_json(folder / "config.json").get(
        "num_token_types", types.num_embeddings
    )
    return model, sum(
        named[name].numel() for name in new & named.keys()
    ) + grown * types.embedding_dim


def at_least_token_types(folder: Path, wanted: int | None) -> int | None:
    """How many fusion types a checkpoint is to have; never fewer than it has."""
    return (
        None
        if wanted is None
        else max(wanted, read_json(folder / "config.json").get("num_token_types", 0))
    )


def _one_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
