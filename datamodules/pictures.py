"""Where pictures come from: a folder of files, or a data set that holds them beside its records.

Both are asked for a picture by the name that records give it, and answer with what `read_image`
opens: the path of a file, or a `PackedPicture`. Neither decodes anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Protocol

from datamodules.picture_folder import PictureFolder


class Holder(Protocol):
    """What has the content of pictures."""

    def read(self, name: str) -> IO[bytes]:
        """The content of a picture's file."""


@dataclass(frozen=True)
class PackedPicture:
    """A picture inside a data set; equal to another of the same name in the same set.

    Attributes:
        root: the folder of the data set.
        name: as records give it.
    """

    root: Path
    name: str
    _holder: Holder = field(compare=False, repr=False)

    def open(self, mode: str = "rb") -> IO[bytes]:
        """Its content, as `Path.open` gives that of a file."""
        del mode
        return self._holder.read(self.name)

    def __str__(self) -> str:
        return f"{self.name} of the data set {self.root}"


PictureFile = Path | PackedPicture


class Pictures(Protocol):
    """Pictures by the names that records give them."""

    root: Path

    def find(self, name: str) -> PictureFile | None:
        """The picture of this name, None where there is none."""

    def path(self, name: str) -> PictureFile:
        """The picture of this name, or the path where its file should be."""

    def check(self, names: Iterable[str], why: str) -> None:
        """Makes sure that all pictures of these names are there.

        Args:
            names: as records give them.
            why: what needs them, for the message.

        Raises:
            DataError: some are not; their number and the first few.
        """


def open_pictures(root: Path) -> Pictures:
    """The pictures below a folder, in files of their own or in a data set that lies there.

    Raises:
        DataError: the data set cannot be read.
    """
    from datamodules.packed.folder import is_packed

    if not is_packed(root):
        return PictureFolder(root)
    from datamodules.packed.data_set import open_set

    return open_set(root).pictures
