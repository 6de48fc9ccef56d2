"""Convert checkpoints and pairs of encoders to `from_pretrained` folders: one module a family."""
