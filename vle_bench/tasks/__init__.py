"""Tasks by name, loaded when first asked for, so that reading a recipe does not import torch."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vle_bench.tasks.base import Data, Task
    from vle_bench.tasks.by_name import TASKS

__all__ = ["TASKS", "Data", "Task"]
_MODULES = {"TASKS": "by_name", "Data": "base", "Task": "base"}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
