"""The model card and the scores of a checkpoint on the hub, from the records of its run."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
)

from vle_bench import atomic
from vle_bench.atomic import file_sha256
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.evaluation.pretraining import data_in_words, in_words
from vle_bench.evaluation.record import Metric, Record, load_record, picked_on
from vle_bench.evaluation.request import NO_NAME
from vle_bench.json_files import Row, read_json
from vle_bench.metrics.numbers import percent, percent_range
from vle_bench.model_families import FAMILIES as ROWS
from vle_bench.model_families import VLE
from vle_bench.models.pretrained import TRAINING_FILE
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.catalogue import CATALOGUE

CARD, SCORES = "README.md", Path(".eval_results") / "vle-bench.yaml"

WRITTEN = (
    "<!-- Written by vle-bench, again with every evaluation; "
    "a card without this line is left alone. -->"
)

FAMILIES = {"deberta-v2": "VLE", "roberta": "METER"}

OWN_NAME = (
    "the data set's id is vle-bench's own: "
    "no benchmark of the hub is known that is scored on this split"
)


def write_cards(run: Path) -> None:
    """Write the cards of `best/` and `last/` of a run folder.

    Each shows the records in results/ that are of its weights. A `from_pretrained` folder outside
    of the run keeps its own card, and nothing else in the folders is changed.
    """
    if not (run / "recipe.yaml").is_file():
        return
    recipe, records = load_recipe(str(run / "recipe.yaml")), []
    for path in sorted(run.glob("results/*.json")):
        try:
            records.append(load_record(path))
        except RequestError as error:
            print(f"model card: skipped {error}", file=sys.stderr)
    for folder in (run / "best", run / "last"):
        if (folder / TRAINING_FILE).is_file():
            digest = file_sha256(folder / "model.safetensors")
            own = [r for r in records if r.model.get("checkpoint_sha256") == digest]
            write_card(folder, recipe, digest, own)


def write_card(folder: Path, recipe: Recipe, digest: str, records: Sequence[Record]) -> None:
    """Write README.md, and `.eval_results/vle-bench.yaml` if a score can be ranked.

    Each file is written completely or not at all.
    """
    card, scores = folder / CARD, folder / SCORES
    if card.is_file() and WRITTEN not in card.read_text(encoding="utf-8", errors="replace"):
        print(f"{card}: not written by vle-bench, left alone", file=sys.stderr)
        return
    ranked = [record for record in records if record.contaminated is False]
    lines = "\n".join(body(folder, recipe, digest, records))
    mixed = [part["source"] for part in read_json(folder / TRAINING_FILE).get("mixed", [])]
    text = f"---\n{metadata(recipe, ranked, mixed).to_yaml()}\n---\n\n{lines}\n"
    with atomic.sole_writer(folder):
        for place in (folder, scores.parent):
            atomic.remove_leftovers(place)
        before = card.read_text(encoding="utf-8") if card.is_file() else None
        content = ModelCard(text).content
        atomic.write_text(card, content)
        if content != before:
            print(f"written: {card}")
        if not ranked:
            scores.unlink(missing_ok=True)
            return
        entries = [
            entry(record, name, metric)
            for record in ranked
            for name, metric in record.metrics.items()
        ]
        values = eval_result_entries_to_yaml(entries)
        dumped = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=120)
        atomic.write_text(scores, dumped)


def entry(record: Record, name: str, metric: Metric) -> EvalResultEntry:
    """Return one score in percent.

    The hub ranks entries that name one of its benchmarks; ours have names that claim none.
    """
    interval = f", 95 % interval {percent_range(metric.interval)}" if metric.interval else ""
    return EvalResultEntry(
        dataset_id=f"vle-bench/{dataset_id(record)}",
        task_id=f"{record.task}.{record.split}.{name}",
        value=float(percent(metric.value)),
        notes=f"percent of {n_of(record, metric):,}{interval}; {OWN_NAME}",
    )


def metadata(recipe: Recipe, ranked: Sequence[Record], mixed: Sequence[str]) -> ModelCardData:
    """Return the card's metadata, with the scores in the older `model-index`, in percent.

    It has no licence: that of the weights is not known here.

    Args:
        mixed: the sources of the data that were mixed in.
    """
    results = [
        EvalResult(
            task_type=CATALOGUE[record.task].hub_task,
            task_name=record.task,
            dataset_type=dataset_id(record),
            dataset_name=data_of(record),
            dataset_split=record.split,
            metric_type=name,
            metric_name=name,
            metric_value=float(percent(metric.value)),
        )
        for record in ranked
        for name, metric in record.metrics.items()
    ]
    return ModelCardData(
        library_name="vle-bench",
        tags=["vle-bench", "vision-language", recipe.task],
        datasets=list(dict.fromkeys([recipe.data.source, *mixed])),
        metrics=["accuracy"],
        pipeline_tag=CATALOGUE[recipe.task].pipeline_tag,
        model_name=recipe.name if results else None,
        eval_results=results or None,
    )


def body(folder: Path, recipe: Recipe, digest: str, records: Sequence[Record]) -> list[str]:
    """Return the card's text, a line each."""
    config, training = (read_json(folder / name) for name in ("config.json", TRAINING_FILE))
    source = training.get("data", {}).get("name", SOURCES[recipe.data.source].title)
    if parts := training.get("mixed"):
        source = f"a mix of {data_in_words(parts)}"
    start = (
        f"fine-tuned from `{Path(recipe.model.checkpoint).name}`"
        if recipe.model.checkpoint
        else "trained from scratch"
    )
    splits = ", ".join(f"`{split}`" for split in training["training_splits"])
    return [
        f"# {training['recipe']['name']}",
        "",
        WRITTEN,
        "",
        f"{about_model(config)} "
        f"It was {start} for the task `{training['task']}` on {source}, splits {splits}.",
        *(f"Its start was trained before: {in_words(e)}." for e in training.get("pretraining", [])),
        "",
        "## Scores",
        "",
        *score_lines(records),
        "",
        "## Load",
        "",
        "`.` is this folder, and the name of a repository on the hub does as well.",
        "",
        "```python",
        *loading_lines(recipe.model.family, training["task"]),
        "```",
        "",
        "## Training",
        "",
        *training_lines(training, digest),
    ]


def about_model(config: Row) -> str:
    """Say in a sentence what kind of model it is, by its config.json."""
    if "text_config" not in config:
        return "A ViLT: one transformer that reads the words and the patches of the picture."
    encoder = config["text_config"]["model_type"]
    return (
        f"A vision-language encoder of the {FAMILIES.get(encoder, 'VLE')} family: a text encoder "
        f"(`{encoder}`) and a CLIP vision encoder, joined by layers of co-attention."
    )


def loading_lines(family: str, task: str) -> list[str]:
    """Return the lines of Python that load a checkpoint of a family for a task."""
    if family != VLE:
        (architecture,) = ROWS[family].architectures or ()
        return [
            f"from transformers import AutoProcessor, {architecture}",
            f'model = {architecture}.from_pretrained(".")',
            'processor = AutoProcessor.from_pretrained(".")',
        ]
    architecture = load_task(task).architecture
    return [
        f"from vle_bench.models import {architecture}, VLEProcessor",
        f'model = {architecture}.from_pretrained(".")',
        'processor = VLEProcessor.from_pretrained(".")',
    ]


def score_lines(records: Sequence[Record]) -> list[str]:
    """Return a table of all scores, with remarks on contamination and picked checkpoints."""
    if not records:
        return ["These weights were not evaluated; `vle-bench evaluate` does it."]
    lines = [
        "Percent; 95 % bootstrap intervals over images.",
        "",
        "| data | split | metric | score | 95 % interval | n | code |",
        "| --- | --- | --- | ---: | --- | ---: | --- |",
    ]
    for record in records:
        split = record.split + (" (contaminated)" if record.contaminated else "")
        lines += [
            f"| {data_of(record)} | {split} | {name} | {percent(metric.value)} | "
            f"{percent_range(metric.interval, '–')} | {n_of(record, metric):,} | "
            f"{code_of(record)} |"
            for name, metric in record.metrics.items()
        ]
    if splits := sorted({record.split for record in records if record.contaminated}):
        lines += [
            "",
            f"**Contaminated: the model was trained on images of {', '.join(splits)}. Its score "
            "there says nothing about other data, and is never ranked.**",
        ]
    for record in records:
        if record.other_data:
            lines += [
                "",
                f"{data_of(record)} is not what the model was trained on ({record.trained_on}): "
                f"its score on {record.split} is never ranked among models of these data.",
            ]
    picked = dict.fromkeys(picked_on(record) for record in records if not record.contaminated)
    return [*lines, "", *picked]


def number(value: int | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def training_lines(training: Row, digest: str) -> list[str]:
    """Return recipe, seed, steps, score and digest of the weights, from `training.json`."""
    recipe, progress = training["recipe"], training["progress"]
    score = "unknown" if progress.get("score") is None else percent(progress["score"])
    experiment = f", experiment `{recipe['experiment']}`" if "experiment" in recipe else ""
    average = (
        f", the moving average of the weights (decay {progress['ema']})"
        if "ema" in progress
        else ""
    )
    selected = (
        "the run is represented by its `last/`"
        if progress.get("selection") == "last"
        else "the best score there picks the run's `best/`"
    )
    return [
        f"- recipe `{recipe['name']}`, hash `{recipe['hash']}`{experiment}",
        f"- seed {training['seed']}, step {number(progress.get('step'))} of "
        f"{number(progress.get('steps'))}{average}",
        f"- {score} on `{progress.get('split')}` at that step; {selected}",
        f"- SHA-256 of `model.safetensors`: `{digest}`",
    ]


def data_of(record: Record) -> str:
    """Return a dataset's title, or the name of users' own data with the hash if ambiguous."""
    source = record.data["source"]
    if "name" in record.data:
        return record.other_data or record.data_name
    return SOURCES[source].title if source in SOURCES else source


def dataset_id(record: Record) -> str:
    """Return the name of the data as an id: the hub compares scores of one id and split."""
    own = re.sub(NO_NAME, "-", data_of(record), flags=re.A).strip("-.")
    return own if "name" in record.data and own else record.data["source"]


def n_of(record: Record, metric: Metric) -> int:
    return metric.n if metric.n is not None else record.n


def code_of(record: Record) -> str:
    """Return the commit that scored, or the version of an installed package."""
    commit = record.code.get("commit")
    if not commit:
        return f"vle-bench {record.code.get('version')}"
    return f"`{commit[:12]}`{'' if record.code['clean'] else ', uncommitted changes'}"
