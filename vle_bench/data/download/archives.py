"""The official archives of VQA v2 and VCR: fetched, resumed after a break, and unpacked into the layout that `prepare` reads."""

import functools
import hashlib
import http.client
import json
import re
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TypeVar

from vle_bench import __version__, atomic
from vle_bench.data.download.unpack import (
    check_space,
    file_blocks,
    has_size,
    members,
    missing_bytes,
    opened,
    unpack,
)
from vle_bench.errors import RequestError, RunFailed
from vle_bench.progress import Bar, in_words

VQA_URL = "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa"  # https://visualqa.org/download.html
COCO_URL = "http://images.cocodataset.org/zips"  # no https there: the certificate is that of the storage behind it
TIMEOUT = 60.0  # seconds without a byte
WAITS = (1.0, 4.0, 15.0, 60.0)  # seconds before each further attempt
BLOCK = 1 << 20  # bytes
T = TypeVar("T")


def sha256(path: Path) -> str:
    result = hashlib.sha256()
    for block in file_blocks(path):
        result.update(block)
    return result.hexdigest()


@dataclass(frozen=True)
class Archive:
    """One official archive; nobody publishes checksums of these, so `sha256` is None until somebody does."""

    url: str
    """Empty for one that is there already."""
    holds: tuple[str, ...]
    """What it must bring: files, and folders with a slash at the end. Nothing else in it is unpacked."""
    about: str = ""
    """Size in words, for people; the disk check asks the server."""
    growth: float = 1.02
    """Bytes on disk per byte of archive, until the archive itself says; JPEG files do not shrink, but end within a block."""
    sha256: str | None = None
    saved_as: str = ""
    """Its name, where the URL does not end in it."""
    file: Path | None = None
    """Where it lies, if not in the folder to unpack to; it stays there."""

    @property
    def name(self) -> str:
        return self.saved_as or self.url.rsplit("/", 1)[-1]

    def path(self, output: Path) -> Path:
        return self.file or output / self.name


def json_archive(part: str, *files: str) -> Archive:
    """JSON with ten times the same keys a question: annotations shrink almost twentyfold, so 25 is on the safe side."""
    return Archive(f"{VQA_URL}/v2_{part}_mscoco.zip", files, growth=25)


VQAV2 = (
    json_archive("Questions_Train", "v2_OpenEnded_mscoco_train2014_questions.json"),
    json_archive("Questions_Val", "v2_OpenEnded_mscoco_val2014_questions.json"),
    json_archive(
        "Questions_Test",
        "v2_OpenEnded_mscoco_test2015_questions.json",
        "v2_OpenEnded_mscoco_test-dev2015_questions.json",
    ),
    json_archive("Annotations_Train", "v2_mscoco_train2014_annotations.json"),
    json_archive("Annotations_Val", "v2_mscoco_val2014_annotations.json"),
    Archive(f"{COCO_URL}/train2014.zip", ("train2014/",), "about 13.5 GB"),
    Archive(f"{COCO_URL}/val2014.zip", ("val2014/",), "about 6.6 GB"),
    Archive(f"{COCO_URL}/test2015.zip", ("test2015/",), "about 13.2 GB"),
)


VCR_FORM = "https://visualcommonsense.com/download/"
VCR = (  # its metadata files are JSON, a part of the images' archive that shrinks
    Archive(
        "",
        ("train.jsonl", "val.jsonl", "test.jsonl"),
        "the questions",
        growth=25,
        saved_as="vcr1annots.zip",
    ),
    Archive(
        "", ("vcr1images/",), "the images and their boxes", growth=1.3, saved_as="vcr1images.zip"
    ),
)


class Broken(Exception):
    """A failure that a further attempt may not meet; never leaves this module."""


@dataclass(frozen=True)
class Version:
    """Which file a part belongs to, as the server told it: the value for If-Range, and the bytes of the whole."""

    validator: str
    total: int


def download(
    archives: Sequence[Archive],
    output: Path,
    *,
    keep_archives: bool = False,
    waits: Sequence[float] = WAITS,
) -> list[str]:
    """Fetch and unpack what is not there yet; an archive that already lies in `output` is unpacked without the network.

    Args:
        waits: seconds before each further attempt after a break.

    Returns:
        Names of the archives that were unpacked; none if everything was there.

    Raises:
        RequestError: `output` cannot be a folder.
        RunFailed: the network, the disk or an archive; the message names the URL or file.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RequestError(
            f"{output}: cannot be the folder to download to: {error.strerror}"
        ) from error
    try:
        missing = [archive for archive in archives if not is_unpacked(archive, output)]
        check_space(output, needed_bytes(missing, output, keep_archives, waits))
        for archive in missing:
            path = archive.path(output)
            if not path.exists():
                fetch(archive, path, waits)
            files = unpack(path, output, archive.holds)
            atomic.write_json(marker_of(archive, output), files)
            if not keep_archives and archive.file is None:
                path.unlink()
    except OSError as error:
        raise RunFailed(f"{error.filename or output}: {error.strerror or error}") from error
    return [archive.name for archive in missing]


def url_lines(archives: Sequence[Archive]) -> list[str]:
    return [f"{archive.url}  {archive.about}".rstrip() for archive in archives]


def vcr_archives(output: Path, annotations: str | None, images: str | None) -> list[Archive]:
    """VCR's two archives, from where the user says: a URL or a file each, or None for what lies in `output`.

    Raises:
        RequestError: an archive is nowhere; the lines say how one comes by it.
    """
    found = []
    for archive, given, option in zip(
        VCR, (annotations, images), ("--annotations", "--images"), strict=True
    ):
        if given is None:
            if not is_unpacked(archive, output) and not archive.path(output).is_file():
                first = f"download vcr: {archive.name} is not in {output}, and no {option} says where it is"
                raise RequestError("\n".join([first, *vcr_lines(output)]))
            found.append(archive)
        elif given.startswith(("http://", "https://")):
            found.append(replace(archive, url=given))
        elif Path(given).is_file():
            found.append(replace(archive, file=Path(given)))
        else:
            raise RequestError(
                f"download vcr: {option} {given}: no such file, and no URL with http:// or https://"
            )
    return found


def vcr_lines(output: Path | None) -> list[str]:
    """How one comes by VCR's archives."""
    command = f"vle-bench download vcr --output {'FOLDER' if output is None else output}"
    return [
        f"VCR is given out under its own licence, to those who accept it in the form at {VCR_FORM}",
        "The page then links to two archives:",
        *(f"  {archive.name}: {archive.about} ({', '.join(archive.holds)})" for archive in VCR),
        "With the links, or with the archives wherever they lie:",
        f"  {command} --annotations URL|FILE --images URL|FILE",
        "With both archives in the folder:",
        f"  {command}",
        "What is unpacked already goes straight to `vle-bench prepare vcr --source FOLDER`.",
    ]


def marker_of(archive: Archive, output: Path) -> Path:
    """Names and sizes of what an archive brought; written last."""
    return output / f"{archive.name}.unpacked.json"


def is_unpacked(archive: Archive, output: Path) -> bool:
    try:
        files = json.loads(marker_of(archive, output).read_text(encoding="utf-8"))
        return bool(files) and all(has_size(output / name, size) for name, size in files.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def needed_bytes(
    archives: Sequence[Archive], output: Path, keep_archives: bool, waits: Sequence[float]
) -> int:
    """Most additional disk space at any moment, in bytes; exact for archives that are there, else from the server's sizes."""
    used = most = 0
    for archive in archives:
        path = archive.path(output)
        if path.exists():
            with opened(path) as content:
                unpacked = missing_bytes(members(path, content, archive.holds), output)
            size, fresh = path.stat().st_size, 0
        else:
            size = persist(archive.url, waits, functools.partial(remote_bytes, archive.url))
            unpacked, fresh = int(size * archive.growth), size - part_bytes(part_of(path))
        used += fresh + unpacked
        most = max(most, used)
        if not keep_archives and archive.file is None:
            used -= size
    return most


def persist(url: str, waits: Sequence[float], action: Callable[[], T]) -> T:
    """Again after each of the waits, as long as the action raises Broken; then RunFailed."""
    for wait in waits:
        try:
            return action()
        except Broken as error:
            print(f"{url}: {error}; trying again in {wait:.0f} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    try:
        return action()
    except Broken as error:
        raise RunFailed(
            f"{url}: {error}; run the same command again to go on from there"
        ) from error


def remote_bytes(url: str) -> int:
    """The size that the server tells, 0 if it does not; RunFailed for a file that is not there, before any is fetched."""
    try:
        with open_url(url, "HEAD") as response:
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else 0
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise refusal(url, error) from error
        return 0  # some servers know only GET


def fetch(archive: Archive, path: Path, waits: Sequence[float]) -> None:
    """The whole file under its name, or a part file and RunFailed."""
    part = part_of(path)
    persist(archive.url, waits, lambda: fetch_rest(archive.url, part))
    problem = None if zipfile.is_zipfile(part) else "what came is no zip archive"
    if archive.sha256 is not None and sha256(part) != archive.sha256:
        problem = f"what came has another SHA-256 than {archive.sha256}"
    if problem is not None:
        drop(part)
        raise RunFailed(f"{archive.url}: {problem}; it was removed, run the same command again")
    part.rename(path)
    drop(part)


def fetch_rest(url: str, part: Path) -> None:
    """One request for what the part file lacks; raises Broken if it still lacks something."""
    asked, start = noted_version(part), part_bytes(part)
    if asked is not None and start == asked.total:
        return
    headers = {} if asked is None else {"Range": f"bytes={start}-", "If-Range": asked.validator}
    try:
        response = open_url(url, "GET", headers)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise refusal(url, error) from error
        drop(part)
        raise Broken("the file on the server has changed") from error
    with response:
        if response.status == 206:
            if asked is None or not continues(response, start, asked):
                drop(part)
                raise Broken("the file on the server has changed")
            total = asked.total
        else:
            start, total = 0, whole_length(url, response)
        with open(part, "ab" if start else "wb") as file:
            if (
                start == 0
            ):  # only now is the old content gone, so that a note never stands beside another file's bytes
                note_version(part, version_of(response, total))
            with Bar(part.stem, total, initial=start, in_bytes=True) as bar:
                for block in blocks(response):
                    file.write(block)
                    bar.advance(len(block))
    if (size := part.stat().st_size) != total:
        if size > total:
            drop(part)
        raise Broken(f"broken off after {in_words(size)} of {in_words(total)}")


def open_url(
    url: str, method: str, headers: dict[str, str] | None = None
) -> http.client.HTTPResponse:
    """Raises HTTPError for an answer that stays the same, Broken for what may pass."""
    own = {
        "User-Agent": f"vle-bench/{__version__}",
        "Accept-Encoding": "identity",
        **(headers or {}),
    }
    try:
        response: http.client.HTTPResponse = urllib.request.urlopen(
            urllib.request.Request(url, headers=own, method=method), timeout=TIMEOUT
        )
        return response
    except urllib.error.HTTPError as error:
        if error.code in (408, 429) or error.code >= 500:
            raise Broken(f"the server answers {error.code} {error.reason}") from error
        raise
    except (OSError, http.client.HTTPException) as error:
        raise Broken(f"no answer ({getattr(error, 'reason', error)})") from error


def refusal(url: str, error: urllib.error.HTTPError) -> RunFailed:
    return RunFailed(f"{url}: the server answers {error.code} {error.reason}")


def blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read1(BLOCK)  # read() would lose what came just before a break
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"broken off ({error})") from error
        if not block:
            return
        yield block


def whole_length(url: str, response: http.client.HTTPResponse) -> int:
    """Bytes of a whole file; raises RunFailed for an answer that cannot be the archive, before the part is given up for it."""
    if response.headers.get_content_type() == "text/html":
        raise RunFailed(
            f"{url}: a web page came in place of the archive (does the network ask for a login?)"
        )
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise RunFailed(
            f"{url}: the server tells no size, so a cut-off file could not be told from a whole one"
        )
    return int(length)


def continues(response: http.client.HTTPResponse, start: int, asked: Version) -> bool:
    """Whether a 206 is the rest of the same file; servers may leave the date out of it, and some ignore If-Range."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if span is None or (int(span[1]), int(span[2])) != (start, asked.total):
        return False
    now = version_of(response, asked.total)
    return now is None or now == asked


def version_of(response: http.client.HTTPResponse, total: int) -> Version | None:
    """None if the server gives nothing to recognise the file by; If-Range takes no weak ETag (RFC 9110, 13.1.5)."""
    etag = response.headers.get("ETag", "")
    validator = etag if etag.startswith('"') else response.headers.get("Last-Modified", "")
    return Version(validator, total) if validator else None


def part_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def note_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def part_bytes(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def noted_version(part: Path) -> Version | None:
    """None if the part cannot be continued."""
    try:
        version = Version(**json.loads(note_of(part).read_text(encoding="utf-8")))
        return version if 0 < part.stat().st_size <= version.total else None
    except (OSError, ValueError, TypeError):
        return None


def note_version(part: Path, version: Version | None) -> None:
    if version is None:
        note_of(part).unlink(missing_ok=True)
    else:
        atomic.write_json(note_of(part), asdict(version))


def drop(part: Path) -> None:
    part.unlink(missing_ok=True)
    note_of(part).unlink(missing_ok=True)
