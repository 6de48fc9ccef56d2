"""Commands about training: `train`, `validate`, `convert`, `bench` and `demo`."""

import json
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vle_bench.cli.scores import is_first_process, print_record
from vle_bench.errors import RequestError
from vle_bench.progress import quiet_libraries

RecipeArgument = Annotated[
    str, typer.Argument(metavar="RECIPE", help="recipe file, or name of a shipped recipe")
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[key=value]...", help="recipe keys to change")
]


def train(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    output_dir: Annotated[
        Path | None, typer.Option(help="run folder; runs/<recipe name> if not given")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue an interrupted run")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="check the recipe and stop, as `validate` does")
    ] = False,
) -> None:
    """Fine-tune and evaluate as a recipe says.

    Writes the run folder with its checkpoints and its record.

    SIGTERM and SIGINT (Ctrl-C) end a run after the step and save its state. The same command with
    --resume continues it.
    """
    from vle_bench.recipe.load import default_run_folder, load_recipe
    from vle_bench.recipe.preflight import missing_files

    loaded = load_recipe(recipe, overrides or [])
    if dry_run:
        return validate([recipe], overrides)
    if missing := missing_files(loaded):
        raise RequestError("\n".join(missing))
    quiet_libraries()
    from vle_bench.analysis.model_card import write_cards
    from vle_bench.training.train import train as run_training

    folder = output_dir or default_run_folder(loaded)
    record = run_training(loaded, folder, resume)
    if is_first_process():
        write_cards(folder)
        print_record(record)
        print(f"written: {folder}/ (best/, last/, log.jsonl, results/, predictions/)")


def convert(
    output: Annotated[Path, typer.Option(help="folder to write; new or empty")],
    checkpoint: Annotated[
        Path | None, typer.Argument(help="METER's or VLE's training checkpoint, one file")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="VLEConfig (JSON) for what tensors do not hold: head counts, answers"),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="folder of the text encoder's tokenizer, for the processor")
    ] = None,
    answers: Annotated[
        Path | None,
        typer.Option(
            help="label map of a VQA head, or the folder of VQA v2's official files, for the order "
            "of METER and VLE"
        ),
    ] = None,
    text: Annotated[
        Path | None, typer.Option(help="instead of CHECKPOINT: folder of a DeBERTa or RoBERTa")
    ] = None,
    vision: Annotated[
        Path | None, typer.Option(help="with --text: folder of a CLIP, for a fresh VLE of both")
    ] = None,
    keep_last_vision_layer: Annotated[
        bool,
        typer.Option(
            "--keep-last-vision-layer",
            help="fresh VLE: keep CLIP's last layer, which the published models drop",
        ),
    ] = False,
) -> None:
    """Convert to a from_pretrained folder.

    Takes a training checkpoint, or a text encoder and a vision encoder.
    """
    fresh = text is not None or vision is not None
    if fresh == (checkpoint is not None) or (fresh and (text is None or vision is None)):
        raise RequestError("convert: give either a CHECKPOINT, or --text and --vision")
    if checkpoint is None and answers is not None:
        raise RequestError("convert: --answers goes with a CHECKPOINT, whose head they name")
    if checkpoint is not None and keep_last_vision_layer:
        raise RequestError("convert: --keep-last-vision-layer goes with --text and --vision")
    quiet_libraries()
    from vle_bench.models.vle.convert.checkpoints import convert_checkpoint, convert_encoders

    if text is not None and vision is not None:
        lines = convert_encoders(text, vision, output, config, tokenizer, keep_last_vision_layer)
    elif checkpoint is not None:
        lines = convert_checkpoint(
            checkpoint,
            output,
            config,
            tokenizer,
            None if answers is None else read_answers(answers),
        )
    print("\n".join(lines))


def read_answers(path: Path) -> list[str]:
    """Read a label map, or the answers of official files in their published order."""
    from vle_bench.data.label_map import read_label_map
    from vle_bench.data.prepare.vqav2 import published_vocabulary

    return published_vocabulary(path) if path.is_dir() else read_label_map(path)


def validate(
    recipes: Annotated[
        list[str],
        typer.Argument(metavar="RECIPE... [key=value]...", help="recipes and keys to change"),
    ],
    overrides: Annotated[list[str] | None, typer.Option(hidden=True)] = None,
) -> None:
    """Check recipes and print them with every value.

    Loads neither data nor weights. Prints the derived numbers and the inputs that are missing.
    """
    from vle_bench.recipe.load import load_recipe
    from vle_bench.recipe.preflight import missing_files
    from vle_bench.recipe.values import AUTO, batch_layout

    changes = [a for a in recipes if "=" in a] + list(overrides or [])
    for path in (a for a in recipes if "=" not in a):
        loaded = load_recipe(path, changes)
        print(f"# {path}: valid, hash {loaded.hash}")
        print(loaded.to_yaml().rstrip())
        train = loaded.train
        micro = batch_layout(train.batch_size, train.micro_batch, 1)
        fit = ", more where a GPU holds them" * (train.per_device_batch_size == AUTO)
        print(f"# one process: {micro} micro-batches of {train.micro_batch} a step{fit}")
        for line in missing_files(loaded):
            print("# missing: " + line.replace("\n", "\n#   "))


class Half(str, Enum):
    vqa = "vqa"
    vcr = "vcr"


def demo(
    overrides: Overrides = None,
    only: Annotated[Half | None, typer.Option(help="run one half only")] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="vqa: number of seeds to train")] = 1,
    output_dir: Annotated[Path, typer.Option(help="folder of the runs and pictures")] = Path(
        "runs/demo"
    ),
) -> None:
    """Prepare, train and evaluate small models on a CPU.

    VQA on the real easy-VQA: prepares, fine-tunes, evaluates on the official test set, prints the
    table and draws the pictures. VCR on drawn pictures: both tasks with the alignment of words and
    boxes, without it, and without pictures. Each model is trained on one core, as many at a time
    as there are; the output of each is in a file beside its run folder.
    """
    quiet_libraries()
    from vle_bench.demo import vcr, vqa
    from vle_bench.demo.jobs import Jobs, at_once

    with Jobs(at_once()) as running:
        # VCR's pictures are drawn while VQA is training.
        if only != Half.vcr:
            own = vqa.plan(overrides or [], seeds, output_dir)
            running.add(own)
        if only != Half.vqa:
            both = vcr.plan(overrides or [], output_dir)
            running.add(vcr.longest_first(both))
        if only != Half.vcr:
            running.finish(own)
            vqa.write_results(own, output_dir)
        if only != Half.vqa:
            running.finish(vcr.longest_first(both))
            vcr.join_and_write(both, output_dir)


Steps = Annotated[
    int,
    typer.Option(
        metavar="N", help="training steps and evaluation batches to time, after a warm-up"
    ),
]
EvaluationBatchSize = Annotated[
    int,
    typer.Option(metavar="N", help="questions (VCR: texts) an evaluation batch; `evaluate`: 128"),
]
Synthetic = Annotated[
    bool,
    typer.Option(
        "--synthetic",
        help="make data and random weights of the recipe's sizes, even where its own exist",
    ),
]
Naive = Annotated[
    bool,
    typer.Option(
        "--naive",
        help="run each step also as the published programs do: image once a choice, padded "
        "texts, eager attention; pre-training: a pass for each objective",
    ),
]
AsJson = Annotated[
    bool, typer.Option("--json", help="print one JSON object, whose names give the units")
]


def bench(
    recipe: RecipeArgument,
    overrides: Overrides = None,
    steps: Steps = 10,
    evaluation_batch_size: EvaluationBatchSize = 128,
    synthetic: Synthetic = False,
    naive: Naive = False,
    as_json: AsJson = False,
) -> None:
    """Measure speed and memory of a recipe.

    Prints samples a second of training, evaluation and loading, the parts of a step, the share of
    this machine's peak, and the peak memory. Where the recipe's data or checkpoint are missing,
    both are made in the recipe's sizes.
    """
    from vle_bench.recipe.load import load_recipe
    from vle_bench.recipe.preflight import missing_files

    loaded = load_recipe(recipe, overrides or [])
    missing = "; ".join(line.split("; it comes with")[0] for line in missing_files(loaded))
    because = "asked for" if synthetic else missing
    quiet_libraries()
    from vle_bench.bench.bench import run_bench

    report = run_bench(loaded, steps, evaluation_batch_size, synthetic=because or None, naive=naive)
    if as_json:
        print(json.dumps(report))
        return
    from vle_bench.bench.table import print_report

    print_report(report)
