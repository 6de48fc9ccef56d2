"""Fetch a large file over HTTP, resuming after a break; a cut-off file never gets its name."""

import http.client
import re
import sys
import time
import urllib.request
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from vle_bench import __version__, atomic
from vle_bench.atomic import file_sha256
from vle_bench.errors import RunFailed
from vle_bench.json_files import read_json
from vle_bench.progress import Bar, in_words

TIMEOUT = 60.0  # seconds without a byte
WAITS = (1.0, 4.0, 15.0, 60.0)  # seconds before each further attempt
BLOCK = 1 << 20  # bytes
T = TypeVar("T")


class Broken(Exception):
    """A failure that another attempt may not meet; never leaves this module."""


@dataclass(frozen=True)
class Version:
    """The version of a file on the server: the value for If-Range, and the number of bytes."""

    validator: str
    total: int


def persist(url: str, waits: Sequence[float], action: Callable[[], T]) -> T:
    """Repeat an action after each of the waits while it raises Broken, then raise RunFailed."""
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
            f"{url}: {error}; run the same command again to continue from there"
        ) from error


def remote_bytes(url: str) -> int:
    """Return the size that the server reports, 0 if none; RunFailed for a missing file."""
    try:
        with open_url(url, "HEAD") as response:
            length = response.headers.get("Content-Length", "")
            return int(length) if length.isdecimal() else 0
    except urllib.error.HTTPError as error:
        if error.code in (404, 410):
            raise refusal(url, error) from error
        return 0  # some servers know only GET


def fetch(url: str, path: Path, sha256: str | None, waits: Sequence[float]) -> None:
    """Fetch a zip archive. RunFailed leaves a part file, with which the next call goes on.

    Args:
        sha256: checksum of the archive; None: unknown.
        waits: seconds before each further attempt after a break.
    """
    part = part_of(path)
    persist(url, waits, lambda: fetch_rest(url, part))
    problem = None if zipfile.is_zipfile(part) else "the downloaded file is no zip archive"
    if sha256 is not None and file_sha256(part) != sha256:
        problem = f"the downloaded file's SHA-256 is not {sha256}"
    if problem is not None:
        drop(part)
        raise RunFailed(f"{url}: {problem}; it was removed, run the same command again")
    part.rename(path)
    drop(part)


def fetch_rest(url: str, part: Path) -> None:
    """Request the rest of a part file once; Broken if it is still incomplete."""
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
            # Only now is the old content gone: a note must not be beside another file's bytes.
            if start == 0:
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
    """Open a URL. HTTPError is permanent; Broken may pass."""
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
            block = response.read1(BLOCK)  # read() would lose the bytes just before a break
        except (OSError, http.client.HTTPException) as error:
            raise Broken(f"broken off ({error})") from error
        if not block:
            return
        yield block


def whole_length(url: str, response: http.client.HTTPResponse) -> int:
    """Return the bytes of a whole file; RunFailed for a response that cannot be the archive.

    This comes before the part file is given up.
    """
    if response.headers.get_content_type() == "text/html":
        raise RunFailed(
            f"{url}: a web page in place of the archive (does the network ask for a login?)"
        )
    length = response.headers.get("Content-Length", "")
    if not length.isdecimal():
        raise RunFailed(
            f"{url}: the server gives no size, so that a truncated file could not be detected"
        )
    return int(length)


def continues(response: http.client.HTTPResponse, start: int, asked: Version) -> bool:
    """Return whether a 206 is the rest of the same file; some servers ignore If-Range."""
    span = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
    if span is None or (int(span[1]), int(span[2])) != (start, asked.total):
        return False
    now = version_of(response, asked.total)
    return now is None or now == asked


def version_of(response: http.client.HTTPResponse, total: int) -> Version | None:
    """Return the file's version; None without a strong validator, as If-Range needs (RFC 9110)."""
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
    """Return the version of a part file; None if it cannot be continued."""
    try:
        version = Version(**read_json(note_of(part)))
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
