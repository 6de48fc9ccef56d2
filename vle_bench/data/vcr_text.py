"""The encoding of VCR records; the pipeline of the models needs it too, so it lies beside both."""

from vle_bench.vcr_text import encode_record, object_names, pad_choices

__all__ = ["encode_record", "object_names", "pad_choices"]
