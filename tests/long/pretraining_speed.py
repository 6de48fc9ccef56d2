"""Pairs a second of shared towers beside a pass for each objective: `python -m tests.long.pretraining_speed`.

VLE-base, float32, on this machine's CPU. Both are measured in turns in one process, by the time that its
threads have computed, so that other programs slow neither down.
"""

import argparse
import time
from collections.abc import Callable

import torch

from tests.long.pretraining_cost import SETTINGS, Setting, batch_of
from vle_bench.models import SIZES, VLEConfig, VLEForPreTraining

PAIRS = 4


def model_of(setting: Setting) -> VLEForPreTraining:
    config = VLEConfig(**SIZES[setting.size], num_labels=80)
    config.vision_config.image_size = setting.pixels
    return VLEForPreTraining(config).train()


def inputs_of(model: VLEForPreTraining, setting: Setting) -> dict[str, torch.Tensor]:
    """A batch with values: each pair has its own picture, an object and a phrase."""
    made = {}
    for name, shape in batch_of(model, setting).items():
        rows = shape[:PAIRS] if name != "itm_hard_texts" else shape[:1]
        made[name] = torch.zeros(rows.shape, dtype=rows.dtype)
    for name in ("image_index", "mpc_texts", "pbc_texts"):
        made[name] = torch.arange(PAIRS)
    made["attention_mask"] += 1
    made["mpc_patches"][:, :20] = True
    made["itm_images"] = torch.tensor([0, 0, 2, 2])
    made["itm_hard_texts"] = torch.tensor([1])
    made["itm_candidates"] = torch.tensor([[0, 2, 3, 0]])
    made["pixel_values"].normal_()
    return made


def seconds(work: Callable[[], None]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    turns = parser.parse_args().turns
    setting = SETTINGS["vle-base"]
    model = model_of(setting)
    inputs = inputs_of(model, setting)

    def step(objectives: tuple[str, ...]) -> None:
        model.config.objectives = dict.fromkeys(objectives, 1.0)
        given = {"input_ids", "attention_mask", "pixel_values", "image_index"}
        own = {k: v for k, v in inputs.items() if k in given or k.startswith(objectives)}
        model(**own).loss.backward()

    def separate() -> None:
        for one in setting.objectives:
            step((one,))

    shared_seconds, separate_seconds = 0.0, 0.0
    for _ in range(turns):
        shared_seconds += seconds(lambda: step(setting.objectives))
        separate_seconds += seconds(separate)
    pairs = turns * PAIRS
    print(
        f"shared towers {pairs / shared_seconds:.3f} pairs a second of a core, a pass for each objective "
        f"{pairs / separate_seconds:.3f}: {separate_seconds / shared_seconds:.2f} times as many"
    )


if __name__ == "__main__":
    main()
