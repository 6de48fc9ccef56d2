"""`vle-bench bench`: both ways compute the same, what is measured is what is said, and what is asked wrongly is refused."""

import json
import sys
from types import SimpleNamespace

import pytest
import torch
from accelerate.state import AcceleratorState

from tests.miniature.pairs import write_captions
from vle_bench.bench import bench
from vle_bench.bench.bench import enough_memory, in_turn, run_bench
from vle_bench.bench.flops import forward_flops, training_flops
from vle_bench.bench.measured import BF16, NAIVE, OURS, Measured, Timing
from vle_bench.bench.published_way import published_way
from vle_bench.bench.setup import config_of, with_synthetic_data
from vle_bench.bench.table import disturbance, explained, heading, loading_line, results_table
from vle_bench.bench.time_shares import PARTS, Marks, watched
from vle_bench.cli.app import main
from vle_bench.data.prepare.captions import prepare as prepare_captions
from vle_bench.data.prepare.manifest import AS_USUAL
from vle_bench.errors import RunFailed
from vle_bench.models import VLEConfig, VLEForVCRQ2A, VLEForVQA
from vle_bench.recipe.load import load_recipe
from vle_bench.tasks import load_task

SMALL = ["train.batch_size=8", "train.per_device_batch_size=4", "train.precision=fp32"]
TEXT = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 64,
    "initializer_range": 0.3,
}
DEBERTA = {
    "model_type": "deberta-v2",
    **TEXT,
    "relative_attention": True,
    "position_buckets": 8,
    "share_att_key": True,
    "pos_att_type": ["p2c", "c2p"],
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
}
ROBERTA = {"model_type": "roberta", **TEXT, "pad_token_id": 1}


@pytest.fixture(autouse=True)
def fresh_state(monkeypatch):
    """Accelerate keeps the precision of the first Accelerator of a process; products are small here."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(bench, "PRODUCT_ON_CPU", 64)
    AcceleratorState._reset_state(reset_partial_state=True)
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    torch.set_num_threads(threads)


def tiny(architecture, text):
    torch.manual_seed(0)
    vision = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 20,
        "patch_size": 8,
        "image_size": 16,
    }
    return architecture(
        VLEConfig(
            text_config=text,
            vision_config=vision,
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=20,
            num_token_types=6,
            initializer_range=0.3,
            id2label={i: str(i) for i in range(7)},
            label2id={str(i): i for i in range(7)},
        )
    ).eval()


def questions():
    """Five questions about two images, of different lengths."""
    lengths = torch.tensor([3, 6, 4, 6, 2])
    return {
        "input_ids": torch.randint(5, 40, (5, 6)),
        "attention_mask": (torch.arange(6) < lengths[:, None]).long(),
        "pixel_values": torch.randn(2, 3, 16, 16),
        "image_index": torch.tensor([0, 0, 1, 1, 1]),
        "labels": torch.rand(5, 7),
    }


def choices():
    """Three questions about two images, four choices each, of different lengths and numbers of objects."""
    lengths, objects = torch.randint(2, 7, (3, 4, 1)), torch.randint(0, 4, (3, 4, 1))
    return {
        "input_ids": torch.randint(5, 40, (3, 4, 6)),
        "attention_mask": (torch.arange(6) < lengths).long(),
        "token_type_ids": torch.randint(0, 6, (3, 4, 6)),
        "pixel_values": torch.randn(2, 3, 16, 16),
        "image_index": torch.tensor([1, 0, 1]),
        "labels": torch.tensor([3, 0, 2]),
        "object_patch_mask": torch.rand(3, 4, 3, 4) > 0.5,
        "object_token_type_ids": torch.tensor([2, 3, 4]).expand(3, 4, 3),
        "object_mask": (torch.arange(3) < objects).long(),
    }


@pytest.mark.parametrize("text", [DEBERTA, ROBERTA], ids=["deberta", "roberta"])
@pytest.mark.parametrize(
    ("architecture", "inputs"), [(VLEForVQA, questions), (VLEForVCRQ2A, choices)]
)
def test_the_published_way_computes_the_same(architecture, inputs, text):
    model, batch = tiny(architecture, text), inputs()
    seen = []
    hook = model.vle.vision_model.register_forward_hook(
        lambda module, given, output: seen.append(len(output[0]))
    )
    lengths = model.vle.text_projection_layer.register_forward_hook(
        lambda module, given, output: seen.append(output.shape[1])
    )
    results = []
    for way in (None, published_way(model, 20, model.config.text_config.pad_token_id), None):
        model.zero_grad()
        if way is None:
            output = model(**batch)
            output.loss.backward()
        else:
            with way:
                assert all(m.eager for m in model.modules() if hasattr(m, "eager"))
                output = model(**batch)
                output.loss.backward()
        results.append((output.loss, output.logits, [p.grad for p in model.parameters()]))
    hook.remove()
    lengths.remove()
    texts = batch["input_ids"].shape[:-1].numel()
    assert seen == [
        6,
        2,
        20,
        texts,
        6,
        2,
    ]  # tokens and images of ours, of theirs, and of ours once more
    assert results[0][1].std() > 0.01  # the choices differ, so that agreeing means something
    for loss, logits, gradients in results[1:]:
        torch.testing.assert_close(loss, results[0][0], atol=1e-5, rtol=0)
        torch.testing.assert_close(logits, results[0][1], atol=1e-5, rtol=0)
        for one, other in zip(gradients, results[0][2], strict=True):
            assert (one is None) == (other is None)
            if one is not None:
                assert (one - other).abs().max() <= 1e-4 * max(1, other.abs().max())


def test_the_published_way_ends_where_an_error_does():
    model = tiny(VLEForVQA, DEBERTA)
    expected = model(**(batch := questions())).logits
    with pytest.raises(KeyError), published_way(model, 20, 0):
        raise KeyError
    assert "forward" not in vars(model.vle) and not any(
        m.eager for m in model.modules() if hasattr(m, "eager")
    )
    assert torch.equal(model(**batch).logits, expected)


@pytest.mark.parametrize("recipe", ["demo/vqa-tiny", "demo/vcr-q2a-tiny", "demo/vcr-qa2r-tiny"])
def test_a_report(recipe, capsys):
    report = run_bench(load_recipe(recipe, SMALL), 2, 16, synthetic="asked for", naive=True)
    assert report["data"] == "synthetic" and report["synthetic_because"] == "asked for"
    assert (
        report["recipe_hash"] == load_recipe(recipe, SMALL).hash
        and report["questions_per_step"] == 8
    )
    assert set(report["training_time_shares"]) == set(PARTS)
    assert sum(report["training_time_shares"].values()) == pytest.approx(1)
    assert all(share > 0 for share in report["training_time_shares"].values())
    for part in ("training", "evaluation"):
        ours, naive = report[part], report["naive"][part]
        assert ours["model_gflop_per_sample"] == naive["model_gflop_per_sample"] > 0
        assert naive["ratio"] == pytest.approx(
            ours["samples_per_second"] / naive["samples_per_second"]
        )
        assert naive["ratio_of_cpu_time"] == pytest.approx(
            naive["cpu_seconds_per_step"] / ours["cpu_seconds_per_step"]
        )
        peak = report["matmul_peak_tflop_per_second"] * 1000
        used = ours["model_gflop_per_sample"] * ours["samples_per_second"]
        assert ours["model_flop_utilisation"] == pytest.approx(used / peak)
    assert report["training"]["questions_per_batch"] == 8
    assert (
        report["naive"]["training"]["peak_memory_gib"]
        >= report["training"]["peak_memory_gib"]
        > 0.1
    )
    assert capsys.readouterr().out == ""  # the bar is on stderr


def test_some_of_the_objectives_of_pretraining(tmp_path):
    options = {"--images": None, "--leave-out": None}
    prepare_captions(str(write_captions(tmp_path / "files")), tmp_path / "data", AS_USUAL, options)
    data = ["data.source=captions", f"data.root={tmp_path / 'data'}"]
    recipe = load_recipe("pretrain/vle-tiny", [*SMALL, *data, "model.objectives={mlm: 1}"])
    report = run_bench(recipe, 1, 8)
    assert report["evaluation"]["samples_per_second"] > 0


def test_synthetic_pairs_stand_for_mixed_data(capsys):
    """Beside a pass for each objective; every pair has its own picture, as in a plain shuffle."""
    mix = "data.mix=[{root: data/captions, weight: 2}]"
    recipe = load_recipe("pretrain/vle-tiny", [*SMALL, mix])
    report = run_bench(recipe, 1, 8, synthetic="asked for", naive=True)
    assert report["data"] == "synthetic" and report["training"]["texts_per_image"] == 1
    assert report["naive"]["training"]["ratio"] > 0
    heads = " ".join(heading(report))
    assert "steps of 8 pairs in micro-batches of 4" in heads and "questions" not in heads
    table = results_table(report)
    assert [column.header for column in table.columns][2] == "separate passes"
    assert "training, pairs/s" in list(table.columns[0].cells)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("recipe", "overrides", "low", "high"),
    [
        ("demo/vqa-tiny", ["data.grouping=question", "data.questions_per_image=null"], 1.0, 1.0),
        (
            "demo/vqa-tiny",
            [],
            1.75,
            2.0,
        ),  # two questions of an image together; of 9 questions one is left over
        ("demo/vqa-tiny", ["data.questions_per_image=3"], 2.6, 3.0),
        ("demo/vcr-q2a-tiny", [], 4.0, 4.0),  # four choices, each picture of one question
        ("demo/vcr-q2a-tiny", ["data.grouping=image"], 8.0, 12.0),
    ],
)
def test_training_shares_pictures_as_real_data_do(recipe, overrides, low, high):
    """Micro-batches from a few made pictures would share them, which hundreds of thousands of real questions do not."""
    size = ["train.batch_size=64", "train.per_device_batch_size=32", "train.precision=fp32"]
    report = run_bench(load_recipe(recipe, [*size, *overrides]), 1, 32, synthetic="asked for")
    assert low <= report["training"]["texts_per_image"] <= high
    natural = (
        9.5 if recipe == "demo/vqa-tiny" else 12
    )  # evaluation encodes each image once for all of its questions
    assert report["evaluation"]["texts_per_image"] > 0.8 * natural


def command(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["vle-bench", "bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    return ended.value.code, printed.out, printed.err


def test_json_is_all_that_stdout_has(monkeypatch, capsys):
    arguments = [
        "demo/vqa-tiny",
        *SMALL,
        "data.root=nowhere",
        "--steps",
        "1",
        "--evaluation-batch-size",
        "8",
        "--json",
    ]
    code, out, err = command(monkeypatch, capsys, *arguments)
    assert code == 0 and out.count("\n") == 1 and "bench vqa-tiny" in err
    report = json.loads(out)
    assert (
        report["synthetic_because"] == "nowhere: no prepared data there (no manifest.json)"
        and "naive" not in report
    )


def test_the_table(monkeypatch, capsys):
    arguments = [
        "demo/vqa-tiny",
        *SMALL,
        "--synthetic",
        "--naive",
        "--steps",
        "1",
        "--evaluation-batch-size",
        "8",
    ]
    code, out, _ = command(monkeypatch, capsys, *arguments)
    assert code == 0 and "synthetic data and random weights (asked for)" in out
    for words in (
        "the published way",
        "training, samples/s",
        "evaluation, CPU seconds",
        "data ",
        "optimiser ",
        "GFLOP in training",
    ):
        assert words in out


def test_real_data_are_taken_where_they_are(tmp_path):
    with_synthetic_data(load_recipe("demo/vqa-tiny", SMALL), tmp_path / "data", 1, 8)
    recipe = load_recipe(
        "demo/vqa-tiny", [*SMALL, f"data.root={tmp_path / 'data'}", "data.first_stage=null"]
    )
    report = run_bench(recipe, 1, 8)
    assert report["data"] == str(tmp_path / "data") and report["synthetic_because"] is None
    assert report["steps_of_the_recipe"] == recipe.train.max_steps


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["demo/vqa-tiny", "--steps", "0"], "bench --steps: 1 or more is expected, not 0"),
        (
            ["demo/vqa-tiny", "--evaluation-batch-size", "-3"],
            "bench --evaluation-batch-size: 1 or more is expected, not -3",
        ),
        (
            ["demo/vqa-tiny", "train.batchsize=4"],
            "command line: train.batchsize: unknown key; nearest valid key: train.batch_size",
        ),
        (["demo/nothing"], "demo/nothing: no such recipe; nearest shipped recipe: recipes/"),
        (
            ["demo/vqa-tiny", "train.batch_size=65"],
            "train.batch_size: 65 does not divide by per_device_batch_size 64",
        ),
        (
            ["demo/vqa-tiny", "--naive", "train.compile=true"],
            "the published way runs without train.compile",
        ),
        (
            ["demo/vqa-tiny", "train.cuda_graphs=true"],
            "train.cuda_graphs: needs an NVIDIA GPU; train.cuda_graphs=false",
        ),
        (["demo/vqa-tiny", "train.precision=fp16"], "train.precision: fp16 needs a GPU"),
        (
            ["vqa/vle-base", "model.checkpoint=other"],
            "model.checkpoint: other is not there, and its name begins with no published",
        ),
        (
            ["vqa/vle-base", "model.image_size=225"],
            "model.image_size: 225 does not divide by the patch size 16; 224 or 240 would",
        ),
    ],
)
def test_a_wrong_request_is_one_line(arguments, told, monkeypatch, capsys):
    code, out, err = command(monkeypatch, capsys, *arguments)
    assert code == 2 and out == "" and told in err and err.count("\n") == 1


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried ..."),
        MemoryError(),
    ],
)
def test_a_batch_without_memory_is_one_line(monkeypatch, error):
    def full(*_):
        raise error

    monkeypatch.setattr(bench, "measure", full)
    with pytest.raises(
        RunFailed,
        match="bench: not enough memory for micro-batches of 4 questions of 64 pixels; give a",
    ):
        run_bench(load_recipe("demo/vqa-tiny", SMALL), 1, 8, synthetic="asked for")
    error = RuntimeError("a shape is wrong")
    monkeypatch.setattr(bench, "measure", full)
    with pytest.raises(RuntimeError, match="a shape is wrong"), enough_memory(None):
        raise error


@pytest.mark.parametrize(
    ("recipe", "parameters"),
    [
        ("vqa/vle-base", 378_328_320),
        ("vcr/vle-large-qa2r", 930_356_224),
        ("vcr/vle-base-joint", 378_328_320),
    ],
)
def test_shipped_recipes_have_their_published_sizes(recipe, parameters):
    """Encoders and embeddings at 224 pixels, with the two fusion types of pre-training: the papers' 378M and 930M."""
    loaded = load_recipe(recipe, ["model.image_size=224"])
    config = config_of(loaded, load_task(loaded.task))
    assert config.num_token_types == (2 if loaded.task == "vqa" else 83)
    with torch.device("meta"):
        model = VLEForVQA(config)
    types = (config.num_token_types - 2) * config.hidden_size
    assert sum(p.numel() for p in model.vle.parameters()) - types == parameters


def test_the_ways_take_turns_in_going_first(monkeypatch):
    calls = []
    monkeypatch.setattr(
        bench, "timed", lambda run, way, work, timing: (calls.append(way), (4.0, 8.0))[1]
    )
    found = Measured({OURS: Timing(), NAIVE: Timing()})
    for number in range(3):
        in_turn(
            None,
            {OURS: "o", NAIVE: "n"},
            number,
            None,
            2,
            found,
            SimpleNamespace(advance=lambda text: None),
        )
    assert calls == ["o", "n", "n", "o", "o", "n"]
    assert found.ways[NAIVE].clock == [2.0] * 3 and found.ways[NAIVE].process == [4.0] * 3


def test_medians_decide():
    found = Measured(
        {
            OURS: Timing([1.0, 9.0, 2.0], [1.0, 1.0, 1.0]),
            NAIVE: Timing([6.0, 5.0, 90.0], [3.0, 2.0, 4.0]),
        }
    )
    assert found.ratio("clock") == 3.0 and found.ratio("process") == 3.0
    report = found.ways[OURS].report(samples=4, flops=3e9, matmul_peak=6e9, device="cpu")
    assert (
        report["samples_per_second"] == 0.5
        and report["seconds_per_step"] == 8.0
        and report["cpu_seconds_per_step"] == 4.0
    )
    assert report["model_flop_utilisation"] == 0.25 and report["model_gflop_per_sample"] == 3.0
    assert found.ways[OURS].report(4, 3e9, 6e9, "cuda")["cpu_seconds_per_step"] is None


def test_measured_counts_real_tokens_images_and_the_flops_of_the_first_micro_batch():
    model, batch = tiny(VLEForVCRQ2A, DEBERTA), choices()
    flops = forward_flops(model, batch)
    done = Measured({})
    done.add(model, [{"ids": [1, 2, 3], "inputs": batch}] * 2, seconds=0.5, count=training_flops)
    assert (done.samples, done.images, done.texts, done.counted) == (6, 4, 24, 3)
    assert done.tokens == 2 * int(batch["attention_mask"].sum())
    assert done.flops == 3 * flops > 0


def test_the_parts_are_told_apart(monkeypatch):
    """A clock that the parts move: text 1, vision 10, what comes before the model 100, backward 1000."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(
        "vle_bench.bench.time_shares.time", SimpleNamespace(perf_counter=lambda: clock.now)
    )

    def takes(seconds):
        def wait(*_):
            clock.now += seconds

        return wait

    model = tiny(VLEForVQA, DEBERTA)
    model.vle.text_model.encoder.register_forward_hook(takes(1))
    model.vle.vision_model.register_forward_hook(takes(10))
    model.vle.cross_modal_text_pooler.register_forward_hook(takes(5))
    accelerator = type("Accelerator", (), {"backward": lambda self, loss: takes(1000)()})()
    marks = Marks(torch.device("cpu"))
    with watched(accelerator, model, marks):
        takes(100)()
        accelerator.backward(model(**questions()).loss)
        takes(3)()
        marks.mark("optimiser")
    assert marks.seconds() == {
        "data": 100,
        "vision": 10,
        "text": 1,
        "fusion": 5,
        "backward": 1000,
        "optimiser": 3,
    }
    assert (
        "backward" not in vars(accelerator)
        and not model._forward_hooks
        and not model._forward_pre_hooks
    )


def test_cpu_seconds_beside_the_clock_say_whether_a_run_was_disturbed():
    torch.set_num_threads(2)
    alone = Timing([1.0, 1.0, 2.0], [2.0, 2.0, 4.0])
    assert alone.report(1, 1.0, 1.0, "cpu")["cpu_share_of_threads"] == 1.0
    halved = Timing([1.0, 3.0], [1.0, 1.0])  # of 4 seconds × 2 threads
    assert halved.report(1, 1.0, 1.0, "cpu")["cpu_share_of_threads"] == 0.25
    assert halved.report(1, 1.0, 1.0, "cuda")["cpu_share_of_threads"] is None


@pytest.mark.parametrize(("cpu_seconds", "disturbed"), [(0.5, True), (1.0, False)])
def test_a_report_says_that_other_programs_disturbed_it(monkeypatch, cpu_seconds, disturbed):
    def timed(run, way, work, timing):
        work()
        return 1.0, cpu_seconds

    torch.set_num_threads(1)
    monkeypatch.setattr(bench, "timed", timed)
    report = run_bench(load_recipe("demo/vqa-tiny", SMALL), 1, 8, synthetic="asked for")
    assert report["disturbed"] is disturbed
    told = [line for line in explained(report) if line.startswith("disturbed")]
    assert bool(told) is disturbed
    if disturbed:
        assert "50% in training and 50% in evaluation" in disturbance(report)


def test_loading_is_set_beside_computing():
    done = Measured({}, samples=100, images=20, loading=2.0)  # 50 samples/s and 10 pictures/s
    many = done.loading_rates(computed=120, processes=4, cores=16)
    assert many["loading_samples_per_second"] == 200 and many["bound_by"] == "computing"
    assert many["loading_images_per_second_per_process"] == 10
    few = done.loading_rates(computed=120, processes=4, cores=2)  # two of the four at a time
    assert few["loading_samples_per_second"] == 100 and few["bound_by"] == "loading"
    none = done.loading_rates(computed=40, processes=0, cores=2)
    assert none["loading_samples_per_second"] == 50 and none["bound_by"] == "computing"
    line = loading_line("training", {"samples_per_second": 120.0, **few})
    assert line.startswith("training: computes 120 samples/s; 4 processes (10 pictures/s each) ")
    assert "bound by loading on this machine; `prepare --pixels`" in line
    assert "the main process (10 pictures/s) loads 50 samples/s: bound by computing" in (
        loading_line("evaluation", {"samples_per_second": 40.0, **none})
    )
    assert "computes 1,050 samples/s;" in (
        loading_line("evaluation", {"samples_per_second": 1050.2, **none})
    )


@pytest.mark.parametrize("amx", [True, False])
def test_both_precisions_are_shown_on_a_cpu_with_amx(monkeypatch, amx):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    dtypes = []
    wrapped = bench.optimizer_step

    def step(run, *arguments):
        dtypes.append(torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu"))
        return wrapped(run, *arguments)

    monkeypatch.setattr(bench, "optimizer_step", step)
    report = run_bench(load_recipe("demo/vqa-tiny", SMALL), 1, 8, synthetic="asked for")
    assert report["precision"] == "fp32" and (BF16 in report) is amx
    assert (torch.bfloat16 in dtypes) is amx and False in dtypes
    titles = [column.header for column in results_table(report).columns]
    assert titles == ["", "ours", *(["in bf16", "ratio"] if amx else [])]
    for part in ("training", "evaluation") if amx else ():
        rates = [report[BF16][part]["samples_per_second"], report[part]["samples_per_second"]]
        assert report[BF16][part]["ratio"] == pytest.approx(rates[0] / rates[1])
