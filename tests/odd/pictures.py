"""Odd pictures: each function writes a file and says what a reader has to make of it.

All show one drawing, four fields of one colour each, 24 x 16 pixels, so that a picture that is
turned, inverted, white or black is told by four pixels. `all_pictures` has every kind: colours
(`picture_colours.py`), shapes and places (`picture_shapes.py`), damage (`picture_damage.py`).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from PIL import ExifTags, Image

Colour = tuple[int, int, int]
Fields = tuple[Colour, Colour, Colour, Colour]  # top left, top right, bottom left, bottom right

WIDTH, HEIGHT = 24, 16
COLOURS: Fields = ((220, 40, 40), (40, 180, 60), (50, 70, 210), (230, 210, 60))
LEVELS = (20, 90, 160, 240)
BACKDROP: Colour = (128, 128, 128)  # what shows through transparency
LOSSY = 40  # levels that JPEG, WebP and AVIF may be off in the middle of a field


@dataclass(frozen=True)
class OddPicture:
    """A picture file and what is expected of it.

    Attributes:
        name: of the function that writes it.
        file: what the file is called; its ending may be wrong on purpose.
        write: writes it at a path.
        fields: the four colours that it reads as; None: it is refused.
        why: why it is refused.
        size: width and height as it reads.
        tolerance: levels that a channel may be off.
        may_be_refused: whether a sentence with the file's name will do as well.
        is_heavy: whether reading it takes more than a moment.
    """

    name: str
    file: str
    write: Callable[[Path], object]
    fields: Fields | None
    why: str = ""
    size: tuple[int, int] = (WIDTH, HEIGHT)
    tolerance: int = 1
    may_be_refused: bool = False
    is_heavy: bool = False

    def __str__(self) -> str:
        return self.name


Write = Callable[[Path], object]
_PICTURES: dict[str, OddPicture] = {}


def all_pictures() -> dict[str, OddPicture]:
    """Every odd picture by name."""
    for module in ("colours", "shapes", "damage"):
        import_module(f"tests.odd.picture_{module}")
    return dict(_PICTURES)


def reads(file: str, fields: Fields, **expected: Any) -> Callable[[Write], Write]:
    """Registers a function that writes a picture which has to be read, as these colours."""

    def register(write: Write) -> Write:
        _PICTURES[write.__name__] = OddPicture(write.__name__, file, write, fields, **expected)
        return write

    return register


def refused(file: str, why: str, **expected: Any) -> Callable[[Write], Write]:
    """Registers a function that writes what is to be refused by a sentence with its name."""

    def register(write: Write) -> Write:
        _PICTURES[write.__name__] = OddPicture(write.__name__, file, write, None, why, **expected)
        return write

    return register


def fields_of(picture: Image.Image) -> Fields:
    """The colours in the middle of the four fields of a picture in RGB."""
    width, height = picture.size
    columns, rows = (width // 4, width * 3 // 4), (height // 4, height * 3 // 4)
    found = [picture.getpixel((x, y)) for y in rows for x in columns]
    return tuple(found)  # type: ignore[return-value]


def same_colours(found: Fields, expected: Fields, tolerance: int) -> bool:
    """Whether no channel of any field is off by more."""
    return bool(np.abs(np.subtract(found, expected)).max() <= tolerance)


def grey(levels: tuple[int, int, int, int] = LEVELS) -> Fields:
    return tuple((level,) * 3 for level in levels)  # type: ignore[return-value]


def drawing(fields: Fields = COLOURS, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """The drawing in RGB."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    for number, colour in enumerate(fields):
        rows = slice(0, height // 2) if number < 2 else slice(height // 2, height)
        columns = slice(0, width // 2) if number % 2 == 0 else slice(width // 2, width)
        pixels[rows, columns] = colour
    return Image.fromarray(pixels)


def levels() -> np.ndarray[Any, Any]:
    """The drawing in levels of grey, (HEIGHT, WIDTH) of 0 to 255."""
    return np.array(drawing(grey()))[..., 0]


def over_backdrop(colour: Colour, alpha: int) -> Colour:
    return tuple(round((c * alpha + 128 * (255 - alpha)) / 255) for c in colour)  # type: ignore[return-value]


# What files are made of


def veil(picture: Image.Image, opacity: int) -> Image.Image:
    """The drawing with its first field see-through."""
    mask = Image.new("L", picture.size, 255)
    mask.paste(opacity, (0, 0, WIDTH // 2, HEIGHT // 2))
    picture = picture.convert("RGB")
    picture.putalpha(mask)
    return picture


def png(
    bits: int, kind: int, rows: bytes, *more: tuple[str, bytes], size: tuple[int, int] | None = None
) -> bytes:
    """A PNG file of raw rows: bits of a sample, PNG's colour type, chunks before the pixels."""
    width, height = size or (WIDTH, HEIGHT)
    head = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    body = [("IHDR", head), *more, ("IDAT", zlib.compress(rows, 9)), ("IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, data) for name, data in body)


def chunk(name: str, data: bytes) -> bytes:
    named = name.encode() + data
    return struct.pack(">I", len(data)) + named + struct.pack(">I", zlib.crc32(named))


def tiff(pixels: np.ndarray[Any, Any], *, bits: int, sample_format: int) -> bytes:
    """A big-endian TIFF of one strip."""
    head, data = 8, pixels.tobytes()
    tags = [
        (256, 4, WIDTH), (257, 4, HEIGHT), (258, 3, bits), (259, 3, 1), (262, 3, 1),
        (273, 4, head), (277, 3, 1), (278, 4, HEIGHT), (279, 4, len(data)),
        (339, 3, sample_format),
    ]  # fmt: skip
    entries = b"".join(
        struct.pack(">HHI", tag, kind, 1)
        + (struct.pack(">HH", value, 0) if kind == 3 else struct.pack(">I", value))
        for tag, kind, value in tags
    )
    directory = struct.pack(">H", len(tags)) + entries + struct.pack(">I", 0)
    return b"MM\0*" + struct.pack(">I", head + len(data)) + data + directory


def encoded(picture: Image.Image, form: str, **options: Any) -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def with_orientation(number: int) -> Image.Exif:
    """EXIF that says how a picture was held."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = number
    return exif
