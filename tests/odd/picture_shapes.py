"""Odd pictures: turned by EXIF, tiny, thin, animated, in a file of another name, behind a link."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from tests.odd.pictures import (
    COLOURS,
    HEIGHT,
    LOSSY,
    WIDTH,
    Fields,
    drawing,
    encoded,
    grey,
    png,
    reads,
    refused,
    with_orientation,
)

OTHER: Fields = ((0, 0, 0), (255, 255, 255), (0, 255, 255), (255, 0, 255))
TURNED = {
    1: (0, 1, 2, 3), 2: (1, 0, 3, 2), 3: (3, 2, 1, 0), 4: (2, 3, 0, 1),
    5: (0, 2, 1, 3), 6: (2, 0, 3, 1), 7: (3, 1, 2, 0), 8: (1, 3, 0, 2),
}  # fmt: skip
"""Orientation of EXIF -> which field of the stored pixels is seen top left, top right, ..."""

# Turned


def _turned(number: int) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        drawing().save(path, quality=95, subsampling=0, exif=with_orientation(number))

    write.__name__ = f"orientation_{number}"
    return write


for _number, _fields in TURNED.items():
    reads(
        f"orientation_{_number}.jpg",
        tuple(COLOURS[field] for field in _fields),  # type: ignore[arg-type]
        size=(WIDTH, HEIGHT) if _number < 5 else (HEIGHT, WIDTH),
        tolerance=LOSSY,
    )(_turned(_number))

_ON_ITS_SIDE: Fields = tuple(COLOURS[field] for field in TURNED[6])  # type: ignore[assignment]


@reads("orientation_6.png", _ON_ITS_SIDE, size=(HEIGHT, WIDTH))
def orientation_in_png(path: Path) -> None:
    drawing().save(path, exif=with_orientation(6))


@reads("orientation_6.webp", _ON_ITS_SIDE, size=(HEIGHT, WIDTH))
def orientation_in_webp(path: Path) -> None:
    drawing().save(path, lossless=True, exif=with_orientation(6))


@reads("orientation_6.tif", _ON_ITS_SIDE, size=(HEIGHT, WIDTH))
def orientation_in_tiff(path: Path) -> None:
    drawing().save(path, tiffinfo={274: 6})


@reads("orientation_9.jpg", COLOURS, tolerance=LOSSY)
def orientation_unknown(path: Path) -> None:
    drawing().save(path, quality=95, subsampling=0, exif=with_orientation(9))


@reads("exif_rubbish.jpg", COLOURS, tolerance=LOSSY)
def exif_rubbish(path: Path) -> None:
    drawing().save(path, quality=95, subsampling=0, exif=b"Exif\0\0MM\0*\0\0\xff\xff rubbish")


@reads("exif_rubbish.png", COLOURS)
def exif_rubbish_in_png(path: Path) -> None:
    drawing().save(path, exif=b"rubbish")


# Tiny and thin

ONE: Fields = (COLOURS[0],) * 4


@reads("1x1.png", ONE, size=(1, 1))
def one_pixel(path: Path) -> None:
    Image.new("RGB", (1, 1), COLOURS[0]).save(path)


@reads("1x1.gif", ONE, size=(1, 1))
def one_pixel_gif(path: Path) -> None:
    Image.new("RGB", (1, 1), COLOURS[0]).save(path)


@reads("2x3.png", (*COLOURS[:2], *COLOURS[2:]), size=(2, 3))
def few_pixels(path: Path) -> None:
    drawing(size=(2, 3)).save(path)


@reads("1x5000.png", ONE, size=(1, 5000))
def very_high(path: Path) -> None:
    Image.new("RGB", (1, 5000), COLOURS[0]).save(path)


@reads("5000x1.png", ONE, size=(5000, 1))
def very_wide(path: Path) -> None:
    Image.new("RGB", (5000, 1), COLOURS[0]).save(path)


@reads("1x5000_16_bit.png", grey((90,) * 4), size=(1, 5000))
def very_high_16_bit(path: Path) -> None:
    Image.new("I;16", (1, 5000), 90 * 257).save(path)


@reads("9600x9600.png", grey((255,) * 4), size=(9600, 9600), may_be_refused=True, is_heavy=True)
def beyond_pillow_s_warning(path: Path) -> None:
    """92 million pixels: Pillow warns above 89 million, and stops at 179."""
    rows = (b"\0" + b"\xff" * 1200) * 9600
    path.write_bytes(png(1, 0, rows, size=(9600, 9600)))


# Several pictures in one file


def _frames() -> list[Image.Image]:
    return [drawing(), drawing(OTHER), drawing(OTHER, (WIDTH, HEIGHT)).rotate(180)]


@reads("animated.gif", COLOURS)
def animated_gif(path: Path) -> None:
    first, *others = _frames()
    first.save(path, save_all=True, append_images=others, duration=50, loop=0)


@reads("animated.webp", COLOURS)
def animated_webp(path: Path) -> None:
    first, *others = _frames()
    first.save(path, save_all=True, append_images=others, duration=50, lossless=True)


@reads("animated.png", COLOURS)
def animated_png(path: Path) -> None:
    first, *others = _frames()
    first.save(path, save_all=True, append_images=others, duration=50)


@reads("animated_behind_a_picture.png", COLOURS)
def animated_behind_a_picture(path: Path) -> None:
    """The picture that readers without animation show is no frame of it."""
    first, *others = _frames()
    first.save(path, save_all=True, append_images=others, default_image=True)


@reads("pages.tif", COLOURS)
def pages(path: Path) -> None:
    first, *others = _frames()
    first.save(path, save_all=True, append_images=others)


@reads("several.mpo.jpg", COLOURS, tolerance=LOSSY)
def several_photographs(path: Path) -> None:
    """What telephones write: a JPEG with further ones behind it."""
    first, *others = _frames()
    first.save(path, "MPO", save_all=True, append_images=others, quality=95, subsampling=0)


# Names and places


@reads("a_jpeg.png", COLOURS, tolerance=LOSSY)
def jpeg_called_png(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "JPEG", quality=95, subsampling=0))


@reads("a_png.jpg", COLOURS)
def png_called_jpeg(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "PNG"))


@reads("a_webp.jpg", COLOURS)
def webp_called_jpeg(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "WEBP", lossless=True))


@reads("a_png.txt", COLOURS)
def png_called_text(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "PNG"))


@reads("without_ending", COLOURS)
def without_ending(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "PNG"))


@reads("LOUD.PNG", COLOURS)
def loud_ending(path: Path) -> None:
    path.write_bytes(encoded(drawing(), "PNG"))


@reads("behind_a_link.png", COLOURS)
def behind_a_link(path: Path) -> None:
    target = path.with_name(f"target_of_{path.name}")
    target.write_bytes(encoded(drawing(), "PNG"))
    path.symlink_to(target.name)


@refused("link_to_nothing.png", "No such file")
def link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing.png")


@refused("link_to_itself.png", "symbolic links")
def link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


@refused("a_folder.png", "Is a directory")
def a_folder(path: Path) -> None:
    path.mkdir()


@refused("closed.png", "Permission denied")
def closed(path: Path) -> None:
    """Only root may read it, and only with its privileges (`tests/odd/bound.py`)."""
    path.write_bytes(encoded(drawing(), "PNG"))
    path.chmod(0)
