"""BLIP asked as published: its input, its ranking against a plain double loop, and what is refused."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from transformers import AutoTokenizer, BlipForQuestionAnswering

from tests.miniature.blip import write_blip
from vle_bench.data.asking import Questions, Words
from vle_bench.data.collate import NO_CHOICE
from vle_bench.errors import RequestError
from vle_bench.models.base import Way
from vle_bench.models.blip import load, question_text, read

QUESTIONS = [
    "How many are there?",
    "What color is it",
    "Is the very small thing red, or is it blue?",
    "Why?",
    "What is to the left of the large (red) box?",
    "What color is it?",
    "How many very large boxes are there in this picture of a room?",
]
WORDS = ["red", "blue", "yes", "no", "2", "box", "large", "room", "thing", "left", "very"]
ANSWERS = [*WORDS, *(f"{a} {b}" for a in WORDS[:6] for b in WORDS[3:]), "a very large red box"]
RANKING, GENERATION = Way("ranking-128"), Way("generation")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_blip(tmp_path_factory.mktemp("blip") / "tiny", [*QUESTIONS, *ANSWERS])


def pictures(count: int, seed: int = 0) -> list[Image.Image]:
    drawn = np.random.default_rng(seed)
    shapes = [(40 + 7 * i, 60 - 5 * i, 3) for i in range(count)]
    return [Image.fromarray(drawn.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]


IMAGE_INDEX = np.array([0, 0, 1, 2, 0, 2, 1])


def asked(asking, rows=range(7), choices=None):
    """The tensors of some of the questions, with only the pictures that they look at."""
    rows = list(rows)
    used, index = np.unique(IMAGE_INDEX[rows], return_inverse=True)
    own = [pictures(3)[i] for i in used]
    listed = None if choices is None else [choices[i] for i in rows]
    return asking.ask(own, index, Questions(rows, [QUESTIONS[i] for i in rows], listed))


@torch.no_grad()
def double_loop(folder, row, answers, candidates=128):
    """Rank as published with the parts of transformers alone: one question, one answer at a time."""
    model = BlipForQuestionAnswering.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    picture = pictures(3)[IMAGE_INDEX[row]].resize((480, 480), Image.Resampling.BICUBIC)
    mean = torch.tensor([0.48145466, 0.4578275, 0.40821073])
    std = torch.tensor([0.26862954, 0.26130258, 0.27577711])
    pixels = ((torch.tensor(np.asarray(picture)) / 255 - mean) / std).permute(2, 0, 1)[None]
    image = model.vision_model(pixels, interpolate_pos_encoding=True).last_hidden_state
    enc = model.config.text_config.bos_token_id + 1
    text = QUESTIONS[row].lower().replace("(", "").replace(")", "")
    ids = [enc, *tokenizer(text)["input_ids"][1:]]
    states = model.text_encoder(torch.tensor([ids]), encoder_hidden_states=image).last_hidden_state
    sequences = [[enc - 1, *tokenizer(answer)["input_ids"][1:]] for answer in answers]
    start = model.text_decoder(torch.tensor([[enc - 1]]), encoder_hidden_states=states)
    first = start.logits[0, 0].softmax(-1)
    order = sorted(range(len(answers)), key=lambda i: (-first[sequences[i][1]].item(), i))
    scores = {}
    for i in order[:candidates]:
        logits = model.text_decoder(
            torch.tensor([sequences[i]]), encoder_hidden_states=states
        ).logits[0]
        loss = cross_entropy(
            logits[:-1], torch.tensor(sequences[i][1:]), label_smoothing=0.1, reduction="sum"
        )
        scores[i] = -loss.item()
    return scores


@torch.no_grad()
@pytest.mark.parametrize("row", range(3))
def test_ranking_equals_a_double_loop_with_the_parts_of_transformers(folder, row):
    asking = read(folder, RANKING)
    logits = load(folder, asking, ANSWERS).eval()(**asked(asking)).logits[row]
    expected = double_loop(folder, row, ANSWERS)
    assert logits.argmax().item() == max(expected, key=expected.__getitem__)
    likelihoods = torch.nn.functional.logsigmoid(logits)
    found = {i: likelihoods[i].item() for i in range(len(ANSWERS))}
    assert found == pytest.approx(expected, abs=1e-5)


@torch.no_grad()
def test_only_candidates_can_be_chosen(folder):
    asking = read(folder, RANKING)
    answers = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS[:2]]
    logits = load(folder, asking, answers)(**asked(asking)).logits
    assert logits.shape == (7, len(answers)) and len(answers) == 242
    assert ((logits != NO_CHOICE).sum(1) == 128).all() and logits.isfinite().all()
    expected = double_loop(folder, 3, answers)
    assert set((logits[3] != NO_CHOICE).nonzero()[:, 0].tolist()) == set(expected)


@torch.no_grad()
@pytest.mark.parametrize("way", [RANKING, GENERATION], ids=lambda way: way.protocol)
def test_the_batch_does_not_change_an_answer(folder, way):
    asking = read(folder, way)
    model = load(folder, asking, ANSWERS).eval()
    whole = model(**asked(asking))
    for rows in ([0], [3], [6, 2], [5, 4, 3, 2, 1]):
        part = model(**asked(asking, rows))
        if way == RANKING:
            torch.testing.assert_close(part.logits, whole.logits[rows], atol=1e-4, rtol=1e-5)
        else:
            assert [one["answer"] for one in part.rows] == [whole.rows[i]["answer"] for i in rows]
            scores = [whole.rows[i]["score"] for i in rows]
            assert [one["score"] for one in part.rows] == pytest.approx(scores, abs=1e-5)


@torch.no_grad()
def test_generation_is_the_librarys_with_the_published_first_token(folder):
    asking = read(folder, GENERATION)
    words = load(folder, asking, []).eval()(**asked(asking))
    assert isinstance(words, Words) and words.finite == [True] * 7
    assert len({row["answer"] for row in words.rows}) > 2
    model, tokenizer = (
        BlipForQuestionAnswering.from_pretrained(folder).eval(),
        AutoTokenizer.from_pretrained(folder),
    )
    for row in range(7):
        inputs = asked(asking, [row])
        ids = model.generate(
            inputs["input_ids"],
            inputs["pixel_values"],
            inputs["attention_mask"],
            interpolate_pos_encoding=True,
            num_beams=3,
            max_length=10,
            min_length=1,
        )
        expected = tokenizer.decode(ids[0, 1:], skip_special_tokens=True)
        assert words.rows[row]["answer"] == expected
        assert 0 < words.rows[row]["score"] < 1


@torch.no_grad()
def test_choices_are_ranked_among_themselves(folder):
    asking = read(folder, RANKING)
    choices = [["red", "blue box"], ["no"], *([["a very large thing", "left", "2"]] * 5)]
    logits = load(folder, asking, ANSWERS).eval()(**asked(asking, choices=choices)).logits
    assert logits.shape == (7, 3)
    assert (logits == NO_CHOICE).tolist() == [
        [False, False, True],
        [False, True, True],
        *[[False] * 3] * 5,
    ]
    for row in (0, 2):
        expected = double_loop(folder, row, choices[row])
        assert logits[row, : len(expected)].tolist() == pytest.approx(
            [expected[i] for i in range(len(expected))], abs=1e-5
        )


def test_the_input_is_the_published_one(folder):
    asking = read(folder, RANKING)
    inputs = asked(asking)
    words = asking.tokenizer.convert_ids_to_tokens
    assert inputs["pixel_values"].shape == (3, 3, 480, 480)
    first, *rest = inputs["input_ids"][4][inputs["attention_mask"][4].bool()].tolist()
    assert first == len(asking.tokenizer) + 1  # [ENC] follows [DEC], which follows the words
    assert "(" not in words(rest) and words(rest)[-1] == "[SEP]"
    long = asking.ask(pictures(1), np.array([0]), Questions([0], ["very " * 60], None))
    assert long["input_ids"].shape == (1, 35)
    assert asking.facts == {
        "class": "BlipForQuestionAnswering",
        "protocol": "ranking-128",
        "pictures": "squashed to 480 × 480",
        "max_text_length": 35,
    }


@pytest.mark.parametrize(
    ("question", "expected"),
    [
        ("What color is it?", "what color is it?"),
        ('Is "this" (a) red: thing; or #2 ~*!.', "is this a red thing or 2"),
        ("it's o'clock, isn't-it?  ", "it's o'clock, isn't-it?"),
        ("word " * 60, " ".join(["word"] * 50)),
        ("", ""),
    ],
)
def test_question_text(question, expected):
    assert question_text(question) == expected


def damaged(folder, tmp_path, name, edit):
    import shutil

    copy = shutil.copytree(folder, tmp_path / "copy")
    if edit is None:
        (copy / name).unlink()
    else:
        content = json.loads((copy / name).read_text(encoding="utf-8"))
        edit(content)
        (copy / name).write_text(json.dumps(content), encoding="utf-8")
    return copy


@pytest.mark.parametrize(
    ("name", "edit", "said"),
    [
        ("preprocessor_config.json", None, "has no preprocessor_config.json"),
        ("preprocessor_config.json", lambda c: c.update(image_mean=[1]), "no processor can be"),
        ("config.json", lambda c: c["text_config"].update(vocab_size=40), "not of one checkpoint"),
        ("config.json", lambda c: c.update(text_config=7), "no processor can be loaded"),
    ],
)
def test_files_that_do_not_fit_are_refused(folder, tmp_path, name, edit, said):
    with pytest.raises(RequestError, match=said):
        read(damaged(folder, tmp_path, name, edit), RANKING)


def test_the_processor_may_be_saved_as_transformers_5_does(folder, tmp_path):
    copy = damaged(folder, tmp_path, "config.json", lambda c: None)
    settings = json.loads((copy / "preprocessor_config.json").read_text(encoding="utf-8"))
    (copy / "preprocessor_config.json").unlink()
    whole = {"processor_class": "BlipProcessor", "image_processor": settings}
    (copy / "processor_config.json").write_text(json.dumps(whole), encoding="utf-8")
    expected, there = (read(path, RANKING).image_processor.to_dict() for path in (folder, copy))
    assert there == expected
    (copy / "processor_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(RequestError, match="nor an image_processor in"):
        read(copy, RANKING)


def test_other_requests_that_cannot_be_met(folder, tmp_path):
    with pytest.raises(RequestError, match="--max-text-length 65: .* 64 tokens"):
        read(folder, Way("ranking-128", max_text_length=65))
    with pytest.raises(RequestError, match="nothing to rank: --answers"):
        load(folder, read(folder, RANKING), [])
    copy = damaged(folder, tmp_path, "model.safetensors", None)
    with pytest.raises(RequestError, match="the weights cannot be loaded"):
        load(copy, read(copy, RANKING), ["yes"])


@torch.no_grad()
@pytest.mark.parametrize("way", [RANKING, GENERATION], ids=lambda way: way.protocol)
def test_a_weight_that_is_nan_is_seen(folder, way):
    asking = read(folder, way)
    model = load(folder, asking, ANSWERS).eval()
    model.model.text_encoder.encoder.layer[0].output.dense.bias[0] = float("nan")
    output = model(**asked(asking))
    if way == RANKING:
        assert not output.logits.isfinite().all(1).any()
    else:
        assert output.finite == [False] * 7
