"""Official files → prepared tables → batches."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vle_bench.data.prepared import PreparedData


def from_dataset(dataset: Any, *arguments: Any, **keys: Any) -> "PreparedData":
    """Prepare a dataset of the `datasets` library; see `data.prepare.own.prepare.from_dataset`."""
    from vle_bench.data.prepare.own import prepare  # heavy libraries are imported only now

    return prepare.from_dataset(dataset, *arguments, **keys)
