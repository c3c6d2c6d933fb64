"""Small copies of the pictures that a report shows, each kept once however often it is shown.

A picture is named in the results by a path below `settings.image_root`. Where the file is not found
or is no picture, the report shows a placeholder that says so: results outlive the data they are of.
"""

import hashlib
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image

SIDE = 160  # pixels of the longer side
_QUALITY = 75  # of the JPEG: about 5 kB for a photograph of that size
# What a broken picture file raises; SyntaxError is what Pillow has for some PNG files.
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)


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
    """Reads each picture file once; equal pictures share one thumbnail."""

    def __init__(self) -> None:
        self.by_key: dict[str, Thumbnail] = {}  # in the order in which they were first asked for
        self._pictures: dict[tuple[str, str], Picture] = {}

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
        path = Path(root) / name
        try:
            if not path.is_file():
                return Picture(name, None, f"not found under image_root {root}")
            thumbnail = _as_jpeg(shrink(path))
        except UNREADABLE as error:
            return Picture(name, None, f"in {root} cannot be read as a picture ({error})")
        key = hashlib.sha256(thumbnail.data).hexdigest()[:16]
        self.by_key.setdefault(key, thumbnail)
        return Picture(name, key)


def shrink(path: Path) -> Image.Image:
    """A copy of at most `SIDE` pixels, a transparent one on white, without the file's metadata.

    Raises:
        UNREADABLE: one of these.
    """
    with Image.open(path) as image:
        image.draft("RGB", (2 * SIDE, 2 * SIDE))  # JPEG: decodes at a fraction of the size
        if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
            above = image.convert("RGBA")
            small = Image.alpha_composite(Image.new("RGBA", above.size, "white"), above)
        else:
            small = image.convert("RGB")
        small.thumbnail((SIDE, SIDE))
        return small.convert("RGB")


def _as_jpeg(small: Image.Image) -> Thumbnail:
    memory = BytesIO()
    small.save(memory, "JPEG", quality=_QUALITY, optimize=True)
    return Thumbnail(memory.getvalue(), small.width, small.height)
