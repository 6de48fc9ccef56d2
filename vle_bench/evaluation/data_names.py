"""Which data are the same, and the names that tell others apart: by `data` of a record."""

from collections.abc import Mapping


def same_dataset(one: Mapping[str, str], other: Mapping[str, str]) -> bool:
    """Return whether two `data` are of one dataset.

    A dataset by name may be prepared in whichever way. One's own data have one manifest hash, where
    both say it: another version of them has the same name, and other splits.
    """
    if any(one.get(key) != other.get(key) for key in ("source", "name")):
        return False
    hashes = {data["manifest_hash"] for data in (one, other) if data.get("manifest_hash")}
    return "name" not in one or len(hashes) < 2


def name_in(data: Mapping[str, str]) -> str:
    """Return the user's name for their own data, else the dataset's; empty if nothing is known."""
    return data.get("name", data.get("source", ""))


def other_name(data: Mapping[str, str], others: Mapping[str, str]) -> str | None:
    """Tell data from others by name, and from namesakes by `NAME-HASH` with 8 digits of the hash.

    Returns:
        None: they are the same data, or one of the two is not known.
    """
    if not data or not others or same_dataset(data, others):
        return None
    name = name_in(data)
    return name if name != name_in(others) else f"{name}-{data.get('manifest_hash', '')[:8]}"
