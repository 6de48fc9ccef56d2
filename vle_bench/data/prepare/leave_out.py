"""COCO's or Visual Genome's ids of the pictures of evaluations, which no pre-training may see."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from vle_bench.data.picture_ids import coco_id_of, genome_id_of
from vle_bench.data.prepared import open_prepared
from vle_bench.data.sources import SOURCES
from vle_bench.errors import RequestError
from vle_bench.json_files import JsonObject, read_json, reading, stream

NOTHING = "nothing"
TRAINED = "train"  # the split; a pair without a split may come to it
_EVALUATED = ("val", "test")  # splits of Karpathy's files; `restval` is trained on
Ids = NDArray[np.int64]


@dataclass(frozen=True)
class LeaveOut:
    """The pictures to leave out.

    Args:
        ids: COCO ids, ascending.
        in_words: the arguments of the user, for the manifest; empty if there are none.
        genome_ids: ids of Visual Genome, ascending.
    """

    ids: Ids
    in_words: str = ""
    genome_ids: Ids = field(default_factory=lambda: np.array([], np.int64))

    def kept(
        self, raw: pa.Table, name: str, genome: bool = False
    ) -> tuple[NDArray[np.bool_], JsonObject]:
        """Return the rows (pairs,) that are kept, and counts for the manifest.

        Pictures of a split that is not trained on are kept.

        Args:
            genome: the pictures have Visual Genome's ids.

        Raises:
            RequestError: pictures are COCO's, and it is not given which of them are evaluated on,
                or those are given by ids that these pictures do not have.
        """
        if len(self.genome_ids) and not genome:
            raise RequestError(
                f"--leave-out {self.in_words}: names pictures by Visual Genome's ids, which those "
                f"of {name} do not have; leave it out here"
            )
        coco_ids = raw["coco_id"].fill_null(-1).to_numpy()
        coco = int(pc.count_distinct(raw["coco_id"]).as_py())
        if coco and not self.in_words:
            raise RequestError(
                f"{name}: {coco:,} of its pictures are COCO's, on which VQA v2, retrieval and "
                "others are evaluated: --leave-out names those that must not be trained on "
                "(a prepared folder such as data/vqav2, dataset_coco.json, or a file of ids), or "
                f"--leave-out {NOTHING}"
            )
        trained = pc.fill_null(pc.equal(raw["split"], TRAINED), True).to_numpy()
        image_ids = raw["image_id"].to_numpy()
        by_coco = trained & np.isin(coco_ids, self.ids) & (coco_ids >= 0)
        by_genome = trained & np.isin(image_ids, self.genome_ids)
        out = by_coco | by_genome
        by_id = len(np.unique(image_ids[by_genome]))
        counts = {
            "with_coco_id": coco,
            "pictures": len(np.unique(image_ids[out])),
            "pairs": int(out.sum()),
            "of": self.in_words,
            **({"by_genome_id": by_id} if len(self.genome_ids) else {}),
        }
        return ~out, counts


def coco_pictures(given: Iterable[str]) -> LeaveOut:
    """Read the pictures to leave out.

    Args:
        given: for each a prepared folder whose pictures are COCO's or Visual Genome's (all splits
            but `train`, or FOLDER:split+split), Karpathy's dataset_coco.json (val and test), a
            COCO JSON file with `images` or `questions`, a file with an id a line, or `nothing`.

    Raises:
        RequestError: a file that cannot be read, or holds no COCO ids.
    """
    names, none = list(given), np.array([], np.int64)
    if NOTHING in names and len(names) > 1:
        raise RequestError(f"--leave-out {NOTHING}: goes alone, not with {len(names) - 1} others")
    parts = [ids_of(name) for name in names if name != NOTHING]
    coco, genome = (
        np.unique(np.concatenate([none, *(ids for ids, kind in parts if kind is of_genome)]))
        for of_genome in (False, True)
    )
    return LeaveOut(coco, ", ".join(names), genome)


def ids_of(given: str) -> tuple[Ids, bool]:
    """Return the ids of one file or prepared folder, and whether they are Visual Genome's."""
    folder, _, splits = given.partition(":")
    if (Path(folder) / "manifest.json").is_file():
        return ids_of_prepared(Path(folder), splits)
    path = Path(given)
    if path.suffix == ".json":
        ids = ids_of_json(path)
    else:
        with reading(path):
            lines = path.read_text(encoding="utf-8-sig").split()
        if wrong := next((line for line in lines if not line.isdecimal()), None):
            raise RequestError(f"{path}: {wrong[:40]!r} is no COCO id; one a line is expected")
        ids = [int(line) for line in lines]
    if not ids:
        raise RequestError(f"--leave-out {given}: holds no COCO ids")
    return np.array(ids, np.int64), False


def ids_of_prepared(root: Path, splits: str) -> tuple[Ids, bool]:
    """Return the ids of the pictures of a prepared dataset's evaluation splits; see `ids_of`."""
    data = open_prepared(root)
    names = splits or "+".join(name for name in data.manifest.splits if name != "train")
    rows = np.unique(np.asarray(data.questions(names)["image_row"][:]))
    files = data.images.select_columns(["file_name"])[rows.tolist()]["file_name"]
    if SOURCES[data.manifest.source].genome_ids:
        # GQA's testdev has other pictures besides, whose names are no numbers.
        known = [i for name in files if (i := genome_id_of(str(name))) is not None]
        if not known:
            raise RequestError(
                f"--leave-out {root}: no picture of {names} has an id of Visual Genome in its name"
            )
        return np.array(known, np.int64), True
    ids = [coco_id_of(str(name)) for name in files]
    if unknown := [name for i, name in zip(ids, files, strict=True) if i is None]:
        raise RequestError(
            f"--leave-out {root}: {len(unknown):,} of its pictures have no COCO id in their names, "
            f"such as {unknown[0]}; name a dataset of COCO's pictures, or a file of ids"
        )
    return np.array(ids, np.int64), False


def ids_of_json(path: Path) -> list[int]:
    """Return the COCO ids of Karpathy's file, or of a COCO JSON with `images` or `questions`."""
    content = read_json(path) if path.stat().st_size < 1 << 20 else None
    keys = ("images", "questions")
    key = next((k for k in keys if isinstance(content, dict) and k in content), None)
    for name in [key] if key else keys:
        try:
            return [i for record in stream(path, name) for i in evaluated_id(path, record)]
        except RequestError as error:
            if "has no key" not in str(error) or name == keys[-1]:
                raise
    return []


def evaluated_id(path: Path, record: object) -> list[int]:
    """Return the id of one record, or none if it is of a split that is trained on."""
    if not isinstance(record, dict):
        raise RequestError(f"{path}: a record is no object; is it a COCO file?")
    if "split" in record and record["split"] not in _EVALUATED:
        return []
    value = next((record[k] for k in ("cocoid", "image_id", "id") if k in record), None)
    if type(value) is not int:
        raise RequestError(f"{path}: a record has no COCO id (cocoid, id or image_id)")
    return [value]
