"""Every published figure is there as it was read, nothing else is, and wrong entries are refused by key."""

from decimal import Decimal
from pathlib import Path

import pytest

from vle_bench.errors import RequestError
from vle_bench.published import load_published
from vle_bench.recipe import load_recipe, shipped_recipes

SHIPPED = Path(__file__).parents[2] / "leaderboards"
# What was read, a line a model and source: "model | source | figures", a dash where nothing was read.
VQA = """
CoCa | vle-readme | 82.3 -
BeiT-3 | vle-readme | 84.2 -
OFA | vle-readme | 82.0 -
BLIP | vle-readme | 78.3 -
METER-base | vle-readme | 77.7 -
METER-base †‡ | vle-readme | 76.8 -
METER-Huge | vle-readme | 80.3 -
VLE-base ‡ | vle-readme | 77.6 -
VLE-large ‡ | vle-readme | 79.3 -
METER-base | meter-issue-11 | 77.68 77.64
METER-base | bridgetower-readme | 77.68 77.64
METER-Huge | mirror | 80.33 80.54
METER-Huge | meter-abstract | - 80.54
ViLT | vilt-eval | 71.32 -
LXMERT | lxmert-readme | 72.42 72.54
UNITER-L | mirror | 73.82 74.03
VILLA-L | mirror | 74.69 74.9
VL-BERT-L | mirror | 71.79 -
ERNIE-ViL-L | mirror | 74.75 74.93
VinVL-L | oscar-zoo | 76.6 76.62
ALBEF | lavis-card | 75.8 76.0
BLIP | lavis-card | 78.3 78.3
BLIP ¶ | lavis-card | 78.23 78.29
X-VLM | lavis-card | 78.2 78.4
FIBER | fiber-readme | - 78.46
BridgeTower-B | bridgetower-readme | - 78.73
BridgeTower-L | bridgetower-readme | - 81.15
SimVLM | lavis-card | 80.0 80.3
Florence | lavis-card | 80.2 80.4
CoCa | lavis-card | 82.3 82.3
OFA-tiny | ofa-readme | 70.3 70.4
OFA-medium | ofa-readme | 75.4 75.5
OFA-base | ofa-readme | 78.0 78.1
OFA-large | ofa-readme | 80.4 80.7
OFA-huge | ofa-readme | 82.0 82.0
BEiT-3-base | beit3-readme | 77.65 -
BEiT-3-large | beit3-readme | 81.85 -
X2-VLM-L | mirror | 81.9 81.8
PaLI-X | mirror | 86.0 86.1
PaliGemma 448 | big-vision-readme | - 85.64
"""
VILT_BY_TYPE = "ViLT | vilt-eval | 87.44 50.2 62.38"
# Q2A, QA2R, Q2AR
VCR_VAL = """
METER-base § | vle-readme | 77.6 79.8 -
VLE-base § | vle-readme | 79.9 83.7 -
VLE-large § | vle-readme | 84.3 87.5 -
R2C | mirror | 63.8 67.2 43.1
VL-BERT-B | mirror | 73.8 74.4 55.2
VL-BERT-L | mirror | 75.5 77.9 58.9
VILLA-B | ernie-vil-readme | 75.54 78.78 59.75
VILLA-L | ernie-vil-readme | 78.45 82.57 65.18
ERNIE-ViL-B | ernie-vil-readme | 76.37 79.65 61.24
ERNIE-ViL-L | ernie-vil-readme | 78.52 83.37 65.81
MERLOT | merlot-page | 80.6 - -
"""
VCR_TEST = """
VL-BERT-L | mirror | 75.8 78.4 59.7
VILLA-B | ernie-vil-readme | 76.4 79.1 60.6
VILLA-L | ernie-vil-readme | 78.9 82.8 65.7
ERNIE-ViL-B | ernie-vil-readme | 77.0 80.3 62.1
ERNIE-ViL-L | ernie-vil-readme | 79.2 83.5 66.3
UNITER-L | mirror | - - 62.8
"""
# Flickr30k TR, IR, COCO TR, IR
RETRIEVAL = """
METER-base | mirror | 94.3 82.22 76.16 57.08
ViLT | vilt-eval | 83.6 64.5 61.6 43.0
ALBEF | lavis-benchmark | - - 77.6 61.0
BLIP | lavis-benchmark | 96.9 87.5 82.0 64.5
FIBER ‖ | fiber-readme | 95.10 84.10 75.14 59.03
BEiT-3-base | beit3-readme | 96.3 86.2 79.1 61.4
BEiT-3-large | beit3-readme | 97.2 88.1 82.1 63.4
CLIP ⁰ | lavis-benchmark | 86.5 67.0 57.2 36.5
"""
EASY = """
most frequent answer | easy-vqa | 37.33 -
best question-only rule | easy-vqa | 67.00 23.30
another public model | unnamed | 87.60 -
easy-VQA-keras | easy-vqa-keras | 93.78 -
"""
VCR_TASKS = ("vcr_q2a", "vcr_qa2r", "vcr_q2ar")
Figure = tuple[str, str, str, str, str, str, str]  # model with its marks, data, split, task, metric, source, value


def read(text: str, places: list[tuple[str, str, str, str]]) -> set[Figure]:
    found = set()
    for line in text.strip().splitlines():
        model, source, figures = line.split(" | ")
        for place, value in zip(places, figures.split(), strict=True):
            if value != "-":
                found.add((model, *place, source, value))
    return found


def test_every_figure_that_was_read_and_no_other() -> None:
    expected = (
        read(VQA, [("vqav2", split, "vqa", "accuracy") for split in ("test-dev", "test-std")])
        | read(VILT_BY_TYPE, [("vqav2", "test-dev", "vqa", f"accuracy_{kind}") for kind in ("yes_no", "number", "other")])
        | read(VCR_VAL, [("vcr", "val", task, "accuracy") for task in VCR_TASKS])
        | read(VCR_TEST, [("vcr", "test", task, "accuracy") for task in VCR_TASKS])
        | read(RETRIEVAL, [(data, "test", f"{side}_retrieval", "recall_at_1")
                           for data in ("flickr30k", "coco") for side in ("text", "image")])
        | read(EASY, [("easy-vqa", "test", "vqa", f"accuracy{kind}") for kind in ("", "_not_yes_no")])
    )  # fmt: skip
    published = load_published(SHIPPED)
    found = {
        (f"{s.model} {''.join(published.marks[mark].sign for mark in s.marks)}".strip(), s.data, s.split, s.task, s.metric,
         s.source, str(s.value))
        for s in published.scores
    }  # fmt: skip
    assert found == expected
    assert len(found) == len(published.scores) == 144


def test_how_each_was_read() -> None:
    published = load_published(SHIPPED)
    assert {s.read_as for s in published.scores if s.source == "mirror"} == {"mirror"}
    assert {s.source for s in published.scores if s.read_as == "mirror"} == {"mirror"}
    assert {s.model for s in published.scores if s.read_as == "computed"} == {"most frequent answer", "best question-only rule"}
    assert {s.source for s in published.scores if s.read_as == "paper"} == {"meter-abstract"}


def test_each_shipped_recipe_belongs_to_one_model() -> None:
    names = [load_recipe(str(f)).name for n, f in shipped_recipes().items() if n.startswith(("vqa/", "vcr/"))]
    owned = [recipe for model in load_published(SHIPPED).models for recipe in model.recipes]
    assert sorted(owned) == sorted(name for name in names if not name.endswith("second-stage"))


def test_each_shipped_recipe_expects_a_published_figure() -> None:
    """`expect` of a recipe stands among the published figures of the model that it fine-tunes."""
    published = load_published(SHIPPED)
    owner = {recipe: model.name for model in published.models for recipe in model.recipes}
    for name, file in shipped_recipes().items():
        recipe = load_recipe(str(file))
        if recipe.expect is None or recipe.name not in owner:
            continue
        figures = [
            s.value for s in published.scores
            if (s.model, s.task, s.split, s.metric) == (owner[recipe.name], recipe.task, recipe.expect.split, recipe.expect.metric)
        ]  # fmt: skip
        assert Decimal(repr(recipe.expect.value)) in figures, name


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('value: "82.3"', 'value: "823"', r"scores\.0\.value: input should be less than or equal to 100, not '823' \(CoCa\)"),
        ('value: "82.3"', 'value: "-1"', r"scores\.0\.value: .* \(CoCa\)"),
        ('value: "82.3"', 'value: "nan"', r"scores\.0\.value: .* \(CoCa\)"),
        ("source: vle-readme", "source: vle-redme", r"scores\.0\.source: 'vle-redme' is not defined; nearest: vle-readme"),
        ("split: test-dev", "split: dev", r"scores\.0\.split: vqav2 has no 'dev'; there are test-dev, test-std \(CoCa\)"),
        ("task: vqa", "task: vcr_q2a", r"scores\.0\.task: vqav2 has no 'vcr_q2a'"),
        ("model: CoCa", "model: Koka", r"scores\.0\.model: 'Koka' is not defined; nearest:"),
        ("marks: [reproduced", "marks: [reprodused", r"scores\.5\.marks: 'reprodused' is not defined; nearest: reproduced"),
        ("data: vqav2", "data: vqav3", r"scores\.0\.data: input should be 'vqav2'.*not 'vqav3' \(CoCa\)"),
        ("read_as: readme", "read_as: rumour", r"scores\.0\.read_as: .*'rumour'"),
        ("model: BeiT-3, data", "model: CoCa, data", "scores: .*twice"),
        ("parameters: 385_000_000", "parameters: 385_000_000\n    size: big", r"models\.3\.size: unknown key \(BLIP\)"),
        ("name: OFA\n", "name: CoCa\n", "models: CoCa stands twice"),
        ("vle-base-vqa-256", "vle-large-vqa", "models: the recipe vle-large-vqa belongs to two models"),
        ("n: 107_394", "n: 0", r"split_sizes\.\d\.n: input should be greater than 0"),
        ("marks:\n", "marks:\n\t", "line 1[0-9]: found character .*that cannot start any token"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, old: str, new: str, says: str) -> None:
    text = (SHIPPED / "published.yaml").read_text()
    assert old in text
    if old == "model: BeiT-3, data":  # the same model, and the same value beside it
        text = text.replace('value: "84.2"', 'value: "82.3"')
    (tmp_path / "published.yaml").write_text(text.replace(old, new, 1))
    with pytest.raises(RequestError, match=f"published.yaml: {says}"):
        load_published(tmp_path)


def test_all_problems_at_once(tmp_path: Path) -> None:
    text = (SHIPPED / "published.yaml").read_text()
    (tmp_path / "published.yaml").write_text(text.replace('"82.3"', '"823"', 1).replace('"84.2"', '"842"', 1))
    with pytest.raises(RequestError) as error:
        load_published(tmp_path)
    assert len(str(error.value).splitlines()) == 2


def test_a_folder_without_the_file_takes_the_shipped_one(tmp_path: Path) -> None:
    assert load_published(tmp_path) == load_published(SHIPPED)
