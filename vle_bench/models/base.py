"""Interfaces of a model, for training, evaluation and measurement.

No module outside of the model's own package names a submodule of it. A model that is only evaluated
here implements `Predictor`; a model that is fine-tuned here implements `TrainableModel`. A model of
transformers comes from a `ModelModule`, with a processor of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from vle_bench.json_files import JsonObject


@runtime_checkable
class Predictor(Protocol):
    """A model that answers."""

    def predict(self, **inputs: Tensor) -> Tensor:
        """Run the model on a batch of the task's collator and return logits, one row an example."""
        ...


@runtime_checkable
class TrainableModel(Predictor, Protocol):
    """A model that the training loop can fine-tune; also a `torch.nn.Module`."""

    def modules(self) -> Iterator[nn.Module]: ...
    def parameters(self) -> Iterator[nn.Parameter]: ...

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters outside of the encoder: the group of `train.lr_mult_head`."""
        ...

    def cross_modal_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that join text and image: `train.lr_mult_cross_modal`'s group."""
        ...

    def encoder_layers(self) -> dict[str, list[nn.Module]]:
        """Return the embeddings and then the layers of each encoder, from the input up.

        `train.layer_decay` lowers the learning rate by this order.
        """
        ...

    def shard_layers(self) -> list[nn.Module]:
        """Return the repeated layers of the whole model, without embeddings.

        FSDP2 shards each by itself, and `train.compile` compiles each by itself. Layers of one
        class have the same code.
        """
        ...

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        """Return the parts of a forward pass whose time `bench` measures, each as modules in a row.

        A part lasts from the call of its first module to the return of its last. The rest of the
        forward pass, the head included, is what joins the parts.
        """
        ...

    @property
    def num_token_types(self) -> int:
        """Rows of the fusion's type table; 0: it has none."""
        ...

    def question_outputs(self, texts: int, tokens: int, image_size: int) -> int:
        """Count the numbers of all layers' outputs for a question: memory grows with them.

        Args:
            texts: that the model reads for a question, of one picture.
            tokens: of a text.
            image_size: of the recipe, pixels.
        """
        ...

    def reset_head(self) -> int:
        """Initialise the head again and return its number of parameters."""
        ...

    def grown_weights(self, config: Mapping[str, object]) -> int:
        """Count the weights by which tables have grown since a checkpoint with this config.json."""
        ...


@dataclass(frozen=True)
class Way:
    """The way in which a model is asked.

    Args:
        protocol: one of its family's.
        prompt: the text around a question, with `{question}` in it; None: the family's own.
        max_text_length: tokens of a question; None: as the folder says.
    """

    protocol: str
    prompt: str | None = None
    max_text_length: int | None = None


class Reader(Protocol):
    """A processor that was read from the files beside the weights.

    It is `vle_bench.data.asking.Asking`, or a task's collator calls it as it calls a VLEProcessor.
    """

    @property
    def facts(self) -> JsonObject:
        """Return the facts that decide the input, for the record: protocol, prompt and others."""
        ...


class ModelModule(Protocol):
    """A module of a model of transformers; its family's row names it.

    The output of its model has `logits`, (B, labels) or with choices (B, most choices of a
    question), or it is `vle_bench.data.asking.Words`. What cannot be chosen has the logit
    `NO_CHOICE`.
    """

    def read(self, folder: Path, way: Way) -> Reader:
        """Return the `Reader` of a checkpoint folder.

        Raises:
            RequestError: a file is missing or does not fit.
        """
        ...

    def load(self, folder: Path, reader: Any, labels: list[str]) -> nn.Module:
        """Load the weights in float32.

        Args:
            reader: from `read`.
            labels: the answers to choose from; empty for a model that answers in its own words.

        Raises:
            RequestError: the weights are damaged, missing, or of another shape.
        """
        ...
