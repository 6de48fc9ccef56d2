"""How much of the device training and evaluation of VLE-base use, beside the published way."""

import time
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tests.long.gpu_peak import need_peak
from tests.long.gpu_setting import (
    MAX_TEXT,
    Report,
    Setting,
    base_config,
    evaluation_step,
    forget,
    new_model,
    no_memory,
    optimizer_of,
    seconds_each,
    training_step,
    vcr_batch,
    vqa_batch,
)
from vle_bench.bench.flops import BACKWARD, forward_flops
from vle_bench.bench.published_way import published_way
from vle_bench.data.collate import padded_text
from vle_bench.training.graphs import RecordedPasses

VARIETY = 4  # batches of other lengths, which follow each other
MEASURE = 1.5  # seconds of each measurement


@dataclass(frozen=True)
class Work:
    """A task of VLE-base: what is timed, and the micro-batch of its recipe."""

    name: str
    architecture: str
    kind: str  # of MAX_TEXT
    recipe_batch: int  # questions
    most: int  # questions that are tried
    shared: bool = False

    def batch(self, setting: Setting, config: Any, questions: int, seed: int) -> dict[str, Tensor]:
        """On the device; the first seed's has the longest text that is drawn."""
        if self.kind == "vcr":
            return vcr_batch(config, questions, seed, seed == 0, setting.device)
        return vqa_batch(config, questions, seed, self.shared, seed == 0, setting.device)


WORKS = (
    Work("VQA, 5.4 a picture", "VLEForVQA", "vqa", 32, 2048, shared=True),
    Work("VQA, one a picture", "VLEForVQA", "vqa", 32, 1024),
    Work("VCR Q2A", "VLEForVCRQ2A", "vcr", 8, 256),
)


class Bench:
    """One model on the device, run in several ways.

    Args:
        setting: the device; its deadline bounds the searches.
    """

    def __init__(self, setting: Setting, work: Work) -> None:
        self.setting, self.work = setting, work
        self.config = base_config(setting.tiny)
        self.model = new_model(work.architecture, self.config, setting.device)
        self.optimizer, self.schedule = optimizer_of(self.model)
        self.called: Any = self.model
        self.ordered = True  # as training runs; the published programs let sums be in any order
        self.recorded: RecordedPasses | None = None  # as `train.cuda_graphs` runs the passes

    def step(self, training: bool, inputs: dict[str, Tensor]) -> Tensor:
        if training:
            return training_step(
                self.setting,
                self.called,
                self.optimizer,
                self.schedule,
                inputs,
                self.ordered,
                self.recorded,
            )
        return evaluation_step(self.setting, self.called, inputs)

    def batches(
        self, questions: int, bucketed: bool
    ) -> tuple[list[dict[str, Tensor]], list[float]]:
        """Of other texts on the same pictures; and the FLOPs of a forward pass of each."""
        made = [
            self.work.batch(self.setting, self.config, questions, seed) for seed in range(VARIETY)
        ]
        for batch in made:
            batch["pixel_values"] = made[0]["pixel_values"]
        counted = [float(forward_flops(self.model, batch)) for batch in made]
        if bucketed:
            made = [padded_text(batch, MAX_TEXT[self.work.kind], 0) for batch in made]
        return made, counted

    def fits(self, training: bool, questions: int) -> bool:
        """Whether a step with the longest texts and one more of the same size have memory."""
        enough, inputs = True, {}
        try:
            inputs = self.work.batch(self.setting, self.config, questions, 0)
            for _ in range(2):
                self.step(training, inputs)
            self.setting.wait()
        except RuntimeError as error:
            if not no_memory(error):
                raise
            enough = False
        del inputs
        if not enough:  # outside the handler, whose traceback holds the tensors of the step
            self.optimizer.zero_grad(set_to_none=True)
            forget(self.setting)
        return enough

    def largest(self, training: bool, start: int) -> int:
        """Questions: doubled from `start` until they do not fit, then one half of the way;
        bounded by the part's time.
        """
        if self.setting.tiny:
            return start
        best, size = 0, start
        most = self.work.most if training else 16 * self.work.recipe_batch
        while size <= most and self.setting.left > 5 and self.fits(training, size):
            best, size = size, 2 * size
        if best and size <= most and self.fits(training, best * 3 // 2):
            best = best * 3 // 2
        return best

    def measure(self, training: bool, questions: int, bucketed: bool = False) -> dict[str, Any]:
        """Samples a second, peak memory, share of the bf16 peak."""
        self.called.train(training)
        forget(self.setting)
        batches, counted = self.batches(questions, bucketed)
        rounds = (1 if self.setting.tiny else VARIETY) * (2 if self.recorded else 1)
        each = seconds_each(
            self.setting,
            lambda n: self.step(training, batches[n % VARIETY]),
            0.01 if self.setting.tiny else MEASURE,
            warm_up=rounds,
        )
        memory = self.memory()
        work = sum(counted) / VARIETY * (1 + BACKWARD if training else 1)
        most = self.setting.peaks.get("bf16")
        return {
            "questions": questions,
            "samples_per_second": questions / each,
            "seconds_per_step": each,
            "peak_memory_gib": memory,
            "model_gflop_per_sample": work / questions / 1e9,
            "share_of_bf16_peak": work / each / most if most else None,
        }

    def memory(self) -> float:
        """GiB: the peak; with recordings what is taken from the device, whose use torch does not
        see.
        """
        if not self.setting.on_gpu:
            return 0.0
        if self.recorded:
            free, total = torch.cuda.mem_get_info()
            return (total - free) / 2**30
        return torch.cuda.max_memory_allocated() / 2**30

    def lowered(self, training: bool, questions: int, **options: Any) -> dict[str, Any] | None:
        """As `measure`, with half the questions, and half again, where they do not fit."""
        while questions:
            try:
                return self.measure(training, questions, **options)
            except RuntimeError as error:
                if not no_memory(error):
                    raise
            self.optimizer.zero_grad(set_to_none=True)
            forget(self.setting)
            questions //= 2
        return None


def told(
    found: dict[str, Any] | None, beside: dict[str, Any] | None = None, whose: str = "published"
) -> str:
    if found is None:
        return "no memory"
    share = found["share_of_bf16_peak"]
    part = "" if share is None else f"{share:6.1%} peak"
    text = f"{found['samples_per_second']:8.1f} /s {part} {found['peak_memory_gib']:5.1f} GiB"
    if beside is not None:
        found[f"ratio_to_{whose}"] = found["samples_per_second"] / beside["samples_per_second"]
        text += f" {found[f'ratio_to_{whose}']:5.2f} x {whose}"
    return text


def label_of(work: Work, training: bool, way: str, questions: int) -> str:
    return f"{work.name}, {'training' if training else 'evaluation'}, {way}, {questions}"


def speed(setting: Setting, report: Report) -> None:
    """Eager: the recipe's micro-batch and the largest that fits, beside the published way."""
    need_peak(setting)
    for number, work in enumerate(WORKS):
        whole = setting.deadline
        setting.deadline = time.monotonic() + setting.left / (len(WORKS) - number)
        bench = Bench(setting, work)
        for training in (True, False):
            size = 2 if setting.tiny else work.recipe_batch
            bench.called.train(training)
            with published_way(bench.model, MAX_TEXT[work.kind], 0):
                bench.ordered = False
                published = bench.lowered(training, size)
                bench.ordered = True
            ours = bench.lowered(training, size)
            if published:
                report.row(
                    label_of(work, training, "published", published["questions"]),
                    told(published),
                    way="published",
                    **published,
                )
            if ours:
                text = told(ours, published)
                report.row(
                    label_of(work, training, "eager", ours["questions"]), text, way="eager", **ours
                )
            largest = bench.largest(training, 2 * size)
            if largest:
                most = bench.lowered(training, largest)
                if most:
                    text = told(most, published)
                    report.row(
                        label_of(work, training, "eager", most["questions"]),
                        text,
                        way="eager",
                        largest=True,
                        **most,
                    )
        del bench
        forget(setting)
        setting.deadline = whole
