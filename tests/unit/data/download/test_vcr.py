"""VCR's two archives, from the folder, from a file elsewhere or from a URL, to what `prepare vcr` reads."""

import zipfile

import pytest
from typer.testing import CliRunner

from tests.miniature.vcr import stem, write_vcr
from tests.unit.data.download.test_archives import server  # noqa: F401
from vle_bench.cli.app import app, main
from vle_bench.data.prepared import open_prepared
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.preflight import data_commands


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A folder with the two official archives; the images' has entries for its folders, as the real one has."""
    folder = tmp_path_factory.mktemp("archives")
    official = write_vcr(folder / "unpacked", 2, 2, 2)
    for name, found in (
        ("vcr1annots.zip", official.glob("*.jsonl")),
        ("vcr1images.zip", (official / "vcr1images").rglob("*")),
    ):
        with zipfile.ZipFile(folder / name, "w") as archive:
            for path in sorted(found):
                archive.write(path, path.relative_to(official))
    return folder


def run(*arguments):
    return CliRunner().invoke(app, ["download", "vcr", *map(str, arguments)])


def check_unpacked(archives, folder):
    unpacked = archives / "unpacked"
    for path in unpacked.rglob("*.*"):
        assert (folder / path.relative_to(unpacked)).read_bytes() == path.read_bytes()
    assert "@" in stem("val", 0) and (folder / "vcr1images" / f"{stem('val', 0)}.jpg").is_file()


def failure(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["vle-bench", "download", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_archives_that_lie_in_the_folder(archives, tmp_path):
    out = tmp_path / "official"
    out.mkdir()
    for name in ("vcr1annots.zip", "vcr1images.zip"):
        (out / name).write_bytes((archives / name).read_bytes())
    assert f"written: {out}" in run("--output", out).stdout
    check_unpacked(archives, out)
    assert not list(out.glob("*.zip"))
    assert "nothing to do" in run("--output", out).stdout
    prepared = CliRunner().invoke(
        app, ["prepare", "vcr", "--source", str(out), "--output", str(tmp_path / "prepared")]
    )
    assert prepared.exit_code == 0 and list(
        open_prepared(tmp_path / "prepared").manifest.splits
    ) == ["test", "train", "val"]


def test_an_archive_elsewhere_stays_there(archives, tmp_path):
    given = ["--annotations", archives / "vcr1annots.zip", "--images", archives / "vcr1images.zip"]
    assert f"written: {tmp_path}" in run("--output", tmp_path, *given).stdout
    check_unpacked(archives, tmp_path)
    assert (archives / "vcr1annots.zip").is_file() and (archives / "vcr1images.zip").is_file()
    assert "nothing to do" in run("--output", tmp_path).stdout


def test_from_urls_that_do_not_end_in_the_names(archives, tmp_path, server):  # noqa: F811
    base = f"http://127.0.0.1:{server.server_port}"
    server.files = {
        f"/{k}?key=1": (archives / name).read_bytes()
        for k, name in (("a", "vcr1annots.zip"), ("b", "vcr1images.zip"))
    }
    server.breaks = [200]
    given = [
        "--output",
        tmp_path,
        "--annotations",
        f"{base}/a?key=1",
        "--images",
        f"{base}/b?key=1",
    ]
    done = run(*given, "--keep-archives")
    assert done.exit_code == 0, done.output
    check_unpacked(archives, tmp_path)
    assert ("GET", "/a?key=1", "bytes=200-") in server.requests  # it went on after the break
    assert (tmp_path / "vcr1images.zip").read_bytes() == (archives / "vcr1images.zip").read_bytes()
    server.requests.clear()
    assert "nothing to do" in run(*given).stdout and server.requests == []


def test_without_archives_it_says_how_to_come_by_them(archives, tmp_path, monkeypatch, capsys):
    words = failure(monkeypatch, capsys, "vcr", "--output", tmp_path)
    assert words.startswith(
        f"vle-bench: download vcr: vcr1annots.zip is not in {tmp_path}, and no --annotations says where it is\n"
    )
    for part in (
        "the form at https://visualcommonsense.com/download/",
        "vcr1images.zip: the images and their boxes (vcr1images/)",
        "vcr1annots.zip: the questions (train.jsonl, val.jsonl, test.jsonl)",
        f"vle-bench download vcr --output {tmp_path} --annotations URL|FILE --images URL|FILE",
    ):
        assert part in words
    words = failure(
        monkeypatch,
        capsys,
        "vcr",
        "--output",
        tmp_path,
        "--annotations",
        archives / "vcr1annots.zip",
    )
    assert f"vcr1images.zip is not in {tmp_path}, and no --images says where it is\n" in words
    assert list(tmp_path.iterdir()) == []


def test_list():
    done = run("--list")
    assert done.exit_code == 0
    assert all(
        part in done.stdout
        for part in ("vcr1annots.zip", "vcr1images.zip", "https://visualcommonsense.com/download/")
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vcr"], "download vcr: --output names the folder"),
        (
            ["vcr", "--output", "x", "--annotations", "ftp://a/b.zip"],
            "--annotations ftp://a/b.zip: no such file, and no URL",
        ),
        (
            ["vqav2", "--output", "x", "--images", "a.zip"],
            "download vqav2: --annotations and --images are for vcr",
        ),
    ],
)
def test_wrong_requests(monkeypatch, capsys, arguments, message):
    words = failure(monkeypatch, capsys, *arguments)
    assert message in words and words.count("\n") == 1


def test_a_recipe_without_data_names_the_commands():
    data = load_recipe("vcr/vle-base-q2a").data
    official = f"{data.root}-official"
    assert data_commands(data) == [
        f"vle-bench download vcr --output {official}",
        f"vle-bench prepare vcr --source {official} --output {data.root}",
    ]
