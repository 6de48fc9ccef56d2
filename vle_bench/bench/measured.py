"""Results of a benchmark: the timings of each way, and the content of the timed batches."""

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from vle_bench.data.collate import Batch
from vle_bench.json_files import JsonObject

OURS, NAIVE, BF16 = "ours", "naive", "bf16"  # ways to run a model
Count = Callable[[nn.Module, Mapping[str, Tensor]], int]


def rate_shown(rate: float) -> str:
    """Write samples or pictures a second with three digits, and without powers of ten."""
    return f"{rate:,.0f}" if rate >= 1000 else f"{rate:.3g}"


@dataclass
class Timing:
    """Measurements of one way to run a model.

    Args:
        clock: seconds per sample of each repetition, by the clock.
        process: the same in CPU time of the process.
        peak: peak memory in bytes.
    """

    clock: list[float] = field(default_factory=list)
    process: list[float] = field(default_factory=list)
    peak: int = 0

    def report(
        self, samples: float, flops: float, matmul_peak: float, device: str
    ) -> dict[str, float | None]:
        """Return the speed by the median of the repetitions.

        Args:
            samples: in a repetition, on average.
            flops: FLOPs of a sample.
            matmul_peak: FLOP/s.
            device: its type. On a GPU the process only waits, so its CPU time says nothing.
        """
        rate = 1 / statistics.median(self.clock)
        return {
            "samples_per_second": rate,
            "seconds_per_step": samples / rate,
            "cpu_seconds_per_step": samples * statistics.median(self.process)
            if device == "cpu"
            else None,
            "cpu_share_of_threads": sum(self.process) / sum(self.clock) / torch.get_num_threads()
            if device == "cpu"
            else None,
            "model_gflop_per_sample": flops / 1e9,
            "model_flop_utilisation": flops * rate / matmul_peak,
        }


@dataclass
class Measured:
    """Training or evaluation: the timings of each way, and the content of the timed batches.

    Args:
        flops: of the samples in `counted`.
        counted: number of samples whose FLOPs were counted.
        loading: seconds that the batches took to load.
    """

    ways: dict[str, Timing]
    samples: int = 0
    repetitions: int = 0
    images: int = 0
    texts: int = 0
    tokens: int = 0
    flops: float = 0.0
    counted: int = 0
    loading: float = 0.0

    def add(self, model: nn.Module, batches: list[Batch], seconds: float, count: Count) -> None:
        """Add the micro-batches of one repetition.

        FLOPs are counted of the first of them; the others have other questions of the same number.

        Args:
            count: counts the FLOPs of a batch.
        """
        self.repetitions += 1
        self.loading += seconds
        self.flops += count(model, batches[0]["inputs"])
        self.counted += len(batches[0]["ids"])
        for batch in batches:
            mask = batch["inputs"]["attention_mask"]
            self.samples += len(batch["ids"])
            self.images += len(batch["inputs"]["pixel_values"])
            self.texts += mask[..., 0].numel()
            self.tokens += int(mask.sum())

    def report(self, way: str, matmul_peak: float, device: str) -> dict[str, float | None]:
        """Return the speed of one way; see `Timing.report`."""
        samples, flops = self.samples / self.repetitions, self.flops / self.counted
        return self.ways[way].report(samples, flops, matmul_peak, device)

    def shapes(self) -> dict[str, float]:
        """Return the mean content of the timed batches."""
        return {
            "texts_per_image": self.texts / self.images,
            "tokens_per_text": self.tokens / self.texts,
            "questions_per_batch": self.samples / self.repetitions,
        }

    def loading_rates(self, computed: float, processes: int, cores: int) -> JsonObject:
        """Compare loading with computing.

        Args:
            computed: samples a second that the model computes.
            processes: that load data in this recipe; 0: loading and computing take turns.
            cores: of this machine, of which no more than that load at a time.

        Returns:
            Pictures and samples a second of one loading process, samples a second of all of them,
            and which of the two bounds the recipe.
        """
        loaded = self.samples / self.loading
        of_all = loaded * min(max(processes, 1), cores)
        return {
            "loading_samples_per_second_per_process": loaded,
            "loading_images_per_second_per_process": self.images / self.loading,
            "loading_samples_per_second": of_all,
            "loading_processes": processes,
            "bound_by": "loading" if of_all < computed else "computing",
        }

    def ratio(self, clock: str, way: str = NAIVE) -> float:
        """Return how many times as long a way takes as ours, by the medians."""
        other, ours = getattr(self.ways[way], clock), getattr(self.ways[OURS], clock)
        return float(statistics.median(other) / statistics.median(ours))
