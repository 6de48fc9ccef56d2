"""Tasks: the inputs, predictions and scores of one kind of data."""

from vle_bench.tasks.catalogue import load_task as load_task
