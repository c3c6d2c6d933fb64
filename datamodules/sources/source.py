"""What a reader gives: records by split, and the folder their pictures are in."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from datamodules.records import Record
from errors import DataError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True)
class RecordSource:
    """Records of a data set, split by subject.

    Attributes:
        name: the data set, for results and messages.
        image_root: the folder that image fields are relative to.
        splits: split -> records; a split may be absent.
        plain_locality: text locality questions stand without the prompt's template (the TMKE
            authors' way; a tiny model knows questions only inside the template).
        filter_known: edits are only made of facts that the unedited model answers right.
        absent: why a split has no records and what to do, for messages.
        content: digest of what the records were made from, pictures included, where there is one.
    """

    name: str
    image_root: Path
    splits: dict[Split, Sequence[Record]]
    plain_locality: bool
    filter_known: bool
    absent: str = ""
    content: str = ""

    def picture(self, name: str) -> Path:
        """Where the picture of an image field is."""
        return self.image_root / name

    def records(self, split: Split) -> Sequence[Record]:
        """The records of a split.

        Raises:
            DataError: there are none.
        """
        records = self.splits.get(split, ())
        if not records:
            raise DataError(f"the {split} split of data={self.name} has no records. {self.absent}")
        return records

    def digest(self) -> str:
        """A short hash of all records, to tell whether two results are of the same data."""
        digest = hashlib.sha256(self.content.encode())
        for split in SPLITS:
            for record in self.splits.get(split, ()):
                digest.update(record.model_dump_json().encode())
        return digest.hexdigest()[:16]

    def check_disjoint(self) -> None:
        """Makes sure that no subject stands in two splits.

        Raises:
            DataError: one does.
        """
        seen: dict[str, Split] = {}
        for split, records in self.splits.items():
            for record in records:
                if seen.setdefault(record.subject, split) != split:
                    raise DataError(
                        f"the subject {record.subject!r} stands in the {seen[record.subject]} and "
                        f"the {split} split of data={self.name}: an editor would be tested on "
                        "what it was trained on. Remove it from one of them."
                    )
