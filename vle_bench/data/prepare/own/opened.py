"""Users' own data, opened: their kind, tables, splits and options."""

import sys
from dataclasses import dataclass, replace

from vle_bench.data.prepare.manifest import AS_USUAL, Choices
from vle_bench.data.prepare.own.read import Table, tables_of
from vle_bench.data.prepare.own.spec import FRACTIONS, Spec, find, read_spec
from vle_bench.errors import RequestError


@dataclass(frozen=True)
class Own:
    """One's own data, opened.

    Args:
        tables: by split, or a single one with the key "".
        choices: with the label map of the spec.
    """

    spec: Spec
    tables: dict[str, Table]
    choices: Choices = AS_USUAL

    @property
    def names(self) -> list[str]:
        """The names of the tables, for errors."""
        return [table.name for table in self.tables.values()]

    @property
    def shares(self) -> dict[str, float]:
        """The share of each split; empty for given splits."""
        if "" not in self.tables:
            return {}
        return self.spec.splits.given() if self.spec.splits else FRACTIONS  # type: ignore[return-value]

    @property
    def choice(self) -> bool:
        """Tell whether these are multiple-choice questions."""
        return bool(self.spec.form == "choice")

    @property
    def splits(self) -> list[str]:
        return list(self.shares or self.tables)


def opened(given: str, choices: Choices = AS_USUAL) -> Own:
    """Open the data of a YAML, a file, a folder or the hub."""
    spec, beside = read_spec(given, Spec)
    if spec.answers.vocabulary is not None:
        if choices.label_map is not None:
            raise RequestError(
                f"{given}: answers.vocabulary: --label-map names another; leave one out"
            )
        choices = replace(choices, label_map=find(spec.answers.vocabulary, beside))
    own = Own(spec, tables_of(spec, beside), choices)
    unread = [table.name for table in own.tables.values() if "choices" in table.columns]
    if unread and not own.choice:
        print(
            f"{unread[0]}: its column 'choices' is not read; a YAML with form: choice reads "
            "multiple-choice questions",
            file=sys.stderr,
        )
    return own
