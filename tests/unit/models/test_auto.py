"""transformers knows `model_type: vle` after `import vle_bench`, whichever is imported first, and at no cost."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vle_bench.data.tokenizer import train_tokenizer
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
        "from transformers import AutoConfig, AutoModel, AutoProcessor, pipeline; import vle_bench",
        # modeling_clip itself asks for modeling_auto while it is half imported, and our model needs it.
        "import vle_bench; from transformers import CLIPModel, AutoConfig, AutoModel, AutoProcessor, pipeline",
    ],
)
def test_auto_classes_and_pipelines(folder: Path, imports: str) -> None:
    assert run(f"{imports}; folder = {str(folder)!r}{LOAD}") == "VLEModel VLEProcessor VQAPipeline"


def test_the_auto_class_for_questions_about_pictures(folder: Path) -> None:
    """Here without `import vle_bench.models`: the registry is enough."""
    code = f"import vle_bench; from transformers import AutoModelForVisualQuestionAnswering as Auto; folder = {str(folder)!r}\n"
    code += "model, info = Auto.from_pretrained(folder, output_loading_info=True)\n"
    assert run(f"{code}print(type(model).__name__, info['missing_keys'])") in (
        "VLEForVQA []",
        "VLEForVQA set()",
    )


def test_the_import_alone_is_cheap() -> None:
    heavy = "('torch', 'transformers', 'numpy')"
    assert run(f"import sys, vle_bench; print([m for m in {heavy} if m in sys.modules])") == "[]"
