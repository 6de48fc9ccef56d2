"""`prepare` on an output that is finished: the same request does nothing, another one is refused, damage is mended."""

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.miniature.vcr import write_vcr
from tests.miniature.vqav2 import change, write_visual_genome, write_vqav2
from vle_bench.cli.app import main
from vle_bench.data.prepare import shards, vqa_summary
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.fingerprint import Standing
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.errors import RequestError

TOKENIZER = Path("tests/golden/vcr_text/tokenizer").absolute()
A = "v2_mscoco_train2014_annotations.json"
WAYS_OUT = "; remove the folder or give another --output"
SKIP = Choices(on_bad_image="skip")


@pytest.fixture(
    params=[(write_vqav2, prepare_vqav2), (write_vcr, prepare_vcr)], ids=["vqav2", "vcr"]
)
def either(request, tmp_path):
    """Official files, the function that prepares them, and the folder that it was asked to write."""
    write, prepare = request.param
    write(tmp_path / "own")
    return tmp_path / "own", prepare, tmp_path / "out"


def content(folder):
    return {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in folder.iterdir()}


def refused(prepare, *arguments):
    """What the one line says that differs."""
    before = content(arguments[1])
    with pytest.raises(RequestError) as caught:
        prepare(*arguments)
    assert content(arguments[1]) == before and not list(arguments[1].parent.glob(".out*"))
    message = str(caught.value)
    start = f"{arguments[1]}: was prepared in another way ("
    assert message.startswith(start) and message.endswith(")" + WAYS_OUT) and "\n" not in message
    return message[len(start) : -len(WAYS_OUT) - 1]


def test_the_same_request_does_nothing(either, monkeypatch):
    source, prepare, out = either
    manifest = prepare(source, out)
    before = content(out)
    monkeypatch.setattr(shards, "write_table", None)
    again = prepare(source, out, Choices(workers=2))  # makes no other data
    assert (
        isinstance(again, Standing)
        and not isinstance(manifest, Standing)
        and content(out) == before
    )
    assert again.as_json() == json.loads(json.dumps(manifest.as_json()))


def test_what_the_command_says(either, tmp_path, monkeypatch, capsys):
    name = "vqav2" if either[1] is prepare_vqav2 else "vcr"
    command = [
        "vle-bench",
        "prepare",
        name,
        "--source",
        str(tmp_path / "own"),
        "--output",
        str(tmp_path / "out"),
    ]
    command += ["--tokenizer", str(TOKENIZER)]
    shown = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        shown.append(capsys.readouterr().out.splitlines())
    assert shown[0][-1] == f"written: {tmp_path / 'out'}"
    assert shown[1] == [f"{tmp_path / 'out'}: already complete, nothing to do", *shown[0][:-1]]


def test_another_way_is_refused(either):
    source, prepare, out = either
    prepare(source, out)
    assert refused(prepare, source, out, SKIP) == "--on-bad-image: error then, skip now"
    both = refused(prepare, source, out, Choices(on_bad_image="skip", on_bad_record="skip"))
    assert both == "--on-bad-image: error then, skip now; --on-bad-record: error then, skip now"
    shutil.move(source, source.with_name("moved"))  # the same files in another place are the same
    assert isinstance(prepare(source.with_name("moved"), out), Standing)


def test_answers_looked_up_in_another_way(tmp_path):
    source, out = write_vqav2(tmp_path / "own"), tmp_path / "out"
    files = write_visual_genome(tmp_path, [1])
    (tmp_path / "labels.json").write_text('["2", "red"]', encoding="utf-8")
    mapped = Choices(label_map=tmp_path / "labels.json")
    prepare_vqav2(source, out, mapped)
    assert refused(
        prepare_vqav2, source, out, Choices(label_map=mapped.label_map, published_targets=True)
    ) == ("--published-targets: not given then, given now")
    assert refused(prepare_vqav2, source, out).startswith("--label-map: labels.json, SHA-256 ")
    assert refused(prepare_vqav2, source, out, mapped, files) == (
        "image_data.json was not among its files; question_answers.json was not among its files"
    )
    (tmp_path / "labels.json").write_text('["red", "2"]', encoding="utf-8")
    assert refused(prepare_vqav2, source, out, mapped).endswith(" now")
    others = refused(
        prepare_vqav2, source, out, Choices(on_bad_record="skip", published_targets=True), files
    )
    assert others.endswith(" and 2 more")


def test_other_official_files_are_refused(either):
    source, prepare, out = either
    prepare(source, out)
    name = A if (source / A).exists() else "val.jsonl"
    os.utime(source / name, ns=(1, 1))
    assert refused(prepare, source, out) == f"{name} had another size or date"


def test_an_image_that_was_mended_asks_for_other_data(either):
    source, prepare, out = either
    image = next(p for p in sorted(source.rglob("*.jpg")) if "test" not in p.name)
    whole = image.read_bytes()
    image.write_bytes(whole[:40])
    manifest = prepare(source, out, SKIP)
    assert isinstance(prepare(source, out, SKIP), Standing)
    image.write_bytes(whole)
    (left_out,) = manifest.left_out["images"]
    assert (
        refused(prepare, source, out, SKIP)
        == f"{left_out['file']}, which was left out, has changed since"
    )


def test_damaged_data_are_made_again(either):
    source, prepare, out = either
    manifest = prepare(source, out)
    table = out / "questions-test.arrow"
    before = table.read_bytes()
    for damage in (before[:-8], before[:-8] + b"\1" * 8):
        table.write_bytes(damage)
        assert not isinstance(prepare(source, out), Standing) and table.read_bytes() == before
    assert isinstance(prepare(source, out), Standing)
    assert json.loads((out / "manifest.json").read_text(encoding="utf-8"))["hash"] == manifest.hash


def test_an_earlier_versions_data_are_refused(either):
    source, prepare, out = either
    prepare(source, out)
    change(out / "manifest.json", lambda manifest: manifest.pop("inputs"))
    with pytest.raises(
        RequestError,
        match="out: was prepared by an earlier version; remove the folder or give another --output",
    ):
        prepare(source, out)


def test_a_tokenizer_counts_in_data_that_stand(either, monkeypatch):
    """The report says that only a tokenizer could tell: to hear it, nothing is made again."""
    source, prepare, out = either
    plain = prepare(source, out)
    choices = Choices(tokenizer=TOKENIZER, max_text_length=20)
    counted = prepare(source, out, choices)
    assert isinstance(counted, Standing) and counted.hash == plain.hash
    splits = counted.report.get("splits", counted.report)
    assert splits["train"]["max_text_length"] == 20
    monkeypatch.setattr(vqa_summary, "count_shortened", None)
    assert prepare(source, out, choices) == counted == prepare(source, out)  # counted once
    fresh = prepare(source, out.with_name("fresh"), choices) if prepare is prepare_vcr else None
    assert fresh is None or fresh.report == counted.report


def test_drawn_and_packaged_data_remember_what_they_were_asked_for(tmp_path):
    prepare_easy_vqa(tmp_path / "easy", limit_images=20)
    assert isinstance(prepare_easy_vqa(tmp_path / "easy", limit_images=20), Standing)
    with pytest.raises(RequestError, match=r"\(--limit-images: 20 then, not given now\)"):
        prepare_easy_vqa(tmp_path / "easy")
    few = {"train": 8, "val": 8}
    prepare_shapes_vcr(tmp_path / "shapes", 0, questions=few)
    assert isinstance(prepare_shapes_vcr(tmp_path / "shapes", 0, questions=few), Standing)
    with pytest.raises(RequestError, match=r"\(--seed: 0 then, 1 now\)"):
        prepare_shapes_vcr(tmp_path / "shapes", 1, questions=few)


def test_questions_of_an_image_are_counted_once(tmp_path):
    """One of test's images is test-dev's too; each split says how many questions it lacks."""
    source, out = write_vqav2(tmp_path / "own"), tmp_path / "out"
    (source / "test2015" / "COCO_test2015_000000002002.jpg").unlink()
    manifest = prepare_vqav2(source, out, SKIP)
    assert [
        manifest.report[split]["left_out_with_their_image"]
        for split in ("test-dev", "test", "train")
    ] == [3, 3, 0]
    assert "left out: 1 images that cannot be read, and with them 3 questions" in vqa_summary.lines(
        manifest
    )


def test_vcr_says_how_many_questions_a_split_lacks(tmp_path):
    write_vcr(tmp_path / "own")
    lines = (tmp_path / "own" / "val.jsonl").read_text(encoding="utf-8").splitlines()
    spoilt = json.loads(lines[0]) | {"answer_label": None}
    (tmp_path / "own" / "val.jsonl").write_text(
        "\n".join([json.dumps(spoilt), "{", *lines[1:], lines[1]]) + "\n", encoding="utf-8"
    )
    manifest = prepare_vcr(tmp_path / "own", tmp_path / "out", Choices(on_bad_record="skip"))
    found = {
        name: split["left_out_as_bad_records"] for name, split in manifest.report["splits"].items()
    }
    assert (
        found == {"train": 0, "val": 2, "test": 0} and len(manifest.left_out["records"]) == 3
    )  # one occurs twice
