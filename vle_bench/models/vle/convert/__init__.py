"""Training checkpoints of METER and VLE, and pairs of encoders → `from_pretrained` folders."""
