"""Convert a checkpoint from elsewhere to a `from_pretrained` folder, complete or not at all."""

import pickle
import re
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedConfig

from vle_bench import atomic, models
from vle_bench.data.tokenization import TOKENIZER_FILES, load_tokenizer
from vle_bench.errors import RequestError, few, first_line
from vle_bench.models.pretrained import not_finite, read_config
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.convert.converted import Converted, shared_prefix
from vle_bench.models.vle.convert.encoders import from_encoders
from vle_bench.models.vle.convert.meter import convert_meter
from vle_bench.models.vle.convert.vle import convert_vle
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel
from vle_bench.models.vle.processing import VLEProcessor

_ANCHOR = "cross_modal_text_pooler.dense.weight"  # checkpoints of METER and of VLE have it once


class _NotLoaded:
    """Placeholder for a class of the trainer that a checkpoint names and we do not import."""


# Classes in Lightning's checkpoints (METER's published ones were written by version 1.3).
_LIGHTNING_NAMES: list[Callable[..., object] | tuple[Callable[..., object], str]] = [
    (stand_in, f"{package}.{name}")
    for package in ("pytorch_lightning", "lightning.pytorch")
    for name, stand_in in {
        "callbacks.model_checkpoint.ModelCheckpoint": _NotLoaded,
        "callbacks.lr_monitor.LearningRateMonitor": _NotLoaded,
        "callbacks.early_stopping.EarlyStopping": _NotLoaded,
        "utilities.parsing.AttributeDict": OrderedDict,
    }.items()
]


def convert_checkpoint(
    checkpoint: Path,
    output: Path,
    config_file: Path | None = None,
    tokenizer: Path | None = None,
    answers: list[str] | None = None,
) -> list[str]:
    """Convert a METER or VLE training checkpoint.

    Args:
        config_file: a VLEConfig as JSON, for values that no tensor implies; it must fit the
            tensors.
        tokenizer: folder of a tokenizer, to save a processor with the model.
        answers: answers of a VQA head by class, which training checkpoints do not contain.

    Returns:
        Lines to print: the tensors that were mapped, dropped and written.

    Raises:
        RequestError: the checkpoint cannot be converted.
    """
    check_output(output)
    config = None if config_file is None else read_config(config_file)
    content = read_checkpoint(checkpoint)
    try:
        source, converted = _convert(state_dict(content), config, _tokenizer_name(content))
        if answers is not None:
            _name_classes(converted, answers)
        lines = [f"{checkpoint}: {source}", *write_folder(converted, output, tokenizer)]
    except RequestError as error:
        raise RequestError(f"{checkpoint}: {error}") from error
    return lines


def convert_encoders(
    text: Path,
    vision: Path,
    output: Path,
    config_file: Path | None = None,
    tokenizer: Path | None = None,
    keep_last_vision_layer: bool = False,
) -> list[str]:
    """Build a fresh VLE from the folders of a text encoder and a CLIP, with the text's tokenizer.

    Returns:
        Lines to print, as `convert_checkpoint`.
    """
    check_output(output)
    config = None if config_file is None else read_config(config_file)
    converted = from_encoders(text, vision, config, keep_last_vision_layer)
    if tokenizer is None and any((text / name).is_file() for name in TOKENIZER_FILES):
        tokenizer = text
    return [f"a fresh VLE from {text} and {vision}", *write_folder(converted, output, tokenizer)]


def check_output(output: Path) -> None:
    """Refuse an output folder with something in it."""
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RequestError(
            f"{output}: it exists already; name a new or an empty folder with --output"
        )


def read_checkpoint(path: Path) -> Mapping[str, object]:
    """Load a checkpoint file without running code in it (`weights_only`).

    Tensors stay on disk until they are read.

    Raises:
        RequestError: names the file and what is wrong with it.
    """
    if path.is_dir():
        raise RequestError(
            f"{path}: a folder; name the checkpoint file "
            "(DeepSpeed's zero_to_fp32.py consolidates its folders into one)"
        )
    if not path.is_file():
        raise RequestError(f"{path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        archive = zipfile.is_zipfile(path)
        # torch does not verify checksums: a damaged download would be converted to other weights.
        if archive and (member := zipfile.ZipFile(path).testzip()) is not None:
            raise RequestError(
                f"{path}: damaged, the checksum of {member} is not that of its bytes; "
                "fetch the file again"
            )
        with torch.serialization.safe_globals(_LIGHTNING_NAMES):
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=archive)
    except RequestError:
        raise
    except pickle.UnpicklingError as error:
        code = re.search(r"GLOBAL (\S+)", str(error))
        problem = f"it needs {code[1]}" if code else "it is damaged or not a checkpoint"
        raise RequestError(
            f"{path}: only tensors and plain values are read from a checkpoint, and {problem}"
        ) from error
    # A damaged file can fail anywhere in its reader.
    except Exception as error:
        raise RequestError(f"{path}: truncated or not a checkpoint: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise RequestError(
            f"{path}: expected a dictionary of tensors, got {type(content).__name__}"
        )
    return content


def state_dict(content: Mapping[str, object]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint.

    Lightning keeps them under `state_dict`, DeepSpeed under `module`, a consolidated file at the
    top.
    """
    nested = [content.get(key) for key in ("state_dict", "module")]
    inner = next((values for values in nested if isinstance(values, dict)), content)
    tensors = {name: value for name, value in inner.items() if isinstance(value, Tensor)}
    other = [str(name) for name in inner if name not in tensors]
    if other or not inner:
        raise RequestError(
            f"expected only tensors, got other values: {few(other)}"
            if other
            else "it contains no tensors"
        )
    return tensors


def _tokenizer_name(content: Mapping[str, object]) -> str:
    """Return the name of the tokenizer in METER's hyper-parameters, or an empty string."""
    settings = content.get("hyper_parameters")
    settings = settings.get("config", settings) if isinstance(settings, dict) else {}
    name = settings.get("tokenizer", "") if isinstance(settings, dict) else ""
    return name if isinstance(name, str) else ""


def _convert(
    tensors: dict[str, Tensor], config: VLEConfig | None, tokenizer: str
) -> tuple[str, Converted]:
    prefix = shared_prefix(tensors, _ANCHOR)
    # `vle.` is the model's own name for its encoder and no prefix of the trainer.
    outer = prefix.removesuffix("vle.")
    outside = [name for name in tensors if not name.startswith(outer)]
    if outside:
        raise RequestError(f"tensors are left over that do not begin with {outer}: {few(outside)}")
    stripped = {name[len(outer) :]: tensor for name, tensor in tensors.items()}
    without = f", without the prefix {outer}" if outer else ""
    if "cross_modal_text_transform.weight" in stripped:
        return f"METER{without}", convert_meter(stripped, config, tokenizer)
    return f"VLE{without}", convert_vle(stripped, config)


def _name_classes(converted: Converted, answers: list[str]) -> None:
    """Name the classes of a VQA head; there must be as many answers as classes."""
    if converted.architecture != "VLEForVQA":
        raise RequestError(
            f"answers name the classes of a VQA head, and this is a {converted.architecture}: "
            "leave --answers out"
        )
    classes = len(converted.tensors.get("vqa_classifier.3.weight", ()))
    if len(answers) != classes:
        raise RequestError(
            f"its head has {classes:,} classes, and --answers {len(answers):,}: "
            "another label map than it was trained with"
        )
    converted.config.id2label = dict(enumerate(answers))
    converted.config.label2id = {answer: i for i, answer in enumerate(answers)}


def write_folder(converted: Converted, output: Path, tokenizer: Path | None) -> list[str]:
    """Check that every tensor fits the model, and write the folder.

    Returns:
        Lines to print.
    """
    config = converted.config
    model = _filled_model(converted)
    processor = None if tokenizer is None else _processor(tokenizer, config)
    labels = list((config.id2label or {}).values())
    named = converted.architecture == "VLEForVQA" and labels[:1] != ["LABEL_0"]
    with atomic.folder(output) as partial:
        model.save_pretrained(partial)
        if processor is not None:
            processor.save_pretrained(partial)
        if named:
            atomic.write_json(partial / "label_map.json", {"answers": labels})
    lines = _summary(converted, list(model.state_dict()))
    if processor is None:
        lines.append(
            "no processor was written: convert again with --tokenizer DIR, "
            "a folder with the text encoder's tokenizer"
        )
    if converted.architecture == "VLEForVQA" and not named:
        lines.append(
            "no label map was written: the answers have no names; give them with --answers"
        )
    return [*lines, f"written: {output}"]


def _filled_model(converted: Converted) -> VLEPreTrainedModel:
    """Build the model with the converted tensors in float32."""
    cls: type[VLEPreTrainedModel] = getattr(models, converted.architecture)
    try:
        # On the meta device nothing is allocated or initialised that the checkpoint replaces.
        with torch.device("meta"):
            model = cls(converted.config)
    except (ValueError, KeyError) as error:
        raise RequestError(f"the configuration cannot be built: {error}") from error
    tensors = {
        name: t.float() if t.is_floating_point() else t for name, t in converted.tensors.items()
    }
    if names := not_finite(tensors.items()):
        raise RequestError(
            f"numbers that are not finite (NaN, infinite, or too large for float32) in {few(names)}"
        )
    for first, second in (getattr(cls, "_tied_weights_keys", None) or {}).items():
        values = [tensors[name] for name in (first, second) if name in tensors]
        if len(values) == 2 and not torch.equal(values[0], values[1]):
            raise RequestError(
                f"{first} and {second} differ: in {converted.architecture} they are one tensor"
            )
        if values:
            tensors[first] = tensors[second] = values[0]
    _check_fit(tensors, model.state_dict())
    model.load_state_dict(tensors, strict=True, assign=True)
    model.tie_weights()
    return model


def _check_fit(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are missing, left over or of another shape."""
    problems = []
    if missing := expected.keys() - tensors.keys():
        problems.append(f"missing: {few(missing)}")
    if left := tensors.keys() - expected.keys():
        problems.append(f"left over: {few(left)}")
    both = expected.keys() & tensors.keys()
    if other := [n for n in both if tensors[n].shape != expected[n].shape]:
        shapes = [
            f"{n} {tuple(tensors[n].shape)} instead of {tuple(expected[n].shape)}" for n in other
        ]
        problems.append(f"of another shape: {few(shapes)}")
    if problems:
        raise RequestError(f"the tensors do not fit the configuration: {'; '.join(problems)}")


def _processor(tokenizer: Path, config: VLEConfig) -> VLEProcessor:
    try:
        loaded = load_tokenizer(tokenizer, local_files_only=True)
    # Each tokenizer library has error types of its own.
    except Exception as error:
        raise RequestError(
            f"{tokenizer}: no tokenizer can be loaded from it: {first_line(error)}"
        ) from error
    vocabulary = config.text_config.vocab_size
    if len(loaded) > vocabulary:
        raise RequestError(
            f"{tokenizer}: its tokenizer has {len(loaded)} words, the text encoder {vocabulary}"
        )
    # METER and VLE were trained on centre crops, and so was CLIP.
    return VLEProcessor.from_parts(
        loaded, config.vision_config.image_size, config.vision_config.patch_size, "crop"
    )


def _summary(converted: Converted, names: list[str]) -> list[str]:
    """Return lines with the number and sizes of the tensors in each part, and the dropped ones."""
    config = converted.config
    text, vision = config.text_config, config.vision_config
    counts = Counter(_part(name, converted.architecture) for name in names)
    pixels = f"{vision.image_size} px in patches of {vision.patch_size}"
    described = {
        "text": f"{text.model_type}, {_size(text)}",
        "vision": f"CLIP ViT, {_size(vision)}, {pixels}",
        "fusion": f"{_size(config)}, {config.num_token_types} token types",
        "head": converted.architecture,
    }
    lines = [
        f"{part:8}{counts[part]:5} tensors  {description}"
        for part, description in described.items()
        if counts[part]
    ]
    if converted.dropped:
        groups = Counter(re.sub(r"(\.layers?\.\d+)\..*", r"\1", name) for name in converted.dropped)
        named = (
            name if name in converted.dropped else f"{name} ({count})"
            for name, count in groups.items()
        )
        lines.append(f"dropped {len(converted.dropped):5} tensors  {', '.join(named)}")
    return lines


def _size(config: PreTrainedConfig) -> str:
    return (
        f"{config.num_hidden_layers} layers of {config.hidden_size}, "
        f"{config.num_attention_heads} heads"
    )


def _part(name: str, architecture: str) -> str:
    """Return the part of the model that a tensor belongs to."""
    if architecture != "VLEModel" and not name.startswith("vle."):
        return "head"
    return {"text_model": "text", "vision_model": "vision"}.get(
        name.removeprefix("vle.").split(".")[0], "fusion"
    )
