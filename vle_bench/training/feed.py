"""The input of a recipe's model: prepared data, the processor, and the batches of each step.

Everything here works without a model, so that `look` can show it before anything is trained.
Batches are functions of (seed, epoch), the same at every start of a run.
"""

import itertools
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from vle_bench.data.collate import Batch
from vle_bench.data.loader import Indices, load_batches
from vle_bench.data.mix import MixedData, mixed
from vle_bench.data.pixels import PixelStore, choose
from vle_bench.data.prepared import PreparedData, check_labelled
from vle_bench.errors import RequestError
from vle_bench.model_families import FAMILIES, VLE, module_of
from vle_bench.models import pretrained
from vle_bench.models.base import Way
from vle_bench.models.vle.processing import VLEProcessor
from vle_bench.recipe.preflight import wrong_source, wrong_targets
from vle_bench.recipe.schema import AugmentGroup, Recipe
from vle_bench.tasks.base import Collate, Reading, Settings, Task
from vle_bench.training.model import (
    from_scratch,
    new_processor,
    processor_of_family,
    saved_processor,
)

# The epoch, the questions of the global batch, and the micro-batches of this process.
Step = tuple[int, int, list[Batch]]


@dataclass
class Feed:
    """The batches that a recipe makes of its data.

    Args:
        questions: the table of the training split.
        input_settings: see `Task.input_settings`.
        pixels: the pixel store that training reads; None: pictures are decoded.
        mix: the data that are trained on if they are mixed with others; their first pictures are
            those of `data`. None: `data` alone.
    """

    recipe: Recipe
    task: Task
    data: PreparedData
    questions: Dataset
    processor: Any
    input_settings: Settings
    pixels: PixelStore | None = None
    mix: MixedData | None = None

    @property
    def training_data(self) -> PreparedData:
        """The data that are trained on."""
        return self.mix or self.data

    def collator(self, epoch: int) -> Collate:
        """Return the function that collates a micro-batch of an epoch of training, augmented."""
        augment = self.recipe.augment.model_dump()
        augment |= {"one_a_question": self.recipe.data.grouping == "question"}
        return self.task.collator(
            self.reading(self.questions, self.pixels),
            self.task.augmentation(augment, self.recipe.train.seed, epoch),
        )

    def reading(self, questions: Dataset, pixels: PixelStore | None = None) -> Reading:
        """Return how the model reads questions of these data."""
        return Reading(
            questions,
            self.training_data.images,
            self.processor,
            self.input_settings,
            self.data.labels,
            pixels,
        )

    def load_steps(
        self,
        collate_of: Callable[[int], Collate] | None = None,
        *,
        accumulation: int,
        stage_steps: int,
        start: int = 0,
        pinned: bool = False,
        process: int = 0,
        processes: int = 1,
    ) -> Iterator[Step]:
        """Load the steps of a run from `start` on, without end; see `steps`.

        Args:
            collate_of: replaces `collator`.
            accumulation: micro-batches that each process accumulates for one global batch.
            stage_steps: number of steps in the first stage of the data; 0 for none.
        """
        data, seed = self.recipe.data, self.recipe.train.seed
        per_image = data.questions_together or len(self.questions)
        batches_of = partial(
            epoch_batches,
            order=lambda epoch: self.task.training_order(self.questions, seed, epoch, per_image),
            batch_size=self.recipe.train.batch_size,
            parts=accumulation * processes,
            stage_steps=stage_steps,
            stage=first_stage_of(self.recipe, self.questions),
        )
        return steps(
            batches_of,
            collate_of or self.collator,
            start=start,
            num_workers=self.recipe.train.num_workers,
            pinned=pinned,
            process=process,
            processes=processes,
        )


def epoch_batches(
    epoch: int,
    step: int,
    *,
    order: Callable[[int], Indices],
    batch_size: int,
    parts: int,
    stage_steps: int = 0,
    stage: Callable[[int], NDArray[np.bool_]] | None = None,
) -> list[list[Indices]]:
    """Cut an epoch into global batches, and each of them into micro-batches.

    The last batch may be short, and some of its micro-batches empty: no question is left out, and a
    global batch holds the same questions however many processes share it.

    Args:
        epoch: number of the epoch.
        step: number of steps before it.
        order: epoch → the questions in the order of that epoch.
        batch_size: questions in a global batch.
        parts: micro-batches in a global batch, over all processes.
        stage_steps: length of the first stage. An epoch ends where the stage ends.
        stage: epoch → (questions,) mask of the questions that the first stage sees.
    """
    in_stage = stage is not None and step < stage_steps
    questions = order(epoch)
    if stage is not None and in_stage:
        questions = questions[stage(epoch)[questions]]
    starts = range(0, len(questions), batch_size)
    batches = [np.array_split(questions[i : i + batch_size], parts) for i in starts]
    return batches[: stage_steps - step] if in_stage else batches


def micro_batch(collate: Collate, stand_in: Indices, part: Indices) -> Batch:
    """Collate one micro-batch.

    An empty part becomes a stand-in without ids, which has no weight in the loss: every process has
    to make as many passes as the others, which wait for it to add up the gradients.
    """
    return collate(part) if len(part) else {**collate(stand_in), "ids": []}


def steps(
    batches_of: Callable[[int, int], list[list[Indices]]],
    collate_of: Callable[[int], Collate],
    *,
    start: int = 0,
    num_workers: int = 0,
    pinned: bool = False,
    process: int = 0,
    processes: int = 1,
) -> Iterator[Step]:
    """Load the steps of a run, without end.

    Args:
        batches_of: (epoch, steps before it) → its global batches, each as the micro-batches of all
            processes in turn; see `epoch_batches`.
        collate_of: epoch → the function that collates a micro-batch.
        start: number of steps to skip, without reading their data.
        num_workers: processes that load data.
        pinned: see `load_batches`.
        process: rank of this process.
        processes: number of processes that train together.
    """
    done = 0
    for epoch in itertools.count():
        batches = batches_of(epoch, done)
        skipped = min(max(start - done, 0), len(batches))
        done += len(batches)
        batches = batches[skipped:]
        if not batches:
            continue
        own = [part for batch in batches for part in batch[process::processes]]
        collate = partial(micro_batch, collate_of(epoch), batches[-1][0][:1])
        loaded = load_batches(own, collate, num_workers, pinned=pinned)
        for batch in batches:
            count = len(batch[process::processes])
            yield epoch, sum(map(len, batch)), [next(loaded) for _ in range(count)]


def of_recipe(recipe: Recipe, task: Task, data: PreparedData) -> Feed:
    """Build the feed of a recipe, without the model's weights.

    Raises:
        RequestError: the checkpoint cannot be read.
    """
    task = task.for_data(data)
    if recipe.model.family != VLE:
        processor, types = processor_of_family(recipe, task, data), 0
    elif recipe.model.checkpoint is None:
        config, tokenizer = from_scratch(recipe, task, data)
        processor, types = (
            new_processor(recipe, config, tokenizer),
            config.num_token_types,
        )
    else:
        folder = pretrained.resolve(Path(recipe.model.checkpoint))
        config = pretrained.read_config(folder / "config.json")
        processor = saved_processor(recipe, folder, config)
        types = max(config.num_token_types, task.num_token_types or 0)
    input_settings = task.input_settings(recipe.model.model_dump(), types)
    mix, (pixels, _) = mix_of(recipe, task, data), pixels_of(recipe, data, processor)
    questions = (mix or data).questions(recipe.data.train)
    return Feed(recipe, task, data, questions, processor, input_settings, pixels, mix)


def has_checkpoint(run: Path) -> bool:
    """Tell whether a run folder has a checkpoint, with the processor that its model reads with."""
    return any((run / name / "config.json").is_file() for name in pretrained.selection(run))


def of_run(recipe: Recipe, task: Task, data: PreparedData, run: Path) -> Feed:
    """Build the feed of a run, by the processor and the input settings that it saved.

    Raises:
        RequestError: its checkpoint cannot be read, or has other answers than the data.
    """
    folder = pretrained.resolve(run)
    training = pretrained.read_json(folder / pretrained.TRAINING_FILE)
    if not isinstance(training, dict) or "inputs" not in training:
        raise RequestError(
            f"{folder / pretrained.TRAINING_FILE}: written by an earlier version; train again"
        )
    if data.labels and data.labels != (labels := pretrained.load_labels(folder)):
        raise RequestError(
            f"{data.root}: its label map ({len(data.labels)} answers) is not the one of {folder} "
            f"({len(labels)}): the data are not those that the run was trained on"
        )
    if recipe.model.family == VLE:
        processor = pretrained.load_processor(folder)
    else:
        length = training["inputs"]["max_text_length"]
        way = Way(FAMILIES[recipe.model.family].protocols[0], max_text_length=length)
        processor = module_of(recipe.model.family).read(folder, way)
    mix = mix_of(recipe, task, data)
    questions = (mix or data).questions(recipe.data.train)
    task = task.for_data(data)
    return Feed(recipe, task, data, questions, processor, training["inputs"], mix=mix)


def open_data(recipe: Recipe, task: Task) -> PreparedData:
    """Open the prepared data of a recipe; raises RequestError if they do not fit it."""
    data = task.open(Path(recipe.data.root))
    if problem := wrong_source(recipe, data.manifest.source):
        raise RequestError(problem)
    for split in (recipe.data.train, recipe.data.evaluate, recipe.data.report):
        check_labelled(data, split)
    if problem := wrong_targets(recipe.data, data.manifest.targets):
        raise RequestError(problem)
    if data.tagged:
        refuse_augmentation(recipe, data)
    # Refuses unknown types of question before anything is written.
    first_stage_of(recipe, data.questions(recipe.data.train))
    return data


def refuse_augmentation(recipe: Recipe, data: PreparedData) -> None:
    """Refuse to change pictures whose boxes would not move with them."""
    for name, unchanged in AugmentGroup().model_dump().items():
        if getattr(recipe.augment, name) != unchanged:
            key = f"augment.{name}"
            raise RequestError(
                f"{key}: the boxes of {data.root} would stay behind; "
                f"{key}={json.dumps(unchanged)} leaves the pictures as they are"
            )


def mix_of(recipe: Recipe, task: Task, data: PreparedData) -> MixedData | None:
    """Return `data` of the recipe's root, mixed with others; None if it is trained on alone.

    Raises:
        RequestError: the parts do not fit each other.
    """
    if recipe.data.mix is None:
        return None
    root, parts = Path(recipe.data.root), {Path(part.root): part for part in recipe.data.mix}
    main = parts.pop(root).weight if root in parts else 1.0
    opened = [(task.open(folder), part.weight) for folder, part in parts.items()]
    return mixed([(data, main), *opened])


def pixels_of(
    recipe: Recipe, data: PreparedData, processor: VLEProcessor
) -> tuple[PixelStore | None, str]:
    """Choose the pixel store of a recipe, see `choose`; raises RequestError if it does not fit."""
    if recipe.data.mix is not None:
        return None, ""
    changed = recipe.augment != AugmentGroup()
    return choose(data, processor, recipe.data.pixels, changed=changed)


def first_stage_of(recipe: Recipe, questions: Dataset) -> Callable[[int], NDArray[np.bool_]] | None:
    """Bind `first_stage` to a recipe: epoch → mask of questions; None without a stage.

    Raises:
        RequestError: no question has one of the types that the recipe names.
    """
    stage, data = recipe.data.first_stage, recipe.data
    if stage is None:
        return None
    types = np.asarray(questions["question_type"][:])
    if unknown := sorted(set(stage.question_types) - set(types)):
        raise RequestError(
            f"data.first_stage.question_types: {data.train} in {data.root}: no question has the "
            f"type {', '.join(unknown)}; there are {', '.join(sorted(set(types))[:8])}"
        )
    return partial(first_stage, types, stage.question_types, stage.other_share, recipe.train.seed)


def first_stage(
    types: NDArray[np.str_], chosen: list[str], other_share: float, seed: int, epoch: int
) -> NDArray[np.bool_]:
    """Choose the questions that the first stage of training sees in one epoch: (questions,) mask.

    Args:
        types: (questions,) the type of each question of the training split.
        chosen: the types that the stage trains on.
        other_share: share of all other questions among those returned, drawn anew each epoch.
    """
    mask: NDArray[np.bool_] = np.isin(types, chosen)
    if other_share:
        wanted = other_share / (1 - other_share) * mask.sum()
        drawn = np.random.default_rng((seed, epoch, 1)).random(len(mask))
        mask = mask | (drawn < wanted / max(1, (~mask).sum()))
    return mask


def lengths(recipe: Recipe, task: Task, questions: Dataset) -> tuple[int, int, int]:
    """Count the steps of an epoch, of the run, and of its first stage."""
    train, stage = recipe.train, recipe.data.first_stage
    usable = len(task.training_order(questions, train.seed, 0, 1))
    if not usable:
        raise RequestError(f"data.train: {recipe.data.train} has no questions to learn from")
    steps_per_epoch = math.ceil(usable / train.batch_size)
    total = train.max_steps or math.ceil(train.epochs * steps_per_epoch)
    return steps_per_epoch, total, round(stage.fraction * total) if stage else 0
