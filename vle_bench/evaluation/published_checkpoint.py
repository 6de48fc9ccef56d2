"""A fine-tuned checkpoint from elsewhere: task and settings are read from its folder.

The published layout: config.json with `architectures` and `id2label`, model.safetensors or
pytorch_model.bin, the tokenizer's files, preprocessor_config.json. A converted METER checkpoint has
it too.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from pydantic import ValidationError

from vle_bench.atomic import file_sha256
from vle_bench.data.label_map import read_label_map
from vle_bench.data.sources import SOURCES
from vle_bench.data.splits import names
from vle_bench.errors import RequestError, first_line
from vle_bench.evaluation.record import Training, first_problems
from vle_bench.evaluation.request import Asked, name_of
from vle_bench.json_files import JsonObject
from vle_bench.models import pretrained
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.processing import Resize, VLEProcessor
from vle_bench.strict_yaml import read_group
from vle_bench.tasks import load_task
from vle_bench.tasks.base import Settings
from vle_bench.tasks.catalogue import CATALOGUE, SCORED

# In the order in which transformers looks for them; an index names the files of split weights.
WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
CHANNELS = 3
SHORTEST = 4  # tokens that a text must have room for: both ends and a word of question and answer


def read_training(folder: Path) -> Training | None:
    """Read and check training.json of a checkpoint folder; None if it was trained elsewhere."""
    path = folder / pretrained.TRAINING_FILE
    if not path.is_file():
        return None
    content = pretrained.read_json(path)
    if isinstance(content, dict) and "inputs" not in content:
        raise RequestError(f"{path}: written by an earlier version; train again")
    try:
        training = Training.model_validate(content)
    except ValidationError as error:
        problems = first_problems(error)
        raise RequestError(f"{path}: not as `train` writes it: {problems}") from error
    if training.task not in CATALOGUE:
        raise RequestError(f"{path}: task: {training.task!r} is none of {', '.join(CATALOGUE)}")
    return training


def trained_on(folder: Path, training: Training) -> dict[str, str]:
    """Return which data a checkpoint of ours was trained on; empty if that is not known.

    Earlier versions did not say it in training.json, but in the recipe of the run.
    """
    recipe = folder.parent / "recipe.yaml"
    if training.data or not recipe.is_file():
        return training.data
    return {"source": str(read_group(recipe)["data"]["source"])}


@dataclass(frozen=True)
class Described:
    """Facts about a checkpoint from the files beside its weights.

    Args:
        input_settings: see `Task.input_settings`.
        training_splits: empty if they are not known.
        model: its name and, trained elsewhere, its settings, as the record holds them.
    """

    task: str
    input_settings: Settings
    training_splits: list[str]
    model: JsonObject

    def with_facts(self, facts: JsonObject) -> "Described":
        """Return the same with more facts about the model."""
        return replace(self, model={**self.model, **facts})

    @classmethod
    def of(cls, training: Training) -> "Described":
        """Describe a checkpoint of ours."""
        input_settings = training.inputs.model_dump(exclude_unset=True)
        model = {"name": training.recipe["name"]}
        return cls(training.task, input_settings, training.training_splits, model)


def described(folder: Path, asked: Asked) -> tuple[Described, VLEProcessor]:
    """Describe a checkpoint from elsewhere, and return its processor.

    Raises:
        RequestError: no task, no pictures' or texts' settings, or such as do not fit the model.
    """
    config = pretrained.read_config(folder / "config.json")
    task = task_of(folder, config, asked.task)
    if asked.resize == "published-vcr" and not CATALOGUE[task].boxes:
        raise RequestError(
            f"--resize: published-vcr differs from crop in its boxes, and task {task} has none; "
            "take crop"
        )
    processor = processor_of(folder, config, asked.resize)
    published = CATALOGUE[task].text_length
    assert published is not None  # SCORED holds the tasks that have one
    limits = [published, int(processor.tokenizer.model_max_length)]
    length = text_length(folder, config, limits, asked.max_text_length)
    input_settings = load_task(task).input_settings(
        {"max_text_length": length, "alignment": "on"}, config.num_token_types
    )
    splits = sorted(set(names(asked.trained_on))) if asked.trained_on else []
    model = {"name": name_of(folder), "max_text_length": length, "pictures": pictures_of(processor)}
    if changes := asked.changes():
        model["asked"] = changes
    return Described(task, input_settings, splits, model), processor


def check_splits(asked: Asked, source: str) -> None:
    """Refuse splits of --trained-on that the data do not have."""
    known = [*SOURCES[source].splits, *SOURCES[source].unlabelled]
    if asked.trained_on and (
        unknown := [name for name in names(asked.trained_on) if name not in known]
    ):
        raise RequestError(
            f"--trained-on: {unknown[0]!r} is no split of {source}; there are {', '.join(known)}"
        )


def task_of(folder: Path, config: VLEConfig, asked: str | None) -> str:
    """Return the task of the architecture that config.json names; `asked` where it names none."""
    tasks = {load_task(name).architecture: name for name in SCORED}
    named = config.architectures or []
    if not isinstance(named, list) or not all(isinstance(name, str) for name in named):
        raise RequestError(
            f"{folder / 'config.json'}: architectures: a list of class names is expected, not "
            f"{named!r}"
        )
    own = [tasks[name] for name in named if name in tasks]
    if asked is not None and asked not in SCORED:
        raise RequestError(f"--task {asked}: not among {', '.join(SCORED)}")
    if named and not own:
        raise RequestError(
            f"{folder / 'config.json'}: architectures: {', '.join(named)} answers no question that "
            f"can be scored; {', '.join(tasks)} do"
        )
    if own and asked not in (None, own[0]):
        raise RequestError(
            f"{folder / 'config.json'}: architectures: {named[0]} is for {own[0]}, not for "
            f"--task {asked}"
        )
    if not own and asked is None:
        raise RequestError(
            f"{folder / 'config.json'}: names no architecture; --task says it: {', '.join(SCORED)}"
        )
    return own[0] if own else str(asked)


def processor_of(folder: Path, config: VLEConfig, resize: Resize | None) -> VLEProcessor:
    """Load the folder's processor and check that its pictures have the model's size.

    A size that is no multiple of the patch is taken as it is (published VLE-large: 384 and 14): the
    model does not see the rest.
    """
    names = ("processor_config.json", "preprocessor_config.json")
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise RequestError(
            f"{folder}: has no preprocessor_config.json, which says how pictures become the "
            "model's input; take the published folder's (a converted checkpoint: convert again, "
            "with --tokenizer DIR)"
        )
    processor = pretrained.read_processor(folder)
    check_tokenizer(folder, processor.tokenizer, config.text_config.vocab_size)
    size = config.vision_config.image_size
    if resize is not None:
        processor.set_size(size, resize)
    # The published processors do not say it.
    processor.patch_size = config.vision_config.patch_size
    check_settings(path, processor.image_processor)
    if processor.square != (size, size):
        raise RequestError(
            f"{path}: pictures come out as {pictures_of(processor)}, and the model takes "
            f"{size} × {size} pixels (config.json); --resize crop or --resize squash makes them fit"
        )
    check_picture(path, processor, (config.vision_config.num_channels, size, size))
    return processor


def check_tokenizer(folder: Path, tokenizer: Any, words: int) -> None:
    """Refuse a tokenizer that does not fit a text encoder of `words` words, or lacks a token."""
    if len(tokenizer) > words:
        raise RequestError(
            f"{folder}: its tokenizer has {len(tokenizer):,} words, and its text encoder {words:,}"
        )
    path = folder / "tokenizer_config.json"
    for name in ("pad", "cls", "sep"):
        if getattr(tokenizer, f"{name}_token_id") is None:
            raise RequestError(f"{path}: the tokenizer has no {name}_token")
    limit = tokenizer.model_max_length
    if not is_number(limit) or limit < SHORTEST:
        raise RequestError(
            f"{path}: model_max_length: a number from {SHORTEST} on is expected, not {limit!r}"
        )


def check_picture(path: Path, processor: VLEProcessor, expected: tuple[int, int, int]) -> None:
    """Refuse a processor that does not turn a picture into channels × height × width `expected`."""
    _, height, width = expected
    picture = Image.new("RGB", (width + 7, height))
    try:
        shape = tuple(processor(images=picture, text="a")["pixel_values"].shape[1:])
    # Others' files may hold anything, and each library raises errors of its own.
    except Exception as error:
        raise RequestError(
            f"{path}: it and the tokenizer cannot make the model's input: {first_line(error)}"
        ) from error
    if shape != expected:
        raise RequestError(
            f"{path}: pictures come out as {shape}, not as {' × '.join(map(str, expected))}"
        )


def check_settings(path: Path, settings: Any) -> None:
    """Refuse settings that fail at the first picture, or give pixels that are no numbers."""
    for name in ("do_resize", "do_center_crop", "do_rescale", "do_normalize"):
        flag: Any = getattr(settings, name, None)
        if not isinstance(flag, bool | None):
            raise RequestError(f"{path}: {name}: true or false is expected, not {flag!r}")
    for name, least in (("image_mean", -math.inf), ("image_std", 0)):
        values: Any = getattr(settings, name, None)
        listed = isinstance(values, list | tuple) and len(values) == CHANNELS
        if settings.do_normalize and not (
            listed and all(is_number(value) and value > least for value in values)
        ):
            above = " above 0" if least == 0 else ""
            raise RequestError(
                f"{path}: {name}: {CHANNELS} numbers{above} are expected, not {values!r}"
            )
    sides = [value for value in dict(settings.size or {}).values() if value is not None]
    if settings.do_resize and not (sides and all(type(side) is int and side > 0 for side in sides)):
        raise RequestError(
            f"{path}: size: sides in whole pixels are expected, not {dict(settings.size or {})!r}"
        )
    if settings.do_rescale and not (
        is_number(settings.rescale_factor) and settings.rescale_factor > 0
    ):
        raise RequestError(
            f"{path}: rescale_factor: a number above 0 is expected, not {settings.rescale_factor!r}"
        )
    if settings.resample not in tuple(map(int, Image.Resampling)):
        raise RequestError(f"{path}: resample: {settings.resample!r} is none of Pillow's, 0 to 5")


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def pictures_of(processor: VLEProcessor) -> str:
    """Describe how a picture becomes the input: `shorter side 384, centre 384 × 384`."""
    settings = processor.image_processor
    size = settings.size or {}
    if not settings.do_resize:
        parts = ["as they are"]
    elif size.get("shortest_edge"):
        parts = [f"shorter side {size['shortest_edge']}"]
    else:
        parts = [f"squashed to {size.get('width')} × {size.get('height')}"]
    if settings.do_center_crop:
        crop = settings.crop_size or {}
        parts.append(f"centre {crop.get('width')} × {crop.get('height')}")
    return ", ".join(parts)


def text_length(folder: Path, config: VLEConfig, limits: list[int], asked: int | None) -> int:
    """Return the least of the limits and the text encoder's positions, or `asked` if it fits.

    RoBERTa and BERT have a position for each token, RoBERTa's from pad_token_id + 1 on; DeBERTa-v3
    counts distances.
    """
    text = config.text_config
    if text.model_type == "deberta-v2":
        positions = text.max_position_embeddings if text.position_biased_input else None
    else:
        positions = text.max_position_embeddings - (
            text.pad_token_id + 1 if text.model_type == "roberta" else 0
        )
    if asked is not None and positions is not None and asked > positions:
        raise RequestError(
            f"{folder}: --max-text-length {asked}: its text encoder has positions for {positions} "
            "tokens"
        )
    return asked or min(*limits, *([] if positions is None else [positions]))


def answers(folder: Path) -> list[str]:
    """Return the answers by class: `id2label` of config.json, else label_map.json beside it."""
    path = folder / "config.json"
    given = pretrained.read_json(path).get("id2label")
    placeholders = not isinstance(given, dict) or all(
        str(label).startswith("LABEL_") for label in given.values()
    )
    if not placeholders:
        return read_label_map(path)
    if (folder / "label_map.json").is_file():
        return read_label_map(folder / "label_map.json")
    raise RequestError(
        f"{path}: id2label: has no answers; put its label map beside it as label_map.json (a list "
        "of answers by class; a METER "
        "checkpoint: convert again, with --answers)"
    )


def check_head(folder: Path, model: Any, labels: list[str]) -> None:
    """Refuse a label map with more or fewer answers than the head has classes."""
    classes = len(model.config.id2label or {})
    if labels and len(labels) != classes:
        raise RequestError(
            f"{folder}: its label map has {len(labels):,} answers, and its head {classes:,} classes"
        )


def weights_sha256(folder: Path) -> str:
    """Return the SHA-256 of the file of weights that is loaded.

    For split weights it is that of the lines `DIGEST  FILE` in the order of names.
    """
    path = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if path is None:
        raise RequestError(f"{folder}: has no weights ({', '.join(WEIGHTS[::2])})")
    if path.suffix != ".json":
        return checked_sha256(path)
    index = pretrained.read_json(path)
    files = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(files, dict) or not files:
        raise RequestError(f"{path}: has no weight_map: it names no file of weights")
    lines = [
        f"{checked_sha256(folder / name)}  {name}\n"
        for name in sorted({str(name) for name in files.values()})
    ]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def checked_sha256(path: Path) -> str:
    if not path.is_file():
        raise RequestError(f"{path}: no such file; the download is not complete")
    with open(path, "rb") as file:
        if file.read(48).startswith(b"version https://git-lfs"):
            raise RequestError(
                f"{path}: no weights, only Git LFS's pointer to them; `git lfs pull` fetches them"
            )
    return file_sha256(path)
