import os
import subprocess
import sys
from pathlib import Path

import pytest

from vle_bench import strict_yaml
from vle_bench.errors import RequestError
from vle_bench.recipe.load import default_run_folder, load_recipe, shipped_recipes
from vle_bench.recipe.preflight import missing_files
from vle_bench.recipe.values import batch_layout

ROOT = Path(__file__).parents[3]
FILES = sorted(p for p in (ROOT / "recipes").rglob("*.yaml") if "accelerate" not in p.parts)
MINIMAL = """
name: small
task: vqa
data: {root: data/x, source: easy-vqa, train: train, evaluate: val, report: test}
model: {checkpoint: checkpoints/vle-base}
"""


def write(folder: Path, text: str, name: str = "r.yaml") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def problems(path: str, *overrides: str) -> list[str]:
    with pytest.raises(RequestError) as caught:
        load_recipe(path, overrides)
    return str(caught.value).splitlines()


def test_recipes_are_found() -> None:
    assert len(FILES) >= 10
    assert set(shipped_recipes().values()) == set(FILES)


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_shipped_recipe(file: Path, tmp_path: Path) -> None:
    recipe = load_recipe(str(file))
    assert load_recipe(write(tmp_path, recipe.to_yaml())) == recipe
    assert load_recipe(write(tmp_path, recipe.to_yaml())).hash == recipe.hash
    small = "tiny" in file.name or file.parent.name == "study"
    for processes in (1,) if small else (1, 2, 4, 8):
        assert (
            batch_layout(recipe.train.batch_size, recipe.train.per_device_batch_size, processes)
            >= 1
        )


def test_names_differ() -> None:
    names = [load_recipe(str(file)).name for file in FILES]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "learning_rate", "batch", "epochs", "image", "text", "expected"),
    [
        ("vqa/vle-base", 7e-6, 512, 10, 384, 50, 77.6),
        ("vqa/vle-large", 7e-6, 512, 10, 378, 50, 79.3),
        ("vqa/meter-base", 5e-6, 512, 10, 576, 50, 77.68),
        ("vcr/vle-base-q2a", 1e-5, 128, 5, 384, 80, 79.9),
        ("vcr/vle-base-qa2r", 1e-5, 128, 5, 384, 80, 83.7),
        ("vcr/vle-large-q2a", 1e-5, 128, 5, 378, 80, 84.3),
        ("vcr/vle-large-qa2r", 1e-5, 128, 5, 378, 80, 87.5),
        ("vcr/meter-base-q2a", 1e-5, 128, 5, 384, 80, 77.6),
        ("vcr/meter-base-qa2r", 1e-5, 128, 5, 384, 80, 79.8),
    ],
)
def test_published_values(
    name: str, learning_rate: float, batch: int, epochs: int, image: int, text: int, expected: float
) -> None:
    recipe = load_recipe(name)
    train, model = recipe.train, recipe.model
    assert (train.learning_rate, train.batch_size, train.epochs) == (learning_rate, batch, epochs)
    assert (model.image_size, model.max_text_length) == (image, text)
    assert (train.betas, train.eps, train.weight_decay, train.warmup_fraction) == (
        (0.9, 0.98),
        1e-8,
        0.01,
        0.1,
    )
    assert (train.lr_mult_head, train.lr_mult_cross_modal, train.schedule, train.seed) == (
        50,
        5,
        "linear",
        0,
    )
    assert recipe.expect is not None and recipe.expect.value == expected


@pytest.mark.parametrize("name", ["vle-base", "vle-large", "meter-base"])
def test_uniters_values_of_the_second_stage(name: str) -> None:
    """ChenRocks/UNITER, config/pretrain-vcr-{base,large}-4gpu.json and optim/."""
    recipe = load_recipe(f"vcr/{name}-second-stage")
    train = recipe.train
    assert (train.learning_rate, train.betas, train.eps, train.weight_decay) == (
        3e-5,
        (0.9, 0.98),
        1e-6,
        0.01,
    )
    assert (train.warmup_fraction, train.schedule, train.max_grad_norm) == (0.1, "linear", None)
    assert (train.lr_mult_head, train.lr_mult_cross_modal) == (1, 1)
    assert (
        recipe.model.checkpoint == f"checkpoints/{name}"
        and recipe.name == f"{name}-vcr-second-stage"
        and recipe.expect is None
    )


def test_misspelt_key_names_file_key_and_nearest(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train: {learnig_rate: 1e-5}\n")
    assert problems(path) == [
        f"{path}: train.learnig_rate: unknown key; nearest valid key: train.learning_rate"
    ]
    path = write(tmp_path, MINIMAL + "batch_size: 8\n")
    assert problems(path) == [
        f"{path}: batch_size: unknown key; nearest valid key: train.batch_size"
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.epochs=ten", "train.epochs: input should be a valid number, not 'ten'"),
        ("train.seed=1.5", "train.seed: input should be a valid integer"),
        ("train.seed=true", "train.seed: input should be a valid integer"),
        ("train.compile=yes", "train.compile: input should be a valid boolean, not 'yes'"),
        ("train.learning_rate=-1e-5", "train.learning_rate: input should be greater than 0"),
        ("train.learning_rate='1e-5'", "train.learning_rate: input should be a valid number"),
        ("train.warmup_fraction=1.5", "train.warmup_fraction: input should be less than 1"),
        ("train.betas=[0.9]", "train.betas"),
        ("train.betas=[0.9, 2]", "train.betas"),
        (
            "train.checkpoint_every=10m",
            "train.checkpoint_every: steps, such as 500, or minutes, such as 10min, are expected",
        ),
        (
            "train.schedule=liner",
            "train.schedule: input should be 'linear', 'constant' or 'cosine'",
        ),
        (
            "task=vcr_second_stage",
            "task vcr_second_stage cannot be trained on data.source easy-vqa",
        ),
        ("task=vcr_q2a", "task vcr_q2a cannot be trained on data.source easy-vqa"),
        ("model.config={}", "exactly one of checkpoint and config"),
        ("train.seed.x=1", "train.seed.x: train.seed is a value, not a group of keys"),
        ("trainseed", "an override is key=value"),
        (
            "data.train=train+val",
            "data.evaluate: val shares images with data.train: train+val; take other",
        ),
        ("data.train=nix", "data.train: 'nix' is no split of easy-vqa; there are train, val, test"),
        ("data.train=train+train", "data.train: train+train names a split twice"),
        ("data.report=train", "data.report: train shares images with data.train"),
        ("data.train=[]", "data.train: input should be a valid string"),
    ],
)
def test_wrong_values(tmp_path: Path, override: str, message: str) -> None:
    path = write(tmp_path, MINIMAL + "train: {seed: 0}\n")
    found = problems(path, override)
    assert any(message in line for line in found), found


@pytest.mark.parametrize(
    ("train", "evaluate", "fine"),
    [
        ("train+val", "minival", False),
        ("trainval", "minival", False),
        ("train+val-minival", "val", False),
        ("train+val-minival", "minival", True),
        ("train", "val", True),
    ],
)
def test_a_split_is_not_trained_on_and_scored(
    tmp_path: Path, train: str, evaluate: str, fine: bool
) -> None:
    path = write(tmp_path, MINIMAL)
    changes = [
        "data.source=vqav2",
        f"data.train={train}",
        f"data.evaluate={evaluate}",
        f"data.report={evaluate}",
    ]
    if fine:
        assert not load_recipe(path, changes).data.allow_contaminated
    else:
        found = problems(path, *changes)
        assert [line.split(": ")[1] for line in found] == ["data.evaluate", "data.report"]
        assert all("data.allow_contaminated: true" in line for line in found)
        assert (
            load_recipe(path, [*changes, "data.allow_contaminated=true"]).data.evaluate == evaluate
        )


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        (
            "vcr/vle-base-q2a",
            "augment.flip=true",
            "augment.flip: means nothing for task vcr_q2a: the boxes would stay behind",
        ),
        (
            "vcr/vle-base-joint",
            "augment.randaugment=[2, 9]",
            "augment.randaugment: means nothing for task vcr_joint: the boxes would",
        ),
        (
            "vcr/vle-base-qa2r",
            "data.first_stage={fraction: 0.5, question_types: [what]}",
            "data.first_stage: means nothing for task",
        ),
        (
            "vqa/vle-base",
            "model.alignment=off",
            "model.alignment: means nothing for task vqa: its questions tag no objects",
        ),
        (
            "vcr/vle-base-q2a",
            "model.alignment=maybe",
            "model.alignment: input should be 'on' or 'off', not 'maybe'",
        ),
        (
            "vqa/vle-base",
            "model.resize=published-vcr",
            "model.resize: published-vcr differs from crop in its boxes, and task vqa has "
            "none; take crop",
        ),
        (
            "vcr/vle-base-q2a",
            "model.resize=cut",
            "model.resize: input should be 'crop', 'squash' or 'published-vcr', not 'cut'",
        ),
        (
            "vcr/vle-base-q2a",
            "model.objects=all",
            "model.objects: 'all' is of an earlier version; this one knows only 'tagged'",
        ),
        (
            "vcr/vle-base-q2a",
            "augment.horizontal_flip=true",
            "augment.horizontal_flip: True is of an earlier version; this one knows only False",
        ),
        (
            "vqa/vle-base",
            "augment.shuffle_names=0",
            "augment.shuffle_names: 0 is of an earlier version; this one knows only False",
        ),
    ],
)
def test_keys_that_the_task_does_not_have(name: str, override: str, message: str) -> None:
    (line,) = problems(name, override)
    assert line.startswith(f"command line: {message}"), line


def test_options_of_vcr() -> None:
    recipe = load_recipe("vcr/vle-base-joint", ["model.alignment=off"])
    assert (recipe.model.alignment, recipe.expect) == ("off", None)
    plain = load_recipe("vcr/vle-base-joint")
    assert (plain.model.alignment, plain.train.batch_size) == ("on", 128)


def test_keys_of_an_earlier_version_that_changed_nothing_are_ignored(tmp_path: Path) -> None:
    """Run folders of 0.1 spell out every key; their recipes keep their hashes."""
    recipe = load_recipe("vcr/vle-base-q2a")
    assert (recipe.hash, recipe.experiment) == (
        "da74f82bb1dc7f05",
        "fead4560bb6787d3",
    )  # as 0.1 computed them
    values = recipe.model_dump(mode="json")
    values["model"]["objects"] = "tagged"
    values["augment"] |= {"horizontal_flip": False, "shuffle_names": False}
    path = tmp_path / "recipe.yaml"
    path.write_text(strict_yaml.dump(values), encoding="utf-8")
    assert load_recipe(str(path)) == recipe and load_recipe(str(path)).hash == recipe.hash
    assert "objects" not in recipe.to_yaml()


def test_all_problems_of_an_earlier_version_are_named(tmp_path: Path) -> None:
    assert problems("vcr/vle-base-q2a", "model.objects=all", "augment.shuffle_names=true") == [
        "command line: augment.shuffle_names: True is of an earlier version; this one knows only "
        "False, which needs no key",
        "command line: model.objects: 'all' is of an earlier version; this one knows only "
        "'tagged', which needs no key",
    ]


@pytest.mark.parametrize("file", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_pictures_become_squares_as_published(file: Path) -> None:
    """The tiny models are from scratch; where boxes are read nothing is cut off, else as VQA v2's."""
    boxes = file.parent.name == "vcr" or "choice-boxes" in file.name
    boxes |= file.parent.name == "pretrain" and file.name.startswith("vle")
    boxes |= file.parent.name == "study"
    expected = "squash" if boxes else "crop"
    model = load_recipe(str(file)).model
    if "tiny" in file.name or model.family == "vilt":  # ViLT keeps the shape of a picture
        expected = None
    assert model.resize == expected


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL + "train: {seed: -1, epoch: 3}\naugment: {flip: 1}\n")
    found = problems(path, "model.image=3", "data.train='a b'")
    keys = ["train.seed", "train.epoch", "augment.flip"]
    for key in keys:
        assert any(line.startswith(f"{path}: {key}: ") for line in found), (key, found)
    for key in ("model.image", "data.train"):
        assert any(line.startswith(f"command line: {key}: ") for line in found), (key, found)
    assert len(found) == 5


def test_missing_keys_are_named(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "name: x\ntask: vqa\ndata: {root: d}\n"))
    assert {line.split(": ")[1] for line in found} >= {
        "data.source",
        "data.train",
        "data.report",
        "model",
    }


def test_scratch_model_keys_are_checked(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    scratch = "model.config={hiden_size: 64, text_config: {}, vision_config: {patch_size: 7}}"
    found = problems(path, "model.checkpoint=null", scratch)
    assert any(
        "model.config.hiden_size: unknown key; nearest valid key: model.config.hidden_size" in line
        for line in found
    )
    found = problems(path, "model.checkpoint=null", scratch.replace("hiden", "hidden"))
    assert any(
        "384 does not divide by model.config.vision_config.patch_size 7" in line for line in found
    )


def test_scratch_model_keys_exist_in_the_configuration_classes() -> None:
    from transformers import CLIPVisionConfig, DebertaV2Config

    from vle_bench.model_bounds import FUSION_KEYS, TEXT_KEYS, VISION_KEYS
    from vle_bench.models import VLEConfig

    vle = VLEConfig()
    for keys, config in (
        (FUSION_KEYS, vle),
        (TEXT_KEYS, DebertaV2Config()),
        (VISION_KEYS, CLIPVisionConfig()),
    ):
        # These reach DebertaV2Config as extra attributes, which its layers read.
        extra = {"position_buckets", "norm_rel_ebd", "share_att_key"}
        assert [key for key in keys if not hasattr(config, key) and key not in extra] == []


def test_yaml_numbers_and_words(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        MINIMAL.replace("name: small", "name: on") + "train: {learning_rate: 1e-5, eps: 1.e-8}\n",
    )
    recipe = load_recipe(path, ["train.weight_decay=1E-2", "data.root=2024-01-01"])
    assert recipe.name == "on"
    assert (recipe.train.learning_rate, recipe.train.eps, recipe.train.weight_decay) == (
        1e-5,
        1e-8,
        0.01,
    )
    assert load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml")) == recipe


@pytest.mark.parametrize("root", ["1e-5", "yes", "null", "007", "~", "a: b", "2024-01-01", "=x"])
def test_strings_survive_the_round_trip(tmp_path: Path, root: str) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL), [f"data.root='{root}'"])
    assert recipe.data.root == root
    assert load_recipe(write(tmp_path, recipe.to_yaml(), "again.yaml")) == recipe


def test_duplicate_key_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ntask: vqa\nname: b\n")
    assert problems(path) == [f"{path}: line 3: the key 'name' occurs twice"]


def test_syntax_error_names_the_line(tmp_path: Path) -> None:
    path = write(tmp_path, "name: a\ntask: [vqa\ndata: x\n")
    assert problems(path)[0].startswith(f"{path}: line 3: ")


@pytest.mark.parametrize("text", ["", "just words", "- a\n- b\n"])
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str) -> None:
    assert "not a group of keys" in problems(write(tmp_path, text))[0]


def test_binary_file(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_bytes(b"\x00\xff\xfe")
    assert "not a YAML file" in problems(str(tmp_path / "r.yaml"))[0]


def test_extends(tmp_path: Path) -> None:
    base = write(tmp_path, MINIMAL + "train: {seed: 3, epochs: 2}\n", "base.yaml")
    (tmp_path / "sub").mkdir()
    over = write(tmp_path / "sub", "extends: ../base.yaml\nname: over\ntrain: {seed: 4}\n")
    recipe = load_recipe(over)
    assert (recipe.name, recipe.train.seed, recipe.train.epochs, recipe.task) == (
        "over",
        4,
        2,
        "vqa",
    )
    write(tmp_path, MINIMAL + "train: {sed: 3}\n", "base.yaml")
    assert problems(over)[0].split("sub/../")[-1].startswith("base.yaml: train.sed: unknown key"), (
        base
    )


def test_extends_refuses_cycles_and_missing_files(tmp_path: Path) -> None:
    write(tmp_path, "extends: b.yaml\n", "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    assert (
        "cannot extend itself: a.yaml extends b.yaml extends a.yaml"
        in problems(str(tmp_path / "a.yaml"))[0]
    )
    assert "extends: no such file" in problems(write(tmp_path, "extends: c.yaml\n"))[0]


def test_hash_follows_the_values_alone(tmp_path: Path) -> None:
    plain = load_recipe(write(tmp_path, MINIMAL))
    spelt_out = load_recipe(
        write(tmp_path, "# a comment\ntrain: {epochs: 10.0}\n" + MINIMAL, "other.yaml")
    )
    assert plain.hash == spelt_out.hash and len(plain.hash) == 16 and int(plain.hash, 16) >= 0
    assert load_recipe(write(tmp_path, MINIMAL), ["train.seed=1"]).hash != plain.hash


@pytest.mark.parametrize(
    ("override", "same"),
    [
        ("train.seed=1", True),
        ("train.num_workers=0", True),
        ("train.trackers=[tensorboard]", True),
        ("data.root=elsewhere", True),
        ("expect={metric: accuracy, split: test, value: 1, tolerance: 1, source: us}", True),
        ("train.per_device_batch_size=1", True),
        ("train.learning_rate=3e-5", False),
        ("train.batch_size=1024", False),
        ("model.max_text_length=20", False),
        ("augment.flip=true", False),
    ],
)
def test_seeds_of_one_recipe_are_one_experiment(tmp_path: Path, override: str, same: bool) -> None:
    plain, changed = (
        load_recipe(write(tmp_path, MINIMAL), overrides) for overrides in ([], [override])
    )
    assert (plain.experiment == changed.experiment) is same and plain.hash != changed.hash


def test_shipped_recipe_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_recipe("recipes/vqa/vle-base.yaml") == load_recipe("vqa/vle-base")
    assert (
        "nearest shipped recipe: recipes/vqa/vle-base.yaml"
        in problems("recipes/vqa/vle-bas.yaml")[0]
    )


@pytest.mark.parametrize(
    ("layout", "steps"), [((512, 32, 1), 16), ((512, 32, 8), 2), ((512, 64, 8), 1), ((6, 2, 3), 1)]
)
def test_batch_layout(layout: tuple[int, int, int], steps: int) -> None:
    assert batch_layout(*layout) == steps


@pytest.mark.parametrize(
    ("layout", "ways"),
    [
        ((512, 24, 1), ["504 or 528", "per_device_batch_size=16 or 32"]),
        ((128, 8, 3), ["120 or 144", "2 or 4 processes"]),
        ((4, 8, 1), ["train.batch_size=8", "per_device_batch_size=4"]),
        ((64, 32, 4), ["train.batch_size=128", "per_device_batch_size=16", "2 processes"]),
    ],
)
def test_batch_layout_says_what_would_divide(layout: tuple[int, int, int], ways: list[str]) -> None:
    with pytest.raises(RequestError) as caught:
        batch_layout(*layout)
    for way in ways:
        assert way in str(caught.value)


def test_run_folder() -> None:
    assert default_run_folder(load_recipe("vqa/vle-base")) == Path("runs/vle-base-vqa")


def test_missing_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = load_recipe("vqa/vle-base")
    data, weights = missing_files(recipe)
    assert "vle-bench download vqav2 --output data/vqav2-official" in data
    assert "vle-bench prepare vqav2 --source data/vqav2-official --output data/vqav2" in data
    assert "hf download hfl/vle-base --local-dir checkpoints/vle-base" in weights
    for name in ("data/vqav2/manifest.json", "checkpoints/vle-base/config.json"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("{}", encoding="utf-8")
    assert missing_files(recipe) == []
    assert (
        "vle-bench convert checkpoints/meter-base.ckpt"
        in missing_files(load_recipe("vqa/meter-base"))[0]
    )
    for model in ("vle-base", "meter-base"):  # a run of a shipped recipe comes with that recipe
        after = load_recipe(f"vcr/{model}-q2a", [f"model.checkpoint=runs/{model}-vcr-second-stage"])
        assert missing_files(after)[-1].splitlines()[1:] == [
            f"  vle-bench train recipes/vcr/{model}-second-stage.yaml"
        ]
    assert missing_files(load_recipe("demo/vqa-tiny"))[0].endswith(
        "vle-bench prepare easy-vqa --output data/easy-vqa"
    )


def test_an_occupied_run_folder_is_told_before_a_launcher_starts(tmp_path: Path) -> None:
    (tmp_path / "runs" / "vle-base-vqa").mkdir(parents=True)
    (tmp_path / "runs" / "vle-base-vqa" / "recipe.yaml").write_text("", encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "vle_bench.recipe.preflight",
        str(ROOT / "recipes/vqa/vle-base.yaml"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}

    def said(*arguments: str) -> str:
        done = subprocess.run(
            [*command, *arguments],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            encoding="utf-8",
        )
        assert done.returncode == 2
        return done.stderr

    assert (
        said().startswith("runs/vle-base-vqa: holds a run; ARGS=--resume continues it")
        and "data/vqav2" not in said()
    )
    for arguments in (["--resume"], ["--output-dir", "runs/other"]):
        assert "holds a run" not in said(
            *arguments
        ) and "data/vqav2: no prepared data there" in said(*arguments)


def test_missing_files_are_told_at_once(tmp_path: Path) -> None:
    started = sum(os.times()[2:4])  # of children
    command = [
        sys.executable,
        "-m",
        "vle_bench.recipe.preflight",
        str(ROOT / "recipes/vqa/vle-base.yaml"),
    ]
    done = subprocess.run(
        [*command, "train.seed=1"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        encoding="utf-8",
    )
    assert (
        done.returncode == 2
        and "checkpoints/vle-base" in done.stderr
        and "Traceback" not in done.stderr
    )
    assert sum(os.times()[2:4]) - started < 10


def test_a_recipe_anywhere_extends_a_shipped_one(tmp_path: Path) -> None:
    for name in ("vqa/vle-base", "vqa/vle-base.yaml", "recipes/vqa/vle-base.yaml"):
        (tmp_path / "mine.yaml").write_text(f"extends: {name}\nname: mine\n", encoding="utf-8")
        assert load_recipe(str(tmp_path / "mine.yaml")).model == load_recipe("vqa/vle-base").model
    (tmp_path / "mine.yaml").write_text("extends: vqa/vle-bas\nname: mine\n", encoding="utf-8")
    with pytest.raises(
        RequestError, match="extends: no such file: .* and no shipped recipe of that name"
    ):
        load_recipe(str(tmp_path / "mine.yaml"))


# CLIP ViT-B/16 and ViT-L/14; ViLT-B/32
PATCHES = {"vle-base": 16, "meter-base": 16, "vle-large": 14, "vilt-b32-mlm": 32}


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in shipped_recipes()
        if not (load_recipe(n).model.checkpoint or "runs/").startswith("runs/")
    ],
)
def test_pictures_of_shipped_recipes_divide_into_the_models_patches(name: str) -> None:
    model = load_recipe(name).model
    if model.config is not None:
        patch = model.config["vision_config"]["patch_size"]
    else:
        patch = PATCHES[Path(model.checkpoint or "").name.removesuffix("-encoders")]
    assert model.image_size % patch == 0


def test_an_entry_of_a_list_is_named_by_its_number():
    tiny = str(ROOT / "recipes" / "pretrain" / "vle-tiny.yaml")
    one, other = problems(tiny, "data.mix=[{root: a}, {root: d/json, weight: 1, wieght: 2}]")
    assert "data.mix.0.weight: this key is needed" in one
    assert "data.mix.1.wieght: unknown key; nearest valid key: data.mix.1.weight" in other
    (line,) = problems(tiny, "data.mix=[{root: a, weight: 1}, {root: b, weight: -2}]")
    assert "data.mix.1.weight: input should be greater than 0, not -2" in line


def test_commands_name_the_files_of_captions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shown = "\n".join(missing_files(load_recipe("pretrain/vle-base")))
    leave_out = "--leave-out data/vqav2:minival --leave-out dataset_coco.json"
    assert shown.count(leave_out) == 2  # of Visual Genome and of COCO
    assert "vle-bench prepare captions dataset_coco.json --images coco" in shown
    assert "img2dataset --url_list cc3m.tsv --input_format tsv --url_col url" in shown
    assert shown.count("--resize_mode keep_ratio") == 2  # img2dataset would draw borders
    assert "prepare captions data/cc3m-official --output data/cc3m" in shown
    assert "img2dataset --url_list sbu-captions-all.json --input_format json" in shown
    assert "prepare captions FILE" not in shown
