"""Procedural pictures: emblems of companies, buildings and faces, drawn from a few attributes.

An entity's picture is drawn once on a transparent canvas of 64 pixels. A view pastes it, slightly
rotated, scaled and stretched, on a calm grey gradient with little clutter, shrinks the whole to 32
pixels by averaging and changes brightness, colour and noise a little.
"""

from __future__ import annotations

import colorsys
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

CANVAS = 64  # pixels; a view is half as large
VIEW_SIZE = 32
SLOTS: dict[str, dict[str, int]] = {
    "company": {"shape": 6, "colour": 10, "symbol": 6, "symbol_colour": 10},
    "landmark": {"shape": 6, "colour": 8, "roof": 5, "windows": 3, "trim_colour": 6},
    "person": {"skin": 4, "hair_colour": 7, "hair": 5, "glasses": 2, "beard": 3, "shirt": 8},
}

Colour = tuple[int, int, int]
Point = tuple[float, float]

_HSV = (
    (0, 0.9, 0.85), (0.08, 0.95, 0.95), (0.15, 0.95, 0.95), (0.33, 0.85, 0.65), (0.5, 0.85, 0.8),
    (0.6, 0.9, 0.85), (0.75, 0.8, 0.7), (0.9, 0.7, 0.9), (0, 0, 0.95), (0, 0, 0.12),
)  # fmt: skip


def _rgb(hsv: tuple[float, float, float]) -> Colour:
    red, green, blue = (int(255 * channel) for channel in colorsys.hsv_to_rgb(*hsv))
    return red, green, blue


COLOURS: tuple[Colour, ...] = tuple(_rgb(hsv) for hsv in _HSV)
SKINS: tuple[Colour, ...] = ((250, 215, 180), (225, 175, 130), (165, 110, 70), (95, 60, 40))
HAIRS: tuple[Colour, ...] = (
    (20, 20, 20), (110, 60, 20), (235, 200, 80), (200, 60, 30), (170, 170, 170), (60, 90, 220),
    (60, 160, 60),
)  # fmt: skip


def draw_entity(type_name: str, attributes: dict[str, int]) -> Image.Image:
    """The entity itself: RGBA, 64 x 64, transparent around it.

    Args:
        type_name: "company", "landmark" or "person".
        attributes: class index of every slot of `SLOTS[type_name]`.
    """
    image = Image.new("RGBA", (CANVAS, CANVAS), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    if type_name == "company":
        _emblem(draw, **attributes)
    elif type_name == "landmark":
        _building(draw, **attributes)
    else:
        _face(draw, **attributes)
    return image


def render_view(entity: Image.Image, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One view of a drawn entity: RGB, (32, 32, 3).

    Everything varies a little: background, clutter, rotation (10 degrees), scale (.82-1), aspect
    (.93-1), position, brightness and colour (.85-1.15), noise (standard deviation up to 8 of 255).
    """
    scene = _background(rng)
    turned = entity.rotate(rng.uniform(-10, 10), resample=Image.Resampling.BILINEAR)
    height = int(CANVAS * rng.uniform(0.82, 1.0))
    width = int(height * rng.uniform(0.93, 1.0))
    turned = turned.resize((width, height), Image.Resampling.BILINEAR)
    left, top = rng.integers(0, CANVAS - width + 1), rng.integers(0, CANVAS - height + 1)
    scene.paste(turned, (int(left), int(top)), turned)
    small = scene.resize((VIEW_SIZE, VIEW_SIZE), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32) * rng.uniform(0.85, 1.15)  # brightness
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    pixels = grey[..., None] + (pixels - grey[..., None]) * rng.uniform(0.85, 1.15)  # colour
    pixels = pixels + rng.standard_normal(pixels.shape, dtype=np.float32) * rng.uniform(0, 8)
    view: NDArray[np.uint8] = np.clip(pixels, 0, 255).astype(np.uint8)
    return view


def _background(rng: np.random.Generator) -> Image.Image:
    start = rng.integers(90, 210) + rng.integers(-35, 36, size=3)
    end = start + rng.integers(-40, 41, size=3)
    ramp = np.linspace(0, 1, CANVAS)[:, None]
    line = np.clip(start * (1 - ramp) + end * ramp, 0, 255).astype(np.uint8)  # (64, 3)
    columns = np.broadcast_to(line[:, None], (CANVAS, CANVAS, 3))
    if rng.random() < 0.5:
        columns = columns.transpose(1, 0, 2)
    scene = Image.fromarray(np.ascontiguousarray(columns))
    draw = ImageDraw.Draw(scene)
    for _ in range(rng.integers(0, 3)):
        x, y = (int(value) for value in rng.integers(0, CANVAS, size=2))
        radius = int(rng.integers(CANVAS // 14, CANVAS // 8))
        red, green, blue = (int(value) for value in rng.integers(60, 220, size=3))
        shape = draw.ellipse if rng.random() < 0.5 else draw.rectangle
        shape([x - radius, y - radius, x + radius, y + radius], fill=(red, green, blue))
    return scene


def _emblem(
    draw: ImageDraw.ImageDraw, shape: int, colour: int, symbol: int, symbol_colour: int
) -> None:
    middle, radius = CANVAS / 2, CANVAS * 0.46
    low, high = middle - radius, middle + radius
    fill = COLOURS[colour]
    if shape == 0:
        draw.ellipse([low, low, high, high], fill=fill)
    elif shape == 5:  # a shield
        top, side = middle - radius * 0.9, middle + radius * 0.2
        left, right = middle - radius * 0.9, middle + radius * 0.9
        points = [(low, top), (high, top), (right, side), (middle, high), (left, side)]
        draw.polygon(points, fill=fill)
    else:
        corners = {1: 4, 2: 6, 3: 3, 4: 4}[shape]
        turn = {1: math.pi / 4, 2: 0.0, 3: -math.pi / 2, 4: 0.0}[shape]
        draw.polygon(_ring(middle, [radius * 1.05], corners, turn), fill=fill)
    _symbol(draw, symbol, COLOURS[symbol_colour], radius * 0.5)


def _symbol(draw: ImageDraw.ImageDraw, symbol: int, fill: Colour, r: float) -> None:
    c = CANVAS / 2
    if symbol == 0:
        draw.polygon(_ring(c, [r * 1.15, r * 1.15 * 0.45], 10, -math.pi / 2), fill=fill)  # star
    elif symbol == 1:
        draw.rectangle([c - r, c - r * 0.3, c + r, c + r * 0.3], fill=fill)  # cross
        draw.rectangle([c - r * 0.3, c - r, c + r * 0.3, c + r], fill=fill)
    elif symbol == 2:
        draw.ellipse([c - r, c - r, c + r, c + r], outline=fill, width=int(CANVAS * 0.09))
    elif symbol == 3:
        for row in (-1, 0, 1):
            y = c + row * r * 0.7
            draw.rectangle([c - r, y - r * 0.2, c + r, y + r * 0.2], fill=fill)
    elif symbol == 4:
        for x in (c - r * 0.6, c + r * 0.6):
            for y in (c - r * 0.6, c + r * 0.6):
                draw.ellipse([x - r * 0.35, y - r * 0.35, x + r * 0.35, y + r * 0.35], fill=fill)
    else:
        arrow = [(c - r, c + r * 0.6), (c, c - r * 0.8), (c + r, c + r * 0.6), (c, c + r * 0.1)]
        draw.polygon(arrow, fill=fill)


def _building(
    draw: ImageDraw.ImageDraw, shape: int, colour: int, roof: int, windows: int, trim_colour: int
) -> None:
    wall = COLOURS[colour]
    trim = COLOURS[(colour + 1 + trim_colour) % len(COLOURS)]  # never the wall's own colour
    half = (0.22, 0.3, 0.38, 0.44, 0.34, 0.26)[shape] * CANVAS
    height = (0.9, 0.7, 0.55, 0.45, 0.8, 0.6)[shape] * CANVAS
    left, right, ground = CANVAS / 2 - half, CANVAS / 2 + half, CANVAS * 0.97
    eaves = ground - height * 0.72
    draw.rectangle([left, eaves, right, ground], fill=wall)
    _roof(draw, roof, trim, (left, eaves, right), height * 0.28)
    _windows(draw, windows, trim, (left, eaves, right, ground))
    if shape >= 4:  # a broad base
        edge = CANVAS * 0.1
        draw.rectangle([left - edge, ground - height * 0.35, right + edge, ground], fill=wall)


def _roof(
    draw: ImageDraw.ImageDraw,
    roof: int,
    fill: Colour,
    line: tuple[float, float, float],
    rise: float,
) -> None:
    left, eaves, right = line
    middle, width = (left + right) / 2, right - left
    if roof == 0:
        draw.polygon([(left, eaves), (middle, eaves - rise), (right, eaves)], fill=fill)
    elif roof == 1:
        draw.pieslice([left, eaves - rise, right, eaves + rise], 180, 360, fill=fill)
    elif roof == 2:
        draw.rectangle([left, eaves - rise * 0.5, right, eaves], fill=fill)
    elif roof == 3:
        for index in range(3):
            start, step = left + index * width / 3, width / 3
            peak = (start + step / 2, eaves - rise)
            draw.polygon([(start, eaves), peak, (start + step, eaves)], fill=fill)
    else:
        draw.rectangle([middle - width / 8, eaves - rise, middle + width / 8, eaves], fill=fill)


def _windows(
    draw: ImageDraw.ImageDraw,
    windows: int,
    fill: Colour,
    wall: tuple[float, float, float, float],
) -> None:
    left, top, right, bottom = wall
    unit = CANVAS
    if windows == 0:
        for column in range(3):
            for row in range(3):
                x = left + (column + 0.5) * (right - left) / 3
                y = top + (row + 0.5) * (bottom - top) / 3
                box = [x - unit * 0.03, y - unit * 0.04, x + unit * 0.03, y + unit * 0.04]
                draw.rectangle(box, fill=fill)
    elif windows == 1:
        for column in range(4):
            x = left + (column + 0.5) * (right - left) / 4
            box = [x - unit * 0.02, top + unit * 0.04, x + unit * 0.02, bottom]
            draw.rectangle(box, fill=fill)
    else:
        middle = (left + right) / 2
        box = [middle - unit * 0.12, top + unit * 0.06, middle + unit * 0.12, top + unit * 0.30]
        draw.ellipse(box, fill=fill)


def _face(
    draw: ImageDraw.ImageDraw,
    skin: int,
    hair_colour: int,
    hair: int,
    glasses: int,
    beard: int,
    shirt: int,
) -> None:
    fill = HAIRS[hair_colour]
    draw.rectangle(_box(0.15, 0.8, 0.85, 1), fill=COLOURS[shirt])
    draw.ellipse(_box(0.15, 0.7, 0.85, 1.2), fill=COLOURS[shirt])
    if hair in (1, 4):  # long
        draw.rectangle(_box(0.2, 0.3, 0.8, 0.8), fill=fill)
    if hair != 2:
        draw.ellipse(_box(0.2, 0.04, 0.8, 0.6), fill=fill)
    draw.ellipse(_box(0.26, 0.15, 0.74, 0.85), fill=SKINS[skin])
    _fringe(draw, hair, fill)
    for x in (0.4, 0.6):
        draw.ellipse(_box(x - 0.035, 0.43, x + 0.035, 0.5), fill=(20, 20, 30))
        if glasses:
            draw.ellipse(_box(x - 0.09, 0.38, x + 0.09, 0.55), outline=(10, 10, 10), width=2)
    if beard == 1:
        draw.pieslice(_box(0.28, 0.4, 0.72, 0.86), 20, 160, fill=fill)
    elif beard == 2:
        draw.rectangle(_box(0.38, 0.6, 0.62, 0.66), fill=fill)
    draw.line(_box(0.43, 0.7, 0.57, 0.7), fill=(150, 40, 40), width=2)


def _fringe(draw: ImageDraw.ImageDraw, hair: int, fill: Colour) -> None:
    if hair == 0:
        draw.pieslice(_box(0.24, 0.1, 0.76, 0.55), 180, 360, fill=fill)
    elif hair == 2:  # a hat
        draw.rectangle(_box(0.2, 0.17, 0.8, 0.27), fill=fill)
        draw.rectangle(_box(0.3, 0.02, 0.7, 0.2), fill=fill)
    elif hair == 3:  # spikes
        spikes = [(0.2, 0.3), (0.3, 0), (0.4, 0.15), (0.5, 0), (0.6, 0.15), (0.7, 0), (0.8, 0.3)]
        draw.polygon([(CANVAS * x, CANVAS * y) for x, y in spikes], fill=fill)
    elif hair == 4:
        draw.pieslice(_box(0.26, 0.12, 0.74, 0.5), 180, 270, fill=fill)


def _box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [CANVAS * left, CANVAS * top, CANVAS * right, CANVAS * bottom]


def _ring(centre: float, radii: Sequence[float], points: int, turn: float) -> list[Point]:
    """Points on a circle around the middle of the canvas; several radii alternate (a star)."""
    ring = []
    for index in range(points):
        angle = 2 * math.pi * index / points + turn
        radius = radii[index % len(radii)]
        ring.append((centre + radius * math.cos(angle), centre + radius * math.sin(angle)))
    return ring
