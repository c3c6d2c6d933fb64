"""Parts of a batch of edits, for passes over fewer rows than are served together."""

from __future__ import annotations

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


def split_edits(batch: EditBatch, size: int) -> list[EditBatch]:
    """Batches of so many of the edits, in their order, each as long as its own rows need."""
    parts = []
    for start in range(0, len(batch), size):
        edit, stop = batch.rows.edit_index, min(start + size, len(batch))
        part = of_rows(batch, ((edit >= start) & (edit < stop)).nonzero().squeeze(1))
        rows = replace(part.rows, edit_index=part.rows.edit_index - start).trimmed()
        ids, subjects = batch.edit_ids[start:stop], batch.subjects[start:stop]
        parts.append(replace(part, rows=rows, edit_ids=ids, subjects=subjects))
    return parts
