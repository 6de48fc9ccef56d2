"""Metrics as pure functions; nothing here imports torch."""
