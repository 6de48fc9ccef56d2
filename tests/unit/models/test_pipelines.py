"""The pipelines against the models called by hand, on tiny random weights."""

import base64
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RunFailed
from vle_bench.models import VLEConfig, VLEForITM, VLEForPBC, VLEForVQA, VLEModel, VLEProcessor
from vle_bench.models.vle.pipelines import HEAT_OPACITY, heat_map

ANSWERS = ["yes", "no", "red", "blue", "circle", "two", "three"]
SIZE, PATCH = 32, 8
TEXTS = ["what is this?", "a red shape", "is there a blue circle in the picture?"]
CLASSES = {"vle-vqa": VLEForVQA, "vle-itm": VLEForITM, "vle-pbc": VLEForPBC}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """task → a saved folder; "bare" → one of VLEModel."""
    root = tmp_path_factory.mktemp("models")
    tokenizer = train_tokenizer(TEXTS, 96)
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = VLEConfig(
        text_config={
            **sizes,
            "model_type": "deberta-v2",
            "vocab_size": len(tokenizer),
            "max_position_embeddings": 12,
        },
        vision_config={**sizes, "image_size": SIZE, "patch_size": PATCH},
        id2label=dict(enumerate(ANSWERS)),
        initializer_range=0.5,
        **sizes,
    )
    for task, cls in {**CLASSES, "bare": VLEModel}.items():
        torch.manual_seed(0)
        cls(config).save_pretrained(root / task)
        VLEProcessor.from_parts(tokenizer, SIZE, PATCH).save_pretrained(root / task)
    return {task: root / task for task in (*CLASSES, "bare")}


@pytest.fixture(scope="module")
def pipes(folders):
    return {task: pipeline(task, model=str(folders[task]), device="cpu") for task in CLASSES}


@pytest.fixture(scope="module")
def images():
    rng = np.random.default_rng(0)
    return [
        Image.fromarray(rng.integers(0, 255, (h, w, 3), dtype=np.uint8))
        for w, h in ((40, 20), (32, 32), (9, 70))
    ]


def logits(folders, task, image, text):
    model, processor = (
        CLASSES[task].from_pretrained(folders[task]).eval(),
        VLEProcessor.from_folder(folders[task]),
    )
    with torch.inference_mode():
        return model(**processor(images=image, text=text)).logits[0]


def test_vqa(pipes, folders, images):
    expected = logits(folders, "vle-vqa", images[0], TEXTS[0]).sigmoid()
    got = pipes["vle-vqa"](images[0], TEXTS[0])
    assert len(got) == 5 and [a["answer"] for a in got] == [
        ANSWERS[i] for i in expected.argsort(descending=True)[:5]
    ]
    assert [a["score"] for a in got] == pytest.approx(
        expected.sort(descending=True).values[:5].tolist(), abs=1e-6
    )
    assert pipes["vle-vqa"](images[0], TEXTS[0], top_k=1) == got[:1]
    assert len(pipes["vle-vqa"](images[0], TEXTS[0], top_k=100)) == len(ANSWERS)
    with pytest.raises(ValueError, match="top_k: expected 1 or more, got 0"):
        pipes["vle-vqa"](images[0], TEXTS[0], top_k=0)


def test_answers_are_ranked_by_logits(pipes, images, monkeypatch):
    """16 and 16.5 are both 1 as float32 probabilities, 17 and 40 too; the score stays a probability."""
    pipe = pipes["vle-vqa"]
    ranked = pipe.postprocess(
        {"logits": torch.tensor([[17.0, 40.0, -3.0, 18.0, -200.0, -300.0, 0.0]])}, top_k=7
    )
    assert [a["answer"] for a in ranked] == [ANSWERS[i] for i in (1, 3, 0, 6, 2, 4, 5)]
    assert ranked[0]["score"] == ranked[2]["score"] == 1.0


@pytest.mark.parametrize("task", CLASSES)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_give_no_answer(folders, images, task, value):
    pipe = pipeline(task, model=str(folders[task]), device="cpu")
    broken = iter([False, True, False, True, False])

    def damage(module, given, output):
        for row in output.logits:
            if next(broken):
                row.view(-1)[0] = value

    pipe.model.register_forward_hook(damage)
    assert pipe(images[0], TEXTS[0]) is not None
    with pytest.raises(
        RunFailed,
        match=rf"^{task}: the logits of 2 of 4 inputs are not finite .*: inputs\[0\], inputs\[2\];",
    ):
        pipe(images[0], [TEXTS[0]] * 4, batch_size=4)


def test_itm(pipes, folders, images):
    expected = logits(folders, "vle-itm", images[0], TEXTS[1]).softmax(-1)[1].item()
    assert pipes["vle-itm"](images[0], TEXTS[1])["score"] == pytest.approx(expected, abs=1e-6)


def test_pbc(pipes, folders, images):
    expected = (
        logits(folders, "vle-pbc", images[0], TEXTS[1]).softmax(-1)[:, 1].reshape(4, 4).numpy()
    )
    got = pipes["vle-pbc"](images[0], TEXTS[1])
    np.testing.assert_allclose(got["scores"], expected, atol=1e-6)
    assert got["image"].size == images[0].size  # 40 × 20: a patch is 10 × 5 pixels
    shown = np.asarray(got["image"])
    for row, col in ((0, 0), (2, 3)):
        alpha = expected[row, col] * HEAT_OPACITY
        y, x = row * 5, col * 10 + 9
        mixed = np.asarray(images[0])[y, x] * (1 - alpha) + np.array([255, 0, 0]) * alpha
        np.testing.assert_allclose(shown[y, x], mixed, atol=0.51)


def test_heat_map_of_a_crop():
    """40 × 20 pixels of which the middle 20 × 20 are seen: what is cut off keeps its colour."""
    shown = (
        np.asarray(
            heat_map(Image.new("RGB", (40, 20)), np.array([[1, 0], [0, 0.5]]), (10, 0, 20, 20))
        )[:, :, 0]
        / 255
    )
    expected = np.zeros((20, 40))
    expected[:10, 10:20], expected[10:, 20:30] = HEAT_OPACITY, HEAT_OPACITY / 2
    np.testing.assert_allclose(shown, expected, atol=1 / 255)


@pytest.mark.parametrize("task", CLASSES)
def test_every_way_to_ask(pipes, images, task, tmp_path):
    """Lists, dictionaries, paths, arrays, generators and batches give what single questions give."""

    def flat(results):
        return np.array([numbers(r) for r in results])

    def numbers(result):
        if isinstance(result, list):
            return sorted(a["score"] for a in result)
        return result.get("score", result.get("scores"))

    pipe = pipes[task]
    options = {"top_k": len(ANSWERS)} if task == "vle-vqa" else {}
    single = flat([pipe(i, t, **options) for i, t in zip(images, TEXTS, strict=True)])
    images[0].save(tmp_path / "x.png")
    sources = [str(tmp_path / "x.png"), np.asarray(images[1]), images[2]]
    names = ("text", "question", "text")
    pairs = [
        {"image": source, name: text}
        for source, name, text in zip(sources, names, TEXTS, strict=True)
    ]
    for inputs in ((sources, TEXTS), (pairs,)):
        for batch_size in (1, 2, 3):
            np.testing.assert_allclose(
                flat(pipe(*inputs, batch_size=batch_size, **options)), single, atol=1e-5
            )
    np.testing.assert_allclose(flat(pipe((pair for pair in pairs), **options)), single, atol=1e-5)
    np.testing.assert_allclose(flat([pipe(pairs[0], **options)]), single[:1], atol=1e-5)
    same = flat(pipe(images[0], question=TEXTS, batch_size=2, **options))
    np.testing.assert_allclose(
        same, flat([pipe(images[0], t, **options) for t in TEXTS]), atol=1e-5
    )
    assert len(pipe(images, TEXTS[0])) == 3 and pipe([], []) == []


def test_a_long_text_is_cut_to_the_positions_of_the_encoder(pipes, folders, images):
    """12 positions here; what lies behind them cannot matter."""
    text = " ".join(["red"] * 50)
    assert pipes["vle-itm"](images[0], text) == pipes["vle-itm"](images[0], text + " blue circle")
    short = pipes["vle-itm"](images[0], text, max_length=4)["score"]
    assert short == pytest.approx(pipes["vle-itm"](images[0], "red red")["score"], abs=1e-6)


def test_a_long_text_in_front_of_roberta(folders, images):
    """Its positions start behind the padding index: 12 rows and padding index 0 leave 11 tokens."""
    sizes = {
        "hidden_size": 16,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    processor = VLEProcessor.from_folder(folders["vle-itm"])
    text = {
        "model_type": "roberta",
        "vocab_size": 96,
        "max_position_embeddings": 12,
        "pad_token_id": 0,
    }
    vision = {**sizes, "image_size": SIZE, "patch_size": PATCH}
    model = VLEForITM(VLEConfig(text_config={**sizes, **text}, vision_config=vision, **sizes))
    pipe = pipeline("vle-itm", model=model, processor=processor, device="cpu")
    assert pipe(images[0], "red " * 50)["score"] == pytest.approx(
        pipe(images[0], "red " * 9)["score"], abs=1e-6
    )
    assert pipe._text_positions() == 11


@pytest.mark.parametrize(
    ("image", "text", "message"),
    [
        (0, "", r"^text\[0\]: .* got an empty string"),
        (0, ["a", ""], r"^inputs\[1\]: text\[0\]: .* got an empty string"),
        ([0, 1], ["a", "a", "a"], "2 images and 3 texts"),
        ({"image": 0}, None, "expected an image and a text"),
        (
            [{"image": 0, "text": "a"}, {"text": "a"}],
            None,
            r"^inputs\[1\]: expected an image and a text",
        ),
        (
            [{"image": 0, "text": "a"}, {"image": "none.png", "text": "a"}],
            None,
            r"^inputs\[1\]: image \(none\.png\): cannot be read",
        ),
        ("none.png", None, "expected an image and a text"),
        ([0, b"x"], "a", r"^inputs\[1\]: image: .* not bytes"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 2])
def test_what_is_refused(pipes, images, image, text, message, batch_size):
    def real(value):
        if isinstance(value, dict):
            return {name: real(v) for name, v in value.items()}
        if isinstance(value, list):
            return [real(v) for v in value]
        return images[value] if isinstance(value, int) else value

    with pytest.raises(ValueError, match=message):
        pipes["vle-itm"](real(image), text, batch_size=batch_size)


@pytest.mark.parametrize(
    ("task", "folder"), [("vle-vqa", "bare"), ("vle-itm", "vle-vqa"), ("vle-pbc", "vle-itm")]
)
def test_a_folder_without_the_head_is_refused(folders, task, folder):
    with pytest.raises(
        ValueError, match=f"needs a model saved as {CLASSES[task].__name__}; .* was saved as"
    ):
        pipeline(task, model=str(folders[folder]), device="cpu")


def test_a_model_object(pipes, folders, images):
    model = VLEForITM.from_pretrained(folders["vle-itm"])
    pipe = pipeline(
        "vle-itm", model=model, processor=VLEProcessor.from_folder(folders["vle-itm"]), device="cpu"
    )
    assert pipe(images[0], "a") == pipes["vle-itm"](images[0], "a")


def test_a_parameter_that_does_not_exist_is_refused(pipes, images):
    with pytest.raises(TypeError, match="vle-itm has no parameter top_k"):
        pipes["vle-itm"](images[0], "a", top_k=3)


@pytest.mark.gpu
def test_on_a_gpu(pipes, folders, images):
    on_gpu = pipeline("vle-itm", model=str(folders["vle-itm"]), device="cuda")
    got = [r["score"] for r in on_gpu(images, TEXTS, batch_size=2)]
    assert got == pytest.approx([r["score"] for r in pipes["vle-itm"](images, TEXTS)], abs=1e-3)


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The address of a server of the folder `tmp_path / "served"`."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "served").mkdir()
    handler_class = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    handler = partial(handler_class, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}"
        served.shutdown()
        thread.join()


def test_addresses_as_images(pipes, images, server, tmp_path):
    images[0].save(tmp_path / "served" / "cat.png")
    inline = (
        "data:image/png;base64,"
        + base64.b64encode((tmp_path / "served" / "cat.png").read_bytes()).decode()
    )
    expected = pipes["vle-vqa"](images[0], TEXTS[0])
    for address in (f"{server}/cat.png", inline):
        assert pipes["vle-vqa"](address, TEXTS[0], timeout=10) == expected
    assert pipes["vle-vqa"]([{"image": f"{server}/cat.png", "question": TEXTS[0]}]) == [expected]
    with pytest.raises(
        ValueError,
        match=rf"inputs\[1\]: image \({server}/dog.png\): cannot be fetched \(HTTP Error 404",
    ):
        pipes["vle-vqa"]([f"{server}/cat.png", f"{server}/dog.png"], TEXTS[0])
    with pytest.raises(ValueError, match="image: cannot be read as data:image/...;base64,"):
        pipes["vle-vqa"]("data:image/png;base64,*", TEXTS[0])
    with pytest.raises(ValueError, match="cannot be fetched"):
        pipes["vle-vqa"]("http://", TEXTS[0])
    for address in ("ftp://host/cat.png", "s3://bucket/cat.png", "file:///cat.png"):
        scheme = address.split("//")[0]
        with pytest.raises(ValueError, match=rf"image \({address}\): {scheme}// is not fetched"):
            pipes["vle-vqa"](address, TEXTS[0])
