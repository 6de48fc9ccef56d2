"""Only `models/vle/` knows what a VLE is made of; the rest asks by the methods of `models/base.py`."""

import ast
import re
from pathlib import Path

import pytest

from vle_bench.models import VLEConfig, VLEForVQA
from vle_bench.models.base import Predictor, TrainableModel

PACKAGE = Path(__file__).parents[2] / "vle_bench"
MEMBERS = re.compile(
    r"\b(text_model|vision_model|token_type_embeddings|(text|image)_projection_layer"
    r"|cross_modal_(text|image)_\w+)\b"
)
# These have a member of the same name.
OWN_MEMBERS = {PACKAGE / "models" / name for name in ("blip.py", "vilt/modeling.py")}
OUTSIDE = sorted(
    file
    for file in {*PACKAGE.rglob("*.py")} - OWN_MEMBERS
    if PACKAGE / "models" / "vle" not in file.parents
)


def named_members(source: str) -> set[str]:
    """Members of VLE that code names: as an attribute, a variable or within a string."""
    words = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            words.append(node.attr)
        elif isinstance(node, ast.Name):
            words.append(node.id)
        elif isinstance(node, ast.keyword | ast.arg) and node.arg:
            words.append(node.arg)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            words.append(node.value)
    return {match[0] for word in words for match in MEMBERS.finditer(word)}


@pytest.mark.parametrize("file", OUTSIDE, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_no_other_module_names_a_member(file: Path) -> None:
    assert named_members(file.read_text(encoding="utf-8")) == set()


@pytest.mark.parametrize(
    "source",
    [
        "model.vle.text_model",
        "getattr(m, 'vle.vision_model')",
        "layers += base.cross_modal_text_layers",
    ],
)
def test_a_named_member_is_seen(source: str) -> None:
    assert named_members(source)


def tiny(text_type: str) -> VLEForVQA:
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    text = {**sizes, "model_type": text_type, "vocab_size": 32}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    return VLEForVQA(VLEConfig(text_config=text, vision_config=vision, **sizes))


@pytest.mark.parametrize("text_type", ["deberta-v2", "roberta"])
def test_the_model_answers_all_that_is_asked(text_type: str) -> None:
    model = tiny(text_type)
    assert isinstance(model, Predictor) and isinstance(model, TrainableModel)
    base = model.vle
    assert model.shard_layers() == [
        *base.text_model.encoder.layer,
        *base.vision_model.encoder.layers,
        *base.cross_modal_text_layers,
        *base.cross_modal_image_layers,
    ]
    assert set(model.timed_parts()) == {"text", "vision"}
    assert model.grown_weights({"num_token_types": 1}) == 16
    assert model.grown_weights({}) == 0
