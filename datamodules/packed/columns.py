"""Columns of a data set whose pictures are taken out: names stay in the rows, bytes lie apart.

A picture is a cell `{bytes, path}`, the form of `datasets.Image`, wherever it stands: in a column,
in a part of a record, in a list. Nothing is copied: names and bytes are views of one mapped file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_PICTURE = {"bytes", "path"}
_AT_ONCE = 256  # rows as values of Python


@dataclass
class Columns:
    """Rows without the bytes of their pictures, and those bytes.

    Attributes:
        rows: the same rows, with the name of each picture in its place.
        names: of the pictures, an array for each column of them and each piece of the file.
        contents: the bytes of the same pictures, null where there is a name alone.
    """

    rows: list[pa.RecordBatch] = field(default_factory=list)
    names: list[pa.Array] = field(default_factory=list)
    contents: list[pa.Array] = field(default_factory=list)

    @classmethod
    def of(cls, table: pa.Table, split: str) -> Columns:
        """Takes the pictures out of a table.

        Args:
            table: of the data set.
            split: names pictures that have no name of their own.
        """
        columns = cls()
        for piece in table.to_batches():
            arrays = [
                columns._without_bytes(piece.column(name), f"{split}-{name}")
                for name in piece.schema.names
            ]
            columns.rows.append(pa.RecordBatch.from_arrays(arrays, names=piece.schema.names))
        return columns

    def __iter__(self) -> Iterator[tuple[pa.Array, pa.Array]]:
        return zip(self.names, self.contents, strict=True)

    def values(self) -> Iterator[dict[str, Any]]:
        """The rows as values of Python; a field that is null is absent."""
        for batch in self.rows:
            for start in range(0, len(batch), _AT_ONCE):
                yield from map(without_nulls, batch.slice(start, _AT_ONCE).to_pylist())

    def _without_bytes(self, array: pa.Array, where: str) -> pa.Array:
        kind = array.type
        if pa.types.is_struct(kind):
            # `flatten` hides what lies under a null, where `field` would show it.
            parts = dict(zip((one.name for one in kind), array.flatten(), strict=True))
            if set(parts) == _PICTURE:
                return self._named(parts["bytes"], parts["path"], where)
            arrays = [self._without_bytes(part, f"{where}-{name}") for name, part in parts.items()]
            return pa.StructArray.from_arrays(arrays, names=list(parts), mask=array.is_null())
        if pa.types.is_list(kind) or pa.types.is_large_list(kind):
            values = self._without_bytes(array.values, where)
            offsets = pa.array(array.offsets.to_numpy())  # of a part of a file they begin later
            return type(array).from_arrays(offsets, values, mask=array.is_null())
        return array

    def _named(self, contents: pa.Array, names: pa.Array, where: str) -> pa.Array:
        nameless = pc.and_(contents.is_valid(), names.is_null())
        if pc.any(nameless).as_py():
            number = sum(map(len, self.names))
            names = pa.array(
                f"{where}-{number + row}" if lacks else name
                for row, (lacks, name) in enumerate(
                    zip(nameless.to_pylist(), names.to_pylist(), strict=True)
                )
            )
        self.names.append(names)
        self.contents.append(contents)
        return names


def without_nulls(value: Any) -> Any:
    """A value of Arrow without the fields that are null, which stand for fields that are absent."""
    if isinstance(value, dict):
        return {key: without_nulls(part) for key, part in value.items() if part is not None}
    if isinstance(value, list):
        return [without_nulls(part) for part in value]
    return value
