"""The pictures of a data set, by name: views of the mapped file, decoded by whoever shows them."""

from __future__ import annotations

import os
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc

from datamodules.missing_pictures import check_present
from datamodules.packed.columns import Columns
from datamodules.picture_folder import WAYS, PictureFolder
from datamodules.pictures import PackedPicture, PictureFile
from errors import DataError

_PLACES = 2**32  # pictures of one array; which array it is stands above
_COMPARED = 1000  # repeated names whose bytes are read to tell pictures apart; lengths tell of all


class PackedPictures:
    """Pictures that lie beside records; one that is named without content is looked for as a file.

    Args:
        root: the folder of the data set.
        columns: of each split.
        files: where pictures lie that the set names and does not hold.

    Raises:
        DataError: two pictures have one name.
    """

    def __init__(self, root: Path, columns: Iterable[Columns], files: Path) -> None:
        self.root, self._files = root, PictureFolder(files)
        self._contents: list[pa.Array] = []
        self._places: dict[str, int] = {}
        self._to_compare = _COMPARED
        for split in columns:
            for names, contents in split:
                self._add(names, contents)

    def find(self, name: str) -> PictureFile | None:
        """The picture of this name, None where there is none."""
        if name in self._places:
            return PackedPicture(self.root, name, self)
        return self._files.find(name)

    def path(self, name: str) -> PictureFile:
        """The picture of this name, or the path where its file should be."""
        return self.find(name) or self._files.root / name

    def check(self, names: Iterable[str], why: str) -> None:
        """Makes sure that all pictures of these names are there.

        Raises:
            DataError: some are not; their number and the first few.
        """
        where = f"the data set {self.root} or in {self._files.root}"
        ways = f"write the set again with its pictures, {WAYS}"
        check_present(names, self, who=f"{why} needs", where=where, ways=ways)

    def read(self, name: str) -> IO[bytes]:
        """The content of a picture that the set holds."""
        return BytesIO(self._buffer(self._places[name]))

    def _add(self, names: pa.Array, contents: pa.Array) -> None:
        lengths = pc.binary_length(contents).to_pylist()
        base = len(self._contents) * _PLACES
        self._contents.append(contents)
        for row, (name, length) in enumerate(zip(names.to_pylist(), lengths, strict=True)):
            if length is None:
                continue
            earlier = self._places.setdefault(name, base + row)
            if earlier == base + row:
                continue
            if self._length(earlier) != length or self._differ(earlier, base + row):
                raise DataError(
                    f"the data set {self.root} has two pictures of the name {name!r}, of "
                    f"{self._length(earlier)} and of {length} bytes, and records tell pictures by "
                    "their names. A set loses the folders of its pictures where `push_to_hub` "
                    "writes it: upload the folder that `python -m datamodules export` wrote as it "
                    "is (`hf upload NAME DIR --repo-type dataset`)."
                )

    def _differ(self, one: int, other: int) -> bool:
        """Whether two pictures of one length are not the same; False once many were compared."""
        self._to_compare -= 1
        return self._to_compare >= 0 and not self._buffer(one).equals(self._buffer(other))

    def _length(self, place: int) -> int:
        return len(self._buffer(place))

    def _buffer(self, place: int) -> pa.Buffer:
        array, row = divmod(place, _PLACES)
        return self._contents[array][row].as_buffer()

    def __reduce__(self) -> tuple[Any, ...]:
        """For a process that is not forked: it opens the set anew."""
        return _open, (self.root, self._files.root)


def _open(root: str | os.PathLike[str], files: Path) -> PackedPictures:
    from datamodules.packed.data_set import open_set

    return open_set(Path(root), files).pictures
