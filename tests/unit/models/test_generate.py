"""Generative models: what is asked and answered, against plain loops of one question at a time."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from tests.miniature.generative import TEXT as SIZES
from tests.miniature.generative import write_florence, write_llava, write_smolvlm
from vle_bench.data.asking import Questions, Words
from vle_bench.data.collate import NO_CHOICE
from vle_bench.errors import RequestError
from vle_bench.models.base import Way
from vle_bench.models.generate import load, read
from vle_bench.models.generative_answers import as_bytes, from_bytes

QUESTIONS = [
    "How many are there?",
    "What color is it",
    "Is the very small thing red, or is it blue?",
    "Why?",
    "¿Qué es “esto” 🦆?",
    "What color is it?",
    "How many very large boxes are there in this picture of a room?",
]
CHOICES = [["red", "blue box"], ["yes", "no", "a very large red thing"], *([["2", "room"]] * 5)]
ASK = "Answer the question using a single word or phrase."
GENERATION, LETTER, TEXT = (Way(p) for p in ("generation", "choice-letter", "choice-text"))
IMAGE_INDEX = np.array([0, 0, 1, 2, 0, 2, 1])
WRITE = {"smolvlm": write_smolvlm, "llava": write_llava}


@pytest.fixture(scope="module", params=WRITE)
def folder(tmp_path_factory, request):
    words = [*QUESTIONS, *sum(CHOICES, []), ASK, "A B C"]
    try:
        return WRITE[request.param](tmp_path_factory.mktemp("generative") / request.param, words)
    except ImportError as error:  # transformers 5.17 has Idefics3's pictures by torchvision alone
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return write_llava(tmp_path_factory.mktemp("generative") / "one", [*QUESTIONS, ASK])


def pictures() -> list[Image.Image]:
    drawn = np.random.default_rng(0)
    shapes = [(40 + 9 * i, 60 - 5 * i, 3) for i in range(3)]
    return [Image.fromarray(drawn.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]


def asked(asking, rows=range(7), choices=None):
    rows = list(rows)
    used, index = np.unique(IMAGE_INDEX[rows], return_inverse=True)
    listed = None if choices is None else [choices[i] for i in rows]
    questions = Questions(rows, [QUESTIONS[i] for i in rows], listed)
    return asking.ask([pictures()[i] for i in used], index, questions)


class Plain:
    """One text at a time, by nothing but the library's processor and forward pass."""

    def __init__(self, folder):
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder).eval()

    def prompt(self, text):
        content = [{"type": "image"}, {"type": "text", "text": text}]
        return self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True
        )

    def inputs(self, row, text):
        more = {} if "USER" in text else {"add_special_tokens": False}
        picture = pictures()[IMAGE_INDEX[row]]
        return self.processor(text=text, images=[[picture]], return_tensors="pt", **more)

    @torch.no_grad()
    def greedy(self, row, text, steps=16):
        """Extend the ids by the likeliest token: the answer, and its log-likelihood."""
        inputs, total, words = self.inputs(row, text), 0.0, []
        for _ in range(steps):
            log_probs = self.model(**inputs).logits[0, -1].log_softmax(-1)
            word = int(log_probs.argmax())
            total += log_probs[word].item()
            words.append(word)
            if word == self.processor.tokenizer.eos_token_id:
                break
            more = torch.tensor([[word]])
            inputs["input_ids"] = torch.cat([inputs["input_ids"], more], 1)
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        return self.processor.tokenizer.decode(words, skip_special_tokens=True), total, words

    @torch.no_grad()
    def log_likelihood(self, row, prompt, end):
        before = self.inputs(row, prompt)["input_ids"].shape[1]
        inputs = self.inputs(row, prompt + end)
        log_probs = self.model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0]
        assert len(ids) > before
        return sum(log_probs[i - 1, ids[i]].item() for i in range(before, len(ids)))


@torch.no_grad()
def test_answers_are_those_of_a_greedy_loop_over_one_question(folder):
    asking, plain = read(folder, GENERATION), Plain(folder)
    words = load(folder, asking, []).eval()(**asked(asking))
    assert isinstance(words, Words) and words.finite == [True] * 7
    assert len({row["answer"] for row in words.rows}) >= 5
    for row, answered in enumerate(words.rows):
        prompt = plain.prompt(f"{QUESTIONS[row]}\n{ASK}")
        text, total, tokens = plain.greedy(row, prompt)
        assert answered["text"] == text and answered["answer"] == text.strip()
        assert answered["asked"] == prompt
        assert answered["score"] == pytest.approx(np.exp(total), abs=1e-5)
        assert answered["cut"] == (tokens[-1] != plain.processor.tokenizer.eos_token_id)


@torch.no_grad()
@pytest.mark.parametrize("way", [GENERATION, LETTER, TEXT], ids=lambda way: way.protocol)
def test_the_batch_does_not_change_an_answer(folder, way):
    asking = read(folder, way)
    model, choices = load(folder, asking, []).eval(), None if way == GENERATION else CHOICES
    whole = model(**asked(asking, choices=choices))
    for rows in ([0], [3], [6, 2], [5, 4, 3, 2, 1]):
        part = model(**asked(asking, rows, choices))
        if way == GENERATION:
            expected = [whole.rows[i] for i in rows]
            assert [one["text"] for one in part.rows] == [one["text"] for one in expected]
            scores = [one["score"] for one in expected]
            assert [one["score"] for one in part.rows] == pytest.approx(scores, abs=2e-6)
        else:
            same = whole.logits[rows][:, : part.logits.shape[1]]
            torch.testing.assert_close(part.logits, same, atol=1e-4, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("way", [LETTER, TEXT], ids=lambda way: way.protocol)
def test_choices_are_scored_as_in_a_plain_loop(folder, way):
    asking, plain = read(folder, way), Plain(folder)
    logits = load(folder, asking, []).eval()(**asked(asking, choices=CHOICES)).logits
    assert logits.shape == (7, 3)
    for row, choices in enumerate(CHOICES):
        if way == LETTER:
            listed = "\n".join(f"{a}. {text}" for a, text in zip("ABC", choices, strict=False))
            end = "Answer with the option's letter from the given choices directly."
            prompt, ends = plain.prompt(f"{QUESTIONS[row]}\n{listed}\n{end}"), "ABC"
        else:
            prompt, ends = plain.prompt(QUESTIONS[row]), choices
        expected = [
            plain.log_likelihood(row, prompt, f" {e}") for e, _ in zip(ends, choices, strict=False)
        ]
        assert logits[row, : len(choices)].tolist() == pytest.approx(expected, abs=1e-4)
        assert (logits[row, len(choices) :] == NO_CHOICE).all()
    assert len(set(logits.argmax(1).tolist())) > 1


@torch.no_grad()
def test_letters_of_several_tokens_are_scored_like_texts(folder):
    """The words of this tokenizer have no letter after a space in them."""
    asking = read(folder, LETTER)
    tensors = asked(asking, choices=CHOICES)
    assert "options" in tensors and "added" not in tensors
    of_texts = asked(read(folder, TEXT), choices=CHOICES)
    assert "added" in of_texts and len(of_texts["input_ids"]) == sum(map(len, CHOICES))


def test_bytes_hold_any_text():
    texts = ["¿Qué es “esto” 🦆?\n", "", "a"]
    assert from_bytes(as_bytes(texts)) == texts


def test_the_facts_say_what_was_asked(llava):
    assert read(llava, GENERATION).facts == {
        "class": "LlavaForConditionalGeneration",
        "protocol": "generation",
        "prompt": "{question}\nAnswer the question using a single word or phrase.",
        "asked_with": "chat template",
        "pictures": "CLIPImageProcessorPil",
        "max_new_tokens": 16,
    }
    own = Way("choice-letter", prompt="{choices} {question}?")
    assert read(llava, own).facts["prompt"] == "{choices} {question}?"


@torch.no_grad()
def test_ones_own_prompt_is_asked(llava):
    asking = read(llava, Way("generation", prompt="Q: {question} {A}:"))
    words = load(llava, asking, []).eval()(**asked(asking, [3]))
    assert words.rows[0]["asked"] == "USER: <image>\nQ: Why? {A}: ASSISTANT:"


@torch.no_grad()
def test_generation_is_greedy_whatever_the_folder_says(llava, tmp_path):
    copy = shutil.copytree(llava, tmp_path / "copy")
    settings = json.loads((copy / "generation_config.json").read_text(encoding="utf-8"))
    settings |= {"do_sample": True, "temperature": 9.0, "repetition_penalty": 3.0, "num_beams": 4}
    (copy / "generation_config.json").write_text(json.dumps(settings), encoding="utf-8")
    outputs = []
    for path in (llava, copy):
        asking = read(path, GENERATION)
        outputs.append(load(path, asking, []).eval()(**asked(asking)).rows)
    assert outputs[0] == outputs[1]


@torch.no_grad()
def test_without_a_chat_template_a_whole_prompt_is_needed(llava, tmp_path):
    copy = shutil.copytree(llava, tmp_path / "copy")
    (copy / "chat_template.jinja").unlink()
    with pytest.raises(
        RequestError, match=r"has no chat template \(chat_template.jinja\).*--prompt"
    ):
        read(copy, GENERATION)
    asking = read(copy, Way("generation", prompt="USER: <image>{question}"))
    assert asking.facts["asked_with"] == "prompt alone"
    words = load(copy, asking, []).eval()(**asked(asking, [3]))
    assert words.rows[0]["asked"] == "USER: <image>Why?"
    with pytest.raises(RequestError, match="cannot be asked: .*the processor cannot take"):
        read(copy, Way("generation", prompt="no picture: {question}"))


@torch.no_grad()
def test_a_weight_that_is_nan_is_seen(llava):
    for way, choices in ((GENERATION, None), (LETTER, CHOICES), (TEXT, CHOICES)):
        asking = read(llava, way)
        model = load(llava, asking, []).eval()
        model.model.lm_head.weight[7] = float("nan")
        output = model(**asked(asking, choices=choices))
        if way == GENERATION:
            assert output.finite == [False] * 7
        else:
            assert not output.logits.isfinite().all(1).any()


@torch.no_grad()
def test_an_empty_answer_is_an_answer(llava):
    asking = read(llava, GENERATION)
    model = load(llava, asking, []).eval()
    end = model.tokenizer.eos_token_id
    model.model.lm_head.weight.zero_()
    model.model.model.language_model.norm.weight.fill_(1.0)
    model.model.generation_config.eos_token_id = [0, end]  # all logits are equal: token 0 is first
    words = model(**asked(asking, [0, 1]))
    assert [row["answer"] for row in words.rows] == ["", ""]
    assert [row["cut"] for row in words.rows] == [False, False] and words.finite == [True, True]


@pytest.mark.parametrize(
    ("way", "choices", "said"),
    [
        (GENERATION, CHOICES, "these questions have choices"),
        (LETTER, None, "these questions have no choices"),
        (LETTER, [["x"] * 27] * 7, "27 choices, and there are 26 letters"),
    ],
)
def test_questions_of_another_form_are_refused(llava, way, choices, said):
    with pytest.raises(RequestError, match=said):
        asked(read(llava, way), choices=choices)


def test_a_question_with_the_token_of_a_picture_is_named(llava):
    questions = Questions([41], ["What is <image> here?"], None)
    with pytest.raises(RequestError, match="cannot take the questions 41: "):
        read(llava, GENERATION).ask(pictures()[:1], np.zeros(1, np.int64), questions)


@pytest.mark.parametrize(
    ("way", "said"),
    [
        (Way("choice-letter", prompt="{question}"), r"has no \{choices\}"),
        (Way("generation", prompt="{question}{choices}"), r"\{choices\} means nothing"),
        (Way("generation", max_text_length=9), "--max-text-length: means nothing"),
    ],
)
def test_prompts_that_do_not_fit_the_protocol_are_refused(llava, way, said):
    with pytest.raises(RequestError, match=said):
        read(llava, way)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("processor_config.json", None, "no processor can be loaded"),
        ("tokenizer.json", "{", "no processor can be loaded"),
        ("chat_template.jinja", "{{ raise_exception('only two roles') }}", "cannot be asked: only"),
        ("chat_template.jinja", "{% for", "cannot be asked"),
        ("model.safetensors", "x", "the weights cannot be loaded"),
    ],
)
def test_damaged_folders_are_refused(llava, tmp_path, name, content, said):
    copy = shutil.copytree(llava, tmp_path / "copy")
    if content is None:
        (copy / name).unlink()
    else:
        (copy / name).write_text(content, encoding="utf-8")
    with pytest.raises(RequestError, match=said) as refused:
        load(copy, read(copy, GENERATION), [])
    assert str(copy) in str(refused.value) and "\n" not in str(refused.value)


@torch.no_grad()
def test_an_encoder_decoder_is_padded_on_the_right(tmp_path):
    """BART counts positions from the first token, so that padding on the left would move them."""
    folder = write_florence(tmp_path / "florence", QUESTIONS)
    with pytest.raises(
        RequestError, match="has no chat template .*'<VQA>{question}' for Florence-2"
    ):
        read(folder, GENERATION)
    asking = read(folder, Way("generation", prompt="<VQA>{question}"))
    answers = load(folder, asking, []).eval()
    together = answers(**asked(asking)).rows
    assert len({row["text"] for row in together}) >= 4
    plain = AutoModelForImageTextToText.from_pretrained(folder).eval()
    plain.generation_config.forced_eos_token_id = None  # BART's: in the place of the last token
    for i, row in enumerate(together):
        (alone,) = answers(**asked(asking, [i])).rows
        assert alone["text"] == row["text"]
        assert alone["score"] == pytest.approx(row["score"], abs=2e-6)
        inputs = {k: v for k, v in asked(asking, [i]).items() if k != "asked"}
        ids = plain.generate(**inputs, max_new_tokens=16, do_sample=False, num_beams=1)
        assert row["text"] == asking.processor.decode(ids[0], skip_special_tokens=True)
    with pytest.raises(RequestError, match="an encoder-decoder; --protocol choice-text scores"):
        read(folder, Way("choice-text", prompt="<VQA>{question}"))


@torch.no_grad()
def test_a_very_long_answer_is_kept_whole(llava, tmp_path):
    """16 tokens may be of any length."""
    copy = shutil.copytree(llava, tmp_path / "copy")
    asking = read(copy, GENERATION)
    asking.processor.tokenizer.add_tokens(["long " * 2000])
    model = load(copy, asking, []).eval()
    long = len(asking.processor.tokenizer) - 1
    model.model.resize_token_embeddings(long + 1)
    model.model.lm_head = torch.nn.Linear(SIZES["hidden_size"], long + 1)
    model.model.lm_head.weight.zero_()
    model.model.lm_head.bias.zero_()[long] = 1.0
    (row,) = model(**asked(asking, [0])).rows
    assert row["cut"] and row["answer"].count("long") == 32_000
