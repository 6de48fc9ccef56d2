"""The recipe: a strict, typed YAML file that describes a training. Imports no torch."""

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from vle_bench import strict_yaml
from vle_bench.data.sources import PREPARED, SOURCES
from vle_bench.data.splits import overlap, wrong_split
from vle_bench.json_files import JsonObject
from vle_bench.model_bounds import MOST_WORDS, check_config, check_vilt_config
from vle_bench.model_families import FAMILIES, VLE
from vle_bench.model_families import TRAINED as TRAINED_FAMILIES
from vle_bench.recipe.keys import digest, experiment_values, hashed, without_dropped
from vle_bench.recipe.values import (
    AUTO_WITHOUT_GPU,
    MOST_EPOCHS,
    MOST_QUESTIONS,
    MOST_STEPS,
    MOST_TIMES,
    MOST_WORKERS,
    batch_layout,
    largest_divisor,
    number_or_auto,
    refuse_with_graphs,
    steps_or_minutes,
    trained_family,
)
from vle_bench.strict_yaml import Group
from vle_bench.tasks.catalogue import CATALOGUE, TRAINED, foreign_keys

Split = Annotated[str, Field(pattern=r"^[\w.-]+(\+[\w.-]+)*$")]

# Names that a recipe may give. A type checker cannot read them from the rows.
if TYPE_CHECKING:
    SourceName = str
    TaskName = str
    FamilyName = str
else:
    SourceName = Literal[PREPARED]
    TaskName = Literal[TRAINED]
    FamilyName = Literal[TRAINED_FAMILIES]


class FirstStage(Group):
    fraction: float = Field(gt=0, lt=1)
    """Part of all steps."""
    question_types: list[str] = Field(min_length=1, max_length=1000)
    """Types of the questions that these steps see."""
    other_share: float = Field(0.0, ge=0, lt=1)
    """Share of all other questions among them, drawn anew each epoch."""


class MixPart(Group):
    root: str
    """Folder of more pairs that `vle-bench prepare` wrote, or data.root."""
    weight: float = Field(gt=0, le=MOST_TIMES)
    """Times that an epoch sees each of its pairs; with 1.5, half of the pairs twice, drawn anew in
    each epoch. Users know it as `--train-data-upsampling-factors` of open_clip."""


class DataGroup(Group):
    root: str
    """Folder that `vle-bench prepare` wrote."""
    source: SourceName
    """Name of the prepared dataset."""
    train: Split
    """Split to train on; `+` joins several (`train+val-minival`), `trainval` is `train+val`."""
    evaluate: Split
    """Split that picks the best checkpoint."""
    report: Split
    """Split of the result record, scored once at the end."""
    grouping: Literal["image", "question"] = "image"
    """`image` keeps the questions of an image together and encodes it once; `question` is the
    published plain shuffle."""
    questions_per_image: int | None = Field(None, ge=1, le=MOST_QUESTIONS)
    """With grouping by image: most questions of an image that stay together; null for all."""
    targets: Literal["normalised", "published"] = "normalised"
    """Soft targets of the prepared data: answers are looked up normalised, or as given, as METER
    and VLE do (`prepare --published-targets`). Training on data of the other kind is refused."""
    first_stage: FirstStage | None = None
    """Start with some types of question only, if types interfere; null for all from the start."""
    pixels: str | None = Field(None, pattern=r"^pixels-[\w.-]+$")
    """Pixel store of `root` that `prepare --pixels` wrote, which has to fit. null: one that fits,
    else the pictures are decoded. The pixels are the same."""
    mix: list[MixPart] | None = Field(None, min_length=1, max_length=1000)
    """Pre-training: data to train on beside `root`, each its split `train`. `root` has the weight
    1 unless it is listed. Evaluation and report are of `root` alone."""
    allow_contaminated: bool = False
    """Let `evaluate` and `report` share images with `train`. The record is marked, never ranked."""

    @property
    def questions_together(self) -> int | None:
        """Return the most questions of an image that stay together; None: all of them."""
        return 1 if self.grouping == "question" else self.questions_per_image

    @model_validator(mode="after")
    def splits_exist(self) -> "DataGroup":
        wrong = {
            key: wrong_split(getattr(self, key), self.source)
            for key in ("train", "evaluate", "report")
        }
        if any(wrong.values()):
            lines = [f"data.{key}: {problem}" for key, problem in wrong.items() if problem]
            raise ValueError("\n".join(lines))
        return self

    @model_validator(mode="after")
    def mix_names_each_once(self) -> "DataGroup":
        roots = [part.root.rstrip("/") for part in self.mix or []]
        if double := next((root for root in roots if roots.count(root) > 1), None):
            raise ValueError(f"data.mix: {double} is listed twice; give each root once")
        if self.mix and self.pixels is not None:
            raise ValueError("data.pixels: not with data.mix, which decodes pictures")
        return self

    @model_validator(mode="after")
    def nothing_is_trained_and_scored(self) -> "DataGroup":
        shared = [key for key in ("evaluate", "report") if overlap(getattr(self, key), self.train)]
        if shared and not self.allow_contaminated:
            raise ValueError(
                "\n".join(
                    f"data.{key}: {getattr(self, key)} shares images with data.train: "
                    f"{self.train}; take other splits, or set data.allow_contaminated: true and "
                    "the record is marked"
                    for key in shared
                )
            )
        return self


class TokenizerGroup(Group):
    vocab_size: int = Field(1000, ge=8, le=MOST_WORDS)
    """Words and pieces of the tokenizer that is trained on the training questions."""


Weight = Annotated[float, Field(ge=0, le=MOST_TIMES)]


class ObjectivesGroup(Group):
    mlm: Weight = 0.0
    """Masked words, predicted with the picture in view."""
    itm: Weight = 0.0
    """Image-text matching: whether a text sees its own picture."""
    mpc: Weight = 0.0
    """Masked patch-box classification: the class of an object that is painted over."""
    pbc: Weight = 0.0
    """Patch-box classification: the patches that a phrase describes."""

    @model_validator(mode="after")
    def one_at_least(self) -> "ObjectivesGroup":
        if not any(self.model_dump().values()):
            names = ", ".join(type(self).model_fields)
            raise ValueError(f"at least one of {names} needs a weight above 0")
        return self


class ModelGroup(Group):
    family: Annotated[FamilyName, BeforeValidator(trained_family)] = "vle"
    """`vle` for VLE and METER, `vilt` for ViLT."""
    checkpoint: str | None = None
    """Folder to start from (`from_pretrained`), or null for a model from scratch."""
    config: JsonObject | None = None
    """VLEConfig or ViltConfig values of a model from scratch; null to start from a checkpoint."""
    tokenizer: TokenizerGroup = Field(default_factory=TokenizerGroup)
    """Tokenizer of a model from scratch; a checkpoint brings its own."""
    image_size: int = Field(384, ge=8, le=2048)
    """Pixels a side; ViLT: of the shorter side, the longer has at most 5/3 of them."""
    resize: Literal["crop", "squash", "published-vcr"] | None = None
    """The way to a square image. `crop` resizes the shorter side and keeps the centre (METER
    and VLE for VQA), `squash` resizes both sides; boxes follow the pixels. `published-vcr` has the
    pixels of crop and the boxes of squash. null is the setting of the checkpoint's processor, and
    squash for a model from scratch."""
    max_text_length: int = Field(50, ge=4, le=512)
    """Tokens; longer texts are shortened."""
    new_head: bool = False
    """Start with a fresh head whatever the checkpoint's answers, for data with other answers."""
    alignment: Literal["on", "off"] = "on"
    """Texts that tag objects get object tokens, and types that tie words to them. off: neither."""
    objectives: ObjectivesGroup | None = None
    """Pre-training: the weight of each objective's loss; 0 for one that is left out."""
    itm_candidates: int = Field(4, ge=1, le=1024)
    """ITM: half of a caption's wrong pictures are hard ones, which the model ranks highest among so
    many of the batch; 1: all are drawn at random."""

    dropout: float | None = Field(None, ge=0, lt=1)
    """ViLT: dropout of embeddings and hidden layers; null for that of the checkpoint's config.json,
    where the published folder has 0 and its authors trained with 0.1."""

    @model_validator(mode="after")
    def one_origin(self) -> "ModelGroup":
        if (self.checkpoint is None) == (self.config is None):
            raise ValueError("exactly one of checkpoint and config must be given")
        if self.new_head and self.checkpoint is None:
            raise ValueError(
                "model.new_head: a model from scratch has a new head anyway; "
                "it goes with model.checkpoint"
            )
        if self.dropout is not None and self.config is not None:
            raise ValueError("model.dropout: a model from scratch has its own in model.config")
        if self.config is not None and self.family == VLE:
            check_config(self.config, self.image_size)
        elif self.config is not None:
            check_vilt_config(self.config, self.image_size, self.max_text_length)
        return self


class TrainGroup(Group):
    seed: int = Field(0, ge=0, lt=2**32)
    """Decides initial weights, order and augmentation."""
    epochs: float = Field(10, gt=0, le=MOST_EPOCHS)
    """Passes over the training split, where max_steps is null."""
    max_steps: int | None = Field(None, ge=1, le=MOST_STEPS)
    """Optimiser steps, whatever `epochs` says."""
    batch_size: int = Field(512, ge=1, le=MOST_QUESTIONS)
    """Questions in one optimiser step, over all devices and micro-batches."""
    per_device_batch_size: Annotated[int | Literal["auto"], BeforeValidator(number_or_auto)] = 32
    """Questions in one forward pass on one device; changes memory and speed only. `auto` takes as
    many as fit a GPU's memory, and the run folder keeps the number."""
    learning_rate: float = Field(7e-6, gt=0, lt=1)
    """Peak learning rate of the pre-trained encoders."""
    lr_mult_head: float = Field(50, ge=0, le=MOST_TIMES)
    """Times learning_rate for the task head."""
    lr_mult_cross_modal: float = Field(5, ge=0, le=MOST_TIMES)
    """Times learning_rate for the fusion layers and their poolers; in METER the projections too."""
    layer_decay: float | None = Field(None, gt=0, le=1)
    """Factor on learning_rate for each layer of the text and vision encoders, counted from their
    ends; null for 1. Users know it from BEiT and BEiT-3 (`--layer_decay`)."""
    weight_decay: float = Field(0.01, ge=0, lt=1)
    """AdamW's weight decay; none on biases and norms."""
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = Field(
        (0.9, 0.98), strict=False
    )
    """AdamW's decay rates of the moving averages of gradients and of their squares."""
    eps: float = Field(1e-8, gt=0, lt=1)
    """AdamW's term against division by zero."""
    warmup_fraction: float = Field(0.1, ge=0, lt=1)
    """Part of all steps over which the learning rate rises from 0."""
    schedule: Literal["linear", "constant", "cosine"] = "linear"
    """After the warm-up: down to 0, or constant."""
    max_grad_norm: float | None = Field(None, gt=0, le=1e9)
    """Clip gradients to this norm; null for never."""
    precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """`auto` is bf16 on GPUs that have it, else fp32; fp16 scales the loss and needs a GPU."""
    tf32: bool = False
    """Let GPUs multiply float32 matrices in TF32: faster, with 10 bits of fraction in place of 23.
    As PyTorch's `torch.backends.cuda.matmul.allow_tf32` and `--tf32` of transformers' Trainer."""
    compile: bool = False
    """Compile the model's layers with torch.compile for training. Texts are then padded to a
    multiple of 16 tokens."""
    cuda_graphs: bool = False
    """Start all kernels of a micro-batch at once, on one NVIDIA GPU: faster where the processor
    bounds a step, with half as much memory again. Texts are padded as for `compile`."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about a third slower."""
    num_workers: int = Field(4, ge=0, le=MOST_WORKERS)
    """Processes that load data, a device."""
    log_every: int = Field(50, ge=1, le=MOST_STEPS)
    """Steps between lines of log.jsonl."""
    evaluate_every: int | None = Field(None, ge=1, le=MOST_STEPS)
    """Steps between evaluations; null for once an epoch."""
    checkpoint_every: Annotated[int | str | None, BeforeValidator(steps_or_minutes)] = None
    """Steps, or minutes as "10min", between training states; null for one at every evaluation."""
    selection: Literal["best", "last"] = "best"
    """Checkpoint that is scored at the end and represents the run in `evaluate`, `predict` and
    `make`: the one with the best score on `data.evaluate`, or the last."""
    keep: int = Field(2, ge=1, le=10**4)
    """Newest training states to keep."""
    ema: float | None = Field(None, gt=0, lt=1)
    """Decay per step of a moving average of the weights, which is then evaluated and saved; null
    for none. As `--model_ema_decay` of BEiT-3 and timm."""
    trackers: list[Literal["tensorboard", "wandb", "trackio", "mlflow"]] = Field(
        default_factory=list, max_length=4
    )
    """Services that get the log as well, besides log.jsonl."""

    @property
    def micro_batch(self) -> int:
        """Return `per_device_batch_size`; for `auto` the number that is used without a GPU."""
        if isinstance(self.per_device_batch_size, int):
            return self.per_device_batch_size
        return largest_divisor(self.batch_size, AUTO_WITHOUT_GPU)

    @property
    def pads_texts(self) -> bool:
        """Tell whether training pads texts to few lengths, because each shape has a cost."""
        return self.compile or self.cuda_graphs

    @model_validator(mode="after")
    def keys_go_together(self) -> "TrainGroup":
        batch_layout(self.batch_size, self.micro_batch, 1)
        if self.cuda_graphs:
            refuse_with_graphs(vars(self))
        return self


class AugmentGroup(Group):
    flip: bool = False
    """Mirror left and right, and top and bottom, each half of the time; wrong for questions about
    sides."""
    transpose: bool = False
    """Swap rows and columns, half of the time."""
    shift: int = Field(0, ge=0, le=2048)
    """Move by up to so many pixels each way."""
    randaugment: (
        tuple[Annotated[int, Field(ge=1, le=100)], Annotated[int, Field(ge=0, le=30)]] | None
    ) = Field(None, strict=False)
    """[operations, magnitude] as METER's [2, 9]; null for none."""


class ExpectGroup(Group):
    metric: str
    split: Split
    value: float = Field(ge=0, le=100)
    """Score in percent, as published."""
    tolerance: float = Field(ge=0, le=100)
    """Accepted difference in percentage points."""
    source: str
    """Document that the value was read in."""


class Recipe(Group):
    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    """Names the run folder and the record."""
    task: TaskName
    data: DataGroup
    model: ModelGroup
    train: TrainGroup = Field(default_factory=TrainGroup)
    augment: AugmentGroup = Field(default_factory=AugmentGroup)
    expect: ExpectGroup | None = None
    """The published score that this recipe should reproduce."""

    @model_validator(mode="after")
    def keys_fit_task(self) -> "Recipe":
        if CATALOGUE[self.task].form not in SOURCES[self.data.source].forms:
            raise ValueError(
                f"task {self.task} cannot be trained on data.source {self.data.source}"
            )
        family = self.model.family
        foreign = {k: f"task {self.task}: {why}" for k, why in foreign_keys(self.task).items()}
        foreign |= {
            key: f"model.family {family}: {why}" for key, why in FAMILIES[family].foreign.items()
        }
        groups: dict[str, Group] = {
            "data": self.data,
            "model": self.model,
            "train": self.train,
            "augment": self.augment,
        }
        problems = [
            f"{key}: means nothing for {why}"
            for key, why in foreign.items()
            for group, _, name in [key.partition(".")]
            if getattr(groups[group], name) != type(groups[group]).model_fields[name].default
        ]
        if family != VLE and CATALOGUE[self.task].label_metric is None:
            problems.append(f"model.family: {family} has no head for task {self.task}; vle has")
        if self.model.resize == "published-vcr" and not CATALOGUE[self.task].boxes:
            problems.append(
                f"model.resize: published-vcr differs from crop in its boxes, and task {self.task} "
                "has none; take crop"
            )
        problems += self.pretraining_problems()
        if problems:
            raise ValueError("\n".join(problems))
        return self

    def pretraining_problems(self) -> list[str]:
        """Describe what a task with objectives lacks."""
        objectives = self.model.objectives
        if "model.objectives" not in CATALOGUE[self.task].keys:
            return []
        if objectives is None:
            return [f"model.objectives: task {self.task} needs one, such as {{mlm: 1, itm: 1}}"]
        share = self.train.per_device_batch_size
        if not objectives.itm or (isinstance(share, int) and share > 1):
            return []
        return [
            f"train.per_device_batch_size: {share}: objective itm takes other pictures from the "
            "batch of a device, so it needs a number of at least 2"
        ]

    @model_validator(mode="before")
    @classmethod
    def dropped_keys_changed_nothing(cls, values: object) -> object:
        return without_dropped(values) if isinstance(values, dict) else values

    @property
    def hash(self) -> str:
        """Return 16 hexadecimal digits, equal for recipes that resolve to the same values."""
        return digest(hashed(self.model_dump(mode="json")))

    @property
    def experiment(self) -> str:
        """Return 16 hexadecimal digits, equal for one experiment with other seeds or paths."""
        return digest(experiment_values(self.model_dump(mode="json")))

    def to_yaml(self) -> str:
        """Write every value as YAML; load_recipe reads it back as the same recipe."""
        return strict_yaml.dump(self.model_dump(mode="json"))
