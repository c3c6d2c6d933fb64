"""Odd pictures: grey of many depths, palettes and transparency, colour spaces."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from PIL import Image, ImageCms

from tests.odd.pictures import (
    BACKDROP,
    COLOURS,
    HEIGHT,
    LEVELS,
    LOSSY,
    WIDTH,
    drawing,
    grey,
    levels,
    over_backdrop,
    png,
    reads,
    tiff,
    veil,
)

# Grey


@reads("grey_8_bit.png", grey())
def grey_8_bit(path: Path) -> None:
    Image.fromarray(levels()).save(path)


@reads("one_bit.png", grey((0, 0, 255, 255)))
def one_bit(path: Path) -> None:
    Image.fromarray(levels()).point(lambda level: 255 * (level > 128)).convert("1").save(path)


@reads("grey_4_bit.png", grey((17, 85, 170, 255)))
def grey_4_bit(path: Path) -> None:
    rows = levels() // 16
    packed = rows[:, ::2] * 16 + rows[:, 1::2]
    path.write_bytes(png(4, 0, b"".join(b"\0" + bytes(row) for row in packed)))


@reads("grey_16_bit.png", grey())
def grey_16_bit(path: Path) -> None:
    Image.fromarray(levels().astype(np.uint16) * 257).save(path)


@reads("grey_12_of_16_bit.png", grey((1, 6, 10, 15)))
def grey_12_of_16_bit(path: Path) -> None:
    """Levels up to 4095 in a file of 16 bits, as of a scanner: dark, and never clipped to white."""
    Image.fromarray(levels().astype(np.uint16) * 16).save(path)


@reads("grey_16_bit.tif", grey())
def grey_16_bit_tiff(path: Path) -> None:
    Image.fromarray(levels().astype(np.uint16) * 257).save(path)


@reads("grey_16_bit_big_endian.tif", grey())
def grey_16_bit_big_endian(path: Path) -> None:
    path.write_bytes(tiff(levels().astype(">u2") * 257, bits=16, sample_format=1))


@reads("grey_16_bit.pgm", grey())
def grey_16_bit_pgm(path: Path) -> None:
    head = f"P5\n{WIDTH} {HEIGHT}\n65535\n".encode()
    path.write_bytes(head + (levels().astype(">u2") * 257).tobytes())


@reads("grey_16_bit.jp2", grey(), tolerance=2)
def grey_16_bit_jpeg_2000(path: Path) -> None:
    Image.fromarray(levels().astype(np.uint16) * 257).save(path)


@reads("grey_32_bit_of_bytes.tif", grey(), may_be_refused=True)
def grey_32_bit_of_bytes(path: Path) -> None:
    """Integers of 32 bits, 0 to 255 in use."""
    Image.fromarray(levels().astype(np.int32)).save(path)


@reads("grey_32_bit_of_words.tif", grey(), may_be_refused=True)
def grey_32_bit_of_words(path: Path) -> None:
    """Integers of 32 bits, 0 to 65535 in use."""
    Image.fromarray(levels().astype(np.int32) * 257).save(path)


@reads("float_of_shares.tif", grey(), may_be_refused=True)
def float_of_shares(path: Path) -> None:
    """Floats from 0 to 1."""
    Image.fromarray(levels().astype(np.float32) / 255).save(path)


@reads("float_of_bytes.tif", grey(), may_be_refused=True)
def float_of_bytes(path: Path) -> None:
    """Floats from 0 to 255."""
    Image.fromarray(levels().astype(np.float32)).save(path)


@reads("float_of_words.tif", grey(), may_be_refused=True)
def float_of_words(path: Path) -> None:
    """Floats from 0 to 65535."""
    Image.fromarray(levels().astype(np.float32) * 257).save(path)


@reads("colour_16_bit.png", COLOURS)
def colour_16_bit(path: Path) -> None:
    pixels = np.array(drawing()).astype(">u2") * 257
    path.write_bytes(png(16, 2, b"".join(b"\0" + row.tobytes() for row in pixels)))


@reads("colour_16_bit.ppm", COLOURS)
def colour_16_bit_ppm(path: Path) -> None:
    pixels = np.array(drawing()).astype(">u2") * 257
    path.write_bytes(f"P6\n{WIDTH} {HEIGHT}\n65535\n".encode() + pixels.tobytes())


# Palettes and transparency


@reads("palette.png", COLOURS)
def palette(path: Path) -> None:
    drawing().quantize(4).save(path)


@reads("palette.gif", COLOURS)
def palette_gif(path: Path) -> None:
    drawing().quantize(4).save(path)


@reads("palette.bmp", COLOURS)
def palette_bmp(path: Path) -> None:
    drawing().quantize(4).save(path)


@reads("palette.tif", COLOURS)
def palette_tiff(path: Path) -> None:
    drawing().quantize(4).save(path)


@reads("palette_clear.png", (BACKDROP, *COLOURS[1:]))
def palette_clear(path: Path) -> None:
    """One colour of the palette is transparent."""
    picture = drawing().quantize(4)
    picture.save(path, transparency=picture.getpixel((1, 1)))


@reads("palette_clear.gif", (BACKDROP, *COLOURS[1:]))
def palette_clear_gif(path: Path) -> None:
    picture = drawing().quantize(4)
    picture.save(path, transparency=picture.getpixel((1, 1)))


@reads("palette_alpha.png", (over_backdrop(COLOURS[0], 100), *COLOURS[1:]))
def palette_alpha(path: Path) -> None:
    """One colour of the palette lets the backdrop through."""
    picture = drawing().quantize(4)
    alphas = bytearray(b"\xff" * 4)
    alphas[picture.getpixel((1, 1))] = 100  # type: ignore[index]
    picture.save(path, transparency=bytes(alphas))


@reads("colour_key.png", (BACKDROP, *COLOURS[1:]))
def colour_key(path: Path) -> None:
    """RGB in which one colour is transparent (tRNS)."""
    drawing().save(path, transparency=COLOURS[0])


@reads("grey_key.png", (BACKDROP, *grey()[1:]))
def grey_key(path: Path) -> None:
    """Grey in which one level is transparent (tRNS)."""
    Image.fromarray(levels()).save(path, transparency=LEVELS[0])


@reads("one_bit_key.png", (BACKDROP, BACKDROP, (255,) * 3, (255,) * 3))
def one_bit_key(path: Path) -> None:
    picture = Image.fromarray(levels()).point(lambda level: 255 * (level > 128)).convert("1")
    picture.save(path, transparency=0)


@reads("grey_16_bit_key.png", (BACKDROP, *grey()[1:]))
def grey_16_bit_key(path: Path) -> None:
    """Grey of 16 bits in which one level is transparent."""
    pixels = levels().astype(">u2") * 257
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    path.write_bytes(png(16, 0, rows, ("tRNS", struct.pack(">H", LEVELS[0] * 257))))


@reads("alpha.png", (over_backdrop(COLOURS[0], 100), *COLOURS[1:]))
def alpha(path: Path) -> None:
    veil(drawing(), 100).save(path)


@reads("grey_alpha.png", (over_backdrop(grey()[0], 100), *grey()[1:]))
def grey_alpha(path: Path) -> None:
    veil(drawing(grey()), 100).convert("LA").save(path)


@reads("alpha.webp", (BACKDROP, *COLOURS[1:]))
def alpha_webp(path: Path) -> None:
    veil(drawing(), 0).save(path, lossless=True)


@reads("alpha.tif", (over_backdrop(COLOURS[0], 100), *COLOURS[1:]))
def alpha_tiff(path: Path) -> None:
    veil(drawing(), 100).save(path)


# Colour spaces


@reads("plain.jpg", COLOURS, tolerance=LOSSY)
def plain_jpeg(path: Path) -> None:
    drawing().save(path, quality=95, subsampling=0)


@reads("progressive.jpg", COLOURS, tolerance=LOSSY)
def progressive(path: Path) -> None:
    drawing().save(path, quality=95, subsampling=0, progressive=True)


@reads("cmyk_adobe.jpg", COLOURS, tolerance=LOSSY)
def cmyk_adobe(path: Path) -> None:
    """Four inks, inverted and said to be so, as Adobe writes them."""
    drawing().convert("CMYK").save(path, quality=95, subsampling=0)


@reads("cmyk.tif", COLOURS)
def cmyk_tiff(path: Path) -> None:
    drawing().convert("CMYK").save(path)


@reads("ycbcr.tif", COLOURS, tolerance=4, may_be_refused=True)
def ycbcr_tiff(path: Path) -> None:
    drawing().convert("YCbCr").save(path)


@reads("lab.tif", COLOURS, tolerance=25, may_be_refused=True)
def lab_tiff(path: Path) -> None:
    to_lab = ImageCms.buildTransform(
        ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB"
    )
    ImageCms.applyTransform(drawing(), to_lab).save(path)


@reads("rgb.jp2", COLOURS, tolerance=2)
def jpeg_2000(path: Path) -> None:
    drawing().save(path)


@reads("rgb.avif", COLOURS, tolerance=LOSSY)
def avif(path: Path) -> None:
    drawing().save(path, quality=95, subsampling="4:4:4")


@reads("rgb.webp", COLOURS)
def webp(path: Path) -> None:
    drawing().save(path, lossless=True)


@reads("rgb.dds", COLOURS)
def dds(path: Path) -> None:
    drawing().save(path)


@reads("rgb.tga", COLOURS)
def tga(path: Path) -> None:
    drawing().save(path)


@reads("rgb.ico", COLOURS)
def ico(path: Path) -> None:
    drawing().save(path, sizes=[(WIDTH, HEIGHT)])
