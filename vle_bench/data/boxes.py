"""Object boxes; the mapping to patches is the processor's as well, so it lies beside both."""

from vle_bench.boxes import outside, patch_mask

__all__ = ["outside", "patch_mask"]
