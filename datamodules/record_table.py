"""Records outside the memory: as JSON, one after the other, and read by their number.

A record of a benchmark takes 10 kB as objects of Python and 2 kB as JSON. As objects, a hundred
thousand of them fill a gigabyte of every process. As JSON they lie in a file that the operating
system maps into memory page by page, once for all processes that prepare batches.
"""

from __future__ import annotations

import mmap
import tempfile
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from typing import IO, Any, Self, overload

from datamodules.records import Record
from errors import DataError

_IN_MEMORY = 2**24  # bytes of JSON that need no file: 7,000 records of the benchmark
_PARSED = 512  # records that are kept as objects, about 5 MB


class RecordTable(Sequence[Record]):
    """Records by their number, made anew of their JSON whenever they are asked for.

    Args:
        content: the JSON of all records, one after the other.
        ends: where each of them ends.
        numbers: which of them the table has, in its order; None: all.
    """

    def __init__(
        self, content: bytes | mmap.mmap, ends: Sequence[int], numbers: array[int] | None = None
    ) -> None:
        self._content, self._ends, self._numbers = content, ends, numbers
        self._parsed = lru_cache(_PARSED)(self._parse)

    @classmethod
    def of(cls, records: Iterable[Record]) -> RecordTable:
        """The table of some records, which are looked at once and one at a time.

        Raises:
            DataError: the folder for temporary files has no room for them.
        """
        with RecordWriter() as writer:
            for record in records:
                writer.add(record)
            return writer.table()

    def __len__(self) -> int:
        return len(self._ends if self._numbers is None else self._numbers)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> RecordTable: ...
    def __getitem__(self, index: int | slice) -> Record | RecordTable:
        if isinstance(index, slice):
            return self.take(range(*index.indices(len(self))))
        return self._parsed(self._place(index))

    def __iter__(self) -> Iterator[Record]:
        return (self._parsed(self._place(index)) for index in range(len(self)))

    def take(self, indices: Iterable[int]) -> Self:
        """The records of these numbers, in this order; nothing is copied."""
        places = array("Q", map(self._place, indices))
        return type(self)(self._content, self._ends, places)

    def contents(self) -> Iterator[bytes]:
        """The JSON of each record, as `model_dump_json` has written it."""
        return (self._json(self._place(index)) for index in range(len(self)))

    def _place(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        index %= len(self)
        return index if self._numbers is None else self._numbers[index]

    def _json(self, place: int) -> bytes:
        return self._content[self._ends[place - 1] if place else 0 : self._ends[place]]

    def _parse(self, place: int) -> Record:
        return Record.model_validate_json(self._json(place))

    def __reduce__(self) -> tuple[Any, ...]:
        """For a process that is not forked: with the content, as an open file cannot be sent."""
        return RecordTable, (bytes(self._content), self._ends, self._numbers)


class RecordWriter:
    """Takes records one at a time and gives their table; no name of its file is ever seen."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115
        self._ends = array("Q")
        self._size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file back; the tables that were made of it stay."""
        with suppress(OSError):  # what found no room is tried once more, and was told
            self._file.close()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, record: Record) -> None:
        """Adds a record.

        Raises:
            DataError: the folder for temporary files has no room for it.
        """
        with _explained_room():
            self._size += self._file.write(record.model_dump_json().encode())
        self._ends.append(self._size)

    def table(self) -> RecordTable:
        """The records that were added.

        Raises:
            DataError: the folder for temporary files has no room for them.
        """
        if self._size <= _IN_MEMORY:
            self._file.seek(0)
            return RecordTable(self._file.read(), self._ends)
        with _explained_room():
            self._file.flush()
            content = mmap.mmap(self._file.fileno(), self._size, access=mmap.ACCESS_READ)
        return RecordTable(content, self._ends)


def contents(records: Sequence[Record]) -> Iterator[bytes]:
    """The JSON of each of some records, wherever they lie."""
    if isinstance(records, RecordTable):
        return records.contents()
    return (record.model_dump_json().encode() for record in records)


def select(records: Sequence[Record], numbers: Sequence[int]) -> Sequence[Record]:
    """Some of the records in another order; of a table nothing is copied."""
    if isinstance(records, RecordTable):
        return records.take(numbers)
    return [records[number] for number in numbers]


def kept_as(records: Sequence[Record], made: Iterable[Record]) -> Sequence[Record]:
    """Records that were made of others: outside the memory where those are, a list of a list."""
    return RecordTable.of(made) if isinstance(records, RecordTable) else list(made)


@contextmanager
def _explained_room() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(
            f"the records cannot be kept in {tempfile.gettempdir()} ({error.strerror}): they need "
            "about 2 kB each there. Make room, or name another folder in the variable TMPDIR."
        ) from error
