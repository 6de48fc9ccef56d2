"""`import vle_bench.models` registers VLE with transformers; `import vle_bench` and recipes need no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import transformers
from transformers import AutoModelForVisualQuestionAnswering

from vle_bench.data.tokenization import train_tokenizer
from vle_bench.models import VLEConfig, VLEForVQA, VLEProcessor

ROOT = Path(__file__).parents[3]
LOAD = """
assert AutoConfig.from_pretrained(folder).model_type == "vle"
print(type(AutoModel.from_pretrained(folder)).__name__, type(AutoProcessor.from_pretrained(folder)).__name__, end=" ")
print(type(pipeline("vle-vqa", model=folder, device="cpu")).__name__)
"""


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, encoding="utf-8"
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model")
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    tokenizer = train_tokenizer(["what is this?"], 64)
    text = {**sizes, "model_type": "deberta-v2", "vocab_size": len(tokenizer)}
    vision = {**sizes, "image_size": 16, "patch_size": 8}
    VLEForVQA(VLEConfig(text_config=text, vision_config=vision, **sizes)).save_pretrained(path)
    VLEProcessor.from_parts(tokenizer, 16, 8).save_pretrained(path)
    return path


def test_auto_classes_and_pipelines_where_transformers_came_first(folder: Path) -> None:
    # A submodule registers too: Python imports the package before it.
    code = (
        "import sys\n"
        "from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline\n"
        "hooks = list(sys.meta_path)\n"
        "import vle_bench.models.vle.configuration\n"
        # No import hook stays behind.
        "assert not [f for f in sys.meta_path if f not in hooks and 'vle' in repr(f)]\n"
        f"folder = {str(folder)!r}"
    )
    assert run(code + LOAD) == "VLEModel VLEProcessor VQAPipeline"


def test_auto_classes_and_pipelines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("AutoConfig", "AutoModel", "AutoProcessor", "pipeline")
    exec(LOAD, {name: getattr(transformers, name) for name in names} | {"folder": str(folder)})
    assert capsys.readouterr().out.strip() == "VLEModel VLEProcessor VQAPipeline"


def test_the_auto_class_for_questions_about_pictures(folder: Path) -> None:
    model, info = AutoModelForVisualQuestionAnswering.from_pretrained(
        str(folder), output_loading_info=True
    )
    assert type(model) is VLEForVQA and not info["missing_keys"]


def test_light_modules_load_without_torch() -> None:
    """Each in its turn in one process, which starts Python once."""
    modules = [
        "vle_bench",
        "vle_bench.recipe",
        "vle_bench.tasks",
        "vle_bench.data.sources",
        "vle_bench.leaderboard.tables",
        "vle_bench.evaluation.record",
        "vle_bench.training.launch",
    ]
    code = (
        "import sys, importlib\n"
        f"for module in {modules}:\n"
        "    importlib.import_module(module)\n"
        "    heavy = ['torch', 'transformers'] + ['numpy'] * (module == 'vle_bench')\n"
        "    print([module, *(m for m in heavy if m in sys.modules)])"
    )
    assert run(code).splitlines() == [f"['{module}']" for module in modules]
