"""Odd pictures that no reader can show: cut short, rubbish behind a right beginning, too large."""

from __future__ import annotations

import gzip
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.odd.pictures import COLOURS, LOSSY, drawing, encoded, png, reads, refused

FORMATS = {
    "png": ("PNG", {}), "jpg": ("JPEG", {"quality": 95}), "gif": ("GIF", {}),
    "webp": ("WEBP", {"lossless": True}), "tif": ("TIFF", {}), "bmp": ("BMP", {}),
    "avif": ("AVIF", {}), "jp2": ("JPEG2000", {}), "dds": ("DDS", {}), "ico": ("ICO", {}),
}  # fmt: skip
BEGINNINGS = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpg": b"\xff\xd8\xff\xe0",
    "gif": b"GIF89a",
    "webp": b"RIFF\x24\0\0\0WEBPVP8 ",
    "tif": b"II*\0\x08\0\0\0",
    "big_endian.tif": b"MM\0*\0\0\0\x08",
    "big.tif": b"II+\0\x08\0\0\0\x10\0\0\0\0\0\0\0",
    "bmp": b"BM",
    "avif": b"\0\0\0\x20ftypavif\0\0\0\0avifmif1",
    "heic": b"\0\0\0\x20ftypheic\0\0\0\0heicmif1",
    "jp2": b"\0\0\0\x0cjP  \r\n\x87\n",
    "j2k": b"\xff\x4f\xff\x51",
    "dds": b"DDS \x7c\0\0\0\x07\x10\0\0",
    "ico": b"\0\0\x01\0\x01\0",
    "icns": b"icns\0\0\x02\0",
    "psd": b"8BPS\0\x01",
    "sgi": b"\x01\xda\x01\x01",
    "pcx": b"\x0a\x05\x01\x08",
    "ppm": b"P6\n24 16\n255\n",
    "pfm": b"Pf\n24 16\n-1.0\n",
    "fli": b"\0\0\0\0\x11\xaf",
    "blp": b"BLP2\x01\0\0\0",
    "ftex": b"FTEX",
    "fits": b"SIMPLE  =                    T",
    "sun": b"\x59\xa6\x6a\x95",
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "wmf": b"\xd7\xcd\xc6\x9a\0\0",
    "hdf5": b"\x89HDF\r\n\x1a\n",
    "grib": b"GRIB\0\0\0\x01",
    "mpeg": b"\0\0\x01\xb3",
    "xpm": b"/* XPM */\n",
    "gbr": b"\0\0\0\x20\0\0\0\x02",
}
"""What files of a format begin with."""


def _named(name: str, write: Callable[[Path], None]) -> Callable[[Path], None]:
    write.__name__ = name
    return write


def _whole(form: str) -> bytes:
    """A picture that does not compress, so that a file cut in two lacks pixels."""
    draw = np.random.default_rng(0)
    noise = Image.fromarray(draw.integers(0, 256, (64, 64, 3), np.uint8))
    kind, options = FORMATS[form]
    return encoded(noise, kind, **options)


# Cut short

for _form in FORMATS:

    def _half(path: Path, form: str = _form) -> None:
        whole = _whole(form)
        path.write_bytes(whole[: len(whole) // 2])

    refused(f"half.{_form}", "it is cut short")(_named(f"half_{_form}", _half))

    def _head(path: Path, form: str = _form) -> None:
        path.write_bytes(_whole(form)[:24])

    refused(f"head.{_form}", "it is cut short")(_named(f"head_{_form}", _head))


@refused("cut_in_its_signature.png", "it is cut short")
def cut_in_its_signature(path: Path) -> None:
    path.write_bytes(_whole("png")[:5])


@refused("two_bytes.jpg", "it is cut short")
def two_bytes(path: Path) -> None:
    path.write_bytes(b"\xff\xd8")


@reads("without_its_end.png", COLOURS)
def without_its_end(path: Path) -> None:
    """All pixels are there, and the twelve bytes that say so are not."""
    path.write_bytes(encoded(drawing(), "PNG")[:-12])


@reads("with_more_behind.png", COLOURS)
def with_more_behind(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "PNG") + b"<script>rubbish</script>" * 50)


@reads("with_more_behind.jpg", COLOURS, tolerance=LOSSY)
def with_more_behind_jpeg(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "JPEG", quality=95, subsampling=0) + b"\0" * 999)


# Rubbish behind a right beginning

for _ending, _beginning in BEGINNINGS.items():

    def _rubbish(path: Path, beginning: bytes = _beginning) -> None:
        path.write_bytes(beginning + random.Random(3).randbytes(600))

    _name = f"rubbish_{_ending.replace('.', '_')}"
    refused(f"rubbish.{_ending}", "it is damaged", may_be_refused=_ending in ("ppm", "xpm"))(
        _named(_name, _rubbish)
    )


@refused("rubbish_behind_boxes.avif", "it is damaged")
def rubbish_behind_boxes(path: Path) -> None:
    """The file says what it is and how large, and its pixels are another file's."""
    whole = _whole("avif")
    start = whole.index(b"mdat") + 4
    path.write_bytes(whole[:start] + random.Random(1).randbytes(len(whole) - start))


@refused("unknown_pixels.dds", "its pixel format is not known")
def unknown_pixels(path: Path) -> None:
    """A right header with a FourCC that nobody has heard of."""
    head = bytearray(encoded(drawing(), "DDS")[:128])
    struct.pack_into("<I4s", head, 80, 0x4, b"QQQQ")
    path.write_bytes(bytes(head) + b"\0" * 999)


@refused("unknown_dx10.dds", "its pixel format is not known")
def unknown_dx10(path: Path) -> None:
    head = bytearray(encoded(drawing(), "DDS")[:128])
    struct.pack_into("<I4s", head, 80, 0x4, b"DX10")
    path.write_bytes(bytes(head) + struct.pack("<5I", 9999, 3, 0, 1, 0) + b"\0" * 999)


@refused("wrong_sum.png", "a sum of its bytes is wrong")
def wrong_sum(path: Path) -> None:
    whole = bytearray(encoded(drawing(), "PNG"))
    whole[whole.index(b"IHDR") + 18] ^= 0xFF
    path.write_bytes(bytes(whole))


@refused("flipped_bit.png", "a bit of its pixels is wrong")
def flipped_bit(path: Path) -> None:
    whole = bytearray(_whole("png"))
    whole[len(whole) // 2] ^= 0x10
    path.write_bytes(bytes(whole))


@refused("no_pixels.png", "it has none")
def no_pixels(path: Path) -> None:
    path.write_bytes(png(8, 2, b"", size=(0, 16)))


@refused("no_width.gif", "it has none")
def no_width(path: Path) -> None:
    path.write_bytes(b"GIF89a\0\0\0\0\0\0\0;")


@reads("rows_missing.png", ((0, 0, 0),) * 4, may_be_refused=True)
def rows_missing(path: Path) -> None:
    """Pixels that end whole, after three rows: Pillow takes black for the others."""
    path.write_bytes(png(8, 2, (b"\0" + b"\x80" * 72) * 3))


@refused("pages_in_a_ring.tif", "it is damaged")
def pages_in_a_ring(path: Path) -> None:
    """The directory of the file says that it follows on itself, and holds nothing."""
    path.write_bytes(struct.pack("<2sHIHI", b"II", 42, 8, 0, 8))


@refused("far_away.tif", "its pixels lie beyond its end")
def far_away(path: Path) -> None:
    path.write_bytes(struct.pack("<2sHI", b"II", 42, 0xFFFFFF00))


# Too large


@refused("60000x60000.png", "it is a bomb")
def bomb_in_its_header(path: Path) -> None:
    """3.6 thousand million pixels, and 60 bytes on disk."""
    path.write_bytes(png(1, 0, b"\0" * 10, size=(60000, 60000)))


@refused("whole_bomb.png", "it is a bomb", is_heavy=True)
def whole_bomb(path: Path) -> None:
    """400 million pixels that are really there, in 50 kilobytes."""
    packed = zlib.compressobj(9)
    rows = b"".join(packed.compress(b"\0" * 2501) for _ in range(20000)) + packed.flush()
    whole = png(1, 0, b"", size=(20000, 20000))
    empty = zlib.compress(b"", 9)
    before, after = whole.split(struct.pack(">I", len(empty)) + b"IDAT" + empty)
    body = b"IDAT" + rows
    sized = struct.pack(">I", len(rows)) + body + struct.pack(">I", zlib.crc32(body))
    path.write_bytes(before + sized + after[4:])


@refused("60000x60000.gif", "it is a bomb")
def bomb_gif(path: Path) -> None:
    head = struct.pack("<6sHHBBB", b"GIF89a", 60000, 60000, 0x80, 0, 0) + b"\0" * 6
    frame = struct.pack("<BHHHHB", 0x2C, 0, 0, 60000, 60000, 0)
    path.write_bytes(head + frame + b"\x02\x02\x4c\x01\0;")


@refused("text_bomb.png", "a text in it is a bomb", may_be_refused=True)
def text_bomb(path: Path) -> None:
    """A text of 80 megabytes in a chunk of 80 kilobytes."""
    text = b"note\0\0" + zlib.compress(b"a" * 80_000_000, 1)
    pixels = np.array(drawing())
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path.write_bytes(png(8, 2, rows, ("zTXt", text)))


# No pictures at all


@refused("empty.png", "it is empty")
def empty(path: Path) -> None:
    path.touch()


@refused("one_byte.png", "it is no picture")
def one_byte(path: Path) -> None:
    path.write_bytes(b"\0")


@refused("zeros.png", "it is no picture")
def zeros(path: Path) -> None:
    path.write_bytes(b"\0" * 4096)


@refused("text.png", "it is text")
def text(path: Path) -> None:
    path.write_text("a picture of a landmark\n")


@refused("page.jpg", "it is what a server said instead")
def page(path: Path) -> None:
    path.write_text("<!DOCTYPE html><html><title>404 Not Found</title></html>\n")


@refused("pointer.jpg", "it is a pointer of Git LFS")
def pointer(path: Path) -> None:
    path.write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d' * 32}\nsize 12345\n"
    )


@refused("drawing.svg", "it is a drawing in words")
def vector(path: Path) -> None:
    path.write_text('<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>')


@refused("packed.png.gz", "it is packed")
def packed(path: Path) -> None:
    path.write_bytes(gzip.compress(encoded(drawing(), "PNG")))


@refused("paper.pdf", "it is a paper")
def paper(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "PDF"))
