"""What a run's evaluation says: the error report, comparisons of two runs, and model cards."""
