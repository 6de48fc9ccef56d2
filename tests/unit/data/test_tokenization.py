"""A tokenizer gives the ids of its file: those of the sentencepiece library, also where a text is not plain ASCII."""

import copy
import json
import random
import re
import shutil
from pathlib import Path

import pytest
import sentencepiece
from tokenizers import Tokenizer, normalizers
from transformers import AutoProcessor, AutoTokenizer, DebertaV2Tokenizer

from vle_bench.data.prepare.vqa_summary import load_tokenizer as load_for_preparation
from vle_bench.data.tokenization import TOKENIZER_FILES, load_tokenizer, train_tokenizer
from vle_bench.data.vcr_text import encode_record
from vle_bench.errors import RequestError
from vle_bench.models import VLEConfig, VLEForVQA, VLEProcessor, pretrained

GOLDEN = Path(__file__).parents[2] / "golden" / "vcr_text"
ODD = json.loads(
    (GOLDEN / "odd_texts.json").read_text(encoding="utf-8")
)  # texts, and the ids of sentencepiece 0.2.3
TEXTS, IDS = [row["text"] for row in ODD], [row["ids"] for row in ODD]


@pytest.fixture(scope="module")
def reference():
    return sentencepiece.SentencePieceProcessor(model_file=str(GOLDEN / "tokenizer" / "spm.model"))


def ids(tokenizer, texts):
    return tokenizer(texts, add_special_tokens=False)["input_ids"]


def differences(tokenizer, texts=TEXTS, expected=IDS):
    return [
        (text, theirs, ours)
        for text, theirs, ours in zip(texts, expected, ids(tokenizer, texts), strict=True)
        if theirs != ours
    ]


def published_folder(folder, with_json=False):
    """A folder as VLE was released: a checkpoint, spm.model and a preprocessor_config.json of transformers 4."""
    shutil.copytree(Path(__file__).parents[2] / "golden" / "vle" / "VLEForVQA", folder)
    for file in (GOLDEN / "tokenizer").iterdir():
        shutil.copy(file, folder)
    size = {
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        "do_center_crop": True,
    }
    kind = {"image_processor_type": "CLIPImageProcessor", "processor_class": "VLEProcessor"}
    (folder / "preprocessor_config.json").write_text(json.dumps(size | kind), encoding="utf-8")
    return folder


def test_odd_texts_are_many_and_differ_in_transformers():
    assert len(TEXTS) >= 200
    assert (
        len(differences(AutoTokenizer.from_pretrained(str(GOLDEN / "tokenizer")))) > 100
    )  # else nothing is tested here


def test_the_golden_ids_are_those_of_the_library(reference):
    assert IDS == [reference.encode(text) for text in TEXTS]


def test_ids_of_a_published_folder_wherever_it_is_loaded(tmp_path):
    folder = published_folder(tmp_path / "published")
    given = AutoTokenizer.from_pretrained(
        str(GOLDEN / "tokenizer")
    )  # loaded by the user, handed to a processor
    for tokenizer in (
        load_tokenizer(GOLDEN / "tokenizer"),
        load_for_preparation(GOLDEN / "tokenizer"),
        AutoProcessor.from_pretrained(str(folder)).tokenizer,
        VLEProcessor.from_pretrained(str(folder)).tokenizer,
        pretrained.load_processor(folder).tokenizer,
        VLEProcessor.from_parts(given, 32).tokenizer,
    ):
        assert differences(tokenizer) == []


def test_saved_and_loaded_again(tmp_path):
    processor = VLEProcessor.from_pretrained(str(published_folder(tmp_path / "published")))
    model = VLEForVQA(VLEConfig.from_pretrained(str(tmp_path / "published")))
    pretrained.save(tmp_path / "best", model, processor, [], {})
    again = pretrained.load_processor(tmp_path / "best")
    assert not (tmp_path / "best" / "spm.model").exists()
    again.save_pretrained(tmp_path / "twice")
    for folder in ("best", "twice"):
        for loaded in (
            pretrained.load_processor(tmp_path / folder),
            AutoProcessor.from_pretrained(str(tmp_path / folder)),
        ):
            assert differences(loaded.tokenizer) == []


def test_a_tokenizer_json_is_taken_at_its_word(tmp_path):
    """A run that was trained through another normaliser keeps it, and the file of transformers 4 has its own."""
    former = AutoTokenizer.from_pretrained(str(GOLDEN / "tokenizer"))  # transformers 5's normaliser
    former.save_pretrained(tmp_path / "former")
    assert ids(load_tokenizer(tmp_path / "former"), TEXTS) == ids(former, TEXTS)
    backend = Tokenizer.from_file(str(tmp_path / "former" / "tokenizer.json"))
    backend.normalizer = normalizers.Lowercase()
    backend.save(str(tmp_path / "former" / "tokenizer.json"))
    loaded = load_tokenizer(tmp_path / "former")
    assert isinstance(loaded, DebertaV2Tokenizer) and ids(loaded, ["THE MAN"]) == ids(
        loaded, ["the man"]
    )


def test_a_tokenizer_whose_folder_has_gone(tmp_path):
    """Its rules are kept where they were read, and cannot be guessed where they were not."""
    shutil.copytree(GOLDEN / "tokenizer", tmp_path / "folder")
    known, unknown = (
        load_tokenizer(tmp_path / "folder"),
        AutoTokenizer.from_pretrained(str(tmp_path / "folder")),
    )
    shutil.rmtree(tmp_path / "folder")
    assert differences(VLEProcessor.from_parts(known, 32).tokenizer) == []
    assert differences(VLEProcessor.from_parts(copy.deepcopy(known), 32).tokenizer) == []
    with pytest.raises(
        ValueError,
        match="folder: neither its tokenizer.json nor its spm.model is there, so that its normaliser",
    ):
        VLEProcessor.from_parts(unknown, 32)


def test_a_tokenizer_from_scratch_stays_as_it_was_built():
    tokenizer = train_tokenizer(["what is this?"], 64)
    before = tokenizer.backend_tokenizer.to_str()
    assert VLEProcessor.from_parts(tokenizer, 32).tokenizer.backend_tokenizer.to_str() == before


def test_random_texts(reference):
    """Any characters; letters with up to one mark above, in any script; and Vietnamese in its decomposed form."""
    draw = random.Random(0)
    letters = "aeiouyAEnc½²…Ａ１Ω①ℌカｶ\u00a0\u200b\u3000अกé"
    texts = []
    for _ in range(2000):
        anything = [
            chr(code)
            for code in (draw.randrange(1, 0x30000) for _ in range(6))
            if not 0xD800 <= code < 0xE000
        ]
        texts.append(" ".join(anything))
        texts.append(
            "".join(
                letter + draw.choice(["", "\u0301", "\u0308"])
                for letter in draw.choices(letters, k=6)
            )
        )
        texts.append(
            "".join(
                draw.choice(
                    ["e\u0302\u0301", "a\u0323\u0302", "o\u031b\u0300", "u\u0308", "i", " "]
                )
                for _ in range(6)
            )
        )
    tokenizer = load_tokenizer(GOLDEN / "tokenizer")
    assert differences(tokenizer, texts, [reference.encode(text) for text in texts]) == []
    # The small vocabulary has one id for most characters: what they become is compared as well.
    rules = sentencepiece.SentencePieceNormalizer(
        model_file=str(GOLDEN / "tokenizer" / "spm.model")
    )
    for text in (*texts, *TEXTS):
        ours = tokenizer.backend_tokenizer.normalizer.normalize_str(text)
        assert ours == rules.normalize(text).replace("▁", " ").strip(" "), ascii(text)


def test_words_of_a_vcr_record(reference):
    words = ["½", "ﬁne", "caf\u0065\u0301", "１２", "\u2026", "he\u00a0is", "ﬁ…", "²"]
    record = {
        "annot_id": "val-1",
        "objects": [],
        "question": words,
        "answer_choices": [[word] for word in words],
    }
    for word, choice in zip(
        words, encode_record(record, load_tokenizer(GOLDEN / "tokenizer"), "q2a"), strict=True
    ):
        expected = [piece for each in words for piece in reference.encode(f" {each}")]
        assert choice["input_ids"] == [1, *expected, 2, *reference.encode(f" {word}"), 2]


@pytest.fixture(scope="module")
def questions():
    """All questions of easy-VQA."""
    easy_vqa = pytest.importorskip("easy_vqa")
    return sorted(set(easy_vqa.get_train_questions()[0]) | set(easy_vqa.get_test_questions()[0]))


def test_a_word_is_a_token(questions):
    tokenizer = train_tokenizer(questions, 100)
    assert len(tokenizer) <= 100
    for text in questions:
        assert len(tokenizer.tokenize(text)) == len(text.replace("?", " ?").split()), text


def test_saved_and_loaded_it_gives_the_same_ids(questions, tmp_path):
    tokenizer = train_tokenizer(questions, 100)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(str(tmp_path))
    assert again(questions).input_ids == tokenizer(questions).input_ids
    assert tokenizer.unk_token_id not in set().union(*tokenizer(questions).input_ids)


def test_too_small_a_vocabulary_spells_words(questions):
    tokenizer = train_tokenizer(questions, 45)
    pieces = tokenizer.tokenize(questions[0])
    assert (
        len(pieces) > len(questions[0].split())
        and "".join(pieces).replace("▁", " ").strip() == questions[0]
    )


def test_a_folder_without_a_tokenizer_is_said_to_lack_its_file(tmp_path):
    shutil.copytree(GOLDEN / "tokenizer", tmp_path / "t")
    for name in TOKENIZER_FILES:
        (tmp_path / "t" / name).unlink(missing_ok=True)
    pictures = tmp_path / "t" / "preprocessor_config.json"
    pictures.write_text('{"image_processor_type": "CLIPImageProcessor"}', encoding="utf-8")
    message = f"neither spm.model nor tokenizer.json is in {tmp_path / 't'}"
    for load in (load_tokenizer, pretrained.read_processor):
        with pytest.raises((FileNotFoundError, RequestError), match=re.escape(message)):
            load(tmp_path / "t")
