"""Divide users' own data into splits, and find pictures and groups that are in two of them."""

import hashlib
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from vle_bench.data.prepare.own.pictures import PictureNames
from vle_bench.data.prepare.own.problems import Problems
from vle_bench.errors import RequestError

Places = NDArray[np.int64]  # (rows,) the place of each row's split among the splits
By = Literal["id", "group", "image"]


@dataclass(frozen=True)
class Named:
    """Names for errors.

    Args:
        splits, tables: their names, in order.
        pictures: of the files.
        ways_out: `picture` or `group` → the advice that keeps it in one split.
    """

    splits: list[str]
    tables: list[str]
    pictures: PictureNames
    ways_out: dict[str, str]


def share_of(text: str) -> float:
    """Return the place in 0..1 that the SHA-256 of a text gives it, whatever else is there."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def chosen_by(rows: pa.Table, by: By | None) -> By:
    """Return the column that is hashed: the requested one, else the group or the picture."""
    has_group = rows["group"].null_count < len(rows)
    if by == "group" and not has_group:
        raise RequestError("splits.by: group: the data have no column of groups (columns.group)")
    return by or ("group" if has_group else "image")


def together(by: By | None) -> dict[str, str]:
    """Explain how pictures and groups stay in one split.

    Args:
        by: what is hashed for a share; None: the splits are given.
    """
    if by is None:
        move = "move the rows about it to one split"
        return {"picture": move, "group": move}
    picture = "splits: {..., by: image} keeps the questions of a picture together"
    if by == "group":
        picture = f"give the questions of one picture one group, or {picture}"
    return {
        "picture": picture,
        "group": "splits: {..., by: group} keeps a group together; columns: {group: null} ignores "
        "groups",
    }


def by_share(rows: pa.Table, shares: list[float], by: By) -> Places:
    """Return the split of each row by a hash of its group, picture or id."""
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
    rows: pa.Table, split: Places, named: Named, problems: Problems
) -> NDArray[np.bool_]:
    """Return the rows to keep: every picture and every group in one split only.

    Rows in two splits stay in the first.
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
            table = named.tables[rows["table"][other].as_py()]
            key = rows[column][place].as_py()
            name = repr(key) if what == "group" else named.pictures.of(key)
            problems.record(
                named.tables[rows["table"][place].as_py()],
                rows["row"][place].as_py(),
                "",
                f"its {what} {name} is in {named.splits[split[place]]} and, at {table}: row "
                f"{rows['row'][other].as_py()}, in {named.splits[split[other]]}; "
                f"{named.ways_out[what]}",
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
