"""Picture files of every kind: the colours that they show, or a sentence that names them."""

from __future__ import annotations

import errno
import os
import re
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from datamodules.picture_file import read_image
from errors import DataError
from tests.odd.pictures import (
    BACKDROP,
    OddPicture,
    all_pictures,
    drawing,
    fields_of,
    grey,
    levels,
    png,
    same_colours,
    with_orientation,
)

pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # as in a run
# Only root may read `closed`, and tests may be run by root.
PICTURES = [p for p in all_pictures().values() if not p.is_heavy and p.name != "closed"]


@pytest.mark.parametrize("odd", PICTURES, ids=str)
def test_a_picture_shows_what_it_should_or_is_refused_by_name(
    odd: OddPicture, tmp_path: Path
) -> None:
    path = tmp_path / odd.file
    odd.write(path)
    said = refusal(path)
    if said is None:
        assert odd.fields is not None, odd.why
        image = read_image(path)
        assert (image.mode, image.size) == ("RGB", odd.size)
        assert same_colours(fields_of(image), odd.fields, odd.tolerance), fields_of(image)
    else:
        assert odd.fields is None or odd.may_be_refused, said
        assert said.startswith(f"the picture {path} cannot be read: ")
        assert re.search(r"(Replace|Save) .* or leave it out\.$", said)
        assert "\n" not in said


def refusal(path: Path) -> str | None:
    """What is said of a file that is no picture."""
    try:
        read_image(path)
    except DataError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("form", "mode"),
    [
        *(("PNG", mode) for mode in ("1", "L", "P", "RGB")),
        *(("JPEG", mode) for mode in ("1", "L", "RGB", "CMYK", "YCbCr")),
        *(("TIFF", mode) for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr")),
    ],
)
def test_an_ordinary_picture_keeps_every_bit(tmp_path: Path, form: str, mode: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    path = tmp_path / "a"
    picture.save(path, form)
    with Image.open(path) as expected:
        assert read_image(path).tobytes() == expected.convert("RGB").tobytes()


def test_transparency_lets_mid_grey_through_as_before(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (9, 7, 4), np.uint8)
    for mode in ("RGBA", "LA", "P"):
        path = tmp_path / f"{mode}.png"
        Image.fromarray(noise).convert(mode).save(path)
        with Image.open(path) as image:
            backdrop = Image.new("RGBA", image.size, (128, 128, 128, 255))
            expected = Image.alpha_composite(backdrop, image.convert("RGBA")).convert("RGB")
        assert read_image(path).tobytes() == expected.tobytes()


@pytest.mark.parametrize(("bits", "scale"), [(2, 85), (4, 17)])
def test_a_transparent_level_of_few_bits(tmp_path: Path, bits: int, scale: int) -> None:
    few = levels() // (256 >> bits)
    each = 8 // bits
    packed = sum(few[:, place::each] << (8 - bits * (place + 1)) for place in range(each))
    rows = b"".join(b"\0" + bytes(row) for row in packed.astype(np.uint8))
    key = int(few[0, -1])  # of the second field
    path = tmp_path / "a.png"
    path.write_bytes(png(bits, 0, rows, ("tRNS", struct.pack(">H", key))))
    shown = [(int(few[row, column]) * scale,) * 3 for row in (0, -1) for column in (0, -1)]
    assert fields_of(read_image(path)) == (shown[0], BACKDROP, *shown[2:])


def test_sixteen_bits_with_an_orientation_and_a_transparent_level(tmp_path: Path) -> None:
    rows = b"".join(b"\0" + row.tobytes() for row in levels().astype(">u2") * 257)
    exif = with_orientation(3).tobytes().removeprefix(b"Exif\0\0")
    key = struct.pack(">H", 90 * 257)
    path = tmp_path / "a.png"
    path.write_bytes(png(16, 0, rows, ("tRNS", key), ("eXIf", exif)))
    one, _, three, four = grey()
    assert fields_of(read_image(path)) == (four, three, BACKDROP, one)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.full((3, 4), 65536, np.int32), "go from 65536 to 65536, and 0 to 65535 are read"),
        (np.full((3, 4), -1, np.int32), "go from -1 to -1, and"),
        (np.full((3, 4), 255, np.int32), "out of 65535, so all of it would be black"),
        (np.full((3, 4), 200, np.uint16), "out of 65535, so all of it would be black"),
        (np.full((3, 4), np.nan, np.float32), "go from nan to nan, and 0 to 1 are read"),
        (np.full((3, 4), np.inf, np.float32), "to inf, and 0 to 1 are read"),
        (np.full((3, 4), 1.5, np.float32), "to 1.5, and 0 to 1 are read"),
        (np.full((3, 4), -0.1, np.float32), "and 0 to 1 are read"),
        (np.full((3, 4), 0.003, np.float32), "out of 1, so all of it would be black"),
    ],
)
def test_levels_whose_meaning_is_unclear_are_refused(
    tmp_path: Path, values: np.ndarray, says: str
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(values).save(path)
    with pytest.raises(DataError, match=rf"a\.tif cannot be read: its levels.*{says}.*8 bits"):
        read_image(path)


@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_black_may_be_black(tmp_path: Path, kind: type) -> None:
    Image.fromarray(np.zeros((16, 24), kind)).save(tmp_path / "a.tif")
    assert fields_of(read_image(tmp_path / "a.tif")) == grey((0,) * 4)


def test_every_level_of_eight_bits_comes_back_from_sixteen(tmp_path: Path) -> None:
    eight = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(eight.astype(np.uint16) * 257).save(tmp_path / "a.png")
    Image.fromarray(eight.astype(np.float32) / 255).save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert np.array_equal(np.asarray(read_image(tmp_path / name))[..., 0], eight)


def test_a_jpeg_may_be_decoded_small(tmp_path: Path) -> None:
    drawing(size=(800, 640)).save(tmp_path / "a.jpg", exif=with_orientation(6))
    assert read_image(tmp_path / "a.jpg", about=150).size == (160, 200)
    assert read_image(tmp_path / "a.jpg").size == (640, 800)


def test_what_the_system_says_is_not_called_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(DataError, match=r"a\.png cannot be read: Input/output error\. Replace"):
        read_image(tmp_path / "a.png")
