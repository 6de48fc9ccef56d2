"""Which question of one's own data belongs to which split, and what is in two of them."""

import hashlib
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vle_bench.data.prepare.own.check import Problems
from vle_bench.errors import RequestError

Places = NDArray[np.int64]  # (rows,) the place of each row's split among the splits


def share_of(text: str) -> float:
    """Return the place in 0..1 that the SHA-256 of a text gives it, whatever else is there."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def by_share(rows: pa.Table, shares: list[float], by: str | None) -> Places:
    """Return the split of each row by a hash of its group, picture or id.

    Args:
        by: `id`, `group` or `image`; None: the group if rows have one, else the picture.
    """
    has_group = rows["group"].null_count < len(rows)
    by = by or ("group" if has_group else "image")
    if by == "group" and not has_group:
        raise RequestError("splits.by: group: the data have no column of groups (columns.group)")
    column = {"group": "group", "image": "image_id", "id": "id"}[by]
    if by == "id" and rows["id"].null_count:
        column = "question_id"
    keys = rows[column].combine_chunks().dictionary_encode()
    bounds = list(accumulate(shares))[:-1]
    places = [share_of(str(value)) for value in keys.dictionary.to_pylist()]
    chosen = np.searchsorted(bounds, places, side="right")
    split: Places = chosen[keys.indices.to_numpy()].astype(np.int64)
    return split


def without_leaks(
    rows: pa.Table, split: Places, names: list[str], tables: list[str], problems: Problems
) -> NDArray[np.bool_]:
    """Return the rows to keep: every picture and every group in one split only.

    The first split keeps what is in two.
    """
    keep = np.ones(len(rows), bool)
    for column, what in (("image_id", "picture"), ("group", "group")):
        if rows[column].null_count == len(rows):
            continue
        keys = rows[column].combine_chunks().dictionary_encode().indices.to_numpy()
        order = np.lexsort((split, keys))
        starts = np.r_[True, np.diff(keys[order]) != 0]
        first = order[starts]  # the first row of the first split of each key
        home = np.empty(len(first), np.int64)
        home[keys[first]] = first
        for place in np.flatnonzero(keep & (split != split[home[keys]])).tolist():
            other = home[keys[place]]
            where = f"{tables[rows['table'][other].as_py()]}: row {rows['row'][other].as_py()}"
            name = f" {rows['group'][place].as_py()!r}" if what == "group" else ""
            problems.record(
                tables[rows["table"][place].as_py()],
                rows["row"][place].as_py(),
                "",
                f"its {what}{name} is in {names[split[place]]} and, at {where}, in "
                f"{names[split[home[keys[place]]]]}",
            )
            keep[place] = False
    return keep


def without_doubles(rows: pa.Table, tables: list[str], problems: Problems) -> NDArray[np.bool_]:
    """Return the rows to keep: of those with the same id, the first."""
    ids = rows["question_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    again = np.r_[False, np.diff(ids[order]) == 0]
    keep = np.ones(len(rows), bool)
    first = 0
    for number in np.flatnonzero(again).tolist():
        first = number - 1 if not again[number - 1] else first
        place, other = order[number], order[first]
        where = f"{tables[rows['table'][other].as_py()]}: row {rows['row'][other].as_py()}"
        own = rows["id"][place].as_py()
        problem = (
            f"the id {own!r} is that of {where} too; columns: {{id: null}} ignores ids"
            if own is not None
            else f"the picture and the question of {where} again; give the answers in one row, or "
            "ids"
        )
        table, row = rows["table"][place].as_py(), rows["row"][place].as_py()
        problems.record(tables[table], row, "", problem)
        keep[place] = False
    return keep
