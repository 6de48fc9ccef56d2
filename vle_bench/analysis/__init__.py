"""Reports, comparisons and model cards."""
