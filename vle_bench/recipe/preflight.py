"""Check that a recipe has its inputs, and name the commands that bring the missing ones.

Imports no torch, since `make` runs this before anything else.
"""

import argparse
import shlex
import shutil
import sys
from pathlib import Path

from vle_bench import strict_yaml
from vle_bench.data.prepare.caption_files import FETCHED_AS
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json
from vle_bench.recipe.load import default_run_folder, load_recipe, shipped_recipes
from vle_bench.recipe.schema import DataGroup, Recipe
from vle_bench.tasks.catalogue import CATALOGUE

METER_URL = (
    "https://github.com/zdou0830/METER/releases/download/checkpoint/"
    "meter_clip16_288_roberta_pretrain.ckpt"
)
# Text and vision encoder on the hub, of which a folder of this name is made.
ENCODERS = {
    "vle-base-encoders": ("microsoft/deberta-v3-base", "openai/clip-vit-base-patch16"),
    "vle-large-encoders": ("microsoft/deberta-v3-large", "openai/clip-vit-large-patch14"),
    "meter-base-encoders": ("FacebookAI/roberta-base", "openai/clip-vit-base-patch16"),
}
LEAVE_OUT = "--leave-out"  # an option of `prepare`
# Of the pictures that VQA v2's recipes and retrieval are evaluated on.
EVALUATED = f"{LEAVE_OUT} data/vqav2:minival {LEAVE_OUT} dataset_coco.json"
PUBLISHED_TARGETS = "--published-targets"  # likewise


def missing_files(recipe: Recipe) -> list[str]:
    """List the missing inputs of a recipe, each with the commands that bring it."""
    missing = []
    root = recipe.data.root
    if not (Path(root) / "manifest.json").is_file():
        missing.append(
            "\n  ".join(
                [
                    f"{root}: no prepared data there (no manifest.json); it comes with",
                    *data_commands(recipe.data),
                ]
            )
        )
    else:
        manifest = read_manifest(Path(root))
        if problem := wrong_source(recipe, manifest.get("source")) or wrong_targets(
            recipe.data, manifest.get("targets")
        ):
            missing.append(problem)
    for part in recipe.data.mix or []:
        if not (Path(part.root) / "manifest.json").is_file() and part.root != root:
            missing.append(
                f"data.mix: {part.root}: no prepared data there (no manifest.json); it comes with"
                + "".join(f"\n  {command}" for command in caption_commands(part.root))
            )
    checkpoint = recipe.model.checkpoint
    if checkpoint is not None:
        folder = Path(checkpoint)
        if not any(
            (f / "config.json").is_file() for f in (folder, folder / "best", folder / "last")
        ):
            lines = [
                f"{checkpoint}: no checkpoint there (no config.json); it comes with",
                *checkpoint_commands(checkpoint),
            ]
            missing.append("\n  ".join(lines))
    return missing


def read_manifest(root: Path) -> JsonObject:
    """Read the manifest of prepared data; {} for a damaged one, which opening the data refuses."""
    try:
        manifest = read_json(root / "manifest.json")
    except RequestError:
        return {}
    return manifest if isinstance(manifest, dict) else {}


def wrong_source(recipe: Recipe, source: str | None) -> str | None:
    """Say that other data lie in the folder than the recipe names, and the ways out.

    What a recipe says of its splits, and its model card of the data, goes by the name.

    Args:
        source: of the prepared data; None if their manifest cannot be read.

    Returns:
        None if it is the recipe's.
    """
    asked = recipe.data.source
    if source in (None, asked):
        return None
    row = SOURCES.get(source)
    fits = row is not None and CATALOGUE[recipe.task].form in row.forms
    return (
        f"{recipe.data.root}: holds prepared {source}, and data.source says {asked}; "
        + f"data.source={source}, or " * fits
        + f"data.root=FOLDER, with one that holds {asked}"
    )


def wrong_targets(data: DataGroup, targets: str | None) -> str | None:
    """Say how the soft targets of prepared data differ from the recipe's, and the ways out.

    Args:
        targets: those of the prepared data; None if their manifest does not say.

    Returns:
        None if they do not differ.
    """
    prepared = targets or data.targets
    if prepared == data.targets:
        return None
    problem = (
        f"{data.root}: prepared with {prepared} targets, and data.targets asks for {data.targets}; "
    )
    if PUBLISHED_TARGETS not in SOURCES[data.source].options:
        return f"{problem}data.targets={prepared}, as {data.source} is prepared in one way only"
    other = data.model_copy(update={"root": f"{data.root.rstrip('/')}-{data.targets}"})
    # The manifest does not hold the folder of the official files, so that this is the usual one.
    official = f"{data.root.rstrip('/')}-official"
    command = data_commands(other, official if Path(official).is_dir() else "SOURCE")[-1]
    return f"{problem}`{command}` and data.root={other.root}, or data.targets={prepared}"


def data_commands(data: DataGroup, official: str | None = None) -> list[str]:
    """List the shell commands that bring the official files and prepare them.

    Args:
        official: folder of the official files; beside the prepared data if not given.
    """
    official = shlex.quote(official or f"{data.root.rstrip('/')}-official")
    asked = data.targets == "published" and PUBLISHED_TARGETS in SOURCES[data.source].options
    targets = f" {PUBLISHED_TARGETS}" if asked else ""
    output = f"--output {shlex.quote(data.root)}{targets}"
    if "SPEC" in SOURCES[data.source].options:
        return [f"vle-bench prepare {data.source} FILE {output}"]
    if SOURCES[data.source].made:
        return [f"vle-bench prepare {data.source} {output}"]
    output += f" {EVALUATED}" if LEAVE_OUT in SOURCES[data.source].options else ""
    prepare = f"vle-bench prepare {data.source} --source {official} {output}"
    # VCR's archives come after a form, which the command names when it has none.
    download = [f"vle-bench download {data.source} --output {official}"]
    return [*(download if SOURCES[data.source].archives else []), prepare]


def caption_commands(root: str) -> list[str]:
    """List the shell commands that bring captions, by the name of their folder.

    CC3M and SBU are lists of addresses, which img2dataset fetches.
    """
    output, tars = shlex.quote(root), shlex.quote(f"{root.rstrip('/')}-official")
    prepare = "vle-bench prepare captions"
    fetch = f"{FETCHED_AS} {tars}"
    match Path(root).name:
        case "coco-captions":
            # Its pictures are in train2014/ and val2014/ of the folder of --images.
            return [f"{prepare} dataset_coco.json --images coco --output {output} {EVALUATED}"]
        case "cc3m":
            return [
                "printf 'caption\\turl\\n' | cat - Train_GCC-training.tsv > cc3m.tsv",
                f"img2dataset --url_list cc3m.tsv --input_format tsv --url_col url "
                f"--caption_col caption {fetch}",
                f"{prepare} {tars} --output {output}",
            ]
        case "sbu":
            return [
                f"img2dataset --url_list sbu-captions-all.json --input_format json "
                f"--url_col image_urls --caption_col captions {fetch}",
                f"{prepare} {tars} --output {output}",
            ]
    return [f"{prepare} FILE --output {output}"]


def checkpoint_commands(checkpoint: str) -> list[str]:
    """List the shell commands that bring a checkpoint."""
    name, target = Path(checkpoint).name, shlex.quote(checkpoint)
    # The run of another recipe, such as a second stage of pre-training.
    for shipped, file in shipped_recipes().items():
        if Path(checkpoint) == Path("runs") / str(strict_yaml.read_group(file).get("name")):
            return [f"vle-bench train recipes/{shipped}"]
    if (encoders := ENCODERS.get(name)) is not None:
        folders = [Path(checkpoint).with_name(one.partition("/")[2]) for one in encoders]
        text, vision = (shlex.quote(str(folder)) for folder in folders)
        return [
            f"hf download {encoders[0]} --local-dir {text}",
            f"hf download {encoders[1]} --local-dir {vision}",
            f"vle-bench convert --text {text} --vision {vision} --output {target}",
        ]
    if name.startswith("meter"):
        weights = shlex.quote(f"{checkpoint}.ckpt")
        tokenizer = shlex.quote(str(Path(checkpoint).with_name("roberta-base")))
        return [
            f"curl --fail --location --create-dirs --output {weights} {METER_URL}",
            f"hf download FacebookAI/roberta-base --local-dir {tokenizer}",
            f"vle-bench convert {weights} --tokenizer {tokenizer} --output {target}",
        ]
    if name.startswith("vilt"):
        return [f"hf download dandelin/{name} --local-dir {target}"]
    if name.startswith("vle"):
        return [f"hf download hfl/{name} --local-dir {target}"]
    download = f"hf download OWNER/MODEL --local-dir {target}"
    return [f"{download}   (or name another folder: model.checkpoint=FOLDER)"]


def refuse_occupied(folder: Path) -> None:
    """Refuse a folder that holds a run, before a launcher starts; raises RequestError.

    `train` refuses it too, but then the launcher adds a traceback of its own for every process.
    """
    if folder.is_dir() and any(folder.iterdir()):
        raise RequestError(
            f"{folder}: holds a run; ARGS=--resume continues it, or the steps that make runs "
            f'after it; ARGS="--output-dir DIR" RUN=DIR takes another folder'
        )


def main() -> None:
    """Run `python -m vle_bench.recipe.preflight RECIPE [key=value ...]`.

    The exit status is 2 if an input is missing.
    """
    parser = argparse.ArgumentParser(prog="python -m vle_bench.recipe.preflight")
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output-dir", type=Path)
    known, rest = parser.parse_known_args()
    try:
        recipe = load_recipe(known.recipe, [a for a in rest if "=" in a and not a.startswith("-")])
        if not known.resume:
            refuse_occupied(known.output_dir or default_run_folder(recipe))
        if missing := missing_files(recipe):
            # make installs into .venv, which may not be activated.
            if shutil.which("vle-bench") is None:
                folder = Path(sys.executable).parent
                missing.append(f"the commands are in {folder}: source {folder}/activate")
            raise RequestError("\n".join(missing))
    except RequestError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
