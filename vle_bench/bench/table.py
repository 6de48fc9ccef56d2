"""Print the report of `vle-bench bench` for people."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from vle_bench.bench.measured import BF16, NAIVE, rate_shown
from vle_bench.json_files import JsonObject
from vle_bench.tasks.catalogue import CATALOGUE

Report = JsonObject  # see `run_bench`
PAIRED = "captions"  # the form of data whose samples are pairs


def print_report(report: Report) -> None:
    """Print a report of `run_bench`."""
    for line in heading(report):
        print(line)
    Console(width=100).print(results_table(report))
    for line in explained(report):
        print(line)


def samples_of(report: Report) -> str:
    """The word for samples."""
    return "pairs" if CATALOGUE[report["task"]].form == PAIRED else "questions"


def heading(report: Report) -> list[str]:
    """Describe the measurement, the data and the device."""
    data = report["data"]
    if report["synthetic_because"] is not None:
        data = f"synthetic data and random weights ({report['synthetic_because']})"
    training, evaluation, samples = report["training"], report["evaluation"], samples_of(report)
    return [
        f"{report['recipe']} ({report['recipe_hash']}) on {report['device']}, "
        f"{report['precision']}; {data}",
        f"{report['parameters']:,} parameters, {report['image_size_pixels']} pixels; steps of "
        f"{report['questions_per_step']} {samples} in micro-batches of "
        f"{report['questions_per_micro_batch']}; median of {report['steps']}",
        *(
            f"{name}: {part['texts_per_image']:.1f} texts an image, "
            f"{part['tokens_per_text']:.0f} tokens a text, "
            f"{part['questions_per_batch']:.1f} {samples} a batch"
            for name, part in (("training", training), ("evaluation", evaluation))
        ),
    ]


def results_table(report: Report) -> Table:
    """Compare speed and memory of the ways that were measured."""
    paired = samples_of(report) == "pairs"
    others = {NAIVE: "separate passes" if paired else "the published way", BF16: "in bf16"}
    others = {name: title for name, title in others.items() if name in report}
    table = Table()
    columns = [column for title in others.values() for column in (title, "ratio")]
    for name in ("", "ours", *columns):
        table.add_column(name, justify="right" if name else "left")
    formats: dict[str, tuple[str, Callable[[float], str]]] = {
        "samples_per_second": ("pairs/s" if paired else "samples/s", rate_shown),
        "seconds_per_step": ("seconds a step", "{:.3g}".format),
        "cpu_seconds_per_step": ("CPU seconds a step", "{:.3g}".format),
        "model_flop_utilisation": ("of the matrix-product peak", "{:.1%}".format),
        "peak_memory_gib": ("peak memory, GiB", "{:.2f}".format),
    }
    for part in ("training", "evaluation"):
        for key, (words, printed) in formats.items():
            own = report[part].get(key)
            if own is None:
                continue
            cells = [f"{part}, {words}", printed(own)]
            ratio = {"samples_per_second": "ratio", "cpu_seconds_per_step": "ratio_of_cpu_time"}
            for name in others:
                speeds = report[name][part]
                cells += [printed(speeds[key]), f"{speeds[ratio[key]]:.2f}" if key in ratio else ""]
            table.add_row(*cells)
        table.add_section()
    return table


def explained(report: Report) -> list[str]:
    """Add the figures that explain the table."""
    shares = ", ".join(
        f"{part} {share:.0%}" for part, share in report["training_time_shares"].items()
    )
    training, evaluation = report["training"], report["evaluation"]
    lines = [
        f"time of a training step that loads its batch itself: {shares}",
        *(loading_line(name, report[name]) for name in ("training", "evaluation")),
        f"model FLOPs of a sample: {training['model_gflop_per_sample']:.4g} GFLOP in training, "
        f"{evaluation['model_gflop_per_sample']:.4g} in evaluation; matrix-product peak here: "
        f"{report['matmul_peak_tflop_per_second']:.3g} TFLOP/s",
    ]
    if "steps_of_the_recipe" in report:
        hours = report["hours_of_the_recipe_without_loading"]
        lines.append(
            f"the recipe's {report['steps_of_the_recipe']:,} steps: {hours:.2f} hours "
            "where loading keeps up, without evaluation"
        )
    if report["disturbed"]:
        lines.append(disturbance(report))
    return lines


def loading_line(name: str, part: Report) -> str:
    """Compare loading with computing, and name the slower one."""
    processes = part["loading_processes"]
    pictures = f"{rate_shown(part['loading_images_per_second_per_process'])} pictures/s"
    how = (
        f"{processes} process{'es' * (processes > 1)} ({pictures} each)"
        if processes
        else f"the main process ({pictures})"
    )
    bound = part["bound_by"]
    advice = "; `prepare --pixels` or more train.num_workers help" * (bound == "loading")
    return (
        f"{name}: computes {rate_shown(part['samples_per_second'])} samples/s; {how} "
        f"load{'s' * (processes < 2)} {rate_shown(part['loading_samples_per_second'])} samples/s: "
        f"bound by {bound} on this machine{advice}"
    )


def disturbance(report: Report) -> str:
    """Say that other programs took part of the CPU time, and how much was left."""
    shares = " and ".join(
        f"{report[part]['cpu_share_of_threads']:.0%} in {part}"
        for part in ("training", "evaluation")
    )
    return (
        f"disturbed: of the seconds by the clock × threads this process had {shares}; other "
        "programs took the rest, so that figures by the clock are too low; compare CPU seconds"
    )
