"""Checkpoints of transformers' own models: their family, task and settings."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from vle_bench.data.label_map import labels_digest, read_label_map
from vle_bench.data.prepared import PreparedData, read_manifest
from vle_bench.data.sources import SOURCES
from vle_bench.data.splits import names
from vle_bench.errors import RequestError, first_of
from vle_bench.evaluation import published_checkpoint
from vle_bench.evaluation.published_checkpoint import Described, task_of
from vle_bench.evaluation.record import Training
from vle_bench.evaluation.request import Asked, Request, name_of
from vle_bench.json_files import JsonObject, read_json
from vle_bench.metrics.vqa import normalize_answer
from vle_bench.model_families import CHOOSES, FAMILIES, VLE, module_of
from vle_bench.models import pretrained
from vle_bench.models.base import Way
from vle_bench.tasks.catalogue import CATALOGUE, REPORTED, tasks_of
from vle_bench.tasks.predictions import Prediction

COMMIT = re.compile(r"[0-9a-f]{40}")


def family_of(folder: Path, asked: str | None) -> str:
    """Return the family of a checkpoint folder, a name of `FAMILIES`.

    Args:
        asked: the family that the user names.

    Raises:
        RequestError: it is of another family than `asked`, or of one that answers no question.
    """
    if asked is not None and asked not in FAMILIES:
        raise RequestError(f"--model {asked}: not among {', '.join(FAMILIES)}")
    own, classes = recognised(folder)
    is_named = f"{folder / 'config.json'}: architectures: {', '.join(classes) or 'none'}"
    if own is None and asked in (None, VLE):
        return VLE  # its own checks name the problem
    if own is None:
        raise RequestError(
            f"{is_named}: not a class that --model {asked} scores: {expected(asked)}"
        )
    if asked not in (None, own):
        raise RequestError(
            f"{is_named}: of {FAMILIES[own].title}; --model {own} scores it, not --model {asked}"
        )
    if own != VLE and (of := FAMILIES[own].architectures) and not {*of} & {*classes}:
        raise RequestError(f"{is_named}: answers no question; --model {own} scores {expected(own)}")
    return own


def recognised(folder: Path) -> tuple[str | None, list[str]]:
    """Return the family that config.json tells of, None if it tells of none, and its classes."""
    config = read_json(folder / "config.json")
    content = config if isinstance(config, dict) else {}
    named, model_type = content.get("architectures") or [], content.get("model_type")
    classes = [str(name) for name in named] if isinstance(named, list) else []
    if any(name.startswith("VLE") for name in classes):
        return VLE, classes
    for name, family in FAMILIES.items():
        own = {*(family.architectures or ())} & {*classes}
        if family.model_type is not None and (own or family.model_type == model_type):
            return name, classes
    generative = {
        one
        for names in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values()
        for one in ([names] if isinstance(names, str) else names)
    }
    return ("generate" if generative & {*classes} else None), classes


def expected(family: str | None) -> str:
    """Name the classes of a family."""
    classes = FAMILIES[str(family)].architectures
    return "any of AutoModelForImageTextToText" if classes is None else ", ".join(classes)


def task_asked(folder: Path, training: Training | None, request: Request) -> str:
    """Return the task of a checkpoint, ours or from elsewhere, without loading it."""
    asked = request.asked
    family = family_of(folder, asked.model)
    if training is not None:
        return training.task
    if family == VLE:
        return task_of(folder, pretrained.read_config(folder / "config.json"), asked.task)
    return task_of_data(family, asked.task, request.data_root)


def described(
    folder: Path, family: str, training: Training | None, request: Request
) -> tuple[Described, Any]:
    """Describe a checkpoint by the files beside its weights, and return its processor.

    Raises:
        RequestError: they do not fit, or the request does not fit them.
    """
    asked = request.asked
    if training is not None:
        asked.refuse(folder, training.task)
        if family == VLE:
            return Described.of(training), pretrained.load_processor(folder)
        length = training.inputs.max_text_length
        way = Way(FAMILIES[family].protocols[0], max_text_length=length)
        return Described.of(training), module_of(family).read(folder, way)
    if family == VLE:
        foreign = {"--protocol": asked.protocol, "--prompt": asked.prompt}
        refuse_foreign(family, foreign | {"--answers": asked.answers})
        return published_checkpoint.described(folder, asked)
    task = task_of_data(family, asked.task, request.data_root)
    reader = module_of(family).read(folder, way_of(family, asked, task))
    inputs = {k: v for k, v in reader.facts.items() if k == "max_text_length"}
    splits = sorted(set(names(asked.trained_on))) if asked.trained_on else []
    revision = revision_of(folder.resolve())
    model = {"name": name_of(folder)} | ({"revision": revision} if revision else {})
    if changes := asked.changes():
        model["asked"] = changes
    return Described(task, inputs, splits, model), reader


def load_model(
    folder: Path,
    family: str,
    training: Training | None,
    architecture: str,
    reader: Any,
    labels: list[str],
) -> Any:
    """Load the weights, and refuse a head or a tokenizer that does not fit them."""
    if family != VLE:
        return module_of(family).load(folder, reader, labels)
    model = pretrained.load_model(folder, architecture)
    if training is None:
        published_checkpoint.check_head(folder, model, labels)
    else:
        pretrained.check_vocabulary(folder, reader, model)
    return model


def answers(
    folder: Path,
    family: str,
    training: Training | None,
    asked: Asked,
    data: PreparedData,
) -> tuple[list[str], JsonObject]:
    """Return the answers that a checkpoint chooses from, and the facts about them for the record.

    A head has its own, which may differ from the data's.

    Raises:
        RequestError: it has none.
    """
    kind = FAMILIES[family].answers
    if not data.labels or kind == "free":
        return [], {}
    if training is not None:
        return pretrained.load_labels(folder), {}
    if kind == "listed":
        listed = read_label_map(asked.answers) if asked.answers else data.labels
        return listed, {"answers": len(listed), "answers_sha256": labels_digest(listed)}
    return published_checkpoint.answers(folder), {}


def refuse_strange(folder: Path, labels: list[str], data: PreparedData, split: str) -> None:
    """Refuse a label map without a single answer of the data, which would score 0."""
    own = {normalize_answer(label) for label in labels}
    if not labels or own & {normalize_answer(label) for label in data.labels}:
        return
    given = data.questions(split)["answers"][:]  # the annotators'; a split to predict has none
    if not any(normalize_answer(answer) in own for answers in given for answer in answers or ()):
        raise RequestError(
            f"{folder}: its label map has none of the answers of {data.root}: {first_of(labels)}; "
            "it is of another dataset"
        )


def counted_words(predictions: list[Prediction]) -> JsonObject:
    """Count the answers in words that are empty, or were cut; empty for other models."""
    words = [one.values for one in predictions if "text" in one.values]
    if not words:
        return {}
    return {
        "empty_answers": sum(not row["answer"] for row in words),
        "cut_answers": sum(row.get("cut", False) for row in words),
    }


def task_of_data(family: str, asked: str | None, root: Path) -> str:
    """Return the task that a model of the family is asked, by the form of the data.

    Raises:
        RequestError: no manifest, a form that it cannot answer, or one of several tasks.
    """
    manifest = read_manifest(root / "manifest.json")
    form = manifest.form or SOURCES[manifest.source].form
    tasks = [
        name for name in tasks_of(form) if name in REPORTED and len(CATALOGUE[name].parts) <= 1
    ]
    if FAMILIES[family].answers != "free":
        tasks = [name for name in tasks if CATALOGUE[name].label_metric]
    if not tasks:
        raise RequestError(
            f"{root}: holds {manifest.source} of the form {form}, which --model {family} does not "
            "answer"
        )
    if asked not in (None, *tasks) or (asked is None and len(tasks) > 1):
        given = f"--task {asked}: not among" if asked else "--task says which of its tasks:"
        raise RequestError(f"{root}: {given} {', '.join(tasks)}")
    return asked or tasks[0]


def way_of(family: str, asked: Asked, task: str) -> Way:
    """Return how the model is asked: as published, or by the first protocol that suits the task.

    Raises:
        RequestError: an option that the family does not have, or that does not suit the task.
    """
    row = FAMILIES[family]
    # Questions of VQA's form may have choices too, which only opening the data says.
    always_choices = not CATALOGUE[task].label_metric
    suited = [name for name in row.protocols if name.startswith(CHOOSES) or not always_choices]
    protocol = asked.protocol or suited[0]
    if protocol not in suited:
        raise RequestError(
            f"--protocol {protocol}: --model {family} has {', '.join(suited)} for {task}"
        )
    foreign = {
        "--resize": asked.resize,
        "--prompt": None if row.answers == "free" else asked.prompt,
        "--answers": None if row.answers == "listed" else asked.answers,
    }
    refuse_foreign(family, foreign)
    if asked.prompt is not None and "{question}" not in asked.prompt:
        raise RequestError(
            "--prompt: has no {question}, the place of the question: 'Question: {question}'"
        )
    return Way(protocol, asked.prompt, asked.max_text_length)


def refuse_foreign(family: str, options: Mapping[str, object]) -> None:
    """Refuse options that mean nothing for a family."""
    if given := [option for option, value in options.items() if value is not None]:
        raise RequestError(f"{given[0]}: means nothing for --model {family}")


def revision_of(folder: Path) -> str | None:
    """Return the commit of a folder that came from the hub: from its cache, or `hf download`."""
    if folder.parent.name == "snapshots" and COMMIT.fullmatch(folder.name):
        return folder.name
    note = folder / ".cache" / "huggingface" / "download" / "config.json.metadata"
    first = note.read_text(encoding="utf-8").partition("\n")[0] if note.is_file() else ""
    return first if COMMIT.fullmatch(first) else None
