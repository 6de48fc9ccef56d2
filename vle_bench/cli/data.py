"""Commands for data: `download` and `prepare`."""

import sys
from enum import Enum
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vle_bench.data.sources import DOWNLOADED, FURTHER, PREPARED, SOURCES
from vle_bench.errors import RequestError

if TYPE_CHECKING:
    from vle_bench.data.official.vqa import OnBad as Handling


class OnBad(str, Enum):
    error = "error"
    skip = "skip"


class Resize(str, Enum):
    crop = "crop"
    squash = "squash"


Official = Annotated[
    Path | None,
    typer.Option(
        "--source",
        help="folder of the official files; easy-vqa, shapes-vcr, shapes-captions write them there",
    ),
]
Spec = Annotated[
    str | None,
    typer.Argument(
        metavar="[SPEC]",
        help="own, captions: a data file (.csv, .tsv, .json, .jsonl, .parquet), a folder, "
        "hub:owner/name[@revision], or a YAML that names one; captions: tars too; see "
        "docs/own-data.md and docs/pretrain.md",
    ),
]
Check = Annotated[
    bool,
    typer.Option(
        "--check", help="own: print examples, counts and every problem, and write nothing"
    ),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**32 - 1,
        help="shapes-vcr, shapes-captions: seed of pictures and texts; 0 if not given",
    ),
]
Pictures = Annotated[
    int | None,
    typer.Option(
        min=10, max=10**7, help="shapes-captions: training pictures to draw; 12,000 if not given"
    ),
]
LimitImages = Annotated[
    int | None,
    typer.Option(min=10, max=10**6, help="easy-vqa: images a split at most, for trials"),
]
Workers = Annotated[
    int,
    typer.Option(
        min=1,
        max=256,
        help="processes that check and store images; any number writes the same bytes",
    ),
]
OnBadImage = Annotated[
    OnBad, typer.Option(help="missing or broken image: stop, or leave it out and list it")
]
OnBadRecord = Annotated[
    OnBad, typer.Option(help="wrong question or annotation: stop, or leave it out and list it")
]
LabelMap = Annotated[
    Path | None,
    typer.Option(
        help="answers in their order: JSON (a list, {answer: index}, label_map.json, the "
        "config.json of a checkpoint), or .txt or .jsonl with an answer a line"
    ),
]
PublishedTargets = Annotated[
    bool,
    typer.Option(
        "--published-targets",
        help="look answers up as given, as METER and VLE do; the default normalises them",
    ),
]
VisualGenome = Annotated[
    Path | None,
    typer.Option(help="vqav2: question_answers.json of Visual Genome, for the training split vg"),
]
VisualGenomeImages = Annotated[
    Path | None, typer.Option(help="vqav2: image_data.json of Visual Genome (coco_id)")
]
Tokenizer = Annotated[
    Path | None, typer.Option(help="folder of a tokenizer, to count texts that are too long")
]
MaxTextLength = Annotated[
    int | None,
    typer.Option(
        min=4, max=4096, help="with --tokenizer: tokens that the model reads; 50, for vcr 80"
    ),
]


Images = Annotated[
    Path | None,
    typer.Option(help="captions: folder where the paths of pictures start; that of the file"),
]
LeaveOut = Annotated[
    list[str] | None,
    typer.Option(
        metavar="DATA|FILE",
        help="captions, visual-genome: pictures that are evaluated on, by COCO id; a prepared "
        "folder (all splits but train, or FOLDER:split+split), dataset_coco.json, a COCO JSON, a "
        "file of ids; or `nothing`. May be repeated",
    ),
]
Classes = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100_000,
        help="visual-genome: how many of the most frequent names of objects are classes; 1,600",
    ),
]
Pixels = Annotated[
    int | None,
    typer.Option(
        min=8,
        max=2048,
        metavar="N",
        help="also store every picture decoded and resized to N × N, as a recipe with "
        "model.image_size N reads it; 3 N² bytes a picture",
    ),
]
PixelsResize = Annotated[
    Resize | None,
    typer.Option(
        help="with --pixels: the recipe's model.resize (published-vcr has the pixels of crop); "
        "if not given, crop, for vcr's form squash"
    ),
]


def download(
    source: Annotated[str, typer.Argument(help=" or ".join(DOWNLOADED))],
    output: Annotated[
        Path | None,
        typer.Option(help="folder for the official files, as `prepare --source` reads it"),
    ] = None,
    list_urls: Annotated[
        bool, typer.Option("--list", help="print the URLs and stop, to fetch them another way")
    ] = False,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="keep the archives after unpacking them")
    ] = False,
    annotations: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="vcr: location of vcr1annots.zip")
    ] = None,
    images: Annotated[
        str | None, typer.Option(metavar="URL|FILE", help="vcr: location of vcr1images.zip")
    ] = None,
) -> None:
    """Download, check and unpack the official archives.

    The same command continues an interrupted download. Archives that are already in the folder are
    unpacked without the network. VCR has its own licence: the command explains how to get it.
    """
    from vle_bench.data.download.archives import download as download_archives
    from vle_bench.data.download.archives import url_lines

    if source not in DOWNLOADED:
        raise RequestError(
            f"download: no archives of {source!r} are known; choose {' or '.join(DOWNLOADED)}"
            + ("; docs/datasets.md says where its files are" if source in FURTHER else "")
        )
    row = SOURCES[source]
    options = {"--annotations": annotations, "--images": images}
    given = {option: place for option, place in options.items() if place is not None}
    if set(given) - set(row.archive_options):
        owners = ", ".join(name for name in DOWNLOADED if SOURCES[name].archive_options)
        raise RequestError(
            f"download {source}: {' and '.join(options)} are for {owners}; "
            "put archives that you have into the folder"
        )
    if list_urls and row.archive_lines:
        print("\n".join(resolve_name(row.archive_lines)(output)))
        return
    if list_urls:
        print("\n".join(url_lines(resolve_name(row.archives)(Path(), given))))
        advice = f"`vle-bench download {source} --output FOLDER` checks and unpacks them"
        print(f"put them into one folder; {advice}", file=sys.stderr)
        return
    if output is None:
        raise RequestError(
            f"download {source}: --output names the folder to download to "
            "(--list prints the URLs instead)"
        )
    archives = resolve_name(row.archives)(output, given)
    fresh = download_archives(archives, output, keep_archives=keep_archives)
    print(f"written: {output}" if fresh else f"{output}: already complete, nothing to do")


def prepare(
    source: Annotated[str, typer.Argument(help=", ".join(PREPARED))],
    spec: Spec = None,
    output: Annotated[Path | None, typer.Option(help="folder for the prepared data")] = None,
    official: Official = None,
    check: Check = False,
    seed: Seed = None,
    pictures: Pictures = None,
    limit_images: LimitImages = None,
    workers: Workers = 1,
    on_bad_image: OnBadImage = OnBad.error,
    on_bad_record: OnBadRecord = OnBad.error,
    label_map: LabelMap = None,
    published_targets: PublishedTargets = False,
    visual_genome: VisualGenome = None,
    vg_image_data: VisualGenomeImages = None,
    images: Images = None,
    leave_out: LeaveOut = None,
    classes: Classes = None,
    tokenizer: Tokenizer = None,
    max_text_length: MaxTextLength = None,
    pixels: Pixels = None,
    pixels_resize: PixelsResize = None,
) -> None:
    """Convert official files to Arrow tables.

    Writes tables of images and questions, the label map of VQA and a manifest. Refuses files that
    contradict each other. The same command continues an interrupted preparation, by shards of
    500 MB of images.
    """
    options = {
        "SPEC": spec,
        "--check": check or None,
        "--limit-images": limit_images,
        "--label-map": label_map,
        "--published-targets": published_targets or None,
        "--visual-genome": visual_genome,
        "--vg-image-data": vg_image_data,
        "--seed": seed,
        "--pictures": pictures,
        "--images": images,
        "--leave-out": leave_out or None,
        "--classes": classes,
    }
    check_request(source, official, output, options)
    check_pixels(pixels, pixels_resize, check)
    from vle_bench.data.prepare.manifest import Choices

    on_bad: tuple[Handling, Handling] = (on_bad_image.value, on_bad_record.value)
    choices = Choices(workers, *on_bad, label_map, published_targets, tokenizer, max_text_length)
    given = official if spec is None else spec
    if check:
        resolve_name(SOURCES[source].check)(given, choices)
        return
    manifest = resolve_name(SOURCES[source].prepare)(given, output, choices, options)
    print_prepared(source, output, official, manifest)
    if pixels is not None and output is not None:
        store_pixels(output, pixels, pixels_resize or default_resize(source), workers)


def print_prepared(
    source: str, output: Path | None, official: Path | None, manifest: object
) -> None:
    """Print the summary of prepared data, and whether an earlier command had finished them."""
    from vle_bench.data.prepare.fingerprint import Standing

    finished = isinstance(manifest, Standing)
    if finished:
        print(f"{output}: already complete, nothing to do")
    print("\n".join(resolve_name(SOURCES[source].summary)(manifest)))
    if not finished:
        print(f"written: {output}")
    if official is not None and SOURCES[source].made:
        print(f"the official files: {official}")


def default_resize(source: str) -> Resize:
    """Return the resize of the shipped recipes for a dataset."""
    return Resize.squash if SOURCES[source].form == "vcr" else Resize.crop


def store_pixels(root: Path, size: int, resize: Resize, workers: int) -> None:
    """Write a pixel store of prepared data, and say where it is."""
    from vle_bench.data.pixels import Transform
    from vle_bench.data.prepare.pixels import store_name, write_store
    from vle_bench.data.prepared import PIXEL_STORE

    name = store_name(size, resize.value)
    folder = root / f"{PIXEL_STORE}{name}"
    written = write_store(root, name, Transform.of_squares(size, resize.value), workers)
    print(f"written: {folder}" if written else f"{folder}: already complete, nothing to do")


def check_pixels(size: int | None, resize: Resize | None, check: bool) -> None:
    """Refuse options of pixel stores that do not go together."""
    if resize is not None and size is None:
        raise RequestError("prepare --pixels-resize: goes with --pixels N")
    if check and size is not None:
        raise RequestError("prepare --check: writes nothing, so --pixels has to wait")


def check_request(
    source: str, official: Path | None, output: Path | None, options: dict[str, Any]
) -> None:
    """Refuse an unknown dataset, options of other datasets, and missing places."""
    if source not in PREPARED:
        raise RequestError(
            f"prepare: no dataset is called {source!r}; choose one of {', '.join(PREPARED)}"
        )
    row = SOURCES[source]
    foreign = [o for o, value in options.items() if value is not None and o not in row.options]
    if foreign:
        raise RequestError(f"prepare {source}: {', '.join(foreign)}: not for this source")
    if "SPEC" in row.options:
        if official is not None or options["SPEC"] is None:
            raise RequestError(
                f"prepare {source}: a data file, a folder or a YAML is expected: "
                f"`vle-bench prepare {source} data.csv --output DIR`"
            )
    elif official is None and not row.made:
        raise RequestError(f"prepare {source}: --source names the folder of the official files")
    if output is None and not options["--check"]:
        raise RequestError(f"prepare {source}: --output names the folder for the prepared data")
