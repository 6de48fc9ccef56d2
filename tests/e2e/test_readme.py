"""Every command, program and table of the README and of docs/, run on small data."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel, DebertaV2Config, DebertaV2Model

from tests.miniature import by_name, in_process
from tests.miniature.blip import write_blip
from tests.miniature.generative import write_llava
from tests.miniature.own import choice_rows, easy_rows, export, vcr_rows, write_lines
from tests.miniature.pairs import write_captions, write_visual_genome
from tests.miniature.published import vcr_tokenizer, write_twin
from tests.miniature.vcr import write_vcr
from tests.miniature.vilt import write_vilt
from tests.miniature.vqav2 import write_vqav2
from vle_bench.data.prepare.shapes_vcr import prepare_shapes_vcr
from vle_bench.data.prepared import open_prepared
from vle_bench.demo import vcr
from vle_bench.demo.vqa import own_row, published_rows, results_table
from vle_bench.evaluation.record import load_record
from vle_bench.recipe import preflight
from vle_bench.recipe.load import load_recipe

ROOT = Path(__file__).parents[2]
MAKEFILE = ROOT / "Makefile"
METER = ROOT / "tests" / "golden" / "meter"
# In the order in which a reader needs them: later commands use the files of earlier ones.
NAMES = (
    "own-data",
    "vqa",
    "why-numbers-differ",
    "vcr",
    "models",
    "datasets",
    "pretrain",
    "runs",
    "leaderboards",
    "speed",
    "convert",
    "develop",
    "study",
)
DOCUMENTS = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in NAMES)]
README = DOCUMENTS[0].read_text(encoding="utf-8")
FEW_STEPS = (
    "train.max_steps=4 train.evaluate_every=4 train.batch_size=32 train.per_device_batch_size=32"
)
MINIATURE = (
    "train.epochs=1 train.batch_size=4 train.per_device_batch_size=2 train.num_workers=0 "
    "model.image_size=64"
)
TINY_ENCODER = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
VLE = [sys.executable, "-m", "vle_bench"]


def blocks(document, language):
    return re.findall(rf"```{language}\n(.*?)```", document.read_text(encoding="utf-8"), re.DOTALL)


def commands():
    """Every command of the documents once, as its words."""
    texts = [block for document in DOCUMENTS for block in blocks(document, "bash")]
    lines = [line for text in texts for line in text.replace("\\\n", " ").splitlines()]
    found = {tuple(shlex.split(line, comments=True)): None for line in lines}
    return [list(parts) for parts in found if parts]


def execute(command, folder, code=0):
    """Run a command with the tests' interpreter; returns stdout, or stderr where it is to fail.

    `vle-bench` runs in the process of the tests: importing torch takes longer than its work here.
    """
    if command[:3] == VLE:
        shown, errors = in_process.run(*command[3:], cwd=folder, code=code)
        return shown if code == 0 else errors
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == code, f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr
    return done.stdout if code == 0 else done.stderr


def make(parts, folder, arguments="", alone=False):
    """Run make with more arguments; its commands run in the process of the tests, or in processes of their own."""
    given = [p for p in parts[1:] if not p.startswith(("ARGS=", "VENV=", "LAUNCH="))]
    own = " ".join(p.removeprefix("ARGS=") for p in parts if p.startswith("ARGS="))
    options = ("-f", MAKEFILE, *given, "VENV=", f"ARGS={own} {arguments}")
    if alone:
        return execute(["make", *options, f"PYTHON={sys.executable}"], folder)
    shown, errors = in_process.make(*options, cwd=folder)
    assert "Traceback" not in errors
    return shown


def planned(parts, folder, venv=""):
    """The commands that make would run."""
    return execute(["make", "-n", "-f", MAKEFILE, *parts[1:], f"VENV={venv}"], folder)


def without_head(folder):
    """As the published pre-trained models: no head, and no answers in the configuration."""
    (folder / "label_map.json").unlink()
    weights = load_file(folder / "model.safetensors")
    encoder = {name: value for name, value in weights.items() if name.startswith("vle.")}
    assert 0 < len(encoder) < len(weights)
    save_file(encoder, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["id2label"], config["label2id"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


def write_encoders(folder):
    """METER's golden checkpoint as a `.ckpt`, and a DeBERTa and a CLIP to build a model from."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(
        {"state_dict": load_file(METER / "state_dict.safetensors")}, folder / "meter-base.ckpt"
    )
    text = DebertaV2Config(**TINY_ENCODER, intermediate_size=64, vocab_size=60)
    vision = CLIPVisionConfig(**TINY_ENCODER, intermediate_size=64, image_size=32, patch_size=16)
    DebertaV2Model(text).save_pretrained(folder / "deberta-v3-base")
    CLIPVisionModel(vision).save_pretrained(folder / "clip-vit-base-patch16")


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    execute(
        [*VLE, "prepare", "easy-vqa", "--output", "data/easy-vqa", "--limit-images", "40"], folder
    )
    export(easy_rows(30), "csv", folder)
    write_lines(folder / "choices.jsonl", choice_rows(30))
    for name, content in zip(("choices", "boxes"), blocks(DOCUMENTS[1], "yaml")[-2:], strict=True):
        assert content.startswith(f"# {name}.yaml\n")
        (folder / f"{name}.yaml").write_text(content, encoding="utf-8")
    write_captions(folder)
    write_visual_genome(folder / "data" / "visual-genome-official")
    write_vqav2(folder / "data" / "vqav2-official", val=4)
    write_vcr(folder / "data" / "vcr-official", 2, 2, 2)
    for name, write in by_name.WRITERS.items():
        write(folder / "data" / f"{name}-official")
    for name, blank in (("shapes-vcr", False), ("shapes-vcr-blank", True)):
        prepare_shapes_vcr(
            folder / "data" / name, 0, questions={"train": 64, "val": 16, "test": 4}, blank=blank
        )
    write_lines(
        folder / "boxes.jsonl", vcr_rows(open_prepared(folder / "data/shapes-vcr"), "train", folder)
    )
    (folder / "predictions.json").write_text("[]", encoding="utf-8")
    (folder / "leaderboards").mkdir()
    published = (ROOT / "leaderboards" / "published.yaml").read_text(encoding="utf-8")
    # The sizes of splits that are scored are the miniatures' here
    val = (folder / "data" / "vcr-official" / "val.jsonl").read_text(encoding="utf-8")
    sizes = {"split: val, n: 26_534": len(val.splitlines()), "split: testdev, n: 12_578": 6}
    manifest = json.loads((folder / "data" / "easy-vqa" / "manifest.json").read_text("utf-8"))
    sizes["split: test, n: 9_673"] = manifest["splits"]["test"]["questions"]
    for size, number in sizes.items():
        assert size in published
        published = published.replace(size, f"{size.split(' n:')[0]} n: {number}")
    (folder / "leaderboards" / "published.yaml").write_text(published, encoding="utf-8")
    write_encoders(folder / "checkpoints")
    example = Path("docs") / "why-numbers-differ"
    shutil.copytree(ROOT / example, folder / example)
    return folder


def run_demo(parts, work):
    shown = make(parts, work, FEW_STEPS)
    if "vcr" not in " ".join(parts):
        assert "index.html" in shown and "easy-VQA-keras" in shown
    if "vqa" not in " ".join(parts):
        assert "vcr.html" in shown and "alignment off: picture, no boxes" in shown


def plan_tools(parts, work):
    """Plan only: `make test` would run these tests, and `make install` would install."""
    wanted = {
        "install": "pip install -c constraints.txt -e '.[demo,dev]'",
        "lint": "-m mypy vle_bench",
        "test": "-m pytest",
        "test-processes": "-m pytest -m 'processes and not slow",
        "test-slow": "-m pytest -m slow",
        "bench": "vcr/vle-base-q2a.yaml --synthetic --naive",
    }
    folder = ROOT if parts[1] == "install" else work
    venv = str(work / "venv") if parts[1] == "install" else ""
    assert wanted[parts[1]] in planned(parts, folder, venv)


def check_pip(parts, work):
    assert parts == ["pip", "install", "."]  # the wheel: tests/unit/test_packaging.py


def check_download(parts, work):
    """tests/unit/data/download runs it; here it is what a recipe without its data says."""
    if "--list" in parts:
        wanted = {"vqav2": "train2014.zip", "gqa": "questions1.2.zip"}[parts[2]]
        assert wanted in execute([*VLE, *parts[1:]], work)
        return
    shipped = {"vqav2": "vqa/vle-base", "vcr": "vcr/vle-base-q2a"}[parts[2]]
    assert shlex.join(parts) in preflight.data_commands(load_recipe(shipped).data)


def check_hf_download(parts, work):
    """A small checkpoint of the same layout takes the place of the published one."""
    if "vilt" in parts[-1]:
        assert shlex.join(parts) in preflight.checkpoint_commands(parts[-1])
        data = open_prepared(work / "data" / "vqav2")
        questions = data.questions("val")["question"][:]
        write_vilt(work / parts[-1], data.labels, questions, head="finetuned" in parts[-1])
        return
    write = {"blip": write_blip, "Smol": write_llava}.get(Path(parts[-1]).name[:4])
    if write is not None:
        texts = open_prepared(work / "data" / "vqav2").questions("val")["question"][:]
        write(work / parts[-1], [*texts, "A B C D"])
        return
    assert shlex.join(parts) in preflight.checkpoint_commands("checkpoints/vle-base")
    shutil.copytree(work / "runs" / "demo" / "seed-0" / "last", work / parts[-1])
    without_head(work / parts[-1])


def finetune(parts, work):
    if any(part.startswith("LAUNCH=") for part in parts):
        launched = "accelerate.commands.launch --num_processes 8 -m vle_bench"
        assert launched in planned(parts, work)
        return
    recipe = load_recipe(next(p for p in parts if p.startswith("RECIPE=")).removeprefix("RECIPE="))
    alone = recipe.data.source == "gqa"  # one of them as a reader's shell runs it
    assert f"written: runs/{recipe.name}/" in make(parts, work, MINIATURE, alone)
    if recipe.data.source == "vqav2":
        answers = (work / "runs" / recipe.name / "vqa_test.json").read_text(encoding="utf-8")
        assert len(json.loads(answers)) > 0


def finetune_vilt(parts, work):
    assert "written: runs/vilt-vqa/" in make(parts, work, MINIATURE)


def train_demo(parts, work):
    given = [part for part in parts[1:] if not part.startswith("train.max_steps=")]
    shown = execute([*VLE, *given, *FEW_STEPS.split(), "data.first_stage=null"], work)
    named = "--output-dir" in parts
    run = parts[parts.index("--output-dir") + 1] if named else f"runs/{Path(parts[2]).stem}"
    assert f"written: {run}/" in shown


def finetune_vcr(parts, work):
    shown = make(parts, work, MINIATURE)
    assert "written: runs/vle-base-vcr-q2a/results/vcr_q2ar.val.json" in shown
    shown = (work / "leaderboards" / "comparison.md").read_text(encoding="utf-8")
    assert re.search(r"\| VCR Q2AR \| val \| \d", shown), shown


def score_published(parts, work):
    """Plan the commands, because the checkpoints are on the hub; missing data are named."""
    family, data, size = [*parts[1].removeprefix("score-").split("-"), "base"][:3]
    shown = planned(parts, work)
    assert f"checkpoints/{family}-{size}-for-{data}" in shown and "--published" in shown
    empty = work / "empty"
    empty.mkdir(exist_ok=True)
    said = execute(["make", "-f", MAKEFILE, *parts[1:], "VENV=", "PYTHON=true"], empty, code=2)
    folder = {"vqa": "vqav2", "vcr": "vcr"}[data]
    assert f"data/{folder}: no prepared data there: docs/{data}.md says how to make them" in said


def score_resized(parts, work):
    """A small checkpoint in the published layout takes the place of the published one."""
    if not (work / parts[2]).is_dir():
        write_twin(work / parts[2], "VLEForVCRQ2A", vcr_tokenizer(work / "data" / "vcr"))
    shown = execute([*VLE, *parts[1:]], work)
    way = parts[parts.index("--resize") + 1]
    assert f"pictures: {way} (" in shown and f"written: {parts[-1]}" in shown


def score_predictions(parts, work):
    official = (work / "data/easy-vqa-official/questions-test.json").read_text(encoding="utf-8")
    answers = [
        {"question_id": q["question_id"], "answer": "no"} for q in json.loads(official)["questions"]
    ]
    (work / "predictions.json").write_text(json.dumps(answers), encoding="utf-8")
    assert "accuracy" in execute([*VLE, *parts[1:]], work)


def predict(parts, work):
    shown = execute([*VLE, *parts[1:]], work)
    split = parts[parts.index("--split") + 1]
    assert f"each question of {split} once" in shown
    data = parts[parts.index("--data") :][:2] if "--data" in parts else []
    unlabelled = [*VLE, "evaluate", parts[2], "--split", split, *data]
    assert f"{split!r} has no labels" in execute(unlabelled, work, code=2)


def record_server_result(parts, work):
    """tests/e2e/test_hub.py has a split of as many questions as the server's."""
    (work / parts[-1]).write_text('[{"test-dev": {"overall": 71.32}}]', encoding="utf-8")
    shown = execute([*VLE, *parts[1:]], work, code=2)
    assert "questions of test-dev, the server 107,394" in shown


def reproduce(parts, work):
    shown = execute([*VLE, *parts[1:]], work, code=2)
    assert "accuracy on test-dev is expected, and nothing is measured there yet" in shown


def compare(parts, work):
    shutil.copytree(work / parts[2], work / parts[3])
    shown = execute([*VLE, *parts[1:]], work)
    assert f"A: {parts[2]}" in shown and "No example's score changed." in shown


def bench(parts, work):
    few = [*MINIATURE.split(), "--steps", "1", "--evaluation-batch-size", "8"]
    assert "training" in execute([*VLE, *parts[1:], *few], work)


def resume(parts, work):
    shown = execute([*VLE, *parts[1:], *MINIATURE.split()], work)
    assert "runs/vle-base-vqa: this run is finished" in shown


def convert(parts, work):
    """The golden checkpoint is no published one: its configuration says how many heads it has."""
    if "--text" in parts:
        more = []
    else:
        position = parts.index("--tokenizer")
        parts = parts[:position] + parts[position + 2 :]  # tests/unit/models/convert has one
        more = ["--config", METER / "config.json"]
    execute([*VLE, *parts[1:], *more], work)
    assert (work / parts[parts.index("--output") + 1] / "model.safetensors").is_file()


def train_own(parts, work):
    few = [*FEW_STEPS.split(), "train.num_workers=0"]
    name = f"own-{Path(parts[2]).stem}"
    assert f"written: runs/{name}/" in execute([*VLE, *parts[1:], *few], work)


def plan_study(parts, work):
    """Plan only: tests/unit/study runs it on miniature data."""
    shown = planned(parts, work)
    given = " ".join(p.removeprefix("ARGS=") for p in parts[2:])
    assert f"-m vle_bench study {given}".strip() in shown


def pretrain(parts, work):
    """On the pairs that commands before have prepared, and then on data of one's own."""
    few = [*FEW_STEPS.split(), "train.num_workers=0"]
    shown = execute([*VLE, *parts[1:], *few], work)
    assert "written: runs/vle-tiny-pretrain/" in shown or "written: runs/fine-tuned/" in shown


def pretrain_whole(parts, work):
    """Plan only; the data are named that are missing, with the commands that bring them."""
    planned_commands = planned(parts, work)
    recipe = {"pretrain-base": "vle-base", "pretrain-large": "vle-large"}.get(
        parts[1], "meter-base"
    )
    assert f"-m vle_bench train recipes/pretrain/{recipe}.yaml" in planned_commands
    launched = [part.removeprefix("LAUNCH=") for part in parts if part.startswith("LAUNCH=")]
    assert all(options in planned_commands for options in launched)
    said = execute(["make", "-f", MAKEFILE, parts[1], "VENV=", f"PYTHON={sys.executable}"], work, 2)
    assert re.search(r"vle-bench prepare captions \S+ .*--output data/cc3m", said), said
    assert f"--output checkpoints/{recipe}-encoders" in said


def compare_toolkits(parts, work):
    """The page shows what is printed, without the types of question."""
    shown = execute([*VLE, *parts[1:]], work).splitlines()
    start = next(i for i, line in enumerate(shown) if line.startswith("as "))
    page = (ROOT / "docs" / "why-numbers-differ.md").read_text(encoding="utf-8")
    fenced = re.findall(r"```(\w*)\n(.*?)```", page, re.DOTALL)
    (block,) = (text for language, text in fenced if not language)
    assert block.splitlines() == [shown[0], *shown[start:]]


def run_sed(parts, work):
    """The only commands whose output goes to a file."""
    *command, arrow, file = parts
    assert arrow == ">"
    changed = execute(command, work)
    assert changed != (work / command[-1]).read_text(encoding="utf-8")
    (work / file).write_text(changed, encoding="utf-8")


def run_vle_bench(parts, work):
    small = ["--limit-images", "40"] if parts[1:3] == ["prepare", "easy-vqa"] else []
    small += ["--pictures", "10"] if "--pictures" in parts else []
    assert execute([*VLE, *parts[1:], *small], work).strip()


# The first pattern that a command begins with, or holds, says how it is run.
HOW = [
    (r"make demo", run_demo),
    (r"make study", plan_study),
    (r"make (install|lint|test|test-processes|test-slow|bench)$", plan_tools),
    (r"pip ", check_pip),
    (r"vle-bench download ", check_download),
    (r"hf download ", check_hf_download),
    (r"make finetune ", finetune),
    (r"make vcr-base$", finetune_vcr),
    (r"make score-", score_published),
    (r"make vilt-vqa$", finetune_vilt),
    (r"vle-bench train recipes/demo/", train_demo),
    (r"make pretrain-", pretrain_whole),
    (
        r"vle-bench train recipes/pretrain/|vle-bench train .* --output-dir runs/fine-tuned",
        pretrain,
    ),
    (r"vle-bench train recipes/own/", train_own),
    (r"vle-bench score vqa --questions docs/", compare_toolkits),
    (r"vle-bench score vqa ", score_predictions),
    (r"vle-bench predict runs/why ", run_vle_bench),
    (r"vle-bench predict ", predict),
    (r"sed ", run_sed),
    (r"vle-bench evaluate .* --server-result ", record_server_result),
    (r"vle-bench evaluate checkpoints/.* --resize ", score_resized),
    (r"vle-bench reproduce ", reproduce),
    (r"vle-bench compare ", compare),
    (r"vle-bench bench ", bench),
    (r"vle-bench train .* --resume$", resume),
    (r"vle-bench convert ", convert),
    (r"vle-bench ", run_vle_bench),
]


@pytest.mark.processes
def test_every_command(work):
    """One test, in the documents' order: later commands use what earlier ones wrote."""
    for parts in commands():
        line = shlex.join(parts)
        run = next((run for pattern, run in HOW if re.match(pattern, line)), None)
        assert run is not None, f"a command that no test runs: {line}"
        run(parts, work)


def test_every_kind_of_command_is_in_the_documents():
    lines = [shlex.join(parts) for parts in commands()]
    first = [next(pattern for pattern, _ in HOW if re.match(pattern, line)) for line in lines]
    assert set(first) == {pattern for pattern, _ in HOW}


@pytest.mark.processes
def test_python(work):
    if not (work / "runs" / "demo" / "seed-0" / "best").is_dir():
        make(["make", "demo"], work, FEW_STEPS)
    programs = [
        block
        for document in DOCUMENTS
        if document.name != "develop.md"  # tests/e2e/test_develop.py builds its examples
        for block in blocks(document, "python")
    ]
    shown = [execute([sys.executable, "-c", program], work) for program in programs]
    assert "'labelled': True" in shown[0]  # own-data.md
    asked = open_prepared(work / "data" / "of-python").questions("val")
    assert shown[1].splitlines() == [f"{row['question_id']} {row['question']}" for row in asked]
    assert len(shown) == 5 and "'answer':" in shown[-1] and "'score':" in shown[-1]


def test_every_link_leads_to_a_file():
    for document in [*DOCUMENTS, *(ROOT / "docs").glob("*.md"), ROOT / "CHANGELOG.md"]:
        text = re.sub(r"```.*?```", "", document.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
            assert (document.parent / target).exists(), f"{document.name}: {target}"


def test_the_readme_is_short_and_names_every_document():
    assert len(README.splitlines()) <= 150
    for document in (ROOT / "docs").glob("*.md"):
        assert f"docs/{document.name}" in README, document.name


def newest(task):
    """The demo's records of the newest schema version: those of earlier code stay in the tables."""
    records = [
        load_record(path)
        for path in sorted((ROOT / "leaderboards" / "results" / task).glob("*tiny*.json"))
    ]
    return [
        record
        for record in records
        if record.schema_version == max(r.schema_version for r in records)
    ]


def test_the_demo_output_is_that_of_the_record():
    record = newest("vqa")[-1]
    console = Console(width=100, file=open(os.devnull, "w", encoding="utf-8"), record=True)
    console.print(results_table([*published_rows(), own_row([record])], record.n))
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    missing = [line for line in lines if line.strip() and line.strip() not in README]
    assert not missing, "\n".join(lines)


def test_the_vcr_demo_output_is_that_of_its_records():
    records = newest("vcr_q2ar")
    assert len(records) == len(vcr.KINDS)
    for kind, (_, _, shown) in vcr.KINDS.items():
        name = " + ".join(f"vcr-{task}-tiny{kind}" for task in vcr.RECIPES)
        (record,) = [r for r in records if r.recipe["name"] == name]
        row = vcr.row_of(shown, {"q2ar": record})
        assert any(all(cell in line for cell in row.values()) for line in README.splitlines()), row


def test_the_comparison_is_the_rendered_one():
    """The README shows the published columns; what was measured beside them is on the page."""
    text = (ROOT / "leaderboards" / "comparison.md").read_text(encoding="utf-8")
    rows = [
        line
        for line in text[: text.index("## Everything measured")].splitlines()
        if line.startswith("| ")
    ]
    shown = ["| " + " | ".join(line.strip("| ").split(" | ")[:6]) + " |" for line in rows]
    assert len(shown) == 10
    assert all(line in README for line in shown if "---" not in line), "\n".join(shown)


def test_the_study_is_the_rendered_one():
    """The README shows some rows and columns of the table of the study."""
    text = (ROOT / "leaderboards" / "study.md").read_text(encoding="utf-8")
    title, *rows = [
        line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")
    ]
    shown = [line for line in README.splitlines() if re.match(r"\| (VLE|METER)-tiny,", line)]
    chosen = [title.index(name) for name in ("Model", "Q2A", "QA2R", "Q2AR", "steps to 90 % Q2A")]
    rendered = {
        "| " + " | ".join(row[i] for i in chosen) + " |" for row in rows if len(row) == len(title)
    }
    assert len(shown) > 3 and set(shown) <= rendered
