"""Checkpoints that were trained elsewhere, through the command line, against the golden logits and the model called by hand."""

import csv
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.miniature.in_process import run
from tests.miniature.published import (
    ANSWERS,
    GOLDEN,
    MEAN,
    SIZE,
    STD,
    golden_logits,
    prepared_golden,
    prepared_vcr,
    word_tokenizer,
    write_twin,
)
from tests.miniature.vqav2 import change, write
from vle_bench.atomic import file_sha256
from vle_bench.cli.scores import published_lines
from vle_bench.data.prepare.manifest import Choices
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2, published_vocabulary
from vle_bench.data.prepared import open_prepared
from vle_bench.data.sources import SOURCES
from vle_bench.data.vcr_text import encode_record
from vle_bench.errors import RequestError
from vle_bench.evaluation.record import load_record
from vle_bench.evaluation.request import evaluation_folder, name_of
from vle_bench.evaluation.score_files import score_vcr_files
from vle_bench.models import (
    VLEConfig,
    VLEForVCRQ2A,
    VLEForVCRQA2R,
    VLEForVQA,
    VLEModel,
    VLEProcessor,
    pretrained,
)

PIXELS = {"image_mean": [MEAN] * 3, "image_std": [STD] * 3}
BEST = [ANSWERS[i] for i in golden_logits().argmax(1).tolist()]
# The first is what all ten say, the second what three say (0.9 officially), the third what nobody says.
TRUTH = [[BEST[0]] * 10, [BEST[1]] * 3 + ["purple"] * 7, ["nothing"] * 10]
ACCURACY = (1 + 0.9 + 0) / 3
SENTENCEPIECE = GOLDEN.parent / "vcr_text" / "tokenizer"
MAKEFILE = Path(__file__).parents[3] / "Makefile"
VCR = {"vcr_q2a": VLEForVCRQ2A, "vcr_qa2r": VLEForVCRQA2R}


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """A folder with `data`, the golden inputs as VQA v2, and `hub/vle-tiny-for-vqa`, the golden model as published."""
    root = tmp_path_factory.mktemp("asked")
    prepared_golden(root, TRUTH)
    write_twin(
        root / "hub" / "vle-tiny-for-vqa", "VLEForVQA", word_tokenizer(), pickled=True, **PIXELS
    )
    return root


@pytest.fixture(scope="module")
def evaluated(asked):
    """The same, after `evaluate`; with what it printed."""
    return asked, run(
        "evaluate", "hub/vle-tiny-for-vqa", "--data", "data", "--split", "val", cwd=asked
    )[0]


@pytest.fixture
def work(asked, tmp_path):
    """A current folder of its own, with the data and a copy of the checkpoint that may be changed."""
    (tmp_path / "data").symlink_to(asked / "data")
    shutil.copytree(asked / "hub", tmp_path / "hub")
    return tmp_path


def predictions(root, name="vle-tiny-for-vqa", file="vqa.val"):
    path = root / "results" / name / "predictions" / f"{file}.jsonl"
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def evaluate(work, *arguments, **options):
    return run(
        "evaluate",
        "hub/vle-tiny-for-vqa",
        "--data",
        "data",
        "--split",
        "val",
        *arguments,
        cwd=work,
        **options,
    )


def test_the_score_is_that_of_the_golden_logits(evaluated):
    root, shown = evaluated
    record = load_record(root / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    assert record.metrics["accuracy"].value == pytest.approx(ACCURACY, abs=1e-12)
    rows = predictions(root)
    assert [row["answer"] for row in rows] == BEST
    # the pixels are 8 bits deep here
    assert [row["score"] for row in rows] == pytest.approx(
        golden_logits().sigmoid().amax(1).tolist(), abs=1e-3
    )
    assert (
        "accuracy                      63.33" in shown
        and "written: results/vle-tiny-for-vqa/results/vqa.val.json" in shown
    )


def test_the_record_claims_neither_recipe_nor_seed(evaluated):
    root, shown = evaluated
    record = load_record(root / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    assert (record.kind, record.recipe, record.seed, record.training_splits) == (
        "elsewhere",
        {},
        None,
        [],
    )
    assert record.contaminated is None and not record.ranked
    assert record.model["checkpoint_sha256"] == file_sha256(
        root / "hub" / "vle-tiny-for-vqa" / "pytorch_model.bin"
    )
    assert record.model["name"] == "vle-tiny-for-vqa" and "asked" not in record.model
    assert (record.model["max_text_length"], record.model["pictures"]) == (
        50,
        "shorter side 32, centre 32 × 32",
    )
    assert "unknown splits (--trained-on): not ranked" in shown


def test_nothing_is_written_into_the_checkpoint(evaluated):
    root, _ = evaluated
    files = {path.name for path in (root / "hub" / "vle-tiny-for-vqa").rglob("*")}
    assert files == {
        "config.json",
        "pytorch_model.bin",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert [path.name for path in (root / "hub").iterdir()] == ["vle-tiny-for-vqa"]


def test_the_soft_score_needs_a_shared_label_map(evaluated, work):
    """Its map has other answers than the data, in another order: the accuracy stands, the soft score is left out."""
    root, shown = evaluated
    assert open_prepared(root / "data").labels != ANSWERS
    record = load_record(root / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    assert (
        set(record.metrics) == {"accuracy", "accuracy_not_yes_no"}
        and "soft_score_in_vocabulary is left out" in shown
    )
    assert all("label" not in row for row in predictions(root))
    choices = Choices(label_map=work / "hub" / "vle-tiny-for-vqa" / "config.json")
    prepare_vqav2(root / "official", work / "shared", choices)
    shown = run("evaluate", "hub/vle-tiny-for-vqa", "--data", "shared", "--split", "val", cwd=work)[
        0
    ]
    record = load_record(work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    # soft targets: ten say it, 1.0; three say it, 0.9; nobody says it
    assert record.metrics["soft_score_in_vocabulary"].value == pytest.approx(
        (1 + 0.9) / 3, abs=1e-6
    )
    assert (
        record.metrics["accuracy"].value == pytest.approx(ACCURACY, abs=1e-12)
        and "left out" not in shown
    )


def test_more_answers_than_the_data_or_fewer(work):
    """The data's classes number three; a head of one class has fewer, and the targets of the others would not fit."""
    folder = work / "hub" / "vle-tiny-for-vqa"
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    for name in ("vqa_classifier.3.weight", "vqa_classifier.3.bias"):
        state[name] = state[name][:1]
    torch.save(state, folder / "pytorch_model.bin")
    change(
        folder / "config.json", lambda c: c.update(id2label={"0": BEST[0]}, label2id={BEST[0]: 0})
    )
    evaluate(work)
    record = load_record(work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    assert record.metrics["accuracy"].value == pytest.approx(1 / 3)


def test_the_crop_is_kept_and_a_squash_can_be_asked_for(evaluated, work):
    evaluate(work, "--resize", "squash", "--max-text-length", "9")
    record = load_record(work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    assert (
        record.model["asked"] == "resize squash, max_text_length 9"
        and record.model["max_text_length"] == 9
    )
    assert record.model["pictures"] == "squashed to 32 × 32"
    official = evaluated[0] / "official" / "val2014"
    model = VLEForVQA.from_pretrained(work / "hub" / "vle-tiny-for-vqa").eval()
    inputs = load_file(GOLDEN / "VLEForVQA" / "inputs.safetensors")
    for i, row in enumerate(predictions(work)):
        picture = Image.open(official / f"COCO_val2014_{1001 + i:012d}.jpg").resize(
            (SIZE, SIZE), Image.Resampling.BICUBIC
        )
        pixels = (
            torch.from_numpy((np.asarray(picture, np.float32) / 255 - MEAN) / STD)
            .permute(2, 0, 1)[None]
            .float()
        )
        ids = inputs["input_ids"][i][inputs["attention_mask"][i].bool()]
        ids = ids if len(ids) <= 9 else torch.cat([ids[:8], ids[-1:]])
        with torch.inference_mode():
            logits = model(
                input_ids=ids[None], attention_mask=torch.ones_like(ids)[None], pixel_values=pixels
            ).logits
        assert row["score"] == pytest.approx(logits.sigmoid().max().item(), abs=2e-6)
        assert row["answer"] == ANSWERS[int(logits.argmax())]


@pytest.mark.parametrize("way", ["crop", "squash"])
def test_the_name_of_the_resize_is_printed_beside_the_sizes(work, way):
    sizes = {"crop": "shorter side 32, centre 32 × 32", "squash": "squashed to 32 × 32"}[way]
    shown = evaluate(work, "--resize", way)[0]
    assert f"pictures: {way} ({sizes}) (asked for: resize {way})" in shown


def test_the_settings_of_older_transformers_are_the_same(evaluated, work):
    """Released folders were saved by versions before 4.25: CLIPFeatureExtractor, and one number for a size."""
    old = {"image_processor_type": "CLIPFeatureExtractor", "size": SIZE, "crop_size": SIZE}
    change(work / "hub" / "vle-tiny-for-vqa" / "preprocessor_config.json", lambda c: c.update(old))
    evaluate(work)
    assert predictions(work) == predictions(evaluated[0])


def test_a_shorter_limit_of_the_tokenizers_is_kept(work):
    change(
        work / "hub" / "vle-tiny-for-vqa" / "tokenizer_config.json",
        lambda c: c.update(model_max_length=7),
    )
    assert "texts of at most 7 tokens" in evaluate(work)[0]
    assert (
        "texts of at most 12 tokens"
        in evaluate(work, "--max-text-length", "12", "--output", "x/results/y.json")[0]
    )


def test_predict_writes_the_official_file(work):
    run(
        "predict",
        "hub/vle-tiny-for-vqa",
        "--data",
        "data",
        "--split",
        "val",
        "--output",
        "val.json",
        cwd=work,
    )
    expected = [
        {"question_id": 1000 * (1001 + i), "answer": answer} for i, answer in enumerate(BEST)
    ]
    assert json.loads((work / "val.json").read_text(encoding="utf-8")) == expected
    shown, _ = run(
        "predict",
        "hub/vle-tiny-for-vqa",
        "--data",
        "data",
        "--split",
        "test",
        "--output",
        "test.json",
        cwd=work,
    )
    assert (
        len(json.loads((work / "test.json").read_text(encoding="utf-8"))) == 21
        and "21 answers" in shown
    )


def test_pictures_that_do_not_divide_into_patches_are_floored(work):
    """Published VLE-large: 384 pixels in patches of 14. Here 38 in patches of 8: 4 × 4 patches, the rest is not seen."""
    folder = work / "hub" / "vle-tiny-for-vqa"
    change(folder / "config.json", lambda c: c["vision_config"].update(image_size=38))
    size = {"size": {"shortest_edge": 38}, "crop_size": {"height": 38, "width": 38}}
    change(folder / "preprocessor_config.json", lambda c: c.update(size))
    evaluate(work)
    model, whole = (
        VLEForVQA.from_pretrained(path).eval() for path in (folder, GOLDEN / "VLEForVQA")
    )
    assert model.config.num_patches == 16
    assert model.vle.vision_model.embeddings.position_embedding.weight.shape[0] == 17
    pixels = torch.rand(3, 3, 38, 38, generator=torch.Generator().manual_seed(0))
    inputs = load_file(GOLDEN / "VLEForVQA" / "inputs.safetensors")
    texts = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    with torch.inference_mode():
        torch.testing.assert_close(
            model(**texts, pixel_values=pixels).logits,
            whole(**texts, pixel_values=pixels[:, :, :32, :32]).logits,
            atol=1e-6,
            rtol=0,
        )
    sizes = {
        "hidden_size": 8,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    large = VLEConfig(
        text_config={**sizes, "model_type": "deberta-v2", "vocab_size": 10},
        **sizes,
        vision_config={**sizes, "image_size": 384, "patch_size": 14},
    )
    with torch.inference_mode():
        assert VLEModel(large).eval().encode_image(torch.zeros(1, 3, 384, 384)).shape == (
            1,
            1 + 27 * 27,
            8,
        )
    assert VLEForVQA.from_pretrained(folder, image_size=38).config.vision_config.image_size == 38
    processor = VLEProcessor.from_parts(word_tokenizer(), 38, 8)
    mask = processor(images=Image.new("RGB", (100, 60)), boxes=[[[60, 0, 100, 60]]])[
        "object_patch_mask"
    ]
    assert mask.shape == (1, 1, 16) and mask[0, 0].view(4, 4)[0].tolist() == [
        False,
        False,
        True,
        True,
    ]


@pytest.fixture(scope="module")
def vcr(tmp_path_factory):
    """The miniature VCR, and the golden models for both tasks, evaluated."""
    root = tmp_path_factory.mktemp("vcr")
    data, tokenizer = prepared_vcr(root)
    for (
        task,
        cls,
    ) in (
        VCR.items()
    ):  # one with the tokenizer.json of today, one with spm.model as the released ones
        own = SENTENCEPIECE if task == "vcr_qa2r" else tokenizer
        write_twin(root / "hub" / f"tiny-{task}", cls.__name__, own, pickled=task == "vcr_qa2r")
        run(
            "evaluate",
            f"hub/tiny-{task}",
            "--data",
            "data",
            "--split",
            "val",
            "--trained-on",
            "train",
            cwd=root,
        )
    return root


def plain_choices(root: Path, task: str, resize: str = "crop") -> dict[str, list[float]]:
    """annot_id → the logits of a forward pass for each choice by itself."""
    folder = root / "hub" / f"tiny-{task}"
    model = VCR[task].from_pretrained(folder).eval()
    processor = VLEProcessor.from_folder(folder)
    processor.set_size(SIZE, resize)
    processor.patch_size = 8
    data = open_prepared(root / "data")
    chosen = {}
    for row in data.questions("val"):
        image = data.images[row["image_row"]]
        record = json.loads(row["record"])
        picture = Image.open(io.BytesIO(image["bytes"]))
        features = processor(images=picture, boxes=[np.array(image["boxes"]).reshape(-1, 4)])
        logits = []
        for choice in encode_record(record, processor.tokenizer, task.removeprefix("vcr_"), 80):
            objects = features["object_patch_mask"][0, choice["objects"]]
            text = {
                name: torch.tensor([[choice[name]]]) for name in ("input_ids", "token_type_ids")
            }
            with torch.inference_mode():
                logits.append(
                    model(
                        **text,
                        attention_mask=torch.ones_like(text["input_ids"]),
                        pixel_values=features["pixel_values"],
                        object_patch_mask=objects[None, None],
                        object_mask=torch.ones(1, 1, len(objects), dtype=torch.long),
                        object_token_type_ids=torch.tensor(
                            [[choice["object_token_type_ids"]]], dtype=torch.long
                        ),
                    ).logits.item()
                )
        chosen[row["annot_id"]] = logits
    return chosen


@pytest.mark.parametrize("task", VCR)
def test_vcr_is_scored_as_by_the_model_itself(vcr, task):
    record = load_record(vcr / "results" / f"tiny-{task}" / "results" / f"{task}.val.json")
    part = task.removeprefix("vcr_")
    chosen = {i: int(np.argmax(logits)) for i, logits in plain_choices(vcr, task).items()}
    assert {
        row["id"]: row[part] for row in predictions(vcr, f"tiny-{task}", f"{task}.val")
    } == chosen
    label = {"q2a": "answer_label", "qa2r": "rationale_label"}[part]
    right = [
        chosen[row["annot_id"]] == row[label]
        for row in open_prepared(vcr / "data").questions("val")
    ]
    assert (
        record.metrics["accuracy"].value == pytest.approx(np.mean(right)) and 0 < np.mean(right) < 1
    )
    assert (record.training_splits, record.ranked) == (["train"], True)


@pytest.mark.parametrize(
    "given",
    [
        ("--resize", "squash"),
        ("--task", "vcr_q2a"),
        ("--max-text-length", "20"),
        ("--trained-on", "train"),
        ("--precision", "fp32"),
    ],
)
def test_options_of_one_checkpoint_are_refused_where_two_are_joined(vcr, given):
    two = ("hub/tiny-vcr_q2a", "--with", "hub/tiny-vcr_qa2r", "--output", "both.json")
    _, said = run("evaluate", *two, "--data", "data", "--split", "val", *given, cwd=vcr, code=2)
    assert (
        f"evaluate: {given[0]} goes with one checkpoint; --with joins finished evaluations" in said
    )
    assert "evaluate Q2A.json --with QA2R.json --output Q2AR.json" in said
    assert not (vcr / "both.json").exists()


def test_two_records_of_another_resize_are_joined(vcr, tmp_path):
    on = ("--data", "data", "--split", "val")
    files = {task: tmp_path / f"{task}.json" for task in VCR}
    for task, file in files.items():
        asked = ("--resize", "squash", "--output", file)
        run("evaluate", f"hub/tiny-{task}", *on, *asked, cwd=vcr)
    two, output = (files["vcr_q2a"], "--with", files["vcr_qa2r"]), tmp_path / "q2ar.json"
    run("evaluate", *two, *on, "--output", output, cwd=vcr)
    record = load_record(output)
    assert record.task == "vcr_q2ar" and record.model["resize"] == "squash"
    assert record.title == ("tiny-vcr_q2a + tiny-vcr_qa2r, resize squash + resize squash")
    rows = [
        [json.loads(line) for line in file.with_suffix(".predictions.jsonl").open(encoding="utf-8")]
        for file in files.values()
    ]
    labels = {row["annot_id"]: row for row in open_prepared(vcr / "data").questions("val")}
    q2a, qa2r = ({row["id"]: row for row in part} for part in rows)
    right = [
        q2a[i]["q2a"] == row["answer_label"] and qa2r[i]["qa2r"] == row["rationale_label"]
        for i, row in labels.items()
    ]
    assert record.metrics["q2ar"].value == pytest.approx(np.mean(right))
    for arguments, message in (
        ((*two, *on, "--output", output), "exists already; name another file with --output"),
        ((*two, *on), "a record is joined into the file that --output names"),
        (
            (two[2], "--with", two[0], *on, "--output", tmp_path / "x.json"),
            "is of vcr_qa2r on val, not of vcr_q2a on val",
        ),
        ((*two, "--split", "val", "--output", tmp_path / "x.json"), "name --data DIR"),
    ):
        assert message in run("evaluate", *arguments, cwd=vcr, code=2)[1]
    assert not (tmp_path / "x.json").exists()


def test_two_vcr_checkpoints_are_joined_and_share_one_file(vcr):
    two = ("hub/tiny-vcr_q2a", "--with", "hub/tiny-vcr_qa2r")
    run("evaluate", *two, "--data", "data", "--split", "val", cwd=vcr)
    record = load_record(vcr / "results" / "tiny-vcr_q2a" / "results" / "vcr_q2ar.val.json")
    assert (record.kind, record.recipe, record.seed) == ("elsewhere", {}, None)
    assert record.model["name"] == "tiny-vcr_q2a + tiny-vcr_qa2r" and record.training_splits == [
        "train"
    ]
    run("predict", *two, "--data", "data", "--split", "val", "--output", "val.csv", cwd=vcr)
    result = score_vcr_files(vcr / "official" / "val.jsonl", vcr / "val.csv")
    assert {name: record.metrics[name].value for name in ("q2a", "qa2r", "q2ar")} == pytest.approx(
        {name: result[name] for name in ("q2a", "qa2r", "q2ar")}
    )
    shown, _ = run("report", *two, "--data", "data", "--split", "val", cwd=vcr)
    page = vcr / "results" / "tiny-vcr_q2a" / "report.vcr_q2ar.val.html"
    assert page.name in shown and "trained elsewhere" in page.read_text(encoding="utf-8")
    _, said = run("evaluate", *two, "--split", "val", cwd=vcr, code=2)
    assert "no recipe.yaml beside it: name --data DIR" in said


def test_the_report_tells_that_it_was_trained_elsewhere(evaluated):
    root, _ = evaluated
    _, said = run("report", "hub/vle-tiny-for-vqa", cwd=root, code=2)
    assert "--data DIR names the prepared data that it was scored on" in said
    run("report", "hub/vle-tiny-for-vqa", "--data", "data", cwd=root)
    page = (root / "results" / "vle-tiny-for-vqa" / "report.vqa.val.html").read_text(
        encoding="utf-8"
    )
    assert (
        "the checkpoint vle-tiny-for-vqa, trained elsewhere (on what is not known" in page
        and "Not ranked" in page
    )


def test_the_tables_take_the_folder_of_an_evaluated_checkpoint(work):
    """As `report` and `predict` do; its records lie in results/NAME, not in it."""
    (work / "boards").mkdir()
    add = ("table", "--add", "hub/vle-tiny-for-vqa", "--root", "boards", "--format", "md")
    folder = Path("results", "vle-tiny-for-vqa", "results")
    _, error = run(*add, cwd=work, code=2)
    assert f"hub/vle-tiny-for-vqa: no record of it in {folder}; `vle-bench evaluate" in error
    command = ("evaluate", "hub/vle-tiny-for-vqa", "--data", "data", "--split")
    run(*command, "minival", cwd=work)
    assert "marked: trained elsewhere" in run(*add, cwd=work)[0]
    assert len(list((work / "boards" / "results" / "vqa").iterdir())) == 1
    run(*command, "val", cwd=work)
    _, error = run(*add, cwd=work, code=2)
    assert f"each is added by its path: {folder / 'vqa.minival.json'}, {folder}" in error


def test_the_tables_take_such_records_and_mark_them(work):
    (work / "boards").mkdir()
    add = ("table", "--add", "results/vle-tiny-for-vqa", "--root", "boards", "--format", "md,csv")
    command = ("evaluate", "hub/vle-tiny-for-vqa", "--data", "data", "--split", "minival")
    run(*command, cwd=work)
    first = work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.minival.json"
    digest = load_record(first).identity[:8]
    weights, beside = (load_record(first).model[f"{of}_sha256"] for of in ("checkpoint", "files"))
    assert (
        "marked: trained elsewhere; not ranked: what it was trained on is not known"
        in run(*add, cwd=work)[0]
    )
    asked = ("--trained-on", "train", "--resize", "squash", "--output", "squash.json")
    run(*command, *asked, cwd=work)
    add = tuple(part.replace("results/vle-tiny-for-vqa", "squash.json") for part in add)
    assert "marked: trained elsewhere" in run(*add, cwd=work)[0]
    files = sorted(path.name for path in (work / "boards" / "results" / "vqa").iterdir())
    assert f"vle-tiny-for-vqa.minival.elsewhere.{digest}.json" in files and len(files) == 2
    page = (work / "boards" / "vqa_v2.md").read_text(encoding="utf-8")
    assert (
        re.search(rf"\| vle-tiny-for-vqa \({weights[:8]}/{beside[:8]}\) fp32 ◊?◦¿ \|", page)
        and "measured; trained elsewhere" in page
    )
    assert (
        "| vle-tiny-for-vqa, resize squash (" in page and "◦ trained elsewhere, scored here" in page
    )
    rows = list(
        csv.DictReader((work / "boards" / "measured.csv").read_text(encoding="utf-8").splitlines())
    )
    assert ["¿" in row["Recipe"] for row in rows] == [False, True], (
        "the one of unknown training stands last"
    )
    assert rows[0]["Score: number"] and not rows[1]["Score: number"], (
        "and has nothing to be ranked by"
    )
    assert {row["Seeds"] for row in rows} == {"trained elsewhere"}
    _, said = run(*add, cwd=work, code=2)
    assert "a duplicate of" in said


def test_a_split_that_was_trained_on_is_contaminated(work):
    shown, _ = evaluate(work, "--trained-on", "train+val")
    record = load_record(work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json")
    assert (
        record.contaminated
        and record.training_splits == ["train", "val"]
        and "contaminated: val shares images" in shown
    )


def test_what_it_was_trained_on_is_not_forgotten(work):
    """The mark of a contaminated score must not go where the same checkpoint is scored again."""
    path = work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json"
    evaluate(work)
    assert load_record(path).contaminated is None
    evaluate(work, "--trained-on", "train+val")  # more is known now
    before = path.read_bytes()
    for again, now in (((), "left out"), (("--trained-on", "train"), "train")):
        _, said = evaluate(work, *again, code=2)
        assert (
            f"vqa.val.json: exists already and is of another --trained-on (train+val, not {now}); "
            "name another file with --output" in said
        )
    assert path.read_bytes() == before
    evaluate(work, "--trained-on", "val+train")  # the same again is the same


def edit(name, **changes):
    return lambda folder: change(folder / name, lambda content: content.update(changes))


def placeholders(folder, label_map=None):
    edit("config.json", id2label={str(i): f"LABEL_{i}" for i in range(17)})(folder)
    if label_map is not None:
        write(folder / "label_map.json", label_map)


@pytest.mark.parametrize(
    ("spoil", "arguments", "message"),
    [
        (
            None,
            ["--task", "vcr_q2a"],
            "architectures: VLEForVQA is for vqa, not for --task vcr_q2a",
        ),
        (
            edit("config.json", architectures=["VLEForITM"]),
            [],
            "architectures: VLEForITM answers no question that can be scored",
        ),
        (
            edit("config.json", architectures=None),
            [],
            "names no architecture; --task says it: vqa, vcr_q2a",
        ),
        (
            edit("config.json", model_type="vilt"),
            [],
            'config.json: not a VLEConfig, expected "model_type": "vle"',
        ),
        (
            placeholders,
            [],
            "config.json: id2label: has no answers; put its label map beside it as label_map.json",
        ),
        (
            lambda f: placeholders(f, ["a", "b"]),
            [],
            "its label map has 2 answers, and its head 17 classes",
        ),
        (
            lambda f: (f / "preprocessor_config.json").unlink(),
            [],
            "has no preprocessor_config.json",
        ),
        (
            edit("preprocessor_config.json", crop_size={"height": 16, "width": 16}),
            [],
            "pictures come out as shorter side 32, centre 16 × 16, and the model takes 32 × 32 pixels (config.json); --resize crop",
        ),
        (
            edit("preprocessor_config.json", do_center_crop=False),
            [],
            "pictures come out as shorter side 32, and the model takes",
        ),
        (
            lambda f: (f / "pytorch_model.bin").write_text(
                "version https://git-lfs.github.com/spec/v1\n", encoding="utf-8"
            ),
            [],
            "pytorch_model.bin: no weights, only Git LFS's pointer",
        ),
        (
            lambda f: (f / "pytorch_model.bin").write_bytes(b"PK"),
            [],
            "the weights cannot be loaded",
        ),
        (
            edit("preprocessor_config.json", image_std=[1, 1, 0]),
            [],
            "image_std: 3 numbers above 0 are expected, not (1, 1, 0)",
        ),
        (
            edit("preprocessor_config.json", image_mean=3),
            [],
            "image_mean: 3 numbers are expected, not 3",
        ),
        (
            edit("preprocessor_config.json", rescale_factor="x"),
            [],
            "rescale_factor: a number above 0 is expected, not 'x'",
        ),
        (edit("preprocessor_config.json", resample=77), [], "resample: 77 is none of Pillow's"),
        (edit("preprocessor_config.json", size="large"), [], "no processor can be loaded from it"),
        (
            edit("preprocessor_config.json", size=None),
            [],
            "size: sides in whole pixels are expected, not ",
        ),
        (
            edit("preprocessor_config.json", size={"shortest_edge": "é"}),
            [],
            "size.shortest_edge: expected 1 to 4096 pixels, not é",
        ),
        (
            edit("preprocessor_config.json", size=0),
            [],
            "size.shortest_edge: expected 1 to 4096 pixels, not 0",
        ),
        (
            edit("preprocessor_config.json", do_resize=[]),
            [],
            "preprocessor_config.json: do_resize: true or false is expected, not []",
        ),
        (
            edit("preprocessor_config.json", do_center_crop="no"),
            [],
            "preprocessor_config.json: do_center_crop: true or false is expected, not 'no'",
        ),
        (
            edit("config.json", num_attention_heads=-1),
            [],
            "num_attention_heads: a whole number of 1 to 1,024 is expected, not -1",
        ),
        (
            lambda f: change(f / "tokenizer.json", lambda c: c["model"].update(vocab={})),
            [],
            "it and the tokenizer cannot make the model's input",
        ),
        (
            edit("config.json", architectures=2.5),
            [],
            "architectures: a list of class names is expected, not 2.5",
        ),
        (
            lambda f: change(
                f / "config.json", lambda c: c["vision_config"].update(hidden_act="x")
            ),
            [],
            "config.json: no VLEForVQA can be built: KeyError: 'x'",
        ),
        (
            lambda f: change(f / "tokenizer_config.json", lambda c: c.pop("pad_token")),
            [],
            "the tokenizer has no pad_token",
        ),
        (edit("preprocessor_config.json", crop_size=None), [], "pictures come out as"),
        (
            edit("tokenizer_config.json", model_max_length="x"),
            [],
            "model_max_length: a number from 4 on is expected, not 'x'",
        ),
        (
            edit("tokenizer_config.json", model_max_length=0),
            [],
            "model_max_length: a number from 4 on is expected, not 0",
        ),
        (
            lambda f: (f / "pytorch_model.bin").unlink(),
            [],
            "has no weights (model.safetensors, pytorch_model.bin)",
        ),
        (lambda f: (f / "tokenizer.json").unlink(), [], "no processor can be loaded from it"),
        (
            lambda f: change(f / "config.json", lambda c: c["text_config"].update(vocab_size=99)),
            [],
            "its tokenizer has 200 words, and its text encoder 99",
        ),
        (
            None,
            ["--trained-on", "train+vall"],
            "--trained-on: 'vall' is no split of vqav2; there are train, val-minival",
        ),
        (None, ["--published", "VLE-bas"], "--published: 'VLE-bas' is not among the models"),
        (None, ["--max-text-length", "2"], "Invalid value for '--max-text-length'"),
    ],
)
def test_what_does_not_fit_is_one_line(work, spoil, arguments, message):
    if spoil is not None:
        spoil(work / "hub" / "vle-tiny-for-vqa")
    _, said = evaluate(work, *arguments, code=2)
    assert message in said and "Traceback" not in said
    assert not (work / "results").exists()


def test_a_label_map_beside_it_names_what_the_config_does_not(work):
    placeholders(work / "hub" / "vle-tiny-for-vqa", ANSWERS)
    evaluate(work)
    assert [row["answer"] for row in predictions(work)] == BEST


def test_without_an_architecture_the_task_can_be_said(work):
    edit("config.json", architectures=None)(work / "hub" / "vle-tiny-for-vqa")
    evaluate(work, "--task", "vqa")
    assert [row["answer"] for row in predictions(work)] == BEST


def test_what_is_missing_is_named(work):
    for arguments, what in (
        (["--data", "data"], "name --split S"),
        (["--split", "val"], "name --data DIR"),
        ([], "name --data DIR and --split S"),
    ):
        _, said = run("evaluate", "hub/vle-tiny-for-vqa", *arguments, cwd=work, code=2)
        assert what in said
    _, said = run(
        "evaluate", "hfl/vle-base-for-vqa", "--data", "data", "--split", "val", cwd=work, code=2
    )
    assert (
        "hfl/vle-base-for-vqa: no such folder; of the hub: `hf download hfl/vle-base-for-vqa --local-dir"
        in said
    )
    (work / "runs").mkdir()
    _, said = run("evaluate", "runs/none", "--data", "data", "--split", "val", cwd=work, code=2)
    assert said == "vle-bench: runs/none: no such folder\n"


def test_another_checkpoint_of_the_same_name_overwrites_nothing(work):
    evaluate(work)
    folder = work / "hub" / "vle-tiny-for-vqa"
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    state["vqa_classifier.3.bias"] += 1
    torch.save(state, folder / "pytorch_model.bin")
    _, said = evaluate(work, code=2)
    assert (
        "results/vle-tiny-for-vqa/results/vqa.val.json: exists already and is not of this checkpoint; name another"
        in said
    )


def test_other_files_beside_the_same_weights_are_another_checkpoint(work):
    """The same weights answer otherwise with other pictures: records and tables must keep the two apart."""
    evaluate(work)
    path = work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json"
    first = load_record(path)
    assert first.precision == "fp32" and first.model["resize"] == "crop"
    folder = work / "hub" / "vle-tiny-for-vqa"
    edit("preprocessor_config.json", image_mean=[0.1, 0.2, 0.3])(folder)
    _, said = evaluate(work, code=2)
    assert (
        "vqa.val.json: exists already and is of other files beside the weights; name another"
        in said
    )
    evaluate(work, "--output", "other.json")
    second = load_record(work / "other.json")
    assert first.model["checkpoint_sha256"] == second.model["checkpoint_sha256"]
    assert first.model["files_sha256"] != second.model["files_sha256"]
    assert first.identity != second.identity
    earlier = first.model_copy(
        update={"model": {k: v for k, v in first.model.items() if k != "files_sha256"}}
    )
    assert earlier.identity == first.model["checkpoint_sha256"]


def test_other_settings_and_other_data_overwrite_nothing(asked, work):
    """The same weights scored in another way are another score: the first must not be lost."""
    evaluate(work)
    path = work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.val.json"
    rows = work / "results" / "vle-tiny-for-vqa" / "predictions" / "vqa.val.jsonl"
    before = path.read_bytes(), rows.read_bytes()
    for arguments, other in (
        (("--resize", "squash"), "of another resize (crop, not squash)"),
        (("--precision", "bf16"), "of another precision (fp32, not bf16)"),
        (("--max-text-length", "9"), "of another max_text_length (50, not 9)"),
    ):
        said = evaluate(work, *arguments, code=2)[1]
        assert (
            f"vqa.val.json: exists already and is {other}; name another file with --output" in said
        )
    choices = Choices(label_map=work / "hub" / "vle-tiny-for-vqa" / "config.json")
    prepare_vqav2(asked / "official", work / "shared", choices)
    command = ("evaluate", "hub/vle-tiny-for-vqa", "--data")
    said = run(*command, "shared", "--split", "val", cwd=work, code=2)[1]
    assert "exists already and is of other data than shared; name" in said
    said = run(*command, "data", "--split", "train", "--output", path, cwd=work, code=2)[1]
    assert "and is of another split (val, not train); name" in said
    assert (path.read_bytes(), rows.read_bytes()) == before
    evaluate(work)  # the same again is the same
    assert rows.read_bytes() == before[1]


def test_the_three_ways_of_pictures_can_be_asked_for(work):
    for way in ("squash", "crop"):
        evaluate(work, "--resize", way, "--output", f"{way}.json")
        assert load_record(work / f"{way}.json").model["resize"] == way
    said = evaluate(work, "--resize", "published-vcr", "--output", "x.json", code=2)[1]
    assert "--resize: published-vcr differs from crop in its boxes, and task vqa has none" in said


def test_the_three_ways_of_pictures_and_boxes_in_vcr(vcr, tmp_path):
    """On wide pictures that are not of one colour each way has logits of its own, the model's."""
    shutil.copytree(vcr / "hub", tmp_path / "hub")
    shutil.copytree(vcr / "official", tmp_path / "official")
    random = np.random.default_rng(0)
    for path in (tmp_path / "official" / "vcr1images").rglob("*.jpg"):
        pixels = random.integers(0, 256, (40, 160, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path, "PNG")
        metadata = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        write(path.with_suffix(".json"), metadata | {"width": 160, "height": 40})
    prepare_vcr(tmp_path / "official", tmp_path / "data")
    found = {}
    for way in ("squash", "crop", "published-vcr"):
        command = ("evaluate", "hub/tiny-vcr_q2a", "--data", "data", "--split", "val")
        run(*command, "--resize", way, "--output", f"{way}.json", cwd=tmp_path)
        assert load_record(tmp_path / f"{way}.json").model["resize"] == way
        lines = (tmp_path / f"{way}.predictions.jsonl").read_text(encoding="utf-8").splitlines()
        found[way] = {row["id"]: row["q2a_scores"] for row in map(json.loads, lines)}
        by_hand = plain_choices(tmp_path, "vcr_q2a", way)
        for annot_id, logits in by_hand.items():
            expected = torch.tensor(logits).softmax(0).tolist()
            assert found[way][annot_id] == pytest.approx(expected, abs=1e-5)
    for one, other in (("squash", "crop"), ("squash", "published-vcr"), ("crop", "published-vcr")):
        tagged = [
            i for i in found[one] if found[one][i] != pytest.approx(found[other][i], abs=1e-4)
        ]
        assert len(tagged) > 5, (one, other)


@pytest.mark.parametrize(
    "name", ["config.json", "preprocessor_config.json", "tokenizer_config.json"]
)
def test_a_key_that_stands_twice_is_named(work, name):
    path = work / "hub" / "vle-tiny-for-vqa" / name
    text = path.read_text(encoding="utf-8")
    key = next(iter(json.loads(text)))
    path.write_text(text.replace("{", f'{{"{key}": 1, ', 1), encoding="utf-8")
    _, said = evaluate(work, code=2)
    assert f"{name}: " in said and f"the key '{key}' occurs twice" in said


def test_shards_have_one_digest(work):
    folder = work / "hub" / "vle-tiny-for-vqa"
    (folder / "pytorch_model.bin").unlink()
    model = VLEForVQA.from_pretrained(GOLDEN / "VLEForVQA")
    for size in ("700KB", "500KB"):
        model.save_pretrained(work / "shards", max_shard_size=size)
        assert (work / "shards" / "model.safetensors.index.json").is_file()
        for path in (work / "shards").glob("model*"):
            shutil.move(path, folder / path.name)
        evaluate(work, "--output", f"{size}/results/vqa.json")
    first, second = (
        load_record(work / size / "results" / "vqa.json") for size in ("700KB", "500KB")
    )
    assert first.metrics["accuracy"] == second.metrics["accuracy"]
    assert first.model["checkpoint_sha256"] != second.model["checkpoint_sha256"]


def test_weights_in_half_precision_compute_in_single(evaluated, work):
    folder = work / "hub" / "vle-tiny-for-vqa"
    state = torch.load(folder / "pytorch_model.bin", weights_only=True)
    torch.save(
        {name: t.half() if t.is_floating_point() else t for name, t in state.items()},
        folder / "pytorch_model.bin",
    )
    edit("config.json", torch_dtype="float16")(folder)
    evaluate(work)
    before = [row["score"] for row in predictions(evaluated[0])]
    assert [row["score"] for row in predictions(work)] == pytest.approx(before, abs=2e-3)


def test_a_name_from_a_folder(tmp_path):
    snapshot = tmp_path / "models--hfl--vle-base-for-vqa" / "snapshots" / "0d9e4e7"
    snapshot.mkdir(parents=True)
    assert name_of(snapshot) == "vle-base-for-vqa"
    assert name_of(tmp_path / "my model (2)") == "my-model-2"
    write(snapshot / "config.json", {})
    assert evaluation_folder(snapshot) == Path("results/vle-base-for-vqa")
    assert evaluation_folder(tmp_path) == tmp_path


def test_answers_in_the_published_order(tmp_path):
    """As they first occur, train before val; nine times in both together; "Two." and "two" are "2"."""
    asked = {
        "train2014": ["net", "yes", *["rare"] * 8, *["Two."] * 5, *["yes"] * 7, *["net"] * 9],
        "val2014": ["late"] * 9 + ["two"] * 4 + ["yes"],
    }
    for name, answers in asked.items():
        write(
            tmp_path / f"v2_mscoco_{name}_annotations.json",
            {"annotations": [{"multiple_choice_answer": a} for a in answers]},
        )
    assert published_vocabulary(tmp_path) == ["net", "yes", "2", "late"]
    write(tmp_path / "v2_mscoco_val2014_annotations.json", {"annotations": [{"question_id": 7}]})
    with pytest.raises(
        RequestError, match="val2014_annotations.json: .*has no 'multiple_choice_answer'"
    ):
        published_vocabulary(tmp_path)
    (tmp_path / "v2_mscoco_val2014_annotations.json").unlink()
    with pytest.raises(RequestError, match="val2014_annotations.json: no such file"):
        published_vocabulary(tmp_path)


METER = Path(__file__).parents[2] / "golden" / "meter"


def test_a_converted_meter_checkpoint_is_scored(work):
    """Conversion keeps the head; --answers names its classes."""
    torch.save({"state_dict": load_file(METER / "state_dict.safetensors")}, work / "meter.ckpt")
    word_tokenizer().save_pretrained(work / "words")
    classes = json.loads((METER / "meta.json").read_text(encoding="utf-8"))["num_labels"]
    names = ["red", *(f"answer {i}" for i in range(1, classes))]
    write(work / "answers.json", names)
    write(work / "few.json", names[:-1])
    command = (
        "convert",
        "meter.ckpt",
        "--config",
        METER / "config.json",
        "--tokenizer",
        "words",
        "--output",
        "meter",
    )
    _, said = run(*command, "--answers", "few.json", cwd=work, code=2)
    assert (
        f"its head has {classes} classes, and --answers {classes - 1}" in said
        and not (work / "meter").exists()
    )
    run(*command, "--answers", "answers.json", cwd=work)
    run("evaluate", "meter", "--data", "data", "--split", "val", cwd=work)
    record = load_record(work / "results" / "meter" / "results" / "vqa.val.json")
    assert (record.kind, record.model["name"]) == ("elsewhere", "meter")
    data, processor = open_prepared(work / "data"), VLEProcessor.from_folder(work / "meter")
    model = VLEForVQA.from_pretrained(work / "meter").eval()
    for question, row in zip(
        sorted(data.questions("val"), key=lambda q: q["question_id"]),
        predictions(work, "meter"),
        strict=True,
    ):
        picture = Image.open(io.BytesIO(data.images[question["image_row"]]["bytes"]))
        with torch.inference_mode():
            logits = model(
                **processor(images=picture, text=question["question"], max_length=50)
            ).logits
        assert row["answer"] == names[int(logits.argmax())]
        assert row["score"] == pytest.approx(logits.sigmoid().max().item(), abs=2e-6)


def test_published_figures_stand_beside(work):
    shown, _ = evaluate(work, "--published", "VLE-base")
    assert (
        "published  VLE-base, vqa on test-dev, accuracy: 77.6   (VLE README, Comparison; fine-tuned with lr 7e-6"
        in shown
    )


@pytest.mark.parametrize(
    ("model", "source", "task", "figures"),
    [
        ("VLE-base", "vqav2", "vqa", ["test-dev, accuracy: 77.6"]),
        ("VLE-large", "vqav2", "vqa", ["test-dev, accuracy: 79.3"]),
        ("METER-base", "vqav2", "vqa", ["test-dev, accuracy: 77.7"]),
        (
            "VLE-base",
            "vcr",
            "vcr_q2ar",
            ["vcr_q2a on val, accuracy: 79.9", "vcr_qa2r on val, accuracy: 83.7"],
        ),
        ("VLE-large", "vcr", "vcr_q2a", ["val, accuracy: 84.3"]),
        ("VLE-large", "vcr", "vcr_qa2r", ["val, accuracy: 87.5"]),
    ],
)
def test_the_figures_that_the_make_targets_print(model, source, task, figures):
    shown = "\n".join(published_lines(model, source, task))
    assert all(figure in shown for figure in figures), shown


@pytest.mark.parametrize(
    "target", ["vle-vqa-base", "vle-vqa-large", "vle-vcr-base", "vle-vcr-large", "meter-vqa"]
)
def test_every_make_target_evaluates_and_prints_what_was_published(target, tmp_path):
    command = ["make", "-n", "-f", MAKEFILE, f"score-{target}", "VENV="]
    shown = subprocess.run(
        command, cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
    ).stdout
    model = {"vle-vqa-base": "VLE-base", "vle-vcr-base": "VLE-base", "meter-vqa": "METER-base"}.get(
        target, "VLE-large"
    )
    name = model.lower()
    splits = ["val"] if "vcr" in target else ["minival", "val"]
    checkpoints = (
        [f"{name}-for-vcr-q2a", f"{name}-for-vcr-qa2r"] if "vcr" in target else [f"{name}-for-vqa"]
    )
    trained = "train" if "vcr" in target else "train+val"
    for folder in checkpoints:
        for split in splits:
            data = "vcr" if "vcr" in target else "vqav2"
            wanted = f"checkpoints/{folder} --data data/{data} --split {split} --trained-on {trained} --published {model}"
            assert f"-m vle_bench evaluate {wanted}" in shown
        fetched = (
            f"download hfl/{folder} "
            if model != "METER-base"
            else "meter_clip16_288_roberta_vqa.ckpt"
        )
        assert fetched in shown
    if "vqa" in target:
        assert (
            f"predict checkpoints/{checkpoints[0]} --data data/vqav2 --split test --output" in shown
        )
    else:
        assert f"evaluate checkpoints/{checkpoints[0]} --with checkpoints/{checkpoints[1]}" in shown
    if target == "meter-vqa":
        assert "--answers data/vqav2-official" in shown


def planned(target, *settings):
    """What make would run, line by line, and what it says on stderr."""
    command = ["make", "-n", "-f", MAKEFILE, target, *settings, "VENV="]
    done = subprocess.run(command, capture_output=True, encoding="utf-8")
    return done.stdout.replace("\\\n", " ").splitlines(), done.stderr


@pytest.mark.parametrize("way", ["crop", "squash", "published-vcr"])
def test_the_make_targets_try_another_resize_and_keep_its_record(way):
    lines, _ = planned("score-vle-vcr-base", f"RESIZE={way}")
    for task in VCR:
        name = f"vle-base-for-{task.replace('_', '-')}"
        file = f"results/{name}/{task}.val.{way}.json"
        (line,) = [one for one in lines if f"evaluate checkpoints/{name}" in one]
        assert line.startswith(f"test -f {file} || ")
        assert line.endswith(f"--resize {way} --output {file}")
    (q2a, qa2r), q2ar = (
        [f"results/vle-base-for-vcr-{t}/vcr_{t}.val.{way}.json" for t in ("q2a", "qa2r")],
        f"results/vle-base-for-vcr-q2a/vcr_q2ar.val.{way}.json",
    )
    (line,) = [" ".join(one.split()) for one in lines if "--with" in one]
    assert line.startswith(f"test -f {q2ar} || ")
    assert f"evaluate {q2a} --with {qa2r} --output {q2ar} --data data/vcr --split val" in line
    lines, said = planned("score-vle-vqa-base", f"RESIZE={way}")
    if way == "published-vcr":
        assert lines == [] and "RESIZE=published-vcr: it is none of crop squash" in said
        return
    scored = [one for one in lines if " evaluate checkpoints/" in one or " predict " in one]
    assert len(scored) == 4 and all(f"--resize {way}" in one for one in scored)
    assert len({one.split("--output ")[1].strip('" ') for one in scored}) == 4


def test_a_misspelt_resize_is_refused_before_anything_is_fetched():
    lines, said = planned("score-vle-vcr-large", "RESIZE=crops")
    assert lines == [] and "RESIZE=crops: it is none of crop squash published-vcr" in said


def test_a_run_of_ours_says_itself_how_it_is_asked(work):
    """The same weights with a training.json are a run: other data may be named, pictures and texts may not.

    Its answers are its own label map. Where nothing says which data they are from, it is never ranked.
    """
    twin, folder = work / "hub" / "vle-tiny-for-vqa", work / "runs" / "mine" / "best"
    processor = VLEProcessor.from_folder(twin)
    training = {
        "task": "vqa",
        "inputs": {"max_text_length": 50},
        "recipe": {"name": "mine", "hash": "a1", "experiment": "b2"},
        "seed": 3,
        "training_splits": ["train"],
        "progress": {},
        "data_root": "gone",
    }
    pretrained.save(folder, VLEForVQA.from_pretrained(twin), processor, ANSWERS, training)
    command = ("evaluate", "runs/mine/best", "--data", "data", "--split", "val")
    shown = run(*command, cwd=work)[0]
    assert "the label map of the data as the model's own" in shown
    assert "trained on not known: never ranked" in shown
    record = load_record(work / "results" / "best" / "results" / "vqa.val.json")
    assert list(record.metrics)[0] == "accuracy" and not record.ranked
    assert "soft_score_in_vocabulary" not in record.metrics
    for option, value in (
        ("--resize", "crop"),
        ("--max-text-length", "9"),
        ("--trained-on", "train"),
    ):
        assert (
            f"training.json says it; leave {option} out"
            in run(*command, option, value, cwd=work, code=2)[1]
        )
    assert (
        "was trained for vqa, not for --task vcr_q2a"
        in run(*command, "--task", "vcr_q2a", cwd=work, code=2)[1]
    )


def test_what_the_server_says_of_it_is_a_record_too(work, monkeypatch):
    count = len(open_prepared(work / "data").questions("test-dev"))
    row = replace(SOURCES["vqav2"], server_sizes={"test-dev": count})
    monkeypatch.setitem(SOURCES, "vqav2", row)
    write(work / "server.json", [{"test-dev": {"overall": 77.56}}])
    command = (
        "evaluate",
        "hub/vle-tiny-for-vqa",
        "--data",
        "data",
        "--split",
        "test-dev",
        "--server-result",
        "server.json",
    )
    shown, _ = run(*command, "--trained-on", "train+val", "--published", "VLE-base", cwd=work)
    record = load_record(work / "results" / "vle-tiny-for-vqa" / "results" / "vqa.test-dev.json")
    assert (record.kind, record.metrics["accuracy"].value, record.ranked) == (
        "elsewhere",
        0.7756,
        True,
    )
    assert "test-dev, accuracy: 77.6" in shown and "left out" not in shown


def test_two_are_compared(work):
    shutil.copytree(work / "hub" / "vle-tiny-for-vqa", work / "hub" / "other")
    evaluate(work)
    run("evaluate", "hub/other", "--data", "data", "--split", "val", "--resize", "squash", cwd=work)
    shown, _ = run("compare", "hub/vle-tiny-for-vqa", "hub/other", "--data", "data", cwd=work)
    digest = file_sha256(work / "hub" / "other" / "pytorch_model.bin")[:8]
    beside = pretrained.files_sha256(work / "hub" / "vle-tiny-for-vqa")[:8]
    assert (
        f"A: results/vle-tiny-for-vqa, checkpoint vle-tiny-for-vqa {digest}/{beside}, trained elsewhere: accuracy 63.33"
        in shown
    )
    assert "B: results/other, checkpoint other, resize squash " in shown
