"""The path from a checkpoint and a split to a record."""
