"""Hugging Face pipeline for VCR: a record and its image to the scores of its choices.

    import vle_bench.models
    from transformers import pipeline
    pipeline("vle-vcr", model="runs/vle-base-vcr-q2a/best")(record, "image.jpg", "image.json")

The head of the model decides the task: VLEForVCRQ2A scores the answers, VLEForVCRQA2R the
rationales after one answer.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from transformers import Pipeline
from transformers.models.auto.auto_factory import _BaseAutoModelClass

from vle_bench.data import images
from vle_bench.data.official.vcr import bad_record, check_metadata, picture_boxes, read_metadata
from vle_bench.data.vcr_text import Task, encode_record, pad_choices
from vle_bench.errors import RunFailed, first_of
from vle_bench.json_files import JsonObject
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.heads import VLEForMultipleChoice, VLEForVCRQ2A, VLEForVCRQA2R

# Its type annotations refuse the overrides that its documentation asks for.
_Pipeline: Any = Pipeline
_AutoModel: Any = _BaseAutoModelClass
TASKS: dict[str, Task] = {"VLEForVCRQ2A": "q2a", "VLEForVCRQA2R": "qa2r"}


class AutoModelForVCR(_AutoModel):
    """Auto class that loads the model class named in config.json.

    If transformers tried both classes in turn, a head could end with random weights.
    """

    _model_mapping = {VLEConfig: (VLEForVCRQ2A, VLEForVCRQA2R)}


class VCRPipeline(_Pipeline):
    """`vle-vcr`: {"choice": index of the best, "scores": a probability a choice} of a record."""

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        name = next(iter(self.model.config.architectures or ()), type(self.model).__name__)
        if not isinstance(self.model, VLEForMultipleChoice) or name not in TASKS:
            raise ValueError(
                f"{self.task} needs a {' or a '.join(TASKS)}; "
                f"{self.model.name_or_path} holds {name}"
            )
        self.vcr_task = TASKS[name]
        if self.processor.patch_size is None:
            self.processor.patch_size = self.model.config.vision_config.patch_size

    def __call__(
        self, record: object, image: object = None, metadata: object = None, **kwargs: object
    ) -> Any:
        """Return one result; for a list or a generator of dictionaries, one each.

        Args:
            record: an official VCR record, labels are not needed; or, without `image`, dictionaries
                {"record", "image", "metadata"}.
            image: a Pillow image, a path, an address (http://, https://, data:image/) or an array.
            metadata: the official metadata of the image, or the path of its file: `boxes`, one for
                each of the record's objects, in pixels of an image of `width` × `height` (by
                default the size of the image itself).
            answer: for QA2R, the answer before the rationales; by default the record's
                answer_label.
            max_length: longest choice in tokens, 80 by default.
            timeout: seconds to wait for a server.
        """
        # The library would read the first entry of an empty list.
        if isinstance(record, list) and not record:
            return []
        given = (
            record if image is None else {"record": record, "image": image, "metadata": metadata}
        )
        return super().__call__(given, **kwargs)

    def _sanitize_parameters(
        self,
        answer: int | None = None,
        max_length: int | None = None,
        timeout: float | None = None,
        **kwargs: object,
    ) -> tuple[dict[str, object], dict[str, object], dict[str, object]]:
        if kwargs:
            raise TypeError(f"{self.task} has no parameter {', '.join(kwargs)}")
        given = {"answer": answer, "max_length": max_length, "timeout": timeout}
        return {name: value for name, value in given.items() if value is not None}, {}, {}

    def preprocess(
        self,
        input_: object,
        answer: int | None = None,
        max_length: int = 80,
        timeout: float = images.TIMEOUT,
    ) -> dict[str, object]:
        """Turn {"record", "image", "metadata"} into pixel_values (1, 3, H, W) and the question.

        The question is the record's id, the encodings of its choices and its patches (objects, P).
        """
        if not isinstance(input_, dict) or not {"record", "image"} <= input_.keys():
            raise ValueError(
                "expected a VCR record with its image, "
                'or {"record": ..., "image": ..., "metadata": ...}'
            )
        record = input_["record"]
        choices = encode_record(record, self.tokenizer, self.vcr_task, max_length, answer)
        try:
            picture = images.read(input_["image"], "image", timeout)
            features = self.processor(
                images=[picture], boxes=[_boxes(record, input_.get("metadata"), picture)]
            )
        except ValueError as error:
            raise (
                error if str(error).startswith("VCR record") else bad_record(record, str(error))
            ) from error
        # `_forward` pads texts and objects: the library's collation cannot pad (choices, tokens).
        question = (
            record.get("annot_id", "the record"),
            choices,
            features["object_patch_mask"][0].numpy(),
        )
        return {"pixel_values": features["pixel_values"], "question": question}

    def _forward(self, input_tensors: JsonObject, **parameters: object) -> dict[str, object]:
        pixels, questions = input_tensors["pixel_values"], input_tensors["question"]
        # With batch_size 1 the library does not collate.
        if isinstance(questions, tuple):
            questions = [questions]
        names, encodings, masks = zip(*questions, strict=True)
        batch = pad_choices(encodings, masks, self.tokenizer.pad_token_id)
        tensors = {name: torch.from_numpy(value).to(pixels.device) for name, value in batch.items()}
        logits = self.model(pixel_values=pixels, **tensors).logits.float()
        refuse_broken(self.task, logits, names)
        return {"logits": logits}

    def postprocess(self, model_outputs: dict[str, torch.Tensor]) -> dict[str, object]:
        # In float64 on the CPU, as the task's predictions.
        logits = model_outputs["logits"][0].double()
        return {"choice": int(logits.argmax()), "scores": logits.softmax(-1).tolist()}


def refuse_broken(task: str, logits: torch.Tensor, names: Sequence[str]) -> None:
    """Refuse logits (B, ...) that are NaN or infinite, before an answer is read from them.

    Args:
        names: names of the B inputs.

    Raises:
        RunFailed: gives the number of such inputs and the first eight names.
    """
    finite = logits.isfinite().flatten(1).all(1).tolist()
    broken = [str(name) for name, is_finite in zip(names, finite, strict=True) if not is_finite]
    if broken:
        raise RunFailed(
            f"{task}: the logits of {len(broken)} of {len(names)} inputs are not finite "
            f"(NaN or infinite): {first_of(broken)}; "
            "the weights are damaged, or overflow in 16 bits and not in float32"
        )


def _boxes(record: JsonObject, metadata: Any, picture: Image.Image) -> NDArray[np.float64]:
    """Return boxes (objects, 4) in pixels of the picture.

    The picture may have another size than the metadata says.
    """
    if metadata is None and record["objects"]:
        raise bad_record(record, "has objects: `metadata` with their boxes is expected")
    if isinstance(metadata, str | Path):
        metadata = read_metadata(Path(metadata))
    elif not metadata:
        metadata = {"boxes": []}
    # Without a size, the boxes are in pixels of the upright picture.
    orientation = 1
    if isinstance(metadata, dict):
        if {"width", "height"} & metadata.keys():
            orientation = picture.info.get(images.TURNED, 1)
        metadata = {"width": picture.width, "height": picture.height, **metadata}
    check_metadata(record, metadata)
    return picture_boxes(record, metadata, picture.width, picture.height, orientation)
