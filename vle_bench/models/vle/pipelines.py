"""Hugging Face pipelines for an image and a text: answers from a trained model in three lines.

    import vle_bench.models
    from transformers import pipeline
    pipeline("vle-vqa", model="runs/demo/seed-0/best")("cat.jpg", "what colour is the cat?")

| task | model | one input gives |
|---|---|---|
| `vle-vqa` | VLEForVQA | `[{"answer", "score"}, ...]`, the `top_k` best answers, best first |
| `vle-itm` | VLEForITM | `{"score"}`, the probability that text and image belong together |
| `vle-pbc` | VLEForPBC | `{"scores", "image"}`, patch probabilities (rows, cols) and their heat map
|

`vle-vcr`, for VCR records, is in `vcr_pipeline`. Folders of VLEForPreTraining serve `vle-itm` and
`vle-pbc` if they were trained with that objective. `import vle_bench.models` registers all four;
without it transformers does not know the task.

Images are Pillow images, paths, addresses (http://, https://, data:image/) or arrays. An input is
an image and a text, or a dictionary of both. Several inputs are lists, or a generator of
dictionaries; an image for all texts need not be repeated. `batch_size=` puts several inputs in a
forward pass.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from transformers import Pipeline

from vle_bench.data import images as pictures
from vle_bench.json_files import JsonObject
from vle_bench.models.vle import vcr_pipeline
from vle_bench.models.vle.heads import VLEForVQA
from vle_bench.models.vle.pretrained_model import VLEPreTrainedModel
from vle_bench.models.vle.pretraining import VLEForPreTraining, has_head
from vle_bench.models.vle.pretraining_heads import VLEForITM, VLEForPBC

HEAT = (255, 0, 0)
HEAT_OPACITY = 0.6  # of a patch with probability 1, so that the image stays visible

# Its type annotations refuse the overrides that its documentation asks for.
_Pipeline: Any = Pipeline
# Keyword arguments of preprocess, _forward and postprocess.
Parameters = tuple[dict[str, object], dict[str, object], dict[str, object]]


class ImageTextPipeline(_Pipeline):
    """Base class: one image and one text to the logits of a model."""

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False
    architecture: type[VLEPreTrainedModel]
    objective = ""  # of pre-training, that trains the same head

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        config = self.model.config
        saved = config.architectures or [type(self.model).__name__]
        wanted = self.architecture.__name__
        trained = wanted in saved or (
            VLEForPreTraining.__name__ in saved and has_head(config, self.objective)
        )
        folder = self.model.name_or_path  # empty for a model that was not loaded
        if not isinstance(self.model, self.architecture) or (folder and not trained):
            # Otherwise a folder without the head would answer with a head of random weights.
            actual = (
                f"{folder} was saved as {', '.join(saved)}"
                if folder
                else f"got a {type(self.model).__name__}"
            )
            raise ValueError(f"{self.task} needs a model saved as {wanted}; {actual}")
        # A model object may come straight from training.
        self.model.eval()
        self.tokenizer.padding_side = "right"

    def __call__(
        self,
        image: object,
        text: str | Sequence[str] | None = None,
        question: str | Sequence[str] | None = None,
        **kwargs: object,
    ) -> Any:
        """Return one result, or a list of results for a list of inputs.

        Args:
            image: an image or a list of images; or, without `text`, dictionaries {"image",
                "question"} or {"image", "text"}.
            text, question: two names of the same, a text or a list of texts.
            max_length: longest text in tokens; longer texts are truncated.
            timeout: seconds to wait for a server, if an image is an address.
        """
        text = question if text is None else text
        if isinstance(image, list) and not image:
            return []
        return super().__call__(_number(image) if text is None else _pairs(image, text), **kwargs)

    def _sanitize_parameters(
        self, max_length: int | None = None, timeout: float | None = None, **kwargs: object
    ) -> Parameters:
        if kwargs:
            raise TypeError(f"{self.task} has no parameter {', '.join(kwargs)}")
        given = {"max_length": max_length, "timeout": timeout}
        return {name: value for name, value in given.items() if value is not None}, {}, {}

    def preprocess(
        self, input_: object, max_length: int | None = None, timeout: float = pictures.TIMEOUT
    ) -> dict[str, object]:
        """Turn {"image", "text" or "question"} into the tensors of a batch of one."""
        name = (
            f"inputs[{input_['item']}]: " if isinstance(input_, dict) and "item" in input_ else ""
        )
        if (
            not isinstance(input_, dict)
            or "image" not in input_
            or not {"text", "question"} & set(input_)
        ):
            raise ValueError(
                f'{name}expected an image and a text, or {{"image": ..., "text": ...}}'
            )
        text = input_["question"] if "text" not in input_ else input_["text"]
        try:
            picture = pictures.read(input_["image"], "image", timeout)
            features = self.processor(
                images=[picture], text=[text], max_length=max_length or self._text_positions()
            )
        except ValueError as error:
            raise ValueError(f"{name}{error}") from error
        return {**features, **self._kept(picture), "name": name.removesuffix(": ") or "the input"}

    def _text_positions(self) -> int:
        """Return the longest text that the encoder has positions for.

        RoBERTa counts positions from its padding index on.
        """
        text = self.model.config.text_config
        offset = text.pad_token_id + 1 if text.model_type in ("roberta", "xlm-roberta") else 0
        return int(text.max_position_embeddings) - offset

    def _kept(self, picture: Image.Image) -> dict[str, object]:
        """Return the parts of the input that `postprocess` needs."""
        return {}

    def _forward(self, input_tensors: JsonObject, **parameters: object) -> dict[str, object]:
        tensors = {
            name: value for name, value in input_tensors.items() if isinstance(value, Tensor)
        }
        kept = {name: value for name, value in input_tensors.items() if name not in tensors}
        logits = self.model(**tensors).logits.float()
        names = kept.pop("name")
        vcr_pipeline.refuse_broken(self.task, logits, [names] if isinstance(names, str) else names)
        return {"logits": logits, **kept}


class VQAPipeline(ImageTextPipeline):
    """`vle-vqa`: the most probable answers. Each score is a probability of its own (sigmoid)."""

    architecture = VLEForVQA

    def _sanitize_parameters(  # type: ignore[override]
        self,
        max_length: int | None = None,
        timeout: float | None = None,
        top_k: int | None = None,
        **kwargs: object,
    ) -> Parameters:
        preprocess, forward, _ = super()._sanitize_parameters(max_length, timeout, **kwargs)
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k: expected 1 or more, got {top_k}")
        return preprocess, forward, {} if top_k is None else {"top_k": top_k}

    def postprocess(
        self, model_outputs: dict[str, Tensor], top_k: int = 5
    ) -> list[dict[str, object]]:
        # Rank by logits, as the task does: in float32 the sigmoid of every logit above 17 is 1.
        logits, best = model_outputs["logits"][0].sort(descending=True, stable=True)
        scores = logits.sigmoid()
        names = self.model.config.id2label
        return [
            {"answer": names[i], "score": score}
            for i, score in zip(best[:top_k].tolist(), scores[:top_k].tolist(), strict=True)
        ]


class ITMPipeline(ImageTextPipeline):
    """`vle-itm`: the probability that text and image belong together."""

    architecture = VLEForITM
    objective = "itm"

    def postprocess(self, model_outputs: dict[str, Tensor]) -> dict[str, float]:
        return {"score": model_outputs["logits"][0].softmax(-1)[1].item()}


class PBCPipeline(ImageTextPipeline):
    """`vle-pbc`: the patches that a phrase names, row by row from the top left of the view."""

    architecture = VLEForPBC
    objective = "pbc"

    def _kept(self, picture: Image.Image) -> dict[str, object]:
        return {"picture": picture}

    def postprocess(self, model_outputs: JsonObject) -> dict[str, object]:
        vision = self.model.config.vision_config
        side = vision.image_size // vision.patch_size
        scores = model_outputs["logits"][0].softmax(-1)[:, 1].reshape(side, side).numpy()
        picture = model_outputs["picture"]
        return {
            "scores": scores,
            "image": heat_map(picture, scores, self.processor.window(*picture.size)),
        }


def heat_map(
    picture: Image.Image, scores: NDArray[np.float32], window: tuple[float, float, float, float]
) -> Image.Image:
    """Lay red over each patch of a picture, as opaque as its score is high.

    Args:
        scores: (rows, cols) in 0..1.
        window: left, top, width and height of the area that the grid covers, in pixels of the
            picture. Pixels outside of it do not change.
    """
    left, top, width, height = window
    rows, cols = scores.shape
    row = np.floor((np.arange(picture.height) + 0.5 - top) / (height / rows)).astype(int)
    column = np.floor((np.arange(picture.width) + 0.5 - left) / (width / cols)).astype(int)
    covered = ((row >= 0) & (row < rows))[:, None] & ((column >= 0) & (column < cols))
    pixel_scores = scores[np.clip(row, 0, rows - 1)[:, None], np.clip(column, 0, cols - 1)]
    opacity = np.where(covered, pixel_scores, 0)[..., None] * HEAT_OPACITY
    pixels = np.asarray(picture) * (1 - opacity) + np.array(HEAT) * opacity
    return Image.fromarray(pixels.round().astype(np.uint8))


def _pairs(images: object, texts: str | Sequence[str]) -> object:
    """Join an image and a text in a dictionary; if one of them is a list, return a list."""
    every_image = list(images) if isinstance(images, list | tuple) else None
    every_text = None if isinstance(texts, str) else list(texts)
    if every_image is None and every_text is None:
        return {"image": images, "text": texts}
    if every_image is None:
        every_image = [images] * len(every_text or ())
    if every_text is None:
        every_text = [str(texts)] * len(every_image)
    if len(every_image) != len(every_text):
        raise ValueError(
            f"{len(every_image)} images and {len(every_text)} texts: "
            "expected one of each, or as many of both"
        )
    return _number([{"image": i, "text": t} for i, t in zip(every_image, every_text, strict=True)])


def _number(inputs: object) -> object:
    """Write its place into each entry of a list, so that an error can name it."""
    if not isinstance(inputs, list):
        return inputs
    return [
        {**entry, "item": i} if isinstance(entry, dict) else entry for i, entry in enumerate(inputs)
    ]
