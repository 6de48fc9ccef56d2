"""Values of recipes: their bounds, their checks, and how a global batch is shared out."""

import math
import re
from collections.abc import Mapping

from vle_bench.errors import RequestError
from vle_bench.model_families import FAMILIES, TRAINED
from vle_bench.strict_yaml import shortened

# Upper bounds of counts: far beyond any use, and small enough that a mistyped number does not start
# an endless loop or a huge allocation.
MOST_QUESTIONS = 2**20  # in a batch
MOST_STEPS = 10**8
MOST_EPOCHS = 10**4
MOST_WORKERS = 256
MOST_TIMES = 10**6  # of learning_rate
AUTO = "auto"
AUTO_WITHOUT_GPU = 32  # questions in a micro-batch, at most


def trained_family(value: object) -> object:
    """Refuse a family that is only scored here."""
    if value in FAMILIES and value not in TRAINED:
        raise ValueError(
            f"{FAMILIES[str(value)].title} can be scored here, not trained; "
            f"{', '.join(TRAINED)} can be trained"
        )
    return value


def steps_or_minutes(value: object) -> object:
    """Check a number of steps (500) or minutes ("10min")."""
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    if value is not None and not whole and not re.fullmatch(r"[1-9]\d*min", str(value)):
        raise ValueError(
            f"steps, such as 500, or minutes, such as 10min, are expected, not {value!r}"
        )
    if value is not None and int(str(value).removesuffix("min")) > MOST_STEPS:
        raise ValueError(
            f"at most {MOST_STEPS:,} steps or minutes are possible, not {shortened(value)}"
        )
    return value


def number_or_auto(value: object) -> object:
    """Check a number of questions, or "auto"."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if value != AUTO and not (whole and 1 <= int(str(value)) <= MOST_QUESTIONS):
        raise ValueError(
            f"1 to {MOST_QUESTIONS:,} questions, or auto, are expected, not {shortened(value)}"
        )
    return value


def refuse_with_graphs(train: Mapping[str, object]) -> None:
    """Refuse what `train.cuda_graphs` was not made for; raises ValueError."""
    refused = {"compile": True, "gradient_checkpointing": True, "precision": "fp16"}
    given = [f"train.{k}={value}".lower() for k, value in refused.items() if train[k] == value]
    if given:
        keys = " and ".join(given)
        raise ValueError(f"train.cuda_graphs: not with {keys}; train.cuda_graphs=false")


def batch_layout(batch_size: int, per_device_batch_size: int, num_processes: int) -> int:
    """Count the micro-batches that each process accumulates for one global batch.

    Raises:
        RequestError: the global batch does not divide; the message names values that do.
    """
    world = per_device_batch_size * num_processes
    if batch_size % world == 0:
        return batch_size // world
    below, above = batch_size // world * world, (batch_size // world + 1) * world
    ways = ["train.batch_size=" + " or ".join(str(size) for size in (below, above) if size)]
    share, rest = divmod(batch_size, num_processes)
    if not rest:
        ways.append(f"train.per_device_batch_size={nearest_divisors(share, per_device_batch_size)}")
    processes, rest = divmod(batch_size, per_device_batch_size)
    if not rest:
        ways.append(f"{nearest_divisors(processes, num_processes)} processes")
    raise RequestError(
        f"train.batch_size: {batch_size} does not divide by per_device_batch_size "
        f"{per_device_batch_size} × {num_processes} process{'es' * (num_processes > 1)}; "
        f"what would: {', or '.join(ways)}"
    )


def largest_divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` that is at most `most`."""
    return next(d for d in range(min(number, most), 0, -1) if number % d == 0)


def nearest_divisors(number: int, wanted: int) -> str:
    """Name the divisors of `number` on either side of `wanted`."""
    small = [d for d in range(1, math.isqrt(number) + 1) if number % d == 0]
    divisors = sorted({*small, *(number // d for d in small)})
    below = [d for d in divisors if d <= wanted][-1:]
    return " or ".join(map(str, below + [d for d in divisors if d > wanted][:1]))
