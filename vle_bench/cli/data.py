"""The commands that bring data: download and prepare. `cli` gives them their place."""

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from vle_bench.data.sources import PREPARED, SOURCES, load
from vle_bench.errors import RequestError

LABEL_MAP = (
    "answers and their order: JSON (a list, {answer: index}, our label_map.json, a published checkpoint's config.json), "
    "or .txt or .jsonl with an answer a line"
)


class OnBad(str, Enum):
    error = "error"
    skip = "skip"


def download(
    source: Annotated[str, typer.Argument(help="vqav2 or vcr")],
    output: Annotated[
        Path | None,
        typer.Option(help="folder for the official files, as `prepare --source` reads it"),
    ] = None,
    list_urls: Annotated[
        bool, typer.Option("--list", help="print what is needed and stop, to fetch it another way")
    ] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="do not remove the archives once unpacked")
    ] = False,
    annotations: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="vcr: where vcr1annots.zip is")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="vcr: where vcr1images.zip is")
    ] = None,
) -> None:
    """Official archives, fetched, checked and unpacked.

    The same command again goes on where it was stopped. Archives that lie in the folder already are unpacked without the network.
    VCR has its own licence: the command says how one comes by its archives.
    """
    from vle_bench.data.download.archives import VQAV2, url_lines, vcr_archives, vcr_lines
    from vle_bench.data.download.archives import download as download_archives

    if source not in ("vqav2", "vcr"):
        raise RequestError(f"download: nothing to fetch for {source!r}; there are vqav2 and vcr")
    if source == "vqav2" and (annotations or images):
        raise RequestError(
            "download vqav2: --annotations and --images are for vcr; an archive that you have, put into the folder"
        )
    if list_urls:
        print("\n".join(url_lines(VQAV2) if source == "vqav2" else vcr_lines(output)))
        if source == "vqav2":
            print(
                "put them into one folder; `vle-bench download vqav2 --output FOLDER` checks and unpacks them",
                file=sys.stderr,
            )
        return
    if output is None:
        raise RequestError(
            f"download {source}: --output names the folder to download to (or --list prints what is needed)"
        )
    archives = VQAV2 if source == "vqav2" else vcr_archives(output, annotations, images)
    fresh = download_archives(archives, output, keep_archives=keep_archives)
    print(f"written: {output}" if fresh else f"{output}: everything is there, nothing to do")


def prepare(
    source: Annotated[str, typer.Argument(help="easy-vqa, vqav2, vcr or shapes-vcr")],
    output: Annotated[Path, typer.Option(help="folder for the prepared data")],
    official: Annotated[
        Path | None,
        typer.Option(
            "--source",
            help="folder of the official files; easy-vqa and shapes-vcr write them there",
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=2**32 - 1,
            help="shapes-vcr: decides every picture and question; 0 if not given",
        ),
    ] = None,
    limit_images: Annotated[
        int | None,
        typer.Option(min=10, max=10**6, help="easy-vqa: only so many images a split, for trials"),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            max=256,
            help="processes that check and store images; the same bytes with any number",
        ),
    ] = 1,
    on_bad_image: Annotated[
        OnBad,
        typer.Option(help="an image that is missing or broken: stop, or leave it out and list it"),
    ] = OnBad.error,
    on_bad_record: Annotated[
        OnBad,
        typer.Option(
            help="a question or annotation that is wrong: stop, or leave it out and list it"
        ),
    ] = OnBad.error,
    label_map: Annotated[Path | None, typer.Option(help=LABEL_MAP)] = None,
    published_targets: Annotated[
        bool,
        typer.Option(
            "--published-targets",
            help="look answers up as given, as METER and VLE do; ours are normalised",
        ),
    ] = False,
    visual_genome: Annotated[
        Path | None,
        typer.Option(
            help="vqav2: Visual Genome's question_answers.json, for the extra training split vg"
        ),
    ] = None,
    vg_image_data: Annotated[
        Path | None, typer.Option(help="vqav2: Visual Genome's image_data.json (coco_id)")
    ] = None,
    tokenizer: Annotated[
        Path | None,
        typer.Option(help="folder of a tokenizer, to count questions that are too long"),
    ] = None,
    max_text_length: Annotated[
        int | None,
        typer.Option(
            min=4, max=4096, help="with --tokenizer: tokens that a model reads; 50, for vcr 80"
        ),
    ] = None,
) -> None:
    """Official files → tables of images and questions.

    Writes Arrow tables, the label map of VQA and a manifest; refuses files that contradict each other. Stopped and started again it
    goes on where it was, by whole shards (500 MB of images each).
    """
    if source not in PREPARED:
        raise RequestError(
            f"prepare: no source is called {source!r}; there are {', '.join(PREPARED)}"
        )
    row = SOURCES[source]
    options = {
        "--limit-images": limit_images,
        "--label-map": label_map,
        "--published-targets": published_targets or None,
        "--visual-genome": visual_genome,
        "--vg-image-data": vg_image_data,
        "--seed": seed,
    }
    foreign = [o for o, value in options.items() if value is not None and o not in row.options]
    if foreign:
        raise RequestError(f"prepare {source}: {', '.join(foreign)}: not for this source")
    if official is None and not row.made:
        raise RequestError(f"prepare {source}: --source names the folder of the official files")
    from vle_bench.data.prepare.fingerprint import Standing
    from vle_bench.data.prepare.manifest import Choices

    choices = Choices(
        workers,
        on_bad_image.value,
        on_bad_record.value,
        label_map,
        published_targets,
        tokenizer,
        max_text_length,
    )
    manifest = load(row.prepare)(official, output, choices, options)
    standing = isinstance(manifest, Standing)
    if standing:
        print(f"{output}: everything is there, nothing to do")
    print("\n".join(load(row.summary)(manifest)))
    if not standing:
        print(f"written: {output}")
    if official is not None and source in ("easy-vqa", "shapes-vcr"):
        print(f"the official files: {official}")
