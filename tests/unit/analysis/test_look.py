"""The page of what a model gets: what it shows is what the collator and the loader give."""

import json
import re
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from tests.miniature.in_process import run
from tests.miniature.page import Page
from tests.miniature.run import HOSTILE, prepare_miniature_vcr, prepare_vqa
from vle_bench.analysis import look_examples as one
from vle_bench.analysis import look_pictures as pictures
from vle_bench.analysis.look import (
    chosen_examples,
    example,
    open_look,
    views_of,
    write_look,
)
from vle_bench.analysis.look_numbers import (
    MicroBatch,
    first_steps,
    layout,
    measure_lengths,
    object_facts,
    picture_facts,
    question_facts,
    text_facts,
    training_facts,
)
from vle_bench.data.images import decode
from vle_bench.data.prepared import open_prepared
from vle_bench.data.vcr_text import encode_record
from vle_bench.errors import RequestError
from vle_bench.metrics.numbers import percent
from vle_bench.models import VLEProcessor, pretrained
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task
from vle_bench.training import feed
from vle_bench.training.model import model_of

VQA = [
    "data.source=vqav2",
    "data.evaluate=val-minival",
    "data.report=val",
    "data.first_stage=null",
    "train.batch_size=8",
    "train.per_device_batch_size=4",
]
VCR = ["data.source=vcr", "train.batch_size=4", "train.per_device_batch_size=2"]


class LookPage(Page):
    """Also the tokens of every text, and the outlines of the patches."""

    def __init__(self, path):
        self.shown, self.paths = [], []
        super().__init__(path)

    def handle_starttag(self, tag, attrs):
        super().handle_starttag(tag, attrs)
        attributes = dict(attrs)
        if attributes.get("class") == "tokens":
            self.shown.append([])
        elif tag == "span" and attributes.get("title", "").startswith("id "):
            number, kind = map(int, re.findall(r"\d+", attributes["title"]))
            self.shown[-1].append((number, kind, attributes["class"]))
        elif tag == "path" and attributes.get("class", "").startswith("pooled"):
            self.paths.append(attributes["d"])


def opened(recipe, overrides, root, split=None):
    loaded = load_recipe(recipe, [*overrides, f"data.root={root}"])
    task = load_task(loaded.task)
    data = feed.open_data(loaded, task)
    return open_look(data, split, feed.of_recipe(loaded, task, data))


@pytest.fixture(scope="module")
def vqa_data(tmp_path_factory):
    return prepare_vqa(tmp_path_factory.mktemp("vqa"))


@pytest.fixture(scope="module")
def vcr_data(tmp_path_factory):
    return prepare_miniature_vcr(tmp_path_factory.mktemp("vcr"))


def written(look, path, count=24, seed=0, ids=()):
    rows = chosen_examples(look, ids, count, seed)
    write_look(look, path, rows, seed)
    return rows, LookPage(path)


@pytest.mark.parametrize(
    ("recipe", "changes", "texts"),
    [
        ("demo/vqa-tiny", VQA, 1),
        ("demo/vcr-q2a-tiny", VCR, 4),
        ("demo/vcr-qa2r-tiny", VCR, 4),
        ("demo/vcr-q2a-tiny", [*VCR, "task=vcr_joint", "model.max_text_length=20"], 8),
        ("demo/vcr-q2a-tiny", [*VCR, "task=vcr_second_stage", "model.max_text_length=30"], 2),
        ("demo/vcr-q2a-tiny", [*VCR, "model.alignment=off"], 4),
    ],
)
def test_the_tokens_shown_are_those_of_the_collator(request, tmp_path, recipe, changes, texts):
    root = request.getfixturevalue("vqa_data" if changes is VQA else "vcr_data")
    look = opened(recipe, changes, root, "val")
    rows, page = written(look, tmp_path / "page.html", count=100)
    assert len(rows) == len(look.questions) and len(page.shown) == texts * len(rows)
    batch = look.collator()(rows)["inputs"]  # in one batch, with padding
    tokens, mask = batch["input_ids"].flatten(0, -2), batch["attention_mask"].flatten(0, -2)
    types = batch.get("token_type_ids", torch.zeros_like(batch["input_ids"])).flatten(0, -2)
    for shown, ids, kinds, real in zip(page.shown, tokens, types, mask, strict=True):
        kept = [(number, kind) for number, kind, css in shown if css != "cut"]
        assert kept == list(zip(ids[real == 1].tolist(), kinds[real == 1].tolist(), strict=True))


def test_the_tokens_cut_off_by_hand(vqa_data, tmp_path):
    """`How many` and sixty times `very`, of which 24 tokens fit."""
    look = opened("demo/vqa-tiny", VQA, vqa_data, "val")
    (row,) = np.flatnonzero(["very very" in text for text in look.questions["question"]])
    identity = str(look.questions[int(row)]["question_id"])
    _, page = written(look, tmp_path / "page.html", ids=[identity])
    (shown,) = page.shown
    cut = [number for number, _, css in shown if css == "cut"]
    whole = look.feed.processor.tokenizer(look.questions[int(row)]["question"])["input_ids"]
    assert len(whole) == 1 + 2 + 60 + 4 + 1 + 1 and len(shown) == len(whole)
    assert len(cut) == len(whole) - 24 and cut == whole[23:-1]
    assert f"{len(whole) - 24} cut off" in page.content
    assert "question: 24 tokens" in page.content


def test_the_tokens_cut_off_of_a_choice_are_those_that_encoding_drops(vcr_data):
    look = opened("demo/vcr-qa2r-tiny", [*VCR, "model.max_text_length=20"], vcr_data, "val")
    tokenizer, found = look.feed.processor.tokenizer, 0
    for row in range(len(look.questions)):
        record = json.loads(look.questions[row]["record"])
        limited, whole = (
            encode_record(record, tokenizer, "qa2r", length) for length in (20, 10_000)
        )
        for text, short, long in zip(example(look, row, [], 1).texts, limited, whole, strict=True):
            assert text.cut == len(long["input_ids"]) - len(short["input_ids"])
            assert (text.cut > 0) == short["shortened"]
            assert [token.id for token in text.tokens] == long["input_ids"]
            found += text.cut
    assert found > 90  # one of the rationales has ninety words


def test_the_tokens_of_a_byte_level_tokenizer_are_readable():
    pieces = {"<s>": 0, "<unk>": 1, "Ġfür": 2, "Ġ": 3, "What": 4}
    names = list(pieces)
    tokenizer = SimpleNamespace(
        convert_ids_to_tokens=names.__getitem__,
        convert_tokens_to_string=lambda parts: "".join(parts).replace("Ġ", " "),
        unk_token_id=1,
        all_special_ids=[0, 1],
    )
    shown = [one.token_of(tokenizer, i, 3 * (i == 2), i == 4, {3: "o1"}) for i in range(5)]
    assert [(token.text, token.css, token.starts) for token in shown] == [
        ("<s>", "special", False),
        ("<unk>", "unknown", False),
        ("für", "o1", True),
        ("▁", "", True),
        ("What", "cut", False),
    ]


def test_kept_tokens():
    assert one.kept([1, 5, 2], [1, 5, 6, 7, 2]) == [True, True, False, False, True]
    assert one.kept([1, 5, 2, 8, 2], [1, 5, 6, 2, 8, 9, 2]) == [
        *(True, True, False, True),
        *(True, False, True),
    ]
    with pytest.raises(ValueError, match="other tokens"):
        one.kept([1, 6, 5, 2], [1, 5, 6, 2])


@pytest.mark.parametrize(
    ("resize", "one_path", "patches"),
    [
        # 60 × 40 pixels, 3 × 3 patches of 20 × 13.3: x 2.5 to 20 and y 1 to 38
        ("squash", "M0 0h64v96h-64z", 6),
        # the crop keeps x 10 to 50, patches of 13.3: x -7.5 to 10
        ("crop", "M0 0h32v96h-32z", 3),
        # the pixels of the crop, the patches of the squash
        ("published-vcr", "M0 0h64v96h-64z", 6),
    ],
)
def test_the_patches_of_a_box_by_hand(vcr_data, tmp_path, resize, one_path, patches):
    look = opened("demo/vcr-q2a-tiny", [*VCR, f"model.resize={resize}"], vcr_data, "val")
    _, page = written(look, tmp_path / "page.html", ids=["val-0"])  # tags objects 0 and 1
    # the second: x 30 to 50.25, of which the crop leaves 20 to 40.25; y 5 to 39
    assert page.paths == [one_path, "M32 0h64v96h-64z"]
    assert f"person1</span> {patches} patches" in page.content
    assert "person2</span> 6 patches" in page.content


def test_a_box_outside_of_the_crop_is_marked(vcr_data):
    """The second person stands at x 30 to 50.25 and y 5 to 39; the crop of 40 pixels keeps it."""
    look = opened("demo/vcr-q2a-tiny", [*VCR, "model.resize=crop"], vcr_data, "val")
    processor = look.feed.processor
    assert pictures.hidden_boxes(
        [[0, 0, 9, 40], [0, 0, 11, 40], [51, 0, 60, 40]], 60, 40, processor
    )[:].tolist() == [True, False, True]
    processor.boxes_as_squashed = True
    assert not pictures.hidden_boxes([[0, 0, 9, 40]], 60, 40, processor).any()
    assert pictures.hidden_boxes([[61, 0, 70, 40]], 60, 40, None).all()
    sizes = np.array([[60, 40]])
    (fact,) = object_facts([[[61, 0, 70, 40], [1, 1, 2, 2]]], sizes, None)
    assert fact.value == "2, of which 1 lie outside of the picture" and fact.lost


def test_the_picture_shown_is_the_tensor(vqa_data):
    """A photograph's worth of colours comes back exactly, cropped as Pillow crops it."""
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8))
    look = opened("demo/vqa-tiny", VQA, vqa_data, "val")
    processor = VLEProcessor.from_parts(look.feed.processor.tokenizer, 40, 8, "crop")
    pixels = processor(images=[image])["pixel_values"][0]
    shown = pictures.denormalised(pixels, processor.image_processor)
    assert shown.tobytes() == image.crop((10, 0, 50, 40)).tobytes()


def test_the_views_are_those_of_training(vqa_data):
    """Each epoch's picture is the one that a micro-batch of that epoch holds."""
    changes = [*VQA, "model.image_size=64", "augment.shift=9", "train.num_workers=0"]
    look = opened("demo/vqa-tiny", changes, vqa_data)
    assert look.trained and look.split == "train"
    read = look.feed
    seen = {}
    for epoch, _, batches in islice(read.load_steps(accumulation=2, stage_steps=0), 20):
        for batch in batches:
            for identity, place in zip(batch["ids"], batch["inputs"]["image_index"], strict=True):
                seen[identity, epoch] = batch["inputs"]["pixel_values"][place]
    settings = read.processor.image_processor
    compared = 0
    for row in range(len(look.questions)):
        identity = look.questions[row]["question_id"]
        for epoch, (caption, picture) in enumerate(
            pictures.view_pictures(views_of(look), row, settings, 150)
        ):
            if (identity, epoch) in seen:
                image = pictures.denormalised(seen[identity, epoch], settings)
                assert picture == pictures.embedded(image, 150) and caption == f"epoch {epoch}"
                compared += 1
    assert compared > 20
    assert views_of(opened("demo/vqa-tiny", changes, vqa_data, "val")) == []


def test_the_layout_of_a_micro_batch_by_hand():
    inputs = {
        "attention_mask": torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 0]]),
        "image_index": torch.tensor([0, 0, 1]),
        "pixel_values": torch.zeros(2, 3, 4, 4),
    }
    found = layout(3, inputs)
    assert found == MicroBatch(3, [2, 4, 3], 4, [0, 0, 1], 2)
    assert found.padding == 0.25
    choices = {
        "attention_mask": torch.ones(2, 4, 5),
        "image_index": torch.tensor([1, 0]),
        "pixel_values": torch.zeros(2, 3, 4, 4),
        "object_mask": torch.tensor([[[1, 0], [1, 1], [0, 0], [1, 0]]] * 2),
    }
    found = layout(2, choices)
    assert found.image_index == [1] * 4 + [0] * 4 and found.padding == 0
    assert (found.objects, found.object_places) == (8, 16)


@pytest.mark.parametrize("compiled", ["false", "true"])
@pytest.mark.parametrize(
    ("recipe", "changes"), [("demo/vqa-tiny", VQA), ("demo/vcr-q2a-tiny", VCR)]
)
def test_the_batches_shown_are_those_of_training(request, tmp_path, recipe, changes, compiled):
    root = request.getfixturevalue("vqa_data" if changes is VQA else "vcr_data")
    look = opened(recipe, [*changes, f"train.compile={compiled}"], root)
    _, page = written(look, tmp_path / "page.html", count=1)
    rows = page.tables["Their micro-batches"][1:]
    read = look.feed
    steps = list(islice(read.load_steps(accumulation=2, stage_steps=0), 3))
    assert len(rows) == sum(bool(batch["ids"]) for _, _, step in steps for batch in step) > 3
    expected = []
    for _, _, step in steps:
        for batch in step:
            mask = batch["inputs"]["attention_mask"].flatten(0, -2)
            places = mask.shape[-1]
            if compiled == "true":
                limit = read.input_settings["max_text_length"]
                places = min(-(-places // 16) * 16, limit)
            padding = 1 - int(mask.sum()) / (len(mask) * places)
            encoded = len(batch["inputs"]["pixel_values"])
            expected.append(
                [str(len(batch["ids"])), str(encoded), str(len(mask)), str(places)]
                + [percent(padding, 1)]
            )
    assert [[cell.strip() for cell in row[1:6]] for row in rows] == expected
    assert len({row[5] for row in rows}) > 1
    assert [len(step) for step in first_steps(read)] == [2, 2, 2]
    assert page.tables["The first steps"][1][1:3] == ["2", changes[-2].partition("=")[2]]


def test_the_same_seed_gives_the_same_bytes(vqa_data, tmp_path):
    look = opened("demo/vqa-tiny", VQA, vqa_data)
    pages = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        rows, page = written(look, tmp_path / name, count=5, seed=seed)
        pages[name] = page.content
        assert len(rows) == 5 == len(page.shown) and len(set(rows)) == 5
    assert pages["a"] == pages["b"] != pages["c"]


def test_no_text_of_the_data_becomes_markup(vqa_data, tmp_path):
    data = open_prepared(vqa_data)
    (row,) = np.flatnonzero([text == HOSTILE for text in data.questions("val")["question"]])
    identity = str(data.questions("val")[int(row)]["question_id"])
    for look in (
        open_look(data, "val", None),
        opened("demo/vqa-tiny", VQA, vqa_data, "val"),
    ):
        _, page = written(look, tmp_path / "page.html", ids=[identity])
        assert "script" not in {tag for tag, _ in page.tags}
        assert not any(key.startswith("on") for _, found in page.tags for key in found)
        assert "&lt;script&gt;" in page.content
        assert "\ue000" not in page.content and "\u202e" not in page.content
        _, page = written(look, tmp_path / "page.html", count=100)
        assert "&lt;img src=x onerror=alert(2)&gt;" in page.content
        assert {found["src"][:15] for tag, found in page.tags if tag == "img"} <= {
            "data:image/webp"
        }


def test_without_a_recipe_the_page_says_how_to_see_the_rest(vcr_data, tmp_path):
    look = open_look(open_prepared(vcr_data), None, None)
    assert look.split == "train"
    rows, page = written(look, tmp_path / "page.html", count=3)
    assert page.shown == [] and "The first steps" not in page.tables
    assert f"vle-bench look {vcr_data} --recipe RECIPE" in page.content
    assert page.content.count("<dt>rationale 4</dt>") == len(rows) == 3
    assert page.content.count('<dd class="right">') == 2 * 3


def test_the_targets_are_those_of_the_batch(vqa_data):
    look = opened("demo/vqa-tiny", VQA, vqa_data, "val")
    labels = look.data.labels
    for row in range(len(look.questions)):
        scores = look.collator()(np.array([row]))["inputs"]["labels"][0]
        expected = sorted(
            ((labels[i], float(score)) for i, score in enumerate(scores) if score),
            key=lambda pair: -pair[1],
        )
        card = example(look, row, [], 1)
        shown = dict(card.targets)["target"]
        assert shown == (", ".join(f"{a} {s:.2f}" for a, s in expected) or "none")
        assert bool(card.problems) is (not look.questions[row]["answerable"])
    assert not all(look.questions["answerable"]) and any(look.questions["answerable"])


def test_the_facts_by_hand(vqa_data):
    look = opened("demo/vqa-tiny", [*VQA, "model.resize=crop"], vqa_data)
    read, questions = look.feed, look.questions
    (fact,) = question_facts(look.data, "train", questions, trained=True)
    images = len(set(questions["image_id"]))
    assert fact.value == f"{len(questions)} of train, about {images} pictures"
    seen = sum(questions["answerable"])
    trained, never = training_facts(read, questions, True, "why")
    assert trained.value == f"{seen} of {len(questions)} questions in each epoch"
    lost = len(questions) - seen
    assert never.value.startswith(f"{lost} questions (") and never.lost and lost > 0
    (no,) = training_facts(read, questions, False, "why")
    assert no.value == "no: the recipe trains on train"
    _, label_map = question_facts(look.data, "train", questions, trained=False)
    assert label_map.value.startswith(f"{lost} questions have no answer") and label_map.lost
    # half of 2 × 1, none of 1 × 1
    _, cropped = picture_facts(np.array([[80, 40], [30, 30]]), read.processor)
    assert cropped.value == "25.0 % of a picture on average, 50.0 % at most" and cropped.lost
    read.processor.patch_size = 30  # of 64 pixels
    _, patches, _ = picture_facts(np.array([[80, 40]]), read.processor)
    assert patches.value.startswith("the last 4 pixels") and patches.lost


def test_the_lengths_by_hand(vqa_data):
    look = opened("demo/vqa-tiny", VQA, vqa_data)
    unlimited = look.collator(max_text_length=one.UNLIMITED)
    tokenizer = look.feed.processor.tokenizer
    unknown = tokenizer.unk_token_id
    measured = measure_lengths(look.questions, 0, look.collator(), unlimited, look.form, unknown)
    whole = [len(ids) for ids in tokenizer(list(look.questions["question"]))["input_ids"]]
    assert measured.whole.tolist() == whole
    assert measured.kept.tolist() == [min(length, 24) for length in whole]
    assert measured.shortened == 1 and measured.unknown == 0
    (fact,) = text_facts(measured, 24, len(whole))
    assert fact.value.startswith(f"1 of {len(whole)} texts (") and fact.lost
    assert f"{max(whole) - 24} tokens are cut off" in fact.value


def test_what_prepare_left_out_is_named(vqa_data):
    data = open_prepared(vqa_data)
    data.manifest.report["val-minival"]["left_out_as_bad_records"] = 3
    facts = question_facts(data, "val", data.questions("val"), trained=True)
    assert ("left out by prepare", "3 questions") in [(fact.name, fact.value) for fact in facts]


def test_a_run_is_looked_at_with_its_own_processor(vqa_data, tmp_path):
    recipe = load_recipe("demo/vqa-tiny", [*VQA, f"data.root={vqa_data}"])
    task = load_task("vqa")
    data = feed.open_data(recipe, task)
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    assert not feed.has_checkpoint(folder)
    shown, _ = run("look", folder, "--examples", "2", cwd=tmp_path)
    assert shown == f"written: {folder}/look.train.html\n"
    model, processor, _ = model_of(recipe, task, data)
    processor.set_size(32, "crop")
    training = {"inputs": {"max_text_length": 9}}
    pretrained.save(folder / "best", model, processor, data.labels, training)
    shown, _ = run("look", folder, "--examples", "2", "--split", "val", cwd=tmp_path)
    page = (folder / "look.val.html").read_text(encoding="utf-8")
    assert "32 × 32 pixels for the model (crop)" in page and "more than the 9 tokens" in page
    training = {"progress": {}}
    pretrained.save(folder / "best", model, processor, data.labels, training)
    _, errors = run("look", folder, cwd=tmp_path, code=2)
    assert "training.json: written by an earlier version" in errors
    pretrained.save(folder / "best", model, processor, ["other"], {"inputs": {}})
    _, errors = run("look", folder, cwd=tmp_path, code=2)
    assert "its label map" in errors and "not those that the run was trained on" in errors


def test_data_that_have_moved_are_named_with_a_recipe_or_a_run(vqa_data, tmp_path):
    recipe = load_recipe("demo/vqa-tiny", [*VQA, "data.root=gone"])
    (tmp_path / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    for name in ("recipe.yaml", "."):
        shown, _ = run("look", vqa_data, "--recipe", name, "--examples", "1", cwd=tmp_path)
        assert shown == "written: look.data.train.html\n"
    _, errors = run("look", ".", cwd=tmp_path, code=2)
    assert errors.startswith("vle-bench: gone: no prepared data there")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("DATA", "--ids", "1000,99999"), "'99999' is no question_id of train"),
        (("DATA", "--ids", "1099"), "nearest: 1009"),
        (("DATA", "--ids", "1001000"), "it is of val-minival: --split val-minival"),
        (("DATA", "--ids", " ,"), "--ids: names no example"),
        (("DATA", "--split", "tset"), "has no split 'tset'; it has"),
        (("DATA", "train.seed=1"), "train.seed=1: a key of a recipe; name one with --recipe"),
        (("DATA", "--output", "there.html"), "there.html: exists already"),
        (
            ("DATA", "--recipe", "demo/vcr-q2a-tiny"),
            "holds prepared vqav2, and data.source says shapes-vcr; data.root=FOLDER, with one",
        ),
        (("DATA", "--recipe", "demo/vqa-tniy"), "nearest shipped recipe: recipes/demo/vqa-tiny"),
        (("DATA", "--recipe", "demo/vqa-tiny", "train.sed=1"), "nearest valid key: train.seed"),
        (("empty",), "neither prepared data (manifest.json) nor a run (recipe.yaml)"),
        (("empty", "--recipe", "demo/vqa-tiny"), "no prepared data there (no manifest.json)"),
        (("nowhere",), "nowhere: no such folder of prepared data or of a run, nor a recipe"),
        (("data/k",), "data/k: no such folder of prepared data or of a run, nor a recipe"),
        (("vqa/vle-bas",), "nearest shipped recipe: recipes/vqa/vle-base.yaml"),
        (("mine.yaml",), "mine.yaml: no such recipe"),
        (("demo/vqa-tiny",), "data/easy-vqa: no prepared data there"),
        (("demo/vqa-tiny", "model.image_size=0"), "model.image_size"),
    ],
)
def test_a_wrong_request_is_one_line_and_writes_nothing(vqa_data, tmp_path, arguments, message):
    (tmp_path / "empty").mkdir()
    (tmp_path / "there.html").write_text("kept", encoding="utf-8")
    before = sorted(vqa_data.iterdir())
    given = [vqa_data if word == "DATA" else word for word in arguments]
    shown, errors = run("look", *given, cwd=tmp_path, code=2)
    assert message in errors and errors.count("\n") == 1 and shown == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "there.html"]
    assert (tmp_path / "there.html").read_text(encoding="utf-8") == "kept"
    assert not any((tmp_path / "empty").iterdir()) and sorted(vqa_data.iterdir()) == before


def test_a_split_without_examples_is_refused(vqa_data, monkeypatch):
    data = open_prepared(vqa_data)
    empty = data.questions("val").select([])
    monkeypatch.setattr(type(data), "questions", lambda self, split: empty)
    with pytest.raises(RequestError, match="split 'val' has no examples"):
        open_look(data, "val", None)


def test_a_split_without_labels(vqa_data, vcr_data, tmp_path):
    """Shown as it is predicted, except where the texts hold the right answer."""
    for recipe, changes, root in (
        ("demo/vqa-tiny", VQA, vqa_data),
        ("demo/vcr-q2a-tiny", VCR, vcr_data),
    ):
        rows, page = written(opened(recipe, changes, root, "test"), tmp_path / "page.html")
        assert page.content.count("none: the split has no labels") == len(rows) > 4
        assert "no: the recipe trains on train" in page.content
    for task in ("vcr_qa2r", "vcr_joint", "vcr_second_stage"):
        with pytest.raises(RequestError, match=f"'test' has no labels, and the texts of {task} "):
            opened("demo/vcr-q2a-tiny", [*VCR, f"task={task}"], vcr_data, "test")


def test_a_damaged_picture_is_named_and_nothing_is_written(vqa_data, tmp_path, monkeypatch):
    look = opened("demo/vqa-tiny", VQA, vqa_data)

    def broken(content, name):
        return decode(b"no picture", name)

    monkeypatch.setattr(pictures, "decode", broken)
    with pytest.raises(RequestError, match=r"COCO_train2014_.*cannot be read"):
        written(look, tmp_path / "page.html", count=1)
    assert not any(tmp_path.iterdir())


def test_many_examples_get_smaller_pictures():
    assert pictures.side(360, 24) == pictures.side(360, 1) == 360
    assert pictures.side(360, 96) == 180 and pictures.side(150, 10_000) == 64
