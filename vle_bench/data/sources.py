"""Facts about the datasets."""

# What `prepare` can prepare, and the options that only it has
SOURCES: dict[str, tuple[str, ...]] = {
    "easy-vqa": ("--limit-images", "--label-map", "--published-targets"),
    "vqav2": ("--label-map", "--published-targets", "--visual-genome", "--vg-image-data"),
    "vcr": (),
    "shapes-vcr": ("--seed",),
}


# Width and height. COCO's most frequent size; a wide film's frame in 1080p; the sizes that the two made sources draw.
PICTURES = {"vqav2": (640, 480), "vcr": (1920, 800), "easy-vqa": (64, 64), "shapes-vcr": (96, 96)}
# Questions of the images in turn. VQA v2: 443,757 about 82,783 images (train), 5.4; VCR: 290 thousand about 110 thousand, 2.6;
# easy-VQA: 48,248 about 5,000, 9.6; shapes-vcr: 3.
QUESTIONS_AN_IMAGE = {
    "vqav2": (5, 6, 5, 6, 5),
    "vcr": (2, 3, 3),
    "easy-vqa": (9, 10),
    "shapes-vcr": (3,),
}
ANSWERS = {"vqav2": 3129, "easy-vqa": 13}  # METER's and VLE's vocabulary for VQA v2; easy-VQA's own


DATA = {"vqav2": "VQA v2", "vcr": "VCR", "easy-vqa": "easy-VQA", "shapes-vcr": "shapes-VCR"}


# Splits that published figures are of; `unstated` where the source does not say, which no table may mix with the others.
SPLITS = {
    "vqav2": ("test-dev", "test-std"),
    "vcr": ("val", "test", "unstated"),
    "flickr30k": ("test",),  # Karpathy's, 1,000 images
    "coco": ("test",),  # Karpathy's, 5,000 images
    "easy-vqa": ("test",),
}
# Splits whose number of questions is known beforehand.
SIZED = {
    "vqav2": ("train", "val", "test", "test-dev"),
    "vcr": ("train", "val", "test"),
    "shapes-vcr": ("train", "val", "test"),
    "easy-vqa": ("test",),
}


VCR_SOURCES = ("vcr", "shapes-vcr")


# A name that may stand for several tables of a prepared folder. Where a folder has a table of the name itself
# (easy-VQA's `val`), that is meant.
ALIASES = {"val": ("val-minival", "minival"), "trainval": ("train", "val")}
# Visual Genome's questions are about COCO images of these splits, and test-dev is a part of test.
IMAGES_OF = {
    "vg": ("train", "val-minival"),
    "vg-minival": ("minival",),
    "test": ("test-dev", "test-rest"),
    **ALIASES,
}


# The names that a recipe may give, by source: of splits with labels, and of those without.
KNOWN = {
    "easy-vqa": (("train", "val", "test"), ()),
    "vqav2": (
        ("train", "val-minival", "minival", "val", "trainval", "vg", "vg-minival"),
        ("test-dev", "test"),
    ),
    **dict.fromkeys(
        ("vcr", "shapes-vcr"), (("train", "val", "test"), ())
    ),  # a copy of test may have labels; its manifest says
}
