"""What the device can do at most: matrix products and copies."""

from functools import partial

import torch
from torch import Tensor

from tests.long.gpu_setting import Report, Setting, exact_products, forget, seconds_each


def peak(setting: Setting, report: Report) -> None:
    """Matrix products and copies, the fastest of a few sizes; bf16 over a second too, as clocks
    fall under load.
    """
    sizes = (8192, 4096, 16384) if setting.on_gpu else (256,)
    for name, dtype, tf32 in (
        ("bf16", torch.bfloat16, False),
        ("TF32", torch.float32, True),
        ("float32", torch.float32, False),
    ):
        if name == "TF32" and not setting.on_gpu:
            continue
        rates = {}
        with exact_products(tf32):
            for rows in sizes[:2] if name == "float32" else sizes:
                one, other = (
                    torch.randn(rows, rows, device=setting.device, dtype=dtype) for _ in range(2)
                )
                product = torch.empty_like(one)
                for seconds in (
                    (0.2, 1.0)
                    if name == "bf16" and rows == sizes[0] and not setting.tiny
                    else (0.2,)
                ):
                    each = seconds_each(setting, partial(product_of, one, other, product), seconds)
                    rates[rows, seconds] = 2 * rows**3 / each
                del one, other, product
        best = max(rates, key=lambda key: rates[key])
        setting.peaks[name] = rates[best]
        long = rates.get((sizes[0], 1.0))
        text = f"{rates[best] / 1e12:.1f} TFLOP/s ({best[0]} rows)" + (
            f"; {long / 1e12:.1f} over a second" if long else ""
        )
        report.row(
            f"matrix product, {name}",
            text,
            flop_per_second=rates[best],
            by_rows_and_seconds={f"{r} {s}": rate for (r, s), rate in rates.items()},
        )
    copies(setting, report)
    forget(setting)


def product_of(one: Tensor, other: Tensor, product: Tensor, number: int) -> None:
    torch.matmul(one, other, out=product)


def copies(setting: Setting, report: Report) -> None:
    source = torch.empty((1 << 30 if setting.on_gpu else 1 << 24) // 4, device=setting.device)
    target = torch.empty_like(source)
    each = seconds_each(setting, lambda _: target.copy_(source), 0.2)
    rate = 2 * source.nbytes / each
    report.row("copy, read and written", f"{rate / 1e9:.0f} GB/s", bytes_per_second=rate)
    if setting.on_gpu:
        host = torch.empty(1 << 26, pin_memory=True)
        each = seconds_each(
            setting, lambda _: target[: 1 << 26].copy_(host, non_blocking=True), 0.2
        )
        report.row(
            "copy from pinned memory",
            f"{host.nbytes / each / 1e9:.1f} GB/s",
            bytes_per_second=host.nbytes / each,
        )


def need_peak(setting: Setting) -> None:
    """Measure the bf16 peak where the part `peak` was left out."""
    if "bf16" not in setting.peaks:
        rows = 8192 if setting.on_gpu else 256
        one = torch.randn(rows, rows, device=setting.device, dtype=torch.bfloat16)
        setting.peaks["bf16"] = 2 * rows**3 / seconds_each(setting, lambda _: one @ one, 0.2)
