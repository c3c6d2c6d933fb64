"""The edits that a split serves: records by the number of their edit, none of them kept."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from datamodules.record_table import select
from datamodules.records import NumberedRecord, Record


class ServedEdits(Sequence[NumberedRecord]):
    """Records of a split as numbered edits.

    Args:
        records: of the split.
        places: which of them are edits, in the order of their numbers.

    Attributes:
        places: the same.
        records: those that are edits, in that order.
    """

    def __init__(self, records: Sequence[Record], places: Iterable[int]) -> None:
        self.places: Sequence[int] = array("Q", places)
        self.records = select(records, self.places)

    def __len__(self) -> int:
        return len(self.places)

    @overload
    def __getitem__(self, index: int) -> NumberedRecord: ...
    @overload
    def __getitem__(self, index: slice) -> list[NumberedRecord]: ...
    def __getitem__(self, index: int | slice) -> NumberedRecord | list[NumberedRecord]:
        if isinstance(index, slice):
            return [self[number] for number in range(len(self))[index]]
        number = range(len(self))[index]
        return number, self.records[number]

    def __iter__(self) -> Iterator[NumberedRecord]:
        return enumerate(self.records)
