"""Small copies of the pictures that a report shows, each kept once however often it is shown.

A picture is named in the results by a path below `settings.image_root`. Where the file is not found
or is no picture, the report shows a placeholder that says so: results outlive the data they are of.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

from datamodules.picture_file import read_image
from datamodules.pictures import PictureFile, Pictures, open_pictures
from errors import DataError

SIDE = 160  # pixels of the longer side
_QUALITY = 75  # of the JPEG: about 5 kB for a photograph of that size


@dataclass(frozen=True)
class Thumbnail:
    """A small JPEG and its size in pixels."""

    data: bytes
    width: int
    height: int

    @property
    def is_tiny(self) -> bool:
        """Whether it has to be enlarged to be seen, as the pictures of a drawn world."""
        return max(self.width, self.height) < SIDE // 2


@dataclass(frozen=True)
class Picture:
    """What stands in the place of a picture: a thumbnail, or the reason why there is none.

    Attributes:
        name: as the results give it, relative to `image_root`.
        key: of the thumbnail in `Thumbnails.by_key`; None where `problem` says why.
        problem: empty if there is a thumbnail.
    """

    name: str
    key: str | None
    problem: str = ""


class Thumbnails:
    """Reads each picture file once; equal pictures share one thumbnail.

    Args:
        side: pixels of the longer side.
    """

    def __init__(self, side: int = SIDE) -> None:
        self._side = side
        self.by_key: dict[str, Thumbnail] = {}  # in the order in which they were first asked for
        self._pictures: dict[tuple[str, str], Picture] = {}
        self._folders: dict[str, Pictures] = {}

    def of(self, name: str, root: str | None) -> Picture:
        """The picture of this name.

        Args:
            name: relative to `root`.
            root: the run's `settings.image_root`; None in results that do not say.

        Returns:
            With a key into `by_key`, or with the problem that kept it from being read; never an
            error.
        """
        key = (name, root or "")
        if key not in self._pictures:
            self._pictures[key] = self._read(name, root)
        return self._pictures[key]

    def _read(self, name: str, root: str | None) -> Picture:
        if root is None:
            return Picture(name, None, "the results do not say where pictures lie (image_root)")
        try:
            if root not in self._folders:
                self._folders[root] = open_pictures(Path(root))
            path = self._folders[root].find(name)
            if path is None:
                return Picture(name, None, f"not found under image_root {root}")
            thumbnail = _as_jpeg(shrink(path, self._side))
        except DataError as error:
            return Picture(name, None, f"is not shown: {error}")
        key = hashlib.sha256(thumbnail.data).hexdigest()[:16]
        self.by_key.setdefault(key, thumbnail)
        return Picture(name, key)


def shrink(path: PictureFile, side: int = SIDE) -> Image.Image:
    """A copy of at most `side` pixels of what a model sees, without the file's metadata.

    Raises:
        DataError: the file cannot be read.
    """
    small = read_image(path, about=2 * side)
    small.thumbnail((side, side))
    return small


def _as_jpeg(small: Image.Image) -> Thumbnail:
    memory = BytesIO()
    small.save(memory, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(memory.getvalue(), small.width, small.height)
