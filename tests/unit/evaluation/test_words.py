"""BLIP and generative models through the command line: scores, records, predictions, refusals."""

import csv
import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.miniature.blip import write_blip
from tests.miniature.generative import write_llava
from tests.miniature.in_process import run
from tests.miniature.own import choice_rows, vcr_rows, write_lines
from tests.miniature.vcr import write_vcr
from tests.miniature.vqav2 import change, write_vqav2
from vle_bench.data.prepare.easy_vqa import prepare_easy_vqa
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.evaluation.record import load_record
from vle_bench.metrics.vqa import vqa_accuracy
from vle_bench.tasks.vcr import REASON

# Each way of asking: the checkpoint, and the options that name the way.
WAYS = {
    "ranking": ("blip-tiny",),
    "beams": ("blip-tiny", "--protocol", "generation"),
    "greedy": ("llava-tiny",),
}


def shaped(folder) -> None:
    """Give every picture of a folder another shape and random pixels."""
    drawn = np.random.default_rng(0)
    for number, path in enumerate(sorted(folder.iterdir())):
        shape = (40 + 13 * number % 90, 150 - 29 * number % 100, 3)
        Image.fromarray(drawn.integers(0, 256, shape, dtype=np.uint8)).save(path, format="png")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """`data`, VQA v2 with pictures of many shapes; `easy`, easy-VQA; and a model of each family."""
    folder = tmp_path_factory.mktemp("words")
    official = write_vqav2(folder / "official")
    shaped(official / "val2014")
    prepare_vqav2(official, folder / "data")
    prepare_easy_vqa(folder / "easy", limit_images=8)
    texts = []
    for name in ("data", "easy"):
        data = open_prepared(folder / name)
        texts += [*data.questions("val")["question"], *data.labels]
    write_blip(folder / "blip-tiny", texts, seed=7)  # one whose answers differ
    write_llava(folder / "llava-tiny", texts)
    return folder


@pytest.fixture
def work(root, tmp_path):
    for name in ("data", "easy", "blip-tiny", "llava-tiny"):
        (tmp_path / name).symlink_to(root / name)
    return tmp_path


def evaluate(work, way, *arguments, data="data", split="val", **options):
    checkpoint, *protocol = WAYS.get(way, (way,))
    given = ("--data", data, "--split", split, *protocol, *arguments)
    return run("evaluate", checkpoint, *given, cwd=work, **options)


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module", params=WAYS)
def evaluated(root, request):
    """The way, the record and the predictions of an evaluation in batches of the usual size."""
    file = root / f"{request.param}.json"
    shown, _ = evaluate(root, request.param, "--output", file)
    predictions = rows_of(root / f"{request.param}.predictions.jsonl")
    return request.param, load_record(file), predictions, shown


def test_the_score_is_the_official_one_of_the_predictions(root, evaluated):
    _, record, predictions, _ = evaluated
    answers = {row["id"]: row["answer"] for row in predictions}
    assert len(set(answers.values())) > 1
    annotations = []
    for row in open_prepared(root / "data").questions("val"):
        numbered = [{"answer": a, "answer_id": i} for i, a in enumerate(row["answers"], 1)]
        annotations.append({**row, "answers": numbered})
    expected = vqa_accuracy(answers, annotations)["accuracy"]
    assert record.metrics["accuracy"].value == pytest.approx(expected)
    assert record.n == len(answers) == 45
    if record.model["protocol"] == "ranking-128":
        assert expected > 0


@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_batch_changes_no_answer(work, evaluated, size):
    way, record, predictions, _ = evaluated
    evaluate(work, way, "--batch-size", size, "--output", "x.json")
    other, rows = load_record(work / "x.json"), rows_of(work / "x.predictions.jsonl")
    assert (other.batch_size, other.metrics, other.n) == (size, record.metrics, record.n)
    assert [row["answer"] for row in rows] == [row["answer"] for row in predictions]
    scores = [[row["score"] for row in one] for one in (rows, predictions)]
    assert scores[0] == pytest.approx(scores[1], abs=2e-6)


@pytest.mark.parametrize("way", WAYS)
def test_easy_vqa_has_one_score_whatever_the_batch(work, way):
    for size in (1, 7, 64):
        evaluate(work, way, "--batch-size", size, "--output", f"{size}.json", data="easy")
    one, *others = (load_record(work / f"{size}.json") for size in (1, 7, 64))
    assert all(other.metrics == one.metrics for other in others)
    assert one.n == len(open_prepared(work / "easy").questions("val"))


def test_the_record_and_the_predictions_say_how_it_was_asked(evaluated):
    way, record, predictions, shown = evaluated
    model = record.model
    if way == "greedy":
        assert model["class"] == "LlavaForConditionalGeneration"
        prompt = "{question}\nAnswer the question using a single word or phrase."
        assert (model["prompt"], model["max_new_tokens"]) == (prompt, 16)
        assert all(
            set(row) == {"id", "answer", "score", "text", "cut", "asked"} for row in predictions
        )
        asked = predictions[0]["asked"]
        assert asked.startswith("USER: <image>\n") and prompt.partition("}")[2] in asked
        cut = sum(row["cut"] for row in predictions)
        assert model["cut_answers"] == cut > 0 and f"{cut} of 45 answers are cut: " in shown
    else:
        assert model["class"] == "BlipForQuestionAnswering"
        assert model["protocol"] == {"ranking": "ranking-128", "beams": "generation"}[way]
        assert (model["pictures"], model["max_text_length"]) == ("squashed to 480 × 480", 35)
        assert f"{model['protocol']}, texts of at most 35 tokens, pictures: squashed" in shown
    assert ("answers_sha256" in model) == (way != "greedy")
    assert ("soft_score_in_vocabulary" in record.metrics) == (way == "ranking")
    assert model["parameters"] > 1000 and len(model["checkpoint_sha256"]) == 64


def test_answers_of_a_file_are_ranked_in_the_place_of_the_datas(work):
    (work / "answers.txt").write_text("red\nblue\nmaroon\n", encoding="utf-8")
    evaluate(work, "ranking", "--answers", "answers.txt", "--output", "x.json")
    record, rows = load_record(work / "x.json"), rows_of(work / "x.predictions.jsonl")
    assert {row["answer"] for row in rows} <= {"red", "blue", "maroon"}
    assert record.model["answers"] == 3 and "soft_score_in_vocabulary" not in record.metrics
    evaluate(work, "ranking")
    errors = evaluate(work, "ranking", "--answers", "answers.txt", code=2)[1]
    assert "is of another answers_sha256" in errors
    errors = evaluate(work, "ranking", "--protocol", "generation", code=2)[1]
    assert "is of another protocol (ranking-128, not generation)" in errors


@pytest.mark.parametrize("way", WAYS)
def test_predict_writes_the_servers_file(work, way):
    checkpoint, *protocol = WAYS[way]
    given = ("--data", "data", "--split", "test", *protocol, "--output", "x.json")
    run("predict", checkpoint, *given, cwd=work)
    rows = json.loads((work / "x.json").read_text(encoding="utf-8"))
    ids = open_prepared(work / "data").questions("test")["question_id"][:]
    assert [row["question_id"] for row in rows] == sorted(ids)
    assert all(set(row) == {"question_id", "answer"} for row in rows)


def test_ones_own_prompt_is_another_evaluation(work):
    evaluate(work, "greedy", "--prompt", "Short: {question}")
    (record,) = (work / "results" / "llava-tiny" / "results").iterdir()
    assert load_record(record).model["prompt"] == "Short: {question}"
    errors = evaluate(work, "greedy", code=2)[1]
    assert "is of another prompt (Short: {question}, not {question}" in errors


def test_empty_answers_are_counted_and_said(work):
    shutil.copytree((work / "llava-tiny").resolve(), work / "silent")
    path = work / "silent" / "model.safetensors"
    weights = load_file(path)
    weights[head_of(weights)].zero_()  # all words are as likely, and the first is <pad>
    save_file(weights, path, {"format": "pt"})
    shown, _ = evaluate(work, "silent", "--output", "x.json")
    assert load_record(work / "x.json").model["empty_answers"] == 45
    assert "45 of 45 answers are empty: they are scored as they are" in shown
    assert load_record(work / "x.json").metrics["accuracy"].value == 0


@pytest.fixture(scope="module")
def vcr(tmp_path_factory):
    """VCR, a model that knows its words, and VCR's questions as ones of one's own with boxes."""
    folder = tmp_path_factory.mktemp("vcr")
    prepare_vcr(write_vcr(folder / "official"), folder / "vcr")
    data = open_prepared(folder / "vcr")
    records = [json.loads(record) for record in data.questions("val")["record"]]
    words = [w for r in records for text in r["answer_choices"] for w in text if isinstance(w, str)]
    write_llava(folder / "llava-tiny", [*words, "A B C D", "Why Casey Riley"])
    tagged = json.loads(json.dumps(vcr_rows(data, "val", folder)).replace("\\ue000", "'"))
    for row in tagged:
        row["boxes"] = [{**one, "box": [1, 1, 9, 9]} for one in row["boxes"]]
    for name, rows in (("boxes", tagged), ("plain", choice_rows(2))):
        write_lines(folder / f"{name}.jsonl", rows)
        spec = {"form": "choice", "splits": {"val": f"{name}.jsonl"}}
        (folder / f"{name}.yaml").write_text(json.dumps(spec), encoding="utf-8")
        run("prepare", "own", f"{name}.yaml", "--output", name, cwd=folder)
    return folder


@pytest.mark.parametrize("protocol", ["choice-letter", "choice-text"])
@pytest.mark.parametrize("task", ["vcr_q2a", "vcr_qa2r"])
def test_vcr_is_answered_by_the_likeliest_choice(vcr, tmp_path, task, protocol):
    given = ("--data", "vcr", "--split", "val", "--task", task, "--protocol", protocol)
    for size in (4, 64):
        file = tmp_path / f"{size}.json"
        run("evaluate", "llava-tiny", *given, "--batch-size", size, "--output", file, cwd=vcr)
    one, other = (load_record(tmp_path / f"{size}.json") for size in (4, 64))
    assert one.metrics == other.metrics and one.model["protocol"] == protocol
    part = task.removeprefix("vcr_")
    rows = rows_of(tmp_path / "64.predictions.jsonl")
    assert len(rows) == one.n == len(open_prepared(vcr / "vcr").questions("val"))
    assert all(row[part] == int(np.argmax(row[f"{part}_scores"])) for row in rows)
    assert len({tuple(row[f"{part}_scores"]) for row in rows}) > 1
    assert all(sum(row[f"{part}_scores"]) == pytest.approx(1) for row in rows)


def test_vcr_is_asked_with_names_in_the_places_of_objects(vcr):
    from vle_bench.tasks import load_task

    data = open_prepared(vcr / "vcr")
    rows = data.questions("val")[:3]
    records = [json.loads(record) for record in rows["record"]]
    q2a, qa2r = (load_task(name).asked(rows) for name in ("vcr_q2a", "vcr_qa2r"))
    every = load_task("vcr_qa2r").for_submission().asked(rows)
    assert q2a.ids == qa2r.ids == every.ids == rows["annot_id"]
    assert [len(asked.texts) for asked in (q2a, qa2r, every)] == [3, 3, 12]
    assert not any("[" in text for text in (*q2a.texts, *sum(q2a.choices, [])))
    assert any("Casey" in text or "Riley" in text for text in (*q2a.texts, *sum(q2a.choices, [])))
    for i, record in enumerate(records):
        right = q2a.choices[i][record["answer_label"]]
        assert qa2r.texts[i] == REASON.format(q2a.texts[i], right)
        assert every.texts[4 * i : 4 * i + 4] == [
            REASON.format(q2a.texts[i], answer) for answer in q2a.choices[i]
        ]
        assert every.choices[4 * i] == qa2r.choices[i] != q2a.choices[i]


def test_vcr_has_a_file_for_the_leaderboard_and_both_halves_join(vcr, tmp_path):
    for half in ("q2a", "qa2r"):
        given = ("--data", "vcr", "--split", "val", "--task", f"vcr_{half}")
        run("evaluate", "llava-tiny", *given, "--output", tmp_path / f"{half}.json", cwd=vcr)
    both = (tmp_path / "q2a.json", "--with", tmp_path / "qa2r.json", "--split", "val")
    run("evaluate", *both, "--data", "vcr", "--output", tmp_path / "q2ar.json", cwd=vcr)
    assert set(load_record(tmp_path / "q2ar.json").metrics) == {"q2ar", "q2a", "qa2r"}
    given = ("--data", "vcr", "--split", "val", "--task", "vcr_q2a", "--with", "llava-tiny")
    run("predict", "llava-tiny", *given, "--output", tmp_path / "x.csv", cwd=vcr)
    lines = (tmp_path / "x.csv").read_text(encoding="utf-8").splitlines()
    written = {row["annot_id"]: row for row in csv.DictReader(lines)}
    after_right = {
        row["id"]: row["qa2r_scores"] for row in rows_of(tmp_path / "qa2r.predictions.jsonl")
    }
    labels = open_prepared(vcr / "vcr").questions("val")
    assert written.keys() == after_right.keys()
    for annot_id, label in zip(labels["annot_id"], labels["answer_label"], strict=True):
        columns = [f"rationale_conditioned_on_a{label}_{i}" for i in range(4)]
        scores = [float(written[annot_id][column]) for column in columns]
        assert scores == pytest.approx(after_right[annot_id], abs=1e-5)


@pytest.mark.parametrize("data", ["plain", "boxes"])
def test_ones_own_multiple_choice(vcr, tmp_path, data):
    given = ("--data", data, "--split", "val", "--output", tmp_path / "x.json")
    run("evaluate", "llava-tiny", *given, cwd=vcr)
    record = load_record(tmp_path / "x.json")
    assert record.model["protocol"] == "choice-letter" and record.task == "choice"
    rows = {row["id"]: row for row in rows_of(tmp_path / "x.predictions.jsonl")}
    questions = open_prepared(vcr / data).questions("val").to_list()
    right = [rows[q["question_id"]]["chosen"] == q["right_choice"] for q in questions]
    assert record.metrics["accuracy"].value == pytest.approx(np.mean(right))
    assert all(len(rows[q["question_id"]]["scores"]) == len(q["choices"]) for q in questions)


def test_ones_own_tags_are_names_too(vcr):
    from vle_bench.tasks import load_task

    rows = open_prepared(vcr / "boxes").questions("val")[:]
    asked = load_task("choice").asked(rows)
    assert any("[" in text for text in rows["question"])
    assert not any("[" in text for text in (*asked.texts, *sum(asked.choices, [])))


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--task", "vcr_q2a", "--protocol", "generation"), "has choice-letter, choice-text for"),
        ((), "--task says which of its tasks: vcr_q2a, vcr_qa2r"),
        (("--task", "vcr_q2a", "--prompt", "{question}"), "has no {choices}"),
        (("--task", "vcr_q2a", "--max-text-length", "9"), "--max-text-length: means nothing"),
    ],
)
def test_requests_that_do_not_suit_vcr(vcr, tmp_path, arguments, line):
    given = ("--data", "vcr", "--split", "val", "--output", tmp_path / "x.json")
    _, errors = run("evaluate", "llava-tiny", *given, *arguments, cwd=vcr, code=2)
    assert line in errors and len(errors.splitlines()) == 1 and not [*tmp_path.iterdir()]


def test_questions_without_choices_are_not_chosen_among(work):
    errors = evaluate(work, "greedy", "--protocol", "choice-letter", code=2)[1]
    assert "these questions have no choices" in errors and not (work / "results").exists()


def without(name):
    return lambda folder: (folder / name).unlink()


def head_of(weights):
    return next(name for name in weights if name.endswith(("lm_head.weight", "predictions.bias")))


def with_nan(folder):
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[head_of(weights)].view(-1)[0] = torch.nan
    save_file(weights, path, {"format": "pt"})


def other_class(folder):
    change(folder / "config.json", lambda c: c.update(architectures=["BlipForImageTextRetrieval"]))


@pytest.mark.parametrize(
    ("name", "spoil", "code", "line"),
    [
        ("llava-tiny", without("chat_template.jinja"), 2, "has no chat template"),
        ("llava-tiny", without("processor_config.json"), 2, "no processor can be loaded"),
        ("llava-tiny", without("model.safetensors"), 2, "has no weights"),
        ("llava-tiny", with_nan, 1, "45 of 45 examples are not finite"),
        ("blip-tiny", without("preprocessor_config.json"), 2, "has no preprocessor_config.json"),
        ("blip-tiny", with_nan, 1, "are not finite"),
        ("blip-tiny", other_class, 2, "BlipForImageTextRetrieval: answers no question"),
    ],
)
def test_a_damaged_checkpoint_leaves_one_line_and_no_record(work, name, spoil, code, line):
    shutil.copytree((work / name).resolve(), work / "damaged")
    spoil(work / "damaged")
    _, errors = evaluate(work, "damaged", code=code)
    said = [text for text in errors.splitlines() if not text.startswith("predict val: ")]
    assert len(said) == 1 and line in said[0]
    assert not (work / "results").exists()
