"""Fine-tune and benchmark the vision-language encoders VLE and METER.

This import is light: no torch, no transformers. `import vle_bench.models` brings the model classes
and registers them with transformers, so that `AutoModel.from_pretrained` and `pipeline("vle-vqa")`
work.
"""

__version__ = "0.1.0"
