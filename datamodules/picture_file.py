"""The one reader of picture files: whatever a file holds becomes 8-bit RGB, or is refused by name.

    1, L, P, RGB, CMYK, YCbCr     as Pillow converts them; 16 bits a colour become 8
    grey of 16 or 32 bits         round(level / 257): 0 to 65535 become 0 to 255
    grey of floats                round(255 * level): 0 to 1 become 0 to 255
    transparency                  laid over mid-grey, an alpha channel as well as a colour (tRNS)
    EXIF orientation              applied
    several frames or pages       the first one

Grey that this would make black, or that lies outside these ranges, is refused: what its levels mean
is not in the file. docs/data.md says the same to users.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from datamodules.pictures import PictureFile
from errors import DataError

BACKDROP = (128, 128, 128, 255)
_LEAVE = "or leave it out."
_ADVICE = f"Replace the file (JPEG, PNG and WebP are read) {_LEAVE}"
_LEVELS = 65535  # of grey of 16 bits
_SCALES = {"L;2": 85, "L;4": 17}  # from PNG's levels of 2 and 4 bits to those of 8

# What Pillow warns of names no file; what is wrong enough is an error, which does.
warnings.filterwarnings("ignore", module=r"PIL\.")


class _UnclearError(Exception):
    """Levels of grey whose meaning cannot be known."""


def read_image(path: PictureFile, *, about: int | None = None) -> Image.Image:
    """A picture as upright RGB.

    Args:
        path: the file.
        about: pixels that its sides need at most; a JPEG is then decoded at a fraction of its size,
            no smaller.

    Raises:
        DataError: the file is missing, no picture, damaged, too large, or of unclear levels.
    """
    try:
        with Image.open(path if isinstance(path, Path) else path.open()) as image:
            if about is not None:
                image.draft("RGB", (about, about))
            return _as_rgb(image)
    except Exception as error:  # decoders raise whatever they like: struct.error, RuntimeError, ...
        raise DataError(f"the picture {path} cannot be read: {_reason(path, error)}") from error


def convert_image(image: Image.Image) -> Image.Image:
    """A picture of Pillow as `read_image` gives the file that it would be in.

    Raises:
        DataError: its file is damaged or closed, or its levels are unclear.
    """
    try:
        return _as_rgb(image)
    except Exception as error:
        raise DataError(f"the picture in memory cannot be read: {_reason(None, error)}") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    key = _transparent_colour(image)
    image.load()
    return _over_backdrop(_upright(_in_8_bits(image, key)))


def _transparent_colour(image: Image.Image) -> object:
    """The colour that a PNG says is transparent (tRNS), in the levels that its pixels will have."""
    key = image.info.get("transparency")
    tiles = getattr(image, "tile", ()) if image.format == "PNG" else ()
    coding = tiles[0].args if tiles else None
    if isinstance(key, int) and coding in _SCALES:
        return key * _SCALES[coding]
    if isinstance(key, tuple) and coding == "RGB;16B":
        return tuple(level >> 8 for level in key)
    return key


def _in_8_bits(image: Image.Image, key: object) -> Image.Image:
    """The picture with its transparency, in a mode of 8 bits."""
    if image.mode != "F" and not image.mode.startswith("I"):
        if key != image.info.get("transparency"):
            image = image.copy()  # whoever has it in memory keeps it as it is
            image.info["transparency"] = key
        return image
    levels = np.asarray(image)
    grey = Image.fromarray(_levels_of_8_bits(levels, is_float=image.mode == "F"))
    grey.info["exif"] = image.info.get("exif", b"")
    if isinstance(key, int):
        grey.putalpha(Image.fromarray(np.where(levels == key, 0, 255).astype(np.uint8)))
    return grey


def _levels_of_8_bits(levels: np.ndarray, *, is_float: bool) -> np.ndarray:
    """Grey of integers of 16 or 32 bits, or of floats, as (H, W) uint8.

    Raises:
        _UnclearError: they are outside the range, or all of them would be black.
    """
    low, high, top = levels.min(), levels.max(), 1 if is_float else _LEVELS
    if not (low >= 0 and high <= top):  # nor are they so if one is NaN
        raise _UnclearError(f"its levels of grey go from {low} to {high}, and 0 to {top} are read")
    if 0 < high <= top / 257:
        raise _UnclearError(
            f"its levels of grey go from {low} to {high} out of {top}, so all of it would be black"
        )
    return np.rint(levels.astype(np.float64) * (255 / top)).astype(np.uint8)


def _upright(image: Image.Image) -> Image.Image:
    """Turned as EXIF says; a picture whose EXIF cannot be read stays as it is."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:
        return image
    return image if orientation == 1 else ImageOps.exif_transpose(image)


def _over_backdrop(image: Image.Image) -> Image.Image:
    if image.mode != "P" and not image.has_transparency_data:
        return image.convert("RGB")
    if image.mode == "La":  # alpha is multiplied in
        image = image.convert("LA")
    above = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", above.size, BACKDROP), above).convert("RGB")


def _reason(path: PictureFile | None, error: Exception) -> str:
    """What is wrong and what to do."""
    if isinstance(error, _UnclearError):
        return f"{error}. Save it with 8 bits a colour, {_LEAVE}"
    if isinstance(error, Image.DecompressionBombError):
        most = 2 * (Image.MAX_IMAGE_PIXELS or 0)
        return f"it says of itself that it has more than {most:,} pixels. Save it smaller, {_LEAVE}"
    if isinstance(error, MemoryError):
        return f"the memory is too small for its pixels. Save it smaller, {_LEAVE}"
    if isinstance(error, OSError) and error.strerror:  # the system's; Pillow's own have none
        return f"{error.strerror}. {_ADVICE}"
    if isinstance(error, UnidentifiedImageError) and path is not None:
        return f"{_content(path)}. {_ADVICE}"
    said = f"{type(error).__name__}: {error}".rstrip(": .")
    return f"it is damaged, cut short or of a kind that Pillow cannot decode ({said}). {_ADVICE}"


def _content(path: PictureFile) -> str:
    """What a file that is no picture holds instead."""
    with path.open("rb") as file:
        begins = file.read(256).lstrip()
    if not begins:
        return "it is empty"
    if begins.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS and not the picture (`git lfs pull` fetches it)"
    if begins[:1] == b"<":
        return "it is a page or a drawing in XML, such as a server sends in place of a picture"
    return "it is no picture, or is cut short in its head"
