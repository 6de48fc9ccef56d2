"""Twins of the golden checkpoints in the published layout, and prepared data that they can be asked about."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from tests.miniature.vcr import write_vcr
from tests.miniature.vqav2 import write, write_vqav2
from vle_bench.data.prepare.vcr import prepare_vcr
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.tasks.vcr import texts_of

GOLDEN = Path(__file__).parents[1] / "golden" / "vle"
SIZE = 32  # of the golden checkpoints' pictures
# Not the miniature data's order, nor its answers only; 17 as the golden head.
ANSWERS = ["red", "no", "2", "blue", "3", *(f"thing {i}" for i in range(12))]
LOWEST, HIGHEST = -3.6, 4.2  # what the golden pixel values lie between
STD = 1 / (HIGHEST - LOWEST)
MEAN = -LOWEST * STD
# What the published folders' preprocessor_config.json holds: CLIP's resize of the shorter side and its centre crop.
PREPROCESSOR = {
    "crop_size": {"height": SIZE, "width": SIZE},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "feature_extractor_type": "CLIPFeatureExtractor",
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_processor_type": "CLIPImageProcessor",
    "image_std": [0.26862954, 0.26130258, 0.27577711],
    "processor_class": "VLEProcessor",
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": SIZE},
}


def write_twin(
    folder: Path, architecture: str, tokenizer: Any, pickled: bool = False, **preprocessor: Any
) -> Path:
    """config.json with id2label, weights, tokenizer and preprocessor, and nothing that vle-bench would add.

    Args:
        tokenizer: an object, or the folder of one; more embeddings are drawn for one of more words than the golden models know.
        pickled: pytorch_model.bin, not model.safetensors.
    """
    folder.mkdir(parents=True)
    config = json.loads((GOLDEN / architecture / "config.json").read_text(encoding="utf-8"))
    if architecture == "VLEForVQA":
        config["id2label"] = {str(i): answer for i, answer in enumerate(ANSWERS)}
        config["label2id"] = {answer: i for i, answer in enumerate(ANSWERS)}
    state = load_file(GOLDEN / architecture / "model.safetensors")
    if isinstance(tokenizer, Path):
        shutil.copytree(tokenizer, folder, dirs_exist_ok=True)
        words = len(AutoTokenizer.from_pretrained(tokenizer))
        name, drawn = (
            "vle.text_model.embeddings.word_embeddings.weight",
            torch.Generator().manual_seed(0),
        )
        more = (
            torch.randn(words - len(state[name]), state[name].shape[1], generator=drawn)
            * state[name].std()
        )
        state[name] = torch.cat([state[name], more])
        config["text_config"]["vocab_size"] = words
    else:
        tokenizer.save_pretrained(folder)
    write(folder / "config.json", config)
    if pickled:
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", {"format": "pt"})
    write(folder / "preprocessor_config.json", PREPROCESSOR | preprocessor)
    return folder


def word_tokenizer() -> PreTrainedTokenizerFast:
    """`w17` is token 17, between [CLS] and [SEP]: so the golden ids can be asked for as text."""
    special = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}
    words = Tokenizer(
        models.WordLevel(special | {f"w{i}": i for i in range(4, 200)}, unk_token="[UNK]")
    )
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        unk_token="[UNK]",
    )


def golden_logits() -> torch.Tensor:
    return load_file(GOLDEN / "VLEForVQA" / "expected.safetensors")["logits"]


def write_golden_questions(official: Path, answers: list[list[str]]) -> None:
    """The golden inputs as official files: three validation images, each with the golden pixels in its centre, and a question.

    Args:
        answers: the ten of each question.
    """
    inputs = load_file(GOLDEN / "VLEForVQA" / "inputs.safetensors")
    write_vqav2(official, train=6, val=3, test=4)
    questions, annotations = [], []
    for i, image_id in enumerate((1001, 1002, 1003)):
        pixels = inputs["pixel_values"][i].permute(1, 2, 0).numpy() * STD + MEAN
        wide = np.random.default_rng(i).integers(0, 256, (SIZE, SIZE + 22, 3), dtype=np.uint8)
        wide[:, 11 : 11 + SIZE] = (pixels * 255).round().clip(0, 255)
        path = official / "val2014" / f"COCO_val2014_{image_id:012d}.jpg"
        Image.fromarray(wide).save(path, format="png")  # a lossless one, whatever its name
        ids = inputs["input_ids"][i][inputs["attention_mask"][i].bool()].tolist()
        assert (ids[0], ids[-1]) == (1, 2)
        about = {"question_id": image_id * 1000, "image_id": image_id}
        questions.append({**about, "question": " ".join(f"w{token}" for token in ids[1:-1])})
        annotations.append(
            {
                **about,
                "question_type": "what",
                "answer_type": "other",
                "multiple_choice_answer": answers[i][0],
                "answers": [
                    {"answer_id": n, "answer": a, "answer_confidence": "yes"}
                    for n, a in enumerate(answers[i], 1)
                ],
            }
        )
    write(official / "v2_OpenEnded_mscoco_val2014_questions.json", {"questions": questions})
    write(official / "v2_mscoco_val2014_annotations.json", {"annotations": annotations})


def prepared_golden(folder: Path, answers: list[list[str]]) -> Path:
    write_golden_questions(folder / "official", answers)
    prepare_vqav2(folder / "official", folder / "data")
    return folder / "data"


def prepared_vcr(folder: Path) -> tuple[Path, Any]:
    """The miniature VCR, and a tokenizer of its words that the golden checkpoints have room for."""
    prepare_vcr(write_vcr(folder / "official"), folder / "data")
    return folder / "data", vcr_tokenizer(folder / "data")


def vcr_tokenizer(data: Path) -> Any:
    """A tokenizer of the words of prepared VCR's val."""
    records = (json.loads(r) for r in open_prepared(data).questions("val")["record"])
    return train_tokenizer((text for record in records for text in texts_of(record)), 200)
