"""Tasks: what the loop and the evaluation do with data of one kind."""

from vle_bench.tasks.catalogue import load_task as load_task
