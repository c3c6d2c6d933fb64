"""Pictures of countries, 96 x 96: flags (plain, square, waved) and maps (alone, among neighbours).

A map is equirectangular, true to scale at the middle of its country:

    x = (lon - lon_0) cos(lat_0),   y = lat_0 - lat

Nothing is random: the same packages give the same bytes.
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from datamodules.countries.facts import Outline

SIZE = 96  # pixels of a view
SCALE = 4  # maps are drawn so many times larger, and averaged
FLAG_SIZE = (384, 288)  # of a flag before it is shrunk
WAVE_SWING = 22.0  # pixels of the large flag
WAVE_SHADE = 0.28

Colour = tuple[int, int, int]
BACKGROUND: Colour = (236, 236, 236)


@dataclass(frozen=True)
class MapStyle:
    """Colours of a map, and how much of its surroundings it shows.

    Attributes:
        sea, land, country, line: colours of the background, other countries, the country, borders.
        margin: width of the surroundings on each side, as a share of the country's longer side.
    """

    sea: Colour
    land: Colour
    country: Colour
    line: Colour
    margin: float


ALONE = MapStyle(BACKGROUND, BACKGROUND, (64, 64, 72), BACKGROUND, 0.04)
AMONG = MapStyle((206, 224, 240), (226, 220, 196), (192, 62, 46), (140, 130, 110), 0.25)
ATLAS = MapStyle((240, 242, 244), (222, 224, 226), (58, 62, 76), (248, 248, 250), 0.1)

Land = list[list[NDArray[np.float64]]]  # an `Outline` as arrays of shape (n, 2)


def read_flag(path: Path) -> Image.Image:
    """A flag of an SVG file, RGB, 384 x 288 pixels."""
    import resvg_py

    drawn = resvg_py.svg_to_bytes(
        svg_string=path.read_text("utf-8"),
        width=FLAG_SIZE[0],
        height=FLAG_SIZE[1],
        skip_system_fonts=True,
    )
    with Image.open(io.BytesIO(bytes(drawn))) as image:
        flag = image.convert("RGBA").resize(FLAG_SIZE, Image.Resampling.BOX)
    ground = Image.new("RGBA", FLAG_SIZE, (*BACKGROUND, 255))  # Nepal's flag is no rectangle
    return Image.alpha_composite(ground, flag).convert("RGB")


def plain_flag(flag: Image.Image) -> Image.Image:
    """The flag as wide as the picture, in its middle."""
    view = Image.new("RGB", (SIZE, SIZE), BACKGROUND)
    height = round(SIZE * flag.height / flag.width)
    view.paste(flag.resize((SIZE, height), Image.Resampling.BOX), (0, (SIZE - height) // 2))
    return view


def square_flag(flag: Image.Image) -> Image.Image:
    """The flag stretched to fill the picture."""
    return flag.resize((SIZE, SIZE), Image.Resampling.BOX)


def waved_flag(flag: Image.Image) -> Image.Image:
    """The flag in the wind: a wave that grows away from its pole, with light and shade."""
    width, height = flag.size
    room = height + 2 * int(WAVE_SWING)
    x = np.arange(width, dtype=np.float64)
    growth = 0.35 + 0.65 * x / width
    angle = 2 * math.pi * 1.25 * x / width + 0.6
    shift = WAVE_SWING * growth * np.sin(angle)
    rows = np.arange(room)[:, None] - WAVE_SWING - shift[None, :]  # (room, width) of the flag
    inside = (rows >= 0) & (rows <= height - 1)
    source = np.clip(np.rint(rows), 0, height - 1).astype(np.int64)
    pixels = np.asarray(flag, dtype=np.float64)[source, np.arange(width)[None, :]]
    pixels *= (1 - WAVE_SHADE * (0.5 + 0.5 * np.cos(angle)) * growth)[None, :, None]
    sky = np.asarray((178, 200, 224), dtype=np.float64)
    waved = np.where(inside[..., None], pixels, sky)
    wide = Image.fromarray(np.clip(np.rint(waved), 0, 255).astype(np.uint8))
    view = Image.new("RGB", (SIZE, SIZE), (178, 200, 224))
    side = round(SIZE * room / width)
    view.paste(wide.resize((SIZE, side), Image.Resampling.BOX), (0, (SIZE - side) // 2))
    return view


def draw_map(country: Outline, others: Sequence[Land], style: MapStyle) -> Image.Image:
    """The country in the middle of its surroundings.

    Args:
        country: its pieces of land.
        others: every other piece of land, as `as_land` gives it.
        style: colours and surroundings.
    """
    own = as_land(country)
    middle = _middle_longitude(own)
    own = [[_turned(ring, middle) for ring in piece] for piece in own]
    frame = _frame(own, style)
    image = Image.new("RGB", (SIZE * SCALE, SIZE * SCALE), style.sea)
    draw = ImageDraw.Draw(image)
    if style.land != style.sea:
        for land in others:
            for piece in land:
                turned = [_turned(ring, middle) for ring in piece]
                if frame.holds(turned[0]):
                    _fill(draw, [frame.place(ring) for ring in turned], style.land, style)
    for piece in own:
        _fill(draw, [frame.place(ring) for ring in piece], style.country, style)
    return image.resize((SIZE, SIZE), Image.Resampling.BOX)


def as_land(outline: Outline) -> Land:
    """The outline as arrays of shape (n, 2)."""
    return [[np.asarray(ring, dtype=np.float64) for ring in piece] for piece in outline]


@dataclass(frozen=True)
class _Frame:
    """What a map shows: its centre (longitude, latitude), its side and how narrow a degree is."""

    centre: NDArray[np.float64]
    extent: float  # degrees of latitude
    squeeze: float

    def place(self, ring: NDArray[np.float64]) -> list[tuple[float, float]]:
        """Pixels of the large picture."""
        side = SIZE * SCALE
        x = (ring[:, 0] - self.centre[0]) * self.squeeze / self.extent * side + side / 2
        y = (self.centre[1] - ring[:, 1]) / self.extent * side + side / 2
        return [(float(a), float(b)) for a, b in zip(x, y, strict=True)]

    def holds(self, ring: NDArray[np.float64]) -> bool:
        """Whether some of the ring may be in the picture."""
        half = np.array([self.extent / self.squeeze, self.extent]) / 2
        low, high = ring.min(axis=0), ring.max(axis=0)
        return bool((low <= self.centre + half).all() and (high >= self.centre - half).all())


def _frame(own: Land, style: MapStyle) -> _Frame:
    points = np.concatenate([piece[0] for piece in own])
    low, high = points.min(axis=0), points.max(axis=0)
    centre = (low + high) / 2
    squeeze = math.cos(math.radians(centre[1]))
    longer = max((high[0] - low[0]) * squeeze, high[1] - low[1])
    return _Frame(centre, float(longer * (1 + 2 * style.margin)), squeeze)


def _fill(
    draw: ImageDraw.ImageDraw,
    rings: Sequence[list[tuple[float, float]]],
    colour: Colour,
    style: MapStyle,
) -> None:
    """A piece of land: its shore, then its holes, in which another country lies."""
    for index, ring in enumerate(rings):
        draw.polygon(ring, fill=style.land if index else colour)
        draw.line([*ring, ring[0]], fill=style.line, width=SCALE)


def _middle_longitude(own: Land) -> float:
    """Longitude that the country lies around, whichever side of the date line that is."""
    longitudes = np.concatenate([piece[0][:, 0] for piece in own])
    angles = np.sort(np.unique(np.mod(longitudes, 360)))
    gaps = np.diff(np.append(angles, angles[0] + 360))
    widest = int(np.argmax(gaps))  # the country lies on the other side of the widest gap
    return float((angles[widest] + gaps[widest] / 2 + 180) % 360)


def _turned(ring: NDArray[np.float64], middle: float) -> NDArray[np.float64]:
    """The ring with longitudes within half a turn of the middle, its points kept together."""
    longitude = np.mod(ring[:, 0] - middle + 180, 360) - 180
    jumps = np.abs(np.diff(longitude, append=longitude[:1])) > 180
    if jumps.any():  # it lies across the far side: all of it goes to the side of its first point
        longitude = np.unwrap(longitude, period=360)
    return np.stack([longitude, ring[:, 1]], axis=1)
