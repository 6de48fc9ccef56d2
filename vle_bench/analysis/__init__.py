"""Evaluations of runs for people to read: the error report, comparisons of two runs, and model cards."""
