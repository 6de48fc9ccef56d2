"""Tasks by name."""

from vle_bench.tasks.base import Data, Task
from vle_bench.tasks.vqa import VQA

TASKS: dict[str, Task] = {"vqa": VQA()}

__all__ = ["TASKS", "Data", "Task"]
