"""Fine-tune and benchmark the vision-language encoders VLE and METER."""

from vle_bench import auto_classes

__version__ = "0.1.0"

auto_classes.install()
