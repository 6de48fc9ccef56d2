"""Official files → prepared tables → batches."""
