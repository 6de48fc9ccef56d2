"""A VCR record and its image → scores of its choices, as a Hugging Face pipeline.

    import vle_bench.models
    from transformers import pipeline
    pipeline("vle-vcr", model="runs/vle-base-vcr-q2a/best")(record, "image.jpg", "image.json")

The model's head decides the task: VLEForVCRQ2A scores the answers, VLEForVCRQA2R the rationales after one answer.
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
from vle_bench.errors import RunFailed
from vle_bench.models.vle.configuration import VLEConfig
from vle_bench.models.vle.heads import VLEForMultipleChoice, VLEForVCRQ2A, VLEForVCRQA2R

_Pipeline: Any = Pipeline  # its annotations refuse the overrides that its documentation asks for
_AutoModel: Any = _BaseAutoModelClass
TASKS: dict[str, Task] = {"VLEForVCRQ2A": "q2a", "VLEForVCRQA2R": "qa2r"}


class AutoModelForVCR(_AutoModel):
    """The class that a checkpoint's config.json names; trying one after the other could end with a head of random weights."""

    _model_mapping = {VLEConfig: (VLEForVCRQ2A, VLEForVCRQA2R)}


class VCRPipeline(_Pipeline):
    """`vle-vcr`: one record gives {"choice": index of the best, "scores": a probability for each choice}."""

    _load_processor = True
    _load_image_processor = False
    _load_feature_extractor = False
    _load_tokenizer = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        name = next(iter(self.model.config.architectures or ()), type(self.model).__name__)
        if not isinstance(self.model, VLEForMultipleChoice) or name not in TASKS:
            raise ValueError(
                f"{self.task} needs a {' or a '.join(TASKS)}; {self.model.name_or_path} holds {name}"
            )
        self.vcr_task = TASKS[name]
        if self.processor.patch_size is None:
            self.processor.patch_size = self.model.config.vision_config.patch_size

    def __call__(self, record: Any, image: Any = None, metadata: Any = None, **kwargs: Any) -> Any:
        """One result; for a list or a generator of dictionaries, one each.

        Args:
            record: an official VCR record, labels are not needed; or, without `image`, {"record", "image", "metadata"}.
            image: a Pillow image, a path, an address (http://, https://, data:image/) or an array.
            metadata: the image's official metadata, or the path of its file: `boxes`, one for each of the record's objects, in
                pixels of an image of `width` × `height` (by default the image's own size).
            answer: for QA2R, which answer stands before the rationales; by default the record's answer_label.
            max_length: most tokens of a choice, 80 by default.
            timeout: seconds that a server may keep silent.
        """
        if isinstance(record, list) and not record:
            return []  # the library looks at the first entry
        given = (
            record if image is None else {"record": record, "image": image, "metadata": metadata}
        )
        return super().__call__(given, **kwargs)

    def _sanitize_parameters(
        self,
        answer: int | None = None,
        max_length: int | None = None,
        timeout: float | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(f"{self.task} has no parameter {', '.join(kwargs)}")
        given = {"answer": answer, "max_length": max_length, "timeout": timeout}
        return {name: value for name, value in given.items() if value is not None}, {}, {}

    def preprocess(
        self,
        input_: Any,
        answer: int | None = None,
        max_length: int = 80,
        timeout: float = images.TIMEOUT,
    ) -> dict[str, Any]:
        """{"record", "image", "metadata"} → pixel_values (1, 3, H, W), the encodings and the (objects, P) patches of the record."""
        if not isinstance(input_, dict) or not {"record", "image"} <= input_.keys():
            raise ValueError(
                'a VCR record with its image is expected, or {"record": ..., "image": ..., "metadata": ...}'
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
        # Texts and objects are padded in `_forward`: the library's collation knows no (choices, tokens).
        question = (
            record.get("annot_id", "the record"),
            choices,
            features["object_patch_mask"][0].numpy(),
        )
        return {"pixel_values": features["pixel_values"], "question": question}

    def _forward(self, input_tensors: dict[str, Any], **parameters: Any) -> dict[str, Any]:
        pixels, questions = input_tensors["pixel_values"], input_tensors["question"]
        if isinstance(questions, tuple):  # not collated, as batch_size is 1
            questions = [questions]
        names, encodings, masks = zip(*questions, strict=True)
        batch = pad_choices(encodings, masks, self.tokenizer.pad_token_id)
        tensors = {name: torch.from_numpy(value).to(pixels.device) for name, value in batch.items()}
        logits = self.model(pixel_values=pixels, **tensors).logits.float()
        refuse_broken(self.task, logits, names)
        return {"logits": logits}

    def postprocess(self, model_outputs: Any) -> dict[str, Any]:
        logits = model_outputs["logits"][0].double()  # on the CPU; see VCR.predictions
        return {"choice": int(logits.argmax()), "scores": logits.softmax(-1).tolist()}


def refuse_broken(task: str, logits: torch.Tensor, names: Sequence[str]) -> None:
    """Stop at logits (B, ...) that are NaN or infinite, before an answer is read from them.

    Args:
        names: of the B inputs.

    Raises:
        RunFailed: how many inputs, and the first of them.
    """
    sound = logits.isfinite().flatten(1).all(1).tolist()
    broken = [name for name, whole in zip(names, sound, strict=True) if not whole]
    if broken:
        shown = ", ".join(map(str, broken[:8])) + (
            f" and {len(broken) - 8} more" if len(broken) > 8 else ""
        )
        raise RunFailed(
            f"{task}: the logits of {len(broken)} of {len(names)} inputs are not finite (NaN or infinite): {shown}; "
            "the weights are damaged, or overflow in 16 bits and not in float32"
        )


def _boxes(record: dict[str, Any], metadata: Any, picture: Image.Image) -> NDArray[np.float64]:
    """(objects, 4) boxes in pixels of the picture, which need not have the size that its metadata says."""
    if metadata is None and record["objects"]:
        raise bad_record(record, "has objects: `metadata` with their boxes is expected")
    given = (
        read_metadata(Path(metadata))
        if isinstance(metadata, str | Path)
        else metadata or {"boxes": []}
    )
    # Without a size the boxes are in pixels of the picture as one sees it, upright.
    turned = (
        picture.info.get(images.TURNED, 1)
        if isinstance(given, dict) and {"width", "height"} & given.keys()
        else 1
    )
    given = (
        {"width": picture.width, "height": picture.height, **given}
        if isinstance(given, dict)
        else given
    )
    check_metadata(record, given)
    return picture_boxes(record, given, picture.width, picture.height, turned)
