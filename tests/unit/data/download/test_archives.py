"""The archives against a local server that breaks off, changes its mind or lies, and against hostile archives."""

import io
import json
import os
import re
import shutil
import stat
import threading
import zipfile
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from vle_bench.atomic import file_sha256
from vle_bench.cli.app import app, main
from vle_bench.data.download import archives
from vle_bench.data.download.archives import Archive, download
from vle_bench.data.download.unpack import unpack
from vle_bench.data.prepare import vqav2
from vle_bench.data.prepare.vqav2 import VQAV2
from vle_bench.errors import RequestError, RunFailed

NOISE = os.urandom(300_000)
IMAGES = {"train2014/a.jpg": NOISE[:200_000], "train2014/b.jpg": NOISE[200_000:]}
WAITS = (0.0,)


def zipped(files, **changes):
    """An archive with one entry a file; `changes` are set on every entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            for key, value in changes.items():
                setattr(info, key, value)
            archive.writestr(info, content)
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        server = self.server
        body = server.files.get(self.path)
        asked = self.headers.get("Range")
        server.requests.append((self.command, self.path, asked))
        if body is None:
            return self.send_error(server.missing_status)
        if not with_body and not server.knows_head:
            return self.send_error(405)
        same = (
            self.headers.get("If-Range") in (server.etag, server.date)
            or not server.honours_if_range
        )
        start = (
            int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked and server.ranges and same else 0
        )
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        for key, value in {
            "Content-Type": server.kind,
            "ETag": server.etag,
            "Last-Modified": server.date,
        }.items():
            if value is not None:
                self.send_header(key, value)
        if server.tells_size:
            self.send_header("Content-Length", str(len(body) - start + server.too_much))
        self.end_headers()
        if with_body:
            rest = body[start:]
            if server.breaks:
                rest = rest[: server.breaks.pop(0)]
            server.sent += len(rest)
            self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.files, server.requests, server.sent = {"/train2014.zip": zipped(IMAGES)}, [], 0
        server.breaks, server.ranges, server.honours_if_range, server.knows_head, server.date = (
            [],
            True,
            True,
            True,
            None,
        )
        server.etag, server.kind, server.tells_size, server.too_much, server.missing_status = (
            '"1"',
            "application/zip",
            True,
            0,
            404,
        )
        server.archive = Archive(
            f"http://127.0.0.1:{server.server_port}/train2014.zip", ("train2014/",)
        )
        threading.Thread(
            target=lambda: server.serve_forever(poll_interval=0.01), daemon=True
        ).start()
        yield server
        server.shutdown()


def fetched(server, output, waits=WAITS, **options):
    return download([server.archive], output, waits=waits, **options)


def failure(server, output, waits=WAITS):
    with pytest.raises(RunFailed) as caught:
        fetched(server, output, waits)
    return str(caught.value)


def tree(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()
    }


def images_in(folder):
    return {name: content for name, content in tree(folder).items() if name.endswith(".jpg")}


def test_whole_download_and_a_second_run(server, tmp_path):
    out = tmp_path / "official"
    assert fetched(server, out) == ["train2014.zip"]
    assert images_in(out) == IMAGES
    assert set(tree(out)) == {*IMAGES, "train2014.zip.unpacked.json"}
    server.requests.clear()
    assert fetched(server, out) == []
    assert server.requests == []


def test_keep_archives(server, tmp_path):
    fetched(server, tmp_path, keep_archives=True)
    assert (tmp_path / "train2014.zip").read_bytes() == server.files["/train2014.zip"]
    server.requests.clear()
    assert fetched(server, tmp_path) == [] and server.requests == []


def test_what_was_lost_comes_back(server, tmp_path):
    fetched(server, tmp_path)
    (tmp_path / "train2014" / "b.jpg").unlink()
    assert fetched(server, tmp_path) == ["train2014.zip"]
    assert images_in(tmp_path) == IMAGES


def test_broken_off_and_resumed_by_a_second_run(server, tmp_path):
    server.breaks = [100_000]
    message = failure(server, tmp_path, waits=())
    assert (
        server.archive.url in message
        and "same command again" in message
        and "broken off after 100.0 kB" in message
    )
    assert (tmp_path / "train2014.zip.part").stat().st_size == 100_000 and not images_in(tmp_path)
    server.sent = 0
    fetched(server, tmp_path, waits=())
    assert server.sent == len(server.files["/train2014.zip"]) - 100_000
    assert server.requests[-1][2] == "bytes=100000-"
    assert images_in(tmp_path) == IMAGES and not list(tmp_path.glob("*.part*"))


def test_broken_off_and_resumed_by_itself(server, tmp_path, capsys):
    server.breaks = [100_000, 50_000, 0]
    fetched(server, tmp_path, waits=(0.0, 0.0, 0.0))
    assert server.sent == len(server.files["/train2014.zip"])
    assert [r[2] for r in server.requests] == [
        None,
        None,
        "bytes=100000-",
        "bytes=150000-",
        "bytes=150000-",
    ]
    assert capsys.readouterr().err.count("trying again") == 3


@pytest.mark.parametrize("date", [None, "Tue, 01 Mar 2016 00:00:00 GMT"])
def test_a_weak_etag_is_no_reason_to_go_on_but_a_date_is(server, tmp_path, date):
    server.breaks, server.etag, server.date = [100_000], 'W/"1"', date
    fetched(server, tmp_path)
    assert server.requests[-1][2] == ("bytes=100000-" if date else None)
    assert images_in(tmp_path) == IMAGES


def test_no_range_support(server, tmp_path):
    server.ranges, server.breaks = False, [100_000]
    fetched(server, tmp_path)
    assert server.sent == len(server.files["/train2014.zip"]) + 100_000
    assert images_in(tmp_path) == IMAGES


@pytest.mark.parametrize("honours_if_range", [True, False])
@pytest.mark.parametrize("size", [299_000, 1_000])
def test_the_file_changes_between(server, tmp_path, honours_if_range, size):
    server.breaks, server.honours_if_range = [100_000], honours_if_range
    failure(server, tmp_path, waits=())
    other = {"train2014/a.jpg": NOISE[::-1][:size]}
    server.files["/train2014.zip"], server.etag = zipped(other), '"2"'
    fetched(server, tmp_path)
    assert images_in(tmp_path) == other


def test_a_killed_run_between_last_byte_and_name(server, tmp_path):
    body = server.files["/train2014.zip"]
    (tmp_path / "train2014.zip.part").write_bytes(body)
    (tmp_path / "train2014.zip.part.json").write_text(
        json.dumps({"validator": '"1"', "total": len(body)}), encoding="utf-8"
    )
    fetched(server, tmp_path)
    assert server.sent == 0 and images_in(tmp_path) == IMAGES


@pytest.mark.parametrize(
    "note", ["", "[]", "{}", '{"validator": "x", "total": 5}', '{"validator": "x", "total": "5"}']
)
def test_a_broken_note_means_afresh(server, tmp_path, note):
    (tmp_path / "train2014.zip.part").write_bytes(b"something else")
    (tmp_path / "train2014.zip.part.json").write_text(note, encoding="utf-8")
    fetched(server, tmp_path)
    assert images_in(tmp_path) == IMAGES


def test_shorter_than_told(server, tmp_path):
    server.too_much = 10
    message = failure(server, tmp_path)
    assert server.archive.url in message
    assert not images_in(tmp_path) and not (tmp_path / "train2014.zip").exists()


def test_longer_than_told(server, tmp_path):
    server.too_much = -10
    assert "no zip archive" in failure(server, tmp_path)
    assert tree(tmp_path) == {}


def test_no_size_told(server, tmp_path):
    server.tells_size = False
    assert "gives no size" in failure(server, tmp_path)


def test_a_login_page_does_not_cost_the_part(server, tmp_path):
    server.breaks = [100_000]
    failure(server, tmp_path, waits=())
    server.kind, server.ranges = "text/html; charset=utf-8", False
    assert "web page" in failure(server, tmp_path)
    assert (tmp_path / "train2014.zip.part").stat().st_size == 100_000


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 2), (503, 2)])
def test_refusals_name_the_url(server, tmp_path, status, requests):
    server.files.clear()
    server.missing_status = status
    message = failure(server, tmp_path)
    assert server.archive.url in message and str(status) in message and "\n" not in message
    assert len(server.requests) == requests


def test_a_later_archive_that_is_missing_is_told_before_the_first_is_fetched(server, tmp_path):
    other = replace(server.archive, url=server.archive.url.replace("train", "val"))
    with pytest.raises(RunFailed, match=r"val2014\.zip.*404"):
        download([server.archive, other], tmp_path, waits=WAITS)
    assert server.sent == 0


def test_a_server_that_knows_only_get(server, tmp_path):
    server.knows_head = False
    fetched(server, tmp_path)
    assert images_in(tmp_path) == IMAGES


def test_nobody_answers(server, tmp_path):
    server.archive = replace(server.archive, url="http://127.0.0.1:9/train2014.zip")
    assert "http://127.0.0.1:9/train2014.zip: no answer" in failure(server, tmp_path)


def test_checksum(server, tmp_path):
    server.archive = replace(server.archive, sha256="0" * 64)
    assert "SHA-256" in failure(server, tmp_path)
    assert tree(tmp_path) == {}
    body = tmp_path / "body"
    body.write_bytes(server.files["/train2014.zip"])
    server.archive = replace(server.archive, sha256=file_sha256(body))
    assert fetched(server, tmp_path) == ["train2014.zip"]


@pytest.mark.parametrize("free", [400_000, 700_000])
def test_disk_space(server, tmp_path, monkeypatch, free):
    """The archive has 300 kB and unpacks to 300 kB."""
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 0, free))
    if free == 700_000:
        assert fetched(server, tmp_path)
        return
    message = failure(server, tmp_path)
    assert "606.5 kB more" in message and "400.0 kB" in message
    assert server.sent == 0


def test_disk_space_counts_one_archive_at_a_time(server, tmp_path):
    server.files["/val2014.zip"] = server.files["/train2014.zip"]
    both = [server.archive, replace(server.archive, url=server.archive.url.replace("train", "val"))]
    size = len(server.files["/train2014.zip"])
    unpacked = int(size * server.archive.growth)
    assert archives.needed_bytes(both, tmp_path, True, ()) == 2 * (size + unpacked)
    assert archives.needed_bytes(both, tmp_path, False, ()) == size + 2 * unpacked
    (tmp_path / "train2014.zip.part").write_bytes(b"x" * 1000)
    assert archives.needed_bytes(both[:1], tmp_path, False, ()) == size + unpacked - 1000


def test_an_archive_fetched_another_way(server, tmp_path):
    (tmp_path / "train2014.zip").write_bytes(server.files["/train2014.zip"])
    fetched(server, tmp_path)
    assert server.requests == [] and images_in(tmp_path) == IMAGES


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_that_is_a_file(server, tmp_path, output):
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    with pytest.raises(RequestError, match="cannot be the folder"):
        fetched(server, tmp_path / output)


# Unpacking


def unpacked(tmp_path, content, holds=("train2014/",)):
    (tmp_path / "x.zip").write_bytes(content)
    (tmp_path / "out").mkdir(exist_ok=True)
    return unpack(tmp_path / "x.zip", tmp_path / "out", holds)


def refused(tmp_path, content, holds=("train2014/",)):
    """The reason; nothing may have been written anywhere."""
    with pytest.raises(RunFailed) as caught:
        unpacked(tmp_path, content, holds)
    assert set(tree(tmp_path)) == {"x.zip"}
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../x.jpg", "leads out"),
        ("train2014/../../x.jpg", "leads out"),
        ("train2014\\..\\..\\x.jpg", "leads out"),
        ("/tmp/x.jpg", "absolute"),
        ("\\\\server\\share", "absolute"),
        ("C:/x.jpg", "absolute"),
        ("c:x.jpg", "absolute"),
        ("train2014/x.jpg:stream", "no official file"),
        ("train2014//x.jpg", "no official file"),
        ("./train2014/x.jpg", "no official file"),
        ("train2014\\x.jpg", "no official file"),
        ("train2014/x\n.jpg", "no official file"),
    ],
)
def test_names_that_are_refused(tmp_path, name, reason):
    message = refused(tmp_path, zipped({"train2014/good.jpg": b"good", name: b"bad"}))
    assert reason in message and repr(name) in message


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(tmp_path, kind):
    content = zipped({"train2014/link": b"/etc/passwd"}, external_attr=(kind | 0o777) << 16)
    assert "link or a device" in refused(tmp_path, content)


def test_two_entries_of_one_name(tmp_path):
    assert "2 times" in refused(
        tmp_path, zipped({"train2014/a.jpg": b"a", "train2014/A.jpg": b"b"})
    )


def test_what_the_archive_is_not_for_stays_packed(tmp_path):
    unpacked(
        tmp_path,
        zipped(
            {**IMAGES, "train2014/": b"", "val2014.zip": b"x", "__MACOSX/train2014/a.jpg": b"x"}
        ),
    )
    assert tree(tmp_path / "out") == IMAGES


def test_an_archive_without_what_it_must_bring(tmp_path):
    assert "no questions.json in it" in refused(
        tmp_path, zipped(IMAGES), ("train2014/", "questions.json")
    )


def test_wrong_crc(tmp_path):
    content = bytearray(zipped(IMAGES))
    content[1000] ^= 1
    message = refused(tmp_path, bytes(content))
    assert (
        "x.zip: damaged (Bad CRC-32 for file 'train2014/a.jpg')" in message
        and "remove it" in message
    )


def test_cut_off_archive(tmp_path):
    assert "damaged" in refused(tmp_path, zipped(IMAGES)[:-30])


def test_packed_bomb(tmp_path):
    content = zipped({"train2014/a.jpg": bytes(50_000_000)}, compress_type=zipfile.ZIP_DEFLATED)
    assert "claims to hold 50.0 MB" in refused(tmp_path, content)


@pytest.mark.parametrize("declared", [10, 150_000])
def test_a_size_that_is_not_the_declared_one(tmp_path, declared):
    """100 kB come: no more than declared is written, and no less is taken."""
    real = NOISE[:100_000]
    content = zipped({"train2014/a.jpg": real}, compress_type=zipfile.ZIP_DEFLATED)
    size = len(real).to_bytes(4, "little")
    assert content.count(size) == 2  # local header and directory
    assert "damaged" in refused(tmp_path, content.replace(size, declared.to_bytes(4, "little")))


def test_encrypted_and_other_packings(tmp_path):
    assert "another way" in refused(tmp_path, zipped(IMAGES, compress_type=zipfile.ZIP_BZIP2))
    content = bytearray(zipped({"train2014/a.jpg": b"a"}))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "encrypted" in refused(tmp_path, bytes(content))


def test_what_is_there_stays_and_what_is_wrong_is_replaced(tmp_path):
    folder = tmp_path / "out" / "train2014"
    folder.mkdir(parents=True)
    (folder / "a.jpg").write_bytes(IMAGES["train2014/a.jpg"])
    (folder / "b.jpg").write_bytes(bytes(100_000))
    before = (folder / "a.jpg").stat().st_ino
    assert unpacked(tmp_path, zipped(IMAGES)) == {
        name: len(content) for name, content in IMAGES.items()
    }
    assert tree(tmp_path / "out") == IMAGES and (folder / "a.jpg").stat().st_ino == before


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    (tmp_path / "out" / "train2014").mkdir(parents=True)
    (tmp_path / "out" / "train2014" / "a.jpg").symlink_to(tmp_path / "mine.txt")
    unpacked(tmp_path, zipped(IMAGES))
    assert (tmp_path / "mine.txt").read_text(encoding="utf-8") == "mine" and tree(
        tmp_path / "out"
    ) == IMAGES


# The command


def test_list():
    done = CliRunner().invoke(app, ["download", "vqav2", "--list"])
    assert done.exit_code == 0
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [archive.url for archive in VQAV2]
    assert "http://images.cocodataset.org/zips/train2014.zip  about 13.5 GB" in lines
    assert "https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa/v2_Annotations_Val_mscoco.zip" in lines


def test_the_archives_hold_what_prepare_reads():
    held = {name for archive in VQAV2 for name in archive.holds}
    for split in ("train2014", "val2014", "test2015", "test-dev2015"):
        assert f"v2_OpenEnded_mscoco_{split}_questions.json" in held
    assert {"v2_mscoco_train2014_annotations.json", "v2_mscoco_val2014_annotations.json"} <= held
    assert {"train2014/", "val2014/", "test2015/"} <= held and len(held) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["vqav3", "--output", "x"], "'vqav3'"), (["vqav2"], "--output")],
)
def test_wrong_requests(monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["vle-bench", "download", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    error = capsys.readouterr().err
    assert caught.value.code == 2 and message in error and error.count("\n") == 1


def test_command(server, tmp_path, monkeypatch):
    monkeypatch.setattr(vqav2, "VQAV2", (server.archive,))
    command = ["download", "vqav2", "--output", str(tmp_path / "out")]
    assert f"written: {tmp_path / 'out'}" in CliRunner().invoke(app, command).stdout
    assert "nothing to do" in CliRunner().invoke(app, command).stdout
