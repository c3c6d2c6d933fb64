"""What tells rows and pictures from all others, whatever batch they stand in."""

from __future__ import annotations

from caching.entries import digest, tensor_digest
from models.rows import TEXT_ONLY, Rows


def picture_keys(rows: Rows) -> tuple[bytes, ...]:
    """A hash of the pixels of each distinct picture; those that the rows bring along, or new ones.

    Raises:
        ValueError: the rows show no picture.
    """
    if rows.pixel_values is None:
        raise ValueError("rows without pictures have no keys of them")
    return rows.picture_keys or tuple(tensor_digest(pixels) for pixels in rows.pixel_values)


def row_keys(rows: Rows) -> list[bytes]:
    """What decides a row's answers: its tokens, which of them are answers or a picture's, pixels.

    Padding and the edit under which a row stands are no part of it.
    """
    pictures = () if rows.pixel_values is None else picture_keys(rows)
    real = rows.attention_mask.cpu()
    ids, answers, slots = (
        values.cpu() for values in (rows.input_ids, rows.answer_mask, rows.image_slots)
    )
    keys = []
    for number, picture in enumerate(rows.image_index.tolist()):
        tokens = real[number]
        parts = [values[number][tokens].numpy().tobytes() for values in (ids, answers, slots)]
        keys.append(digest(*parts, b"" if picture == TEXT_ONLY else pictures[picture]))
    return keys
