"""What a machine with one GPU does with this checkout: right numbers, speed, loading, resuming.
`make gpu-check`.

    python -m tests.long.gpu_check [--json FILE] [--seconds N] [--only PART ...]

From the checkout's root; needs torch, transformers, accelerate, safetensors, sentencepiece, no
network and no data. Exit status: 0; 1 where a check does not hold or a part has failed; 2 where
there is no GPU. A part that has used its time, and one for which no time is left, say so and fail
nothing.
"""

import argparse
import json
import platform
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.long import (
    gpu_graphs,
    gpu_loading,
    gpu_numbers,
    gpu_peak,
    gpu_profile,
    gpu_resume,
    gpu_speed,
)
from tests.long.gpu_setting import Report, Setting, TimeIsUp, forget, one_line
from vle_bench.training import engine

Part = Callable[[Setting, Report], None]
# In this order, each with the most seconds that it may take.
PARTS: dict[str, tuple[Part, float]] = {
    "goldens": (gpu_numbers.goldens, 45),
    "peak": (gpu_peak.peak, 25),
    "precision": (gpu_numbers.precision, 40),
    "resume": (gpu_resume.resume, 45),
    "resume-graphs": (gpu_resume.resume_graphs, 45),
    "fsdp": (gpu_resume.fsdp, 45),
    "graphs": (gpu_graphs.graphs, 110),
    "loading": (gpu_loading.loading, 60),
    "speed": (gpu_speed.speed, 100),
    "compiled-largest": (gpu_graphs.compiled_largest, 170),
    "profile": (gpu_profile.profile, 30),
    "resume-compiled": (gpu_resume.resume_compiled, 120),
}
LEAST = 3.0  # seconds that a part must have left to be started


def main() -> int:
    options = parse()
    started = time.monotonic()
    if options.device == "cuda" and not torch.cuda.is_available():
        print(
            "gpu-check: no GPU that torch can use; --device cpu --tiny tries the script itself",
            file=sys.stderr,
        )
        return 2
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // 2))
    chosen = [name for name in PARTS if not options.only or name in options.only]
    if {"resume", "resume-graphs", "resume-compiled", "fsdp"} & set(chosen):
        gpu_resume.start_server()
    engine.order_products()
    setting = Setting(device, options.tiny)
    about = machine(device)
    print(" · ".join(str(value) for value in about.values()), flush=True)
    signal.signal(signal.SIGALRM, alarm)
    reports = [run(setting, name, started, started + options.seconds) for name in chosen]
    total = time.monotonic() - started
    print(table(about, reports, total), flush=True)
    if options.json is not None:
        parts = {
            r.name: {"status": r.status, "seconds": round(r.seconds, 1), "rows": r.rows}
            for r in reports
        }
        options.json.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(
            {"machine": about, "seconds": round(total, 1), "parts": parts},
            indent=1,
            ensure_ascii=False,
        )
        options.json.write_text(text + "\n", encoding="utf-8")
    return 1 if any(bad(report) for report in reports) else 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.long.gpu_check", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--json", type=Path, help="write all figures to this file")
    parser.add_argument(
        "--seconds",
        type=float,
        default=450,
        help="for all parts together; what does not fit is left out",
    )
    parser.add_argument(
        "--only", action="append", choices=[*PARTS], help="this part; may be given again"
    )
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument(
        "--tiny", action="store_true", help="the smallest models, to try the script itself"
    )
    return parser.parse_args()


def alarm(number: int, frame: Any) -> None:
    raise TimeIsUp


def machine(device: torch.device) -> dict[str, Any]:
    import accelerate
    import transformers

    name = platform.processor() or platform.machine()
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(0)
        name = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    return {
        "device": name,
        "date": time.strftime("%Y-%m-%d"),
        "torch": f"torch {torch.__version__}",
        "transformers": f"transformers {transformers.__version__}",
        "accelerate": f"accelerate {accelerate.__version__}",
        "python": f"Python {platform.python_version()}",
    }


def run(setting: Setting, name: str, started: float, end: float) -> Report:
    """One part, within its time and that of all; whatever goes wrong is its own."""
    part, most = PARTS[name]
    report, begun = Report(name, started), time.monotonic()
    setting.deadline = min(begun + most, end)
    if setting.left < LEAST:
        report.status = "left out: no time"
        report.say(report.status)
        return report
    report.say(f"at most {setting.left:.0f} s")
    try:
        signal.setitimer(signal.ITIMER_REAL, setting.left)
        try:
            part(setting, report)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except TimeIsUp:
        report.status = "cut short: its time was over"
    except Exception as error:
        report.status = f"failed: {one_line(error)}"
        traceback.print_exc()
    if report.status != "done":
        report.say(report.status)
    report.seconds = time.monotonic() - begun
    forget(setting)
    return report


def bad(report: Report) -> bool:
    return report.status.startswith("failed") or any(row["ok"] is False for row in report.rows)


def table(about: dict[str, Any], reports: list[Report], seconds: float) -> str:
    """All rows, at most 100 columns wide; of the checks that hold, the number alone."""
    lines = ["", "=" * 100, f"{about['device']}, {about['torch']}, {about['date']}"]
    for report in reports:
        held = sum(row["ok"] is True for row in report.rows)
        failed = sum(row["ok"] is False for row in report.rows)
        checks = f", {held} checks hold, {failed} FAILED" if held or failed else ""
        lines += [
            "-" * 100,
            f"{report.name}: {report.status}{checks} ({report.seconds:.0f} s)"[:100],
        ]
        for row in report.rows:
            if report.name == "goldens" and row["ok"]:
                continue
            mark = {True: "ok ", False: "BAD", None: "   "}[row["ok"]]
            text = f"{mark} {row['label']:<44.44} "
            room = 100 - len(text)
            words = row["text"]
            lines.append(text + words[:room])
            if len(words) > room:
                lines.append(" " * 6 + words[room : room + 94])
    return "\n".join([*lines, "-" * 100, f"{seconds:.0f} s in all"])


if __name__ == "__main__":
    sys.exit(main())
