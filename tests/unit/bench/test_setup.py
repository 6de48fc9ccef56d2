"""Models of published sizes, for `bench` without their checkpoints."""

import pytest
import torch

from vle_bench.bench.bench import check_options
from vle_bench.bench.setup import model_builder, other_model
from vle_bench.errors import RequestError
from vle_bench.models.vilt.checkpoint import of_published_size
from vle_bench.recipe.load import load_recipe


class Words:
    pad_token_id = 0

    def __len__(self):
        return 9


def test_vilt_has_its_published_size():
    """Words, positions, patches, twelve layers, pooler and a head of 3,129 answers, added by hand."""
    width, layer = 768, 12 * 768**2 + 13 * 768
    text = (30_522 + 40 + 2) * width + 2 * width
    picture = 3 * 32 * 32 * width + width + (1 + 145 + 2) * width
    head = width * 2 * width + 2 * width + 4 * width + 2 * width * 3129 + 3129
    wanted = text + picture + 12 * layer + 2 * width + width * width + width + head
    with torch.device("meta"):
        model = of_published_size({}, [str(n) for n in range(3129)], Words())
    assert sum(p.numel() for p in model.parameters()) == wanted == 117_588_537
    assert model_builder(load_recipe("vqa/vilt")) is other_model


def test_the_published_way_is_that_of_vle_and_meter():
    with pytest.raises(RequestError, match="--naive: the published way is that of VLE and METER"):
        check_options(load_recipe("vqa/vilt"), 1, 1, naive=True)
    check_options(load_recipe("vqa/vle-base"), 1, 1, naive=True)
