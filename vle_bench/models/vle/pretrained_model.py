"""Base class of all VLE models: loading, saving, resizing tables, and the interface of models."""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from vle_bench.models.vle.configuration import VLEConfig

logger = logging.getLogger(__name__)
# Every head that a checkpoint may carry. A model without that head leaves it out with a warning.
HEADS = (
    "vqa_classifier",
    "vcr_q2a_logit",
    "vcr_qa2r_logit",
    "choice_logit",
    "itm_score",
    "pbc_classifier",
    "mpc_classifier",
    "mlm_score",
)
# MPC of former versions: a learnt embedding in place of patches, and a class for each of them. Its
# classifier cannot read an object's token.
FORMER_MPC = "mpc_mask_embedding"
FORMER_MPC_PROBLEM = (
    f"{FORMER_MPC}: a head of MPC as former versions trained it, with a learnt mask and a class a "
    "patch, which this version does not have; its encoder loads as VLEModel or with another head"
)
# transformers 5 keeps CLIP's vision encoder one level higher than transformers 4, which wrote the
# released files.
_VISION = re.compile(r"^(vle\.)?vision_model\.(?!vision_model\.)")

METER_TEXT_MODELS = ("roberta",)  # a VLEConfig with this text encoder is METER


class LoadingInfo(TypedDict):
    """The keys that `from_pretrained` of transformers reports about a checkpoint."""

    missing_keys: set[str]
    unexpected_keys: set[str]
    mismatched_keys: set[tuple[str, torch.Size, torch.Size]]


class VLEPreTrainedModel(PreTrainedModel):
    """Base class; implements `vle_bench.models.base.TrainableModel`."""

    config: VLEConfig
    config_class = VLEConfig
    base_model_prefix = "vle"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _no_split_modules = ["VLECrossLayer", "CLIPEncoderLayer", "DebertaV2Layer", "RobertaLayer"]

    @property
    def _encoder(self) -> Any:
        """The `VLEModel` inside, which is this model itself if it has no head."""
        return self.base_model

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        pretrained_model_name_or_path: str | Path,
        *args: Any,
        num_token_types: int | None = None,
        image_size: int | None = None,
        output_loading_info: bool = False,
        ignore_mismatched_sizes: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Load as Hugging Face's `from_pretrained` does, but never skip a weight silently.

        A checkpoint without this model's head gives a new head. A head that this model does not
        have is left out. A warning names every such weight. Buffers of position ids, which older
        checkpoints carry, are ignored.

        Args:
            num_token_types: grow the type table to this many rows; the trained rows stay.
            image_size: pixels a side; the position table is interpolated.
            ignore_mismatched_sizes: start the head afresh if it has another number of classes.

        Raises:
            ValueError: weights of the encoder are missing or of another shape, a head is
                incomplete, or weights are unknown.
        """
        # transformers only logs the keys of another shape; here they are checked with all others.
        loaded: Any = super().from_pretrained(
            pretrained_model_name_or_path,
            *args,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **kwargs,
        )
        model, info = loaded
        model._account_for(info, str(pretrained_model_name_or_path), ignore_mismatched_sizes)
        if num_token_types is not None:
            model.resize_token_types(num_token_types)
        if image_size is not None:
            model.resize_images(image_size)
        return (model, info) if output_loading_info else model

    def save_pretrained(  # type: ignore[override]
        self,
        save_directory: str | Path,
        is_main_process: bool = True,
        state_dict: dict[str, Tensor] | None = None,
        **kwargs: Any,
    ) -> None:
        """Save as Hugging Face's `save_pretrained` does, with the key names of the released files.

        transformers restores old names only in a model that was loaded from a file with them. A
        model from scratch would get other names, which the published program skips silently.
        """
        weights = self.state_dict() if state_dict is None else state_dict
        released = {
            _VISION.sub(r"\1vision_model.vision_model.", name): tensor
            for name, tensor in weights.items()
        }
        # transformers' own renaming would add the prefix once more.
        kwargs["save_original_format"] = False
        super().save_pretrained(save_directory, is_main_process, released, **kwargs)

    def _account_for(self, info: LoadingInfo, source: str, head_may_differ: bool) -> None:
        """Refuse weights that do not fit, and warn about a head that is new or left out.

        In a model of several heads, some may be complete in the file and others start afresh.

        Raises:
            ValueError: names the weights.

        Args:
            info: the loading info of transformers: missing, mismatched and unexpected keys.
            source: the checkpoint, for messages.
            head_may_differ: accept a head of another shape.
        """
        heads = [
            {key for key in self.state_dict() if key.startswith(name)}
            for name, _ in self.named_children()
            if name in HEADS
        ]
        head: set[str] = set().union(*heads)
        missing = set(info["missing_keys"])
        mismatched = {entry[0] for entry in info["mismatched_keys"]}
        unexpected = sorted(info["unexpected_keys"])
        if FORMER_MPC in unexpected and hasattr(self, "mpc_classifier"):
            raise ValueError(f"{source}: {FORMER_MPC_PROBLEM}")
        tied = set(self.all_tied_weights_keys) if hasattr(self, "all_tied_weights_keys") else set()
        incomplete = {key for keys in heads if keys - missing - tied for key in keys & missing}
        problems = {
            "missing": sorted(missing - head - tied),
            "of another shape": sorted(mismatched - head if head_may_differ else mismatched),
            "missing of a head that is incomplete": sorted(incomplete),
            "unknown": [name for name in unexpected if not name.startswith((*HEADS, FORMER_MPC))],
        }
        model = type(self).__name__
        for problem, names in problems.items():
            if names:
                raise ValueError(
                    f"{source}: {len(names)} weights {problem} for {model}: {', '.join(names)}"
                )
        new = sorted((missing | mismatched) - tied)
        for state, names in (("new", new), ("left out", unexpected)):
            if names:
                logger.warning(
                    "%s from %s: %d weights %s: %s",
                    model,
                    source,
                    len(names),
                    state,
                    ", ".join(names),
                )

    @torch.no_grad()
    def resize_token_types(self, num_token_types: int) -> None:
        """Grow the fusion's type table; trained rows stay, new rows are initialised."""
        old = self._encoder.token_type_embeddings
        if num_token_types < old.num_embeddings:
            raise ValueError(
                f"num_token_types: {num_token_types} would discard "
                f"{old.num_embeddings - num_token_types} trained rows"
            )
        new = nn.Embedding(
            num_token_types, old.embedding_dim, device=old.weight.device, dtype=old.weight.dtype
        )
        new.weight.normal_(std=self.config.type_deviation)
        new.weight[: old.num_embeddings] = old.weight
        self._encoder.token_type_embeddings = new
        self.config.num_token_types = num_token_types

    @torch.no_grad()
    def resize_images(self, image_size: int) -> None:
        """Accept images of image_size × image_size pixels.

        Interpolates the position table as published: bicubic, the row of CLS stays.
        """
        vision = self._encoder.vision_model
        config, embeddings = self.config.vision_config, vision.embeddings
        if image_size % config.patch_size and image_size != config.image_size:
            raise ValueError(
                f"image_size: {image_size} does not divide by the patch size {config.patch_size}"
            )
        table = embeddings.position_embedding.weight
        old_rows, new_rows = config.image_size // config.patch_size, image_size // config.patch_size
        if new_rows != old_rows:
            grid = (
                table[1:].float().T.unflatten(1, (old_rows, old_rows))[None]
            )  # (1, D, rows, rows)
            grid = F.interpolate(
                grid, size=(new_rows, new_rows), mode="bicubic", align_corners=False
            )
            table = torch.cat([table[:1], grid[0].flatten(1).T.to(table.dtype)])
        embeddings.position_embedding = nn.Embedding.from_pretrained(table.clone(), freeze=False)
        embeddings.position_ids = torch.arange(len(table), device=table.device)[None]
        embeddings.image_size = image_size
        embeddings.num_positions = len(table)
        embeddings.num_patches = len(table) - 1
        config.image_size = vision.config.image_size = image_size

    @torch.no_grad()
    def reset_head(self) -> int:
        """Initialise the head again and return its number of parameters."""
        for name, child in self.named_children():
            if name in HEADS:
                for module in child.modules():
                    for parameter in module.parameters(recurse=False):
                        # Otherwise `_init_weights` would skip weights that were loaded.
                        parameter._is_hf_initialized = False  # type: ignore[attr-defined]
                    self._init_weights(module)
        return sum(p.numel() for p in self.head_parameters())

    def predict(self, **inputs: Tensor) -> Tensor:
        """Return the logits of a batch. A model without a head has none."""
        logits: Tensor = self(**inputs).logits
        return logits

    @property
    def num_token_types(self) -> int:
        """Rows of the fusion's type table."""
        return self.config.num_token_types

    def question_outputs(self, texts: int, tokens: int, image_size: int) -> int:
        """Count the numbers of all layers' outputs for a question of one picture."""
        config, vision, text = self.config, self.config.vision_config, self.config.text_config
        image = config.num_patches + 1
        outputs = image * vision.hidden_size * vision.num_hidden_layers
        each = tokens * text.hidden_size * text.num_hidden_layers
        each += (image + tokens) * config.hidden_size * config.num_hidden_layers
        return int(outputs + texts * each)

    def head_parameters(self) -> list[nn.Parameter]:
        """Return the parameters outside of the encoder, which METER trains with `lr_mult_head`."""
        encoder = {id(p) for p in self.base_model.parameters()}
        return [p for p in self.parameters() if id(p) not in encoder]

    def cross_modal_parameters(self) -> list[nn.Parameter]:
        """Return the group that METER and VLE train with `lr_mult_cross_modal`.

        Both programs choose the parameters whose name contains `cross_modal`: the fusion layers and
        their poolers. In METER these are also the projections into the fusion's width, which it
        calls `cross_modal_{text,image}_transform`; VLE calls them `{text,image}_projection_layer`.
        """
        encoder = self._encoder
        modules = [
            encoder.cross_modal_image_layers,
            encoder.cross_modal_text_layers,
            encoder.cross_modal_image_pooler,
            encoder.cross_modal_text_pooler,
        ]
        if self.config.text_config.model_type in METER_TEXT_MODELS:
            modules += [encoder.text_projection_layer, encoder.image_projection_layer]
        return [p for module in modules for p in module.parameters()]

    def encoder_layers(self) -> dict[str, list[nn.Module]]:
        """Return the embeddings and then the layers of each encoder, from the input up."""
        text, vision = self._encoder.text_model, self._encoder.vision_model
        below = nn.ModuleList([vision.embeddings, vision.pre_layrnorm])
        return {
            "text": [text.embeddings, *text.encoder.layer],
            "vision": [below, *vision.encoder.layers],
        }

    def shard_layers(self) -> list[nn.Module]:
        """Return the layers of both encoders and of both sides of the fusion."""
        encoders = [layer for layers in self.encoder_layers().values() for layer in layers[1:]]
        return [
            *encoders,
            *self._encoder.cross_modal_text_layers,
            *self._encoder.cross_modal_image_layers,
        ]

    def timed_parts(self) -> dict[str, list[nn.Module]]:
        """Return each encoder and its projection. The rest of a forward pass is the fusion."""
        encoder = self._encoder
        return {
            "text": [encoder.text_model, encoder.text_projection_layer],
            "vision": [encoder.vision_model, encoder.image_projection_layer],
        }

    def grown_weights(self, config: Mapping[str, object]) -> int:
        """Count the weights that the type table has beyond a checkpoint with this config.json."""
        types = self._encoder.token_type_embeddings
        rows = config.get("num_token_types", types.num_embeddings)
        return int((types.num_embeddings - rows) * types.embedding_dim)
