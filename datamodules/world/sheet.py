"""A contact sheet: a few entities of a world with some of their views, for documentation."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, UnidentifiedImageError

from datamodules.world.world import Entity, World
from errors import DataError

CELL = 64  # pixels
LABEL = 150
MARGIN = 4
PAPER = (255, 255, 255)
INK = (30, 30, 30)


def draw_sheet(
    world: World, path: str | Path, *, entities_per_type: int = 4, views: int = 8
) -> Path:
    """Save a PNG with one row per entity: its name, seen views, then one unseen view in a frame.

    Args:
        world: what to show; entities without pictures are left out.
        path: file to write.
        entities_per_type: rows per type, the first by name.
        views: pictures per row, the unseen one included; fewer where an entity has fewer.

    Returns:
        `path`.

    Raises:
        DataError: no entity has a picture, or one cannot be read.
    """
    path = Path(path)
    rows = [
        entity
        for type_name in world.types
        for entity in [e for e in world.pictured if e.type == type_name][:entities_per_type]
    ]
    if not rows:
        raise DataError(f"{world.root}: no entity has a picture, so there is nothing to show.")
    step = CELL + MARGIN
    sheet = Image.new("RGB", (LABEL + views * step, len(rows) * step), PAPER)
    for index, entity in enumerate(rows):
        _draw_row(sheet, entity, index * step, views)
    sheet.save(path, optimize=True)
    return path


def _draw_row(sheet: Image.Image, entity: Entity, top: int, views: int) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, top + CELL // 2 - 6), entity.name, fill=INK)
    shown = [*entity.seen[: views - 1], entity.unseen[0]]
    for column, picture in enumerate(shown):
        left = LABEL + column * (CELL + MARGIN)
        cell = _thumbnail(picture)
        sheet.paste(cell, (left + (CELL - cell.width) // 2, top + (CELL - cell.height) // 2))
    left = LABEL + (len(shown) - 1) * (CELL + MARGIN)
    draw.rectangle([left, top, left + CELL - 1, top + CELL - 1], outline=INK, width=2)


def _thumbnail(picture: Path) -> Image.Image:
    try:
        with Image.open(picture) as opened:
            rgba = opened.convert("RGBA")
    except (OSError, UnidentifiedImageError) as error:
        raise DataError(
            f"{picture}: the picture cannot be read ({error}). Replace the file."
        ) from None
    paper = Image.new("RGBA", rgba.size, (*PAPER, 255))
    flat = Image.alpha_composite(paper, rgba).convert("RGB")
    scale = CELL / max(flat.size)
    size = (max(1, round(flat.width * scale)), max(1, round(flat.height * scale)))
    return flat.resize(size, Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BOX)
