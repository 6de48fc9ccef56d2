"""The published figures: all of them and no others, as they were read, and what published.yaml must not say."""

import shlex
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tests.miniature.in_process import run
from vle_bench import strict_yaml
from vle_bench.data.prepare.shapes_vcr import QUESTIONS
from vle_bench.errors import RequestError
from vle_bench.leaderboard.published import Pretraining, Published, Score, load_published
from vle_bench.recipe.load import load_recipe, shipped_recipes

SHIPPED = Path(__file__).parents[3] / "leaderboards"

# model, VQA on test-dev, VCR QA2R and Q2A on val, parameters, pre-training data; figures with the keys of their marks
COMPARISON = """
CoCa       | 82.3                                   | –               | –               | 2100 | unknown
BeiT-3     | 84.2                                   | –               | –               | 1900 | 21 14 160
OFA        | 82.0                                   | –               | –               | 930  | 20 39 140
BLIP       | 78.3                                   | –               | –               | 385  | ~130
METER-base | 77.7; 76.8 reproduced vqa-recipe       | 79.8 vcr-recipe | 77.6 vcr-recipe | 345  | 9
METER-Huge | 80.3                                   | –               | –               | 878  | 20
VLE-base   | 77.6 vqa-recipe                        | 83.7 vcr-recipe | 79.9 vcr-recipe | 378  | 15
VLE-large  | 79.3 vqa-recipe                        | 87.5 vcr-recipe | 84.3 vcr-recipe | 930  | 15
"""
MIRROR = "mirror"
# model, test-dev / test-std, their sources
VQA = """
METER-base    | 77.68 / 77.64 difference | meter-issue-11 / bridgetower-readme
METER-Huge    | 80.33 / 80.54            | mirror
METER-Huge    | – / 80.54                | meter-abstract
ViLT          | 71.32 / –                | vilt-eval
LXMERT        | 72.42 / 72.54            | lxmert-readme
UNITER-L      | 73.82 / 74.03            | mirror
VILLA-L       | 74.69 / 74.9             | mirror
VL-BERT-L     | 71.79 / –                | mirror
ERNIE-ViL-L   | 74.75 / 74.93            | mirror
VinVL-L       | 76.6 / 76.62             | lavis-card / oscar-zoo
ALBEF         | 75.8 / 76.0              | lavis-card
BLIP          | 78.3 / 78.3              | lavis-card
BLIP          | 78.23 rerun headed-14m / 78.29 rerun headed-14m | lavis-benchmark
BLIP          | 77.44 by-users / –       | blip-issue-59
X-VLM         | 78.2 / 78.4              | lavis-card
FIBER-B       | – / 78.46                | fiber-readme
BridgeTower-B | – / 78.73                | bridgetower-readme
BridgeTower-L | – / 81.15                | bridgetower-readme
SimVLM        | 80.0 / 80.3              | lavis-card
Florence      | 80.2 / 80.4              | lavis-card
CoCa          | 82.3 / 82.3              | lavis-card
OFA-tiny      | 70.3 / 70.4              | ofa-readme
OFA-medium    | 75.4 / 75.5              | ofa-readme
OFA-base      | 78.0 / 78.1              | ofa-readme
OFA-large     | 80.4 / 80.7              | ofa-readme
OFA-huge      | 82.0 / 82.0              | ofa-readme
BEiT-3-base   | 77.65 no-in-domain / –   | beit3-readme
BEiT-3-base   | 78.46 in-domain / –      | beit3-readme
BEiT-3-large  | 81.85 no-in-domain / –   | beit3-readme
BEiT-3-large  | 82.53 in-domain / –      | beit3-readme
BEiT-3-large  | 82.97 in-domain-768 / 83.03 in-domain-768 | beit3-readme
X2-VLM-L      | 81.9 / 81.8              | mirror
PaLI-X        | 86.0 / 86.1              | mirror
PaliGemma 448 | – / 85.64                | big-vision-readme
"""
VILT_BY_TYPE = {"accuracy_yes_no": "87.44", "accuracy_number": "50.2", "accuracy_other": "62.38"}
# model, split, Q2A / QA2R / Q2AR, source
VCR = """
R2C         | val      | 63.8 / 67.2 / 43.1    | mirror
VL-BERT-B   | val      | 73.8 / 74.4 / 55.2    | mirror
VL-BERT-L   | val      | 75.5 / 77.9 / 58.9    | mirror
VL-BERT-L   | test     | 75.8 / 78.4 / 59.7    | mirror
VILLA-B     | val      | 75.54 / 78.78 / 59.75 | ernie-vil-readme
VILLA-B     | test     | 76.4 / 79.1 / 60.6    | ernie-vil-readme
VILLA-L     | val      | 78.45 / 82.57 / 65.18 | ernie-vil-readme
VILLA-L     | test     | 78.9 / 82.8 / 65.7    | ernie-vil-readme
ERNIE-ViL-B | val      | 76.37 / 79.65 / 61.24 | ernie-vil-readme
ERNIE-ViL-B | test     | 77.0 / 80.3 / 62.1    | ernie-vil-readme
ERNIE-ViL-L | val      | 78.52 / 83.37 / 65.81 | ernie-vil-readme
ERNIE-ViL-L | test     | 79.2 / 83.5 / 66.3    | ernie-vil-readme
UNITER-L    | test     | – / – / 62.8          | mirror
MERLOT      | unstated | 80.6 no-split / – / – | merlot-page
"""
# model, marks, Flickr30k TR / IR, COCO TR / IR, source
RETRIEVAL = """
METER-base   | test-as-val     | 94.3 / 82.22  | 76.16 / 57.08 | mirror
ViLT         | test-as-val     | 83.60 / 64.54 | 61.62 / 42.99 | vilt-eval
ALBEF        | rerun           | – / –         | 77.6 / 61.0   | lavis-benchmark
BLIP         | rerun headed-14m | 96.9 / 87.5   | 82.0 / 64.5   | lavis-benchmark
FIBER-B      | itm test-as-val | 95.10 / 84.10 | 75.14 / 59.03 | fiber-readme
BEiT-3-base  |                 | 96.3 / 86.2   | 79.1 / 61.4   | beit3-readme
BEiT-3-large |                 | 97.2 / 88.1   | 82.1 / 63.4   | beit3-readme
CLIP         | zero-shot rerun | 86.5 / 67.0   | 57.2 / 36.5   | lavis-benchmark
"""
# model, metric, figure, source, how it was read
EASY_VQA = """
most frequent answer    | accuracy            | 37.33 | easy-vqa         | computed
best question-only rule | accuracy            | 67.00 | easy-vqa         | computed
best question-only rule | accuracy_not_yes_no | 23.30 | easy-vqa         | computed
another public model    | accuracy            | 87.60 | ambilduke-readme | readme
easy-VQA-keras          | accuracy            | 93.78 | easy-vqa-keras   | unstated
"""
READ_AS = {MIRROR: "mirror", "meter-abstract": "paper"}

# model, data, task, split, metric, figure as printed, marks, source, how it was read
Figure = tuple[str, str, str, str, str, str, frozenset[str], str, str]


def lines(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")] for line in table.strip().splitlines()]


def expected() -> list[Figure]:
    found: list[Figure] = []

    def add(
        model: str,
        data: str,
        task: str,
        split: str,
        cell: str,
        source: str,
        metric: str = "accuracy",
    ) -> None:
        for one in cell.split(";"):
            value, *marks = one.split()
            if value != "–":
                found.append(
                    (
                        model,
                        data,
                        task,
                        split,
                        metric,
                        value,
                        frozenset(marks),
                        source,
                        READ_AS.get(source, "readme"),
                    )
                )

    for model, vqa, qa2r, q2a, *_ in lines(COMPARISON):
        add(model, "vqav2", "vqa", "test-dev", vqa, "vle-readme")
        add(model, "vcr", "vcr_qa2r", "val", qa2r, "vle-readme")
        add(model, "vcr", "vcr_q2a", "val", q2a, "vle-readme")
    for model, figures, sources in lines(VQA):
        for split, cell, source in zip(
            ("test-dev", "test-std"),
            figures.split("/"),
            (sources.split(" / ") * 2)[:2],
            strict=True,
        ):
            add(model, "vqav2", "vqa", split, cell, source)
    for metric, value in VILT_BY_TYPE.items():
        add("ViLT", "vqav2", "vqa", "test-dev", value, "vilt-eval", metric)
    for model, split, figures, source in lines(VCR):
        for task, cell in zip(("vcr_q2a", "vcr_qa2r", "vcr_q2ar"), figures.split("/"), strict=True):
            add(model, "vcr", task, split, cell, source)
    for model, marks, *pairs, source in lines(RETRIEVAL):
        for data, figures in zip(("flickr30k", "coco"), pairs, strict=True):
            for task, value in zip(
                ("text_retrieval", "image_retrieval"), figures.split("/"), strict=True
            ):
                add(model, data, task, "test", f"{value} {marks}", source, "recall_at_1")
    for model, metric, value, source, read_as in lines(EASY_VQA):
        found.append(
            (model, "easy-vqa", "vqa", "test", metric, value, frozenset(), source, read_as)
        )
    return found


def test_every_figure_that_was_read_and_no_other() -> None:
    shipped = [
        (
            s.model,
            s.data,
            s.task,
            s.split,
            s.metric,
            str(s.value),
            frozenset(s.marks),
            s.source,
            s.read_as,
        )
        for s in load_published(SHIPPED).scores
    ]
    assert set(shipped) - set(expected()) == set() and set(expected()) - set(shipped) == set()
    assert len(shipped) == len(set(shipped)) == len(expected()) == 147


def test_models_of_the_comparison_come_first_with_what_it_says_of_them() -> None:
    models = load_published(SHIPPED).models
    rows = lines(COMPARISON)
    for model, (name, _, _, _, parameters, data) in zip(models, rows, strict=False):
        assert (model.name, model.parameters) == (name, int(parameters) * 1_000_000)
        if data == "unknown":
            assert model.pretraining == "unknown"
            continue
        pairs, images, text = (*data.lstrip("~").split(), None, None)[:3]
        assert model.pretraining == Pretraining(
            image_text_pairs=int(pairs or 0) * 1_000_000,
            images=int(images) * 1_000_000 if images else None,
            text_gigabytes=int(text) if text else None,
            approximate=data.startswith("~"),
        )
    # Of the others neither was read anywhere; they stand in the order of their first figures.
    others = list(
        dict.fromkeys(row[0] for table in (VQA, VCR, RETRIEVAL, EASY_VQA) for row in lines(table))
    )
    later = [name for name in others if name not in {row[0] for row in rows}]
    assert [m.name for m in models[len(rows) :]] == later
    assert all(m.parameters is None and m.pretraining is None for m in models[len(rows) :])


def test_decimals_are_those_of_the_source() -> None:
    values = {str(s.value) for s in load_published(SHIPPED).scores}
    assert {"82.0", "96.3", "95.10", "78.0", "50.2", "23.30"} <= values
    assert all(isinstance(s.value, Decimal) for s in load_published(SHIPPED).scores)


def test_everything_defined_is_used_and_marks_say_something() -> None:
    published = load_published(SHIPPED)
    assert {mark for s in published.scores for mark in s.marks} == set(published.marks)
    named = {e.source for e in (*published.scores, *published.split_sizes)}
    for model in published.models:
        named |= {one.source for one in (*model.remarks, *[model.weights] * bool(model.weights))}
    named |= {source for mark in published.marks.values() for source in mark.sources}
    assert named == set(published.sources)
    assert {s.model for s in published.scores} == {m.name for m in published.models}
    assert all(mark.text.endswith(".") for mark in published.marks.values())
    # Only a database read on a mirror, and a thing of this project, have no address.
    assert {key for key, source in published.sources.items() if source.url is None} == {
        MIRROR,
        "shapes-vcr",
    }


# Whether a row's weights can be had, as read in the documents that published.yaml names
WEIGHTS = {
    "not public": {"CoCa", "METER-Huge", "BeiT-3"},
    "public": {"OFA", "BEiT-3-base", "BEiT-3-large"},
    "live": {"ViLT", "BLIP", "VLE-base", "VLE-large", "METER-base"},
}


def test_the_weights_of_every_row_of_the_comparison_are_known() -> None:
    known = {m.name: m.weights for m in load_published(SHIPPED).models if m.weights}
    for status, names in WEIGHTS.items():
        assert {name for name, weights in known.items() if weights.status == status} == names
    assert {row[0] for row in lines(COMPARISON)} <= known.keys()


def test_the_commands_that_measure_a_row_exist(tmp_path: Path) -> None:
    """Targets of the Makefile, and options of the commands; the weights themselves are on the hub."""
    makefile = (SHIPPED.parent / "Makefile").read_text(encoding="utf-8")
    commands = [m.weights.measure for m in load_published(SHIPPED).models if m.weights]
    for command in filter(None, commands):
        program, *parts = shlex.split(command)
        if program == "make":
            assert all(f"\n{target}: " in makefile for target in parts), command
            continue
        help_text, _ = run(parts[0], "--help", cwd=tmp_path)
        options = {part for part in parts if part.startswith("--")}
        assert program == "vle-bench" and all(o in help_text for o in options), command
    assert len([*filter(None, commands)]) == 5


def test_remarks_name_the_numbers() -> None:
    """318.6M: tests/unit/models/test_heads.py counts them from the configuration."""
    said = {m.name: " ".join(r.text for r in m.remarks) for m in load_published(SHIPPED).models}
    assert "345M" in said["METER-base"] and "318.6M" in said["METER-base"]
    for name in ("VLE-base", "VLE-large"):
        assert "14M pairs in its text and 15M in its table" in said[name]


def test_every_shipped_recipe_of_a_model_belongs_to_it() -> None:
    owners = {
        recipe: model.name for model in load_published(SHIPPED).models for recipe in model.recipes
    }
    families = {"meter-base": "METER-base", "vle-base": "VLE-base", "vle-large": "VLE-large"}
    families["vilt-b32-mlm"] = "ViLT"
    wanted = {}
    for file in shipped_recipes():
        if file.startswith(("vqa/", "vcr/")) and not file.endswith("-second-stage.yaml"):
            checkpoint = load_recipe(file).model.checkpoint
            assert checkpoint is not None
            wanted[load_recipe(file).name] = families[Path(checkpoint).name]
    assert owners == wanted and len(wanted) == 17


def test_what_a_recipe_expects_was_published_of_its_model() -> None:
    published = load_published(SHIPPED)
    owners = {recipe: model.name for model in published.models for recipe in model.recipes}
    expecting = [
        r for r in map(load_recipe, shipped_recipes()) if r.expect is not None and r.name in owners
    ]
    for recipe in expecting:
        assert recipe.expect is not None
        place = (owners[recipe.name], recipe.task, recipe.expect.split, recipe.expect.metric)
        figures = [
            s.value for s in published.scores if (s.model, s.task, s.split, s.metric) == place
        ]
        assert Decimal(repr(recipe.expect.value)) in figures, recipe.name
    assert len(expecting) == 14  # all but the joint ones, of which nothing was published


def test_numbers_of_questions() -> None:
    sizes = {(size.data, size.split): size.n for size in load_published(SHIPPED).split_sizes}
    assert sizes == {
        ("vqav2", "train"): 443757,
        ("vqav2", "val"): 214354,
        ("vqav2", "test"): 447793,
        ("vqav2", "test-dev"): 107394,
        ("vcr", "train"): 212923,
        ("vcr", "val"): 26534,
        ("vcr", "test"): 25263,
        ("easy-vqa", "test"): 9673,
        ("okvqa", "train"): 9009,
        ("okvqa", "val"): 5046,
        ("textvqa", "train"): 34602,
        ("textvqa", "val"): 5000,
        ("vizwiz", "train"): 20523,
        ("vizwiz", "val"): 4319,
        ("gqa", "train"): 943000,
        ("gqa", "val"): 132062,
        ("gqa", "testdev"): 12578,
        **{("shapes-vcr", split): n for split, n in QUESTIONS.items()},
    }


def refusals(tmp_path: Path, old: str, new: str) -> list[str]:
    """What is said of published.yaml with one place changed, a line a problem, without the file's name."""
    text = (SHIPPED / "published.yaml").read_text(encoding="utf-8")
    assert text.count(old) >= 1, old
    file = tmp_path / "published.yaml"
    file.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(RequestError) as refused:
        load_published(tmp_path)
    said = str(refused.value).splitlines()
    assert all(line.startswith(f"{file}: ") for line in said)
    return [line.removeprefix(f"{file}: ") for line in said]


FIRST = '{model: CoCa, data: vqav2, task: vqa, split: test-dev, value: "82.3", source: vle-readme'


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            '"82.3"',
            '"823"',
            "scores.0.value (CoCa): 823 is not between 0 and 100; figures are in percent",
        ),
        (
            '"82.3"',
            '"100.01"',
            "scores.0.value (CoCa): 100.01 is not between 0 and 100; figures are in percent",
        ),
        (
            '"82.3"',
            '"-1"',
            "scores.0.value (CoCa): '-1' is no figure in percent; write it as the source prints it, such as \"77.68\"",
        ),
        ('"82.3"', '"NaN"', "scores.0.value (CoCa): 'NaN' is no figure"),
        (
            'value: "82.0"',
            "value: 82.0",
            'scores.2.value (OFA): write it in quotes, "82.0", so that every decimal of the source is kept',
        ),
        (
            ", split: test-dev",
            ", split: dev",
            "scores.0.split (CoCa): 'dev' is no split of vqav2; there are test-dev, test-std",
        ),
        (
            "{status: not public, text",
            "{status: not public, measure: make x, text",
            "models.0.weights.measure (CoCa): the command that scores weights which are live",
        ),
        (
            "{status: not public, text",
            "{state: not public, text",
            "models.0.weights.state (CoCa): unknown key; nearest valid key: status",
        ),
        (
            "source: open-clip-issue-819}",
            "source: nobody}",
            "models.0.weights.source (CoCa): 'nobody' is not among the sources",
        ),
        (
            "sources: [meter-karpathy",
            "sources: [nobody",
            "marks.test-as-val.sources: 'nobody' is not among the sources",
        ),
        (
            ", split: val, value",
            ", split: dev, value",
            "scores.6.split (METER-base): 'dev' is no split of vcr; there are val, test, unstated",
        ),
        (
            ", task: vqa",
            ", task: vcr_q2a",
            "scores.0.task (CoCa): vcr_q2a is not measured on vqav2; there are vqa",
        ),
        (", task: vqa", ", task: vqa2", "scores.0.task (CoCa): input should be 'vqa', 'vcr_q2a'"),
        (
            ', value: "82.3"',
            ', metric: recall_at_1, value: "82.3"',
            "scores.0.metric (CoCa): recall_at_1 is no metric of vqa on vqav2; there are accuracy,",
        ),
        (
            ", data: vqav2",
            ", data: vqa2",
            "scores.0.data (CoCa): input should be 'easy-vqa', 'vqav2', 'vcr', 'flickr30k' or 'coco', not 'vqa2'",
        ),
        (
            "read_as: readme",
            "read_as: blog",
            "scores.0.read_as (CoCa): input should be 'paper', 'readme', 'mirror'",
        ),
        (
            "{model: CoCa, ",
            "{model: Coca, ",
            "scores.0.model (Coca): 'Coca' is not among the models; define it there, or use 'CoCa'",
        ),
        (
            'value: "82.3", source: vle-readme',
            'value: "82.3", source: vle-redme',
            "scores.0.source (CoCa): 'vle-redme' is not among the sources; define it there, or use 'vle-readme'",
        ),
        (
            "marks: [vqa-recipe]",
            "marks: [vqa-recipes]",
            "scores.9.marks (VLE-base): 'vqa-recipes' is not among the marks; define it there, or use 'vqa-recipe'",
        ),
        (
            "{model: CoCa, ",
            "{modle: CoCa, ",
            "scores.0.modle (vqav2): unknown key; nearest valid key: model",
        ),
        (", task: vqa,", ",", "scores.0.task (CoCa): this key is needed"),
        (
            ", n: 2_537",
            ", n: 0",
            "scores.144.n (best question-only rule): input should be greater than or equal to 1, not 0",
        ),
        (
            "parameters: 2_100_000_000",
            "parameters: 2.1B",
            "models.0.parameters (CoCa): input should be a valid integer, not '2.1B'",
        ),
        (
            "images: 14_000_000",
            "pictures: 14_000_000",
            "models.1.pretraining.pictures (BeiT-3): unknown key; nearest valid key: images",
        ),
        (
            "text_gigabytes: 160",
            "text_gigabytes: 160G",
            "models.1.pretraining.text_gigabytes (BeiT-3): input should be a valid integer",
        ),
        (
            "[vle-large-vqa,",
            "[vle-base-vqa, vle-large-vqa,",
            "models.7.recipes (VLE-large): vle-base-vqa is a recipe of VLE-base; a recipe fine-tunes one model",
        ),
        (
            "- {name: LXMERT}",
            "- {name: LXMRT}",
            "scores.24.model (LXMERT): 'LXMERT' is not among the models",
        ),
        (
            "- {name: LXMERT}",
            "- {name: CLIP}\n  - {name: LXMERT}",
            "models: CLIP occurs 2 times; join",
        ),
        (
            'sign: "‡"',
            'sign: "†"',
            "marks.vqa-recipe.sign: † is the sign of reproduced; take another",
        ),
        (
            'sign: "‡", text',
            'sign: "‡", txt',
            "marks.vqa-recipe.txt: unknown key; nearest valid key: text",
        ),
        (
            'url: "https://github.com/iflytek/VLE"',
            'url: "iflytek/VLE"',
            "sources.vle-readme.url: string should match pattern",
        ),
        ("split_sizes:", "splitsizes:", "splitsizes: unknown key; nearest valid key: split_sizes"),
        (
            "{data: vqav2, split: val,",
            "{data: vqav2, split: minival,",
            "split_sizes.1.split (vqav2): 'minival' is no split of vqav2; there are",
        ),
        (
            "{data: vqav2, split: val,",
            "{data: vqav2, split: train,",
            "split_sizes: train of vqav2 occurs 2 times; keep one",
        ),
        (
            "n: 500, source: shapes-vcr",
            "n: 500, source: shapes",
            "split_sizes.19.source (shapes-vcr): 'shapes' is not among the sources",
        ),
        (
            FIRST,
            f"{FIRST}, read_as: readme}}\n  - {FIRST}",
            "scores.1 (CoCa): the same model, task, split, metric, source and marks as scores.0",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_way_out(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    assert any(line.startswith(said) for line in refusals(tmp_path, old, new))


def test_the_same_figure_may_stand_twice_with_another_mark_or_source(tmp_path: Path) -> None:
    text = (SHIPPED / "published.yaml").read_text(encoding="utf-8")
    marked = text.replace(FIRST, f"{FIRST}, read_as: readme, marks: [rerun]}}\n  - {FIRST}", 1)
    (tmp_path / "published.yaml").write_text(marked, encoding="utf-8")
    assert len(load_published(tmp_path).scores) == 148


def test_all_problems_are_told_at_once(tmp_path: Path) -> None:
    said = refusals(
        tmp_path,
        FIRST,
        FIRST.replace("82.3", "823")
        .replace("test-dev", "test-dev, splt: x")
        .replace("vqav2", "vqa"),
    )
    assert [line.split(" ")[0] for line in said] == [
        "scores.0.data",
        "scores.0.value",
        "scores.0.splt",
    ]
    said = refusals(tmp_path, FIRST, FIRST.replace("CoCa", "Coca").replace("vle-readme", "vle"))
    assert [line.split(" ")[0] for line in said] == ["scores.0.model", "scores.0.source"]
    said = refusals(
        tmp_path,
        FIRST,
        FIRST.replace("test-dev", "dev").replace("value:", "metric: recall_at_1, value:"),
    )
    assert [line.split(" ")[0] for line in said] == ["scores.0.split", "scores.0.metric"]


@pytest.mark.parametrize(
    ("old", "new"), [("  - name: CoCa", "\t- name: CoCa"), (", data: vqav2", ",\tdata: vqav2")]
)
def test_a_tab_is_named_with_its_line(tmp_path: Path, old: str, new: str) -> None:
    text = (SHIPPED / "published.yaml").read_text(encoding="utf-8")
    (line,) = refusals(tmp_path, old, new)
    where = text[: text.index(old)].count("\n") + 1
    assert line.startswith(f"line {where}: found character '\\t'") and "put spaces there" in line


@pytest.mark.parametrize(
    "text", ["- a list\n", "scores: 3\n", "scores: [3]\n", "models: {a: b}\n", ""]
)
def test_what_is_no_such_file_is_refused_in_short_lines(tmp_path: Path, text: str) -> None:
    (tmp_path / "published.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(RequestError, match="published.yaml") as refused:
        load_published(tmp_path)
    assert max(map(len, str(refused.value).splitlines())) < len(str(tmp_path)) + 140


def test_a_folder_without_the_file_has_the_shipped_figures(tmp_path: Path) -> None:
    assert load_published(tmp_path) == load_published(SHIPPED)


def test_figures_are_fixed_once_read() -> None:
    values: dict[str, Any] = strict_yaml.read_group(SHIPPED / "published.yaml")
    score = Published.model_validate(values).scores[0]
    assert Score.model_validate(score.model_dump()) == score
    with pytest.raises(ValueError, match="frozen"):
        score.value = Decimal(99)  # type: ignore[misc]
