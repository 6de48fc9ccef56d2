"""`import vle_bench.models` registers VLE with transformers; `import vle_bench` and recipes need no torch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    "imports",
    [
        "import vle_bench.models; from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline",
        "from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline; import vle_bench.models",
        # A submodule alone registers too: Python imports the package first.
        "from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline; "
        "import vle_bench.models.vle.configuration",
    ],
)
def test_auto_classes_and_pipelines(folder: Path, imports: str) -> None:
    assert run(f"{imports}; folder = {str(folder)!r}{LOAD}") == "VLEModel VLEProcessor VQAPipeline"


def test_the_auto_class_for_questions_about_pictures(folder: Path) -> None:
    code = (
        "import vle_bench.models\n"
        "from transformers import AutoModelForVisualQuestionAnswering as Auto\n"
        f"model, info = Auto.from_pretrained({str(folder)!r}, output_loading_info=True)\n"
    )
    assert run(f"{code}print(type(model).__name__, info['missing_keys'])") in (
        "VLEForVQA []",
        "VLEForVQA set()",
    )


def test_no_import_hook_stays_behind() -> None:
    code = "import sys; before = list(sys.meta_path); import vle_bench, vle_bench.models\n"
    assert (
        run(code + "print([f for f in sys.meta_path if f not in before and 'vle' in repr(f)])")
        == "[]"
    )


@pytest.mark.parametrize(
    "module",
    [
        "vle_bench",
        "vle_bench.recipe",
        "vle_bench.tasks",
        "vle_bench.data.sources",
        "vle_bench.leaderboard.tables",
        "vle_bench.evaluation.record",
        "vle_bench.training.launch",
    ],
)
def test_light_modules_load_without_torch(module: str) -> None:
    heavy = ["torch", "transformers"] + ["numpy"] * (module == "vle_bench")
    code = f"import sys, {module}; print([m for m in {heavy} if m in sys.modules])"
    assert run(code) == "[]"
