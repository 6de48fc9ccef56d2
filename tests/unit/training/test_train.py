"""The step: a loss that is not finite, and weights that do not fit."""

import json
from functools import partial
from itertools import islice
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from PIL import Image

from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError, RunFailed
from vle_bench.evaluation.environment import training_precision
from vle_bench.models import VLEForVQA, VLEProcessor, pretrained
from vle_bench.recipe.load import load_recipe
from vle_bench.recipe.schema import Recipe
from vle_bench.tasks import load_task
from vle_bench.training.feed import epoch_batches, first_stage, first_stage_of, steps
from vle_bench.training.model import model_of
from vle_bench.training.train import check_trackers, checked_losses


def test_a_run_that_diverges_names_the_step_the_rate_and_the_examples_and_says_what_is_kept(
    tmp_path,
):
    schedule = SimpleNamespace(lr_lambdas=[lambda step: step / 10] * 2)
    recipe = SimpleNamespace(train=SimpleNamespace(learning_rate=1e-2))
    run = SimpleNamespace(
        accelerator=Accelerator(cpu=True), schedule=schedule, folder=tmp_path, recipe=recipe
    )
    fine = [(1, [11], torch.tensor([1.0, 9.0])), (2, [12], torch.tensor([3.0, 9.0]))]
    assert checked_losses(run, fine) == [1.0, 3.0] and fine == []
    nan, inf = torch.tensor([float("nan"), 1.0]), torch.tensor([1.0, float("inf")])
    (tmp_path / "best").mkdir()
    (tmp_path / "checkpoints" / "step-00000002").mkdir(parents=True)
    pending = [(3, [13], torch.tensor([1.0, 1.0])), (4, list(range(20, 40)), nan), (5, [1], inf)]
    told = (
        "loss nan, gradient norm 1.0 at step 4, learning rate 0.003; the examples of that step: 20, .* and 12 more "
        ".*kept: best/, checkpoints/step-00000002/"
    )
    with pytest.raises(RunFailed, match=told):
        checked_losses(run, pending)
    assert json.loads((tmp_path / "diverged.json").read_text(encoding="utf-8"))["ids"] == list(
        range(20, 40)
    )
    with pytest.raises(
        RunFailed,
        match="loss 1.0, gradient norm inf at step 5, learning rate 0.004; the examples of that step: 1 ",
    ):
        checked_losses(run, [(5, [1], inf)])


def test_precision_names(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert [training_precision(name) for name in ("fp32", "bf16", "auto")] == [
        "fp32",
        "bf16",
        "fp32",
    ]
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    # bf16 is emulated on this GPU, slower than float32
    assert training_precision("fp16") == "fp16" and training_precision("auto") == "fp32"
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation=True: True)
    assert training_precision("auto") == "bf16"
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    assert training_precision("auto") == "fp32"
    with pytest.raises(
        RequestError, match="train.precision: fp16 needs a GPU; a CPU takes bf16 or fp32"
    ):
        training_precision("fp16")


def test_loading_names_every_weight_that_does_not_fit(tmp_path):
    golden = VLEForVQA.from_pretrained("tests/golden/vle/VLEForVQA")
    golden.save_pretrained(tmp_path / "whole")
    assert pretrained.load_model(tmp_path / "whole", "VLEForVQA").config.num_labels == 17
    golden.vle.save_pretrained(tmp_path / "bare")
    with pytest.raises(RequestError, match="vqa_classifier.0.bias"):
        pretrained.load_model(tmp_path / "bare", "VLEForVQA")
    labels = {"id2label": {0: "a", 1: "b"}, "label2id": {"a": 0, "b": 1}}
    fresh = pretrained.load_model(tmp_path / "bare", "VLEForVQA", head_may_be_new=True, **labels)
    assert fresh.vqa_classifier[3].out_features == 2
    assert torch.equal(
        fresh.vle.token_type_embeddings.weight, golden.vle.token_type_embeddings.weight
    )
    with pytest.raises(RequestError, match="nowhere"):
        pretrained.resolve(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("folder", "wanted", "given"),
    [
        ("crop", None, "crop"),
        ("squash", None, "squash"),
        ("crop", "squash", "squash"),
        ("squash", "crop", "crop"),
    ],
)
@pytest.mark.parametrize("size", [32, 48])
def test_a_recipe_keeps_the_folders_way_with_pictures_unless_it_says_another(
    tmp_path, folder, wanted, given, size
):
    VLEForVQA.from_pretrained("tests/golden/vle/VLEForVQA").save_pretrained(tmp_path)
    VLEProcessor.from_parts(train_tokenizer(["what is this?"], 64), 32, 8, folder).save_pretrained(
        tmp_path
    )
    values = {
        "root": "data/x",
        "source": "vqav2",
        "train": "train",
        "evaluate": "val",
        "report": "val",
    }
    model = {"checkpoint": str(tmp_path), "image_size": size, "resize": wanted}
    recipe = Recipe.model_validate({"name": "x", "task": "vqa", "data": values, "model": model})
    _, processor, _ = model_of(recipe, load_task("vqa"), SimpleNamespace(labels=[]))
    assert (processor.resize, processor.square, processor.patch_size) == (given, (size, size), 8)
    picture = Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8)
    )
    expected = VLEProcessor.from_parts(processor.tokenizer, size, 8, given)(
        images=picture
    ).pixel_values
    assert torch.equal(processor(images=picture).pixel_values, expected)


@pytest.mark.parametrize("said", ["float16", None])
def test_a_float16_checkpoint_is_trained_and_scored_in_float32(tmp_path, said):
    golden = VLEForVQA.from_pretrained("tests/golden/vle/VLEForVQA")
    golden.half().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    config.pop("dtype", None)
    (tmp_path / "config.json").write_text(
        json.dumps(config | ({"torch_dtype": said} if said else {})), encoding="utf-8"
    )
    model = pretrained.load_model(tmp_path, "VLEForVQA")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert torch.equal(
        model.vle.text_projection_layer.weight, golden.vle.text_projection_layer.weight.float()
    )


def test_a_checkpoint_keeps_the_digest_of_its_answers(tmp_path):
    golden = VLEForVQA.from_pretrained("tests/golden/vle/VLEForVQA")
    processor = SimpleNamespace(save_pretrained=lambda folder: None)
    pretrained.save(tmp_path / "last", golden, processor, ["yes", "no"], {})
    assert pretrained.load_labels(tmp_path / "last") == ["yes", "no"]
    path = tmp_path / "last" / "label_map.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"no"', '"on"'), encoding="utf-8")
    with pytest.raises(
        RequestError, match="label_map.json: answers: not those that its sha256 was computed of"
    ):
        pretrained.load_labels(tmp_path / "last")


TYPES = ["shape", "color", "yes"] * 40
SHAPES = np.array(TYPES) == "shape"


def plan(stage_steps, accumulation=2, other_share=0.0):
    """120 questions in batches of 16, of which the first stage sees the shapes."""
    questions = {"image_row": np.arange(120) // 4, "answerable": np.ones(120, bool)}
    order = load_task("vqa").training_order
    return partial(
        epoch_batches,
        order=lambda epoch: order(questions, 3, epoch, 2),
        batch_size=16,
        parts=accumulation,
        stage_steps=stage_steps,
        stage=lambda epoch: first_stage(TYPES, ["shape"], other_share, 3, epoch),
    )


def collate_of(epoch):
    return lambda part: {"ids": [int(i) for i in part]}


def ids(step):
    return [i for batch in step[2] for i in batch["ids"]]


def test_the_first_stage_sees_its_kinds_only_and_ends_on_its_step():
    seen = [ids(step) for step in islice(steps(plan(stage_steps=5), collate_of), 13)]
    kinds = [{TYPES[i] for i in step} for step in seen]
    assert kinds[:5] == [{"shape"}] * 5 and all(len(k) > 1 for k in kinds[5:])
    # then every question once an epoch
    assert sorted(i for step in seen[5:13] for i in step) == list(range(120))


def test_an_epoch_is_a_function_of_the_seed_and_the_epoch():
    one, two = (plan(0)(1, 0) for _ in range(2))
    assert [[list(p) for p in b] for b in one] == [[list(p) for p in b] for b in two]
    other = plan(0)(2, 0)
    assert list(one[0][0]) != list(other[0][0])
    assert [len(b) for b in one] == [2] * 8 and sum(len(p) for b in one for p in b) == 120


def test_processes_share_the_global_batches():
    alone = [ids(step) for step in islice(steps(plan(5, accumulation=4), collate_of), 20)]
    shares = [
        [
            ids(step)
            for step in islice(
                steps(plan(5, accumulation=4), collate_of, process=process, processes=2), 20
            )
        ]
        for process in (0, 1)
    ]
    assert [sorted(a + b) for a, b in zip(*shares, strict=True)] == [sorted(i) for i in alone]


def test_other_questions_have_their_share_of_the_first_stage():
    stream = steps(plan(stage_steps=300, other_share=0.25), collate_of)
    seen = [TYPES[i] for step in islice(stream, 300) for i in ids(step)]
    assert 0.22 < 1 - seen.count("shape") / len(seen) < 0.28 and {"color", "yes"} <= set(seen)
    assert np.array_equal(first_stage(TYPES, ["shape"], 0.0, 0, 0), SHAPES)


def test_a_first_stage_of_a_kind_that_nobody_asks():
    stage = "data.first_stage={fraction: 0.5, question_types: [shapes]}"
    recipe = load_recipe("demo/vqa-tiny", [stage, "data.root=data/x"])
    with pytest.raises(
        RequestError,
        match="train in data/x: no question has the type shapes; there are color, shape, yes",
    ):
        first_stage_of(recipe, {"question_type": TYPES})(0)


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch):
    recipe = load_recipe("demo/vqa-tiny", ["train.trackers=[mlflow]"])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(
        RequestError,
        match=r"train.trackers: mlflow: not installed; pip install 'vle-bench\[tracking\]'",
    ):
        check_trackers(recipe)


def test_steps_that_are_passed_over_are_not_read():
    """In the middle of the first stage, at its end, and epochs later."""

    def shown(step):
        return step[0], step[1], [batch["ids"] for batch in step[2]]

    whole = [shown(step) for step in islice(steps(plan(stage_steps=5), collate_of), 30)]
    for start in (0, 2, 5, 7, 21):
        read = []

        def reading(epoch, read=read):
            return lambda part: read.append(part) or {"ids": [int(i) for i in part]}

        stream = steps(plan(stage_steps=5), reading, start=start)
        assert [shown(step) for step in islice(stream, 4)] == whole[start : start + 4]
        assert len(read) == 8  # two micro-batches a step
