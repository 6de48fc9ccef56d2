"""How a global batch is shared out: processes × micro-batches × questions at once."""

import math

from vle_bench.errors import RequestError

AUTO_WITHOUT_GPU = 32  # questions in a micro-batch, at most


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
