"""Tasks: what the loop and the evaluation do with data of one kind."""

from typing import TYPE_CHECKING

from vle_bench.data.sources import load
from vle_bench.tasks.catalogue import CATALOGUE

if TYPE_CHECKING:
    from vle_bench.tasks.base import Task


def load_task(name: str) -> "Task":
    """Import a task by its name in the catalogue. Only now is torch imported."""
    task: Task = load(CATALOGUE[name].implementation)
    return task
