"""What a recipe needs and is not there, with the commands that bring it. Imports no torch: `make` asks before anything else."""

import argparse
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.json_files import loads
from vle_bench.recipe import strict_yaml
from vle_bench.recipe.load import default_run_folder, load_recipe, shipped_recipes
from vle_bench.recipe.schema import DataGroup, Recipe

METER_URL = "https://github.com/zdou0830/METER/releases/download/checkpoint/meter_clip16_288_roberta_pretrain.ckpt"


def missing_inputs(recipe: Recipe) -> list[str]:
    """What the recipe needs and is not there, each with the commands that bring it."""
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
    elif problem := wrong_targets(recipe.data, read_manifest(Path(root)).get("targets")):
        missing.append(problem)
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


def read_manifest(root: Path) -> dict[str, Any]:
    """The manifest of prepared data; {} for a damaged one, which opening the data refuses."""
    try:
        manifest = loads((root / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return manifest if isinstance(manifest, dict) else {}


def wrong_targets(data: DataGroup, targets: str | None) -> str | None:
    """What is wrong with the soft targets of prepared data for a recipe, and the ways out; None for nothing."""
    there = targets or data.targets
    if there == data.targets:
        return None
    other = data.model_copy(update={"root": f"{data.root.rstrip('/')}-{data.targets}"})
    command = data_commands(other, official=f"{data.root.rstrip('/')}-official")[-1]
    return (
        f"{data.root}: prepared with {there} targets, and data.targets asks for {data.targets}; `{command}` and "
        f"data.root={other.root}, or data.targets={there}"
    )


def data_commands(data: DataGroup, official: str | None = None) -> list[str]:
    """Shell commands that bring the official files and prepare them.

    Args:
        official: folder of the official files; beside the prepared data if not given.
    """
    official = shlex.quote(official or f"{data.root.rstrip('/')}-official")
    targets = " --published-targets" if data.targets == "published" else ""
    prepare = f"vle-bench prepare {data.source} --source {official} --output {shlex.quote(data.root)}{targets}"
    if SOURCES[data.source].made:
        return [f"vle-bench prepare {data.source} --output {shlex.quote(data.root)}{targets}"]
    # VCR's archives come after a form, which the command names when it has none
    download = [f"vle-bench download {data.source} --output {official}"]
    return [*(download if SOURCES[data.source].archives else []), prepare]


def checkpoint_commands(checkpoint: str) -> list[str]:
    name, target = Path(checkpoint).name, shlex.quote(checkpoint)
    for (
        shipped,
        file,
    ) in shipped_recipes().items():  # another recipe's run, such as a second stage of pre-training
        if Path(checkpoint) == Path("runs") / str(strict_yaml.read_group(file).get("name")):
            return [f"vle-bench train recipes/{shipped}"]
    if name.startswith("meter"):
        weights, tokenizer = (
            shlex.quote(f"{checkpoint}.ckpt"),
            shlex.quote(str(Path(checkpoint).with_name("roberta-base"))),
        )
        return [
            f"curl --fail --location --create-dirs --output {weights} {METER_URL}",
            f"hf download FacebookAI/roberta-base --local-dir {tokenizer}",
            f"vle-bench convert {weights} --tokenizer {tokenizer} --output {target}",
        ]
    if name.startswith("vle"):
        return [f"hf download hfl/{name} --local-dir {target}"]
    return [
        f"hf download OWNER/MODEL --local-dir {target}   (or name another folder: model.checkpoint=FOLDER)"
    ]


def refuse_occupied(folder: Path) -> None:
    """As `train` does, but before a launcher starts: its processes would each end with a traceback of the launcher's."""
    if folder.is_dir() and any(folder.iterdir()):
        raise RequestError(
            f"{folder}: holds a run; with ARGS=--resume make goes on with it, or with what comes after it; "
            f'ARGS="--output-dir DIR" RUN=DIR takes another folder'
        )


def main() -> None:
    """`python -m vle_bench.recipe.preflight RECIPE [key=value ...]`: exit status 2 if an input is missing, at once."""
    parser = argparse.ArgumentParser(prog="python -m vle_bench.recipe.preflight")
    parser.add_argument("recipe", metavar="RECIPE")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--output-dir", type=Path)
    known, rest = parser.parse_known_args()
    try:
        recipe = load_recipe(known.recipe, [a for a in rest if "=" in a and not a.startswith("-")])
        if not known.resume:
            refuse_occupied(known.output_dir or default_run_folder(recipe))
        if missing := missing_inputs(recipe):
            if (
                shutil.which("vle-bench") is None
            ):  # make installs into .venv, which nobody may have activated
                missing.append(
                    f"the commands are in {Path(sys.executable).parent}: source {Path(sys.executable).parent}/activate"
                )
            raise RequestError("\n".join(missing))
    except RequestError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
