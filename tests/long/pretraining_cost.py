"""What pre-training costs, counted by torch on the meta device: `python -m tests.long.pretraining_cost`.

The recipes in recipes/pretrain/ state these figures in their comments; a test compares them.
"""

from dataclasses import dataclass

import torch

from vle_bench.bench.flops import training_flops
from vle_bench.models import SIZES, VLEConfig, VLEForPreTraining

PAIRS = 8  # of a batch that is counted, each with its own picture, an object and a phrase
PEAK, SHARE = (
    989e12,
    0.4,
)  # FLOP/s of an H100 in bf16 (NVIDIA's data sheet), and the part that is reached
CLASSES = 1600


@dataclass(frozen=True)
class Setting:
    """A recipe: size, pictures, texts, objectives, steps and pairs a step."""

    size: str
    pixels: int
    tokens: int
    objectives: tuple[str, ...]
    steps: int
    batch: int
    candidates: int = 4

    @property
    def samples(self) -> int:
        return self.steps * self.batch


ALL = ("mlm", "itm", "mpc", "pbc")
SETTINGS = {
    "vle-base": Setting("vle-base", 224, 32, ALL, 25_000, 2048),
    "vle-large": Setting("vle-large", 224, 32, ALL, 25_000, 2048),
    # METER's texts are padded to 50 tokens, and its strangers are random
    "meter-base": Setting("meter-base", 288, 50, ("mlm", "itm"), 100_000, 4096, candidates=1),
}


def model_of(setting: Setting, objectives: tuple[str, ...]) -> VLEForPreTraining:
    config = VLEConfig(**SIZES[setting.size], num_labels=CLASSES)
    config.vision_config.image_size = setting.pixels
    config.objectives = dict.fromkeys(objectives, 1.0)
    with torch.device("meta"):
        return VLEForPreTraining(config)


def batch_of(model: VLEForPreTraining, setting: Setting) -> dict[str, torch.Tensor]:
    """A batch on the meta device; of eight texts four see a stranger, and two of these a hard one."""
    patches, words = model.config.num_patches, max(1, round(0.15 * setting.tokens))

    def whole(*shape: int) -> torch.Tensor:
        return torch.zeros(shape, dtype=torch.long, device="meta")

    inputs = {
        "input_ids": whole(PAIRS, setting.tokens),
        "attention_mask": whole(PAIRS, setting.tokens),
        "image_index": whole(PAIRS),
        "mlm_input_ids": whole(PAIRS, setting.tokens),
        "mlm_positions": whole(PAIRS, words),
        "mlm_words": whole(PAIRS, words),
        "itm_images": whole(PAIRS),
        "mpc_texts": whole(PAIRS),
        "mpc_patches": whole(PAIRS, patches).bool(),
        "mpc_labels": whole(PAIRS),
        "pbc_texts": whole(PAIRS),
        "pbc_patches": whole(PAIRS, patches),
        "pixel_values": torch.zeros(PAIRS, 3, setting.pixels, setting.pixels, device="meta"),
    }
    if setting.candidates > 1:
        inputs["itm_hard_texts"] = whole(PAIRS // 4)
        inputs["itm_candidates"] = whole(PAIRS // 4, setting.candidates)
    return inputs


def flops_a_pair(setting: Setting, objectives: tuple[str, ...]) -> float:
    """Of a training step: three times the forward pass, and once the search of hard strangers."""
    model = model_of(setting, objectives).train()
    inputs = batch_of(model, setting)
    given = {"input_ids", "attention_mask", "pixel_values", "image_index"}
    own = {k: v for k, v in inputs.items() if k in given or k.startswith(objectives)}
    return training_flops(model, own) / PAIRS


def cost(name: str) -> tuple[float, float, float]:
    """FLOPs of the whole recipe with shared towers, with separate passes, and hours of an H100."""
    setting = SETTINGS[name]
    shared = flops_a_pair(setting, setting.objectives) * setting.samples
    separate = sum(flops_a_pair(setting, (one,)) for one in setting.objectives) * setting.samples
    return shared, separate, shared / (PEAK * SHARE) / 3600


def main() -> None:
    for name in SETTINGS:
        shared, separate, hours = cost(name)
        print(
            f"{name}: {shared:.2e} FLOP with shared towers, {separate:.2e} with a pass of its own "
            f"for each objective ({separate / shared:.2f} times as many); {hours:.0f} H100-hours "
            f"at {SHARE:.0%} of {PEAK / 1e12:.0f} TFLOP/s"
        )


if __name__ == "__main__":
    main()
