"""Official files → prepared data, one module a dataset."""
