"""Pictures of any kind, texts and boxes → tensors; the boxes must lie where the pixels lie."""

import io
import json
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoProcessor, CLIPImageProcessorPil

from vle_bench.data.boxes import patch_mask
from vle_bench.data.images import read
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.models import VLEProcessor, pretrained

SIZE, PATCH = 32, 8  # 4 × 4 patches


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer(["what is this?", "a red shape"], 64)


@pytest.fixture(scope="module")
def squash(tokenizer):
    return VLEProcessor.from_parts(tokenizer, SIZE, PATCH)


@pytest.fixture(scope="module")
def crop(tokenizer):
    settings = CLIPImageProcessorPil(
        size={"shortest_edge": SIZE}, crop_size={"height": SIZE, "width": SIZE}
    )
    return VLEProcessor(settings, tokenizer, PATCH)


def rgb(processor, image):
    """The picture's pixels as the model gets them, in 0..255, (3, H, W)."""
    settings = processor.image_processor
    pixels = processor(images=image).pixel_values[0].double()
    mean, std = (
        torch.tensor(v).double()[:, None, None] for v in (settings.image_mean, settings.image_std)
    )
    return ((pixels * std + mean) * 255).numpy()


def lit(processor, image):
    """Patches in which a white mark on black lights a pixel, (P,) bool."""
    bright = rgb(processor, image).mean(0) > 60
    return bright.reshape(SIZE // PATCH, PATCH, SIZE // PATCH, PATCH).any((1, 3)).flatten()


def marked(size, box):
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[box[1] : box[3], box[0] : box[2]] = 255
    return Image.fromarray(pixels)


# Each mark ends well inside a patch, so that the blur of the resize lights no other.
@pytest.mark.parametrize(
    ("size", "box"),
    [
        ((96, 48), (28, 15, 44, 21)),
        ((48, 96), (15, 50, 33, 70)),
        ((64, 64), (4, 4, 60, 12)),
        ((16, 20), (5, 1, 7, 18)),
    ],
)
@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_boxes_lie_where_the_pixels_lie(mode, size, box, request):
    processor = request.getfixturevalue(mode)
    image = marked(size, box)
    exact = (box[0], box[1], box[2] - 0.01, box[3] - 0.01)
    features = processor(images=[image], boxes=[[exact]])
    assert np.array_equal(features.object_patch_mask[0, 0].numpy(), lit(processor, image))
    assert features.boxes_outside == 0


@pytest.mark.parametrize("mode", ["squash", "crop"])
def test_boxes_turn_with_the_picture(mode, request):
    """Boxes are in pixels of the upright picture, whatever way the file holds it."""
    processor = request.getfixturevalue(mode)
    upright = marked((48, 96), (15, 50, 33, 70))
    stored = upright.transpose(Image.Transpose.ROTATE_90)
    exif = stored.getexif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    file = io.BytesIO()
    stored.save(file, "PNG", exif=exif)
    opened = Image.open(file)
    features = processor(images=[opened], boxes=[[(15, 50, 32.9, 69.9)]])
    assert torch.equal(features.pixel_values, processor(images=[upright]).pixel_values)
    assert np.array_equal(features.object_patch_mask[0, 0].numpy(), lit(processor, upright))
    assert np.array_equal(read(read(opened, "x"), "x"), upright)  # turned once only
    assert opened.size == (96, 48)  # the user's own image is left as it was


def test_boxes_of_the_squash_are_the_published_mapping(squash):
    boxes = np.array([(10.5, 20, 300, 200), (0, 0, 640, 360), (160, 90, 160, 90)])
    features = squash(images=[Image.new("RGB", (640, 360))], boxes=[boxes])
    assert np.array_equal(features.object_patch_mask[0].numpy(), patch_mask(boxes, 640, 360, 4, 4))
    assert features.object_patch_mask[0, 2].nonzero().tolist() == [
        [5]
    ]  # 160 is a quarter of 640 exactly


def test_boxes_that_the_crop_cuts(crop):
    """96 × 48 pixels become 64 × 32, of which the middle is kept: x from 24 to 72; a patch is 12 pixels."""
    boxes = [(0, 0, 30, 11), (0, 14, 23, 20), (80, 40, 90, 47), (20, 0, 24, 0), (72, 0, 80, 1)]
    features = crop(images=[Image.new("RGB", (96, 48))], boxes=[boxes])
    assert [row.nonzero().flatten().tolist() for row in features.object_patch_mask[0]] == [
        [0],
        [4],
        [15],
        [0],
        [3],
    ]
    assert features.boxes_outside == 4
    assert crop.window(96, 48) == (24, 0, 48, 48)


def test_window_of_a_tall_picture(crop):
    """48 × 97 pixels become 32 × 64 (64.67 rounded down), of which the rows 16 to 48 are kept."""
    assert crop.window(48, 97) == pytest.approx((0, 16 * 97 / 64, 48, 32 * 97 / 64))


@pytest.mark.parametrize("size", [(48, 97), (97, 48), (640, 427), (1920, 797), (33, 32), (5, 99)])
def test_sizes_after_the_resize_are_those_of_the_image_processor(crop, squash, size):
    for processor in (crop, squash):
        settings = processor.image_processor
        pixels = settings.preprocess(Image.new("RGB", size), do_center_crop=False)["pixel_values"][
            0
        ]
        assert processor._resized(*size) == pixels.shape[:0:-1]


def test_window_where_the_crop_is_larger_than_the_picture(tokenizer):
    settings = CLIPImageProcessorPil(do_resize=False, crop_size={"height": SIZE, "width": SIZE})
    processor = VLEProcessor(settings, tokenizer, PATCH)
    image = marked((21, 18), (0, 0, 2, 2))
    features = processor(images=image, boxes=[[(0, 0, 1.9, 1.9)]])
    assert np.array_equal(features.object_patch_mask[0, 0].numpy(), lit(processor, image))
    assert processor.window(21, 18) == (-6, -7, 32, 32)


def test_padding_of_boxes(squash):
    images = [Image.new("RGB", (8, 8))] * 3
    features = squash(
        images=images, boxes=[[], [(0, 0, 1, 1), (7, 7, 8, 8)], np.array([(0, 0, 8, 8, 0.9)])]
    )
    assert (
        features.object_patch_mask.shape == (3, 2, 16)
        and features.object_patch_mask.dtype == torch.bool
    )
    assert features.object_mask.tolist() == [[0, 0], [1, 1], [1, 0]]
    assert features.object_patch_mask.sum(-1).tolist() == [[0, 0], [1, 1], [16, 0]]
    assert squash(images=images, boxes=[[], [], []]).object_patch_mask.shape == (3, 0, 16)


def test_pixels_are_those_of_the_image_processor(squash, crop):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8))
    for processor in (squash, crop):
        expected = processor.image_processor([image, image], return_tensors="pt")["pixel_values"]
        torch.testing.assert_close(
            processor(images=[image, image]).pixel_values, expected, atol=1e-5, rtol=0
        )


def picture(mode):
    """One colour in every mode, and what it is in RGB."""
    grey = {"L": 100, "LA": (100, 7), "I;16": 100 * 257, "I": 100 * 257, "I;16B": 100 * 257}
    if mode in grey:
        return Image.new(mode, (5, 4), grey[mode]), (100, 100, 100)
    if mode == "P":
        image = Image.new("P", (5, 4), 1)
        image.putpalette([0, 0, 0, 200, 30, 10])
        return image, (200, 30, 10)
    if mode == "P with transparency":
        image = picture("P")[0]
        image.info["transparency"] = b"\xff\x00"
        return image, (200, 30, 10)
    values = {"RGB": (200, 30, 10), "RGBA": (200, 30, 10, 0), "CMYK": (55, 225, 245, 0), "1": 1}
    return Image.new(mode, (5, 4), values[mode]), (255, 255, 255) if mode == "1" else (200, 30, 10)


@pytest.mark.parametrize(
    "mode",
    ["1", "L", "LA", "P", "P with transparency", "RGB", "RGBA", "CMYK", "I;16", "I;16B", "I"],
)
def test_any_mode(squash, mode):
    image, colour = picture(mode)
    np.testing.assert_allclose(
        rgb(squash, image),
        np.broadcast_to(np.array(colour)[:, None, None], (3, SIZE, SIZE)),
        atol=1e-3,
    )


def test_sixteen_bits_are_scaled(squash, tmp_path):
    values = np.array([[0, 128, 129, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "x.png")
    for source in (
        values,
        values[..., None],
        tmp_path / "x.png",
        str(tmp_path / "x.png"),
        Image.open(tmp_path / "x.png"),
    ):
        assert np.asarray(read(source, "x"))[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_paths_arrays_and_pillow_images_are_the_same(squash, tmp_path):
    array = np.random.default_rng(0).integers(0, 255, (9, 7, 3), dtype=np.uint8)
    image = Image.fromarray(array)
    image.save(tmp_path / "x.png")
    opaque = np.dstack([array, np.full((9, 7), 255, np.uint8)])
    pixels = squash(
        images=[image, array, tmp_path / "x.png", str(tmp_path / "x.png"), opaque]
    ).pixel_values
    assert all(torch.equal(pixels[0], other) for other in pixels)
    assert torch.equal(squash(images=tmp_path / "x.png").pixel_values, pixels[:1])


def png(width, height):
    """A PNG that claims a size and holds no pixels."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def broken(kind, tmp_path):
    path = tmp_path / f"{kind}.png"
    if kind == "truncated":
        content = io.BytesIO()
        Image.fromarray(
            np.random.default_rng(0).integers(0, 255, (50, 50, 3), dtype=np.uint8)
        ).save(content, "PNG")
        path.write_bytes(content.getvalue()[:3000])
    elif kind != "missing":
        sizes = {"huge": (40_000, 40_000), "large": (12_000, 10_000)}
        path.write_bytes(b"" if kind == "empty" else png(*sizes[kind]))
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("truncated", "cannot be read as an image"),
        ("empty", "cannot be read as an image"),
        ("missing", "cannot be read"),
        ("huge", "pixels"),
        ("large", "12000 × 10000 pixels; at most 100000000"),
    ],
)
def test_a_broken_file_is_named_with_its_place(squash, tmp_path, kind, reason):
    path = broken(kind, tmp_path)
    with pytest.raises(ValueError, match=rf"images\[1\] \(.*{kind}\.png\): .*{reason}"):
        squash(images=[Image.new("RGB", (4, 4)), path])
    if kind in ("truncated", "large"):
        with pytest.raises(ValueError, match=rf"images\[0\] \(.*{kind}\.png\): .*{reason}"):
            squash(images=Image.open(path))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"bytes", "a Pillow image, a path, an address or a numpy array is expected, not bytes"),
        (None, "not NoneType"),
        (np.zeros((4, 4, 3)), "an array of uint8 or uint16 is expected, not float64"),
        (np.zeros((3, 5, 6), np.uint8), r"an array \(H, W\) .* is expected, not \(3, 5, 6\)"),
        (np.zeros((0, 4, 3), np.uint8), r"not \(0, 4, 3\)"),
        (np.zeros(4, np.uint8), r"not \(4,\)"),
    ],
)
def test_what_is_no_image(squash, source, message):
    with pytest.raises(ValueError, match=rf"images\[2\]: .*{message}"):
        squash(images=[Image.new("RGB", (4, 4)), Image.new("L", (4, 4)), source])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"text\[0\]: .* got an empty string"),
        (["a shape", " \n"], r"text\[1\]: .* got an empty string"),
        (["a shape", None], r"text\[1\]: expected a string, got NoneType"),
    ],
)
def test_what_is_no_text(squash, text, message):
    with pytest.raises(ValueError, match=message):
        squash(text=text)


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([[(0, 0, 1, 1)]], "boxes: expected an array for each of the 2 images, got 1"),
        (
            [[(0, 0, 1, 1)], [(0, 0, 1, 1), (3, 0, 1, 1)]],
            r"images\[1\]: boxes\[1\]: x2 is less than x1",
        ),
    ],
)
def test_refused_boxes(squash, boxes, message):
    with pytest.raises(ValueError, match=message):
        squash(images=[Image.new("RGB", (4, 4))] * 2, boxes=boxes)


def test_boxes_need_their_picture_and_the_patch_size(squash, tokenizer):
    with pytest.raises(ValueError, match="boxes need the images"):
        squash(text="a shape", boxes=[[(0, 0, 1, 1)]])
    with pytest.raises(ValueError, match="patch_size"):
        VLEProcessor.from_parts(tokenizer, SIZE)(
            images=Image.new("RGB", (4, 4)), boxes=[[(0, 0, 1, 1)]]
        )


def test_text_is_padded_on_the_right_and_cut(squash):
    features = squash(text=["a red shape", "what is this? a red shape"], max_length=6)
    assert features.input_ids.shape == (2, 6)
    assert features.attention_mask.tolist() == [[1, 1, 1, 1, 1, 0], [1, 1, 1, 1, 1, 1]]


def test_saved_and_loaded_again(crop, tmp_path):
    crop.save_pretrained(tmp_path)
    again = VLEProcessor.from_folder(tmp_path)
    image, boxes = marked((96, 48), (28, 15, 44, 21)), [[(28, 15, 44, 21)]]
    first, second = (p(images=image, text="a red shape", boxes=boxes) for p in (crop, again))
    assert again.patch_size == PATCH and set(first) == set(second)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_pillow_image_processor_is_used_whatever_else_is_installed(tokenizer):
    class OfTorchvision:
        def to_dict(self):
            return {
                "size": {"height": SIZE, "width": SIZE},
                "do_center_crop": False,
                "image_processor_type": "CLIPImageProcessor",
            }

    processor = VLEProcessor(OfTorchvision(), tokenizer, PATCH)
    assert isinstance(processor.image_processor, CLIPImageProcessorPil)
    assert processor(images=Image.new("RGB", (50, 40))).pixel_values.shape == (1, 3, SIZE, SIZE)


def test_published_vcr_crops_the_pixels_and_maps_the_boxes_as_squashed(
    tokenizer, crop, squash, tmp_path
):
    VLEProcessor.from_parts(tokenizer, SIZE, PATCH, "published-vcr").save_pretrained(tmp_path)
    published = VLEProcessor.from_folder(tmp_path)
    image, boxes = (
        marked((96, 48), (28, 15, 44, 21)),
        [[(0, 0, 30, 11), (72, 0, 80, 1), (28, 15, 44, 21)]],
    )
    features, cropped, squashed = (
        processor(images=image, boxes=boxes) for processor in (published, crop, squash)
    )
    assert (
        published.resize == "published-vcr"
        and features.boxes_outside == squashed.boxes_outside == 0
    )
    assert torch.equal(features.pixel_values, cropped.pixel_values)
    assert torch.equal(features.object_patch_mask, squashed.object_patch_mask)
    assert (
        not torch.equal(features.object_patch_mask, cropped.object_patch_mask)
        and cropped.boxes_outside == 1
    )


@pytest.mark.parametrize("resize", ["crop", "squash", "published-vcr"])
def test_each_way_is_saved_and_can_be_set(tokenizer, tmp_path, resize):
    VLEProcessor.from_parts(tokenizer, SIZE, PATCH, resize).save_pretrained(tmp_path)
    for processor in (
        VLEProcessor.from_folder(tmp_path),
        AutoProcessor.from_pretrained(str(tmp_path)),
    ):
        assert (processor.resize, processor.square) == (resize, (SIZE, SIZE))
    loaded = pretrained.load_processor(tmp_path, 48)
    assert (loaded.resize, loaded.square) == (resize, (48, 48))
    for other in ("crop", "squash", "published-vcr"):
        changed = pretrained.load_processor(tmp_path, 48, other)
        assert (changed.resize, changed.square) == (other, (48, 48))
        assert changed(images=Image.new("RGB", (90, 60))).pixel_values.shape == (1, 3, 48, 48)


def test_what_earlier_versions_saved_is_what_it_was(tokenizer, squash, tmp_path):
    """Squashed, without a word of boxes; and a folder's own transform, odd as it may be, is kept for its own size."""
    squash.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "processor_config.json").read_text(encoding="utf-8"))
    del saved["boxes_as_squashed"]
    (tmp_path / "processor_config.json").write_text(json.dumps(saved), encoding="utf-8")
    former = VLEProcessor.from_folder(tmp_path)
    assert (former.resize, former.square) == ("squash", (SIZE, SIZE))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 70, 3), dtype=np.uint8))
    assert torch.equal(former(images=image).pixel_values, squash(images=image).pixel_values)
    size = {"height": SIZE, "width": SIZE}
    settings = CLIPImageProcessorPil(
        size={"shortest_edge": 40}, crop_size=size, image_mean=[0.5] * 3, resample=2
    )
    VLEProcessor(settings, tokenizer, PATCH).save_pretrained(tmp_path / "odd")
    assert (
        pretrained.load_processor(tmp_path / "odd", SIZE).image_processor.size["shortest_edge"]
        == 40
    )
    larger = pretrained.load_processor(tmp_path / "odd", 48).image_processor
    assert (larger.size["shortest_edge"], larger.image_mean, larger.resample) == (
        48,
        (0.5, 0.5, 0.5),
        2,
    )


def test_the_call_of_the_published_code(squash):
    features = squash(
        text=["a red shape", "what is this? a red shape"],
        images=[Image.new("RGB", (9, 9))] * 2,
        return_tensors="pt",
        padding=True,
    )
    assert features.input_ids.shape == features.attention_mask.shape == (2, 9)
    assert torch.equal(
        features.input_ids, squash(text=["a red shape", "what is this? a red shape"]).input_ids
    )
    assert features.pixel_values.shape == (2, 3, SIZE, SIZE)
    fixed = squash(text="a red shape", padding="max_length", truncation=True, max_length=7)
    assert fixed.input_ids.shape == (1, 7) and fixed.attention_mask.sum() == 5
    with pytest.raises(ValueError, match="return_tensors: 'np': the models take torch's"):
        squash(text="a red shape", return_tensors="np")
