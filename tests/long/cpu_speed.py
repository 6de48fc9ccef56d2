"""Training and evaluation of VLE-base on a CPU, beside the published way: a table in about ten
minutes on two quiet cores.

    python -m tests.long.cpu_speed [--threads 2] [--rounds 2] [--only "VCR Q2A, 224"] [--json FILE]
    python -m tests.long.cpu_speed --compiled --only "VCR Q2A, 224"     # needs a C++ compiler

Each row is one micro-batch with random weights, real dropout and the optimizer's step. All ways
take turns, and the fastest of the rounds counts. The published way is that of
`vle-bench bench --naive`, with AdamW one parameter after the other, as the published programs run
it. Peak memory is that of the process from one call to the next, weights and moments included.
"""

import argparse
import ctypes
import gc
import json
import platform
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tests.long.gpu_setting import (
    CPU,
    MAX_TEXT,
    base_config,
    new_model,
    optimizer_of,
    vcr_batch,
    vqa_batch,
)
from vle_bench.bench.bench import matmul_peak
from vle_bench.bench.flops import BACKWARD, forward_flops
from vle_bench.bench.published_way import published_way
from vle_bench.data.collate import padded_text
from vle_bench.evaluation.environment import autocast
from vle_bench.training import engine

WAYS = ("published", "fp32", "bf16")
PEAK = Path("/proc/self/clear_refs")  # "5" sets VmHWM back (proc(5))


@dataclass(frozen=True)
class Work:
    """A row of the table."""

    name: str
    architecture: str
    pixels: int
    questions: int
    shared: bool = False  # 5, 3, ... questions look at the same picture; else one each

    @property
    def kind(self) -> str:
        return "vcr" if "VCR" in self.architecture else "vqa"

    def batch(self, config: Any) -> dict[str, Tensor]:
        if self.kind == "vcr":
            return vcr_batch(config, self.questions, 0, longest=True)
        return vqa_batch(config, self.questions, 0, self.shared, longest=True)


WORKS = (
    Work("VCR Q2A, 224 pixels, 2 × 4 texts", "VLEForVCRQ2A", 224, 2),
    Work("VCR Q2A, 384 pixels, 2 × 4 texts", "VLEForVCRQ2A", 384, 2),
    Work("VQA, 384 pixels, 4 questions on 4 pictures", "VLEForVQA", 384, 4),
    Work("VQA, 384 pixels, 8 questions on 2 pictures", "VLEForVQA", 384, 8, shared=True),
)


@dataclass
class Measured:
    """The fastest call of one way."""

    seconds: float = float("inf")
    cpu_seconds: float = float("inf")
    peak_gib: float = 0.0

    def add(self, call: Callable[[], None]) -> None:
        """Time one call."""
        reset_peak()
        clock, process = time.perf_counter(), time.process_time()
        call()
        self.cpu_seconds = min(self.cpu_seconds, time.process_time() - process)
        self.seconds = min(self.seconds, time.perf_counter() - clock)
        self.peak_gib = max(self.peak_gib, peak_bytes() / 2**30)


def processor() -> str:
    """Return the processor's name, and which of the instructions for bf16 it has."""
    name, cpuinfo = platform.processor(), Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text(encoding="utf-8").splitlines()
        names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
        name = names[0] if names else name
    if torch.cpu._is_amx_tile_supported():
        return f"{name} (AMX)"
    return f"{name} ({'AVX-512' if torch.cpu._is_avx512_bf16_supported() else 'no'} bf16)"


def reset_peak() -> None:
    """Give free memory back to the system and start a new peak; nothing outside of Linux."""
    gc.collect()
    if PEAK.exists():
        if platform.libc_ver()[0] == "glibc":
            ctypes.CDLL(None).malloc_trim(0)
        PEAK.write_text("5", encoding="ascii")


def peak_bytes() -> float:
    """Return the peak resident memory since `reset_peak`; NaN outside of Linux."""
    status = Path("/proc/self/status")
    if not status.exists():
        return float("nan")
    fields = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return 1024.0 * int(fields["VmHWM"].split()[0])


class Bench:
    """One row: a model, its optimizer and a batch."""

    def __init__(self, work: Work, tiny: bool) -> None:
        self.work = work
        config = base_config(tiny, 16 if tiny else work.pixels)
        self.model = new_model(work.architecture, config, CPU)
        self.optimizer, self.schedule = optimizer_of(self.model)
        self.inputs = work.batch(config)

    def call(self, training: bool, way: str) -> None:
        """Run one training step or one evaluation batch."""
        published = way == "published"
        context = published_way(self.model, MAX_TEXT[self.work.kind], 0) if published else None
        precision = torch.autocast("cpu", dtype=torch.bfloat16, enabled=way == "bf16")
        with context or nullcontext():
            if not training:
                with torch.no_grad(), precision:
                    self.model(**{k: v for k, v in self.inputs.items() if k != "labels"})
                return
            with precision:
                loss = self.model(**self.inputs).loss
            loss.backward()
            if not published:
                # As `engine.clip_gradients` without a limit.
                gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
                torch.nn.utils.get_total_norm(gradients)
            for group in self.optimizer.param_groups:
                group.update(fused=not published, foreach=False)
            self.optimizer.step()
            self.schedule.step()
            self.optimizer.zero_grad(set_to_none=True)

    def measure(self, training: bool, rounds: int, end: float) -> dict[str, Measured]:
        """Time every way, `rounds` times in turn; only once after `end`, by `time.monotonic`."""
        self.model.train(training)
        results = {way: Measured() for way in WAYS}
        # Evaluation casts the weights to bf16 once, not once a batch; see `predict_in_batches`.
        with nullcontext() if training else autocast(CPU, "bf16"):
            for way in WAYS[1:]:  # the first step makes AdamW's moments
                self.call(training, way)
            for number in range(rounds):
                if number and time.monotonic() > end:
                    break
                for way in WAYS[:: 1 if number % 2 else -1]:
                    results[way].add(partial(self.call, training, way))
        return results

    def gflop(self, training: bool) -> float:
        """Count what the model itself has to do, without what the published way repeats."""
        return forward_flops(self.model, self.inputs) * (1 + BACKWARD if training else 1) / 1e9


def row(
    work: Work, training: bool, results: dict[str, Measured], gflop: float, peaks: dict[str, float]
) -> dict[str, Any]:
    """Return the figures of a row."""
    published = results["published"]
    figures: dict[str, Any] = {"work": f"{work.name}, {'training' if training else 'evaluation'}"}
    for way, result in results.items():
        figures[way] = {
            "seconds": result.seconds,
            "cpu_seconds": result.cpu_seconds,
            "peak_gib": result.peak_gib,
            "ratio": published.seconds / result.seconds,
            "ratio_of_cpu_seconds": published.cpu_seconds / result.cpu_seconds,
            "busy": result.cpu_seconds / result.seconds / torch.get_num_threads(),
        }
        if way != "published":
            figures[way]["share_of_peak"] = gflop * 1e9 / result.seconds / peaks[way]
    return figures


def line(figures: dict[str, Any]) -> str:
    """Render a row."""
    cells = [f"{figures['work']:<56}"]
    for way in WAYS:
        one = figures[way]
        cells.append(f"{one['seconds']:7.2f} s {one['peak_gib']:5.1f} GiB")
        if way != "published":
            cells.append(
                f"{one['ratio']:5.2f} x ({one['ratio_of_cpu_seconds']:.2f} of CPU time)"
                f" {one['share_of_peak']:4.0%} of the peak"
            )
    return " | ".join(cells)


def table(
    works: list[Work], rounds: int, end: float, tiny: bool, peaks: dict[str, float]
) -> list[dict[str, Any]]:
    """Measure and print the rows of the table."""
    rows = []
    print(" | ".join((f"{'':<56}", "published", "fp32", "", "bf16", "")), flush=True)
    for work in works:
        bench = Bench(work, tiny)
        for training in (False, True):
            results = bench.measure(training, rounds, end)
            rows.append(row(work, training, results, bench.gflop(training), peaks))
            print(line(rows[-1]), flush=True)
        del bench
        gc.collect()
    busy = min(one[way]["busy"] for one in rows for way in WAYS)
    print(f"the process had at least {busy:.0%} of its threads' time; below 90 %, it was disturbed")
    return rows


def compiled(work: Work, rounds: int, tiny: bool) -> list[dict[str, Any]]:
    """Time torch.compile, layer by layer as `train.compile` does it, beside the same code without.

    The texts are padded to the lengths that a compiled model gets.
    """
    bench = Bench(work, tiny)
    bench.inputs = padded_text(bench.inputs, MAX_TEXT[work.kind], 0)
    engine.compile_layers(bench.model)
    rows = []
    for training in (False, True):
        bench.model.train(training)
        call = partial(bench.call, training, "fp32")
        started = time.perf_counter()
        call()
        first = time.perf_counter() - started
        eager, fast = Measured(), Measured()
        for number in range(rounds + 1):
            with torch.compiler.set_stance("force_eager"):
                (eager if number else Measured()).add(call)
            fast.add(call)
        name = f"{work.name}, {'training' if training else 'evaluation'}"
        rows.append(
            {
                "work": name,
                "first_seconds": first,
                "eager_seconds": eager.seconds,
                "compiled_seconds": fast.seconds,
                "ratio": eager.seconds / fast.seconds,
                "ratio_of_cpu_seconds": eager.cpu_seconds / fast.cpu_seconds,
            }
        )
        print(
            f"{name}: first call {first:.0f} s, then {fast.seconds:.2f} s compiled and "
            f"{eager.seconds:.2f} s without: {rows[-1]['ratio']:.2f} x "
            f"({rows[-1]['ratio_of_cpu_seconds']:.2f} of CPU time)",
            flush=True,
        )
    return rows


def main(arguments: list[str] | None = None) -> list[dict[str, Any]]:
    """Print the table; return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=10, help="one round each after that")
    parser.add_argument("--only", default="", help="rows whose name begins so")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--compiled", action="store_true", help="torch.compile instead")
    parser.add_argument("--tiny", action="store_true", help="the smallest model, to try this")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    end = time.monotonic() + 60 * options.minutes
    peaks = {"fp32": matmul_peak(CPU, torch.float32), "bf16": matmul_peak(CPU, torch.bfloat16)}
    print(
        f"{processor()}, {options.threads} threads, torch "
        f"{torch.__version__}; matrix products: "
        + ", ".join(f"{name} {peak / 1e9:,.0f} GFLOP/s" for name, peak in peaks.items()),
        flush=True,
    )
    rows: list[dict[str, Any]] = []
    works = [work for work in WORKS if work.name.startswith(options.only)]
    if options.compiled:
        for work in works:
            rows += compiled(work, options.rounds, options.tiny)
    else:
        rows = table(works, options.rounds, end, options.tiny, peaks)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return rows


if __name__ == "__main__":
    main(sys.argv[1:])
