"""Fine-tune and benchmark the vision-language encoders VLE and METER."""

from vle_bench.models import auto

__version__ = "0.1.0"

auto.install()
