"""Problems of rows and pictures of users' own data: collected, or an error for the first."""

import re
from dataclasses import dataclass, field, replace

from vle_bench.data.official.vqa import OnBad
from vle_bench.errors import RequestError, plural
from vle_bench.json_files import JsonObject

PLACE = re.compile(r"(.*?): row (\d+)")


@dataclass(frozen=True)
class WaysOut:
    """Names, in errors, of the options that leave records and pictures out, and that list them."""

    records: str
    images: str
    every: str


OF_COMMAND = WaysOut("--on-bad-record skip", "--on-bad-image skip", "--check lists all")
OF_CHECK = replace(OF_COMMAND, every="all are printed")
OF_PYTHON = WaysOut(
    'on_bad_record="skip"',
    'on_bad_image="skip"',
    "manifest.left_out of the data then lists all",
)


@dataclass
class Problems:
    """Collect problems, or raise an error for the first one.

    Args:
        on_record, on_image: `error` raises, `skip` leaves the record out and lists it.
        ways_out: how errors name that.
        records: `file`, `record` (row and column) and `problem` of each.
        images: `file`, `asked_by` (file, row and column) and `problem` of each.
        unanswered: number of rows left out for their picture.
    """

    on_record: OnBad = "error"
    on_image: OnBad = "error"
    ways_out: WaysOut = OF_COMMAND
    records: list[JsonObject] = field(default_factory=list)
    images: list[JsonObject] = field(default_factory=list)
    unanswered: int = 0

    def record(self, table: str, row: int, column: str, problem: str) -> None:
        place = f"row {row}" + (f": {column}" if column else "")
        if self.on_record == "error":
            ways = self.ways_out
            raise RequestError(
                f"{table}: {place}: {problem}; {ways.records} leaves such records out, {ways.every}"
            )
        self.records.append({"file": table, "record": place, "problem": problem})

    def image(self, file: str, asked_by: str, problem: str) -> None:
        if self.on_image == "error":
            ways = self.ways_out
            raise RequestError(
                f"{asked_by}: {file}: {problem}; {ways.images} leaves such pictures and their "
                f"questions out, {ways.every}"
            )
        self.images.append({"file": file, "asked_by": asked_by, "problem": problem})

    def lines(self) -> list[str]:
        """Return a line for each problem, by file and row."""
        return sorted(
            [
                *(f"{bad['file']}: {bad['record']}: {bad['problem']}" for bad in self.records),
                *(f"{bad['asked_by']}: {bad['file']}: {bad['problem']}" for bad in self.images),
            ],
            key=place_of,
        )

    def counted(self) -> str:
        """Return the number of problems in words."""
        return plural(len(self.records) + len(self.images), "problem")

    def skipped_by(self) -> str:
        """Return the options that leave out wrong records and pictures."""
        ways = [self.ways_out.records] * bool(self.records)
        ways += [self.ways_out.images] * bool(self.images)
        return f"{' '.join(ways)} {'leave' if len(ways) > 1 else 'leaves'} such rows out"


def place_of(line: str) -> tuple[str, int]:
    """Return the file and the row that a line begins with."""
    place = PLACE.match(line)
    return (place[1], int(place[2])) if place else (line, 0)
