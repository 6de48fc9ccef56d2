"""The small tokenizer on the questions of easy-VQA."""

import pytest

from vle_bench.data.tokenizer import train_tokenizer

easy_vqa = pytest.importorskip("easy_vqa")


@pytest.fixture(scope="module")
def texts():
    return sorted(set(easy_vqa.get_train_questions()[0]) | set(easy_vqa.get_test_questions()[0]))


def test_a_word_is_a_token(texts):
    tokenizer = train_tokenizer(texts, 100)
    assert len(tokenizer) <= 100
    for text in texts:
        assert len(tokenizer.tokenize(text)) == len(text.replace("?", " ?").split()), text


def test_saved_and_loaded_it_gives_the_same_ids(texts, tmp_path):
    tokenizer = train_tokenizer(texts, 100)
    tokenizer.save_pretrained(tmp_path)
    again = type(tokenizer).from_pretrained(str(tmp_path))
    assert again(texts).input_ids == tokenizer(texts).input_ids
    assert tokenizer.unk_token_id not in set().union(*tokenizer(texts).input_ids)


def test_too_small_a_vocabulary_spells_words(texts):
    tokenizer = train_tokenizer(texts, 45)
    pieces = tokenizer.tokenize(texts[0])
    assert (
        len(pieces) > len(texts[0].split())
        and "".join(pieces).replace("▁", " ").strip() == texts[0]
    )
