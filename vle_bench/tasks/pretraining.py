"""Pre-training on pairs of a picture and a text, with any of VLE's four objectives."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vle_bench.data.asking import Questions
from vle_bench.data.augment import Draws
from vle_bench.data.loader import grouped_order, image_batches
from vle_bench.data.mix import WEIGHT, numbers, weighted_rows
from vle_bench.data.pairs import OBJECTIVES, RESULTS, PairCollator
from vle_bench.data.prepared import PreparedData, open_prepared
from vle_bench.data.sources import prepared_of
from vle_bench.data.splits import tables
from vle_bench.data.tokenization import train_tokenizer
from vle_bench.errors import RequestError
from vle_bench.metrics.bootstrap import figure
from vle_bench.metrics.numbers import Figure
from vle_bench.tasks.base import Collate, Inference, Reading, Settings, Task, predict_in_batches
from vle_bench.tasks.predictions import Id, Prediction, Row, Scores, by_id

FUSIONS = 2  # of a pair's text in an evaluation batch, for the number of pairs in one
# Objective → the data that it needs in a split: the count in the manifest, and its name in words.
NEEDED = {"mpc": ("with_objects", "texts with objects"), "pbc": ("phrases", "phrases with boxes")}

NO_FILE = (
    "pretrain: answers no question, so there is no file for a leaderboard; fine-tune from it "
    "(model.checkpoint=RUN) and predict with that"
)


@dataclass(frozen=True)
class PreTraining:
    """Find masked words, strangers, painted objects, and the patches of a phrase.

    Args:
        objectives: those that a checkpoint was trained with, whose results its logits are.
    """

    name: str = "pretrain"
    version: int = 1
    primary_metric: str = "mean_accuracy"
    architecture: str = "VLEForPreTraining"
    num_token_types: int | None = None
    submitted_with: str | None = None
    objectives: tuple[str, ...] = OBJECTIVES

    def predict(self, inference: Inference) -> list[Prediction]:
        return predict_in_batches(self.for_inputs(inference.input_settings), inference)

    def open(self, root: Path) -> PreparedData:
        data = open_prepared(root)
        if data.form != "captions":
            known = " or ".join(prepared_of("captions"))
            raise RequestError(
                f"{root}: holds prepared {data.manifest.source} of the form {data.form}; "
                f"{self.name} needs pairs of pictures and texts (`prepare {known}`)"
            )
        return data

    def for_inputs(self, input_settings: Settings) -> Task:
        return replace(self, objectives=chosen(input_settings))

    def for_data(self, data: PreparedData) -> Task:
        return self

    def check(self, data: PreparedData, split: str, input_settings: Settings) -> None:
        """Refuse an objective whose data a split does not have."""
        parts = [data.manifest.splits[name] for name in tables(split, set(data.manifest.splits))]
        for objective in chosen(input_settings):
            column, words = NEEDED.get(objective, ("questions", "pairs"))
            if not sum(part[column] for part in parts):
                raise RequestError(
                    f"model.objectives.{objective}: {data.root}: {split}: has no {words}; leave "
                    f"the objective out (model.objectives.{objective}=0), or mix data with them "
                    "in (data.mix)"
                )
        if "itm" in chosen(input_settings) and sum(part["images"] for part in parts) < 2:
            raise RequestError(
                f"model.objectives.itm: {data.root}: {split}: has a single picture, and no "
                "strangers"
            )

    def input_settings(self, model: Settings, num_token_types: int) -> Settings:
        names = ("max_text_length", "objectives", "itm_candidates")
        return {name: model[name] for name in names}

    def tokenizer(self, data: PreparedData, split: str, vocab_size: int) -> PreTrainedTokenizerBase:
        return train_tokenizer(data.questions(split)["caption"][:], vocab_size)

    def training_order(
        self, questions: Dataset, seed: int, epoch: int, per_image: int
    ) -> NDArray[np.int64]:
        image_rows = numbers(questions, "image_row")
        if WEIGHT not in questions.column_names:
            return grouped_order(image_rows, seed, epoch, per_image)
        rows = weighted_rows(numbers(questions, WEIGHT).astype(float), seed, epoch)
        order: NDArray[np.int64] = rows[grouped_order(image_rows[rows], seed, epoch, per_image)]
        return order

    def evaluation_batches(self, questions: Dataset, batch_size: int) -> list[NDArray[np.int64]]:
        return image_batches(np.asarray(questions["image_row"][:]), max(1, batch_size // FUSIONS))

    def augmentation(self, settings: Settings, seed: int, epoch: int) -> Draws:
        """Return seed and epoch in every case: they decide all random choices."""
        return Draws(seed, epoch)

    def asked(self, rows: Row) -> Questions:
        raise RequestError(f"{self.name}: a model that answers in words cannot be asked for it")

    def collator(self, reading: Reading, augment: Draws | None = None) -> Collate:
        tokenizer = reading.processor.tokenizer
        rows = None if augment else np.unique(numbers(reading.questions, "image_row"))
        return PairCollator(
            reading.questions,
            reading.images,
            reading.processor,
            chosen(reading.input_settings),
            reading.input_settings["max_text_length"],
            reading.input_settings["itm_candidates"],
            # Without an augmentation the seed is fixed: every evaluation draws the same.
            draws=augment or Draws(seed=0, epoch=0),
            words=np.setdiff1d(np.arange(len(tokenizer)), tokenizer.all_special_ids),
            image_rows=rows,
            pixels=reading.pixels,
        )

    def predictions(
        self, logits: torch.Tensor, ids: Sequence[Id], labels: list[str]
    ) -> list[Prediction]:
        """Read the results of each pair, without those of objectives that it has no data for.

        Args:
            logits: (pairs, columns), see VLEForPreTraining.
        """
        columns = [column for name in self.objectives for column in RESULTS[name]]
        return [
            Prediction(i, {k: v for k, v in zip(columns, row, strict=True) if v >= 0 or v != v})
            for i, row in zip(ids, logits.float().tolist(), strict=True)
        ]

    def for_submission(self) -> Task:
        raise RequestError(NO_FILE)

    def submission(self, predictions: list[Prediction], questions: Dataset) -> str:
        raise RequestError(NO_FILE)

    def wrong(self, prediction: Prediction) -> str | None:
        known = {column for columns in RESULTS.values() for column in columns}
        numbers = all(type(value) in (int, float) for value in prediction.values.values())
        if type(prediction.id) is not int or not numbers or not {*prediction.values} <= known:
            return "an id and the results of objectives are expected"
        return None

    def score(self, predictions: list[Prediction], questions: Dataset) -> Scores:
        """Compute a probe for each objective, and the mean of the probes.

        `mlm_accuracy` over the masked tokens, `itm_accuracy`, `mpc_accuracy` over painted objects,
        `pbc_pointing` (whether the highest patch is in the phrase's box) and `pbc_iou`, each with a
        95 % interval from images drawn with replacement; and the mean loss of each objective.
        """
        ids, images = questions["pair_id"][:], np.asarray(questions["image_id"][:])
        predicted = by_id(predictions, ids)
        rows = [predicted[i].values for i in ids]
        metrics, losses = probes(rows, images)
        leading = [metrics[name]["value"] for name in PROBES if name in metrics]
        mean: Figure = {"value": float(np.mean(leading)), "interval": None, "n": len(ids)}
        return Scores(
            n=len(ids),
            metrics={self.primary_metric: mean, **metrics},
            per_example={i: pair_score(row) for i, row in zip(ids, rows, strict=True)},
            losses=losses,
        )


# Metric → the result of a pair that it is the mean of. Their mean is the primary metric.
PROBES = {
    "mlm_accuracy": "mlm_right",
    "itm_accuracy": "itm_right",
    "mpc_accuracy": "mpc_right",
    "pbc_pointing": "pbc_pointing",
}


def chosen(input_settings: Settings) -> tuple[str, ...]:
    """Return the objectives that have a weight, in the order of OBJECTIVES."""
    return tuple(name for name in OBJECTIVES if input_settings["objectives"].get(name))


def probes(
    rows: Sequence[Row], images: NDArray[np.int64]
) -> tuple[dict[str, Figure], dict[str, float]]:
    """Return the figures of all results of pairs, and the mean losses.

    Args:
        rows: the results of each pair.
        images: (pairs,) the image of each.
    """
    metrics: dict[str, Figure] = {}
    losses: dict[str, float] = {}
    for name, column in {**PROBES, "pbc_iou": "pbc_iou"}.items():
        there = np.array([column in row for row in rows])
        if not there.any():
            continue
        values = np.array([row[column] for row in rows if column in row])
        groups = images[there]
        if column == "mlm_right":  # one entry a masked token, the right ones of a pair first
            masked = np.array([row["mlm_masked"] for row in rows if column in row]).astype(int)
            right = values.astype(int)
            values = np.repeat(
                np.tile([1.0, 0.0], len(right)), np.stack([right, masked - right], 1).ravel()
            )
            groups = np.repeat(groups, masked)
        metrics[name] = figure(values, groups)
        loss = f"{column.partition('_')[0]}_loss"
        losses[loss] = float(np.mean([row[loss] for row in rows if loss in row]))
    return metrics, losses


def pair_score(row: Row) -> float:
    """Return the mean of a pair's own probes."""
    values = [row[column] for column in PROBES.values() if column in row]
    if "mlm_right" in row:
        values[0] = row["mlm_right"] / max(row["mlm_masked"], 1)
    return float(np.mean(values)) if values else 0.0


PRETRAINING = PreTraining()
