"""What the hub shows of a checkpoint: a model card and its scores, written from the records of the run."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import (
    EvalResult,
    EvalResultEntry,
    ModelCard,
    ModelCardData,
    eval_result_entries_to_yaml,
)

from vle_bench import atomic
from vle_bench.data.sources import SOURCES
from vle_bench.digests import file_sha256
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import Metric, Record, load_record, picked_on
from vle_bench.metrics.rounding import percent
from vle_bench.models.pretrained import TRAINING_FILE
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.tasks.catalogue import CATALOGUE

CARD, SCORES = "README.md", Path(".eval_results") / "vle-bench.yaml"
WRITTEN = "<!-- Written by vle-bench, again with every evaluation; a card without this line is left alone. -->"


FAMILIES = {"deberta-v2": "VLE", "roberta": "METER"}
OWN_NAME = "the data set's id is vle-bench's own: no benchmark of the hub is known that is scored on this split"


def write_cards(run: Path) -> None:
    """Cards of `best/` and `last/` of a run folder; a `from_pretrained` folder that lies elsewhere keeps its own.

    Each shows the records in results/ that are of its weights. What else is in the folder is not touched.
    """
    if not (run / "recipe.yaml").is_file():
        return
    recipe, records = load_recipe(str(run / "recipe.yaml")), []
    for path in sorted(run.glob("results/*.json")):
        try:
            records.append(load_record(path))
        except RequestError as error:
            print(f"model card: passed over {error}", file=sys.stderr)
    for folder in (run / "best", run / "last"):
        if (folder / TRAINING_FILE).is_file():
            digest = file_sha256(folder / "model.safetensors")
            write_card(
                folder,
                recipe,
                digest,
                [r for r in records if r.model.get("checkpoint_sha256") == digest],
            )


def write_card(folder: Path, recipe: Recipe, digest: str, records: Sequence[Record]) -> None:
    """README.md, and `.eval_results/vle-bench.yaml` where there is a score to rank by; each complete or not at all."""
    card, scores = folder / CARD, folder / SCORES
    if card.is_file() and WRITTEN not in card.read_text(encoding="utf-8", errors="replace"):
        print(f"{card}: not written by vle-bench, left alone", file=sys.stderr)
        return
    ranked = [record for record in records if not record.contaminated]
    text = (
        f"---\n{metadata(recipe, ranked).to_yaml()}\n---\n\n"
        + "\n".join(body(folder, recipe, digest, records))
        + "\n"
    )
    with atomic.sole_writer(folder):
        for place in (folder, scores.parent):
            atomic.remove_leftovers(place)
        before = card.read_text(encoding="utf-8") if card.is_file() else None
        content = ModelCard(text).content
        atomic.write_text(card, content)
        if content != before:
            print(f"written: {card}")
        if ranked:
            entries = [
                entry(record, name, metric)
                for record in ranked
                for name, metric in record.metrics.items()
            ]
            shown = yaml.safe_dump(
                eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=120
            )
            atomic.write_text(scores, shown)
        else:
            scores.unlink(missing_ok=True)


def entry(record: Record, name: str, metric: Metric) -> EvalResultEntry:
    """One score in percent. The hub ranks what names one of its benchmarks; ours are named so that none is claimed."""
    notes = f"percent of {n_of(record, metric):,}{between(metric, ', 95 % interval ')}; {OWN_NAME}"
    return EvalResultEntry(
        dataset_id=f"vle-bench/{record.data['source']}",
        task_id=f"{record.task}.{record.split}.{name}",
        value=float(percent(metric.value)),
        notes=notes,
    )


def metadata(recipe: Recipe, ranked: Sequence[Record]) -> ModelCardData:
    """Without a licence: that of the weights is not known here. Scores are also in the older `model-index`, in percent."""
    results = [
        EvalResult(
            task_type=CATALOGUE[record.task].hub_task,
            task_name=record.task,
            dataset_type=record.data["source"],
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
        datasets=[recipe.data.source],
        metrics=["accuracy"],
        pipeline_tag=CATALOGUE[recipe.task].pipeline_tag,
        model_name=recipe.name if results else None,
        eval_results=results or None,
    )


def body(folder: Path, recipe: Recipe, digest: str, records: Sequence[Record]) -> list[str]:
    config, training = (
        json.loads((folder / name).read_text(encoding="utf-8-sig"))
        for name in ("config.json", TRAINING_FILE)
    )
    encoder, source = config["text_config"]["model_type"], SOURCES[recipe.data.source].title
    start = (
        f"fine-tuned from `{Path(recipe.model.checkpoint).name}`"
        if recipe.model.checkpoint
        else "trained from scratch"
    )
    return [
        f"# {training['recipe']['name']}",
        "",
        WRITTEN,
        "",
        f"A vision-language encoder of the {FAMILIES.get(encoder, 'VLE')} family: a text encoder (`{encoder}`) and a CLIP vision "
        f"encoder, joined by layers of co-attention. It was {start} for the task `{training['task']}` on {source}, splits "
        f"{', '.join(f'`{split}`' for split in training['training_splits'])}.",
        "",
        "## Scores",
        "",
        *scores_part(records),
        "",
        "## Load",
        "",
        "`vle_bench` has the classes; `.` is this folder, and the name of a repository on the hub does as well.",
        "",
        "```python",
        *loading_lines(load_task(training["task"]).architecture),
        "```",
        "",
        "## Training",
        "",
        *training_part(training, digest),
    ]


def loading_lines(architecture: str) -> list[str]:
    return [
        f"from vle_bench.models import {architecture}, VLEProcessor",
        f'model = {architecture}.from_pretrained(".")',
        'processor = VLEProcessor.from_pretrained(".")',
    ]


def scores_part(records: Sequence[Record]) -> list[str]:
    if not records:
        return ["These weights were not evaluated; `vle-bench evaluate` does it."]
    lines = [
        "Percent; 95 % bootstrap intervals over images.",
        "",
        "| data | split | metric | score | 95 % interval | n | code |",
    ]
    lines.append("| --- | --- | --- | ---: | --- | ---: | --- |")
    for record in records:
        mark = " (contaminated)" if record.contaminated else ""
        lines += [
            f"| {data_of(record)} | {record.split}{mark} | {name} | {percent(metric.value)} | {between(metric) or '–'} | "
            f"{n_of(record, metric):,} | {code_of(record)} |"
            for name, metric in record.metrics.items()
        ]
    if splits := sorted({record.split for record in records if record.contaminated}):
        lines += [
            "",
            f"**Contaminated: the model was trained on images of {', '.join(splits)}. Its score there says nothing about "
            "other data, and is never ranked.**",
        ]
    return [
        *lines,
        "",
        *dict.fromkeys(picked_on(record) for record in records if not record.contaminated),
    ]


def training_part(training: dict[str, Any], digest: str) -> list[str]:
    recipe, progress = training["recipe"], training["progress"]
    experiment = f", experiment `{recipe['experiment']}`" if "experiment" in recipe else ""
    average = (
        f", the moving average of the weights (decay {progress['ema']})"
        if "ema" in progress
        else ""
    )
    return [
        f"- recipe `{recipe['name']}`, hash `{recipe['hash']}`{experiment}",
        f"- seed {training['seed']}, step {progress['step']:,} of {progress['steps']:,}{average}",
        f"- {percent(progress['score'])} on `{progress['split']}` at that step; "
        + (
            "the run is represented by its `last/`"
            if progress.get("selection") == "last"
            else "the best score there picks the run's `best/`"
        ),
        f"- SHA-256 of `model.safetensors`: `{digest}`",
    ]


def data_of(record: Record) -> str:
    return SOURCES[record.data["source"]].title


def between(metric: Metric, before: str = "") -> str:
    return (
        f"{before}{percent(metric.interval[0])} to {percent(metric.interval[1])}"
        if metric.interval
        else ""
    )


def n_of(record: Record, metric: Metric) -> int:
    return metric.n if metric.n is not None else record.n


def code_of(record: Record) -> str:
    """The commit that scored."""
    commit = record.code.get("commit")
    return (
        f"`{commit[:12]}`{'' if record.code['clean'] else ', uncommitted changes'}"
        if commit
        else f"vle-bench {record.code.get('version')}"
    )
