"""A run folder with a tiny untrained model, and METER's golden weights as its trainer saves them."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.miniature.vqav2 import write_vqav2
from vle_bench.data.prepare.vqav2 import prepare_vqav2
from vle_bench.data.prepared import open_prepared
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.models import VLEConfig, VLEForVQA, pretrained
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.load import load_recipe


def write_tiny_run(folder: Path, meter: Path) -> list[str]:
    """Write `data`, `run` with `best`, and `meter.ckpt` into a folder; returns the names of the files in `best`."""
    prepare_vqav2(write_vqav2(folder / "official", 3, 3, 1), folder / "data")
    data = open_prepared(folder / "data")
    overrides = [
        "data.source=vqav2",
        f"data.root={folder / 'data'}",
        "data.evaluate=val-minival",
        "data.report=val",
        "data.first_stage=null",
    ]
    recipe = load_recipe("demo/vqa-tiny", overrides)
    torch.manual_seed(0)
    tokenizer = train_tokenizer(data.questions("val")["question"], 64)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    text = {**sizes, "model_type": "deberta-v2", "vocab_size": len(tokenizer)}
    config = VLEConfig(
        text_config=text,
        vision_config={**sizes, "image_size": 32, "patch_size": 16},
        **sizes,
        id2label=dict(enumerate(data.labels)),
    )
    training = {
        "task": "vqa",
        "recipe": {"name": recipe.name, "hash": recipe.hash, "experiment": recipe.experiment},
        "expect": None,
        "seed": 0,
        "inputs": {"max_text_length": 24},
        "data_root": str(folder / "data"),
        "training_splits": ["train"],
        "progress": {"step": 1, "steps": 1, "seconds": 1.0, "split": "val", "score": 0.0},
        "precision": "fp32",
    }
    processor = VLEProcessor.from_parts(tokenizer, 32, 16)
    pretrained.save(folder / "run" / "best", VLEForVQA(config), processor, data.labels, training)
    (folder / "run" / "recipe.yaml").write_text(recipe.to_yaml(), encoding="utf-8")
    torch.save(
        {"state_dict": load_file(meter / "state_dict.safetensors"), "epoch": 3},
        folder / "meter.ckpt",
    )
    return sorted(path.name for path in (folder / "run" / "best").iterdir())
