"""Checkpoints of transformers' own models through the command line: scores, records, refusals."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.miniature.in_process import run
from tests.miniature.vilt import transformers_logits, write_vilt
from tests.miniature.vqav2 import change, write_vqav2
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.evaluation.other_models import family_of, revision_of
from vle_bench.evaluation.record import load_record
from vle_bench.metrics.vqa import vqa_accuracy

RECORD = Path("results/vilt-tiny/results/vqa.val.json")
PREDICTIONS = Path("results/vilt-tiny/predictions/vqa.val.jsonl")
ANSWERS = ["red", "2", "nobody's answer", "blue"]


def shaped(official: Path) -> None:
    """Give every picture of val another shape."""
    drawn = np.random.default_rng(0)
    for number, path in enumerate(sorted((official / "val2014").iterdir())):
        shape = (40 + 13 * number % 90, 150 - 29 * number % 100, 3)
        Image.fromarray(drawn.integers(0, 256, shape, dtype=np.uint8)).save(path, format="png")


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """`data`, VQA v2 with pictures of many shapes, and `vilt-tiny` with other answers."""
    root = tmp_path_factory.mktemp("other")
    official = write_vqav2(root / "official")
    shaped(official)
    prepare_vqav2(official, root / "data")
    questions = open_prepared(root / "data").questions("val")["question"][:]
    write_vilt(root / "vilt-tiny", ANSWERS, questions)
    return root


@pytest.fixture
def work(asked, tmp_path):
    """A current folder of its own, with the data and a copy of the checkpoint."""
    (tmp_path / "data").symlink_to(asked / "data")
    shutil.copytree(asked / "vilt-tiny", tmp_path / "vilt-tiny")
    return tmp_path


def evaluate(work, *arguments, data="data", split="val", **options):
    return run(
        "evaluate", "vilt-tiny", "--data", data, "--split", split, *arguments, cwd=work, **options
    )


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def evaluated(asked):
    return asked, evaluate(asked, "--model", "vilt")[0]


def test_the_score_is_that_of_transformers_question_by_question(evaluated):
    root, _ = evaluated
    data = open_prepared(root / "data")
    questions = data.questions("val")
    answers, annotations = {}, []
    for row in questions:
        picture = data.images[row["image_row"]]["bytes"]
        (root / "picture").write_bytes(picture)
        logits = transformers_logits(
            root / "vilt-tiny", Image.open(root / "picture"), row["question"]
        )
        answers[row["question_id"]] = ANSWERS[int(logits.argmax())]
        numbered = [{"answer": a, "answer_id": i} for i, a in enumerate(row["answers"], 1)]
        annotations.append({**row, "answers": numbered})
    assert len(set(answers.values())) > 1
    assert {row["id"]: row["answer"] for row in rows_of(root / PREDICTIONS)} == answers
    expected = vqa_accuracy(answers, annotations)["accuracy"]
    assert 0 < expected < 1
    assert load_record(root / RECORD).metrics["accuracy"].value == pytest.approx(expected)


def test_the_record_says_how_the_model_was_asked(evaluated):
    root, shown = evaluated
    record = load_record(root / RECORD)
    assert (record.kind, record.precision, record.recipe) == ("elsewhere", "fp32", {})
    weights = load_file(root / "vilt-tiny" / "model.safetensors")
    assert record.model["parameters"] == sum(value.numel() for value in weights.values())
    assert {key: record.model[key] for key in ("name", "class", "protocol", "pictures")} == {
        "name": "vilt-tiny",
        "class": "ViltForQuestionAnswering",
        "protocol": "classification",
        "pictures": "shorter side 64, longer at most 106, every whole patch",
    }
    assert "classification, texts of at most 40 tokens, pictures: shorter side 64" in shown


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_batch_changes_no_answer(evaluated, work, size):
    evaluate(work, "--batch-size", size)
    one, other = load_record(evaluated[0] / RECORD), load_record(work / RECORD)
    assert (other.batch_size, other.metrics) == (size, one.metrics)
    rows, before = rows_of(work / PREDICTIONS), rows_of(evaluated[0] / PREDICTIONS)
    assert [row["answer"] for row in rows] == [row["answer"] for row in before]
    scores = [row["score"] for row in rows], [row["score"] for row in before]
    assert scores[0] == pytest.approx(scores[1], abs=2e-6)


def test_easy_vqa_and_the_servers_file(asked, tmp_path):
    prepare_easy_vqa(tmp_path / "easy", limit_images=8)
    data = open_prepared(tmp_path / "easy")
    questions = data.questions("val")["question"][:]
    write_vilt(tmp_path / "vilt-tiny", data.labels, questions, seed=1)
    for size in (1, 64):
        file = f"batch-{size}.json"
        evaluate(tmp_path, "--batch-size", size, "--output", file, data="easy")
    one, other = (load_record(tmp_path / f"batch-{size}.json") for size in (1, 64))
    assert one.metrics == other.metrics and one.n == len(questions)
    (tmp_path / "data").symlink_to(asked / "data")
    shutil.rmtree(tmp_path / "vilt-tiny")
    shutil.copytree(asked / "vilt-tiny", tmp_path / "vilt-tiny")
    shown, _ = run(
        "predict",
        "vilt-tiny",
        "--data",
        "data",
        "--split",
        "test",
        "--output",
        "x.json",
        cwd=tmp_path,
    )
    ids = open_prepared(asked / "data").questions("test")["question_id"][:]
    written = json.loads((tmp_path / "x.json").read_text(encoding="utf-8"))
    assert [row["question_id"] for row in written] == sorted(ids)
    assert {row["answer"] for row in written} <= {*ANSWERS}
    assert f"x.json ({len(ids)} answers" in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--model", "blip"], "ViltForQuestionAnswering: of ViLT; --model vilt scores it"),
        (["--model", "generate"], "--model vilt scores it, not --model generate"),
        (["--model", "vle"], "--model vilt scores it, not --model vle"),
        (["--model", "vlit"], "--model vlit: not among vle, vilt, blip, generate"),
        (["--protocol", "ranking-128"], "--model vilt has classification"),
        (["--prompt", "{question}"], "--prompt: means nothing for --model vilt"),
        (["--answers", "a.json"], "--answers: means nothing for --model vilt"),
        (["--resize", "crop"], "--resize: means nothing for --model vilt"),
        (["--task", "vcr_q2a"], "--task vcr_q2a: not among vqa"),
        (["--trained-on", "nosuch"], "--trained-on: 'nosuch' is no split of vqav2"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(work, arguments, line):
    (work / "a.json").write_text('["red"]', encoding="utf-8")
    _, errors = evaluate(work, *arguments, code=2)
    assert line in errors and len(errors.splitlines()) == 1
    assert not (work / "results").exists()


def test_a_class_that_answers_no_question_is_refused(work):
    config = work / "vilt-tiny" / "config.json"
    change(config, lambda content: content.update(architectures=["ViltForMaskedLM"]))
    line = "ViltForMaskedLM: answers no question; --model vilt scores ViltForQuestionAnswering"
    assert line in evaluate(work, code=2)[1]
    change(config, lambda content: content.update(architectures=["GPT2Model"], model_type="gpt2"))
    assert 'not a VLEConfig, expected "model_type": "vle"' in evaluate(work, code=2)[1]
    errors = evaluate(work, "--model", "vilt", code=2)[1]
    assert "GPT2Model: not a class that --model vilt scores: ViltForQuestionAnswering" in errors
    assert not (work / "results").exists()


def test_a_label_map_that_says_nothing_of_the_data_is_refused(work):
    config = work / "vilt-tiny" / "config.json"
    strange = {str(i): f"thing {i}" for i in range(4)}
    change(config, lambda content: content.update(id2label=strange, label2id=None))
    errors = evaluate(work, code=2)[1]
    assert "its label map has none of the answers of data: thing 0, thing 1" in errors
    change(config, lambda c: c.update(id2label={str(i): f"LABEL_{i}" for i in range(4)}))
    assert "id2label: has no answers" in evaluate(work, code=2)[1]
    assert not (work / "results").exists()


def test_a_missing_processor_and_damaged_weights_leave_no_record(work):
    (work / "vilt-tiny" / "preprocessor_config.json").rename(work / "kept.json")
    assert "has no preprocessor_config.json" in evaluate(work, code=2)[1]
    (work / "kept.json").rename(work / "vilt-tiny" / "preprocessor_config.json")
    path = work / "vilt-tiny" / "model.safetensors"
    weights = load_file(path)
    weights["classifier.3.bias"][1] = torch.nan
    save_file(weights, path, {"format": "pt"})
    errors = evaluate(work, code=1)[1]
    assert "logits of 45 of 45 examples are not finite" in errors and "classifier.3.bias" in errors
    assert not (work / RECORD).exists() and not (work / PREDICTIONS).exists()


def test_another_evaluation_never_takes_the_place_of_a_record(work):
    evaluate(work)
    errors = evaluate(work, "--max-text-length", "9", code=2)[1]
    assert "is of another max_text_length (40, not 9); name another file with --output" in errors
    evaluate(work)  # the same again


def test_a_checkpoint_of_the_hub_has_a_revision(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--dandelin--vilt" / "snapshots" / commit
    assert revision_of(snapshot) == commit
    note = tmp_path / "local" / ".cache" / "huggingface" / "download" / "config.json.metadata"
    note.parent.mkdir(parents=True)
    note.write_text(f"{commit}\netag\n1.0\n", encoding="utf-8")
    assert revision_of(tmp_path / "local") == commit
    assert revision_of(tmp_path) is None


@pytest.mark.parametrize(
    ("config", "family"),
    [
        ({"model_type": "vle", "architectures": ["VLEForVQA"]}, "vle"),
        ({"model_type": "vilt", "architectures": ["ViltForQuestionAnswering"]}, "vilt"),
        ({"model_type": "blip", "architectures": ["BlipForQuestionAnswering"]}, "blip"),
        ({"architectures": ["SmolVLMForConditionalGeneration"]}, "generate"),
        ({"architectures": ["Qwen2_5_VLForConditionalGeneration"]}, "generate"),
    ],
)
def test_a_family_is_recognised(tmp_path, config, family):
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert family_of(tmp_path, None) == family_of(tmp_path, family) == family
