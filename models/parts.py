"""Parts of a batch of edits, for passes over fewer rows than are served together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from models.rows import EditBatch


def of_rows(batch: EditBatch, rows: Tensor) -> EditBatch:
    """A batch without its other rows; no edit is left out, and nothing asked besides is kept.

    Args:
        batch: the edits.
        rows: (n,) those that stay, ascending.
    """
    place = torch.full((len(batch.rows),), -1, device=rows.device)
    place[rows] = torch.arange(len(rows), device=rows.device)
    probes = {name: place[of][place[of] >= 0] for name, of in batch.probes.items()}
    return EditBatch(
        batch.rows.select(rows),
        place[batch.edit_rows][place[batch.edit_rows] >= 0],
        {name: of for name, of in probes.items() if len(of)},
        batch.edit_ids,
        batch.subjects,
    )


def select_edits(batch: EditBatch, edits: Sequence[int]) -> EditBatch:
    """A batch of some of the edits, as long as its own rows need.

    Args:
        batch: all of them.
        edits: their numbers, ascending.
    """
    place = torch.full((len(batch),), -1, device=batch.edit_rows.device)
    place[list(edits)] = torch.arange(len(edits), device=place.device)
    part = of_rows(batch, (place[batch.rows.edit_index] >= 0).nonzero().squeeze(1))
    rows = replace(part.rows, edit_index=place[part.rows.edit_index]).trimmed()
    ids = tuple(batch.edit_ids[edit] for edit in edits)
    subjects = tuple(batch.subjects[edit] for edit in edits)
    return replace(part, rows=rows, edit_ids=ids, subjects=subjects)


def split_edits(batch: EditBatch, size: int) -> list[EditBatch]:
    """Batches of so many of the edits, in their order, each as long as its own rows need."""
    numbers = range(len(batch))
    return [select_edits(batch, numbers[start : start + size]) for start in numbers[::size]]
