"""Print the report of `vle-bench bench` for people."""

from collections.abc import Callable

from rich.console import Console
from rich.table import Table

from vle_bench.json_files import JsonObject

Report = JsonObject  # see `run_bench`


def print_report(report: Report) -> None:
    """Print a report of `run_bench`."""
    for line in heading(report):
        print(line)
    Console(width=100).print(results_table(report))
    for line in explained(report):
        print(line)


def heading(report: Report) -> list[str]:
    """Say what was measured, and on what."""
    data = report["data"]
    if report["synthetic_because"] is not None:
        data = f"synthetic data and random weights ({report['synthetic_because']})"
    training, evaluation = report["training"], report["evaluation"]
    return [
        f"{report['recipe']} ({report['recipe_hash']}) on {report['device']}, "
        f"{report['precision']}; {data}",
        f"{report['parameters']:,} parameters, {report['image_size_pixels']} pixels; steps of "
        f"{report['questions_per_step']} questions in micro-batches of "
        f"{report['questions_per_micro_batch']}; median of {report['steps']}",
        *(
            f"{name}: {part['texts_per_image']:.1f} texts an image, "
            f"{part['tokens_per_text']:.0f} tokens a text, "
            f"{part['questions_per_batch']:.1f} questions a batch"
            for name, part in (("training", training), ("evaluation", evaluation))
        ),
    ]


def results_table(report: Report) -> Table:
    """Compare speed and memory of the ways that were measured."""
    naive = report.get("naive")
    table = Table()
    table.add_column("")
    for name in ("ours", "the published way", "ratio") if naive else ("ours",):
        table.add_column(name, justify="right")
    formats: dict[str, tuple[str, Callable[[float], str]]] = {
        "samples_per_second": ("samples/s", "{:.3g}".format),
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
            if naive:
                ratio = {
                    "samples_per_second": "ratio",
                    "cpu_seconds_per_step": "ratio_of_cpu_time",
                }.get(key)
                cells += [printed(naive[part][key]), f"{naive[part][ratio]:.2f}" if ratio else ""]
            table.add_row(*cells)
        table.add_section()
    return table


def explained(report: Report) -> list[str]:
    """Add the figures that explain the table."""
    shares = ", ".join(
        f"{part} {share:.0%}" for part, share in report["training_time_shares"].items()
    )
    training, evaluation = report["training"], report["evaluation"]
    loading = [part["loading_samples_per_second_per_process"] for part in (training, evaluation)]
    lines = [
        f"time of a training step that loads its batch itself: {shares}",
        f"loading, samples/s of a process: {loading[0]:.3g} in training, {loading[1]:.3g} in "
        "evaluation; the samples/s above have their batches ready",
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
    return lines
