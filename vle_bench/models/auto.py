"""transformers' Auto classes and pipelines learn of `model_type: vle`, without importing transformers for it.

Each module of ours that is named below registers itself when it is imported; it is imported after its registry has been,
once no module of transformers or of this package is half imported any more. Importing it at once would come back to
whichever module asked for the registry: modeling_clip imports modeling_auto, and our model is built on modeling_clip.
"""

import importlib
import sys
import threading
from collections.abc import Sequence
from importlib.abc import FileLoader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

REGISTRIES = {
    "transformers.models.auto.configuration_auto": "vle_bench.models.vle.configuration",
    "transformers.models.auto.modeling_auto": "vle_bench.models.vle.heads",
    "transformers.models.auto.processing_auto": "vle_bench.models.vle.processing",
    "transformers.pipelines": "vle_bench.models.vle.pipelines",
}
_WATCHED = ("transformers.", "vle_bench.")


class _AfterRegistry(MetaPathFinder, threading.local):
    """Finds modules as Python would, and notes when the outermost import of this thread is done."""

    def __init__(self) -> None:
        self.depth = 0
        self.waiting: list[str] = []

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(_WATCHED):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or not isinstance(spec.loader, FileLoader):
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            self.depth += 1
            try:
                execute(module)
            finally:
                self.depth -= 1
            if fullname in REGISTRIES:
                self.waiting.append(REGISTRIES[fullname])
            while self.waiting and not self.depth:
                importlib.import_module(self.waiting.pop(0))

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Register now with what is imported already, later with what is not."""
    if not any(isinstance(finder, _AfterRegistry) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterRegistry())
    for registry, ours in REGISTRIES.items():
        if registry in sys.modules:
            importlib.import_module(ours)
