"""Evaluations for people to read: the error report, comparisons of two runs, model cards."""
