"""Fine-tune and benchmark the vision-language encoders VLE and METER."""

__version__ = "0.1.0"
