"""The type table's own range of fresh rows; without one nothing changes."""

import pytest
import torch

from vle_bench.models import VLEConfig, VLEForVQA, VLEModel

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
PARTS = {
    "text_config": {**SMALL, "model_type": "deberta-v2", "vocab_size": 20, "intermediate_size": 16},
    "vision_config": {**SMALL, "image_size": 32, "patch_size": 16, "intermediate_size": 16},
}


def config(**changes):
    return VLEConfig(
        **PARTS,
        **SMALL,
        intermediate_size=16,
        initializer_range=0.1,
        num_token_types=400,
        **changes,
    )


def model(seed=0, cls=VLEModel, **changes):
    torch.manual_seed(seed)
    return cls(config(**changes))


def deviation(table):
    return table.weight.std().item()


def test_the_table_has_its_own_deviation_and_the_rest_initializer_range():
    plain, wide = model(), model(token_type_range=1.5)
    assert deviation(plain.token_type_embeddings) == pytest.approx(0.1, rel=0.1)
    assert deviation(wide.token_type_embeddings) == pytest.approx(1.5, rel=0.1)
    projection = wide.text_projection_layer.weight.std().item()
    assert projection == pytest.approx(0.1, rel=0.2)
    head = model(cls=VLEForVQA, token_type_range=1.5, id2label={0: "a", 1: "b"})
    assert deviation(head.vle.token_type_embeddings) == pytest.approx(1.5, rel=0.1)


def test_without_it_a_seed_has_the_weights_that_it_had():
    """The table is drawn where it always was: a model built by hand with the same draws agrees."""
    first, again = model(), model(token_type_range=None)
    for (name, a), b in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b), name
    assert config().type_deviation == 0.1 and config(token_type_range=0.0).type_deviation == 0.0


def test_trained_rows_are_loaded_and_fresh_ones_have_the_range(tmp_path):
    saved = model(token_type_range=2.0)
    with torch.no_grad():
        saved.token_type_embeddings.weight.fill_(7.0)
    saved.save_pretrained(tmp_path)
    loaded = VLEForVQA.from_pretrained(
        str(tmp_path), num_token_types=900, id2label={0: "a", 1: "b"}
    ).vle.token_type_embeddings.weight
    assert torch.equal(loaded[:400], torch.full((400, 16), 7.0))
    assert loaded[400:].std().item() == pytest.approx(2.0, rel=0.1)
    again = VLEModel.from_pretrained(str(tmp_path)).token_type_embeddings.weight
    assert torch.equal(again, torch.full((400, 16), 7.0))
